//! Claims that are seated in several places at once: slices, and task groups with places of their
//! own.
//!
//! Such a claim is cut into blocks, each of which is in one domain. Room is made for one block
//! after the other, where it is cheapest: a heap keeps what the block costs in each domain, and
//! what was not looked at since something was taken is looked at again when its turn comes. Where
//! that ends without room, and there are few units, sets of them are looked at. What goes is spared
//! at last as far as placing by the tree still seats the whole claim, so the seats are such as the
//! tree allows.

use super::claim::Within;
use super::{Cost, NO_PRIORITY, NO_RANK, Search, Taken, Unit};
use crate::cluster::{Assignment, ClassId, NodeIndex, PodIndex, Statement};
use crate::framework::Reads;
use crate::placement::{Demand, Rankings, Wanted};
use smallvec::SmallVec;
use std::cmp::Reverse;
use std::collections::BinaryHeap;

/// Nodes on which room for a block is looked for at most, those of a domain each time anew.
const NODES_MAX: usize = 20_000;

/// Units, up to which all sets are looked at where room for one block after the other is not found.
const EXACT_MAX: usize = 10;
/// Units, up to which else as many as may go are taken, and what can be is spared.
const UNITS_MAX: usize = 512;

/// So many members, or all, are in one domain of a depth.
struct Cut {
    depth: u8,
    size: Option<usize>,
    apart: bool,
}

/// Members with the places that they ask for, the outermost first.
struct Block {
    demands: Vec<Demand>,
    cuts: SmallVec<[Cut; 3]>,
}

/// What was taken and seated so far.
struct Laid {
    units: Vec<Taken>,
    seats: Vec<Assignment>,
    nodes_left: usize,
}

