//! Places a gang by the tree of domains: in the smallest that holds it, the tightest first.
//!
//! For members of one class how many fit in a domain is known exactly, so the domain that is chosen
//! is the one that a scan of all would choose. For several classes domains are tried in that order
//! until one holds them all.

mod fill;
mod slices;
#[cfg(test)]
mod tests;

use super::Rankings;
use super::fits::Fits;
use super::gate::Gate;
use super::place::{Demand, Failure, place_group};
use super::room::needed_of;
use crate::cluster::{Assignment, Cluster, DomainId, NodeIndex, Statement};
use crate::framework::{Diagnosis, Profile, Reason};
use fill::{Counts, Place};
use std::sync::Arc;

/// Domains that are tried at most for members of several classes, and plans that are made at most
/// around nodes that a gate closes.
const TRIES_MAX: usize = 256;

/// What a gang asks of the tree. Depths are those of [`crate::cluster::Domains`].
#[derive(Clone, Debug, Default)]
pub struct Wanted {
    /// All members are in one domain of this depth.
    pub required: Option<u8>,
    /// No smaller domain than one of this depth is looked for.
    pub preferred: Option<u8>,
    /// It is cut into slices.
    pub slices: Option<Slices>,
    /// Nodes of members that were placed before, one entry each.
    pub settled: Vec<NodeIndex>,
}

/// Parts of a gang, each of which is in one domain.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Slices {
    /// Members of a slice.
    pub size: u32,
    /// The depth of the domain that holds one.
    pub depth: u8,
    /// No domain of that depth holds two.
    pub apart: bool,
}

/// So many fit in the best domain, and that is too few.
struct Short {
    depth: u8,
    placeable: u32,
}

/// Who is placed where, as numbers.
type Plan = Vec<(NodeIndex, u32)>;

/// Rules for one gang beside what filters say.
pub struct Rules<'a> {
    /// See [`Gate`].
    pub gate: Option<&'a mut dyn Gate>,
    /// See [`Wanted`]; `None`: the tree has no say.
    pub wanted: Option<&'a Wanted>,
}

/// As [`place_group`], by the tree.
///
/// As many members as fit, at most the second of `bounds`, are what is held; if a level is required
/// and none of its domains holds them all, as many as the best one holds.
///
/// # Errors
/// If fewer than the first of `bounds` fit; the cluster is then as it was.
pub fn place_in_tree(
    cluster: &mut Cluster,
    rankings: &mut Rankings,
    profile: &Profile,
    demands: &[Demand],
    bounds: (u32, u32),
    mut rules: Rules<'_>,
) -> Result<Statement, Failure> {
    let Some(wanted) = rules.wanted else {
        return place_group(cluster, rankings, profile, demands, bounds, rules.gate);
    };
    let mut work = Work { cluster: &mut *cluster, rankings: &mut *rankings, profile, wanted };
    let found = match demands {
        [demand] => work.place_one(demand, bounds, &mut rules.gate),
        _ if wanted.slices.is_some() => {
            return Err(failure(0, "members of a gang that is cut into slices differ".to_owned()));
        }
        _ => work.place_several(demands, bounds, &mut rules.gate),
    };
    let short = match found {
        Ok(statement) => return Ok(statement),
        Err(short) => short,
    };
    if wanted.required.is_none() && wanted.slices.is_none() {
        return place_group(cluster, rankings, profile, demands, bounds, rules.gate);
    }
    let level = cluster.domains().level(short.depth);
    let what = if wanted.slices.is_none() { "domain" } else { "set of domains" };
    let message = format!(
        "no {what} of level {level} holds the gang: the best has room for {} of the {} members \
         needed.",
        short.placeable, bounds.0
    );
    Err(failure(short.placeable, message))
}

fn failure(placeable: u32, message: String) -> Failure {
    let main_reason = Some(Reason::NoDomain);
    let diagnosis = Arc::new(Diagnosis { message, rejected_by: 0, main_reason });
    Failure { placeable, diagnosis }
}

struct Work<'a> {
    cluster: &'a mut Cluster,
    rankings: &'a mut Rankings,
    profile: &'a Profile,
    wanted: &'a Wanted,
}

