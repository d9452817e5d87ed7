//! The domain that is chosen, against a scan of all that shares nothing with the search, and how
//! members lie in it, against all ways in which they could.

use super::*;
use crate::cluster::{ClassId, PodIndex};
use crate::model::PodClass;
use crate::plugins::default_profile;
use std::collections::BTreeMap;

const GPU: &str = "nvidia.com/gpu";
const LEVELS: [&str; 3] = ["block", "spine", "rack"];

struct Dice(u64);

impl Dice {
    fn below(&mut self, end: usize) -> usize {
        self.0 ^= self.0 << 13;
        self.0 ^= self.0 >> 7;
        self.0 ^= self.0 << 17;
        usize::try_from(self.0 % end as u64).expect("it is below an index")
    }
}

struct World {
    cluster: Cluster,
    rankings: Rankings,
    profile: Profile,
    /// per node: the names of its domains, the root first, itself last
    paths: Vec<(NodeIndex, Vec<String>)>,
    running: Vec<(ClassId, NodeIndex)>,
}

fn class(cluster: &mut Cluster, gpus: i64) -> ClassId {
    let requests = vec![("cpu".into(), 1), (GPU.into(), gpus)];
    cluster.acquire_class(PodClass { requests, ..PodClass::default() })
}

impl World {
    /// A tree with so many domains below each of the one above, and nodes of so many GPUs.
    fn new(sizes: [usize; 4], gpus: i64) -> Self {
        let mut cluster = Cluster::default();
        cluster.set_levels(LEVELS.iter().map(|level| (*level).into()).collect());
        let mut paths = Vec::new();
        for at in 0..sizes.iter().product() {
            let mut names = vec![String::new()];
            let mut left = at;
            for size in sizes.iter().rev() {
                names.push((left % size).to_string());
                left /= size;
            }
            names[1..].reverse();
            let path: Vec<String> = (0..=4).map(|depth| names[..=depth].join("/")).collect();
            let mut labels: Vec<(Box<str>, Box<str>)> =
                (0..3).map(|l| (LEVELS[l].into(), names[l + 1].as_str().into())).collect();
            labels.sort();
            let allocatable =
                vec![("cpu".into(), 1_000_000), (GPU.into(), gpus), ("pods".into(), 110)];
            let name: Box<str> = format!("n{at}").into();
            let node = crate::model::Node { name, labels, allocatable, ..Default::default() };
            let name = node.name.clone();
            let _ = cluster.apply_node(node);
            paths.push((cluster.find_node(&name).expect("just applied"), path));
        }
        let (rankings, profile) = (Rankings::default(), default_profile("test"));
        Self { cluster, rankings, profile, paths, running: Vec::new() }
    }

    fn free(&self, node: NodeIndex) -> i64 {
        let gpu = self.cluster.resources().find(GPU).expect("nodes offer it");
        self.cluster.allocatable(gpu, node) - self.cluster.requested(gpu, node)
    }

    /// Fills it at random and has pods leave at random until so much of the GPUs is in use.
    fn load(&mut self, dice: &mut Dice, percent: usize) {
        let all: i64 = self.paths.iter().map(|(node, _)| self.free(*node)).sum();
        for _ in 0..4 * self.paths.len() {
            let gpus = 1 << dice.below(4);
            let node = self.paths[dice.below(self.paths.len())].0;
            if self.free(node) >= gpus {
                let class = class(&mut self.cluster, gpus);
                self.cluster.place(class, node);
                self.running.push((class, node));
            }
        }
        let used =
            |world: &Self| all - world.paths.iter().map(|(node, _)| world.free(*node)).sum::<i64>();
        while !self.running.is_empty() && used(self) * 100 > all * percent as i64 {
            let (class, node) = self.running.swap_remove(dice.below(self.running.len()));
            self.cluster.unplace(class, node);
        }
    }

    /// By depth and name: GPUs free, and pods of so many GPUs that fit.
    fn scan(&self, gpus: i64) -> BTreeMap<(usize, &str), (i64, i64)> {
        let mut found: BTreeMap<(usize, &str), (i64, i64)> = BTreeMap::new();
        for (node, path) in &self.paths {
            let free = self.free(*node);
            for (depth, name) in path.iter().enumerate() {
                let entry = found.entry((depth, name)).or_default();
                *entry = (entry.0 + free, entry.1 + free / gpus);
            }
        }
        found
    }

