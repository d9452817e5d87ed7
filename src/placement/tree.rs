//! Places a gang by the tree of domains: in the smallest that holds it, the tightest first.
//!
//! For members of one class how many fit in a domain is known exactly, so the domain that is chosen
//! is the one that a scan of all would choose. For several classes domains are tried in that order
//! until one holds them all. Task groups that ask for places of their own are placed within the
//! domain of their gang.

mod fill;
mod nearest;
mod several;
mod slices;
#[cfg(test)]
mod tests;

use super::Rankings;
use super::fits::Fits;
use super::gate::Gate;
use super::place::{Demand, Failure, place_group};
use crate::cluster::{Assignment, Cluster, DomainId, Domains, NodeIndex, PodIndex, Statement};
use crate::framework::{Diagnosis, Profile, Reason};
use fill::Counts;
pub(super) use fill::Place;
pub(super) use slices::lacking;
use std::sync::Arc;

/// Nodes of one domain that are looked at for members of several classes.
const CANDIDATES_MAX: usize = 1024;
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
    /// It is cut into slices, those of the first into those of the second, and so on.
    pub slices: Vec<Slices>,
    /// Nodes of members that were placed before, one entry each.
    pub settled: Vec<NodeIndex>,
    /// Task groups that ask for places of their own; empty where the gang is cut into slices.
    pub parts: Vec<Part>,
}

/// A task group with what it asks beside its gang.
#[derive(Clone, Debug)]
pub struct Part {
    /// Its name.
    pub name: Box<str>,
    /// What it asks.
    pub wanted: Wanted,
    /// Its members that wait, ascending.
    pub pods: Vec<PodIndex>,
}

impl Part {
    /// Whether it may have to wait for what it asks.
    #[must_use]
    pub fn is_bound(&self) -> bool {
        !self.wanted.is_free()
    }
}

impl Wanted {
    /// Whether it, or a task group of it, is cut into slices.
    #[must_use]
    pub fn is_sliced(&self) -> bool {
        !self.slices.is_empty() || self.parts.iter().any(|part| part.wanted.is_sliced())
    }

    /// Whether nothing but the nodes decides whether it fits.
    fn is_free(&self) -> bool {
        self.required.is_none()
            && self.slices.is_empty()
            && self.parts.iter().all(|part| part.wanted.is_free())
    }
}

/// Slices of a gang, each of which is in one domain.
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
    /// The tree places nothing outside of this domain.
    pub inside: DomainId,
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
        [demand] if wanted.parts.is_empty() => work.place_one(demand, bounds, &mut rules),
        _ if !wanted.slices.is_empty() => {
            return Err(failure(0, "members of a gang that is cut into slices differ".to_owned()));
        }
        _ => work.place_several(demands, bounds, &mut rules),
    };
    let short = match found {
        Ok(statement) => return Ok(statement),
        Err(short) => short,
    };
    if wanted.is_free() {
        return place_group(cluster, rankings, profile, demands, bounds, rules.gate);
    }
    let part = work.short_part(demands, bounds.0);
    let message = match part {
        Some((part, short, needed)) => {
            let whose = format!("task group {}", part.name);
            short.sentence(work.cluster, &part.wanted, &whose, needed)
        }
        None => short.sentence(work.cluster, wanted, "the gang", bounds.0),
    };
    Err(failure(short.placeable, message))
}

