//! What evicted pods asked for, until their replacements ask for it.
//!
//! A controller takes a while to replace a pod that was evicted. If its queue asked for nothing
//! meanwhile, the shares of all others would rise for that time, and claimants would take more
//! than they keep. So the demand is held for the queue until the replacement is countable, or
//! [`REPLACED_WITHIN_MS`] have passed. Pods without a controller, those that succeeded, and those
//! that their owner deleted before they were evicted are not awaited.

use super::Scheduler;
use crate::cluster::PodIndex;
use crate::fairshare::QueueIndex;
use crate::model::Timestamp;
use crate::queue::{Amounts, GroupIndex};
use std::collections::{BTreeMap, VecDeque};

/// Longer than job controllers take, and short of what would keep shares from following demand.
const REPLACED_WITHIN_MS: i64 = 10_000;

/// A pod that was evicted and may come again.
#[derive(Debug)]
struct Absent {
    controller: u64,
    requests: Amounts,
    until: Timestamp,
}

/// Pods that may come again, by the leaf that asks for them, the oldest first.
#[derive(Debug, Default)]
pub(super) struct Awaited(BTreeMap<QueueIndex, VecDeque<Absent>>);

impl Awaited {
    /// Forgets all, as the tree did.
    pub(super) fn clear(&mut self) {
        self.0.clear();
    }

    /// What is held for each leaf.
    pub(super) fn amounts(&self) -> impl Iterator<Item = (QueueIndex, &Amounts)> {
        let leaves = self.0.iter();
        leaves.flat_map(|(leaf, pods)| pods.iter().map(|absent| (*leaf, &absent.requests)))
    }
}

impl Scheduler {
    /// Holds the demand of a pod that is about to lose its room, if it was evicted.
    pub(super) fn await_replacement(&mut self, pod: PodIndex) {
        let entry = self.pods.get_mut(pod);
        let evicted = entry.evicted_by.take().is_some() && entry.controller != 0;
        let Some(leaf) = entry.charged.filter(|_| evicted) else { return };
        let (controller, user) = (entry.controller, entry.user.clone());
        let requests: Amounts = self.cluster.asked(entry.class).iter().copied().collect();
        // the leaf lives as long as something is awaited for it
        let queue = self.fair.parent(leaf).expect("pods are charged to users");
        let acquired = self.fair.acquire_leaf(queue, &user);
        debug_assert_eq!(acquired, leaf, "one leaf for each user");
        self.fair.pend(leaf, &requests, 1);
        let until = self.now.plus_ms(REPLACED_WITHIN_MS);
        self.awaited.0.entry(leaf).or_default().push_back(Absent { controller, requests, until });
    }

    /// A group asks for more than before: of what is awaited for its leaf from the controllers of
    /// its members, so much has come.
    pub(super) fn replaced(&mut self, index: GroupIndex, before: &Amounts) {
        let group = self.groups.get(index);
        let Some((leaf, absent)) = group.leaf.and_then(|leaf| {
            let absent = self.awaited.0.get_mut(&leaf)?;
            Some((leaf, absent))
        }) else {
            return;
        };
        let of = |amounts: &Amounts, resource| {
            amounts.iter().find(|(known, _)| *known == resource).map_or(0, |(_, amount)| *amount)
        };
        let mut come = group.pending.clone();
        come.iter_mut().for_each(|(resource, amount)| *amount -= of(before, *resource));
        let mut ended = Vec::new();
        absent.retain(|pod| {
            let mut members = group.members.iter().map(|member| self.pods.get(*member));
            let fits =
                pod.requests.iter().all(|(resource, amount)| *amount <= of(&come, *resource))
                    && members.any(|member| member.controller == pod.controller);
            if fits {
                for (resource, amount) in &mut come {
                    *amount -= of(&pod.requests, *resource);
                }
                ended.push(pod.requests.clone());
            }
            !fits
        });
        self.end_awaited(leaf, ended);
    }

    /// Gives up on those that did not come in time.
    pub(super) fn give_up_awaited(&mut self, now: Timestamp) {
        let leaves: Vec<QueueIndex> = self.awaited.0.keys().copied().collect();
        for leaf in leaves {
            let absent = self.awaited.0.get_mut(&leaf).expect("it is a key");
            let late = absent.partition_point(|pod| pod.until <= now);
            let ended: Vec<Amounts> = absent.drain(..late).map(|pod| pod.requests).collect();
            self.demands_changed += u64::from(late > 0);
            self.end_awaited(leaf, ended);
        }
    }

    fn end_awaited(&mut self, leaf: QueueIndex, ended: Vec<Amounts>) {
        if self.awaited.0.get(&leaf).is_some_and(VecDeque::is_empty) {
            self.awaited.0.remove(&leaf);
        }
        for requests in ended {
            self.fair.pend(leaf, &requests, -1);
            self.fair.release_leaf(leaf);
        }
    }

    /// When shares change because a replacement did not come, if that may help somebody.
    pub(super) fn awaited_due(&self) -> Option<Timestamp> {
        let firsts = self.awaited.0.values().filter_map(|pods| Some(pods.front()?.until));
        firsts.min().filter(|_| self.queue.any_unschedulable())
    }
}
