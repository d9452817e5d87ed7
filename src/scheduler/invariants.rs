//! Recomputes from nothing what is kept incrementally, and compares.

use super::Scheduler;
use super::pods::PodState;
use crate::cluster::ResourceId;
use crate::fairshare::{QueueIndex, accounts};
use crate::queue::Home;
use rustc_hash::FxHashMap;

impl Scheduler {
    /// Checks I2, I3, I4, I5, D1, N1 and N2 against a recomputation. O(pods + nodes x resources).
    ///
    /// # Panics
    /// If one does not hold, naming it.
    pub fn check_invariants(&self) {
        self.check_room();
        self.check_states();
        self.check_members();
        self.check_ledger();
        self.check_vacating();
        self.check_quarantine();
        self.check_run_limits();
        self.check_devices();
        self.check_claims();
        self.queue.check(&self.groups);
    }

    /// N1: nodes are closed to new pods as long as they are in quarantine.
    fn check_quarantine(&self) {
        let nodes = self.cluster.live_nodes();
        let closed = nodes.filter(|(_, entry)| entry.quarantined).map(|(node, _)| node);
        assert!(closed.eq(self.quarantined()), "N1: a node is closed to pods for no reason");
    }

    /// I5: what queues are charged is the sum over their pods.
    fn check_ledger(&self) {
        let mut charged: FxHashMap<(QueueIndex, ResourceId), i64> = FxHashMap::default();
        for (_, pod) in self.pods.iter() {
            let group = pod.group.filter(|_| pod.node.is_some());
            let leaf = group.and_then(|group| self.groups.get(group).leaf);
            assert_eq!(pod.charged, leaf, "I5: a pod is charged elsewhere");
            let offer = pod.node.filter(|_| leaf.is_some()).map(|node| self.cluster.offer(node));
            let same = offer.is_none_or(|offer| offer == pod.offer);
            assert!(same, "I5: a pod is charged for what its node does not offer");
            for queue in leaf.into_iter().flat_map(|leaf| self.fair.path(leaf)) {
                for (resource, amount) in self.cluster.charges(pod.class, pod.offer).iter() {
                    *charged.entry((queue, *resource)).or_default() += amount;
                }
            }
        }
        let groups = self.groups.iter();
        let pending = groups.filter_map(|(_, group)| Some((group.leaf?, &group.pending)));
        let mut asked = charged.clone();
        for (leaf, amounts) in pending.chain(self.awaited.amounts()) {
            for queue in self.fair.path(leaf) {
                for (resource, amount) in amounts {
                    *asked.entry((queue, *resource)).or_default() += amount;
                }
            }
        }
        for queue in self.fair.shape() {
            for resource in self.cluster.resources().iter() {
                let sum = charged.get(&(queue, resource)).copied().unwrap_or(0);
                let allocated = self.fair.allocated(queue, resource);
                let accounted = accounts(self.cluster.resources().name(resource));
                assert!(!accounted || allocated == sum, "I5: a queue's allocation");
                let sum = asked.get(&(queue, resource)).copied().unwrap_or(0);
                let demand = self.fair.demand(queue, resource);
                assert!(!accounted || demand == sum, "I5: a queue's demand");
            }
        }
    }

    /// I5: what nodes are charged is the sum over their pods.
    fn check_room(&self) {
        let mut charged: FxHashMap<(u32, usize), i64> = FxHashMap::default();
        let mut pods: FxHashMap<u32, u32> = FxHashMap::default();
        for (_, pod) in self.pods.iter() {
            let Some(node) = pod.node else { continue };
            *pods.entry(node.0).or_default() += 1;
            for (resource, amount) in &self.cluster.class(pod.class).requests {
                *charged.entry((node.0, resource.index())).or_default() += amount;
            }
        }
        for (class, node) in self.drained_seats() {
            *pods.entry(node.0).or_default() += 1;
            for (resource, amount) in &self.cluster.class(class).requests {
                *charged.entry((node.0, resource.index())).or_default() += amount;
            }
        }
        for slot in 0..self.cluster.node_slots() {
            let node = crate::cluster::NodeIndex::at(slot);
            let counted = pods.get(&node.0).copied().unwrap_or(0);
            assert_eq!(self.cluster.node(node).pods, counted, "I5: pods of a node");
            for resource in self.cluster.resources().iter() {
                let sum = charged.get(&(node.0, resource.index())).copied().unwrap_or(0);
                assert_eq!(self.cluster.requested(resource, node), sum, "I5: a node's requests");
            }
        }
    }

    /// I6: victims are known by their nodes.
    fn check_vacating(&self) {
        let pods = self.pods.iter().filter(|(_, pod)| pod.victim_of.is_some());
        let found = pods.filter_map(|(at, pod)| Some((pod.node?, at)));
        let found: std::collections::BTreeSet<_> = found.collect();
        assert_eq!(found, *self.vacating.all(), "I6: victims by node");
    }

    /// I3, I4: states agree with room, groups and calls.
    fn check_states(&self) {
        for (_, pod) in self.pods.iter() {
            let placed = pod.node.is_some();
            match pod.state {
                PodState::Assumed(call) => {
                    assert!(placed, "I3: an assumed pod takes no room");
                    assert!(self.calls.contains(call), "I4: an assumed pod has no call");
                }
                PodState::Nominated => {
                    assert!(placed, "I3: a nominated pod has no seat");
                    let plan = pod.group.is_some_and(|group| self.has_plan(group));
                    assert!(plan, "I6: a seat without a plan");
                }
                PodState::Bound | PodState::RollingBack(_) => {
                    assert!(placed, "I3: a bound pod takes no room");
                }
                PodState::Waiting | PodState::Gated | PodState::Refused | PodState::Leaving => {
                    assert!(!placed, "I3: a pod that is not bound takes room");
                }
                PodState::Succeeded | PodState::Failed => {
                    assert!(!placed, "I5: an ended pod takes room");
                }
                PodState::Foreign => assert!(pod.group.is_none(), "I7: a foreign pod in a group"),
            }
            let grouped = pod.group.is_some();
            let ours = !matches!(pod.state, PodState::Foreign | PodState::Refused);
            assert_eq!(grouped, ours, "I3: a pod of ours is in one group");
        }
    }

    /// I3: groups and pods name each other, and no group holds room outside a commit.
    fn check_members(&self) {
        let mut members = 0;
        for (index, group) in self.groups.iter() {
            members += group.members.len();
            for (slot, pod) in group.members.iter().enumerate() {
                let pod = self.pods.get(*pod);
                assert_eq!(pod.group, Some(index), "I3: a member of two groups");
                assert_eq!(pod.slot as usize, slot, "I3: a member's place");
                if matches!(pod.state, PodState::Assumed(_)) {
                    assert_eq!(group.home, Home::Committing, "I4: assumed outside a commit");
                }
            }
        }
        let grouped = self.pods.iter().filter(|(_, pod)| pod.group.is_some()).count();
        assert_eq!(members, grouped, "I3: members are lost");
    }
}
