//! Before those are listed who may give room: what if all went but what gives nothing to this
//! claimant? Where that is too little there is nothing to search.

use super::Scheduler;
use super::room::Rights;
use crate::cluster::{ClassId, ResourceId};
use crate::fairshare::QueueIndex;
use crate::queue::GroupIndex;
use smallvec::SmallVec;

impl Scheduler {
    /// Whether a claim for so many pods of one class is not seated even on nodes that hold nothing
    /// but pods of leaves that give it nothing. It is not asked where that takes longer than
    /// listing those that give. O(leaves x depth + nodes + pods of leaves that give nothing).
    pub(super) fn is_blocked(
        &mut self,
        rights: &Rights,
        extra: &[(ResourceId, i64)],
        (class, needed): (ClassId, u32),
    ) -> bool {
        let asked: SmallVec<[ResourceId; 5]> =
            extra.iter().map(|(resource, _)| *resource).collect();
        // what the claimant's own give may bring others into its reach
        let reach: SmallVec<[QueueIndex; 8]> = self.fair.path(rights.leaf).collect();
        let mut closed: SmallVec<[QueueIndex; 16]> = SmallVec::new();
        let (mut giving, mut firm) = (0, 0);
        for leaf in self.holders.leaves().collect::<SmallVec<[QueueIndex; 16]>>() {
            let stance = self.stance(rights, leaf, &asked, &reach);
            let groups = self.holders.count(leaf);
            if stance.may_give || stance.is_open {
                giving += groups;
            } else {
                firm += groups;
                closed.push(leaf);
            }
        }
        if firm > giving {
            return false;
        }
        let class = self.cluster.class(class);
        let asks = class.requests.iter().copied().filter(|(_, amount)| *amount > 0);
        let asks: SmallVec<[(ResourceId, i64); 4]> = asks.collect();
        let mut held = vec![0_i64; self.cluster.node_slots() * asks.len()];
        for leaf in closed {
            for index in self.holders.of(leaf) {
                self.add_firm(index, &asks, &mut held);
            }
        }
        let mut seats = 0;
        for (node, _) in self.cluster.live_nodes() {
            let held = &held[node.index() * asks.len()..];
            let fits = asks.iter().zip(held).map(|((resource, amount), held)| {
                (self.cluster.allocatable(*resource, node) - held).max(0) / amount
            });
            seats += fits.min().unwrap_or(i64::MAX).min(i64::from(needed));
            if seats >= i64::from(needed) {
                return false;
            }
        }
        true
    }

    /// Adds what a gang holds on each node, but for members that go anyway.
    fn add_firm(&self, index: GroupIndex, asks: &[(ResourceId, i64)], held: &mut [i64]) {
        for member in self.groups.get(index).members.iter() {
            let pod = self.pods.get(*member);
            let node = pod.node.filter(|_| pod.victim_of.is_none());
            let Some(node) = node.filter(|_| !self.leaving.contains(member)) else { continue };
            let class = self.cluster.class(pod.class);
            let here = &mut held[node.index() * asks.len()..];
            let sums = here.iter_mut().zip(asks);
            sums.for_each(|(sum, (resource, _))| *sum += class.request(*resource));
        }
    }
}
