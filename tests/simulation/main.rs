//! The whole core in simulated worlds: random gangs, arrivals, ends, node loss, foreign pods,
//! relists, late and refused binds, and a leader that dies at any moment. Invariants are checked
//! after every event, outcomes at the end, when faults have stopped.
//!
//! A failure names its seed; `MSS_SEED=n cargo test --test simulation` runs that one alone.

mod checks;
mod random;
mod tally;
mod tenants;
mod world;

use world::World;

/// Worlds per run, and steps of each.
const SEEDS: u64 = 600;
const STEPS: usize = 400;

fn run(seed: u64) -> tally::Tally {
    let mut world = World::new(seed);
    for _ in 0..STEPS {
        world.step();
        world.scheduler.check_invariants();
        checks::truth(&world);
    }
    world.settle();
    checks::settled(&world);
    world.tally
}

#[test]
fn random_worlds_keep_every_invariant() {
    let only = std::env::var("MSS_SEED").ok().map(|seed| seed.parse().expect("a number"));
    let seeds = only.map_or(0..SEEDS, |seed| seed..seed + 1);
    let mut total = tally::Tally::default();
    for seed in seeds {
        let outcome = std::panic::catch_unwind(|| run(seed));
        match outcome {
            Ok(tally) => total.add(&tally),
            Err(_) => panic!("failed: MSS_SEED={seed} cargo test --test simulation"),
        }
    }
    eprintln!("simulation: {total:?}");
    if only.is_none() {
        total.assert_reached();
    }
}

#[test]
fn the_same_seed_gives_the_same_calls() {
    for seed in 0..20 {
        let log = |seed| {
            let mut world = World::new(seed);
            (0..STEPS).for_each(|_| world.step());
            world.settle();
            world.log
        };
        assert_eq!(log(seed), log(seed), "I8: seed {seed}");
    }
}
