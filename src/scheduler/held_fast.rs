//! Room held by pods that must never be evicted. They are placed only within the guarantees of
//! their queue and all above it, as nobody could get that room back.
//!
//! What is written on a running pod later gives it no more than that: once the pods of a queue that
//! say so hold more than is guaranteed, the word of all of them counts for nothing.

use super::Scheduler;
use crate::cluster::{ResourceId, ResourceTable};
use crate::fairshare::{FairShare, QueueIndex, accounts};
use crate::model::fault::{Fault, is_made};
use crate::queue::{Amounts, GroupIndex};
use rustc_hash::FxHashMap;

/// What such pods hold, by declared queue.
pub(super) type HeldFast = FxHashMap<QueueIndex, Amounts>;

impl Scheduler {
    /// Adds (`sign` 1) or takes back (-1) what such a pod holds, at all declared queues above it.
    pub(super) fn hold_fast(
        &mut self,
        leaf: QueueIndex,
        requests: &[(ResourceId, i64)],
        sign: i64,
    ) {
        let mut queue = leaf;
        while let Some(above) = self.fair.parent(queue) {
            let held = self.held_fast.entry(above).or_default();
            for (resource, amount) in requests {
                match held.iter_mut().find(|(known, _)| known == resource) {
                    Some((_, sum)) => *sum += sign * amount,
                    None => held.push((*resource, sign * amount)),
                }
            }
            queue = above;
        }
    }

    /// See [`beyond_guarantee`].
    pub(super) fn beyond_guarantee(
        &self,
        leaf: QueueIndex,
        extra: &[(ResourceId, i64)],
    ) -> Option<(QueueIndex, ResourceId)> {
        beyond_guarantee(&self.fair, self.cluster.resources(), &self.held_fast, leaf, extra)
    }

    /// What is left of guarantees of narrowed resources to a group that must never be evicted; of
    /// others nothing.
    pub(super) fn narrowed_guarantee(&self, index: GroupIndex) -> Amounts {
        let group = self.groups.get(index);
        let Some(leaf) = group.leaf.filter(|_| group.non_preemptible) else {
            return Amounts::new();
        };
        let left = |resource: ResourceId, queue: QueueIndex| {
            let held = self.held_fast.get(&queue).into_iter().flatten();
            let held: i64 = held.filter(|(known, _)| *known == resource).map(|(_, sum)| *sum).sum();
            self.fair.guarantee(queue, resource) - held
        };
        let narrowed = self.cluster.narrowed().iter().map(|narrowed| narrowed.resource);
        let left = narrowed.filter_map(|resource| {
            let least = declared(&self.fair, leaf).map(|queue| left(resource, queue)).min()?;
            Some((resource, least))
        });
        left.collect()
    }

    /// Whether a group must never be evicted, and has the right to say so.
    pub(super) fn is_held_fast(&self, index: GroupIndex) -> bool {
        let group = self.groups.get(index);
        group.non_preemptible
            && !is_made(Fault::FirmTaken)
            && group.leaf.is_some_and(|leaf| self.beyond_guarantee(leaf, &[]).is_none())
    }
}

/// The lowest queue above the leaf whose guarantee does not take `extra` beside what such pods
/// hold there, and the resource. O(depth x resources).
pub(super) fn beyond_guarantee(
    fair: &FairShare,
    resources: &ResourceTable,
    held: &HeldFast,
    leaf: QueueIndex,
    extra: &[(ResourceId, i64)],
) -> Option<(QueueIndex, ResourceId)> {
    let lacks = |queue: QueueIndex| {
        let none = Amounts::new();
        let held = held.get(&queue).unwrap_or(&none);
        let mut asked = held.iter().chain(extra).map(|(resource, _)| *resource);
        let lacking = asked.find(|resource| {
            let resource = *resource;
            let sum = |amounts: &[(ResourceId, i64)]| -> i64 {
                let same = amounts.iter().filter(|(known, _)| *known == resource);
                same.map(|(_, amount)| *amount).sum()
            };
            let wanted = sum(held) + sum(extra);
            wanted > 0
                && accounts(resources.name(resource))
                && wanted > fair.guarantee(queue, resource)
        });
        lacking.map(|resource| (queue, resource))
    };
    declared(fair, leaf).find_map(lacks)
}

/// The declared queues above a leaf.
fn declared(fair: &FairShare, leaf: QueueIndex) -> impl Iterator<Item = QueueIndex> {
    fair.path(leaf).skip(1).filter(|queue| *queue != QueueIndex::ROOT)
}
