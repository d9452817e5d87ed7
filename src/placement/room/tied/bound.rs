//! What the seats that are still wanted cost at least.
//!
//! What goes of a queue is priced by what it holds. A gang that ends is charged to the nodes on
//! which it makes room, by what it holds there, as if parts of it could go. On each node the
//! cheapest pods for one more seat, two more and so on are found; of all nodes those are taken that
//! cost least. If that is more than the queues may still give there is no plan below this point.

use super::tree::{Choice, Mark, Tree};
use smallvec::SmallVec;

/// Prices are in thousandths of what is contested.
const SCALE: i64 = 1_000;
/// Steps in which what lacks on a node is counted.
const STEPS_MAX: i64 = 128;
/// More than anything costs.
const DEAR: i64 = i64::MAX / 4;

/// See the module. What is in it is kept for the next time but for its memory.
#[derive(Default)]
pub(super) struct Bound {
    /// What the cheapest answer takes, what it takes most of first.
    pub(super) wanted: Vec<(Choice, i64)>,
    pub(super) effort: u64,
    /// `[gang]`
    is_whole: Vec<bool>,
    useful: Vec<i64>,
    use_of: Vec<i64>,
    /// `[pod]`: price in a queue that counts, and whether it goes singly; `None`: it stays
    price: Vec<Option<(i64, bool)>>,
    /// `[node]`
    most: Vec<u32>,
    /// `[steps]`: least price, and the last pod of those
    least: Vec<(i64, u32)>,
    chosen: Vec<Vec<(i64, u32)>>,
    /// price of one more, node, how many before
    offers: Vec<(i64, u32, u32)>,
    counts: Vec<bool>,
}

impl Bound {
    /// Whether there may be a plan below this point; `wanted` is what it might be made of.
    pub(super) fn judge(&mut self, tree: &Tree<'_>) -> bool {
        let model = tree.model;
        self.wanted.clear();
        self.list_open(tree);
        let wanted = i64::from(model.needed - tree.total);
        let more = self.most.iter().zip(&tree.seats).map(|(most, seats)| i64::from(most - seats));
        if more.sum::<i64>() < wanted {
            return false;
        }
        let tops = tops(tree);
        for only in tops.iter().map(|top| Some(*top)).chain([None]) {
            if only.is_some() && tops.len() <= 1 {
                continue;
            }
            self.counts.clear();
            self.counts.resize(model.queues.len(), false);
            let counted = tops.iter().filter(|top| only.is_none_or(|only| only == **top));
            counted.clone().for_each(|top| self.counts[*top as usize] = true);
            let may = counted.map(|top| allowance(tree, self, *top)).fold(0, i64::saturating_add);
            self.price_all(tree);
            let least = self.cheapest(tree, wanted as usize);
            if least > may.saturating_mul(SCALE) {
                return false;
            }
        }
        self.list_wanted(tree);
        true
    }

    /// What may still go, and how many seats each node can have with all of it gone.
    fn list_open(&mut self, tree: &Tree<'_>) {
        let model = tree.model;
        let gangs = 0..model.gangs.len();
        self.is_whole.clear();
        self.is_whole.extend(gangs.map(|gang| tree.can_take(Choice::Gang(gang as u32))));
        self.price.clear();
        self.price.extend((0..model.pods.len()).map(|pod| {
            let gang = model.pods[pod].gang as usize;
            let is_gone = tree.pods[pod] == Mark::In || tree.gangs[gang] == Mark::In;
            let singly = !is_gone && tree.can_take(Choice::Pod(pod as u32));
            (singly || !is_gone && self.is_whole[gang]).then_some((0, singly))
        }));
        self.effort += model.pods.len() as u64 / 2;
        self.most.clear();
        for (at, node) in model.nodes.iter().enumerate() {
            if node.most == 0 {
                self.most.push(0);
                continue;
            }
            let mut free = tree.free[at].clone();
            for pod in node.pods.iter().filter(|pod| self.price[**pod as usize].is_some()) {
                let held = &model.pods[*pod as usize].held;
                free.iter_mut().zip(held).for_each(|(free, held)| *free += held);
            }
            self.most.push(model.seats(&free, node.most).max(tree.seats[at]));
        }
        self.useful.clear();
        self.useful.resize(model.gangs.len(), 0);
        for (pod, known) in model.pods.iter().enumerate() {
            let node = known.node as usize;
            if self.price[pod].is_some() && self.most[node] > tree.seats[node] {
                self.useful[known.gang as usize] += known.held[model.contested];
            }
        }
    }

