//! A scheduler that leads a full cluster.

use mss_scheduler::model::{
    GroupSpec, Node, Pod, PodClass, PodKey, QueueSpec, Timestamp, TopologyAsk, Uid, WallTime,
};
use mss_scheduler::plugins::default_profile;
use mss_scheduler::scheduler::{
    ApiCall, BindMember, BindOutcome, CallId, Event, Kind, Leadership, Options, Scheduler,
};
use std::collections::HashMap;

pub(crate) const GPU: &str = "nvidia.com/gpu";
/// The level that nodes may have.
pub(crate) const RACK: &str = "rack";
const NOW: Timestamp = Timestamp(0);

pub(crate) struct World {
    pub(crate) scheduler: Scheduler,
    pods: u128,
    gpus: i64,
    /// what each pod asks for, and where it runs
    known: HashMap<Uid, (i64, Option<String>)>,
    /// GPUs in use
    used: HashMap<String, i64>,
    /// of the last decisions
    binds: Vec<(CallId, Vec<BindMember>)>,
    victims: Vec<Uid>,
    /// what gangs that come ask of the topology
    pub(crate) ask: Option<TopologyAsk>,
}

/// Members of a gang, alike.
#[derive(Clone)]
pub(crate) struct Gang<'a> {
    pub(crate) namespace: &'a str,
    pub(crate) name: String,
    pub(crate) minimum: usize,
    pub(crate) gpus: i64,
    pub(crate) priority: i32,
}

/// What a cycle decided.
#[derive(Default, Debug, PartialEq, Eq)]
pub(crate) struct Decided {
    pub(crate) placed: usize,
    pub(crate) victims: usize,
}

pub(crate) fn queue(name: &str) -> QueueSpec {
    QueueSpec { name: name.into(), namespaces: vec![name.into()], ..QueueSpec::default() }
}

impl World {
    pub(crate) fn new(nodes: usize, gpus: i64, queues: Vec<QueueSpec>) -> Self {
        Self::in_racks(nodes, gpus, queues, None)
    }

    /// With so many nodes in a rack, or without labels.
    pub(crate) fn in_racks(
        nodes: usize,
        gpus: i64,
        queues: Vec<QueueSpec>,
        rack: Option<usize>,
    ) -> Self {
        let mut options = Options { queues_watched: true, ..Options::default() };
        if rack.is_some() {
            options.topology_levels = vec![RACK.into()];
        }
        let mut scheduler = Scheduler::new(options, vec![default_profile("mss-scheduler")]);
        for kind in [Kind::Queue, Kind::Node, Kind::Pod, Kind::Namespace] {
            scheduler.handle(NOW, Event::ListStarted(kind));
            if kind == Kind::Queue {
                let queues = queues.iter().cloned().map(Box::new);
                queues.for_each(|queue| scheduler.handle(NOW, Event::QueueApplied(queue)));
            }
            if kind == Kind::Node {
                let rack_of = |index| rack.map(|size| index / size);
                let node = |index| Event::NodeApplied(Box::new(node(index, gpus, rack_of(index))));
                (0..nodes).for_each(|index| scheduler.handle(NOW, node(index)));
            }
            scheduler.handle(NOW, Event::ListEnded(kind));
        }
        let leadership = Leadership { previous_renewal: WallTime(0), wall: WallTime(NOW.0) };
        scheduler.handle(NOW, Event::Leading(leadership));
        Self {
            scheduler,
            pods: 0,
            gpus,
            known: HashMap::new(),
            used: HashMap::new(),
            binds: Vec::new(),
            victims: Vec::new(),
            ask: None,
        }
    }

    /// A gang comes; `nodes`: where its members run already.
    pub(crate) fn gang(&mut self, gang: &Gang<'_>, members: usize, nodes: &[usize]) {
        for event in self.members(gang, members, nodes) {
            self.scheduler.handle(NOW, event);
        }
    }