impl Short {
    fn sentence(&self, cluster: &Cluster, wanted: &Wanted, whose: &str, needed: u32) -> String {
        let level = cluster.domains().level(self.depth);
        let what = match (wanted.slices.is_empty(), self.depth) {
            (true, 0) => "no set of domains, as task groups ask for them,".to_owned(),
            (true, _) => format!("no domain of level {level}"),
            (false, _) => format!("no set of domains of level {level}"),
        };
        let Self { placeable, .. } = self;
        format!(
            "{what} holds {whose}: the best has room for {placeable} of the {needed} members needed."
        )
    }
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
        rules: &mut Rules<'_>,
    ) -> Result<Statement, Short> {
        let pods = u32::try_from(demand.pods.len()).expect("groups are bounded");
        let headers = u32::try_from(demand.headers).expect("groups are bounded");
        let bounds = (needed.max(headers).max(1), most.min(pods));
        let mut closed: Option<Fits> = None;
        let mut tries = 0;
        loop {
            let (fits, keys) = self.rankings.fits(self.cluster, self.profile, demand.class);
            let counts = counts(self.cluster, closed.as_ref().unwrap_or(fits), keys);
            let inside = Place::Domain(rules.inside);
            let plan = planned(&counts, self.wanted, inside, bounds)?;
            let mut statement = Statement::default();
            let Err((node, admitted)) = self.assume(demand, &plan, &mut rules.gate, &mut statement)
            else {
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
            let (_, keys) = self.rankings.fits(self.cluster, self.profile, demand.class);
            let key = keys[node.index()];
            closed.insert(fits).set(self.cluster.domains(), node, admitted, key);
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
}

fn counts<'a>(cluster: &'a Cluster, fits: &'a Fits, keys: &'a [u64]) -> Counts<'a> {
    Counts {
        domains: cluster.domains(),
        in_domain: &fits.in_domain,
        on_node: &fits.on_node,
        crowds: Some(&fits.crowds),
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

/// The part of a place within which the gang is placed: all of it, or the domain of its members if
/// a level is required. `None`: they, or the place, are in none of that level.
fn start(counts: &Counts<'_>, wanted: &Wanted, within: Place) -> Option<Place> {
    let Some(required) = wanted.required else { return Some(within) };
    if wanted.settled.is_empty() {
        let mut at = within;
        while counts.depth(at) > required {
            at = Place::Domain(counts.parent(at)?);
        }
        return (counts.depth(within) <= required || counts.depth(at) == required)
            .then_some(within);
    }
    let at = settled_place(counts.domains, &wanted.settled, required)?;
    let inner = if counts.is_in(at, within) { at } else { within };
    counts.is_in(inner, at).then_some(inner)
}

/// The place of a depth in which most settled members are, from the root inwards; `None`: they are
/// in none of that depth.
pub(super) fn settled_place(domains: &Domains, settled: &[NodeIndex], depth: u8) -> Option<Place> {
    let mut at = Place::Domain(DomainId::ROOT);
    while at.depth(domains) < depth {
        at = most_settled(domains, at, settled)?;
    }
    (at.depth(domains) == depth).then_some(at)
}

/// The same for a level larger than the node.
#[must_use]
pub fn settled_domain(domains: &Domains, settled: &[NodeIndex], depth: u8) -> Option<DomainId> {
    match settled_place(domains, settled, depth)? {
        Place::Domain(domain) => Some(domain),
        Place::Node(_) => None,
    }
}

/// Where most of the settled members are, of what is right below a place.
fn most_settled(domains: &Domains, at: Place, settled: &[NodeIndex]) -> Option<Place> {
    let settled_in = |place: &Place| {
        let inside = |node: &&NodeIndex| match place {
            Place::Domain(domain) => domains.contains(*domain, **node),
            Place::Node(own) => own == *node,
        };
        settled.iter().filter(inside).count()
    };
    let mut tallied: Vec<(usize, Place)> = Vec::new();
    for node in settled {
        let on = std::iter::once(Place::Node(*node));
        let above = domains.upwards(domains.of(*node)).map(Place::Domain);
        let Some(below) = on.chain(above).take_while(|place| *place != at).last() else { continue };
        let is_known = tallied.iter().any(|(_, known)| *known == below);
        if !is_known && below.parent(domains).map(Place::Domain) == Some(at) {
            tallied.push((settled_in(&below), below));
        }
    }
    tallied.into_iter().max_by(|a, b| a.0.cmp(&b.0).then(b.1.cmp(&a.1))).map(|(_, place)| place)
}

/// From a place inwards to where most settled members are, while it holds so many.
fn chain(counts: &Counts<'_>, from: Place, wanted: &Wanted, count: u32) -> Vec<Place> {
    let next = |at: &Place| {
        let below = most_settled(counts.domains, *at, &wanted.settled)?;
        let fits = counts.depth(below) <= counts.leaf && counts.count(below) >= count;
        fits.then_some(below)
    };
    std::iter::successors(Some(from), next).collect()
}

/// All places of these depths that hold so many; of a crowd the tightest [`CANDIDATES_MAX`].
/// O(places that hold so many).
fn within(counts: &Counts<'_>, from: Place, (outer, inner): (u8, u8), least: u32) -> Vec<Place> {
    let (mut stack, mut found) = (vec![from], Vec::new());
    while let Some(place) = stack.pop() {
        if counts.count(place) < least {
            continue;
        }
        let depth = counts.depth(place);
        if (outer..=inner).contains(&depth) {
            found.push(place);
        }
        if depth < inner {
            counts.step_down(place, (inner, least), CANDIDATES_MAX, &mut stack);
        }
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

/// Where as many as fit go within a place, of `most` and at least `needed`.
fn planned(
    counts: &Counts<'_>,
    wanted: &Wanted,
    within: Place,
    (needed, most): (u32, u32),
) -> Result<Plan, Short> {
    let (outer, inner) = depths(counts, wanted);
    let short = |placeable| Short { depth: outer, placeable };
    let from = start(counts, wanted, within).ok_or(short(0))?;
    if !wanted.slices.is_empty() {
        return slices::planned(counts, wanted, from, (needed, most));
    }
    let from_depth = counts.depth(from);
    let (outer, inner) = (outer.max(from_depth), inner.max(from_depth));
    let is_new = wanted.settled.is_empty();
    let holds = if is_new { counts.most_at(from, outer) } else { counts.count(from) };
    let count = most.min(holds);
    if count < needed {
        return Err(short(holds));
    }
    let at = if is_new {
        counts.smallest(&[from], count, (outer, inner))
    } else {
        chain(counts, from, wanted, count).pop()
    };
    let mut out = Vec::new();
    counts.fill(at.ok_or(short(holds))?, count, &mut out);
    Ok(nodes(out))
}
