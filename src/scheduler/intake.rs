//! Takes in what the watches show. Level, not edge: what an object says now is what counts (I9).

use super::pods::{PodEntry, PodState};
use super::{Kind, NodeNews, Scheduler};
use crate::cluster::{ClassId, NodeApplied, NodeIndex, Offer, PodIndex};
use crate::model::fault::{Fault, is_made};
use crate::model::pod::digest;
use crate::model::{ContractError, DeviceSet, Node, Phase, Pod, Timestamp, Uid};
use crate::queue::GroupName;
use smallvec::SmallVec;
use std::sync::Arc;

impl Scheduler {
    pub(super) fn list_started(&mut self, kind: Kind) {
        match kind {
            Kind::Pod => self.pods.list += 1,
            Kind::Node => self.nodes_listed.clear(),
            Kind::Namespace => self.namespaces_listed.clear(),
            Kind::Queue => self.queues_listed.clear(),
            Kind::Budget => self.disruption.list_started(),
        }
    }

    pub(super) fn list_ended(&mut self, kind: Kind) {
        match kind {
            Kind::Pod => {
                let list = self.pods.list;
                let kept = is_made(Fault::ListForgetsNothing);
                let gone = self.pods.iter().filter(|(_, pod)| pod.listed != list && !kept);
                let gone: Vec<Uid> = gone.map(|(_, pod)| pod.uid).collect();
                gone.into_iter().for_each(|uid| self.pod_deleted(uid));
                self.synced.pods = true;
            }
            Kind::Node => {
                let listed = std::mem::take(&mut self.nodes_listed);
                let names = self.cluster.live_nodes().map(|(_, entry)| &entry.name);
                let gone: Vec<Arc<str>> =
                    names.filter(|name| !listed.contains(&***name)).cloned().collect();
                gone.iter().for_each(|name| self.node_deleted(name));
                self.synced.nodes = true;
            }
            Kind::Namespace => {
                let listed = std::mem::take(&mut self.namespaces_listed);
                let gone: Vec<Box<str>> =
                    self.terminating.iter().filter(|n| !listed.contains(*n)).cloned().collect();
                gone.into_iter().for_each(|name| self.namespace_applied(name, false));
                self.synced.namespaces = true;
            }
            Kind::Queue => {
                let listed = std::mem::take(&mut self.queues_listed);
                let known = self.queue_specs.len();
                self.queue_specs.retain(|name, _| listed.contains(name));
                self.refused_queues.retain(|name, _| listed.contains(name));
                self.tree_changed |= self.queue_specs.len() != known;
                self.synced.queues = true;
            }
            Kind::Budget => {
                self.budgets_listed();
                self.synced.budgets = true;
            }
        }
    }

    pub(super) fn node_applied(&mut self, node: Node) {
        self.nodes_listed.insert(node.name.clone());
        let name = node.name.clone();
        let refused = self.refused_anew(&node);
        let retyped = self.cluster.changes_offer(&node);
        match self.cluster.apply_node(node) {
            NodeApplied::Unchanged => return,
            NodeApplied::Changed if retyped => self.recharge_node(&name),
            NodeApplied::Changed => {}
            NodeApplied::NewResources => self.count_anew(),
        }
        self.capacity_changed = true;
        if let Some(index) = self.cluster.find_node(&name) {
            self.improved.insert(index);
            self.reread_devices(index);
            self.tell_holders(index);
            for (news, why) in refused {
                self.tell_node(index, news, &why);
            }
        }
    }

    /// Counts all requests again, as resources became known.
    pub(super) fn count_anew(&mut self) {
        let placed = self.pods.iter().filter_map(|(_, pod)| Some((pod.class, pod.node?)));
        let seats: Vec<_> = self.drained_seats().collect();
        self.cluster.recount(placed.chain(seats));
        self.recount_queues();
    }

    /// What a node says of itself and is not believed, unless that was told before.
    fn refused_anew(&self, node: &Node) -> SmallVec<[(NodeNews, Box<str>); 1]> {
        let known = self.cluster.find_node(&node.name);
        let known = known.and_then(|index| self.cluster.node(index).node.as_ref());
        let told = known.map(refused).unwrap_or_default();
        let words = [NodeNews::GpuTopologyRefused, NodeNews::SlotsRefused];
        let words = words.into_iter().zip(refused(node).into_iter().zip(told));
        let anew = words.filter(|(_, (why, told))| why != told);
        anew.filter_map(|(news, (why, _))| Some((news, why?.into()))).collect()
    }

    /// Charges the pods on a node for what it offers now.
    fn recharge_node(&mut self, name: &str) {
        let node = self.cluster.find_node(name);
        let here = self.pods.iter().filter(|(_, pod)| pod.node.is_some() && pod.node == node);
        let here: Vec<PodIndex> = here.map(|(pod, _)| pod).collect();
        here.into_iter().for_each(|pod| self.recharge(pod));
    }

