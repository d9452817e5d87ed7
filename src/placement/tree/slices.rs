//! Gangs that are cut into slices: tensor-parallel groups within an NVLink domain, say, and the
//! slices anywhere under one spine. Slices may be cut again.

use super::fill::{Counts, Place};
use super::{Plan, Short, Slices, Wanted, nodes};
use crate::cluster::{DomainId, Domains, NodeIndex};
use rustc_hash::FxHashSet;
use std::collections::BTreeMap;

/// Slices are placed as members are, with the domains that hold them for nodes. A slice that lacks
/// members is completed first, in its own domain, or the gang waits.
pub(super) fn planned(
    counts: &Counts<'_>,
    wanted: &Wanted,
    from: Place,
    (needed, most): (u32, u32),
) -> Result<Plan, Short> {
    let outermost = wanted.slices[0];
    let short = |placeable| Short { depth: outermost.depth, placeable };
    if counts.depth(from) > outermost.depth {
        return Err(short(0)); // a larger place is tried too
    }
    let mut room = Room(None);
    let mut plan = complete(counts, &mut room, wanted, most).map_err(short)?;
    let completed = total(&plan);
    let cut = Cut::new(room.counts(counts), &wanted.slices, &settled(wanted, &plan));
    let units = cut.counts(wanted.slices.len());
    let outer = wanted.required.unwrap_or(0).max(counts.depth(from)).min(outermost.depth);
    let is_new = wanted.settled.is_empty();
    let holds = if is_new { units.most_at(from, outer) } else { units.count(from) };
    let whole = ((most - completed) / outermost.size).min(holds);
    if completed + whole * outermost.size < needed {
        return Err(short(completed + whole * outermost.size));
    }
    let at = if is_new {
        let preferred = wanted.preferred.unwrap_or(outermost.depth);
        units.smallest(&[from], whole, (outer, preferred.clamp(outer, outermost.depth)))
    } else {
        super::chain(&units, from, wanted, whole).pop()
    };
    if whole > 0 {
        cut.fill(wanted.slices.len(), at.ok_or(short(completed))?, whole, &mut plan);
    }
    Ok(nodes(plan))
}

/// Slices of a level that one of the next larger lacks, or members that one lacks.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(in crate::placement) struct Lacking {
    /// the level of the one that lacks them, the outermost 0
    pub(in crate::placement) level: usize,
    /// where it is
    pub(in crate::placement) place: Place,
    units: u32,
    /// members of one of these
    size: u32,
}

impl Lacking {
    pub(in crate::placement) fn members(self) -> u32 {
        self.units * self.size
    }
}

/// What the slices of settled members lack, the innermost first, as far as `most` members complete
/// them. O(levels x (settled members + domains of these x levels)).
pub(in crate::placement) fn lacking(
    domains: &Domains,
    slices: &[Slices],
    settled: &[NodeIndex],
    most: u32,
) -> Vec<Lacking> {
    let mut found: Vec<Lacking> = Vec::new();
    let mut left = most;
    for level in (0..slices.len()).rev().filter(|_| !settled.is_empty()) {
        let depth = slices[level].depth;
        let mut known: BTreeMap<Place, u32> = BTreeMap::new();
        for place in settled.iter().filter_map(|node| Place::of(domains, *node, depth)) {
            *known.entry(place).or_default() += 1;
        }
        for inner in &found {
            if let Some(place) = inner.place.up_to(domains, depth) {
                *known.entry(place).or_default() += inner.members();
            }
        }
        let size = slices.get(level + 1).map_or(1, |inner| inner.size);
        for (place, members) in known {
            let whole = slices[level].size;
            let units = (whole - members % whole) % whole / size;
            let lacking = Lacking { level, place, units, size };
            if units > 0 && lacking.members() <= left {
                left -= lacking.members();
                found.push(lacking);
            }
        }
    }
    found
}

/// Completes the slices that lack members, the innermost first; else how many were placed.
fn complete(
    counts: &Counts<'_>,
    room: &mut Room,
    wanted: &Wanted,
    most: u32,
) -> Result<Vec<(Place, u32)>, u32> {
    let mut plan = Vec::new();
    for lacking in lacking(counts.domains, &wanted.slices, &wanted.settled, most) {
        let inner = &wanted.slices[lacking.level + 1..];
        let cut = Cut::new(room.counts(counts), inner, &settled(wanted, &plan));
        let holds = cut.counts(inner.len()).count(lacking.place);
        if holds < lacking.units {
            return Err(total(&plan) + holds * lacking.size);
        }
        let mut more = Vec::new();
        cut.fill(inner.len(), lacking.place, lacking.units, &mut more);
        room.take(counts, &more);
        plan.extend(more);
    }
    Ok(plan)
}