    fn demand(&mut self, gpus: i64, first: u32, count: u32) -> Demand {
        let pods = (first..first + count).map(PodIndex).collect();
        Demand { class: class(&mut self.cluster, gpus), headers: 0, pods }
    }

    /// Where the members go; the cluster is as before.
    fn place(&mut self, demands: &[Demand], wanted: &Wanted) -> Option<Vec<NodeIndex>> {
        let count = demands.iter().map(|demand| demand.pods.len()).sum::<usize>() as u32;
        let rules = Rules { gate: None, wanted: Some(wanted), inside: DomainId::ROOT };
        let Self { cluster, rankings, profile, .. } = self;
        let mut found =
            place_in_tree(cluster, rankings, profile, demands, (count, count), rules).ok()?;
        let mut seats: Vec<_> = found.assumed().map(|seat| (seat.pod, seat.node)).collect();
        seats.sort_unstable();
        found.rollback(cluster, Statement::default().checkpoint());
        Some(seats.into_iter().map(|(_, node)| node).collect())
    }

    fn path(&self, node: NodeIndex) -> &[String] {
        &self.paths.iter().find(|(known, _)| *known == node).expect("it is known").1
    }

    /// The smallest domain of all these nodes.
    fn common(&self, nodes: &[NodeIndex]) -> (usize, &str) {
        let first = self.path(nodes[0]);
        let all = |depth: &usize| nodes.iter().all(|n| self.path(*n)[*depth] == first[*depth]);
        let depth = (0..=4).rev().find(all).expect("all are in the cluster");
        (depth, &first[depth])
    }
}

#[test]
fn a_gang_of_one_class_goes_to_the_tightest_of_the_smallest_domains() {
    let mut decided = 0;
    let shapes = [[4, 8, 8, 2], [2, 1, 1, 300]];
    for (shape, percent) in shapes.iter().flat_map(|s| [10, 30, 50, 70, 90].map(|p| (*s, p))) {
        let mut dice = Dice(percent as u64 * 7919 + 1);
        let mut world = World::new(shape, 8);
        world.load(&mut dice, percent);
        for count in [2, 3, 4, 7, 8, 16, 33, 64, 128, 300, 512] {
            for gpus in [1, 2, 4, 8] {
                let demand = world.demand(gpus, 0, count);
                let placed = world.place(&[demand], &Wanted::default());
                let scan = world.scan(gpus);
                let holds = scan.iter().filter(|(_, (_, pods))| *pods >= i64::from(count));
                let best = holds.map(|((depth, _), (_, pods))| (4 - depth, *pods)).min();
                let found = placed.map(|nodes| {
                    let at = world.common(&nodes);
                    (4 - at.0, scan[&at].1)
                });
                assert_eq!(found, best, "{count} pods of {gpus} GPUs at {percent} %");
                decided += usize::from(best.is_some());
            }
        }
    }
    assert!(decided > 150, "few gangs were placed: {decided}");
}

#[test]
fn a_gang_of_two_classes_mostly_does_too() {
    let (mut same, mut all) = (0, 0);
    for percent in [10, 30, 50, 70, 90] {
        let mut dice = Dice(percent as u64 * 104_729 + 1);
        let mut world = World::new([4, 8, 8, 2], 8);
        world.load(&mut dice, percent);
        for _ in 0..40 {
            let (large, small) = (1 + dice.below(24) as u32, 1 + dice.below(24) as u32);
            let demands = [world.demand(4, 0, large), world.demand(1, large, small)];
            let placed = world.place(&demands, &Wanted::default());
            let scan = world.scan(4);
            let needed = i64::from(4 * large + small);
            let holds = scan
                .iter()
                .filter(|(_, (free, pods))| *pods >= i64::from(large) && *free >= needed);
            let best = holds.map(|((depth, _), (_, pods))| (4 - depth, *pods)).min();
            let found = placed.map(|nodes| {
                let at = world.common(&nodes);
                (4 - at.0, scan[&at].1)
            });
            all += 1;
            same += usize::from(found == best);
        }
    }
    assert!(same * 100 >= all * 99, "{same} of {all} as the scan says");
}

