//! What there is to share: the room of ready nodes, less what pods of other schedulers take.
//!
//! A drop limits placement at once. Shares follow a while later, so that a node that is away for a
//! moment costs nobody his room: what counts is the most there was within that time.

use super::Scheduler;
use super::pods::PodState;
use crate::cluster::{NodeIndex, ResourceId};
use crate::fairshare::{QueueIndex, accounts};
use crate::model::{Node, Timestamp};
use rustc_hash::FxHashMap;
use std::collections::VecDeque;

/// Taints of nodes that are not ready, see
/// <https://kubernetes.io/docs/reference/labels-annotations-taints/>.
const AWAY: [&str; 2] = ["node.kubernetes.io/not-ready", "node.kubernetes.io/unreachable"];

/// Amounts of the last while.
#[derive(Debug, Default)]
pub(super) struct Capacities {
    by_resource: FxHashMap<ResourceId, Recent>,
}

#[derive(Debug, Default)]
struct Recent {
    now: i64,
    /// more than there is now, and until when it counts; the greatest, and first to end, first
    before: VecDeque<(i64, Timestamp)>,
}

impl Recent {
    /// Takes in an amount; what counts then.
    fn set(&mut self, amount: i64, now: Timestamp, hold_ms: i64) -> i64 {
        while self.before.front().is_some_and(|(_, until)| *until <= now) {
            self.before.pop_front();
        }
        while self.before.back().is_some_and(|(old, _)| *old <= amount.max(self.now)) {
            self.before.pop_back();
        }
        if amount < self.now {
            self.before.push_back((self.now, now.plus_ms(hold_ms)));
        }
        self.now = amount;
        self.before.front().map_or(amount, |(old, _)| *old)
    }
}

fn is_away(node: &Node) -> bool {
    node.taints.iter().any(|taint| AWAY.contains(&&*taint.key))
}

impl Scheduler {
    /// Brings the capacities up to date. O(nodes), only after nodes or foreign pods changed, or
    /// when a drop has lasted.
    pub(super) fn renew_capacity(&mut self, now: Timestamp) {
        let due = self.capacity_due().is_some_and(|at| at <= now);
        if !std::mem::take(&mut self.capacity_changed) && !due {
            return;
        }
        self.fair.bind_resources(self.cluster.resources());
        let names = self.cluster.resources();
        let resources: Vec<ResourceId> =
            names.iter().filter(|resource| accounts(names.name(*resource))).collect();
        let away =
            self.cluster.live_nodes().any(|(_, entry)| entry.node.as_ref().is_some_and(is_away));
        for resource in resources {
            let amount = if away { self.ready(resource) } else { self.offered(resource) };
            let recent = self.capacities.by_resource.entry(resource).or_default();
            let counted = recent.set(amount.max(0), now, self.options.capacity_hold_ms);
            if self.fair.capacity(resource) != counted {
                self.fair.set_capacity(resource, counted);
                // shares change, and with them who is entitled to what
                self.demands_changed += 1;
            }
        }
    }

    /// What all live nodes offer. O(nodes).
    fn offered(&self, resource: ResourceId) -> i64 {
        let narrowed = self.cluster.narrowed().iter().find(|of| of.resource == resource);
        let base = narrowed.map_or(resource, |of| of.base);
        let (offered, requested) = match narrowed {
            // on nodes that are gone too, as what is allocated counts what is left there
            None => (self.cluster.totals(base).0, self.cluster.requested_anywhere(base)),
            Some(_) => (0..self.cluster.node_slots())
                .map(NodeIndex::at)
                .filter(|node| self.cluster.offers(*node, resource))
                .map(|node| {
                    (self.cluster.allocatable(base, node), self.cluster.requested(base, node))
                })
                .fold((0, 0), |sum, more| (sum.0 + more.0, sum.1 + more.1)),
        };
        let seats = self.drained_seats();
        let seats =
            seats.filter(|(_, node)| narrowed.is_none() || self.cluster.offers(*node, resource));
        let kept: i64 = seats.map(|(class, _)| self.cluster.class(class).request(base)).sum();
        let foreign = requested - kept - self.fair.allocated(QueueIndex::ROOT, resource);
        offered - foreign.max(0)
    }

    /// What the ready nodes offer, where some are not. O(nodes + pods).
    fn ready(&self, resource: ResourceId) -> i64 {
        let narrowed = self.cluster.narrowed().iter().find(|of| of.resource == resource);
        let base = narrowed.map_or(resource, |of| of.base);
        let counts = |node: NodeIndex| {
            let is_ready = self.cluster.node(node).node.as_ref().is_some_and(|node| !is_away(node));
            is_ready && (narrowed.is_none() || self.cluster.offers(node, resource))
        };
        let nodes = self.cluster.live_nodes().filter(|(node, _)| counts(*node));
        let offered: i64 = nodes.map(|(node, _)| self.cluster.allocatable(base, node)).sum();
        let foreign = self.pods.iter().filter(|(_, pod)| {
            matches!(pod.state, PodState::Foreign | PodState::Refused)
                && pod.node.is_some_and(counts)
        });
        offered - foreign.map(|(_, pod)| self.cluster.class(pod.class).request(base)).sum::<i64>()
    }

    /// When a drop will have lasted.
    pub(super) fn capacity_due(&self) -> Option<Timestamp> {
        let drops = self.capacities.by_resource.values();
        drops.filter_map(|recent| recent.before.front().map(|(_, until)| *until)).min()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_most_of_the_last_while_counts() {
        let mut recent = Recent::default();
        let mut set = |amount, at| recent.set(amount, Timestamp(at), 60);
        assert_eq!(set(10, 0), 10);
        assert_eq!(set(4, 10), 10, "a drop");
        assert_eq!(set(6, 20), 10, "some is back");
        assert_eq!(set(2, 30), 10, "another drop");
        assert_eq!(set(2, 69), 10);
        assert_eq!(set(2, 70), 6, "the first drop has lasted");
        assert_eq!(set(2, 90), 2, "and the second");
        assert_eq!(set(12, 95), 12, "a rise counts at once");
        assert_eq!(set(3, 96), 12);
        assert_eq!(set(12, 97), 12);
        assert_eq!(set(12, 200), 12);
    }
}
