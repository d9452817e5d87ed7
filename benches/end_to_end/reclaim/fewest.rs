//! Whom to evict, found by another way than the scheduler's: gangs that share nodes form islands,
//! each island is counted out, and islands are put together.

use std::collections::{BTreeMap, BTreeSet};

/// Members by node and gang.
pub(super) type Placement = BTreeMap<String, BTreeMap<String, usize>>;

/// Gangs of one island that are counted out; more would take too long.
const ISLAND_MAX: usize = 16;

/// The smallest set of gangs without which at least `wanted` nodes are empty.
///
/// Sets of gangs of one island are tried one by one; the best of each size are put together as in a
/// knapsack, exactly.
pub(super) fn fewest_gangs(placement: &Placement, wanted: usize) -> BTreeSet<String> {
    // by nodes emptied, at most `wanted`: the fewest gangs known
    let mut best: Vec<Option<BTreeSet<String>>> = vec![None; wanted + 1];
    best[0] = Some(BTreeSet::new());
    for island in islands(placement) {
        let options = options(placement, &island);
        for emptied in (0..=wanted).rev() {
            let Some(before) = best[emptied].clone() else { continue };
            for (nodes, gangs) in &options {
                let place = &mut best[(emptied + nodes).min(wanted)];
                let count = before.len() + gangs.len();
                if place.as_ref().is_none_or(|known| known.len() > count) {
                    *place = Some(before.union(gangs).cloned().collect());
                }
            }
        }
    }
    best.pop().flatten().expect("so many nodes can be emptied")
}

/// Gangs that are connected by the nodes they share.
fn islands(placement: &Placement) -> Vec<BTreeSet<String>> {
    let mut islands: Vec<BTreeSet<String>> = Vec::new();
    for gangs in placement.values() {
        let mut island: BTreeSet<String> = gangs.keys().cloned().collect();
        islands.retain(|known| {
            let apart = known.is_disjoint(&island);
            if !apart {
                island.extend(known.iter().cloned());
            }
            apart
        });
        islands.push(island);
    }
    islands
}

/// For each number of nodes that gangs of an island can empty, the fewest gangs.
fn options(placement: &Placement, island: &BTreeSet<String>) -> BTreeMap<usize, BTreeSet<String>> {
    assert!(island.len() <= ISLAND_MAX, "{} gangs share nodes: not counted out", island.len());
    let all: Vec<&String> = island.iter().collect();
    let mut options: BTreeMap<usize, BTreeSet<String>> = BTreeMap::new();
    for choice in 1..1_u32 << all.len() {
        let chosen = all.iter().enumerate().filter(|(bit, _)| choice >> bit & 1 == 1);
        let gangs: BTreeSet<String> = chosen.map(|(_, gang)| (*gang).clone()).collect();
        let emptied = placement.values().filter(|on| on.keys().all(|gang| gangs.contains(gang)));
        let emptied = emptied.count();
        if options.get(&emptied).is_none_or(|known| known.len() > gangs.len()) {
            options.insert(emptied, gangs);
        }
    }
    options.remove(&0);
    options
}

/// Nodes to empty so that every gang keeps `minimum` members.
pub(super) fn nodes_above_minimum(
    placement: &Placement,
    minimum: usize,
    wanted: usize,
) -> BTreeSet<String> {
    let mut left: BTreeMap<&String, usize> = BTreeMap::new();
    for gangs in placement.values() {
        gangs.iter().for_each(|(gang, members)| *left.entry(gang).or_default() += members);
    }
    let mut chosen = BTreeSet::new();
    for (node, gangs) in placement {
        if chosen.len() < wanted && gangs.iter().all(|(gang, n)| left[gang] >= minimum + n) {
            gangs.iter().for_each(|(gang, n)| _ = left.get_mut(gang).map(|left| *left -= n));
            chosen.insert(node.clone());
        }
    }
    assert_eq!(chosen.len(), wanted, "the bare loop finds too few nodes to empty");
    chosen
}
