//! Deserved shares against a slow reference and their own laws; usage.

#[path = "fairshare/world.rs"]
mod world;

use mss_scheduler::cluster::{CPU, Cluster, NodeApplied, ResourceId};
use mss_scheduler::fairshare::{Decay, FairShare, QueueIndex, UsageOptions};
use mss_scheduler::model::{Node, Timestamp};
use std::collections::BTreeMap;
use world::{Dice, Place, Queue, User, World, ask, flat, milli, queue};

#[test]
fn worked_examples() {
    let of = |world: &World| ["a", "b"].map(|name| world.of(name));
    let two = |a: Queue, b: Queue, asks: [i64; 2]| flat(100, vec![(a, asks[0]), (b, asks[1])]);
    let plain = |name: &str, quota| queue(name, None, 1, quota);
    // the guarantee first, then the surplus by weight
    assert_eq!(of(&two(plain("a", 60), plain("b", 0), [100, 100])), [80_000, 20_000]);
    let heavy = Queue { surplus_weight: Some(3), ..plain("b", 0) };
    assert_eq!(of(&two(plain("a", 60), heavy, [100, 100])), [70_000, 30_000]);
    // nobody gets more than he asks for
    assert_eq!(of(&two(plain("a", 60), plain("b", 0), [65, 20])), [65_000, 20_000]);
    assert_eq!(of(&two(plain("a", 60), plain("b", 0), [10, 100])), [10_000, 90_000]);
    // 50 of the guarantee are idle, 20 of them may be lent
    let lender = Queue { lend: Some(20), ..plain("a", 60) };
    assert_eq!(of(&two(lender.clone(), plain("b", 0), [10, 100])), [10_000, 60_000]);
    assert_eq!(of(&two(lender.clone(), plain("b", 0), [45, 100])), [45_000, 55_000]);
    // what is withheld is no more than what is left
    assert_eq!(of(&two(lender, plain("b", 95), [1, 100])), [1_000, 95_000]);
    // what may be borrowed, and the limit
    let borrower = Queue { borrow: Some(5), ..plain("a", 60) };
    assert_eq!(of(&two(borrower, plain("b", 0), [100, 100])), [65_000, 35_000]);
    let limited = Queue { limit: Some(62), borrow: Some(5), ..plain("a", 60) };
    assert_eq!(of(&two(limited, plain("b", 0), [100, 100])), [62_000, 38_000]);
    // the surplus goes to the higher band first, guarantees do not ask for bands
    let high = |name: &str, quota| Queue { priority: 1, ..plain(name, quota) };
    assert_eq!(of(&two(high("a", 0), plain("b", 30), [100, 100])), [70_000, 30_000]);
    assert_eq!(of(&two(high("a", 0), plain("b", 30), [50, 100])), [50_000, 50_000]);
    // guarantees above the capacity are scaled down, what is not asked for stays with the other
    assert_eq!(of(&two(plain("a", 150), plain("b", 50), [200, 200])), [75_000, 25_000]);
    assert_eq!(of(&two(plain("a", 150), plain("b", 50), [60, 200])), [60_000, 40_000]);
    // what rounding leaves in a band goes to nobody, lower bands included
    let queues = ["a", "b", "c"].map(|name| (high(name, 0), 100)).to_vec();
    let mut world = flat(100, queues);
    world.queues.push(plain("d", 0));
    world.users.push(User { queue: 3, name: "user".to_owned(), allocated: 0, pending: 9 });
    assert_eq!(["a", "b", "c", "d"].map(|name| world.of(name)), [33_333, 33_333, 33_333, 0]);
}

#[test]
fn one_heavy_queue_against_many_light_ones() {
    let mut queues = vec![(queue("a", None, 64, 0), 1_000)];
    queues.extend((0..64).map(|i| (queue(&format!("b{i}"), None, 1, 0), 2)));
    let world = flat(190, queues);
    // a level of 1484.75: the light ones have their floors, the heavy one gains what those leave
    assert_eq!(world.of("a"), 95_024);
    assert_eq!(world.of("b7"), 1_484);
    assert_eq!(world.reference(), world.deserved());
}

