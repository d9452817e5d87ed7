//! Claims of many kinds on a cluster of many kinds: how long each answer takes, and how many end
//! without room and without a proof that there is none.

use crate::world::{GPU, Gang, World, queue};
use crate::{Run, Target, report, time};
use mss_scheduler::model::QueueSpec;

const NODES: usize = 200;
const QUEUES: [&str; 4] = ["ant", "bee", "cat", "dog"];
const SHAPES: [i64; 5] = [1, 1, 2, 4, 8];

struct Dice(u64);

impl Dice {
    fn below(&mut self, end: usize) -> usize {
        self.0 ^= self.0 << 13;
        self.0 ^= self.0 >> 7;
        self.0 ^= self.0 << 17;
        (self.0 % end as u64) as usize
    }
}

/// Queues of weight 1 to 4, one of them with a guarantee, one that gives nothing back.
fn queues() -> Vec<QueueSpec> {
    let weighted = QUEUES.iter().zip(1..);
    let mut queues: Vec<QueueSpec> =
        weighted.map(|(name, weight)| QueueSpec { weight, ..queue(name) }).collect();
    queues[0].quota = vec![(GPU.into(), 200)];
    queues[1].preemption.reclaimable = false;
    queues
}

/// Gangs of 1 to 12 pods of 1 to 8 GPUs, elastic and rigid, scattered and packed, of three
/// priorities.
fn fill(world: &mut World, dice: &mut Dice) {
    let mut free = [8_i64; NODES];
    for number in 0..4_000 {
        let gpus = SHAPES[dice.below(SHAPES.len())];
        let size = 1 + dice.below(12);
        let start = dice.below(NODES);
        let step = [1, 7, 37][dice.below(3)];
        let mut on: Vec<usize> = Vec::new();
        for at in 0..NODES {
            let node = (start + at * step) % NODES;
            while free[node] >= gpus && on.len() < size {
                free[node] -= gpus;
                on.push(node);
            }
        }
        if !on.is_empty() {
            let minimum = 1 + dice.below(on.len());
            let namespace = QUEUES[dice.below(QUEUES.len())];
            let priority = dice.below(3) as i32;
            let name = format!("r-{number}");
            world.gang(&Gang { namespace, name, minimum, gpus, priority }, on.len(), &on);
        }
    }
    world.decide(Vec::new());
}

pub(crate) fn claims(run: &Run) {
    let name = "mixed: 200 nodes x 8, gangs of many kinds, claims of many kinds";
    if !run.wants(name) {
        return;
    }
    let mut dice = Dice(0x6d69_7865_6421);
    let (mut times, mut placed, mut seated, mut unproved, mut proved) = (Vec::new(), 0, 0, 0, 0);
    for _ in 0..run.rounds(100) {
        let mut world = World::new(NODES, 8, queues());
        fill(&mut world, &mut dice);
        for number in 0..100 {
            let gang = Gang {
                namespace: QUEUES[dice.below(QUEUES.len())],
                name: format!("c-{number}"),
                minimum: 1 + dice.below(16),
                gpus: SHAPES[dice.below(SHAPES.len())],
                priority: dice.below(3) as i32,
            };
            let before = world.scheduler.tallies().searches_unproved;
            let asked = world.members(&gang, gang.minimum, &[]);
            let uids = world.last(gang.minimum);
            let (decided, took) = time(|| world.decide(asked));
            times.push(took);
            let lost = world.scheduler.tallies().searches_unproved > before;
            if decided.victims > 0 {
                seated += 1;
                assert_eq!(world.seat(), gang.minimum, "{name}: {number}");
            } else if decided.placed > 0 {
                placed += 1;
                assert_eq!(world.bind().len(), gang.minimum, "{name}: {number}");
            } else if lost {
                unproved += 1;
                world.end(uids);
            } else {
                proved += 1;
                world.end(uids);
            }
        }
    }
    report(name, times, 0, Target::default());
    let all = placed + seated + unproved + proved;
    println!("  placed {placed}, room made for {seated}, no proved or not entitled {proved}");
    let met = if unproved * 100 <= all { "met" } else { "MISSED" };
    println!("  neither room nor proof: {unproved} of {all} ({met})");
}
