//! What a gang asks of the topology, resolved to the levels that are known here.

use super::Scheduler;
use super::pods::{PodEntry, PodState};
use crate::cluster::{DomainId, PodIndex};
use crate::framework::{Diagnosis, Reason};
use crate::model::duration;
use crate::model::{Level, Timestamp, TopologyAsk};
use crate::placement::{Failure, Part, Slices, Wanted, settled_domain};
use crate::queue::{GroupIndex, TaskGroup};
use std::sync::Arc;
use std::time::Duration;

impl Scheduler {
    /// Takes in the levels of the tree, and has all who wait tried again if they are others than
    /// before. O(nodes x levels).
    pub(super) fn levels_found(&mut self, levels: Vec<Level>) {
        if self.cluster.set_levels(levels) {
            self.improved.extend(self.cluster.live_nodes().map(|(node, _)| node));
        }
    }

    /// How a group is placed by the tree of domains; `None`: there is no tree, or a bare pod has
    /// nothing to be near to.
    pub(super) fn wanted(&self, index: GroupIndex) -> Result<Option<Wanted>, Failure> {
        let group = self.groups.get(index);
        let is_many = group.members.len() > 1 && !self.cluster.domains().is_empty();
        if !group.asks_topology() && !is_many {
            return Ok(None);
        }
        self.resolved(index).map(Some).map_err(|message| {
            let main_reason = Some(Reason::NoDomain);
            let diagnosis = Arc::new(Diagnosis { message, rejected_by: 0, main_reason });
            Failure { placeable: 0, diagnosis }
        })
    }

    fn resolved(&self, index: GroupIndex) -> Result<Wanted, String> {
        let group = self.groups.get(index);
        let insists = self.gives_in_at(index).is_some();
        let ask = |ask: Option<&TopologyAsk>| match ask {
            Some(ask) => self.resolved_ask(ask, insists),
            None => Ok(Wanted::default()),
        };
        let mut wanted = ask(group.topology.as_deref())?;
        let of_tasks = group.tasks.iter().filter(|task| task.topology.is_some());
        for task in of_tasks {
            let mut part = ask(task.topology.as_deref())?;
            let members = self.members_of(index, Some(task));
            part.settled = settled(members.clone()).filter_map(|(_, pod)| pod.node).collect();
            let waiting = members.filter(|(_, pod)| pod.state == PodState::Waiting);
            let mut pods: Vec<_> = waiting.map(|(at, _)| at).collect();
            pods.sort_unstable();
            wanted.parts.push(Part { name: task.name.clone(), wanted: part, pods });
        }
        if group.counts.settled() > 0 {
            let settled = settled(self.members_of(index, None));
            wanted.settled = settled.filter_map(|(_, pod)| pod.node).collect();
        }
        Ok(wanted)
    }

