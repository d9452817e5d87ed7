//! Budgets of evictions: how many pods a queue, or the whole cluster, may lose in a time.
//!
//! A budget is a bucket that fills evenly. A plan is charged whole, when it is put in force: it is
//! admitted if the bucket holds as much, or is full, so that no plan is too large for ever.

use super::Scheduler;
use crate::fairshare::{QueueIndex, ROOT};
use crate::model::fault::{Fault, is_made};
use crate::model::{EvictionBudget, Timestamp};
use std::collections::BTreeMap;

/// What is left of a budget, in pods times the milliseconds of its window: filling is exact.
#[derive(Clone, Copy, Debug)]
pub(super) struct Bucket {
    budget: EvictionBudget,
    level: i64,
    at: Timestamp,
}

impl Bucket {
    fn full(budget: EvictionBudget, now: Timestamp) -> Self {
        Self { budget, level: Self::size(budget), at: now }
    }

    fn size(budget: EvictionBudget) -> i64 {
        i64::from(budget.pods).saturating_mul(budget.window_ms)
    }

    fn fill(&mut self, now: Timestamp) {
        let gained = now.since_ms(self.at).max(0).saturating_mul(i64::from(self.budget.pods));
        self.level = self.level.saturating_add(gained).min(Self::size(self.budget));
        self.at = now;
    }

    /// The level at which so many pods are admitted.
    fn needed(&self, pods: i64) -> i64 {
        pods.saturating_mul(self.budget.window_ms).min(Self::size(self.budget))
    }

    fn take(&mut self, pods: i64) {
        self.level = self.level.saturating_sub(pods.saturating_mul(self.budget.window_ms));
    }

    /// When the level is reached if nothing is taken before.
    fn reached(&self, level: i64) -> Timestamp {
        let lacking = level.saturating_sub(self.level).max(0);
        let pods = i64::from(self.budget.pods).max(1);
        self.at.plus_ms(lacking / pods + i64::from(lacking % pods > 0))
    }
}

impl Scheduler {
    /// The bucket of a queue as of now, if it has a budget.
    fn bucket(&mut self, queue: QueueIndex) -> Option<&mut Bucket> {
        let root = queue == QueueIndex::ROOT;
        let declared = self.fair.spec(queue).preemption.budget;
        let budget = if root { self.options.eviction_budget } else { declared };
        let name = if root { ROOT } else { &*self.fair.spec(queue).name };
        let Some(budget) = budget else {
            self.buckets.remove(name);
            return None;
        };
        let now = self.now;
        if !self.buckets.contains_key(name) {
            self.buckets.insert(name.into(), Bucket::full(budget, now));
        }
        let bucket = self.buckets.get_mut(name)?;
        bucket.fill(now);
        if bucket.budget != budget {
            // what was taken stays taken
            let taken = (Bucket::size(bucket.budget) - bucket.level) / bucket.budget.window_ms;
            *bucket = Bucket::full(budget, now);
            bucket.take(taken);
        }
        Some(bucket)
    }

    /// Whether no plan may take anything from below this leaf now. If so the search is made again
    /// when one may.
    pub(super) fn is_spent(&mut self, leaf: QueueIndex) -> bool {
        self.refusal(&BTreeMap::from([(leaf, 1)]))
    }

    /// Charges a plan that takes so many pods from each leaf, or refuses it and has the search made
    /// again when it may be admitted.
    pub(super) fn charge_budgets(&mut self, taken: &BTreeMap<QueueIndex, i64>) -> bool {
        if self.refusal(taken) {
            self.tallies.budget_stops += 1;
            return false;
        }
        let pods_of = |pods| if is_made(Fault::BudgetNotCharged) { 0 } else { pods };
        for (queue, pods) in self.taken_above(taken) {
            if let Some(bucket) = self.bucket(queue) {
                bucket.take(pods_of(pods));
            }
        }
        true
    }

    fn refusal(&mut self, taken: &BTreeMap<QueueIndex, i64>) -> bool {
        let mut admitted_at = self.now;
        for (queue, pods) in self.taken_above(taken) {
            if let Some(bucket) = self.bucket(queue) {
                let needed = bucket.needed(pods);
                if bucket.level < needed {
                    admitted_at = admitted_at.max(bucket.reached(needed));
                }
            }
        }
        if admitted_at > self.now {
            self.retry_room_at(admitted_at);
        }
        admitted_at > self.now
    }

    /// The same, for all declared queues above the leaves, and the root.
    fn taken_above(&self, taken: &BTreeMap<QueueIndex, i64>) -> BTreeMap<QueueIndex, i64> {
        let mut sums = BTreeMap::new();
        for (leaf, pods) in taken {
            for queue in self.fair.path(*leaf).skip(1) {
                *sums.entry(queue).or_default() += pods;
            }
        }
        sums
    }

    /// Has the searches for room made again at a time, though nothing may happen before.
    pub(super) fn retry_room_at(&mut self, at: Timestamp) {
        self.room_retry = Some(self.room_retry.map_or(at, |known| known.min(at)));
    }

    /// Forgets that searches failed, when the time has come.
    pub(super) fn retry_room(&mut self, now: Timestamp) {
        if self.room_retry.is_some_and(|at| at <= now) {
            self.room_retry = None;
            self.demands_changed += 1;
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_bucket_fills_evenly_and_a_full_one_admits_anything() {
        let budget = EvictionBudget { pods: 3, window_ms: 1000 };
        let mut bucket = Bucket::full(budget, Timestamp(0));
        assert!(bucket.level >= bucket.needed(100), "it is full");
        bucket.take(5);
        assert_eq!(bucket.level, -2000);
        assert_eq!(bucket.reached(bucket.needed(1)), Timestamp(1000));
        bucket.fill(Timestamp(999));
        assert!(bucket.level < bucket.needed(1));
        bucket.fill(Timestamp(1000));
        assert!(bucket.level >= bucket.needed(1) && bucket.level < bucket.needed(2));
        assert_eq!(bucket.reached(bucket.needed(2)), Timestamp(1334));
        bucket.fill(Timestamp(1_000_000));
        assert_eq!(bucket.level, 3000, "no more than full");
    }
}
