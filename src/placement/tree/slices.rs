//! Gangs that are cut into slices: tensor-parallel groups within an NVLink domain, say, and the
//! slices anywhere under one spine.

use super::fill::{Counts, Place};
use super::{Plan, Short, Slices, Wanted, nodes};
use crate::cluster::NodeIndex;
use rustc_hash::FxHashMap;

/// Slices are placed as members are, with the domains that hold them for nodes. A slice that lacks
/// members is completed first, in its own domain, or the gang waits.
pub(super) fn planned(
    counts: &Counts<'_>,
    wanted: &Wanted,
    slices: Slices,
    from: Place,
    (needed, most): (u32, u32),
) -> Result<Plan, Short> {
    let short = |placeable| Short { depth: slices.depth, placeable };
    let mut plan = Vec::new();
    let settled = settled_by_domain(counts, wanted, slices.depth);
    let mut completed = 0;
    let mut in_part: Vec<_> = settled.iter().map(|(place, count)| (*place, *count)).collect();
    in_part.sort_unstable();
    for (place, count) in in_part {
        let lacks = (slices.size - count % slices.size) % slices.size;
        if lacks == 0 || completed + lacks > most {
            continue;
        }
        if counts.count(place) < lacks {
            return Err(short(completed + counts.count(place)));
        }
        counts.fill(place, lacks, &mut plan);
        completed += lacks;
    }
    let used = |place: &Place| {
        let count = settled.get(place).copied().unwrap_or(0);
        (slices.size - count % slices.size) % slices.size
    };
    let units = Units::new(counts, slices, |place| {
        let free = counts.count(place).saturating_sub(used(&place)) / slices.size;
        match slices.apart {
            true if settled.contains_key(&place) => 0,
            true => free.min(1),
            false => free,
        }
    });
    let units = units.counts(counts, slices.depth);
    let outer = wanted.required.unwrap_or(0).min(slices.depth);
    let holds = if settled.is_empty() { units.most_at(from, outer) } else { units.count(from) };
    let whole = ((most - completed) / slices.size).min(holds);
    if completed + whole * slices.size < needed {
        return Err(short(completed + whole * slices.size));
    }
    let at = if settled.is_empty() {
        let inner = wanted.preferred.map_or(slices.depth, |depth| depth.clamp(outer, slices.depth));
        units.smallest(&[from], whole, (outer, inner))
    } else {
        super::chain(&units, from, wanted, whole).pop()
    };
    let mut parts = Vec::new();
    if whole > 0 {
        units.fill(at.ok_or(short(completed))?, whole, &mut parts);
    }
    for (place, slices_there) in parts {
        counts.fill(place, slices_there * slices.size, &mut plan);
    }
    Ok(nodes(plan))
}

/// Members on nodes by the domain that holds their slice.
fn settled_by_domain(counts: &Counts<'_>, wanted: &Wanted, depth: u8) -> FxHashMap<Place, u32> {
    let mut found = FxHashMap::default();
    let place = |node: &NodeIndex| {
        if depth == counts.domains.host_depth() {
            return Some(Place::Node(*node));
        }
        counts.domains.above(*node, depth).map(Place::Domain)
    };
    for place in wanted.settled.iter().filter_map(place) {
        *found.entry(place).or_default() += 1;
    }
    found
}

/// How many slices fit where.
struct Units {
    in_domain: Vec<u32>,
    on_node: Vec<u32>,
}

impl Units {
    /// O(domains), and O(nodes) if the node is the level.
    fn new(counts: &Counts<'_>, slices: Slices, units: impl Fn(Place) -> u32) -> Self {
        let hosts = slices.depth == counts.domains.host_depth();
        let on_node = if hosts { vec![0; counts.on_node.len()] } else { Vec::new() };
        let mut found = Self { in_domain: vec![0; counts.in_domain.len()], on_node };
        let root = Place::Domain(crate::cluster::DomainId::ROOT);
        for place in super::within(counts, root, (slices.depth, slices.depth)) {
            let fit = units(place);
            let from = match place {
                Place::Domain(domain) => domain,
                Place::Node(node) => {
                    found.on_node[node.index()] = fit;
                    counts.domains.of(node)
                }
            };
            for above in counts.domains.upwards(from) {
                found.in_domain[above.index()] += fit;
            }
        }
        found
    }

    fn counts<'a>(&'a self, pods: &Counts<'a>, depth: u8) -> Counts<'a> {
        Counts {
            in_domain: &self.in_domain,
            on_node: &self.on_node,
            most_on_node: self.on_node.iter().copied().max().unwrap_or(0),
            leaf: depth,
            ..*pods
        }
    }
}
