//! Gangs that are cut into slices: tensor-parallel groups within an NVLink domain, say, and the
//! slices anywhere under one spine. Slices may be cut again.

use super::fill::{Counts, Place};
use super::{Plan, Short, Slices, Wanted, nodes};
use crate::cluster::{DomainId, NodeIndex};
use rustc_hash::FxHashMap;

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

/// Completes the slices that lack members, the innermost first; else how many were placed.
fn complete(
    counts: &Counts<'_>,
    room: &mut Room,
    wanted: &Wanted,
    most: u32,
) -> Result<Vec<(Place, u32)>, u32> {
    let mut plan = Vec::new();
    if wanted.settled.is_empty() {
        return Ok(plan);
    }
    for level in (0..wanted.slices.len()).rev() {
        let slices = wanted.slices[level];
        let inner = &wanted.slices[level + 1..];
        let unit = inner.first().map_or(1, |inner| inner.size);
        let known = settled(wanted, &plan);
        let mut in_part: Vec<_> = by_place(counts, &known, slices.depth).into_iter().collect();
        in_part.sort_unstable();
        for (place, members) in in_part {
            let lacks = (slices.size - members % slices.size) % slices.size / unit;
            let completed = total(&plan);
            if lacks == 0 || completed + lacks * unit > most {
                continue;
            }
            let cut = Cut::new(room.counts(counts), inner, &settled(wanted, &plan));
            let holds = cut.counts(inner.len()).count(place);
            if holds < lacks {
                return Err(completed + holds * unit);
            }
            let mut more = Vec::new();
            cut.fill(inner.len(), place, lacks, &mut more);
            room.take(counts, &more);
            plan.extend(more);
        }
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

/// Members on nodes by the domain of a depth.
fn by_place(counts: &Counts<'_>, settled: &[NodeIndex], depth: u8) -> FxHashMap<Place, u32> {
    let mut found = FxHashMap::default();
    for place in settled.iter().filter_map(|node| counts.place_of(*node, depth)) {
        *found.entry(place).or_default() += 1;
    }
    found
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
        let used = by_place(below, if slices.apart { settled } else { &[] }, slices.depth);
        let root = Place::Domain(DomainId::ROOT);
        for place in super::within(below, root, (slices.depth, slices.depth), ratio) {
            let fit = match below.count(place) / ratio {
                _ if used.contains_key(&place) => 0,
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
