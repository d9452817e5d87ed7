//! What shares and limits allow: whom the claimant may take from, and what its own must give first.

use super::{Search, Unit};
use crate::cluster::{Assignment, Cluster, ResourceId};
use crate::fairshare::{FairShare, QueueIndex};
use crate::model::fault::{Fault, is_made};
use smallvec::SmallVec;
use std::cmp::Reverse;

/// What is taken from queues on paper.
#[derive(Default)]
pub(super) struct Less {
    /// `[queue or leaf]`
    by_queue: Vec<SmallVec<[(ResourceId, i64); 5]>>,
}

impl Less {
    pub(super) fn of(&self, queue: QueueIndex) -> &[(ResourceId, i64)] {
        self.by_queue.get(queue.index()).map_or(&[], |less| less)
    }

    /// Counts what so many pods alike hold as taken from their queues, or as put back.
    pub(super) fn add_pod(
        &mut self,
        (cluster, fair): (&Cluster, &FairShare),
        leaf: QueueIndex,
        pod: Assignment,
        times: i64,
    ) {
        let charges = cluster.charges(pod.class, cluster.offer(pod.node));
        let mut queue = Some(leaf);
        while let Some(at) = queue {
            self.add(at, &charges, times);
            queue = fair.parent(at);
        }
    }

    fn add(&mut self, queue: QueueIndex, amounts: &[(ResourceId, i64)], times: i64) {
        if self.by_queue.len() <= queue.index() {
            self.by_queue.resize_with(queue.index() + 1, SmallVec::new);
        }
        let less = &mut self.by_queue[queue.index()];
        for (resource, amount) in amounts {
            match less.iter_mut().find(|(known, _)| known == resource) {
                Some((_, sum)) => *sum += times * amount,
                None => less.push((*resource, times * amount)),
            }
        }
    }
}

/// Which leaves are above their shares, as far as it was asked since something was taken last.
#[derive(Default)]
pub(super) struct Above {
    state: u64,
    /// `[leaf]`: in which state it was asked, and the answer
    of: Vec<(u64, bool)>,
}

impl Above {
    fn get(&self, leaf: QueueIndex) -> Option<bool> {
        let (state, is_above) = self.of.get(leaf.index())?;
        (*state == self.state + 1).then_some(*is_above)
    }

    fn set(&mut self, leaf: QueueIndex, is_above: bool) {
        if self.of.len() <= leaf.index() {
            self.of.resize(leaf.index() + 1, (0, false));
        }
        self.of[leaf.index()] = (self.state + 1, is_above);
    }
}

/// What a queue of the claimant must stay within.
#[derive(Clone, Copy, PartialEq, Eq)]
pub(super) enum Bound {
    /// Limit, guarantee and borrow limit: nothing else is possible.
    Ceiling,
    /// What it deserves: beyond that others give nothing.
    Deserved,
}

/// Whether every queue from a leaf up to below its common ancestor with the claimant holds more
/// than it deserves of what is contested, less what is taken on paper.
pub(super) fn is_above_in(
    fair: &mut FairShare,
    (leaf, claimant): (QueueIndex, QueueIndex),
    contested: &[ResourceId],
    less: &Less,
) -> bool {
    let ancestor = fair.common_ancestor(leaf, claimant);
    let mut queue = leaf;
    while queue != ancestor {
        if !fair.is_above(queue, contested, less.of(queue)) {
            return false;
        }
        queue = fair.parent(queue).expect("the ancestor is on the way to the root");
        if is_made(Fault::SkippedAncestor) {
            break;
        }
    }
    true
}

