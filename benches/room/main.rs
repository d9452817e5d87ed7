//! Making room, and saying that there is none. Each case asserts its answer each time.
//!
//! The time covers the whole sequence: the events by which a claimant comes, and all decisions that
//! follow, up to the calls. What is held fixed stands in the name. With `--test` each case runs in
//! its shortest form. With a word only the cases that have it in their name run.

mod heap;
mod mixed;
mod shares;
mod world;

use mss_scheduler::model::{SliceAsk, TopologyAsk};
use std::time::{Duration, Instant};
use world::{Decided, Gang, RACK, World, queue};

#[global_allocator]
static ALLOCATOR: heap::Counting = heap::Counting;

/// How a run is made.
pub(crate) struct Run {
    short: bool,
    word: Option<String>,
}

/// What is to be reached.
#[derive(Clone, Copy, Default)]
pub(crate) struct Target {
    pub(crate) p50: Option<Duration>,
    pub(crate) p99: Option<Duration>,
    pub(crate) bytes: Option<usize>,
}

impl Run {
    /// Whether a case is to run.
    pub(crate) fn wants(&self, name: &str) -> bool {
        self.word.as_ref().is_none_or(|word| name.contains(word))
    }

    /// Fewer rounds in the short form.
    pub(crate) fn rounds(&self, rounds: usize) -> usize {
        if self.short { 1 } else { rounds }
    }
}

/// Prints the figures of a case beside its targets.
pub(crate) fn report(name: &str, mut times: Vec<Duration>, bytes: usize, target: Target) {
    times.sort_unstable();
    let at = |percent: usize| times[(times.len() * percent / 100).min(times.len() - 1)];
    let verdict = |met: Option<bool>| match met {
        None => "",
        Some(true) => " (met)",
        Some(false) => " (MISSED)",
    };
    println!("{name}, {} decisions", times.len());
    let (p50, p99) = (at(50), at(99));
    println!("  P50 {p50:?}{}", verdict(target.p50.map(|most| p50 <= most)));
    println!("  P99 {p99:?}{}, longest {:?}", verdict(target.p99.map(|most| p99 <= most)), at(100));
    if bytes > 0 {
        let met = target.bytes.map(|most| bytes <= most);
        println!("  heap grows by {:.2} MB{}", bytes as f64 / 1e6, verdict(met));
    }
}

#[inline(never)] // what is measured is one frame of a profile
fn time<T>(run: impl FnOnce() -> T) -> (T, Duration) {
    let start = Instant::now();
    let result = run();
    (result, start.elapsed())
}

fn gang<'a>(namespace: &'a str, name: String, minimum: usize, gpus: i64) -> Gang<'a> {
    Gang { namespace, name, minimum, gpus, priority: 0 }
}

/// Fills nodes of 8 GPUs with gangs of 8 pods: each on one node, or over 8 nodes.
fn fill(world: &mut World, nodes: usize, scattered: bool) {
    for index in 0..nodes {
        let block = index / 8 * 8;
        let width = 8.min(nodes - block);
        let spread: Vec<usize> = (0..8).map(|member| block + (index + member) % width).collect();
        let on = if scattered { spread } else { vec![index; 8] };
        world.gang(&gang("lender", format!("l-{index}"), 8, 1), 8, &on);
    }
    assert_eq!(world.decide(Vec::new()), Decided::default(), "the cluster is full");
}

/// One queue holds all with rigid gangs of 8 x 1 GPU, another of equal weight asks for its half as
/// one gang of whole nodes.
fn large(run: &Run) {
    for (nodes, scattered) in [(100, false), (300, false), (1_000, false), (1_000, true)] {
        let layout = if scattered { "gangs over 8 nodes" } else { "each gang on one node" };
        // a block of 8 nodes is free once the 8 gangs over it are gone
        let size = if scattered { nodes / 16 * 8 } else { nodes / 2 };
        let name = format!("reclaim: {nodes} nodes x 8, {layout}, one gang of {size}");
        if !run.wants(&name) {
            continue;
        }
        let mut times = Vec::new();
        let mut bytes = 0;
        for _ in 0..run.rounds(30) {
            let mut world = World::new(nodes, 8, vec![queue("lender"), queue("asker")]);
            fill(&mut world, nodes, scattered);
            let asked = world.members(&gang("asker", "a".into(), size, 8), size, &[]);
            let ((decided, grown), took) = time(|| heap::growth(|| world.decide(asked)));
            assert_eq!(decided, Decided { placed: 0, victims: size * 8 }, "{name}");
            assert_eq!(world.seat(), size, "{name}: it is seated");
            times.push(took);
            bytes = bytes.max(grown);
        }
        let target = Target {
            p50: Some(Duration::from_millis(6)),
            bytes: Some(5_000_000),
            ..Target::default()
        };
        report(&name, times, bytes, target);
    }
}