    pub(super) fn node_deleted(&mut self, name: &str) {
        self.nodes_listed.remove(name);
        if let Some(index) = self.cluster.delete_node(name) {
            self.forget_suspect(index, name);
            self.capacity_changed = true;
            self.improved.remove(&index);
        }
    }

    pub(super) fn namespace_applied(&mut self, name: Box<str>, terminating: bool) {
        self.namespaces_listed.insert(name.clone());
        let changed = if terminating {
            self.terminating.insert(name.clone())
        } else {
            self.terminating.remove(&name)
        };
        if changed {
            let inside = self.pods.iter().filter(|(_, pod)| *pod.namespace == *name);
            let groups: Vec<_> = inside.filter_map(|(_, pod)| pod.group).collect();
            groups.into_iter().for_each(|group| self.mark(group));
        }
    }

    pub(super) fn pod_applied(&mut self, now: Timestamp, pod: Pod) {
        match self.pods.find(pod.uid) {
            Some(index) => self.pod_modified(now, index, pod),
            None => self.pod_added(now, pod),
        }
    }

    fn pod_added(&mut self, now: Timestamp, mut pod: Pod) {
        self.note_inherited(&pod);
        let lost = is_made(Fault::BindForgotten) && pod.profile.is_some() && !pod.ended();
        let class = self.cluster.acquire_class(std::mem::take(&mut pod.class));
        let namespace = self.pods.shared(&pod.key.namespace);
        let user = pod.user.take().filter(|_| !is_made(Fault::UserOverlooked));
        let user = user.map_or_else(|| namespace.clone(), |user| self.pods.shared(&user));
        let index = self.pods.insert(PodEntry {
            uid: pod.uid,
            namespace,
            user,
            name: pod.key.name.clone(),
            class,
            state: PodState::Foreign,
            node: None,
            devices: DeviceSet::EMPTY,
            claims: Box::default(),
            group: None,
            slot: 0,
            min_member: 1,
            max_member: u32::MAX,
            labels: std::mem::take(&mut pod.labels),
            queue: 0,
            queue_seen: 0,
            charged: None,
            offer: Offer::default(),
            holds_since: pod.created,
            run_limit_ms: pod.run_limit_ms,
            promised_ms: None,
            ends_at: None,
            termination_ms: pod.termination_ms,
            victim_of: None,
            chosen: false,
            protected_until: Timestamp(i64::MIN),
            bound_seen: now,
            asked: None,
            started: pod.started,
            stuck: false,
            evicted_by: None,
            header: pod.header,
            task: None,
            topology: None,
            rank: u32::MAX,
            reclaim_rank: pod.reclaim_rank,
            checkpoint: pod.checkpoint,
            non_preemptible: pod.non_preemptible,
            never_preempts: pod.never_preempts,
            priority: pod.priority,
            created: pod.created,
            finished: pod.finished_at,
            bound_at: pod.bound_at,
            controller: pod.controller.map_or(0, fold),
            told: pod.told,
            deleting: pod.deleting,
            listed: self.pods.list,
        });
        self.take_claims_of(index, &mut pod);
        if let Some(node) = pod.node.as_deref().filter(|_| !pod.ended() && !lost) {
            self.move_room(index, Some(node));
            self.read_devices(index, &pod);
        }
        if pod.profile.is_some() && pod.node.is_none() && !pod.ended() {
            self.cluster.arrived(class);
        }
        let state = if lost { PodState::Waiting } else { state_of(&pod, None) };
        self.set_state(index, state);
        self.join_group(now, index, &pod);
        self.note_leaving(index);
        self.recharge(index);
        self.tell_refusal(index, &pod);
    }

