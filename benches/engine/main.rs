//! Engine figures: decisions without any API. Each case asserts its result before it is measured.
//!
//! What is held fixed stands in the name: nodes, pods, shapes, gang size. The time covers the whole
//! sequence: events in, decisions, calls out.

use criterion::{BatchSize, Criterion, Throughput, criterion_group, criterion_main};
use mss_scheduler::model::{GroupSpec, Node, Pod, PodClass, PodKey, Timestamp, Uid, WallTime};
use mss_scheduler::plugins::default_profile;
use mss_scheduler::scheduler::{ApiCall, Event, Kind, Leadership, Options, Scheduler};
use std::time::Duration;

/// The allocator that the binary ships with.
#[cfg(feature = "live")]
#[global_allocator]
static ALLOCATOR: mimalloc::MiMalloc = mimalloc::MiMalloc;

const GPU: &str = "nvidia.com/gpu";
const NOW: Timestamp = Timestamp(0);

fn node(index: usize) -> Node {
    let allocatable = vec![
        ("cpu".into(), 96_000),
        ("memory".into(), 1 << 40),
        (GPU.into(), 8),
        ("pods".into(), 110),
    ];
    Node { name: format!("node-{index:06}").into(), allocatable, ..Node::default() }
}

/// One of 64 shapes: CPU and memory differ, some ask for a GPU.
fn shape(index: usize, gpus: i64) -> PodClass {
    let (cpu, memory) = (500 + 50 * (index as i64 % 8), (1 << 30) + ((index as i64 / 8 % 8) << 27));
    let mut requests = vec![("cpu".into(), cpu), ("memory".into(), memory)];
    if gpus > 0 {
        requests.push((GPU.into(), gpus));
    }
    let counted = [cpu, memory];
    PodClass {
        profile: Some(0),
        requests,
        non_zero: counted,
        non_zero_asked: counted,
        ..PodClass::default()
    }
}

fn pod(index: usize, class: PodClass, group: Option<GroupSpec>) -> Event {
    let key = PodKey { namespace: "bench".into(), name: format!("pod-{index:06}").into() };
    let created = WallTime(index as i64);
    let uid = Uid(index as u128 + 1);
    let profile = Some(0);
    let group = group.map(Ok);
    Event::PodApplied(Box::new(Pod { key, uid, profile, created, group, class, ..Pod::default() }))
}

/// A synced leader that knows `nodes` nodes.
fn scheduler(nodes: usize) -> Scheduler {
    let mut scheduler = Scheduler::new(Options::default(), vec![default_profile("mss-scheduler")]);
    for kind in [Kind::Node, Kind::Pod, Kind::Namespace] {
        scheduler.handle(NOW, Event::ListStarted(kind));
        if kind == Kind::Node {
            (0..nodes).for_each(|i| scheduler.handle(NOW, Event::NodeApplied(Box::new(node(i)))));
        }
        scheduler.handle(NOW, Event::ListEnded(kind));
    }
    scheduler.handle(
        NOW,
        Event::Leading(Leadership { previous_renewal: WallTime(0), wall: WallTime(NOW.0) }),
    );
    scheduler
}

/// Decides until nothing is left; returns the members that were placed.
fn decide_all(scheduler: &mut Scheduler) -> usize {
    let mut placed = 0;
    while scheduler.has_work() {
        for call in scheduler.cycle(NOW).calls {
            if let ApiCall::Bind { members, .. } = call {
                placed += members.len();
            }
        }
    }
    placed
}

fn measure(
    criterion: &mut Criterion,
    name: &str,
    nodes: usize,
    pods: impl Fn() -> Vec<Event>,
    expected: usize,
) {
    let mut group = criterion.benchmark_group("engine");
    group.sample_size(10).measurement_time(Duration::from_secs(5));
    group.throughput(Throughput::Elements(pods().len() as u64));
    let run = |mut scheduler: Scheduler, pods: Vec<Event>| {
        pods.into_iter().for_each(|event| scheduler.handle(NOW, event));
        let placed = decide_all(&mut scheduler);
        (scheduler, placed)
    };
    let (checked, placed) = run(scheduler(nodes), pods());
    assert_eq!(placed, expected, "{name}: members placed");
    assert!(checked.oversubscribed().is_empty(), "{name}: no node is oversubscribed");
    checked.check_invariants();
    group.bench_function(name, |bencher| {
        let setup = || (scheduler(nodes), pods());
        bencher.iter_batched(setup, |(s, pods)| run(s, pods), BatchSize::PerIteration);
    });
    group.finish();
}

fn gang(size: usize, from: usize, class: &PodClass) -> Vec<Event> {
    let spec = GroupSpec {
        name: format!("gang-{from}").into(),
        min_member: u32::try_from(size).expect("small"),
        max_member: None,
    };
    (from..from + size).map(|i| pod(i, class.clone(), Some(spec.clone()))).collect()
}

fn benches(criterion: &mut Criterion) {
    let one_gpu = |i: usize| shape(i % 64, i64::from(i.is_multiple_of(2)));
    let bare = || (0..50_000).map(|i| pod(i, one_gpu(i), None)).collect();
    measure(criterion, "5000 nodes, 50000 pods of 64 shapes", 5_000, bare, 50_000);
    let small = || (0..3_000).flat_map(|g| gang(8, g * 8, &shape(0, 1))).collect();
    measure(criterion, "5000 nodes, 3000 gangs of 8", 5_000, small, 24_000);
    let huge = || gang(5_000, 0, &shape(0, 1));
    measure(criterion, "5000 nodes, one gang of 5000", 5_000, huge, 5_000);
    let never = || (0..4_000).map(|i| pod(i, shape(0, 9), None)).collect();
    measure(criterion, "1000 nodes, 4000 pods that never fit", 1_000, never, 0);
    let many = || (0..100_000).map(|i| pod(i, one_gpu(i), None)).collect();
    measure(criterion, "100000 nodes, 100000 pods of 64 shapes", 100_000, many, 100_000);
}

criterion_group!(all, benches);
criterion_main!(all);
