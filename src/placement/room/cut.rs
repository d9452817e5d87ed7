//! Claims that are seated in several places at once: slices, and task groups with places of their
//! own.
//!
//! Room is made for one block after the other, where it is cheapest. Where that ends without room,
//! and there are few units, sets of them are looked at. What goes is spared at last as far as
//! placing by the tree still seats the whole claim, or laying its blocks in some other order does.

use super::{Cost, NO_PRIORITY, NO_RANK, Search, Taken, Unit};
use crate::cluster::{Assignment, Cluster, NodeIndex, Statement};
use crate::framework::Reads;
use crate::placement::blocks::{Block, Ground, Within, blocks, lay_all};
use crate::placement::place::members;
use crate::placement::{Demand, Rankings, Wanted};

/// Nodes on which room for a block is looked for at most, those of a domain each time anew.
const NODES_MAX: usize = 20_000;

/// Units, up to which all sets are looked at where room for one block after the other is not found.
const EXACT_MAX: usize = 10;
/// Units, up to which else as many as may go are taken, and what can be is spared.
const UNITS_MAX: usize = 512;

/// Blocks of which all orders are tried where what goes is to be spared, and members of all.
const ORDERED_MAX: usize = 4;
const ORDERED_MEMBERS_MAX: u32 = 64;

/// All orders.
fn orders(of: Vec<usize>) -> Vec<Vec<usize>> {
    if of.len() < 2 {
        return vec![of];
    }
    let first = |at: usize| {
        let mut others = of.clone();
        let first = others.remove(at);
        orders(others).into_iter().map(move |mut order| {
            order.insert(0, first);
            order
        })
    };
    (0..of.len()).flat_map(first).collect()
}

/// What was taken and seated so far, on the nodes of a search.
struct Laying<'s, 'a> {
    search: &'s mut Search<'a>,
    /// only what is free is used
    takes_none: bool,
    units: Vec<Taken>,
    seats: Vec<Assignment>,
    nodes_left: usize,
}

impl<'s, 'a> Laying<'s, 'a> {
    fn new(search: &'s mut Search<'a>, units: Vec<Taken>, takes_none: bool) -> Self {
        Self { search, takes_none, units, seats: Vec::new(), nodes_left: NODES_MAX }
    }
}

impl Ground for Laying<'_, '_> {
    type Price = Cost;
    type Mark = (usize, usize);

    fn cluster(&self) -> &Cluster {
        self.search.cluster
    }

    fn mark(&self) -> Self::Mark {
        (self.units.len(), self.seats.len())
    }

    fn seat(&mut self, demands: &[Demand], within: Within) -> Option<()> {
        let nodes = within.nodes(self.search.cluster);
        self.nodes_left = self.nodes_left.checked_sub(nodes.len())?;
        self.search.within = within;
        for demand in demands {
            if self.takes_none {
                self.search.count_class(demand);
                (self.search.total >= self.search.needed).then_some(())?;
            } else {
                let fits = self.search.seat_class(demand);
                if fits.is_some() {
                    self.search.give_back();
                }
                self.units.append(&mut self.search.units);
                fits?;
            }
            self.search.seat_members(demand, &nodes, &mut self.seats);
        }
        Some(())
    }

    fn price(&self, (units, _): Self::Mark, place: Within) -> Cost {
        self.search.cost_of(&self.units[units..], place.tie(self.search.cluster))
    }

    fn undo(&mut self, (units, seats): Self::Mark) {
        let Self { search, .. } = self;
        let taken_back = self.seats.drain(seats..).rev();
        taken_back.for_each(|seat| search.statement.evict(search.cluster, seat));
        self.units.drain(units..).rev().for_each(|taken| search.put_back(&taken));
    }
}

impl Search<'_> {
    /// Takes units until every block is seated.
    pub(super) fn run_cut(
        &mut self,
        rankings: &mut Rankings,
        demands: &[Demand],
        wanted: &Wanted,
    ) -> Option<Vec<Assignment>> {
        let outer = self.within;
        let blocks = blocks(self.cluster, demands, wanted, outer)?;
        self.give_to(super::Bound::Ceiling)?;
        let given = self.units.len();
        let units = std::mem::take(&mut self.units);
        let mut laying = Laying::new(self, units, false);
        let is_laid = lay_all(&mut laying, &blocks).is_some();
        let Laying { units, mut seats, .. } = laying;
        self.within = outer;
        seats.iter().for_each(|seat| self.statement.evict(self.cluster, *seat));
        self.units = units;
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
            if found.is_none() && search.still_fit(&seats) {
                return true;
            }
            let found = found.or_else(|| search.lay_in_some_order(&blocks));
            let is_seated = found.is_some();
            seats = found.unwrap_or(std::mem::take(&mut seats));
            is_seated
        };
        self.give_back_while(enough);
        self.is_settled().then_some(seats)
    }

    /// Seats few blocks on what is free as things stand, in the first order that does.
    fn lay_in_some_order(&mut self, blocks: &[Block]) -> Option<Vec<Assignment>> {
        let members: u32 = blocks.iter().map(Block::members).sum();
        if !(2..=ORDERED_MAX).contains(&blocks.len()) || members > ORDERED_MEMBERS_MAX {
            return None;
        }
        let outer = self.within;
        let units = std::mem::take(&mut self.units);
        let mut orders = orders((0..blocks.len()).collect()).into_iter();
        let found = orders.find_map(|order| {
            let mut laying = Laying::new(self, Vec::new(), true);
            let laid = lay_all(&mut laying, order.iter().map(|at| &blocks[*at]));
            let seats = laying.seats;
            seats.iter().for_each(|seat| self.statement.evict(self.cluster, *seat));
            laid.map(|()| seats)
        });
        (self.units, self.within) = (units, outer);
        found
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
        self.seats_by(rankings, demands, members(demands), Some(wanted)).ok()
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
}
