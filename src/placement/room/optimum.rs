//! The best of all victim sets in a small world.
//!
//! The greedy search takes the cheapest step and may end in a dear place. With few nodes every
//! choice that could be cheaper is looked at: which gangs end, and which single members go on each
//! node. What the nodes still to come need at least, were members not bound to gangs, turns the
//! search back early.

use super::{Candidate, NO_PRIORITY, NO_RANK, Priority, Rank, Search, Taken, Unit};
use crate::cluster::{Assignment, ClassId, NodeIndex};
use smallvec::SmallVec;
use std::cmp::Reverse;

/// Nodes with candidates, up to which every choice is looked at.
const NODES_MAX: usize = 24;
/// Moves of a pod on paper, after which the best that is known stands.
pub(super) const EFFORT_MAX: u32 = 20_000;

/// The highest priority of a gang that ends, gangs ended, pods evicted, the highest rank hit.
pub(super) type Price = (Priority, u32, u32, Rank);

/// Members that go on one node, none of which could stay for as many slots.
struct Choice {
    gained: u32,
    pods: u32,
    rank: Rank,
    members: SmallVec<[(usize, usize); 8]>,
}

/// Single members of one candidate, of one class and task group, on one node: one is as good as
/// another.
struct Kind {
    place: usize,
    class: ClassId,
    members: SmallVec<[usize; 8]>,
}

/// The ways found on a node so far, and the members that are taken there.
struct Listing {
    node: NodeIndex,
    /// slots with nobody taken
    before: u32,
    /// slots that are enough
    enough: u32,
    members: SmallVec<[(usize, usize); 8]>,
    choices: Vec<Choice>,
}

struct Optimum {
    nodes: Vec<NodeIndex>,
    effort: u32,
    best: Option<(Price, Vec<Unit>)>,
    taken: Vec<Taken>,
    /// `[node][slots]`: pods that this node and those after it cost at least
    least: Vec<Vec<u32>>,
    choices: Vec<Vec<Choice>>,
}

/// The effort is spent.
pub(super) struct Spent;