impl Search<'_> {
    /// Takes units until every block is seated.
    pub(super) fn run_cut(
        &mut self,
        rankings: &mut Rankings,
        demands: &[Demand],
        wanted: &Wanted,
    ) -> Option<Vec<Assignment>> {
        let blocks = self.blocks(demands, wanted)?;
        let outer = self.within;
        self.give_to(super::Bound::Ceiling)?;
        let given = self.units.len();
        let units = std::mem::take(&mut self.units);
        let mut laid = Laid { units, seats: Vec::new(), nodes_left: NODES_MAX };
        let mut blocks = blocks.iter();
        let is_laid =
            blocks.all(|block| self.lay(&block.demands, &block.cuts, outer, &mut laid).is_some());
        self.within = outer;
        laid.seats.iter().for_each(|seat| self.statement.evict(self.cluster, *seat));
        self.units = laid.units;
        let mut seats = laid.seats;
        if !is_laid {
            let taken: Vec<Taken> = self.units.drain(given..).collect();
            taken.iter().rev().for_each(|taken| self.put_back(taken));
            let units = self.all_units();
            if units.len() <= EXACT_MAX {
                self.take_first_set(&units, |search| {
                    search.tree_seats(rankings, demands, wanted).is_some()
                });
            } else if units.len() <= UNITS_MAX {
                self.take_what_may_go(&units);
            }
        }
        match self.tree_seats(rankings, demands, wanted) {
            Some(found) => seats = found,
            None if is_laid => {}
            None => return None,
        }
        let enough = |search: &mut Self| {
            let found = search.tree_seats(rankings, demands, wanted);
            let is_seated = found.is_some() || search.still_fit(&seats);
            if let Some(found) = found {
                seats = found;
            }
            is_seated
        };
        self.give_back_while(|_, _| true, enough);
        self.is_settled().then_some(seats)
    }

    /// What may be taken, those that would be spared last first: single members, then gangs.
    fn all_units(&mut self) -> Vec<Unit> {
        let mut units = Vec::new();
        for (place, candidate) in self.candidates.iter().enumerate() {
            let single = candidate.pods.len() - candidate.kept;
            let rank = candidate.class_rank();
            units.extend((0..single).map(|at| (false, rank, Unit::Elastic(place, at))));
            units.push((true, candidate.rank, Unit::Gang(place)));
        }
        units.sort_by_key(|(is_gang, rank, _)| (*is_gang, *rank));
        units.retain(|(_, _, unit)| self.is_legal(*unit));
        units.into_iter().map(|(_, _, unit)| unit).collect()
    }

    /// Takes as many of these as may be taken, in whatever order that is.
    fn take_what_may_go(&mut self, units: &[Unit]) {
        let mut before = None;
        while before.replace(self.units.len()) != Some(self.units.len()) {
            for unit in units {
                if self.is_legal(*unit) {
                    let taken = self.take(*unit);
                    self.units.push(taken);
                }
            }
        }
    }

    /// Takes the first set that is enough: fewest gangs, then fewest units. O(2^units).
    fn take_first_set(&mut self, units: &[Unit], mut enough: impl FnMut(&mut Self) -> bool) {
        let of = |set: u32| (0..units.len()).filter(move |at| set & 1 << at > 0);
        let mut sets: Vec<u32> = (1..1 << units.len()).collect();
        sets.sort_by_cached_key(|set| {
            let gangs = of(*set).filter(|at| matches!(units[*at], Unit::Gang(_)));
            (gangs.count(), set.count_ones(), *set)
        });
        let given = self.units.len();
        for set in sets {
            // of those that carry a queue below its share the larger ones come last
            let mut chosen: Vec<Unit> = of(set).map(|at| units[at]).collect();
            chosen.sort_by_key(|unit| self.would_take(*unit).pods.len());
            self.take_what_may_go(&chosen);
            let is_whole = self.units.len() - given == chosen.len();
            if is_whole && self.is_settled() && enough(self) {
                return;
            }
            let taken: Vec<Taken> = self.units.drain(given..).collect();
            taken.iter().rev().for_each(|taken| self.put_back(taken));
        }
    }

    /// Seats that placing by the tree finds as things stand on paper.
    fn tree_seats(
        &mut self,
        rankings: &mut Rankings,
        demands: &[Demand],
        wanted: &Wanted,
    ) -> Option<Vec<Assignment>> {
        let needed = demands.iter().map(|demand| demand.pods.len()).sum::<usize>();
        let needed = u32::try_from(needed).expect("groups are bounded");
        self.seats_by(rankings, demands, needed, Some(wanted)).ok()
    }

    /// Whether these very seats are free as things stand on paper.
    fn still_fit(&mut self, seats: &[Assignment]) -> bool {
        let mut paper = Statement::default();
        let start = paper.checkpoint();
        let fit = seats.iter().all(|seat| {
            let class = self.cluster.class(seat.class);
            let passes = self.profile.passes(Reads::Usage, self.cluster, class, seat.node);
            paper.assume(self.cluster, *seat);
            passes
        });
        paper.rollback(self.cluster, start);
        fit
    }

    /// The claim as blocks; `None`: it asks for what is not looked for here.
    fn blocks(&self, demands: &[Demand], wanted: &Wanted) -> Option<Vec<Block>> {
        let host = self.cluster.domains().host_depth();
        let cuts = |wanted: &Wanted, from: u8| {
            let required = wanted.required.filter(|depth| *depth >= from);
            let all = required.map(|depth| Cut { depth, size: None, apart: false });
            let slices = wanted.slices.iter().map(|slices| Cut {
                depth: slices.depth,
                size: Some(slices.size as usize),
                apart: slices.apart,
            });
            all.into_iter().chain(slices).collect::<SmallVec<[Cut; 3]>>()
        };
        // the domains of larger levels are tried one by one, as for a claim that is not cut
        let of_all = cuts(wanted, host);
        if wanted.parts.is_empty() {
            let is_one = demands.len() == 1 || wanted.slices.is_empty();
            return is_one.then(|| vec![Block { demands: demands.to_vec(), cuts: of_all }]);
        }
        if !of_all.is_empty() {
            return None;
        }
        let mut blocks = Vec::new();
        let mut rest = demands.to_vec();
        for part in wanted.parts.iter().filter(|part| part.is_bound()) {
            let is_own = |pod: &PodIndex| part.pods.binary_search(pod).is_ok();
            let own = split(&mut rest, is_own);
            if own.len() > 1 && !part.wanted.slices.is_empty() {
                return None;
            }
            if !own.is_empty() {
                blocks.push(Block { demands: own, cuts: cuts(&part.wanted, 0) });
            }
        }
        blocks.push(Block { demands: rest, cuts: SmallVec::new() });
        Some(blocks)
    }

    /// Makes room for a block, and seats it.
    fn lay(
        &mut self,
        demands: &[Demand],
        cuts: &[Cut],
        within: Within,
        laid: &mut Laid,
    ) -> Option<()> {
        let Some((cut, inner)) = cuts.split_first() else {
            return self.lay_here(demands, within, laid);
        };
        let places = self.places(cut.depth, within);
        let mut heap: Option<BinaryHeap<Reverse<(Cost, usize)>>> = None;
        for chunk in chunks(demands, cut.size) {
            let heap = match &mut heap {
                Some(heap) => heap,
                heap @ None => {
                    let mut costs = BinaryHeap::new();
                    for (at, place) in places.iter().enumerate() {
                        let cost = self.price_of(&chunk, inner, *place, laid);
                        costs.extend(cost.map(|cost| Reverse((cost, at))));
                    }
                    heap.insert(costs)
                }
            };
            let at = loop {
                let Reverse((expected, at)) = heap.pop()?;
                let Some(cost) = self.price_of(&chunk, inner, places[at], laid) else { continue };
                if cost <= expected {
                    break at;
                }
                heap.push(Reverse((cost, at)));
            };
            self.lay(&chunk, inner, places[at], laid)?;
            if !cut.apart {
                let cost = self.price_of(&chunk, inner, places[at], laid);
                heap.extend(cost.map(|cost| Reverse((cost, at))));
            }
        }
        Some(())
    }

    /// Makes room anywhere within a place.
    fn lay_here(&mut self, demands: &[Demand], within: Within, laid: &mut Laid) -> Option<()> {
        let nodes = self.nodes_within(within);
        laid.nodes_left = laid.nodes_left.checked_sub(nodes.len())?;
        self.within = within;
        for demand in demands {
            let fits = self.seat_class(demand);
            if fits.is_some() {
                self.give_back();
            }
            laid.units.append(&mut self.units);
            fits?;
            self.seat_members(demand, &nodes, &mut laid.seats);
        }
        Some(())
    }

    /// Seats all members of a class on paper where slots were counted for them.
    pub(super) fn seat_members(
        &mut self,
        demand: &Demand,
        nodes: &[NodeIndex],
        seats: &mut Vec<Assignment>,
    ) {
        let mut pods = demand.pods.iter();
        for node in nodes.iter().copied() {
            let here = self.slots[node.index()] as usize;
            for pod in pods.by_ref().take(here) {
                let seat = Assignment { pod: *pod, class: demand.class, node };
                self.statement.assume(self.cluster, seat);
                seats.push(seat);
            }
        }
        assert!(pods.next().is_none(), "slots were counted for every member");
    }

    /// What room for a block within a place costs; everything is as before then.
    fn price_of(
        &mut self,
        demands: &[Demand],
        cuts: &[Cut],
        place: Within,
        laid: &mut Laid,
    ) -> Option<Cost> {
        let (units, seats) = (laid.units.len(), laid.seats.len());
        let cost = self.lay(demands, cuts, place, laid).map(|()| {
            let domains = self.cluster.domains();
            let tie = match place {
                Within::Everywhere => 0,
                Within::Domain(domain) => domains.get(domain).tie as u32,
                Within::Node(node) => self.cluster.node(node).tie,
            };
            self.cost_of(&laid.units[units..], tie)
        });
        let taken_back = laid.seats.drain(seats..).rev();
        taken_back.for_each(|seat| self.statement.evict(self.cluster, seat));
        laid.units.drain(units..).rev().for_each(|taken| self.put_back(&taken));
        cost
    }

    fn cost_of(&self, units: &[Taken], tie: u32) -> Cost {
        let (mut highest, mut ended, mut pods, mut rank) = (NO_PRIORITY, 0, 0, NO_RANK);
        for taken in units {
            let candidate = &self.candidates[taken.place()];
            match taken.unit {
                Unit::Elastic(place, _) => rank = rank.max(candidate.single_rank(self.gone(place))),
                Unit::Gang(place) => {
                    rank = rank.max(candidate.rank);
                    highest = highest.max(self.priority(place));
                    ended += 1;
                }
            }
            pods += if candidate.leaving { 0 } else { taken.pods.len() as u64 };
        }
        (highest, ended, pods, rank, tie)
    }

    /// Places of a depth within another.
    fn places(&self, depth: u8, within: Within) -> Vec<Within> {
        let domains = self.cluster.domains();
        match within {
            Within::Node(_) => vec![within],
            Within::Domain(outer) if domains.get(outer).depth >= depth => vec![within],
            _ if depth >= domains.host_depth() => {
                self.nodes_within(within).into_iter().map(Within::Node).collect()
            }
            Within::Everywhere => domains.at_depth(depth).map(Within::Domain).collect(),
            Within::Domain(outer) => {
                let is_inside = |domain: &_| domains.upwards(*domain).any(|above| above == outer);
                domains.at_depth(depth).filter(is_inside).map(Within::Domain).collect()
            }
        }
    }

    /// The nodes within a place, ascending.
    pub(super) fn nodes_within(&self, within: Within) -> Vec<NodeIndex> {
        match within {
            Within::Everywhere => (0..self.cluster.node_slots()).map(NodeIndex::at).collect(),
            Within::Node(node) => vec![node],
            Within::Domain(domain) => {
                let mut nodes: Vec<NodeIndex> = self.cluster.domains().nodes_in(domain).collect();
                nodes.sort_unstable();
                nodes
            }
        }
    }
}

/// Takes out the pods that are asked for.
fn split(demands: &mut Vec<Demand>, is_own: impl Fn(&PodIndex) -> bool) -> Vec<Demand> {
    let take = |class: ClassId, pods: SmallVec<[PodIndex; 4]>| {
        (!pods.is_empty()).then_some(Demand { class, headers: 0, pods })
    };
    let mut own = Vec::new();
    for demand in demands.iter_mut() {
        let pods = std::mem::take(&mut demand.pods);
        let (of_it, others) = pods.into_iter().partition(&is_own);
        demand.pods = others;
        own.extend(take(demand.class, of_it));
    }
    demands.retain(|demand| !demand.pods.is_empty());
    own
}

/// Members in chunks of so many; all together without a size. Where there is one, they are of one
/// class.
fn chunks(demands: &[Demand], size: Option<usize>) -> Vec<Vec<Demand>> {
    let (Some(size), [demand]) = (size, demands) else { return vec![demands.to_vec()] };
    let chunks = demand.pods.chunks(size.max(1));
    chunks.map(|pods| vec![Demand { class: demand.class, headers: 0, pods: pods.into() }]).collect()
}