fn total(plan: &[(Place, u32)]) -> u32 {
    plan.iter().map(|(_, count)| count).sum()
}

/// Nodes of members that were placed before, and of those that are placed now.
fn settled(wanted: &Wanted, plan: &[(Place, u32)]) -> Vec<NodeIndex> {
    let mut all = wanted.settled.clone();
    for (node, count) in nodes(plan.to_vec()) {
        all.extend(std::iter::repeat_n(node, count as usize));
    }
    all
}

/// How many pods fit, less those that are placed now; `None`: none are.
struct Room(Option<(Vec<u32>, Vec<u32>)>);

impl Room {
    fn take(&mut self, counts: &Counts<'_>, plan: &[(Place, u32)]) {
        let copy = || (counts.in_domain.to_vec(), counts.on_node.to_vec());
        let (in_domain, on_node) = self.0.get_or_insert_with(copy);
        for (node, count) in nodes(plan.to_vec()) {
            on_node[node.index()] -= count;
            for domain in counts.domains.upwards(counts.domains.of(node)) {
                in_domain[domain.index()] -= count;
            }
        }
    }

    fn counts<'a>(&'a self, counts: &Counts<'a>) -> Counts<'a> {
        match &self.0 {
            Some((in_domain, on_node)) => Counts { in_domain, on_node, crowds: None, ..*counts },
            None => *counts,
        }
    }
}

/// How many slices of each level fit where, the innermost first.
struct Cut<'a> {
    pods: Counts<'a>,
    levels: Vec<Units>,
}

/// How many slices of a level fit where.
struct Units {
    in_domain: Vec<u32>,
    on_node: Vec<u32>,
    depth: u8,
    /// so many of the next inner level, or members, are one of this
    ratio: u32,
}

impl<'a> Cut<'a> {
    fn new(pods: Counts<'a>, slices: &[Slices], settled: &[NodeIndex]) -> Self {
        let mut cut = Self { pods, levels: Vec::new() };
        let mut size = 1;
        for slices in slices.iter().rev() {
            let units = Units::new(&cut.counts(cut.levels.len()), *slices, size, settled);
            size = slices.size;
            cut.levels.push(units);
        }
        cut
    }

    /// How many slices of a level fit, counted from 1; members at 0.
    fn counts(&self, level: usize) -> Counts<'_> {
        let Some(units) = level.checked_sub(1).map(|place| &self.levels[place]) else {
            return self.pods;
        };
        Counts {
            in_domain: &units.in_domain,
            on_node: &units.on_node,
            crowds: None,
            most_on_node: units.on_node.iter().copied().max().unwrap_or(0),
            leaf: units.depth,
            ..self.pods
        }
    }

    /// Puts so many slices of a level into a place that holds them.
    fn fill(&self, level: usize, at: Place, count: u32, out: &mut Vec<(Place, u32)>) {
        let counts = self.counts(level);
        if level == 0 {
            return counts.fill(at, count, out);
        }
        let mut parts = Vec::new();
        counts.fill(at, count, &mut parts);
        let ratio = self.levels[level - 1].ratio;
        for (place, slices) in parts {
            self.fill(level - 1, place, slices * ratio, out);
        }
    }
}

impl Units {
    /// O(domains), and O(nodes) if the node is the level.
    fn new(below: &Counts<'_>, slices: Slices, size: u32, settled: &[NodeIndex]) -> Self {
        let hosts = slices.depth == below.domains.host_depth();
        let on_node = if hosts { vec![0; below.on_node.len()] } else { Vec::new() };
        let (in_domain, ratio) = (vec![0; below.in_domain.len()], slices.size / size);
        let mut found = Self { in_domain, on_node, depth: slices.depth, ratio };
        let places = settled.iter().filter_map(|at| Place::of(below.domains, *at, slices.depth));
        let used: FxHashSet<Place> = places.filter(|_| slices.apart).collect();
        let root = Place::Domain(DomainId::ROOT);
        for place in super::within(below, root, (slices.depth, slices.depth), ratio) {
            let fit = match below.count(place) / ratio {
                _ if used.contains(&place) => 0,
                fit if slices.apart => fit.min(1),
                fit => fit,
            };
            let from = match place {
                Place::Domain(domain) => domain,
                Place::Node(node) => {
                    found.on_node[node.index()] = fit;
                    below.domains.of(node)
                }
            };
            for above in below.domains.upwards(from) {
                found.in_domain[above.index()] += fit;
            }
        }
        found
    }
}
