//! What a gang asks of the topology, resolved to the levels that are known here.

use super::Scheduler;
use super::pods::PodState;
use crate::cluster::DomainId;
use crate::framework::{Diagnosis, Reason};
use crate::model::TopologyAsk;
use crate::placement::{Failure, Slices, Wanted};
use crate::queue::GroupIndex;
use std::sync::Arc;

impl Scheduler {
    /// How a group is placed by the tree of domains; `None`: there is no tree, or a bare pod has
    /// nothing to be near to.
    pub(super) fn wanted(&self, index: GroupIndex) -> Result<Option<Wanted>, Failure> {
        let group = self.groups.get(index);
        let domains = self.cluster.domains();
        let is_many = group.members.len() > 1 && !domains.is_empty();
        if group.topology.is_none() && !is_many {
            return Ok(None);
        }
        let mut wanted = Wanted::default();
        if let Some(ask) = group.topology.as_deref() {
            wanted = self.resolved(ask).map_err(|message| {
                let main_reason = Some(Reason::NoDomain);
                let diagnosis = Arc::new(Diagnosis { message, rejected_by: 0, main_reason });
                Failure { placeable: 0, diagnosis }
            })?;
        }
        if group.counts.settled() > 0 {
            let members = group.members.iter().map(|member| self.pods.get(*member));
            let settled = members.filter(|pod| {
                matches!(pod.state, PodState::Nominated | PodState::Assumed(_) | PodState::Bound)
            });
            wanted.settled = settled.filter_map(|pod| pod.node).collect();
        }
        Ok(Some(wanted))
    }

    fn resolved(&self, ask: &TopologyAsk) -> Result<Wanted, String> {
        let domains = self.cluster.domains();
        let depth = |level: &str| {
            domains.depth_of(level).ok_or_else(|| {
                format!("{level:?} is none of the topology levels of this scheduler.")
            })
        };
        let required = ask.required.as_deref().map(depth).transpose()?;
        let preferred = ask.preferred.as_deref().map(depth).transpose()?;
        let slices = ask.slices.as_ref().map(|slices| {
            let depth = depth(&slices.level)?;
            Ok::<_, String>(Slices { size: slices.size, depth, apart: slices.apart })
        });
        let slices = slices.transpose()?;
        if let (Some(required), Some(slices)) = (required, slices)
            && required > slices.depth
        {
            let (one, other) = (domains.level(required), domains.level(slices.depth));
            return Err(format!("level {one}, which is required, is smaller than {other}."));
        }
        Ok(Wanted { required, preferred, slices, settled: Vec::new() })
    }

    /// Domains of which one must hold all members of a group that are seated at once; `None`: they
    /// may go anywhere. The smaller ones are first tried, and none where more is asked than this.
    pub(super) fn seat_domains(&self, index: GroupIndex) -> Option<Vec<DomainId>> {
        let ask = self.groups.get(index).topology.as_deref()?;
        let none = || Some(Vec::new());
        let Ok(Some(wanted)) = self.wanted(index) else { return none() };
        if wanted.slices.is_some() {
            return none();
        }
        ask.required.as_ref()?;
        let domains = self.cluster.domains();
        let depth = wanted.required?;
        let mut found: Vec<DomainId> = match wanted.settled.first() {
            Some(node) => domains.above(*node, depth).into_iter().collect(),
            None => domains.at_depth(depth).collect(),
        };
        let size = |domain: &DomainId| domains.nodes_in(*domain).count();
        found.sort_by_cached_key(|domain| (size(domain), domains.get(*domain).tie));
        Some(found)
    }
}