impl Search<'_> {
    /// Whether every queue from a leaf up to below the common ancestor with the claimant holds more
    /// than it deserves of what is contested, less what is taken on paper.
    pub(super) fn is_above(&mut self, leaf: QueueIndex) -> bool {
        if let Some(known) = self.above.get(leaf) {
            return known;
        }
        let contested = std::mem::take(&mut self.contested);
        let is_above = self.is_above_in(leaf, &contested);
        self.contested = contested;
        self.above.set(leaf, is_above);
        is_above
    }

    pub(super) fn is_above_in(&mut self, leaf: QueueIndex, contested: &[ResourceId]) -> bool {
        is_above_in(self.fair, (leaf, self.claimant), contested, &self.less)
    }

    /// Counts what so many pods alike hold as taken from their queues on paper, or as put back.
    pub(super) fn less_by(&mut self, leaf: QueueIndex, pod: Assignment, times: i64) {
        self.less.add_pod((self.cluster, self.fair), leaf, pod, times);
        self.above.state += 1;
    }

    /// Whether the claimant would stay within a bound at one queue.
    fn is_within(&mut self, queue: QueueIndex, bound: Bound) -> bool {
        let less = self.less.of(queue);
        match bound {
            Bound::Ceiling => self.fair.is_within_ceiling(queue, self.extra, less),
            Bound::Deserved => self.fair.is_entitled_less(queue, self.extra, less),
        }
    }

    /// The queues of the claimant below an ancestor, from its leaf up.
    fn below(&self, ancestor: QueueIndex) -> Vec<QueueIndex> {
        self.fair.path(self.claimant).take_while(|queue| *queue != ancestor).collect()
    }

    /// Whether the claimant's own must give something: a limit asks for it, or others give nothing
    /// before.
    pub(super) fn must_give(&mut self) -> bool {
        let others = self.candidates.iter().any(|candidate| !candidate.given && !candidate.leaving);
        let queues = self.below(QueueIndex::ROOT);
        let exceeds = queues.into_iter().any(|queue| {
            !self.is_within(queue, Bound::Ceiling)
                || others && !self.is_within(queue, Bound::Deserved)
        });
        exceeds || self.fair.withheld_by(self.claimant, self.extra, |_| &[]).is_some()
    }

    /// Whether the claimant stays within what it deserves, up to below the common ancestor with a
    /// leaf, so that it may take from there.
    pub(super) fn may_reach(&mut self, leaf: QueueIndex) -> bool {
        if !self.is_bound {
            return true;
        }
        let queues = self.below(self.fair.common_ancestor(leaf, self.claimant));
        queues.into_iter().all(|queue| self.is_within(queue, Bound::Deserved))
    }

    /// Whether what is taken on paper may stay so: every limit is kept, what others give is due to
    /// the claimant, and no room is used that others keep.
    pub(super) fn is_settled(&mut self) -> bool {
        if !self.is_bound {
            return true;
        }
        let queues = self.below(QueueIndex::ROOT);
        let within = queues.into_iter().all(|queue| self.is_within(queue, Bound::Ceiling));
        let others: Vec<QueueIndex> = self.givers().collect();
        let Self { fair, less, .. } = self;
        let less = |queue| less.of(queue);
        within
            && fair.withheld_by(self.claimant, self.extra, less).is_none()
            && others.into_iter().all(|leaf| self.may_reach(leaf))
    }

    /// The leaves of others that give something.
    pub(super) fn givers(&self) -> impl Iterator<Item = QueueIndex> {
        let candidates = self.candidates.iter().zip(&self.taken);
        let givers = candidates.filter(|(candidate, taken)| {
            !candidate.given && !candidate.leaving && taken.contains(&true)
        });
        givers.map(|(candidate, _)| candidate.leaf)
    }

    /// Takes units from below the claimant's queues until each of these is within the bound, the
    /// lowest first; elastic members before gangs, among equals the lowest rank.
    pub(super) fn give_to(&mut self, bound: Bound) -> Option<()> {
        if !self.is_bound {
            return Some(());
        }
        for queue in self.below(QueueIndex::ROOT) {
            while !self.is_within(queue, bound) {
                let unit = self.cheapest_below(queue)?;
                let taken = self.take(unit);
                self.units.push(taken);
            }
        }
        Some(())
    }

    /// The cheapest unit that may be taken below a queue, and holds something that is asked for.
    fn cheapest_below(&mut self, queue: QueueIndex) -> Option<Unit> {
        let mut best = None;
        for (place, candidate) in self.candidates.iter().enumerate() {
            if candidate.leaving || !self.fair.path(candidate.leaf).any(|above| above == queue) {
                continue;
            }
            let single = candidate.pods.len() - candidate.kept;
            let elastic = (0..single).map(|at| Unit::Elastic(place, at));
            for unit in elastic.chain([Unit::Gang(place)]) {
                let (whole, pod, rank) = match unit {
                    Unit::Elastic(_, at) => {
                        (false, candidate.pods[at], candidate.single_rank(self.gone(place)))
                    }
                    Unit::Gang(_) => (true, candidate.pods[0], candidate.rank),
                };
                let held = self.held_of_asked(pod);
                let price = (whole, rank, Reverse(held), place);
                let is_cheaper = best.as_ref().is_none_or(|(known, _)| price < *known);
                if is_cheaper && held > 0 && self.is_legal(unit) {
                    best = Some((price, unit));
                }
            }
        }
        best.map(|(_, unit)| unit)
    }

    /// What a pod holds of what shares are compared by.
    pub(super) fn held_of_asked(&self, pod: Assignment) -> i64 {
        let charges = self.cluster.charges(pod.class, self.cluster.offer(pod.node));
        let asked = charges.iter().filter(|(resource, _)| self.contested.contains(resource));
        asked.map(|(_, amount)| amount).sum()
    }
}