    /// Prices each pod by the queues that count.
    fn price_all(&mut self, tree: &Tree<'_>) {
        let model = tree.model;
        for (pod, known) in model.pods.iter().enumerate() {
            let gang = known.gang as usize;
            let counts = model.gangs[gang].queues.iter().any(|queue| self.counts[*queue as usize]);
            let Some((price, singly)) = &mut self.price[pod] else { continue };
            let held = known.held[model.contested];
            let alone = held.saturating_mul(SCALE).min(DEAR);
            // its part of the whole gang is more than what it holds, never less
            let part = || {
                let whole = i128::from(model.gangs[gang].size) * i128::from(SCALE);
                let part = whole * i128::from(held) / i128::from(self.useful[gang].max(1));
                i64::try_from(part).unwrap_or(DEAR).min(DEAR)
            };
            *price = match (counts, *singly) {
                (false, _) => 0,
                (true, true) => alone,
                (true, false) => part(),
            };
        }
    }

    /// The least price of so many more seats; in `offers` which nodes give them.
    fn cheapest(&mut self, tree: &Tree<'_>, wanted: usize) -> i64 {
        let mut offers = std::mem::take(&mut self.offers);
        offers.clear();
        for node in 0..tree.model.nodes.len() {
            let more = self.most[node].saturating_sub(tree.seats[node]).min(wanted as u32);
            if more > 0 {
                self.offer(tree, node, more, &mut offers);
            }
        }
        offers.sort_unstable();
        offers.truncate(wanted);
        let sum = offers.iter().fold(0_i64, |sum, offer| sum.saturating_add(offer.0));
        self.offers = offers;
        sum
    }

    /// What one more seat on a node costs, and one more after it: no more than it truly does, and
    /// never less than the one before.
    fn offer(
        &mut self,
        tree: &Tree<'_>,
        node: usize,
        more: u32,
        offers: &mut Vec<(i64, u32, u32)>,
    ) {
        let ask = tree.model.ask[tree.model.contested];
        let seats = i64::from(tree.seats[node]);
        let free = tree.free[node][tree.model.contested];
        let lack = |more: i64| ((seats + more) * ask - free).max(0);
        let unit = lack(i64::from(more)) / STEPS_MAX + 1;
        self.cover(tree, node, unit, lack(i64::from(more)) / unit, false);
        let costs: SmallVec<[i64; 16]> = (0..=i64::from(more))
            .map(|k| if k == 0 { 0 } else { self.least[(lack(k) / unit) as usize].0 })
            .collect();
        // the lower convex hull of the costs
        let mut from = 0;
        while from < costs.len() - 1 {
            let slope = |to: usize| (costs[to] - costs[from]).div_euclid((to - from) as i64);
            let to = (from + 1..costs.len()).min_by_key(|to| (slope(*to), *to)).expect("not empty");
            for k in from..to {
                offers.push((slope(to), node as u32, k as u32));
            }
            from = to;
        }
    }

    /// The least price of pods on a node that hold so many units together.
    fn cover(&mut self, tree: &Tree<'_>, node: usize, unit: i64, steps: i64, keep: bool) {
        let steps = steps as usize;
        self.least.clear();
        self.least.resize(steps + 1, (DEAR, u32::MAX));
        self.least[0] = (0, u32::MAX);
        self.chosen.clear();
        for pod in &tree.model.nodes[node].pods {
            let Some((price, _)) = self.price[*pod as usize] else { continue };
            let held = tree.model.pods[*pod as usize].held[tree.model.contested];
            let held = ((held + unit - 1) / unit) as usize;
            self.effort += steps as u64 / 8 + 1;
            for step in (1..=steps).rev() {
                let (before, _) = self.least[step.saturating_sub(held)];
                let sum = before.saturating_add(price);
                if sum < self.least[step].0 {
                    self.least[step] = (sum, *pod);
                }
            }
            if keep {
                self.chosen.push(self.least.clone());
            }
        }
    }

