//! Slurm's fair tree, the order `FairTree`.
//!
//! At each level the child of the highest level fairshare goes first: its part of the shares of its
//! siblings, divided by its part of their usage. So whoever is below a queue that goes first goes
//! before all that is below the next. The children of queues with the same level fairshare are
//! ordered as if they were siblings; among equals users go before queues. SchedMD, "Fair Tree
//! Fairshare Algorithm", <https://slurm.schedmd.com/fair_tree.html>.

use super::FairShare;
use super::tree::QueueIndex;
use crate::model::queue::Ordering as QueueOrdering;
use std::cmp::Ordering;

impl FairShare {
    /// The order of two siblings, each with the leaf below it that is its best; `Less`: `a` goes
    /// first. Queue priority, higher first, then the level fairshare. O(resources with a factor);
    /// between equals O(depth x siblings).
    #[must_use]
    pub fn compare_fair_tree(
        &self,
        (mut a, a_leaf): (QueueIndex, QueueIndex),
        (mut b, b_leaf): (QueueIndex, QueueIndex),
    ) -> Ordering {
        let merges = |queue| self.spec(queue).order == QueueOrdering::FairTree;
        loop {
            let priority = |queue| self.tree.node(queue).priority;
            let order = priority(b).cmp(&priority(a));
            let siblings = self.tree.parent(a) == self.tree.parent(b);
            let level = |queue| self.level(queue, siblings);
            let order = order.then_with(|| level(b).total_cmp(&level(a)));
            let below = (self.towards(a, a_leaf), self.towards(b, b_leaf));
            match (order, below) {
                (Ordering::Equal, (Some(next_a), Some(next_b))) if merges(a) && merges(b) => {
                    (a, b) = (next_a, next_b);
                }
                (Ordering::Equal, (next_a, next_b)) => {
                    return next_a.is_some().cmp(&next_b.is_some());
                }
                _ => return order,
            }
        }
    }

    /// Level fairshare: part of the shares / part of the usage; infinite where nothing was used.
    /// Among siblings the parts are of the same, which is left out.
    fn level(&self, queue: QueueIndex, siblings: bool) -> f64 {
        let usage = self.usage(queue);
        let Some(parent) = self.tree.parent(queue).filter(|_| usage > 0.0) else {
            return f64::INFINITY;
        };
        let weight = |queue| f64::from(self.tree.node(queue).weight);
        if siblings {
            return weight(queue) / usage;
        }
        let shares: f64 = self.tree.children(parent).map(weight).sum();
        (weight(queue) / shares) / (usage / self.usage(parent))
    }

    /// The child on the way from a queue down to a leaf; `None`: it is the leaf.
    fn towards(&self, queue: QueueIndex, leaf: QueueIndex) -> Option<QueueIndex> {
        self.tree.path(leaf).take_while(|above| *above != queue).last()
    }
}
