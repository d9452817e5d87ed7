//! Random parts of GPUs come and go, and whoever reads what is written on pods finds no device
//! given out beyond a whole one.

#[path = "simulation/random.rs"]
mod random;

use mss_scheduler::model::fault::{Fault, make};
use mss_scheduler::model::gpu_part::PartAmount;
use mss_scheduler::model::{
    DeviceSet, GpuPart, GroupSpec, Node, Pod, PodClass, PodKey, Timestamp, Uid, WallTime,
};
use mss_scheduler::plugins::{Arguments, FILTERS, default_profile, profile};
use mss_scheduler::scheduler::{ApiCall, BindOutcome, Event, Kind, Leadership, Options, Scheduler};
use random::Random;
use std::collections::BTreeMap;
use std::panic::{AssertUnwindSafe, catch_unwind};

const NAME: &str = "mss-scheduler";
const NOW: Timestamp = Timestamp(0);
const NODES: u64 = 3;

/// The truth: what an API server would show.
struct World {
    random: Random,
    scheduler: Scheduler,
    score: Option<&'static str>,
    pods: BTreeMap<Uid, Pod>,
    next: u128,
    bound: u32,
    refused: u32,
}

fn name(node: u64) -> Box<str> {
    format!("n-{node}").into()
}

fn node(number: u64) -> Node {
    Node {
        name: name(number),
        labels: vec![("nvidia.com/gpu.memory".into(), format!("{}", 8192 << number).into())],
        allocatable: vec![("nvidia.com/gpu".into(), 4), ("pods".into(), 110)],
        ..Node::default()
    }
}

impl World {
    fn new(seed: u64) -> Self {
        let score = [None, Some("Packing"), Some("FGD"), Some("Random")][seed as usize % 4];
        let mut world = World {
            random: Random::new(seed),
            scheduler: Scheduler::new(Options::default(), vec![default_profile(NAME)]),
            score,
            pods: BTreeMap::new(),
            next: 1,
            bound: 0,
            refused: 0,
        };
        world.start();
        (0..NODES).for_each(|node| world.hold(node));
        world
    }

    /// Another process begins with what is written.
    fn start(&mut self) {
        let profile = self.score.map_or_else(
            || default_profile(NAME),
            |score| {
                let filters = FILTERS.iter().copied();
                profile(NAME, filters, [(score, 1)], &Arguments::default())
            },
        );
        self.scheduler = Scheduler::new(Options::default(), vec![profile]);
        let mut kinds = [Kind::Node, Kind::Pod, Kind::Namespace];
        kinds.rotate_left(self.random.below(3) as usize);
        for kind in kinds {
            self.scheduler.handle(NOW, Event::ListStarted(kind));
            match kind {
                Kind::Node => (0..NODES).for_each(|number| {
                    self.scheduler.handle(NOW, Event::NodeApplied(Box::new(node(number))));
                }),
                Kind::Pod => self.pods.values().for_each(|pod| {
                    self.scheduler.handle(NOW, Event::PodApplied(Box::new(pod.clone())));
                }),
                _ => {}
            }
            self.scheduler.handle(NOW, Event::ListEnded(kind));
        }
        let leadership = Leadership { previous_renewal: WallTime(0), wall: WallTime(NOW.0) };
        self.scheduler.handle(NOW, Event::Leading(leadership));
    }

    fn show(&mut self, pod: Pod) {
        self.scheduler.handle(NOW, Event::PodApplied(Box::new(pod.clone())));
        self.pods.insert(pod.uid, pod);
    }

    fn uid(&mut self) -> Uid {
        self.next += 1;
        Uid(self.next)
    }

    fn hold(&mut self, node: u64) {
        let uid = self.uid();
        let first = self.random.below(2);
        let devices: DeviceSet = (first as usize..4).collect();
        let requests = vec![("nvidia.com/gpu".into(), 4 - first as i64)];
        let key = PodKey { namespace: "holders".into(), name: format!("h-{}", uid.0).into() };
        let class = PodClass { requests, ..PodClass::default() };
        let node = Some(name(node));
        self.show(Pod { key, uid, node, holds: devices, devices, class, ..Pod::default() });
    }