    /// Members of a group, or of one of its parts.
    fn members_of<'a>(
        &'a self,
        index: GroupIndex,
        task: Option<&'a TaskGroup>,
    ) -> impl Iterator<Item = (PodIndex, &'a PodEntry)> + Clone {
        let members = self.groups.get(index).members.iter().copied();
        members.map(|at| (at, self.pods.get(at))).filter(move |(_, pod)| {
            let named = || pod.task.as_ref().map(|said| &*said.name);
            task.is_none_or(|task| named() == Some(&*task.name))
        })
    }

    /// `insists`: what is preferred is required.
    fn resolved_ask(&self, ask: &TopologyAsk, insists: bool) -> Result<Wanted, String> {
        let domains = self.cluster.domains();
        let depth = |level: &str| {
            domains.depth_of(level).ok_or_else(|| {
                format!("{level:?} is none of the topology levels of this scheduler.")
            })
        };
        let required = ask.required.as_deref().map(depth).transpose()?;
        let preferred = ask.preferred.as_deref().map(depth).transpose()?;
        let slices = ask.slices.iter().map(|slices| {
            let depth = depth(&slices.level)?;
            Ok::<_, String>(Slices { size: slices.size, depth, apart: slices.apart })
        });
        let slices = slices.collect::<Result<Vec<_>, _>>()?;
        let outermost = slices.first().map(|slices| slices.depth);
        let required = match preferred {
            // what is smaller than a slice cannot hold all slices
            Some(preferred) if insists && outermost.is_none_or(|depth| preferred <= depth) => {
                required.max(Some(preferred))
            }
            _ => required,
        };
        let depths = required.into_iter().chain(slices.iter().map(|slices| slices.depth));
        let depths: Vec<u8> = depths.collect();
        if let Some(pair) = depths.windows(2).find(|pair| pair[0] > pair[1]) {
            let (one, other) = (domains.level(pair[0]), domains.level(pair[1]));
            let whose = if required == Some(pair[0]) {
                "which is required"
            } else {
                "of the larger slices"
            };
            return Err(format!("level {one}, {whose}, is smaller than {other}."));
        }
        Ok(Wanted { required, preferred, slices, ..Wanted::default() })
    }

    /// Until when what a gang prefers is required; `None`: it is not, or no more.
    fn gives_in_at(&self, index: GroupIndex) -> Option<Timestamp> {
        let group = self.groups.get(index);
        let wait_ms = group.topology.as_ref()?.wait_ms;
        if wait_ms == 0 || group.counts.settled() > 0 {
            return None;
        }
        let left_ms = group.created.0.saturating_add(wait_ms).saturating_sub(self.wall().0);
        (left_ms > 0).then(|| self.now.plus_ms(left_ms))
    }

    /// Has a group that waits for what it prefers tried again when it does no more.
    pub(super) fn wake_to_give_in(&mut self, index: GroupIndex) {
        if let Some(at) = self.gives_in_at(index) {
            let group = self.groups.get_mut(index);
            self.queue.wake_at(index, group, at);
        }
    }

    /// What is said of a group that waits for what it prefers.
    pub(super) fn insists(&self, index: GroupIndex) -> Option<String> {
        self.gives_in_at(index)?;
        let wait_ms = self.groups.get(index).topology.as_ref()?.wait_ms;
        let time = duration::format(Duration::from_millis(wait_ms.unsigned_abs()));
        Some(format!(" What it prefers it requires for {time}."))
    }

    /// Domains of which one must hold all members of a group that are seated at once; `None`: they
    /// may go anywhere. The smaller ones are first tried. What more is asked stands beside it.
    pub(super) fn seat_domains(
        &self,
        index: GroupIndex,
    ) -> (Option<Vec<DomainId>>, Option<Wanted>) {
        let none = || (Some(Vec::new()), None);
        let group = self.groups.get(index);
        if !group.asks_topology() {
            return (None, None);
        }
        let Ok(Some(wanted)) = self.wanted(index) else { return none() };
        let domains = self.cluster.domains();
        let within_nodes = wanted.required.is_some_and(|depth| depth >= domains.host_depth());
        let is_cut =
            within_nodes || !wanted.slices.is_empty() || wanted.parts.iter().any(Part::is_bound);
        if self.gives_in_at(index).is_some() {
            return none();
        }
        let cut = |wanted| is_cut.then_some(wanted);
        let Some(depth) = wanted.required.filter(|_| !within_nodes) else {
            return (None, cut(wanted));
        };
        let mut found: Vec<DomainId> = match wanted.settled.is_empty() {
            false => settled_domain(domains, &wanted.settled, depth).into_iter().collect(),
            true => domains.at_depth(depth).collect(),
        };
        let size = |domain: &DomainId| domains.nodes_in(*domain).count();
        found.sort_by_cached_key(|domain| (size(domain), domains.get(*domain).tie));
        (Some(found), cut(wanted))
    }
}

/// Those of the members that have a node, or a seat, and keep it.
fn settled<'a>(
    members: impl Iterator<Item = (PodIndex, &'a PodEntry)>,
) -> impl Iterator<Item = (PodIndex, &'a PodEntry)> {
    members.filter(|(_, pod)| match pod.state {
        PodState::Nominated | PodState::Assumed(_) => true,
        PodState::Bound => !(pod.deleting || pod.victim_of.is_some() && pod.chosen),
        _ => false,
    })
}