#[test]
fn ratios_of_a_tag_tree_hold_under_saturation() {
    let tags = [("diamond", 60), ("gold", 20), ("silver", 5)];
    let queues = tags.map(|(name, ratio)| (queue(name, None, ratio, 0), 1_000)).to_vec();
    let of = |world: &World| tags.map(|(name, _)| world.of(name));
    assert_eq!(of(&flat(85, queues.clone())), [60_000, 20_000, 5_000]);
    // the level is the largest that fits: between 1176.47, an even division, and 1176.5
    assert_eq!(of(&flat(100, queues.clone())), [70_589, 23_529, 5_882]);
    // without diamond the others share at the same ratio
    let mut without = flat(85, queues);
    without.users[0].pending = 0;
    assert_eq!(of(&without), [0, 68_000, 17_000]);
}

#[test]
fn shares_are_those_of_the_reference_after_every_change() {
    let mut dice = Dice(0x5eed_0001);
    for tree in 0..6_000 {
        let mut world = World::random(&mut dice);
        let (mut share, places) = world.build();
        assert_eq!(ask(&mut share, &places), world.reference(), "tree {tree}: {world:?}");
        for _ in 0..3 {
            for _ in 0..1 + dice.below(3) {
                change(&mut world, &mut share, &places, &mut dice);
            }
            assert_eq!(ask(&mut share, &places), world.reference(), "tree {tree}: {world:?}");
            for (place, queue) in &places {
                assert_eq!(milli(share.demand(*queue, CPU)), world.demand(*place), "{world:?}");
            }
        }
    }
}

/// One random event, in the world and in the ledger.
fn change(
    world: &mut World,
    share: &mut FairShare,
    places: &BTreeMap<Place, QueueIndex>,
    dice: &mut Dice,
) {
    if world.users.is_empty() || dice.one_in(5) {
        world.capacity = dice.below(2 * world.capacity + 10);
        share.set_capacity(CPU, world.capacity);
        return;
    }
    let index = dice.below(world.users.len() as i64) as usize;
    let (user, leaf) = (&mut world.users[index], places[&Place::User(index)]);
    match dice.below(4) {
        0 => {
            let more = dice.below(30);
            user.pending += more;
            share.pend(leaf, &[(CPU, more)], 1);
        }
        1 => {
            share.pend(leaf, &[(CPU, user.pending)], -1);
            share.charge(leaf, &[(CPU, user.pending)], 1);
            user.allocated += std::mem::take(&mut user.pending);
        }
        2 => {
            let less = dice.below(user.pending + 1);
            user.pending -= less;
            share.pend(leaf, &[(CPU, less)], -1);
        }
        _ => {
            share.charge(leaf, &[(CPU, user.allocated)], -1);
            user.allocated = 0;
        }
    }
}

#[test]
fn neither_names_nor_order_matter() {
    let mut dice = Dice(0x5eed_0002);
    for _ in 0..500 {
        let world = World::random(&mut dice);
        let before = world.deserved();
        let mut other = world.clone();
        for queue in &mut other.queues {
            queue.name = format!("n{}{}", dice.below(1_000_000), queue.name);
        }
        for (index, user) in other.users.iter_mut().enumerate() {
            user.name = format!("{}u{index}", dice.below(1_000_000));
        }
        let mut specs = other.specs();
        let mut order: Vec<usize> = (0..other.users.len()).collect();
        (1..specs.len()).for_each(|i| specs.swap(i, dice.below(i as i64 + 1) as usize));
        (1..order.len()).for_each(|i| order.swap(i, dice.below(i as i64 + 1) as usize));
        let (mut share, places) = other.build_in_order(&specs, &order);
        assert_eq!(ask(&mut share, &places), before, "{world:?}");
    }
}

#[test]
fn nobody_has_more_than_he_may() {
    let mut dice = Dice(0x5eed_0003);
    for _ in 0..1_000 {
        let world = World::random(&mut dice);
        let deserved = world.deserved();
        for (place, share) in &deserved {
            let below: i128 = world.children(*place).iter().map(|child| deserved[child]).sum();
            assert!(below <= *share, "children of {place:?} in {world:?}");
            let is_root = *place == Place::Root;
            assert!(is_root || (0..=world.demand(*place)).contains(share), "{place:?} {world:?}");
            let limit = world.terms(*place).limit;
            assert!(limit.is_none_or(|limit| *share <= milli(limit)), "{place:?} {world:?}");
        }
    }
}