impl Search<'_> {
    /// Whether every choice can be looked at.
    pub(super) fn is_small(&self) -> bool {
        self.on_node.nodes().len() <= NODES_MAX
    }

    /// Replaces the units taken by the cheapest that seat the class, or finds some where the steps
    /// found none. Whether every choice was looked at: then what is known now is the best.
    pub(super) fn improve(&mut self) -> bool {
        let nodes = self.on_node.nodes().to_vec();
        let seats = self.total >= self.needed;
        self.unite();
        let best = seats.then(|| self.price(&self.units));
        let units: Vec<Unit> = self.units.iter().map(|taken| taken.unit).collect();
        while let Some(taken) = self.units.pop() {
            self.put_back(&taken);
        }
        if best.is_some_and(|(_, gangs, pods, _)| gangs == 0 && self.is_least(pods)) {
            self.take_all(units);
            return true;
        }
        let best = best.map(|price| (price, units));
        let mut optimum = Optimum {
            nodes,
            effort: 0,
            best,
            taken: Vec::new(),
            least: Vec::new(),
            choices: Vec::new(),
        };
        let all = self.search_levels(&mut optimum);
        while let Some(taken) = optimum.taken.pop() {
            self.put_back(&taken);
        }
        self.take_all(optimum.best.map_or_else(Vec::new, |(_, units)| units));
        all.is_ok()
    }

    /// Ends no gang, then gangs of the lowest priority, then of that and the next: few before many.
    fn search_levels(&mut self, o: &mut Optimum) -> Result<(), Spent> {
        self.end_gangs(o, &[], 0)?;
        let mut gangs: Vec<usize> = (0..self.candidates.len())
            .filter(|place| self.candidates[*place].whole && !self.candidates[*place].leaving)
            .collect();
        gangs.sort_by_key(|place| self.candidates[*place].rank);
        let mut levels: Vec<Priority> = gangs.iter().map(|gang| self.priority(*gang)).collect();
        levels.dedup();
        for level in levels {
            let open = gangs.iter().filter(|gang| self.priority(**gang) <= level).count();
            for ended in 1..=open {
                let known = o.best.as_ref().map(|(best, _)| (best.0, best.1 as usize));
                if known.is_some_and(|known| known < (level, ended)) {
                    return Ok(());
                }
                self.end_gangs(o, &gangs[..open], ended)?;
            }
        }
        Ok(())
    }

    pub(super) fn take_all(&mut self, units: Vec<Unit>) {
        for unit in units {
            let taken = self.take(unit);
            self.units.push(taken);
        }
    }

    /// Makes members that were taken of a gang before it was taken whole a part of the whole.
    pub(super) fn unite(&mut self) {
        for at in 0..self.units.len() {
            let Unit::Gang(place) = self.units[at].unit else { continue };
            let pods = (0..self.taken[place].len()).map(|pod| (place, pod));
            self.units[at].pods = pods.collect();
            self.spare[place] = self.candidates[place].spare;
            self.task_spare[place].clone_from(&self.candidates[place].tasks.spare);
        }
        let ended: Vec<Unit> = self.units.iter().map(|taken| taken.unit).collect();
        self.units.retain(|taken| match taken.unit {
            Unit::Elastic(place, _) => !ended.contains(&Unit::Gang(place)),
            Unit::Gang(_) => true,
        });
    }

    /// Whether no fewer pods can seat the class: each that could go makes room for one at most.
    /// The steps took the lowest rank each time then.
    fn is_least(&self, pods: u32) -> bool {
        let wanted = self.needed.saturating_sub(self.total);
        let class = self.cluster.class(self.class);
        let is_small = |pod: &Assignment| {
            let held = self.cluster.class(pod.class);
            class.requests.iter().all(|(resource, amount)| held.request(*resource) <= *amount)
        };
        let mut all = self.candidates.iter().flat_map(|candidate| &candidate.pods);
        pods == wanted && all.all(is_small)
    }

    pub(super) fn price(&self, units: &[Taken]) -> Price {
        let mut price = (NO_PRIORITY, 0, 0, NO_RANK);
        for taken in units {
            let (Unit::Elastic(place, _) | Unit::Gang(place)) = taken.unit;
            let candidate = &self.candidates[place];
            let rank = match taken.unit {
                Unit::Elastic(..) => candidate.class_rank(),
                Unit::Gang(_) => {
                    price.0 = price.0.max(self.priority(place));
                    price.1 += 1;
                    candidate.rank
                }
            };
            price.2 += if candidate.leaving { 0 } else { taken.pods.len() as u32 };
            price.3 = price.3.max(rank);
        }
        price
    }

    /// Ends `left` more of the `gangs`, in every way.
    fn end_gangs(&mut self, o: &mut Optimum, gangs: &[usize], left: usize) -> Result<(), Spent> {
        if left == 0 {
            if self.total < self.needed {
                self.list_choices(o)?;
            }
            return self.choose(o, 0);
        }
        for (at, gang) in gangs.iter().enumerate() {
            if gangs.len() - at < left {
                break;
            }
            o.spend(self.candidates[*gang].pods.len())?;
            let taken = self.take(Unit::Gang(*gang));
            let is_admissible = self.keeps_budgets() && self.keeps_shares(&o.taken, &taken);
            o.taken.push(taken);
            if is_admissible {
                self.end_gangs(o, &gangs[at + 1..], left - 1)?;
            }
            let taken = o.taken.pop().expect("it was pushed");
            self.put_back(&taken);
        }
        Ok(())
    }

    /// Lists what each node can give with the gangs that have ended, and what slots cost at least.
    fn list_choices(&mut self, o: &mut Optimum) -> Result<(), Spent> {
        o.choices.clear();
        for node in o.nodes.clone() {
            let before = self.slots[node.index()];
            let enough = before + self.needed - self.total;
            let (members, choices) = (SmallVec::new(), Vec::new());
            let mut list = Listing { node, before, enough, members, choices };
            let all = self.list_on(o, &mut list, &self.kinds(node));
            list.members.drain(..).rev().for_each(|member| self.put_back(&single(member)));
            all?;
            list.choices.sort_by_key(|c: &Choice| (c.pods, c.rank, Reverse(c.gained)));
            o.choices.push(list.choices);
        }
        let wanted = self.needed.saturating_sub(self.total) as usize;
        o.least = vec![vec![u32::MAX; wanted + 1]; o.nodes.len() + 1];
        o.least[o.nodes.len()][0] = 0;
        for node in (0..o.nodes.len()).rev() {
            for slots in 0..=wanted {
                let after = |gained: u32| o.least[node + 1][slots.saturating_sub(gained as usize)];
                let costs = o.choices[node].iter().map(|c| after(c.gained).saturating_add(c.pods));
                let least = costs.chain([after(0)]).min();
                o.least[node][slots] = least.expect("nothing may be taken from a node");
            }
        }
        Ok(())
    }

    fn kinds(&self, node: NodeIndex) -> Vec<Kind> {
        let mut kinds: Vec<Kind> = Vec::new();
        for (place, at) in self.on_node.of(node) {
            let candidate = &self.candidates[*place];
            if at + candidate.kept >= candidate.pods.len()
                || self.taken[*place][*at]
                || self.left(*place, *at) == 0
            {
                continue;
            }
            let class = candidate.pods[*at].class;
            let task = candidate.tasks.of.get(*at);
            let same = |kind: &&mut Kind| {
                let tasks = &self.candidates[kind.place].tasks;
                let alike = kind.place == *place && kind.class == class;
                alike && tasks.of.get(kind.members[0]) == task
            };
            match kinds.iter_mut().find(same) {
                Some(kind) => kind.members.push(*at),
                None => {
                    let members = SmallVec::from_slice(&[*at]);
                    kinds.push(Kind { place: *place, class, members });
                }
            }
        }
        kinds.iter_mut().for_each(|kind| kind.members.sort_unstable());
        kinds
    }

    /// Every way to gain slots on a node of which no member could be left out.
    fn list_on(
        &mut self,
        o: &mut Optimum,
        list: &mut Listing,
        kinds: &[Kind],
    ) -> Result<(), Spent> {
        let slots = self.slots[list.node.index()];
        let Some((kind, others)) = kinds.split_first().filter(|_| slots < list.enough) else {
            if slots > list.before && self.is_lean(o, list)? {
                let members = list.members.iter();
                let costly = members.clone().filter(|(place, _)| !self.candidates[*place].leaving);
                let ranks = members.clone().map(|(place, _)| self.candidates[*place].class_rank());
                list.choices.push(Choice {
                    gained: slots - list.before,
                    pods: costly.count() as u32,
                    rank: ranks.max().expect("slots were gained"),
                    members: list.members.clone(),
                });
            }
            return Ok(());
        };
        self.list_on(o, list, others)?;
        let most = kind.members.len().min(self.left(kind.place, kind.members[0]) as usize);
        for at in &kind.members[..most] {
            o.spend(1)?;
            self.take(Unit::Elastic(kind.place, *at));
            list.members.push((kind.place, *at));
            self.list_on(o, list, others)?;
        }
        for _ in 0..most {
            let member = list.members.pop().expect("they were pushed");
            self.put_back(&single(member));
        }
        Ok(())
    }

    /// Whether each of the members is needed for the slots of the node.
    fn is_lean(&mut self, o: &mut Optimum, list: &Listing) -> Result<bool, Spent> {
        let slots = self.slots[list.node.index()];
        for member in &list.members {
            o.spend(1)?;
            self.put_back(&single(*member));
            let is_needed = self.slots[list.node.index()] < slots;
            self.take(single(*member).unit);
            if !is_needed {
                return Ok(false);
            }
        }
        Ok(true)
    }

    /// Chooses what goes on the nodes from `node` on, in every way that could be the best.
    fn choose(&mut self, o: &mut Optimum, node: usize) -> Result<(), Spent> {
        let price = self.price(&o.taken);
        if self.total >= self.needed {
            if o.best.as_ref().is_none_or(|(best, _)| price < *best) {
                let mut units: Vec<Taken> = o.taken.clone();
                units.sort_by_key(|taken| self.held_by(taken));
                o.best = Some((price, units.into_iter().map(|taken| taken.unit).collect()));
            }
            return Ok(());
        }
        let wanted = (self.needed - self.total) as usize;
        let cost = o.least[node][wanted];
        let bound = (price.0, price.1, price.2.saturating_add(cost), price.3);
        let is_dearer = o.best.as_ref().is_some_and(|(best, _)| bound >= *best);
        if node == o.nodes.len() || cost == u32::MAX || is_dearer {
            return Ok(());
        }
        for choice in 0..o.choices[node].len() {
            let start = o.taken.len();
            let mut is_admissible = true;
            for member in o.choices[node][choice].members.clone() {
                is_admissible = is_admissible && self.left(member.0, member.1) > 0;
                if is_admissible {
                    o.spend(1)?;
                    let taken = self.take(single(member).unit);
                    is_admissible = self.keeps_budgets() && self.keeps_shares(&o.taken, &taken);
                    o.taken.push(taken);
                }
            }
            if is_admissible {
                self.choose(o, node + 1)?;
            }
            for taken in o.taken.drain(start..).rev() {
                self.put_back(&taken);
            }
        }
        self.choose(o, node + 1)
    }

    /// What a unit holds of what is contested.
    pub(super) fn held_by(&self, taken: &Taken) -> i64 {
        let pods = taken.pods.iter().map(|(place, at)| self.candidates[*place].pods[*at]);
        pods.map(|pod| self.held_of_asked(pod)).sum()
    }

    /// Whether there is an order in which each unit, `last` among them, is taken from queues that
    /// are above their shares. The greatest last is such an order if any is.
    pub(super) fn keeps_shares(&mut self, others: &[Taken], last: &Taken) -> bool {
        let mut units: Vec<&Taken> = others.iter().chain([last]).collect();
        if units.iter().all(|taken| self.is_free(taken)) {
            return true;
        }
        units.sort_by_key(|taken| Reverse(self.held_by(taken)));
        // with all taken on paper, the greatest is put back first
        let mut keeps = true;
        for taken in &units {
            self.count_less(taken, -1);
            keeps = keeps && (self.is_free(taken) || self.is_due(taken));
        }
        units.iter().for_each(|taken| self.count_less(taken, 1));
        keeps
    }

    /// Whether the units taken and this one are due in some order.
    pub(super) fn is_due_in_some_order(&mut self, unit: Unit) -> bool {
        let taken = self.would_take(unit);
        let units = std::mem::take(&mut self.units);
        self.count_less(&taken, 1);
        let is_due = self.keeps_shares(&units, &taken);
        self.count_less(&taken, -1);
        self.units = units;
        is_due
    }

    fn is_due(&mut self, taken: &Taken) -> bool {
        let Candidate { leaf, given, .. } = self.candidates[taken.place()];
        self.is_above(leaf) && (given || self.is_due_narrowed(taken))
    }

    /// Whether no share protects it.
    fn is_free(&self, taken: &Taken) -> bool {
        !self.candidates[taken.place()].is_sheltered(self.claimant)
    }

    fn count_less(&mut self, taken: &Taken, sign: i64) {
        for (place, at) in &taken.pods {
            let candidate = &self.candidates[*place];
            self.less_by(candidate.leaf, candidate.pods[*at], sign);
        }
    }
}

fn single((place, at): (usize, usize)) -> Taken {
    Taken { unit: Unit::Elastic(place, at), pods: SmallVec::from_buf([(place, at)]) }
}

impl Optimum {
    fn spend(&mut self, moves: usize) -> Result<(), Spent> {
        self.effort += moves as u32;
        if self.effort > EFFORT_MAX { Err(Spent) } else { Ok(()) }
    }
}
