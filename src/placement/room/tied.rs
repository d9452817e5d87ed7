//! Plans that the steps miss, and proofs that there is none, where shares, minima and budgets tie
//! units to one another.
//!
//! The steps take what is cheap, and a queue that is down to its share by that gives nothing more,
//! though one greater unit in place of many small ones might have seated the claim. What follows
//! looks at all sets of units, on a model in plain numbers, and leaves out whole families of them
//! by what seats cost at least. What it finds is tried on paper before it is believed.

mod bound;
mod model;
#[cfg(test)]
mod tests;
mod tree;

use super::shares::Less;
use super::{Claim, Demand, Search, Unit};
use crate::cluster::{Assignment, ClassId, NodeIndex, ResourceId, Statement};
use crate::fairshare::QueueIndex;
use model::{Amounts, Gang, Model, Place, Pod, Tie};
use rustc_hash::FxHashMap;
use smallvec::SmallVec;
use std::collections::{BTreeMap, BTreeSet};
use tree::{Choice, Tree};

/// Steps of the search for each priority up to which gangs end: some milliseconds in all.
const EFFORT_MAX: u64 = 40_000;
/// Room of a queue that is not above its share.
const NOTHING: i64 = i64::MIN / 4;

/// A model, and what its gangs and pods are here.
struct Mapped {
    model: Model,
    /// units that nothing speaks against: they are taken in the model
    free: Vec<Unit>,
    /// candidate
    gangs: Vec<usize>,
    /// place among the candidate's pods
    pods: Vec<usize>,
}

/// Numbers in the model.
#[derive(Default)]
struct Numbers {
    nodes: FxHashMap<NodeIndex, u32>,
    queues: BTreeMap<QueueIndex, u32>,
}

