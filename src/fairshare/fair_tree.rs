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
    /// between equals that times the depth.
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
            let order = order.then_with(|| self.level(b).total_cmp(&self.level(a)));
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
    /// In single precision: what differs by rounding alone is equal.
    #[allow(clippy::cast_possible_truncation)]
    fn level(&self, queue: QueueIndex) -> f32 {
        let usage = self.usage(queue);
        let Some(parent) = self.tree.parent(queue).filter(|_| usage > 0.0) else {
            return f32::INFINITY;
        };
        let shares =
            f64::from(self.tree.node(queue).weight) / self.tree.weight_below(parent) as f64;
        (shares / (usage / self.usage(parent))) as f32
    }

    /// The child on the way from a queue down to a leaf; `None`: it is the leaf.
    fn towards(&self, queue: QueueIndex, leaf: QueueIndex) -> Option<QueueIndex> {
        self.tree.path(leaf).take_while(|above| *above != queue).last()
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::fairshare::Used;
    use crate::model::QueueSpec;
    use std::collections::BTreeMap;

    /// Numbers below a bound, the same for the same seed.
    struct Dice(u64);

    impl Dice {
        fn below(&mut self, bound: u64) -> u64 {
            self.0 = self.0.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1);
            (self.0 >> 33) % bound
        }
    }

    /// Users in the order that SchedMD describes, of equal rank in one list: children sorted by
    /// level fairshare, users first, those of tied queues merged.
    fn ranked(share: &FairShare, siblings: &[QueueIndex], into: &mut Vec<Vec<QueueIndex>>) {
        let mut left: Vec<(f64, bool, QueueIndex)> = Vec::new();
        for queue in siblings {
            let parent = share.parent(*queue).expect("no root");
            let weight = |queue: QueueIndex| f64::from(share.tree.node(queue).weight);
            let all: f64 = share.tree.children(parent).map(weight).sum();
            let (used, all_used) = (share.usage(*queue), share.usage(parent));
            let level =
                if used == 0.0 { f64::INFINITY } else { weight(*queue) / all * all_used / used };
            left.push((-level, !share.tree.is_leaf(*queue), *queue));
        }
        left.sort_by(|a, b| a.0.total_cmp(&b.0).then(a.1.cmp(&b.1)));
        let same = |a: f64, b: f64| a == b || (a - b).abs() < 1e-9 * a.abs();
        // rounding must not part what is equal
        for at in 1..left.len() {
            if same(left[at - 1].0, left[at].0) {
                left[at].0 = left[at - 1].0;
            }
        }
        left.sort_by(|a, b| a.0.total_cmp(&b.0).then(a.1.cmp(&b.1)));
        for tied in left.chunk_by(|a, b| (a.0, a.1) == (b.0, b.1)) {
            let queues: Vec<QueueIndex> = tied.iter().map(|(_, _, queue)| *queue).collect();
            if tied[0].1 {
                let below: Vec<QueueIndex> =
                    queues.iter().flat_map(|queue| share.tree.children(*queue)).collect();
                ranked(share, &below, into);
            } else {
                into.push(queues);
            }
        }
    }

    #[test]
    fn users_are_ranked_as_in_slurm() {
        let mut ties = 0;
        for seed in 0..300 {
            let mut dice = Dice(seed);
            let mut specs: Vec<QueueSpec> = Vec::new();
            for number in 0..8 {
                let above = dice.below(number + 1);
                specs.push(QueueSpec {
                    name: format!("q{number}").into(),
                    parent: (above > 0).then(|| format!("q{}", above - 1).into()),
                    weight: 1 + u32::try_from(dice.below(3)).expect("small"),
                    order: QueueOrdering::FairTree,
                    ..QueueSpec::default()
                });
            }
            let mut share = FairShare::default();
            share.replace(&specs).expect("a tree");
            let mut used: BTreeMap<QueueIndex, f64> = BTreeMap::new();
            let mut leaves = Vec::new();
            for number in 0..12 {
                let queue = share.find(&format!("q{}", dice.below(8))).expect("declared");
                let leaf = share.acquire_leaf(queue, &format!("u{number}"));
                let amount = 10.0 * dice.below(4) as f64;
                share.path(leaf).for_each(|above| *used.entry(above).or_default() += amount);
                let used = Used { amount, rate: 0.0 };
                share.restore_usage(queue, Some(&format!("u{number}")), used, 0);
                leaves.push(leaf);
            }
            for queue in share.declared().collect::<Vec<_>>() {
                let amount = used.get(&queue).copied().unwrap_or(0.0);
                share.restore_usage(queue, None, Used { amount, rate: 0.0 }, 0);
            }
            let mut expected = Vec::new();
            let top: Vec<QueueIndex> = share.tree.children(QueueIndex::ROOT).collect();
            ranked(&share, &top, &mut expected);
            ties += expected.iter().filter(|tied| tied.len() > 1).count();
            let rank = |leaf: QueueIndex| expected.iter().position(|tied| tied.contains(&leaf));
            for (a, b) in leaves.iter().flat_map(|a| leaves.iter().map(move |b| (*a, *b))) {
                if a == b {
                    continue;
                }
                let above = share.common_ancestor(a, b);
                let below = |leaf| (share.towards(above, leaf).expect("below"), leaf);
                let found = share.compare_fair_tree(below(a), below(b));
                assert_eq!(found, rank(a).cmp(&rank(b)), "seed {seed}: {a:?} {b:?}");
            }
        }
        assert!(ties > 100, "{ties}");
    }
}