fn cost(world: &World, nodes: &[NodeIndex]) -> usize {
    let pairs = nodes.iter().enumerate().flat_map(|(i, a)| nodes[..i].iter().map(move |b| (a, b)));
    pairs.map(|(a, b)| 4 - world.common(&[*a, *b]).0).sum()
}

/// The least cost over all ways to put so many on these nodes.
fn least(
    world: &World,
    room: &[(NodeIndex, usize)],
    left: usize,
    on: &mut Vec<NodeIndex>,
) -> usize {
    if left == 0 {
        return cost(world, on);
    }
    let Some(((node, most), rest)) = room.split_first() else { return usize::MAX };
    let mut best = usize::MAX;
    for here in 0..=left.min(*most) {
        on.extend(std::iter::repeat_n(*node, here));
        best = best.min(least(world, rest, left - here, on));
        on.truncate(on.len() - here);
    }
    best
}

#[test]
fn members_lie_as_near_to_each_other_as_they_can_in_their_domain() {
    let (mut sum, mut anywhere, mut spread) = (0, 0, 0);
    let mut in_pairs = (0, 0);
    let shapes = [([2, 2, 2, 1], 4), ([2, 1, 2, 3], 2)];
    for (seed, (shape, gpus)) in (1..25).flat_map(|seed| shapes.map(|shape| (seed, shape))) {
        let mut dice = Dice(seed * 6007);
        let mut world = World::new(shape, gpus);
        world.load(&mut dice, 20 + 10 * (seed as usize % 6));
        for count in 2..=6 {
            let demand = world.demand(1, 0, count);
            let Some(nodes) = world.place(&[demand], &Wanted::default()) else { continue };
            let (depth, name) = world.common(&nodes);
            let room = |world: &World, all: bool| -> Vec<(NodeIndex, usize)> {
                let inside = world.paths.iter().filter(|(_, path)| all || path[depth] == name);
                inside.map(|(node, _)| (*node, world.free(*node) as usize)).collect()
            };
            let own = cost(&world, &nodes);
            let mut on = Vec::new();
            let best = least(&world, &room(&world, false), count as usize, &mut on);
            assert_eq!(own, best, "{count} of seed {seed} in {shape:?}");
            let nearest = least(&world, &room(&world, true), count as usize, &mut on);
            (sum, anywhere) = (sum + own, anywhere + nearest);
            if shape == shapes[0].0 {
                in_pairs = (in_pairs.0 + own, in_pairs.1 + nearest);
            }
            spread += usize::from(depth < 3 && own > 0);
        }
    }
    println!("cost {sum}, anywhere at least {anywhere}; {in_pairs:?}; {spread} over several racks");
    assert!(spread > 20, "few gangs are divided twice: {spread}");
    // the domain comes before the cost: placements anywhere are a little nearer, see ADR 0016
    assert!(sum >= anywhere, "{sum} is below what is possible, {anywhere}");
    assert!(sum * 100 <= anywhere * 103, "{sum} is far above the least anywhere, {anywhere}");
    assert!(in_pairs.0 * 100 <= in_pairs.1 * 104, "{in_pairs:?}");
}

