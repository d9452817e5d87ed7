//! Bounds from above: what fits if every candidate gave all that it could, and if queues gave as
//! much as their shares allow, from wherever it serves best.

use super::{Demand, Search};
use crate::cluster::{Assignment, ClassId, NodeIndex, ResourceId};
use crate::fairshare::QueueIndex;
use crate::framework::Reads;
use smallvec::SmallVec;
use std::cmp::Reverse;
use std::collections::BTreeMap;

impl Search<'_> {
    /// Whether no set of victims seats all pods of the demand: each node is given the most that
    /// could come free there, whatever shares, minima and budgets say. O(nodes + candidates' pods).
    pub(super) fn is_hopeless(&mut self, demand: &Demand) -> bool {
        let needed = u32::try_from(demand.pods.len()).expect("groups are bounded");
        self.turn_to(demand.class);
        let mut total = 0;
        let mut most = Vec::with_capacity(self.slots.len());
        for node in (0..self.slots.len()).map(NodeIndex::at) {
            most.push(self.most_on(node, needed));
            total += most[node.index()];
            if total >= needed {
                return self.is_beyond_shares(demand.class, needed, &most);
            }
        }
        true
    }

    /// Whether the seats take more of the one contested resource than all queues could give. What a
    /// node lacks for so many seats must be given there; who gives it, and what goes besides, is
    /// left open. O(nodes x seats on them + candidates' pods x depth).
    /// `known`: the most that fits on the first nodes.
    fn is_beyond_shares(&mut self, class: ClassId, needed: u32, known: &[u32]) -> bool {
        let [resource] = self.contested[..] else { return false };
        let amount = self.cluster.class(class).request(resource);
        if amount <= 0 || !self.cluster.narrowed().is_empty() {
            return false;
        }
        let most = self.most_given(resource);
        let mut costs: Vec<i64> = Vec::new();
        for node in (0..self.slots.len()).map(NodeIndex::at) {
            let known = known.get(node.index()).copied();
            let seats = i64::from(known.unwrap_or_else(|| self.most_on(node, needed)));
            let free =
                self.cluster.allocatable(resource, node) - self.cluster.requested(resource, node);
            let cost = |seats: i64| (seats * amount - free).max(0);
            costs.extend((1..=seats).map(|seat| cost(seat) - cost(seat - 1)));
        }
        // the seats of a node grow dearer one by one: the cheapest are some of each node's first
        costs.sort_unstable();
        costs.iter().take(needed as usize).sum::<i64>() > most
    }

    /// How much of a resource all candidates together could give at most: those whose shares
    /// protect them, at each queue, what it holds above its share, and one unit that carries it
    /// below.
    fn most_given(&mut self, resource: ResourceId) -> i64 {
        let mut sum = 0;
        // by depth, the lowest first: what is given below a queue, and the greatest unit there
        let mut queues: BTreeMap<(Reverse<usize>, QueueIndex), (i64, i64)> = BTreeMap::new();
        for candidate in self.candidates {
            let held = |pod: &Assignment| self.cluster.class(pod.class).request(resource);
            let all: i64 = candidate.pods.iter().map(held).sum();
            if !candidate.is_sheltered(self.claimant) || candidate.leaving {
                sum += all;
                continue;
            }
            let single = candidate.pods[..candidate.pods.len() - candidate.kept].iter().map(held);
            let unit = if candidate.whole { all } else { single.clone().max().unwrap_or(0) };
            let given = if candidate.whole { all } else { single.sum() };
            let depth = self.fair.path(candidate.leaf).count();
            let known = queues.entry((Reverse(depth), candidate.leaf)).or_default();
            *known = (known.0 + given, known.1.max(unit));
        }
        while let Some(((Reverse(depth), queue), (given, unit))) = queues.pop_first() {
            let above = self
                .fair
                .parent(queue)
                .filter(|_| queue != self.fair.common_ancestor(queue, self.claimant));
            let Some(above) = above else {
                sum += given;
                continue;
            };
            let less = self.less.of(queue).iter().filter(|(known, _)| *known == resource);
            let less: i64 = less.map(|(_, amount)| *amount).sum();
            let held = i128::from(self.fair.allocated(queue, resource) - less) * 1000;
            let excess = held - self.fair.deserved_milli(queue, resource);
            // before the last one is taken something is left of the excess
            let before_last =
                i64::try_from((excess + 999).div_euclid(1000) - 1).unwrap_or(i64::MAX);
            let most = if excess > 0 { before_last.saturating_add(unit) } else { 0 };
            let known = queues.entry((Reverse(depth - 1), above)).or_default();
            *known = (known.0 + given.min(most), known.1.max(unit));
        }
        sum
    }

    /// How many pods of the class could fit on a node at most.
    fn most_on(&self, node: NodeIndex, most: u32) -> u32 {
        let class = self.cluster.class(self.class);
        if self.cluster.node(node).node.is_none() || self.is_closed(node) {
            return 0;
        }
        let here = self.on_node.of(node);
        // ports may come free with a victim
        let usage =
            here.is_empty() && !self.profile.passes(Reads::Usage, self.cluster, class, node);
        if usage || !class.unknown.is_empty() {
            return 0;
        }
        let most = if class.spec.host_ports.is_empty() { most } else { 1 };
        // those of one class together
        let mut given: SmallVec<[(ClassId, i64); 4]> = SmallVec::new();
        for (place, at) in here {
            let candidate = &self.candidates[*place];
            if candidate.whole || at + candidate.kept < candidate.pods.len() {
                let class = candidate.pods[*at].class;
                match given.last_mut() {
                    Some((last, pods)) if *last == class => *pods += 1,
                    _ => given.push((class, 1)),
                }
            }
        }
        let fits = class.requests.iter().filter(|(_, amount)| *amount > 0).map(|(r, amount)| {
            let given = given.iter().map(|(class, n)| n * self.cluster.class(*class).request(*r));
            let given: i64 = given.sum();
            let free = self.cluster.allocatable(*r, node) - self.cluster.requested(*r, node);
            u32::try_from(((free + given) / amount).clamp(0, i64::from(most))).expect("clamped")
        });
        let fits = fits.min().unwrap_or(most);
        if fits > 0 && self.suits(node) { fits } else { 0 }
    }
}
