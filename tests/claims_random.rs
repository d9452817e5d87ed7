//! Pods that claim devices come and go, binds fail or are lost with their process, watches lag, and
//! whoever reads the claims finds no device that two of them have (D2).

#[path = "simulation/random.rs"]
mod random;

use mss_scheduler::model::claim::{ClaimRequest, DeviceKind};
use mss_scheduler::model::fault::{Fault, make};
use mss_scheduler::model::{
    ClaimState, DeviceName, DeviceSet, GroupSpec, Node, NodeDevices, NodeSelectorTerm, Operator,
    Pod, PodClaim, PodClass, PodKey, Requirement, Timestamp, Uid, WallTime,
};
use mss_scheduler::plugins::default_profile;
use mss_scheduler::scheduler::{
    ApiCall, BindMember, BindOutcome, CallId, Event, Kind, Leadership, Options, Scheduler,
};
use random::Random;
use std::collections::{BTreeMap, BTreeSet, VecDeque};
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::sync::Arc;

const NAME: &str = "mss-scheduler";
const GPU: &str = "nvidia.com/gpu";
const NODES: usize = 3;
const DEVICES: usize = 4;
/// Every device, and those with an even place.
const KINDS: [DeviceKind; 2] = [DeviceKind(1), DeviceKind(2)];

fn device(node: usize, place: usize) -> DeviceName {
    format!("gpu.nvidia.com/n-{node}/gpu-{place}").into()
}

fn node(number: usize) -> Node {
    let all = DeviceSet::lowest(DEVICES);
    let even = (0..DEVICES).step_by(2).collect();
    let devices = NodeDevices {
        names: (0..DEVICES).map(|place| device(number, place)).collect(),
        kinds: vec![(KINDS[0], all), (KINDS[1], even)],
        offers: vec![(GPU.into(), all)],
        gpus: DEVICES,
    };
    Node {
        name: format!("n-{number}").into(),
        allocatable: vec![("pods".into(), 110)],
        devices: Some(Arc::new(devices)),
        ..Node::default()
    }
}

/// A claim as an API server has it.
#[derive(Clone)]
struct Truth {
    pod: Uid,
    requests: Vec<ClaimRequest>,
    version: u64,
    devices: Vec<DeviceName>,
    node: Option<Box<str>>,
}

/// A pod as an API server has it: its name, its gang, its claims and its node.
type TruePod = (PodKey, Option<GroupSpec>, Vec<Uid>, Option<Box<str>>);

struct World {
    random: Random,
    now: i64,
    scheduler: Scheduler,
    claims: BTreeMap<Uid, Truth>,
    pods: BTreeMap<Uid, TruePod>,
    /// what the watches have not delivered yet; `None`: gone
    claim_news: VecDeque<(Uid, Option<Truth>)>,
    pod_news: VecDeque<(Uid, bool)>,
    /// claims as far as they were delivered, and pods that were
    known: BTreeMap<Uid, Truth>,
    shown: BTreeSet<Uid>,
    in_flight: Vec<(CallId, BindMember)>,
    next: u128,
    version: u64,
    bound: u32,
    failed: u32,
    orphaned: u32,
}

impl World {
    fn new(seed: u64) -> Self {
        let mut world = World {
            random: Random::new(seed),
            now: 0,
            scheduler: Scheduler::new(Options::default(), vec![default_profile(NAME)]),
            claims: BTreeMap::new(),
            pods: BTreeMap::new(),
            claim_news: VecDeque::new(),
            pod_news: VecDeque::new(),
            known: BTreeMap::new(),
            shown: BTreeSet::new(),
            in_flight: Vec::new(),
            next: 1,
            version: 1,
            bound: 0,
            failed: 0,
            orphaned: 0,
        };
        world.start();
        world
    }

    fn hear(&mut self, event: Event) {
        self.scheduler.handle(Timestamp(self.now), event);
    }