impl Search<'_> {
    /// Whether units are taken now that seat the one class; otherwise it may be proved that there
    /// are none. Whatever was taken is put back before. O(pods and nodes of the candidates), and
    /// the effort that is bounded.
    pub(super) fn find_tied(&mut self, demands: &[Demand], claim: &Claim<'_>) -> bool {
        self.begin_again(claim);
        let is_plain =
            self.contested.len() == 1 && self.is_open() && self.cluster.narrowed().is_empty();
        for demand in demands.iter().filter(|_| is_plain) {
            self.count_class(demand);
            let Some(mapped) = self.mapped() else { continue };
            let (found, is_none) = search(&mapped.model);
            if is_none {
                self.is_proved = true;
                return false;
            }
            if demands.len() == 1
                && let Some(choices) = found
            {
                return self.try_found(&mapped, &choices);
            }
        }
        false
    }

    /// Puts back all that was taken.
    fn begin_again(&mut self, claim: &Claim<'_>) {
        self.statement.rollback(self.cluster, Statement::default().checkpoint());
        self.units.clear();
        self.less = Less::default();
        self.allowed.copy_from_slice(claim.allowed);
        for (place, candidate) in self.candidates.iter().enumerate() {
            self.spare[place] = candidate.spare;
            self.task_spare[place].clone_from(&candidate.tasks.spare);
            self.taken[place].fill(false);
        }
        self.clear_going(claim);
    }

    /// Takes on paper what was found in the model, if all that is asked of a plan holds.
    fn try_found(&mut self, mapped: &Mapped, choices: &[Choice]) -> bool {
        let chosen = choices.iter().map(|choice| match *choice {
            Choice::Gang(gang) => Unit::Gang(mapped.gangs[gang as usize]),
            Choice::Pod(pod) => {
                let gang = mapped.model.pods[pod as usize].gang as usize;
                Unit::Elastic(mapped.gangs[gang], mapped.pods[pod as usize])
            }
        });
        self.take_all(mapped.free.iter().copied().chain(chosen).collect());
        if !self.is_settled() {
            self.give_all_own();
        }
        let keeps_shares =
            self.units.split_last().map(|(last, rest)| (last.clone(), rest.to_vec()));
        let keeps_shares = keeps_shares.is_none_or(|(last, rest)| self.keeps_shares(&rest, &last));
        let stands = keeps_shares && self.keeps_budgets() && self.is_settled();
        if !stands || self.total < self.needed {
            return false;
        }
        self.give_back();
        true
    }

    /// Takes every single member that no share protects.
    fn give_all_own(&mut self) {
        for place in 0..self.candidates.len() {
            let candidate = &self.candidates[place];
            if candidate.leaving || candidate.is_sheltered(self.claimant) {
                continue;
            }
            for at in 0..candidate.pods.len() - candidate.kept {
                let unit = Unit::Elastic(place, at);
                if self.is_legal(unit) {
                    let taken = self.take(unit);
                    self.units.push(taken);
                }
            }
        }
    }

    /// The model for the class that is counted; `None`: it asks for nothing that is contested.
    fn mapped(&mut self) -> Option<Mapped> {
        let class = self.cluster.class(self.class);
        let asked: SmallVec<[(ResourceId, i64); 4]> =
            class.requests.iter().copied().filter(|(_, amount)| *amount > 0).collect();
        let contested = asked.iter().position(|(resource, _)| *resource == self.contested[0])?;
        let ask: Amounts = asked.iter().map(|(_, amount)| *amount).collect();
        let asked: SmallVec<[ResourceId; 4]> =
            asked.iter().map(|(resource, _)| *resource).collect();
        let model = Model { ask, contested, ..Model::default() };
        let mut mapped = Mapped { model, free: Vec::new(), gangs: Vec::new(), pods: Vec::new() };
        let mut numbers = Numbers::default();
        mapped.model.budgets.clone_from(&self.allowed);
        self.map_nodes(&mut mapped.model, &mut numbers, &asked);
        let far = self.beyond_reach();
        let levels = self.levels();
        for place in 0..self.candidates.len() {
            let candidate = &self.candidates[place];
            if !candidate.given && !candidate.leaving && far.contains(&candidate.leaf) {
                continue;
            }
            if self.map_free(&mut mapped, &numbers, &asked, place) {
                continue;
            }
            // of the first level are all that may not end: of it nobody ends
            let level = levels.binary_search(&self.priority(place)).map_or(0, |level| level + 1);
            self.map_gang(&mut mapped, &mut numbers, &asked, (place, level as u32));
        }
        Some(mapped)
    }

    /// Priorities of the gangs that may end, the lowest first.
    fn levels(&self) -> Vec<super::Priority> {
        let ends = (0..self.candidates.len()).filter(|place| self.candidates[*place].whole);
        let mut levels: Vec<super::Priority> = ends.map(|place| self.priority(place)).collect();
        levels.sort_unstable();
        levels.dedup();
        levels
    }

    /// Nodes where somebody may go; what fits on the others is seated there.
    fn map_nodes(&self, model: &mut Model, numbers: &mut Numbers, asked: &[ResourceId]) {
        let class = self.cluster.class(self.class);
        let cap = if class.spec.host_ports.is_empty() { self.needed } else { 1 };
        let mut elsewhere = self.total;
        // the first is where pods are that make no room
        model.nodes.push(Place { free: asked.iter().map(|_| 0).collect(), ..Place::default() });
        for node in self.on_node.nodes().iter().copied() {
            elsewhere -= self.slots[node.index()];
            if self.is_closed(node) || !class.unknown.is_empty() || !self.suits(node) {
                continue;
            }
            let free = asked.iter().map(|resource| {
                self.cluster.allocatable(*resource, node) - self.cluster.requested(*resource, node)
            });
            numbers.nodes.insert(node, model.nodes.len() as u32);
            model.nodes.push(Place { free: free.collect(), most: cap, pods: SmallVec::new() });
        }
        model.needed = self.needed.saturating_sub(elsewhere);
    }

    /// Takes a candidate whose units are not tied to anything; whether it is one.
    fn map_free(
        &self,
        mapped: &mut Mapped,
        numbers: &Numbers,
        asked: &[ResourceId],
        place: usize,
    ) -> bool {
        let candidate = &self.candidates[place];
        if !candidate.leaving && candidate.is_tied(self.claimant) {
            return false;
        }
        let single = candidate.pods.len() - candidate.kept;
        let going = if candidate.whole { candidate.pods.len() } else { single };
        for pod in &candidate.pods[..going] {
            let Some(node) = numbers.nodes.get(&pod.node) else { continue };
            let free = &mut mapped.model.nodes[*node as usize].free;
            free.iter_mut().zip(self.held(asked, pod.class)).for_each(|(free, held)| *free += held);
        }
        match candidate.whole {
            true => mapped.free.push(Unit::Gang(place)),
            false => mapped.free.extend((0..single).map(|at| Unit::Elastic(place, at))),
        }
        true
    }

    fn map_gang(
        &mut self,
        mapped: &mut Mapped,
        numbers: &mut Numbers,
        asked: &[ResourceId],
        (place, level): (usize, u32),
    ) {
        let candidate = &self.candidates[place];
        let sheltered = candidate.is_sheltered(self.claimant);
        let mut queues: SmallVec<[u32; 4]> = SmallVec::new();
        if sheltered {
            for queue in self.protecting(candidate.leaf) {
                let next = numbers.queues.len() as u32;
                let number = *numbers.queues.entry(queue).or_insert(next);
                if number == next {
                    let room = self.room_of(queue);
                    mapped.model.queues.push(Tie { room });
                }
                queues.push(number);
            }
        }
        let model = &mut mapped.model;
        let (first, number) = (model.pods.len() as u32, model.gangs.len() as u32);
        let single = candidate.pods.len() - candidate.kept;
        let mut kinds: BTreeMap<(u32, ClassId, Option<u32>, Option<u32>), u32> = BTreeMap::new();
        let mut size = 0;
        for (at, pod) in candidate.pods.iter().enumerate() {
            let node = numbers.nodes.get(&pod.node).copied().unwrap_or(0);
            let held: Amounts = self.held(asked, pod.class).collect();
            size += held[model.contested];
            let budget = candidate.budgets.get(at).copied().flatten();
            let part = candidate.tasks.of.get(at).map(|part| *part as u32);
            let next = kinds.len() as u32;
            let kind = *kinds.entry((node, pod.class, budget, part)).or_insert(next);
            model.nodes[node as usize].pods.push(model.pods.len() as u32);
            model.pods.push(Pod { node, gang: number, held, kind, budget, part });
            mapped.pods.push(at);
        }
        model.gangs.push(Gang {
            first,
            pods: candidate.pods.len() as u32,
            single: single as u32,
            spare: candidate.spare,
            parts: candidate.tasks.spare.clone(),
            whole: candidate.whole,
            level,
            size,
            queues,
        });
        mapped.gangs.push(place);
    }

    fn held(&self, asked: &[ResourceId], class: ClassId) -> impl Iterator<Item = i64> {
        let class = self.cluster.class(class);
        asked.iter().map(move |resource| class.request(*resource))
    }

    /// Queues that share with the claimant only what is above them.
    fn protecting(&self, leaf: QueueIndex) -> Vec<QueueIndex> {
        let ancestor = self.fair.common_ancestor(leaf, self.claimant);
        self.fair.path(leaf).take_while(|queue| *queue != ancestor).collect()
    }

    /// What a queue may have given before its last unit goes.
    fn room_of(&mut self, queue: QueueIndex) -> i64 {
        let resource = self.contested[0];
        let less = self.less.of(queue).iter().filter(|(known, _)| *known == resource);
        let less: i64 = less.map(|(_, amount)| *amount).sum();
        let held = i128::from(self.fair.allocated(queue, resource) - less) * 1000;
        let excess = held - self.fair.deserved_milli(queue, resource);
        if excess <= 0 {
            return NOTHING;
        }
        i64::try_from((excess + 999).div_euclid(1000) - 1).unwrap_or(i64::MAX / 4)
    }

    /// Leaves of others from which nothing is due to the claimant, whatever its own queues give.
    fn beyond_reach(&mut self) -> Vec<QueueIndex> {
        if !self.is_bound {
            return Vec::new();
        }
        let own: Vec<QueueIndex> = self.fair.path(self.claimant).collect();
        let within: Vec<bool> = own.iter().map(|queue| self.could_be_within(*queue)).collect();
        let reached = within.iter().take_while(|within| **within).count();
        let mut leaves: Vec<QueueIndex> = self.candidates.iter().map(|c| c.leaf).collect();
        leaves.sort_unstable();
        leaves.dedup();
        leaves.retain(|leaf| {
            let ancestor = self.fair.common_ancestor(*leaf, self.claimant);
            own.iter().take_while(|queue| **queue != ancestor).count() > reached
        });
        leaves
    }

    /// Whether the claimant would stay within what a queue deserves if all below it gave the most.
    fn could_be_within(&mut self, queue: QueueIndex) -> bool {
        let mut less: SmallVec<[(ResourceId, i64); 8]> = SmallVec::from_slice(self.less.of(queue));
        for candidate in self.candidates.iter().filter(|candidate| !candidate.leaving) {
            if !self.fair.path(candidate.leaf).any(|above| above == queue) {
                continue;
            }
            for (resource, _) in self.extra {
                let held = |pod: &Assignment| self.cluster.class(pod.class).request(*resource);
                let given: i64 = if candidate.whole {
                    candidate.pods.iter().map(held).sum()
                } else {
                    let single = &candidate.pods[..candidate.pods.len() - candidate.kept];
                    let mut single: Vec<i64> = single.iter().map(held).collect();
                    single.sort_unstable();
                    single.iter().rev().take(candidate.spare as usize).sum()
                };
                match less.iter_mut().find(|(known, _)| known == resource) {
                    Some((_, sum)) => *sum += given,
                    None => less.push((*resource, given)),
                }
            }
        }
        self.fair.is_entitled_less(queue, self.extra, &less)
    }
}

/// Units that seat the claim in the model, and whether there are none: those that end gangs of the
/// lowest priorities only.
fn search(model: &Model) -> (Option<Vec<Choice>>, bool) {
    let ends = model.gangs.iter().filter(|gang| gang.whole).map(|gang| gang.level);
    let levels: BTreeSet<u32> = ends.chain([0]).collect();
    let mut is_none = false;
    for level in levels {
        let mut tree = Tree::new(model);
        let found = tree.search(level, EFFORT_MAX);
        if matches!(found, Ok(true)) {
            return (Some(tree.taken), false);
        }
        is_none = matches!(found, Ok(false));
    }
    (None, is_none)
}
