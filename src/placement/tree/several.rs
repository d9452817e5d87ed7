//! Gangs whose members differ: places are tried in order until one holds them all.

use super::fill::Place;
use super::{
    Part, Rules, Short, TRIES_MAX, Wanted, Work, chain, counts, depths, nodes, planned, start,
    within,
};
use crate::cluster::{DomainId, PodIndex, Statement};
use crate::placement::gate::Gate;
use crate::placement::place::{Demand, members};
use crate::placement::room::needed_of;
use smallvec::SmallVec;

/// Members that are placed by one wish.
struct Section<'a> {
    part: Option<&'a Part>,
    demands: Vec<Demand>,
}

/// Members by what they ask: those of each part of its own, and all others.
fn sections<'a>(wanted: &'a Wanted, demands: &[Demand]) -> Vec<Section<'a>> {
    let mut sections: Vec<Section<'_>> = Vec::new();
    let own = wanted.parts.iter().map(Some).chain([None]);
    for part in own {
        let belongs = |pod: &_| match part {
            Some(part) => part.pods.binary_search(pod).is_ok(),
            None => wanted.parts.iter().all(|part| part.pods.binary_search(pod).is_err()),
        };
        let demands = demands.iter().map(|demand| {
            let pods = demand.pods.iter().copied().filter(|pod| belongs(pod)).collect();
            Demand { class: demand.class, headers: 0, pods }
        });
        let demands: Vec<Demand> = demands.filter(|demand| !demand.pods.is_empty()).collect();
        if !demands.is_empty() {
            sections.push(Section { part, demands });
        }
    }
    sections
}

/// Of each part that is cut whole slices, and others in the place of those that are left out.
fn chosen(wanted: &Wanted, demands: &[Demand], mut chosen: Vec<Demand>) -> Vec<Demand> {
    let cut = || wanted.parts.iter().filter(|part| !part.wanted.slices.is_empty());
    let is_of = |part: &Part, pod: &PodIndex| part.pods.binary_search(pod).is_ok();
    let mut left_out = 0;
    for part in cut() {
        let own = |demand: &Demand| demand.pods.iter().filter(|pod| is_of(part, pod)).count();
        let count: usize = chosen.iter().map(own).sum();
        let mut surplus = part.wanted.settled.len() + count;
        surplus = (surplus % part.wanted.slices[0].size as usize).min(count);
        left_out += surplus;
        for demand in chosen.iter_mut().rev() {
            while surplus > 0
                && let Some(last) = demand.pods.iter().rposition(|pod| is_of(part, pod))
            {
                demand.pods.remove(last);
                surplus -= 1;
            }
        }
    }
    for demand in demands {
        let free = |pod: &&PodIndex| {
            !cut().any(|part| is_of(part, pod)) && !chosen.iter().any(|d| d.pods.contains(pod))
        };
        let more: SmallVec<[PodIndex; 4]> =
            demand.pods.iter().filter(free).take(left_out).copied().collect();
        left_out -= more.len();
        if !more.is_empty() {
            chosen.push(Demand { class: demand.class, headers: 0, pods: more });
        }
    }
    chosen.retain(|demand| !demand.pods.is_empty());
    chosen
}

impl<'a> Work<'a> {
    /// Members of several classes or parts: all that may be placed, else those that must.
    pub(super) fn place_several(
        &mut self,
        demands: &[Demand],
        (needed, most): (u32, u32),
        rules: &mut Rules<'_>,
    ) -> Result<Statement, Short> {
        let wanted = self.wanted;
        let mut short = Short { depth: wanted.required.unwrap_or(0), placeable: 0 };
        let totals = [most, needed.max(1)];
        let totals = if most > needed { &totals[..] } else { &totals[1..] };
        let mut tries = 0;
        for total in totals {
            let parts = chosen(wanted, demands, needed_of(self.cluster, demands, *total));
            if members(&parts) < needed {
                continue;
            }
            let mut sections = sections(wanted, &parts);
            for at in self.candidates(&parts, wanted, Place::Domain(rules.inside)) {
                tries += 1;
                for _ in 0..2 {
                    match self.place_at(at, &sections, &mut rules.gate) {
                        Ok(statement) => return Ok(statement),
                        Err(placed) => short.placeable = short.placeable.max(placed),
                    }
                    sections.reverse();
                    sections.iter_mut().for_each(|section| section.demands.reverse());
                }
                if tries == TRIES_MAX {
                    return Err(short);
                }
            }
        }
        Err(short)
    }