    /// Another process begins with what the API shows; claims are listed before pods.
    fn start(&mut self) {
        for (_, member) in std::mem::take(&mut self.in_flight) {
            // the one before died with these on their way: some had given their claims devices
            if self.random.below(2) == 0 {
                self.orphaned += u32::from(self.allocate(&member).is_some());
            }
        }
        self.scheduler = Scheduler::new(Options::default(), vec![default_profile(NAME)]);
        (self.claim_news, self.pod_news) = (VecDeque::new(), VecDeque::new());
        self.known = self.claims.clone();
        self.shown = self.pods.keys().copied().collect();
        for claim in self.claims.keys().copied().collect::<Vec<_>>() {
            let state = self.state(claim);
            self.hear(Event::ClaimApplied(Box::new(state)));
        }
        let mut kinds = [Kind::Node, Kind::Pod, Kind::Namespace];
        kinds.rotate_left(self.random.below(3) as usize);
        for kind in kinds {
            self.hear(Event::ListStarted(kind));
            match kind {
                Kind::Node => (0..NODES)
                    .for_each(|number| self.hear(Event::NodeApplied(Box::new(node(number))))),
                Kind::Pod => {
                    for pod in self.pods.keys().copied().collect::<Vec<_>>() {
                        self.show(pod);
                    }
                }
                _ => {}
            }
            self.hear(Event::ListEnded(kind));
        }
        let leadership = Leadership { previous_renewal: WallTime(0), wall: WallTime(self.now) };
        self.hear(Event::Leading(leadership));
    }

    fn state(&self, claim: Uid) -> ClaimState {
        let Truth { version, devices, .. } = self.claims[&claim].clone();
        ClaimState { uid: claim, version, devices }
    }

    fn uid(&mut self) -> Uid {
        self.next += 1;
        Uid(self.next)
    }

    /// A change of a claim, which the watch delivers some time.
    fn write(&mut self, claim: Uid, devices: Vec<DeviceName>, node: Option<Box<str>>) {
        self.version += 1;
        let version = self.version;
        let truth = self.claims.get_mut(&claim).expect("it exists");
        (truth.version, truth.devices, truth.node) = (version, devices, node);
        let truth = truth.clone();
        self.claim_news.push_back((claim, Some(truth)));
        let mut taken = BTreeSet::new();
        for device in self.claims.values().flat_map(|claim| &claim.devices) {
            assert!(taken.insert(device.clone()), "D2: {device} is given to two claims");
        }
    }

    fn come(&mut self) {
        let members = if self.random.below(5) == 0 { 2 + self.random.below(2) } else { 1 };
        let name = format!("g-{}", self.next);
        for _ in 0..members {
            let pod = self.uid();
            let mut claims = Vec::new();
            for _ in 0..1 + self.random.below(2) {
                let claim = self.uid();
                let requests = (0..1 + self.random.below(2)).map(|place| ClaimRequest {
                    name: format!("r-{place}").into(),
                    kind: KINDS[self.random.below(2) as usize],
                    count: 1 + self.random.below(2) as u32,
                });
                let requests: Vec<ClaimRequest> = requests.collect();
                let truth = Truth { pod, requests, version: 0, devices: vec![], node: None };
                self.claims.insert(claim, truth);
                self.write(claim, vec![], None);
                claims.push(claim);
            }
            let key = PodKey { namespace: "ns".into(), name: format!("p-{}", pod.0).into() };
            let group = (members > 1).then(|| GroupSpec {
                name: name.as_str().into(),
                min_member: members as u32,
                max_member: None,
            });
            self.pods.insert(pod, (key, group, claims, None));
            self.pod_news.push_back((pod, true));
        }
    }

    /// A pod goes, whatever is in flight for it.
    fn go(&mut self) {
        let pods: Vec<Uid> = self.pods.keys().copied().collect();
        if !pods.is_empty() {
            let pod = pods[self.random.below(pods.len() as u64) as usize];
            self.pods.remove(&pod);
            self.pod_news.push_back((pod, false));
        }
    }

    /// The controller of claims takes devices back of pods that are gone.
    fn control(&mut self) {
        let gone = |truth: &Truth| !self.pods.contains_key(&truth.pod);
        let claims = self.claims.iter().filter(|(_, truth)| gone(truth)).map(|(uid, _)| *uid);
        let claims: Vec<Uid> = claims.collect();
        for claim in claims {
            if self.random.below(2) == 0 {
                continue;
            }
            if !self.claims[&claim].devices.is_empty() {
                self.write(claim, vec![], None);
            } else {
                self.claims.remove(&claim);
                self.claim_news.push_back((claim, None));
            }
        }
    }