    fn pod_modified(&mut self, now: Timestamp, index: PodIndex, mut pod: Pod) {
        let list = self.pods.list;
        self.note_inherited(&pod);
        self.note_start(index, &pod);
        let entry = self.pods.get_mut(index);
        entry.listed = list;
        entry.told = pod.told;
        entry.bound_at = pod.bound_at.or(entry.bound_at);
        let finished = entry.finished != pod.finished_at;
        let leaving = entry.deleting != pod.deleting;
        if leaving {
            self.note_disrupted(index);
        }
        let entry = self.pods.get_mut(index);
        entry.finished = pod.finished_at;
        entry.deleting = pod.deleting;
        entry.termination_ms = pod.termination_ms;
        entry.labels = std::mem::take(&mut pod.labels);
        entry.checkpoint = pod.checkpoint;
        let reranked = std::mem::replace(&mut entry.reclaim_rank, pod.reclaim_rank);
        let reranked = reranked != pod.reclaim_rank;
        if pod.phase == Phase::Succeeded {
            entry.evicted_by = None;
        }
        let (old_class, old_state, group) = (entry.class, entry.state, entry.group);
        let class = std::mem::take(&mut pod.class);
        if *self.cluster.class(old_class).spec != class {
            self.change_class(index, class);
        }
        self.take_claims_of(index, &mut pod);
        if self.pods.get(index).run_limit_ms != pod.run_limit_ms {
            self.discharge(index);
            self.pods.get_mut(index).run_limit_ms = pod.run_limit_ms;
        }
        if self.pods.get(index).non_preemptible != pod.non_preemptible {
            self.discharge(index);
            self.pods.get_mut(index).non_preemptible = pod.non_preemptible;
            group.into_iter().for_each(|group| self.mark(group));
        }
        match pod.node.as_deref() {
            _ if pod.ended() => self.move_room(index, None),
            Some(node) => {
                self.move_room(index, Some(node));
                self.read_devices(index, &pod);
            }
            // a node name is never taken back: this event is older than the bind
            None => {}
        }
        let state = state_of(&pod, Some(old_state));
        if old_state == PodState::Nominated && state == PodState::Leaving {
            self.move_room(index, None);
        }
        self.set_state(index, state);
        self.join_group(now, index, &pod);
        self.note_leaving(index);
        self.recharge(index);
        self.tell_refusal(index, &pod);
        if let Some(group) = group.filter(|_| finished || leaving || reranked || state != old_state)
        {
            self.mark(group);
        }
    }

    fn change_class(&mut self, index: PodIndex, class: crate::model::PodClass) {
        self.discharge(index);
        let new = self.cluster.acquire_class(class);
        let entry = self.pods.get_mut(index);
        let old: ClassId = std::mem::replace(&mut entry.class, new);
        let (node, group) = (entry.node, entry.group);
        if let Some(node) = node {
            self.cluster.place(new, node);
            self.cluster.unplace(old, node);
            self.improved.insert(node);
        }
        self.cluster.release_class(old);
        self.recharge(index);
        if let Some(group) = group {
            self.mark(group);
        }
    }

    /// Makes the pod take room on a node, or none.
    pub(super) fn move_room(&mut self, index: PodIndex, node: Option<&str>) {
        let new = node.map(|name| self.cluster.intern_node(name));
        let entry = self.pods.get_mut(index);
        let class = entry.class;
        let old: Option<NodeIndex> = std::mem::replace(&mut entry.node, new);
        if old == new {
            return;
        }
        // it is awaited where it was sent to, and nowhere else
        entry.asked = None;
        entry.devices = DeviceSet::EMPTY;
        self.devices.moved(index, old, new);
        let entry = self.pods.get_mut(index);
        self.capacity_changed |= entry.group.is_none() && !is_made(Fault::StaleCapacity);
        if new.is_none() {
            self.cluster.departed();
            self.await_replacement(index);
        }
        if let Some(new) = new {
            self.cluster.place(class, new);
        }
        if let Some(old) = old {
            self.vacating.remove(old, index);
            self.let_go(index, old);
            self.cluster.unplace(class, old);
            self.improved.insert(old);
        }
        self.recharge(index);
        if new.is_none() {
            self.leaving.remove(&index);
            self.victim_gone(index);
        }
    }

    /// Keeps the pods that are on their way out known: their room is coming free.
    fn note_leaving(&mut self, index: PodIndex) {
        let pod = self.pods.get(index);
        if pod.deleting && pod.node.is_some() {
            self.leaving.insert(index);
        } else {
            self.leaving.remove(&index);
        }
    }

    pub(super) fn set_state(&mut self, index: PodIndex, state: PodState) {
        let now = self.now;
        let entry = self.pods.get_mut(index);
        if state == PodState::Bound && entry.state != state {
            entry.bound_seen = now;
        }
        if std::mem::replace(&mut entry.state, state) != state
            && let Some(group) = entry.group
        {
            self.mark(group);
        }
    }

    /// Has a group looked at before the next decision.
    pub(super) fn mark(&mut self, group: crate::queue::GroupIndex) {
        let entry = self.groups.get_mut(group);
        if !std::mem::replace(&mut entry.dirty, true) {
            self.dirty.push(group);
        }
    }

    pub(super) fn pod_deleted(&mut self, uid: Uid) {
        let Some(index) = self.pods.find(uid) else { return };
        if !self.pods.get(index).deleting {
            self.note_disrupted(index);
        }
        self.move_room(index, None);
        self.victim_gone(index);
        self.seat_gone(index);
        self.leave_group(index);
        self.forget_notice(uid);
        self.take_claims(index, Vec::new());
        let entry = self.pods.remove(index);
        self.cluster.release_class(entry.class);
    }