    fn come(&mut self) {
        let uid = self.uid();
        let milli = 50 * (1 + self.random.below(19)) as u16;
        let kind = self.random.below(8);
        let (count, amount) = match kind {
            0 => (1 + self.random.below(3) as u8, PartAmount::Milli(1000)),
            1 | 2 => (1, PartAmount::Bytes((1 + self.random.below(12 << 10) as i64) << 20)),
            _ => (1, PartAmount::Milli(milli)),
        };
        let packed = kind == 7;
        let mut class = PodClass { profile: Some(0), ..PodClass::default() };
        class.set_gpu_part(Some(GpuPart { count, amount, packed }));
        let gang = format!("{}:{}", if packed { "pack" } else { "g" }, uid.0 / 3);
        let min_member = if packed { 1 } else { 2 };
        let spec = GroupSpec { name: gang.into(), min_member, max_member: None };
        let group = (packed || kind > 5).then_some(Ok(spec));
        let key = PodKey { namespace: "default".into(), name: format!("p-{}", uid.0).into() };
        self.show(Pod { key, uid, profile: Some(0), group, class, ..Pod::default() });
    }

    fn go(&mut self) {
        let place = self.random.below(self.pods.len() as u64) as usize;
        let Some(uid) = self.pods.keys().nth(place).copied() else { return };
        let pod = self.pods.remove(&uid).expect("it was just found");
        self.scheduler.handle(NOW, Event::PodDeleted(uid));
        if !pod.holds.is_empty() {
            let node = pod.node.as_deref().and_then(|node| node[2..].parse().ok());
            self.hold(node.expect("holders are bound"));
        }
    }

    fn decide(&mut self) {
        while self.scheduler.has_work() {
            for call in self.scheduler.cycle(NOW).calls {
                let ApiCall::Bind { call, members, .. } = call else { continue };
                for member in members {
                    let uid = member.pod.uid;
                    let refused = self.random.below(10) == 0;
                    let outcome = if refused {
                        self.refused += 1;
                        BindOutcome::Refused("no".into())
                    } else {
                        self.bound += 1;
                        let pod = self.pods.get_mut(&uid).expect("what is bound exists");
                        pod.node = Some((*member.node).into());
                        pod.devices = member.devices;
                        BindOutcome::Bound
                    };
                    self.judge();
                    self.scheduler.handle(NOW, Event::BindFinished { call, pod: uid, outcome });
                    let pod = self.pods[&uid].clone();
                    if self.random.below(2) == 0 {
                        self.scheduler.handle(NOW, Event::PodApplied(Box::new(pod)));
                    }
                }
            }
        }
        self.scheduler.check_invariants();
    }

    /// D1, by what is written on pods.
    fn judge(&self) {
        let mut taken: BTreeMap<(&str, usize), i64> = BTreeMap::new();
        for pod in self.pods.values() {
            let (Some(node), Some(part)) = (pod.node.as_deref(), pod.class.gpu_part) else {
                continue;
            };
            assert_eq!(pod.devices.len(), usize::from(part.count), "D1: {}", pod.key);
            let memory = 8i64 << (30 + node[2..].parse::<i64>().expect("a number"));
            let milli = match part.amount {
                PartAmount::Milli(milli) => i64::from(milli),
                PartAmount::Bytes(bytes) => (bytes * 1000 + memory - 1) / memory,
            };
            for device in pod.devices.iter() {
                *taken.entry((node, device)).or_default() += milli;
            }
        }
        for ((node, device), taken) in &taken {
            assert!(*taken <= 1000, "D1: {taken} of device {device} of {node}");
        }
        let packs = self.pods.values().filter(|pod| pod.class.gpu_part.is_some_and(|p| p.packed));
        let mut places: BTreeMap<&str, (&Option<Box<str>>, DeviceSet)> = BTreeMap::new();
        for pod in packs.filter(|pod| pod.node.is_some()) {
            let Some(Ok(group)) = &pod.group else { panic!("a pack is a group") };
            let place = (&pod.node, pod.devices);
            let first = *places.entry(&group.name).or_insert(place);
            assert_eq!(first, place, "the pack {} is on one device", group.name);
        }
    }
}

/// Binds and refused binds of one seed.
fn run(seed: u64) -> (u32, u32) {
    let mut world = World::new(seed);
    for _ in 0..120 {
        match world.random.below(20) {
            0..12 => world.come(),
            12..19 => world.go(),
            _ => world.start(),
        }
        world.decide();
    }
    (world.bound, world.refused)
}

#[test]
fn random_parts_never_exceed_a_device() {
    let (mut bound, mut refused) = (0, 0);
    for seed in 0..60 {
        let counts = run(seed);
        (bound, refused) = (bound + counts.0, refused + counts.1);
    }
    assert!(bound > 2000 && refused > 100, "{bound} binds, {refused} refused: too few to say much");
}

#[test]
fn a_part_that_is_not_counted_is_found() {
    make(Some(Fault::PartNotCounted));
    let found = (0..60).find_map(|seed| catch_unwind(AssertUnwindSafe(|| run(seed))).err());
    make(None);
    let why = found.expect("it is found");
    let why = why.downcast_ref::<String>().expect("a message");
    assert!(why.starts_with("D1: "), "{why}");
}