    /// The watches deliver something.
    fn deliver(&mut self) {
        for _ in 0..self.random.below(4) {
            if let Some((claim, truth)) = self.claim_news.pop_front() {
                match truth {
                    Some(truth) => {
                        let (version, devices) = (truth.version, truth.devices.clone());
                        let pod = truth.pod;
                        self.known.insert(claim, truth);
                        let state = ClaimState { uid: claim, version, devices };
                        self.hear(Event::ClaimApplied(Box::new(state)));
                        if self.shown.contains(&pod) && self.pods.contains_key(&pod) {
                            self.show(pod);
                        }
                    }
                    None => {
                        self.known.remove(&claim);
                        self.hear(Event::ClaimDeleted(claim));
                    }
                }
            }
        }
        for _ in 0..self.random.below(4) {
            match self.pod_news.pop_front() {
                Some((pod, true)) if self.pods.contains_key(&pod) => {
                    self.shown.insert(pod);
                    self.show(pod);
                }
                Some((pod, false)) => {
                    self.shown.remove(&pod);
                    self.hear(Event::PodDeleted(pod));
                }
                _ => {}
            }
        }
    }

    /// Shows a pod as the watch would, by the claims that are known.
    fn show(&mut self, uid: Uid) {
        let (key, group, claims, node) = self.pods[&uid].clone();
        if claims.iter().any(|claim| !self.known.contains_key(claim)) {
            return;
        }
        let mut class = PodClass { profile: Some(0), ..PodClass::default() };
        let mut named = Vec::new();
        for (place, claim) in claims.iter().enumerate() {
            let known = &self.known[claim];
            let allocated = !known.devices.is_empty();
            let count: u32 = known.requests.iter().map(|request| request.count).sum();
            let requests = if allocated { vec![] } else { known.requests.clone() };
            if allocated || node.is_none() {
                class.count_claimed(GPU, count);
            }
            if let Some(node) = known.node.as_ref().filter(|_| self.pods[&uid].3.is_none()) {
                let only = Requirement {
                    key: "metadata.name".into(),
                    operator: Operator::In,
                    values: vec![node.clone()],
                };
                let term = NodeSelectorTerm { expressions: vec![], fields: vec![only] };
                class.required = Some(match class.required.take() {
                    Some(mut terms) => {
                        terms[0].fields.extend(term.fields);
                        terms
                    }
                    None => vec![term],
                });
            }
            if node.is_none() {
                for request in &requests {
                    match class.devices.iter_mut().find(|(kind, _)| *kind == request.kind) {
                        Some((_, count)) => *count += request.count,
                        None => class.devices.push((request.kind, request.count)),
                    }
                }
            }
            let name = format!("c-{place}").into();
            named.push(PodClaim { uid: *claim, name, allocated, counted: true, requests });
        }
        class.devices.sort_unstable();
        let pod = Pod {
            key,
            uid,
            profile: Some(0),
            node,
            group: group.map(Ok),
            claims: named,
            class,
            ..Pod::default()
        };
        self.hear(Event::PodApplied(Box::new(pod)));
    }

    /// Gives the claims of a pod what was chosen; `None`: one is gone, or has others.
    fn allocate(&mut self, member: &BindMember) -> Option<()> {
        for grant in &member.grants {
            let truth = self.claims.get(&grant.claim)?;
            if grant.devices.is_empty() {
                // it had devices when this was decided
                if truth.devices.is_empty() {
                    return None;
                }
                continue;
            }
            if !truth.devices.is_empty() {
                return None;
            }
            let mut asked = truth.requests.iter().flat_map(|request| {
                std::iter::repeat_n((request.name.clone(), request.kind), request.count as usize)
            });
            for (name, device) in &grant.devices {
                let (request, kind) = asked.next().expect("no more than it asks for");
                assert_eq!(request, *name, "D2: a device for another request");
                assert!(
                    device.starts_with(&format!("gpu.nvidia.com/{}/", member.node)),
                    "{device}"
                );
                let place: usize = device.rsplit('-').next().expect("a name").parse().expect("one");
                assert!(
                    kind == KINDS[0] || place.is_multiple_of(2),
                    "D2: {device} is of another kind"
                );
            }
            assert!(asked.next().is_none(), "D2: fewer devices than a claim asks for");
        }
        for grant in member.grants.iter().filter(|grant| !grant.devices.is_empty()) {
            let devices = grant.devices.iter().map(|(_, name)| name.clone()).collect();
            self.write(grant.claim, devices, Some((*member.node).into()));
        }
        Some(())
    }