#[test]
fn constraints_hold_on_what_is_placed() {
    let (mut placed, mut refused) = (0, 0);
    for seed in 1..40 {
        let mut dice = Dice(seed * 15_485_863);
        let mut world = World::new([2, 2, 3, 3], 8);
        world.load(&mut dice, 10 + 20 * (seed as usize % 5));
        for _ in 0..20 {
            let required = (dice.below(2) == 0).then(|| 1 + dice.below(3));
            let size = 1 + dice.below(4);
            let depth = required.unwrap_or(1).max(1 + dice.below(4));
            let apart = dice.below(2) == 0;
            let count = size * (1 + dice.below(5));
            let slices = Slices { size: size as u32, depth: narrow(depth), apart };
            let wanted = Wanted {
                required: required.map(narrow),
                slices: (dice.below(3) > 0).then_some(slices).into_iter().collect(),
                ..Wanted::default()
            };
            let demand = world.demand(2, 0, count as u32);
            let nodes = world.place(&[demand], &wanted);
            let within = |name: &str, depth: usize| -> i64 {
                let inside = world.paths.iter().filter(|(_, path)| path[depth] == name);
                inside.map(|(node, _)| world.free(*node) / 2).sum()
            };
            // slices that fit, by the domain that is required
            let mut by_domain: BTreeMap<&str, BTreeMap<&str, i64>> = BTreeMap::new();
            for (_, path) in &world.paths {
                let (outer, inner) = (&path[required.unwrap_or(0)], &path[depth]);
                by_domain.entry(outer).or_default().insert(inner, within(inner, depth));
            }
            let holds = by_domain.iter().any(|(outer, inner)| match wanted.slices.is_empty() {
                true => within(outer, required.unwrap_or(0)) >= count as i64,
                false => {
                    let units = inner.values().map(|pods| pods / size as i64);
                    let units = units.map(|units| if apart { units.min(1) } else { units });
                    units.sum::<i64>() * size as i64 >= count as i64
                }
            });
            assert_eq!(nodes.is_some(), holds, "{wanted:?} of {count}");
            let Some(nodes) = nodes else {
                refused += 1;
                continue;
            };
            placed += 1;
            assert!(world.common(&nodes).0 >= required.unwrap_or(0));
            if !wanted.slices.is_empty() {
                let mut by: BTreeMap<&str, usize> = BTreeMap::new();
                for node in &nodes {
                    *by.entry(&world.path(*node)[depth]).or_default() += 1;
                }
                assert!(by.values().all(|n| if apart { *n == size } else { n % size == 0 }));
                // neighbours in rank share a slice
                for slice in nodes.chunks(size) {
                    assert!(world.common(slice).0 >= depth, "a slice is in two domains");
                }
            }
        }
    }
    assert!(placed > 100 && refused > 20, "{placed} placed, {refused} refused");
}

fn narrow(depth: usize) -> u8 {
    u8::try_from(depth).expect("it is small")
}

#[test]
fn slices_of_slices_are_placed_if_and_only_if_so_many_fit() {
    let (mut placed, mut refused) = (0, 0);
    for seed in 1..60 {
        let mut dice = Dice(seed * 32_452_843);
        let mut world = World::new([2, 2, 3, 3], 8);
        world.load(&mut dice, 10 + 20 * (seed as usize % 5));
        for _ in 0..20 {
            let (size, ratio) = (1 + dice.below(3), 1 + dice.below(3));
            let outer = 1 + dice.below(4);
            let inner = outer + dice.below(5 - outer);
            let apart = dice.below(3) == 0;
            let count = size * ratio * (1 + dice.below(4));
            let cut =
                |size: usize, depth| Slices { size: size as u32, depth: narrow(depth), apart };
            let slices = vec![cut(size * ratio, outer), cut(size, inner)];
            let wanted = Wanted { slices, ..Wanted::default() };
            let demand = world.demand(2, 0, count as u32);
            let nodes = world.place(&[demand], &wanted);
            // pods that fit, by the domains that hold slices
            let mut by: BTreeMap<(&str, &str), i64> = BTreeMap::new();
            for (node, path) in &world.paths {
                *by.entry((&path[outer], &path[inner])).or_default() += world.free(*node) / 2;
            }
            let at_most = |units: i64| if apart { units.min(1) } else { units };
            let mut outers: BTreeMap<&str, i64> = BTreeMap::new();
            for ((outer, _), pods) in &by {
                *outers.entry(outer).or_default() += at_most(pods / size as i64);
            }
            let fit: i64 = outers.values().map(|units| at_most(units / ratio as i64)).sum();
            assert_eq!(nodes.is_some(), fit * (size * ratio) as i64 >= count as i64, "{wanted:?}");
            let Some(nodes) = nodes else {
                refused += 1;
                continue;
            };
            placed += 1;
            for (size, depth) in [(size * ratio, outer), (size, inner)] {
                let mut used: BTreeMap<&str, usize> = BTreeMap::new();
                for slice in nodes.chunks(size) {
                    assert!(world.common(slice).0 >= depth, "a slice is in two domains");
                    *used.entry(&world.path(slice[0])[depth]).or_default() += 1;
                }
                assert!(!apart || used.values().all(|slices| *slices == 1), "{used:?}");
            }
        }
    }
    assert!(placed > 200 && refused > 50, "{placed} placed, {refused} refused");
}