    /// What the offers that were taken are made of.
    fn list_wanted(&mut self, tree: &Tree<'_>) {
        let model = tree.model;
        self.use_of.clear();
        self.use_of.resize(model.gangs.len(), 0);
        let mut offers: Vec<(u32, u32)> =
            self.offers.iter().map(|offer| (offer.1, offer.2 + 1)).collect();
        offers.sort_unstable();
        let mut pods: Vec<u32> = Vec::new();
        for (at, (node, more)) in offers.iter().enumerate() {
            if offers.get(at + 1).is_some_and(|(next, _)| next == node) {
                continue;
            }
            let ask = model.ask[model.contested];
            let at = *node as usize;
            let lack = ((i64::from(tree.seats[at]) + i64::from(*more)) * ask
                - tree.free[at][model.contested])
                .max(0);
            let unit = lack / STEPS_MAX + 1;
            self.cover(tree, at, unit, lack / unit, true);
            let mut step = (lack / unit) as usize;
            let listed: Vec<u32> = model.nodes[at]
                .pods
                .iter()
                .copied()
                .filter(|pod| self.price[*pod as usize].is_some())
                .collect();
            let mut row = self.chosen.len();
            while row > 0 && step > 0 {
                let chosen = self.chosen[row - 1][step].1;
                if chosen == u32::MAX {
                    break;
                }
                let place = listed.iter().position(|pod| *pod == chosen).expect("it is listed");
                pods.push(chosen);
                let held = model.pods[chosen as usize].held[model.contested];
                step = step.saturating_sub(((held + unit - 1) / unit) as usize);
                row = place;
            }
        }
        for pod in pods {
            let known = &model.pods[pod as usize];
            let (_, singly) = self.price[pod as usize].expect("it was priced");
            let held = known.held[model.contested];
            if singly {
                self.wanted.push((Choice::Pod(pod), 0));
            } else {
                self.use_of[known.gang as usize] += held;
            }
        }
        for (gang, used) in self.use_of.iter().enumerate().filter(|(_, used)| **used > 0) {
            let part = used * SCALE / model.gangs[gang].size.max(1);
            self.wanted.push((Choice::Gang(gang as u32), part));
        }
        if self.wanted.is_empty() {
            self.wanted.extend(self.any_open(tree).map(|choice| (choice, 0)));
        }
        self.wanted.sort_unstable_by_key(|(choice, part)| match choice {
            Choice::Gang(gang) => (0, -part, *gang),
            Choice::Pod(pod) => (1, 0, *pod),
        });
    }
}

impl Bound {
    /// Something that may go where it makes room, if what is contested is not what lacks there.
    fn any_open(&self, tree: &Tree<'_>) -> Option<Choice> {
        let mut pods = tree.model.pods.iter().enumerate().filter(|(pod, known)| {
            let node = known.node as usize;
            self.price[*pod].is_some() && self.most[node] > tree.seats[node]
        });
        let (pod, known) = pods.next()?;
        let (_, singly) = self.price[pod]?;
        Some(if singly { Choice::Pod(pod as u32) } else { Choice::Gang(known.gang) })
    }
}

/// The topmost queues that tie gangs.
fn tops(tree: &Tree<'_>) -> Vec<u32> {
    let mut tops: Vec<u32> =
        tree.model.gangs.iter().filter_map(|gang| gang.queues.last().copied()).collect();
    tops.sort_unstable();
    tops.dedup();
    tops
}

/// How much a queue may still give at most.
fn allowance(tree: &Tree<'_>, bound: &Bound, queue: u32) -> i64 {
    let model = tree.model;
    let given = tree.given[queue as usize];
    let mut greatest = given.greatest;
    for (at, gang) in model.gangs.iter().enumerate() {
        if gang.queues.contains(&queue) {
            if bound.is_whole[at] {
                greatest = greatest.max(gang.size);
            }
            for pod in gang.singles() {
                if matches!(bound.price[pod], Some((_, true))) {
                    greatest = greatest.max(model.pods[pod].held[model.contested]);
                }
            }
        }
    }
    (model.queues[queue as usize].room + greatest - given.sum).max(0)
}