    /// Takes back what was given for a pod that is not bound.
    fn take_back(&mut self, member: &BindMember) {
        for grant in member.grants.iter().filter(|grant| !grant.devices.is_empty()) {
            let ours: Vec<DeviceName> =
                grant.devices.iter().map(|(_, name)| name.clone()).collect();
            if self.claims.get(&grant.claim).is_some_and(|truth| truth.devices == ours) {
                self.write(grant.claim, vec![], None);
            }
        }
    }

    /// A bind that is in flight gets its answer.
    fn answer(&mut self) {
        if self.in_flight.is_empty() {
            return;
        }
        let place = self.random.below(self.in_flight.len() as u64) as usize;
        let (call, member) = self.in_flight.swap_remove(place);
        let uid = member.pod.uid;
        let given = self.random.below(6) > 0 && self.allocate(&member).is_some();
        let is_there = self.pods.contains_key(&uid);
        let outcome = match (given, is_there) {
            (_, false) => BindOutcome::Gone,
            (true, true) if self.random.below(4) > 0 => BindOutcome::Bound,
            _ => BindOutcome::Refused("by chance".into()),
        };
        if outcome == BindOutcome::Bound {
            self.bound += 1;
            self.pods.get_mut(&uid).expect("it is there").3 = Some((*member.node).into());
            self.pod_news.push_back((uid, true));
        } else {
            self.failed += 1;
            self.take_back(&member);
        }
        for grant in &member.grants {
            if self.claims.contains_key(&grant.claim) {
                let state = self.state(grant.claim);
                self.hear(Event::ClaimApplied(Box::new(state)));
            }
        }
        self.hear(Event::BindFinished { call, pod: uid, outcome });
    }

    fn decide(&mut self) {
        self.now += 500;
        let report = self.scheduler.cycle(Timestamp(self.now));
        self.scheduler.check_invariants();
        for call in report.calls {
            match call {
                ApiCall::Bind { call, members, .. } => {
                    self.in_flight.extend(members.into_iter().map(|member| (call, member)));
                }
                ApiCall::Delete { call, pods, .. } => {
                    for pod in pods {
                        if self.pods.remove(&pod.uid).is_some() {
                            self.pod_news.push_back((pod.uid, false));
                        }
                        let outcome = mss_scheduler::scheduler::DeleteOutcome::Deleted;
                        self.hear(Event::DeleteFinished { call, pod: pod.uid, outcome });
                    }
                }
                _ => {}
            }
        }
    }
}

/// Binds, failed binds, and claims that a dead process left with devices.
fn run(seed: u64) -> [u32; 3] {
    let mut world = World::new(seed);
    for _ in 0..200 {
        match world.random.below(20) {
            0..6 => world.come(),
            6..10 => world.go(),
            10..18 => world.control(),
            _ => world.start(),
        }
        world.deliver();
        world.decide();
        if world.random.below(3) > 0 {
            world.answer();
        }
    }
    [world.bound, world.failed, world.orphaned]
}

#[test]
fn no_device_is_ever_two_claims() {
    let mut counts = [0; 3];
    for seed in 0..150 {
        for (sum, count) in counts.iter_mut().zip(run(seed)) {
            *sum += count;
        }
    }
    let [bound, failed, orphaned] = counts;
    let enough = bound > 1000 && failed > 500 && orphaned > 50;
    assert!(enough, "{bound} binds, {failed} failed, {orphaned} left: too few to say much");
}

#[test]
fn a_claim_that_is_not_counted_is_found() {
    make(Some(Fault::ClaimNotCounted));
    let found = (0..60).find_map(|seed| catch_unwind(AssertUnwindSafe(|| run(seed))).err());
    make(None);
    let why = found.expect("it is found");
    let why = why.downcast_ref::<String>().expect("a message");
    assert!(why.starts_with("D2: "), "{why}");
}