#[test]
fn two_task_groups_are_placed_if_and_only_if_domains_hold_them() {
    let (mut placed, mut refused) = (0, 0);
    for seed in 1..60 {
        let mut dice = Dice(seed * 49_979_687);
        let mut world = World::new([2, 2, 3, 2], 8);
        world.load(&mut dice, 10 + 20 * (seed as usize % 5));
        for _ in 0..20 {
            let (counts, gang) = ([1 + dice.below(10), 1 + dice.below(10)], 1 + dice.below(2));
            let level = gang + dice.below(5 - gang);
            let pods = [0..counts[0], counts[0]..counts[0] + counts[1]];
            let parts = pods.map(|own| Part {
                name: "part".into(),
                wanted: Wanted { required: Some(narrow(level)), ..Wanted::default() },
                pods: own.map(|at| PodIndex(at as u32)).collect(),
            });
            let wanted =
                Wanted { required: Some(narrow(gang)), parts: parts.into(), ..Wanted::default() };
            let demand = world.demand(2, 0, (counts[0] + counts[1]) as u32);
            let nodes = world.place(&[demand], &wanted);
            let mut by: BTreeMap<(&str, &str), i64> = BTreeMap::new();
            for (node, path) in &world.paths {
                *by.entry((&path[gang], &path[level])).or_default() += world.free(*node) / 2;
            }
            let (one, two) = (counts[0] as i64, counts[1] as i64);
            let holds = by.iter().any(|((gang, domain), room)| {
                let mut others = by.iter().filter(|((other, _), _)| other == gang);
                others.any(|((_, other), more)| match domain == other {
                    true => *room >= one + two,
                    false => *room >= one && *more >= two,
                })
            });
            assert_eq!(nodes.is_some(), holds, "{counts:?} at {level} within {gang}");
            let Some(nodes) = nodes else {
                refused += 1;
                continue;
            };
            placed += 1;
            assert!(world.common(&nodes).0 >= gang);
            for (at, part) in wanted.parts.iter().enumerate() {
                let own = if at == 0 { &nodes[..counts[0]] } else { &nodes[counts[0]..] };
                assert_eq!(own.len(), part.pods.len());
                assert!(world.common(own).0 >= level, "a task group is in two domains");
            }
        }
    }
    assert!(placed > 200 && refused > 50, "{placed} placed, {refused} refused");
}

#[test]
fn nodes_in_order_answer_as_a_look_at_all_nodes_does() {
    let mut asked = 0;
    for seed in 1..10 {
        let mut dice = Dice(seed * 86_028_121);
        let mut world = World::new([2, 1, 1, 300], 8);
        world.load(&mut dice, 10 * seed as usize);
        let gpus = 1 + dice.below(3) as i64;
        let class = class(&mut world.cluster, gpus);
        let root = Place::Domain(DomainId::ROOT);
        for _ in 0..40 {
            let World { cluster, rankings, profile, .. } = &mut world;
            let (fits, keys) = rankings.fits(cluster, profile, class);
            let quick = counts(cluster, fits, keys);
            assert!(quick.crowds.is_some_and(|crowds| crowds.len() == 2));
            let slow = Counts { crowds: None, ..quick };
            for depth in 0..=4 {
                assert_eq!(quick.most_at(root, depth), slow.most_at(root, depth));
            }
            let count = 1 + dice.below(900) as u32;
            let range = (narrow(dice.below(3)), narrow(3 + dice.below(2)));
            let found = quick.smallest(&[root], count, range);
            assert_eq!(found, slow.smallest(&[root], count, range), "{count} at {range:?}");
            if let Some(place) = found {
                let (mut one, mut other) = (Vec::new(), Vec::new());
                quick.fill(place, count, &mut one);
                slow.fill(place, count, &mut other);
                assert_eq!(one, other, "{count} in {place:?}");
                asked += 1;
            }
            // what changes is seen too
            let node = world.paths[dice.below(world.paths.len())].0;
            if world.free(node) >= gpus {
                world.cluster.place(class, node);
                world.running.push((class, node));
            }
            let (gone, node) = world.running.swap_remove(dice.below(world.running.len()));
            world.cluster.unplace(gone, node);
        }
    }
    assert!(asked > 100, "few places were found: {asked}");
}