    /// Places that hold the members of each class taken alone, in the order in which they are
    /// tried.
    fn candidates(&mut self, parts: &[Demand], wanted: &Wanted, inside: Place) -> Vec<Place> {
        let Some(first) = parts.first() else { return Vec::new() };
        let (fits, keys) = self.rankings.fits(self.cluster, self.profile, first.class);
        let of_first = counts(self.cluster, fits, keys);
        let (outer, inner) = depths(&of_first, wanted);
        let mut found = match start(&of_first, wanted, inside) {
            None => return Vec::new(),
            Some(at) if wanted.settled.is_empty() => {
                let least = of_first.depth(at);
                let count = u32::try_from(first.pods.len()).expect("groups are bounded");
                within(&of_first, at, (outer.max(least), inner.max(least)), count)
            }
            Some(at) => chain(&of_first, at, wanted, 1),
        };
        found.retain(|place| of_first.count(*place) as usize >= first.pods.len());
        if wanted.settled.is_empty() {
            found.sort_by(|a, b| {
                let deeper = of_first.depth(*b).cmp(&of_first.depth(*a));
                deeper.then_with(|| of_first.is_tighter(*a, *b))
            });
        } else {
            found.reverse();
        }
        for part in &parts[1..] {
            let (fits, keys) = self.rankings.fits(self.cluster, self.profile, part.class);
            let counts = counts(self.cluster, fits, keys);
            found.retain(|place| counts.count(*place) as usize >= part.pods.len());
        }
        found
    }

    /// All members within one place, or how many fitted.
    fn place_at(
        &mut self,
        at: Place,
        sections: &[Section<'_>],
        gate: &mut Option<&mut dyn Gate>,
    ) -> Result<Statement, u32> {
        let mut statement = Statement::default();
        for section in sections {
            let placed = match section.part {
                None => self.fill_each(at, &section.demands, gate, &mut statement),
                Some(part) => self.place_part(at, part, &section.demands, gate, &mut statement),
            };
            if !placed {
                let placed = u32::try_from(statement.len()).expect("groups are bounded");
                statement.rollback(self.cluster, Statement::default().checkpoint());
                return Err(placed);
            }
        }
        Ok(statement)
    }

    /// Members of each class anywhere within a place; what was placed stays if not all were.
    fn fill_each(
        &mut self,
        at: Place,
        demands: &[Demand],
        gate: &mut Option<&mut dyn Gate>,
        statement: &mut Statement,
    ) -> bool {
        demands.iter().all(|part| {
            let (fits, keys) = self.rankings.fits(self.cluster, self.profile, part.class);
            let counts = counts(self.cluster, fits, keys);
            let count = u32::try_from(part.pods.len()).expect("groups are bounded");
            let mut out = Vec::new();
            let fits = counts.count(at) >= count;
            if fits {
                counts.fill(at, count, &mut out);
            }
            fits && self.assume(part, &nodes(out), gate, statement).is_ok()
        })
    }

    /// Members of a part within a place, as the part asks; what was placed stays if not all were.
    fn place_part(
        &mut self,
        at: Place,
        part: &Part,
        demands: &[Demand],
        gate: &mut Option<&mut dyn Gate>,
        statement: &mut Statement,
    ) -> bool {
        if let [demand] = demands {
            let plan = self.plan_part(at, part, demand);
            return plan.is_ok_and(|plan| self.assume(demand, &plan, gate, statement).is_ok());
        }
        if !part.wanted.slices.is_empty() {
            return false;
        }
        let begin = statement.checkpoint();
        for place in self.candidates(demands, &part.wanted, at).into_iter().take(TRIES_MAX) {
            if self.fill_each(place, demands, gate, statement) {
                return true;
            }
            statement.rollback(self.cluster, begin);
        }
        false
    }

    fn plan_part(&mut self, at: Place, part: &Part, demand: &Demand) -> Result<super::Plan, Short> {
        let (fits, keys) = self.rankings.fits(self.cluster, self.profile, demand.class);
        let counts = counts(self.cluster, fits, keys);
        let count = u32::try_from(demand.pods.len()).expect("groups are bounded");
        planned(&counts, &part.wanted, at, (count, count))
    }

    /// The first part that fits nowhere, though it were alone: how many of how many fit.
    pub(super) fn short_part(
        &mut self,
        demands: &[Demand],
        needed: u32,
    ) -> Option<(&'a Part, Short, u32)> {
        let wanted = self.wanted;
        let parts = chosen(wanted, demands, needed_of(self.cluster, demands, needed));
        sections(wanted, &parts).into_iter().find_map(|section| {
            let part = section.part?;
            let all = members(&section.demands);
            let root = Place::Domain(DomainId::ROOT);
            let short = match &*section.demands {
                [demand] => self.plan_part(root, part, demand).err()?,
                demands if part.wanted.slices.is_empty() => {
                    let none = self.candidates(demands, &part.wanted, root).is_empty();
                    let depth = part.wanted.required.unwrap_or(0);
                    none.then_some(Short { depth, placeable: 0 })?
                }
                _ => Short { depth: part.wanted.slices[0].depth, placeable: 0 },
            };
            Some((part, short, all))
        })
    }
}
