//! The best victims for a single pod.
//!
//! Each unit of a minimal set has a pod on the node of the seat, unless the claimant's own queues
//! must give something first. So the nodes are looked at one by one, and on each of them every set
//! of units. Units are taken in one order only, which is admissible if any is: those nearest to the
//! claimant in the tree first, for what they give may entitle it to what others hold, and among
//! these the smallest first, for only the last may carry a queue below its share.

use super::optimum::{EFFORT_MAX, Price, Spent};
use super::shares::Bound;
use super::{Search, Taken, Unit};
use crate::cluster::{ClassId, NodeIndex};
use smallvec::SmallVec;
use std::cmp::Reverse;

/// A unit with a pod on the node.
struct Piece {
    unit: Unit,
    /// Members of one kind are as good as one another: candidate, class, task group and disruption
    /// budget of a single member.
    kind: Option<(usize, ClassId, Option<usize>, Option<u32>)>,
    /// of each resource that the class asks for: what this one and all after it hold on the node
    rest: SmallVec<[i64; 4]>,
}

/// The sets looked at.
struct Seat {
    node: NodeIndex,
    pieces: Vec<Piece>,
    taken: Vec<Taken>,
    effort: u32,
    best: Option<(Price, Vec<Unit>)>,
}

impl Search<'_> {
    /// Replaces the units taken by the cheapest that seat one pod, or finds some where the steps
    /// found none. Whether every set was looked at: then what is known now is the best.
    /// O(candidates' pods x depth + sets looked at x depth).
    pub(super) fn improve_seat(&mut self) -> bool {
        self.unite();
        let seats = self.total >= self.needed && self.is_settled();
        let known = seats.then(|| self.price(&self.units));
        let units: Vec<Unit> = self.units.iter().map(|taken| taken.unit).collect();
        while let Some(taken) = self.units.pop() {
            self.put_back(&taken);
        }
        let best = known.map(|price| (price, units));
        let (node, pieces) = (NodeIndex::at(0), Vec::new());
        let mut seat = Seat { node, pieces, taken: Vec::new(), effort: 0, best };
        let mut all = self.try_nodes(&mut seat).is_ok();
        let is_simple = self.contested.len() == 1 && self.cluster.narrowed().is_empty();
        if self.is_bound {
            // others may give once the claimant's own have, wherever these are
            all = false;
            if seat.best.is_none() && self.give_to(Bound::Deserved).is_some() {
                seat.taken = std::mem::take(&mut self.units);
                let _ = self.try_nodes(&mut seat);
            }
            self.units.append(&mut seat.taken);
            while let Some(taken) = self.units.pop() {
                self.put_back(&taken);
            }
        }
        self.take_all(seat.best.map_or_else(Vec::new, |(_, units)| units));
        all && is_simple
    }

    fn try_nodes(&mut self, seat: &mut Seat) -> Result<(), Spent> {
        let mut nodes = self.on_node.nodes().to_vec();
        nodes.sort_unstable_by_key(|node| (self.cluster.node(*node).tie, *node));
        for node in nodes {
            seat.node = node;
            self.list_pieces(seat);
            self.try_from(seat, 0)?;
        }
        Ok(())
    }

    /// The units on the node that could be taken, in the order in which they are.
    fn list_pieces(&mut self, seat: &mut Seat) {
        seat.pieces.clear();
        let here = self.on_node.of(seat.node);
        let mut units: SmallVec<[Unit; 16]> = SmallVec::new();
        for (place, at) in here.iter().copied() {
            let candidate = &self.candidates[place];
            if at + candidate.kept < candidate.pods.len() {
                units.push(Unit::Elastic(place, at));
            }
            if candidate.whole && !units.contains(&Unit::Gang(place)) {
                units.push(Unit::Gang(place));
            }
        }
        // what nearer ones give may open those that are out of reach
        units.retain(|unit| self.is_bound || self.is_legal(*unit));
        if units.is_empty() {
            return;
        }
        let mut listed: Vec<_> = units
            .into_iter()
            .map(|unit| {
                let taken = self.would_take(unit);
                let place = taken.place();
                let candidate = &self.candidates[place];
                let above = self.fair.common_ancestor(candidate.leaf, self.claimant);
                let depth = self.fair.path(above).count();
                let kind = match unit {
                    Unit::Gang(_) => None,
                    Unit::Elastic(_, at) => {
                        let task = candidate.tasks.of.get(at).copied();
                        let budget = candidate.budgets.get(at).copied().flatten();
                        Some((place, candidate.pods[at].class, task, budget))
                    }
                };
                (Reverse(depth), self.held_by(&taken), kind, place, taken)
            })
            .collect();
        listed.sort_by_key(|(depth, held, kind, place, taken)| {
            let Unit::Elastic(_, at) = taken.unit else { return (*depth, *held, *kind, *place, 0) };
            (*depth, *held, *kind, *place, at)
        });
        let class = self.cluster.class(self.class);
        let mut rest: SmallVec<[i64; 4]> = class.requests.iter().map(|_| 0).collect();
        for (_, _, kind, _, taken) in listed.into_iter().rev() {
            for (place, at) in &taken.pods {
                let pod = self.candidates[*place].pods[*at];
                if pod.node == seat.node {
                    let held = self.cluster.class(pod.class);
                    let requests = class.requests.iter().zip(&mut rest);
                    requests.for_each(|((resource, _), sum)| *sum += held.request(*resource));
                }
            }
            seat.pieces.push(Piece { unit: taken.unit, kind, rest: rest.clone() });
        }
        seat.pieces.reverse();
    }

    /// Takes some of the pieces from one on, in every way that could be the best.
    fn try_from(&mut self, seat: &mut Seat, from: usize) -> Result<(), Spent> {
        let price = self.price(&seat.taken);
        if seat.best.as_ref().is_some_and(|(best, _)| price >= *best) {
            return Ok(());
        }
        if self.total >= self.needed {
            if self.is_settled() {
                let units = seat.taken.iter().map(|taken| taken.unit);
                seat.best = Some((price, units.collect()));
            }
            return Ok(());
        }
        for at in from..seat.pieces.len() {
            let Piece { unit, kind, .. } = seat.pieces[at];
            if !self.may_suffice(seat, at) {
                break;
            }
            let is_skipped = at > from && kind.is_some() && seat.pieces[at - 1].kind == kind;
            let (Unit::Gang(place) | Unit::Elastic(place, _)) = unit;
            let is_part = kind.is_none() && seat.taken.iter().any(|taken| taken.place() == place);
            if is_skipped || is_part || !self.is_legal(unit) {
                continue;
            }
            let taken = self.take(unit);
            seat.effort += taken.pods.len() as u32;
            seat.taken.push(taken);
            let tried =
                if seat.effort > EFFORT_MAX { Err(Spent) } else { self.try_from(seat, at + 1) };
            let taken = seat.taken.pop().expect("it was pushed");
            self.put_back(&taken);
            tried?;
        }
        Ok(())
    }

    /// Whether the node could have room for the pod with all pieces from one on taken.
    fn may_suffice(&self, seat: &Seat, from: usize) -> bool {
        let requests = self.cluster.class(self.class).requests.iter();
        requests.zip(&seat.pieces[from].rest).all(|((resource, amount), rest)| {
            let requested = self.cluster.requested(*resource, seat.node);
            self.cluster.allocatable(*resource, seat.node) - requested + rest >= *amount
        })
    }
}