impl Work<'_> {
    /// Members of one class.
    fn place_one(
        &mut self,
        demand: &Demand,
        (needed, most): (u32, u32),
        gate: &mut Option<&mut dyn Gate>,
    ) -> Result<Statement, Short> {
        let pods = u32::try_from(demand.pods.len()).expect("groups are bounded");
        let headers = u32::try_from(demand.headers).expect("groups are bounded");
        let bounds = (needed.max(headers).max(1), most.min(pods));
        let mut closed: Option<Fits> = None;
        let mut tries = 0;
        loop {
            let (fits, keys) = self.rankings.fits(self.cluster, self.profile, demand.class);
            let counts = counts(self.cluster, closed.as_ref().unwrap_or(fits), keys);
            let plan = planned(&counts, self.wanted, bounds)?;
            let mut statement = Statement::default();
            let Err((node, admitted)) = self.assume(demand, &plan, gate, &mut statement) else {
                return Ok(statement);
            };
            statement.rollback(self.cluster, Statement::default().checkpoint());
            tries += 1;
            if tries == TRIES_MAX {
                return Err(Short { depth: self.wanted.required.unwrap_or(0), placeable: 0 });
            }
            let fits = match closed.take() {
                Some(fits) => fits,
                None => self.rankings.fits(self.cluster, self.profile, demand.class).0.clone(),
            };
            closed.insert(fits).set(self.cluster.domains(), node, admitted);
        }
    }

    /// Puts pods where the plan says, in their order; else the node that a gate closed, and how
    /// many it let there before.
    fn assume(
        &mut self,
        demand: &Demand,
        plan: &[(NodeIndex, u32)],
        gate: &mut Option<&mut dyn Gate>,
        statement: &mut Statement,
    ) -> Result<(), (NodeIndex, u32)> {
        if let Some(gate) = gate.as_mut().filter(|_| statement.is_empty()) {
            gate.begin();
        }
        let mut pods = demand.pods.iter();
        for (node, count) in plan {
            for placed in 0..*count {
                let open =
                    gate.as_mut().is_none_or(|gate| gate.admits(self.cluster, demand.class, *node));
                if !open {
                    return Err((*node, placed));
                }
                let pod = *pods.next().expect("a plan has no more than there are");
                let assignment = Assignment { pod, class: demand.class, node: *node };
                let class = self.cluster.class(demand.class);
                let devices = self.profile.devices(self.cluster, class, *node);
                statement.assume_on(self.cluster, assignment, devices);
            }
        }
        Ok(())
    }

    /// Members of several classes: all that may be placed, else those that must.
    fn place_several(
        &mut self,
        demands: &[Demand],
        (needed, most): (u32, u32),
        gate: &mut Option<&mut dyn Gate>,
    ) -> Result<Statement, Short> {
        let depth = self.wanted.required.unwrap_or(0);
        let mut short = Short { depth, placeable: 0 };
        let totals = [most, needed.max(1)];
        let totals = if most > needed { &totals[..] } else { &totals[1..] };
        let mut tries = 0;
        for total in totals {
            let parts = needed_of(self.cluster, demands, *total);
            for at in self.candidates(&parts) {
                tries += 1;
                let reversed: Vec<Demand> = parts.iter().rev().cloned().collect();
                for order in [&parts, &reversed] {
                    match self.place_at(at, order, gate) {
                        Ok(statement) => return Ok(statement),
                        Err(placed) => short.placeable = short.placeable.max(placed),
                    }
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
    fn candidates(&mut self, parts: &[Demand]) -> Vec<Place> {
        let Some(first) = parts.first() else { return Vec::new() };
        let (fits, keys) = self.rankings.fits(self.cluster, self.profile, first.class);
        let of_first = counts(self.cluster, fits, keys);
        let (outer, inner) = depths(&of_first, self.wanted);
        let mut found = match start(&of_first, self.wanted) {
            None => return Vec::new(),
            Some(at) if self.wanted.settled.is_empty() => within(&of_first, at, (outer, inner)),
            Some(at) => chain(&of_first, at, self.wanted, 1),
        };
        found.retain(|place| of_first.count(*place) as usize >= first.pods.len());
        if self.wanted.settled.is_empty() {
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
        parts: &[Demand],
        gate: &mut Option<&mut dyn Gate>,
    ) -> Result<Statement, u32> {
        let mut statement = Statement::default();
        for part in parts {
            let (fits, keys) = self.rankings.fits(self.cluster, self.profile, part.class);
            let counts = counts(self.cluster, fits, keys);
            let count = u32::try_from(part.pods.len()).expect("groups are bounded");
            let mut out = Vec::new();
            let fits = counts.count(at) >= count;
            if fits {
                counts.fill(at, count, &mut out);
            }
            if !fits || self.assume(part, &nodes(out), gate, &mut statement).is_err() {
                let placed = u32::try_from(statement.len()).expect("groups are bounded");
                statement.rollback(self.cluster, Statement::default().checkpoint());
                return Err(placed);
            }
        }
        Ok(statement)
    }
}

fn counts<'a>(cluster: &'a Cluster, fits: &'a Fits, keys: &'a [u64]) -> Counts<'a> {
    Counts {
        domains: cluster.domains(),
        in_domain: &fits.in_domain,
        on_node: &fits.on_node,
        keys,
        most_on_node: fits.most_on_node,
        leaf: cluster.domains().host_depth(),
    }
}

/// The outermost and the innermost depth at which a gang may be together.
fn depths(counts: &Counts<'_>, wanted: &Wanted) -> (u8, u8) {
    let outer = wanted.required.unwrap_or(0);
    (outer, wanted.preferred.map_or(counts.domains.host_depth(), |depth| depth.max(outer)))
}

/// The domain within which the gang is placed: the root, or that of its members if a level is
/// required. `None`: they are in none of that level.
fn start(counts: &Counts<'_>, wanted: &Wanted) -> Option<Place> {
    let root = Place::Domain(DomainId::ROOT);
    let Some(required) = wanted.required.filter(|_| !wanted.settled.is_empty()) else {
        return Some(root);
    };
    let mut at = root;
    while counts.depth(at) < required {
        at = most_settled(counts, at, wanted)?;
    }
    (counts.depth(at) == required).then_some(at)
}

/// Where most of the settled members are, of what is right below a place.
fn most_settled(counts: &Counts<'_>, at: Place, wanted: &Wanted) -> Option<Place> {
    let settled_in = |place: &Place| {
        let inside = |node: &&NodeIndex| match place {
            Place::Domain(domain) => counts.domains.contains(*domain, **node),
            Place::Node(own) => own == *node,
        };
        wanted.settled.iter().filter(inside).count()
    };
    let mut tallied: Vec<(usize, Place)> = Vec::new();
    for node in &wanted.settled {
        let on = std::iter::once(Place::Node(*node));
        let above = counts.domains.upwards(counts.domains.of(*node)).map(Place::Domain);
        let Some(below) = on.chain(above).take_while(|place| *place != at).last() else { continue };
        if !tallied.iter().any(|(_, known)| *known == below) && is_below(counts, below, at) {
            tallied.push((settled_in(&below), below));
        }
    }
    tallied.into_iter().max_by(|a, b| a.0.cmp(&b.0).then(b.1.cmp(&a.1))).map(|(_, place)| place)
}

fn is_below(counts: &Counts<'_>, place: Place, at: Place) -> bool {
    let parent = match place {
        Place::Domain(domain) => counts.domains.parent(domain),
        Place::Node(node) => Some(counts.domains.of(node)),
    };
    parent.is_some_and(|parent| Place::Domain(parent) == at)
}

/// From a place inwards to where most settled members are, while it holds so many.
fn chain(counts: &Counts<'_>, from: Place, wanted: &Wanted, count: u32) -> Vec<Place> {
    let next = |at: &Place| {
        let below = most_settled(counts, *at, wanted)?;
        let fits = counts.depth(below) <= counts.leaf && counts.count(below) >= count;
        fits.then_some(below)
    };
    std::iter::successors(Some(from), next).collect()
}

/// All places of these depths. O(nodes).
fn within(counts: &Counts<'_>, from: Place, (outer, inner): (u8, u8)) -> Vec<Place> {
    let (mut stack, mut found) = (vec![from], Vec::new());
    while let Some(place) = stack.pop() {
        let depth = counts.depth(place);
        if (outer..=inner).contains(&depth) {
            found.push(place);
        }
        stack.extend(counts.below(place).filter(|below| counts.depth(*below) <= inner));
    }
    found
}

fn nodes(places: Vec<(Place, u32)>) -> Plan {
    let node = |(place, count)| match place {
        Place::Node(node) => Some((node, count)),
        Place::Domain(_) => None,
    };
    places.into_iter().filter_map(node).collect()
}

/// Where as many as fit go, of `most` and at least `needed`.
fn planned(
    counts: &Counts<'_>,
    wanted: &Wanted,
    (needed, most): (u32, u32),
) -> Result<Plan, Short> {
    let (outer, inner) = depths(counts, wanted);
    let short = |placeable| Short { depth: outer, placeable };
    let from = start(counts, wanted).ok_or(short(0))?;
    if let Some(slices) = wanted.slices {
        return slices::planned(counts, wanted, slices, from, (needed, most));
    }
    let holds =
        if wanted.settled.is_empty() { counts.most_at(from, outer) } else { counts.count(from) };
    let count = most.min(holds);
    if count < needed {
        return Err(short(holds));
    }
    let at = if wanted.settled.is_empty() {
        counts.smallest(&[from], count, (outer, inner))
    } else {
        chain(counts, from, wanted, count).pop()
    };
    let mut out = Vec::new();
    counts.fill(at.ok_or(short(holds))?, count, &mut out);
    Ok(nodes(out))
}