#[test]
fn shares_scale_with_all_amounts() {
    let mut dice = Dice(0x5eed_0004);
    for _ in 0..500 {
        let world = World::random(&mut dice);
        let factor = 2 + dice.below(1_000);
        let mut scaled = world.clone();
        scaled.capacity *= factor;
        for queue in &mut scaled.queues {
            queue.quota *= factor;
            for amount in [&mut queue.limit, &mut queue.lend, &mut queue.borrow] {
                *amount = amount.map(|amount| amount * factor);
            }
        }
        for user in &mut scaled.users {
            user.allocated *= factor;
            user.pending *= factor;
        }
        // rounding, of which one thousandth for each queue or user becomes `factor` of them
        let slack = (world.queues.len() + world.users.len()) as i128 * i128::from(factor + 1);
        let after = scaled.deserved();
        for (place, before) in world.deserved() {
            let off = (after[&place] - before * i128::from(factor)).abs();
            assert!(off <= slack, "{place:?} is off by {off} of {slack}: {world:?}");
        }
    }
}

#[test]
fn more_weight_demand_or_capacity_never_means_less() {
    let mut dice = Dice(0x5eed_0005);
    for _ in 0..1_500 {
        let world = World::random(&mut dice);
        let before = world.deserved();
        let mut heavier = world.clone();
        let index = dice.below(world.queues.len() as i64) as usize;
        let queue = &mut heavier.queues[index];
        let weight = queue.surplus_weight.unwrap_or(queue.weight);
        queue.surplus_weight = Some(1_000_000.min(weight + 1 + dice.below(100) as u32));
        let place = Place::Queue(index);
        assert!(heavier.deserved()[&place] >= before[&place], "weight of {place:?} {world:?}");
        let mut larger = world.clone();
        larger.capacity += dice.below(100);
        let after = larger.deserved();
        assert!(before.iter().all(|(place, d)| after[place] >= *d), "capacity {world:?}");
        if !world.users.is_empty() {
            let mut eager = world.clone();
            let index = dice.below(world.users.len() as i64) as usize;
            eager.users[index].pending += 1 + dice.below(1_000);
            let after = eager.deserved();
            let mut above = Some(Place::User(index));
            while let Some(place) = above {
                assert!(after[&place] >= before[&place], "demand of {place:?} {world:?}");
                above = match place {
                    Place::User(user) => Some(Place::Queue(world.users[user].queue)),
                    Place::Queue(queue) => world.queues[queue].parent.map(Place::Queue),
                    Place::Root => None,
                };
            }
        }
    }
}

#[test]
fn the_largest_amounts_and_trees_do_not_overflow() {
    let huge = 1 << 52;
    let queues = (0..10_000).map(|i| {
        let weight = if i % 2 == 0 { 1_000_000 } else { 999_983 };
        let quota = if i < 255 { huge - i } else { 0 };
        (queue(&format!("q{i}"), None, weight, quota), huge)
    });
    for capacity in [i64::MAX, 1 << 59, 1 << 58, 12_345, 0] {
        let world = flat(capacity, queues.clone().collect());
        let deserved = world.deserved();
        let sum: i128 = (0..10_000).map(|i| deserved[&Place::Queue(i)]).sum();
        let (most, asked) = (milli(capacity), milli(huge) * 10_000);
        assert!(sum <= most && sum > most.min(asked) - 20_000, "{sum} of {most}");
    }
}

/// A tree with queue "a" and its user alice, where GPUs are known, and their id.
fn with_gpus() -> (FairShare, QueueIndex, ResourceId) {
    let mut cluster = Cluster::default();
    let allocatable = vec![("nvidia.com/gpu".into(), 8)];
    let applied = cluster.apply_node(Node { name: "n".into(), allocatable, ..Node::default() });
    assert_eq!(applied, NodeApplied::NewResources);
    let mut share = FairShare::default();
    share.replace(&World { queues: vec![queue_a()], ..World::default() }.specs()).unwrap();
    share.bind_resources(cluster.resources());
    let leaf = share.acquire_leaf(share.find("a").unwrap(), "alice");
    (share, leaf, cluster.resources().find("nvidia.com/gpu").unwrap())
}

const HOUR: i64 = 3_600_000;

fn close(a: f64, b: f64) -> bool {
    (a - b).abs() <= 1e-9 * a.abs().max(b.abs())
}