    fn join_group(&mut self, now: Timestamp, index: PodIndex, pod: &Pod) {
        let state = self.pods.get(index).state;
        let joins = !matches!(state, PodState::Foreign | PodState::Refused);
        // a bound pod whose annotations are refused is a bare pod: it holds up nobody
        let spec = pod.group.as_ref().and_then(|group| group.as_ref().ok());
        if !joins {
            self.leave_group(index);
            return;
        }
        let entry = self.pods.get(index);
        let name = spec.map(|spec| GroupName {
            namespace: entry.namespace.clone(),
            user: entry.user.clone(),
            name: spec.name.clone(),
        });
        let current = self.pods.get(index).group;
        let same = current.is_some_and(|group| self.groups.get(group).name == name);
        let min_member = spec.map_or(1, |spec| spec.min_member);
        let entry = self.pods.get_mut(index);
        let max_member = spec.and_then(|spec| spec.max_member).unwrap_or(u32::MAX);
        let altered = entry.min_member != min_member
            || entry.max_member != max_member
            || entry.priority != pod.priority
            || entry.task != pod.task
            || entry.topology != pod.topology
            || entry.rank != pod.rank.unwrap_or(u32::MAX);
        entry.min_member = min_member;
        entry.max_member = max_member;
        entry.priority = pod.priority;
        entry.task.clone_from(&pod.task);
        entry.topology.clone_from(&pod.topology);
        entry.rank = pod.rank.unwrap_or(u32::MAX);
        let profile = pod.profile.unwrap_or(0);
        if let Some(group) = current.filter(|_| same) {
            if altered {
                self.mark(group);
            }
            self.take_queue_edit(index, pod);
            return;
        }
        self.leave_group(index);
        let group = self.groups.intern(name, now);
        let members = &mut self.groups.get_mut(group).members;
        let slot = u32::try_from(members.len()).expect("fewer members than pods");
        members.push(index);
        let entry = self.pods.get_mut(index);
        (entry.group, entry.slot) = (Some(group), slot);
        entry.queue = pod.queue.as_deref().map_or(0, digest);
        entry.queue_seen = entry.queue;
        let entry = self.groups.get_mut(group);
        entry.profile = profile;
        if entry.leaf.is_none() && entry.queue_fault.is_none() {
            entry.wanted_queue.clone_from(&pod.queue);
            self.enter_queue(group);
        }
        self.mark(group);
    }

    pub(super) fn leave_group(&mut self, index: PodIndex) {
        self.discharge(index);
        let entry = self.pods.get_mut(index);
        let slot = entry.slot as usize;
        let Some(group) = entry.group.take() else { return };
        let members = &mut self.groups.get_mut(group).members;
        members.swap_remove(slot);
        if let Some(moved) = members.get(slot).copied() {
            self.pods.get_mut(moved).slot = u32::try_from(slot).expect("it was a u32");
        }
        self.mark(group);
    }

    fn tell_refusal(&mut self, index: PodIndex, pod: &Pod) {
        if let (PodState::Refused, Some(Err(error))) = (self.pods.get(index).state, &pod.group) {
            match error {
                ContractError::ClaimAwaited(what) => self.tell_claim_awaited(index, what),
                error => self.tell_refused(index, error),
            }
        }
    }
}

/// What the object says a pod is, given what it was.
fn state_of(pod: &Pod, old: Option<PodState>) -> PodState {
    let refused = |group: &Option<Result<_, ContractError>>| matches!(group, Some(Err(_)));
    match (pod.phase, pod.profile) {
        (_, None) => PodState::Foreign,
        (Phase::Succeeded, _) => PodState::Succeeded,
        (Phase::Failed, _) => PodState::Failed,
        (Phase::Live, Some(_)) => match old {
            Some(PodState::Bound) => PodState::Bound,
            Some(rolling @ PodState::RollingBack(_)) => rolling,
            _ if pod.node.is_some() => PodState::Bound,
            Some(assumed @ PodState::Assumed(_)) => assumed,
            _ if pod.deleting && !is_made(Fault::DeletionOverlooked) => PodState::Leaving,
            Some(PodState::Nominated) => PodState::Nominated,
            _ if refused(&pod.group) => PodState::Refused,
            _ if pod.gated => PodState::Gated,
            _ => PodState::Waiting,
        },
    }
}

/// A uid folded to 64 bits, never 0.
fn fold(uid: Uid) -> u64 {
    #[allow(clippy::cast_possible_truncation)] // folding is the point
    let folded = (uid.0 ^ (uid.0 >> 64)) as u64;
    folded.max(1)
}

/// Why what a node says of its GPUs, and of its slots, is not believed.
fn refused(node: &Node) -> [Option<&str>; 2] {
    [node.gpus_refused.as_deref(), node.slots_refused.as_deref()]
}