    /// The events by which a gang comes.
    pub(crate) fn members(
        &mut self,
        gang: &Gang<'_>,
        members: usize,
        nodes: &[usize],
    ) -> Vec<Event> {
        let spec = GroupSpec {
            name: gang.name.as_str().into(),
            min_member: u32::try_from(gang.minimum).expect("small"),
            max_member: None,
        };
        let requests = vec![("cpu".into(), 1000), (GPU.into(), gang.gpus)];
        let counted = [1000, 0];
        let class = PodClass {
            profile: Some(0),
            requests,
            non_zero: counted,
            non_zero_asked: counted,
            ..PodClass::default()
        };
        let member = |number: usize| {
            let pod = Pod {
                key: PodKey {
                    namespace: gang.namespace.into(),
                    name: format!("{}-{number}", gang.name).into(),
                },
                uid: Uid(self.pods + number as u128 + 1),
                profile: Some(0),
                node: nodes.get(number).map(|node| name(*node).into()),
                bound_at: nodes.get(number).map(|_| WallTime(0)),
                priority: gang.priority,
                created: WallTime(i64::try_from(self.pods).expect("few")),
                group: (gang.minimum > 0).then(|| Ok(spec.clone())),
                class: class.clone(),
                topology: self.ask.clone().map(Box::new),
                ..Pod::default()
            };
            Event::PodApplied(Box::new(pod))
        };
        let events = (0..members).map(member).collect();
        for number in 0..members {
            let node = nodes.get(number).map(|node| name(*node));
            let uid = Uid(self.pods + number as u128 + 1);
            self.known.insert(uid, (gang.gpus, None));
            node.into_iter().for_each(|node| self.settle(uid, node));
        }
        self.pods += members as u128;
        events
    }

    /// The pods that came last.
    pub(crate) fn last(&self, pods: usize) -> Vec<Uid> {
        (0..pods as u128).map(|number| Uid(self.pods - number)).collect()
    }

    /// A pod runs on a node, which must have room for it.
    fn settle(&mut self, uid: Uid, node: String) {
        let (gpus, at) = self.known.get_mut(&uid).expect("it was made here");
        let used = self.used.entry(node.clone()).or_default();
        *used += *gpus;
        assert!(*used <= self.gpus, "{node} has {} GPUs, not {used}", self.gpus);
        *at = Some(node);
    }

    /// Pods are gone.
    pub(crate) fn end(&mut self, pods: impl IntoIterator<Item = Uid>) {
        for uid in pods {
            let (gpus, node) = self.known.remove(&uid).expect("it is known");
            if let Some(node) = node {
                *self.used.get_mut(&node).expect("it was used") -= gpus;
            }
            self.scheduler.handle(NOW, Event::PodDeleted(uid));
        }
    }

    /// The binds of the last decisions are made; which pods.
    pub(crate) fn bind(&mut self) -> Vec<Uid> {
        let mut bound = Vec::new();
        for (call, members) in std::mem::take(&mut self.binds) {
            for BindMember { pod, node, .. } in members {
                self.settle(pod.uid, node.to_string());
                let outcome = BindOutcome::Bound;
                self.scheduler.handle(NOW, Event::BindFinished { call, pod: pod.uid, outcome });
                bound.push(pod.uid);
            }
        }
        bound
    }

    /// The victims of the last decisions are gone, and the seats that they leave are taken; how
    /// many.
    pub(crate) fn seat(&mut self) -> usize {
        let victims = std::mem::take(&mut self.victims);
        self.end(victims);
        self.decide(Vec::new());
        self.bind().len()
    }

    /// Takes in what happens and decides, until nothing is left to decide.
    pub(crate) fn decide(&mut self, events: Vec<Event>) -> Decided {
        for event in events {
            self.scheduler.handle(NOW, event);
        }
        let mut decided = Decided::default();
        while self.scheduler.has_work() {
            for call in self.scheduler.cycle(NOW).calls {
                match call {
                    ApiCall::Bind { call, members, .. } => {
                        decided.placed += members.len();
                        self.binds.push((call, members));
                    }
                    ApiCall::Evict { victims, .. } => {
                        decided.victims += victims.len();
                        self.victims.extend(victims.iter().map(|victim| victim.pod.uid));
                    }
                    _ => {}
                }
            }
        }
        decided
    }
}

fn name(index: usize) -> String {
    format!("node-{index:06}")
}

fn node(index: usize, gpus: i64, rack: Option<usize>) -> Node {
    let allocatable = vec![
        ("cpu".into(), 256_000),
        ("memory".into(), 1 << 40),
        (GPU.into(), gpus),
        ("pods".into(), 110),
    ];
    let labels = rack.map(|rack| (RACK.into(), format!("{rack:04}").into()));
    let labels = labels.into_iter().collect();
    Node { name: name(index).into(), allocatable, labels, ..Node::default() }
}