/// As before, and the gang is cut into slices of whole racks, or into slices on a node each.
fn slices(run: &Run) {
    for (nodes, size, gpus, level) in [(1_000, 8, 8, RACK), (1_000, 4, 2, "node")] {
        let members = nodes / 16 * 8 * 8 / gpus;
        let name = format!(
            "slices: {nodes} nodes x 8, one gang of {members} x {gpus} by {size} in a {level}"
        );
        if !run.wants(&name) {
            continue;
        }
        let mut times = Vec::new();
        let mut bytes = 0;
        for _ in 0..run.rounds(30) {
            let queues = vec![queue("lender"), queue("asker")];
            let mut world = World::in_racks(nodes, 8, queues, Some(8));
            fill(&mut world, nodes, false);
            let slice = SliceAsk { size: size as u32, level: level.into(), apart: false };
            world.ask = Some(TopologyAsk { slices: vec![slice], ..TopologyAsk::default() });
            let claimant = gang("asker", "a".into(), members, gpus as i64);
            let asked = world.members(&claimant, members, &[]);
            let ((decided, grown), took) = time(|| heap::growth(|| world.decide(asked)));
            assert_eq!(decided, Decided { placed: 0, victims: members * gpus }, "{name}");
            assert_eq!(world.seat(), members, "{name}: it is seated");
            times.push(took);
            bytes = bytes.max(grown);
        }
        report(&name, times, bytes, Target::default());
    }
}

/// On every node one GPU is held by a queue that gives nothing back, so nobody gets whole nodes,
/// to however many a gang is entitled.
fn never(run: &Run) {
    for (nodes, most) in [(100, 1), (1_000, 10), (10_000, 10)] {
        let name = format!("no room: {nodes} nodes x 8, one gang of {} x 8", nodes / 4);
        if !run.wants(&name) {
            continue;
        }
        let mut times = Vec::new();
        let mut bytes = 0;
        for _ in 0..run.rounds(30) {
            let mut firm = queue("firm");
            firm.preemption.reclaimable = false;
            let mut world = World::new(nodes, 8, vec![queue("lender"), queue("asker"), firm]);
            for index in 0..nodes {
                world.gang(&gang("lender", format!("l-{index}"), 7, 1), 7, &[index; 7]);
                world.gang(&gang("firm", format!("f-{index}"), 0, 1), 1, &[index]);
            }
            assert_eq!(world.decide(Vec::new()), Decided::default());
            let asked = world.members(&gang("asker", "a".into(), nodes / 4, 8), nodes / 4, &[]);
            let ((decided, grown), took) = time(|| heap::growth(|| world.decide(asked)));
            assert_eq!(decided, Decided::default(), "{name}");
            assert_eq!(world.scheduler.tallies().searches_unproved, 0, "{name}: no is proved");
            times.push(took);
            bytes = bytes.max(grown);
        }
        let target = Target { p50: Some(Duration::from_millis(most)), ..Target::default() };
        report(&name, times, bytes, target);
    }
}

/// Gangs of 10 that need 5 hold all; gangs of 5 of higher priority come to the same queue, one
/// after the other, and each takes 5 elastic members.
fn elastic(run: &Run) {
    let name = "elastic preemption: 1000 nodes x 10, 1000 gangs of 10 (minimum 5), 100 gangs of 5";
    if !run.wants(name) {
        return;
    }
    let nodes = 1_000;
    let mut times = Vec::new();
    for _ in 0..run.rounds(100) {
        let mut world = World::new(nodes, 10, vec![queue("team")]);
        for index in 0..nodes {
            let on: Vec<usize> = (0..10).map(|member| (index + member * 101) % nodes).collect();
            world.gang(&gang("team", format!("l-{index}"), 5, 1), 10, &on);
        }
        assert_eq!(world.decide(Vec::new()), Decided::default(), "the cluster is full");
        for number in 0..100 {
            let high = Gang { priority: 10, ..gang("team", format!("h-{number}"), 5, 1) };
            let asked = world.members(&high, 5, &[]);
            let (decided, took) = time(|| world.decide(asked));
            assert_eq!(decided, Decided { placed: 0, victims: 5 }, "{name}: {number}");
            times.push(took);
        }
    }
    let target = Target {
        p50: Some(Duration::from_micros(30)),
        p99: Some(Duration::from_micros(300)),
        ..Target::default()
    };
    report(name, times, 0, target);
}

/// Six gangs come at once to a cluster where 140,000 pods run and some nodes are free.
fn burst(run: &Run) {
    let name = "burst: 4000 nodes, 140000 pods run, six gangs of 8 at once";
    if !run.wants(name) {
        return;
    }
    let (nodes, free) = (4_000, 12);
    let mut world = World::new(nodes, 8, vec![queue("team")]);
    for number in 0..140_000 {
        let single = gang("team", format!("r-{number}"), 0, 0);
        world.gang(&single, 1, &[number % (nodes - free)]);
    }
    assert_eq!(world.decide(Vec::new()), Decided::default());
    let mut times = Vec::new();
    for round in 0..run.rounds(10_000) {
        let mut asked = Vec::new();
        for number in 0..6 {
            let name = format!("b-{round}-{number}");
            asked.extend(world.members(&gang("team", name, 8, 1), 8, &[]));
        }
        let (decided, took) = time(|| world.decide(asked));
        assert_eq!(decided, Decided { placed: 48, victims: 0 }, "{name}");
        times.push(took);
        let bound = world.bind();
        world.end(bound);
        world.decide(Vec::new());
    }
    let target = Target { p99: Some(Duration::from_millis(1)), ..Target::default() };
    report(name, times, 0, target);
}

fn main() {
    let arguments: Vec<String> = std::env::args().skip(1).collect();
    let word = arguments.iter().find(|argument| !argument.starts_with("--")).cloned();
    let run = Run { short: arguments.iter().any(|argument| argument == "--test"), word };
    large(&run);
    slices(&run);
    never(&run);
    elastic(&run);
    shares::one_event(&run);
    burst(&run);
    mixed::claims(&run);
}
