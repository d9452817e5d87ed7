//! Gangs that must each be in one rack: 2,250 gangs of 4 pods on 5,000 nodes in 50 racks. That
//! each is in the rack that a full scan would choose is asserted in a pass that is not measured.
//! Then the same gangs without any wish, on nodes without labels and in 1, 3 and 50 domains.
//!
//! The time covers the whole sequence: events in, decisions, calls out. Nodes are known before.

use mss_scheduler::model::{
    GroupSpec, Node, Pod, PodClass, PodKey, Timestamp, TopologyAsk, Uid, WallTime,
};
use mss_scheduler::plugins::default_profile;
use mss_scheduler::scheduler::{ApiCall, Event, Kind, Leadership, Options, Scheduler};
use std::time::Instant;

/// The allocator that the binary ships with.
#[cfg(feature = "live")]
#[global_allocator]
static ALLOCATOR: mimalloc::MiMalloc = mimalloc::MiMalloc;

const GPU: &str = "nvidia.com/gpu";
const NOW: Timestamp = Timestamp(0);
const NODES: usize = 5_000;
const RACKS: usize = 50;
const GANGS: usize = 2_250;
const MEMBERS: usize = 4;
const GPUS: usize = 4;

/// Nodes lie in so many domains of the one level; 0: they lack the label.
fn scheduler(domains: usize) -> Scheduler {
    let topology_levels = vec!["rack".into()];
    let options = Options { topology_levels, ..Options::default() };
    let mut scheduler = Scheduler::new(options, vec![default_profile("mss-scheduler")]);
    for kind in [Kind::Node, Kind::Pod, Kind::Namespace] {
        scheduler.handle(NOW, Event::ListStarted(kind));
        for at in (0..NODES).filter(|_| kind == Kind::Node) {
            let name = at.to_string().into();
            let domain = at.checked_rem(domains).map(|domain| domain.to_string().into());
            let labels = domain.map(|domain| ("rack".into(), domain)).into_iter().collect();
            let allocatable = vec![("cpu".into(), 96_000), (GPU.into(), 8), ("pods".into(), 110)];
            let node = Node { name, labels, allocatable, ..Node::default() };
            scheduler.handle(NOW, Event::NodeApplied(Box::new(node)));
        }
        scheduler.handle(NOW, Event::ListEnded(kind));
    }
    let lead = Leadership { previous_renewal: WallTime(0), wall: WallTime(NOW.0) };
    scheduler.handle(NOW, Event::Leading(lead));
    scheduler
}

fn pods(required: bool) -> Vec<Event> {
    let requests = vec![("cpu".into(), 4_000), (GPU.into(), GPUS as i64)];
    let class = PodClass { profile: Some(0), requests, ..PodClass::default() };
    let ask = TopologyAsk { required: Some("rack".into()), ..TopologyAsk::default() };
    let ask = required.then(|| Box::new(ask));
    let pod = |at: usize| {
        let name = format!("gang-{:06}", at / MEMBERS).into();
        let group = GroupSpec { name, min_member: MEMBERS as u32, max_member: None };
        let key = PodKey { namespace: "bench".into(), name: format!("pod-{at:06}").into() };
        Event::PodApplied(Box::new(Pod {
            key,
            uid: Uid(at as u128 + 1),
            profile: Some(0),
            created: WallTime((at / MEMBERS) as i64),
            group: Some(Ok(group)),
            topology: ask.clone(),
            class: class.clone(),
            ..Pod::default()
        }))
    };
    (0..GANGS * MEMBERS).map(pod).collect()
}

/// The nodes of each gang, in the order of the decisions.
fn decide(scheduler: &mut Scheduler, pods: Vec<Event>) -> Vec<Vec<usize>> {
    pods.into_iter().for_each(|event| scheduler.handle(NOW, event));
    let mut gangs = Vec::new();
    while scheduler.has_work() {
        for call in scheduler.cycle(NOW).calls {
            if let ApiCall::Bind { members, .. } = call {
                let node = |name: &str| name.parse().expect("nodes are named by numbers");
                gangs.push(members.iter().map(|member| node(&member.node)).collect());
            }
        }
    }
    gangs
}

/// Each gang is in one rack, and no rack that held it had less room.
fn check(gangs: &[Vec<usize>]) {
    assert_eq!(gangs.len(), GANGS, "all gangs are placed");
    let mut free = vec![8 / GPUS; NODES];
    for nodes in gangs {
        let rack = nodes[0] % RACKS;
        assert!(nodes.len() == MEMBERS && nodes.iter().all(|node| node % RACKS == rack));
        let mut room = [0; RACKS];
        (0..NODES).for_each(|node| room[node % RACKS] += free[node]);
        let tightest = room.iter().copied().filter(|room| *room >= MEMBERS).min();
        assert_eq!(Some(room[rack]), tightest, "another rack is tighter");
        nodes.iter().for_each(|node| free[*node] -= 1);
    }
}

/// Pods a second.
fn rate(domains: usize, required: bool) -> f64 {
    let (mut scheduler, pods) = (scheduler(domains), pods(required));
    let began = Instant::now();
    let gangs = decide(&mut scheduler, pods);
    let seconds = began.elapsed().as_secs_f64();
    assert_eq!(gangs.len(), GANGS);
    (GANGS * MEMBERS) as f64 / seconds
}

/// The slowest, the median and the fastest of rounds.
fn spread(mut rates: Vec<f64>) -> [f64; 3] {
    rates.sort_by(f64::total_cmp);
    [rates[0], rates[rates.len() / 2], rates[rates.len() - 1]]
}

fn main() {
    check(&decide(&mut scheduler(RACKS), pods(true)));
    let [slowest, median, fastest] = spread((0..10).map(|_| rate(RACKS, true)).collect());
    println!(
        "{GANGS} gangs of {MEMBERS}, one rack each, {NODES} nodes in {RACKS} racks, {} % of the \
         GPUs at the end: {median:.0} pods/s (median of 10; {slowest:.0} to {fastest:.0})",
        100 * GANGS * MEMBERS * GPUS / (NODES * 8),
    );
    // in turns, so that what else the machine does is the same to all
    let shapes = [0, 1, 3, RACKS];
    let mut rounds = vec![Vec::new(); shapes.len()];
    for _ in 0..20 {
        for (rates, domains) in rounds.iter_mut().zip(shapes) {
            rates.push(rate(domains, false));
        }
    }
    for (rates, domains) in rounds.into_iter().zip(shapes) {
        let [slowest, median, fastest] = spread(rates);
        println!(
            "the same anywhere, nodes in {domains} domains: {median:.0} pods/s (median of 20; \
             {slowest:.0} to {fastest:.0})"
        );
    }
}