#[test]
fn usage_is_the_decayed_integral_however_often_time_advances() {
    for decay in [Decay::HalfLife(2 * HOUR), Decay::HistHours(5.0), Decay::Never] {
        let once = |steps: i64| {
            let (mut share, leaf, gpu) = with_gpus();
            share.set_usage_options(UsageOptions { decay, ..UsageOptions::default() });
            share.charge(leaf, &[(gpu, 3), (CPU, 64_000)], 1);
            for step in 1..=steps {
                share.advance(Timestamp(3 * HOUR * step / steps));
                // brings what is stored up to date
                share.charge(leaf, &[(gpu, 5)], 1);
                share.charge(leaf, &[(gpu, 5)], -1);
            }
            share.path(leaf).map(|queue| share.usage(queue)).collect::<Vec<f64>>()
        };
        let (one, many) = (once(1), once(1_000));
        assert!(one.iter().zip(&many).all(|(a, b)| close(*a, *b)), "{one:?} {many:?}");
        // 3 GPUs of factor 4, second by second
        let fade = |seconds: f64| match decay {
            Decay::HalfLife(millis) => 0.5_f64.powf(seconds * 1000.0 / millis as f64),
            Decay::HistHours(hours) => 0.1_f64.powf(seconds / 3600.0 / hours),
            Decay::Never => 1.0,
        };
        let sum: f64 = (0..3 * 3600).map(|second| 12.0 * fade(f64::from(second) + 0.5)).sum();
        assert!(one.iter().all(|usage| (usage - sum).abs() < 1e-6 * sum), "{one:?} {sum}");
    }
}

#[test]
fn what_came_to_nothing_is_no_usage() {
    for decay in [Decay::HalfLife(2 * HOUR), Decay::Never] {
        let used = |fails: bool| {
            let (mut share, leaf, gpu) = with_gpus();
            share.set_usage_options(UsageOptions { decay, ..UsageOptions::default() });
            share.charge(leaf, &[(gpu, 2)], 1);
            share.advance(Timestamp(HOUR));
            if fails {
                share.charge(leaf, &[(gpu, 3), (CPU, 1000)], 1);
            }
            share.advance(Timestamp(3 * HOUR));
            if fails {
                share.refund(leaf, &[(gpu, 3), (CPU, 1000)], 2 * HOUR);
                share.charge(leaf, &[(gpu, 3), (CPU, 1000)], -1);
            }
            share.advance(Timestamp(4 * HOUR));
            share.path(leaf).map(|queue| share.usage(queue)).collect::<Vec<f64>>()
        };
        let (with, without) = (used(true), used(false));
        assert!(with.iter().zip(&without).all(|(a, b)| close(*a, *b)), "{with:?} {without:?}");
    }
}

#[test]
fn usage_fades_and_outlives_leaves_and_trees() {
    let (mut share, leaf, gpu) = with_gpus();
    share.charge(leaf, &[(gpu, 2)], 1);
    share.advance(Timestamp(HOUR));
    share.charge(leaf, &[(gpu, 2)], -1);
    let used = share.usage(leaf);
    assert!(used > 0.8 * 8.0 * 3600.0 && used < 8.0 * 3600.0);
    share.release_leaf(leaf);
    share.advance(Timestamp(3 * HOUR));
    let queue = share.find("a").unwrap();
    let bob = share.acquire_leaf(queue, "bob");
    assert_eq!(share.usage(bob), 0.0);
    let alice = share.acquire_leaf(queue, "alice");
    assert!(close(share.usage(alice), used / 2.0) && close(share.usage(queue), used / 2.0));
    // a new tree: the queue is gone, and comes back later
    share.replace(&[]).unwrap();
    assert!(close(share.usage(QueueIndex::ROOT), used / 2.0));
    share.advance(Timestamp(5 * HOUR));
    share.replace(&World { queues: vec![queue_a()], ..World::default() }.specs()).unwrap();
    let queue = share.find("a").unwrap();
    let alice = share.acquire_leaf(queue, "alice");
    assert!(close(share.usage(queue), used / 4.0) && close(share.usage(alice), used / 4.0));
    // time does not run backwards
    share.advance(Timestamp(HOUR));
    assert!(close(share.usage(queue), used / 4.0));
}

fn queue_a() -> Queue {
    queue("a", None, 1, 0)
}
