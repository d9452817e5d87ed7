//! What an outsider can say about a cluster from its watch events alone. It shares no code with
//! the scheduler on purpose: a mistake in how the scheduler counts must not hide itself here.

use k8s_openapi::api::core::v1::{Container, Node, Pod};
use k8s_openapi::apimachinery::pkg::api::resource::Quantity;
use std::collections::{BTreeMap, HashMap};
use std::time::{Duration, Instant};

const GROUP: &str = "mss-scheduler.io/pod-group";
const MINIMUM: &str = "mss-scheduler.io/min-member";

/// Thousandths of each resource; the number of pods counts as a resource too.
type Amounts = BTreeMap<String, i128>;

/// Namespace and group name.
pub(crate) type GangKey = (String, String);

#[derive(Clone, Debug)]
pub(crate) struct PodRecord {
    pub(crate) namespace: String,
    pub(crate) name: String,
    pub(crate) scheduler: String,
    pub(crate) gang: Option<GangKey>,
    /// Every node that the pod was ever seen on, and since when.
    pub(crate) nodes: Vec<(String, Instant)>,
    pub(crate) phase: String,
    requests: Amounts,
}

impl PodRecord {
    pub(crate) fn node(&self) -> Option<&str> {
        self.nodes.last().map(|(node, _)| node.as_str())
    }

    fn occupies(&self, node: &str) -> bool {
        self.node() == Some(node) && self.phase != "Succeeded" && self.phase != "Failed"
    }
}

#[derive(Clone, Debug, Default)]
pub(crate) struct GangRecord {
    pub(crate) min: usize,
    pub(crate) members: usize,
    /// Members on a node, without those that failed.
    pub(crate) bound: usize,
    /// Since when 0 < bound < min.
    partial_since: Option<Instant>,
    /// How long each earlier such time lasted.
    pub(crate) partial: Vec<Duration>,
    /// A gang that was whole once may lose members to whoever deletes them: that is no partial
    /// bind.
    satisfied: bool,
}

impl GangRecord {
    pub(crate) fn is_partial(&self) -> bool {
        self.partial_since.is_some()
    }

    pub(crate) fn is_whole(&self) -> bool {
        self.bound > 0 && self.bound >= self.min
    }

    /// The longest time between zero and the minimum, the present one included.
    pub(crate) fn longest_partial(&self) -> Duration {
        let present = self.partial_since.map(|since| since.elapsed());
        self.partial.iter().copied().chain(present).max().unwrap_or_default()
    }

    fn note(&mut self, now: Instant) {
        self.satisfied = self.bound > 0 && (self.satisfied || self.bound >= self.min);
        let partial = self.bound > 0 && self.bound < self.min && !self.satisfied;
        match (partial, self.partial_since) {
            (true, None) => self.partial_since = Some(now),
            (false, Some(since)) => {
                self.partial.push(now.duration_since(since));
                self.partial_since = None;
            }
            _ => {}
        }
    }
}

/// All that was seen.
#[derive(Debug, Default)]
pub(crate) struct Ledger {
    /// By uid. Deleted pods move to `gone`.
    pub(crate) pods: HashMap<String, PodRecord>,
    pub(crate) gone: HashMap<String, PodRecord>,
    pub(crate) gangs: BTreeMap<GangKey, GangRecord>,
    nodes: HashMap<String, Amounts>,
    used: HashMap<String, Amounts>,
    /// What must never happen and did.
    pub(crate) violations: Vec<String>,
    /// Times that a pod was seen on a node for the first time.
    pub(crate) binds: u64,
    /// Pod events of any kind.
    pub(crate) events: u64,
}

impl Ledger {
    pub(crate) fn node_seen(&mut self, node: &Node) {
        let allocatable = node.status.as_ref().and_then(|status| status.allocatable.as_ref());
        let amounts = allocatable.map(amounts).unwrap_or_default();
        self.nodes.insert(name_of(&node.metadata.name), amounts);
    }

    pub(crate) fn node_gone(&mut self, node: &Node) {
        self.nodes.remove(&name_of(&node.metadata.name));
    }

    pub(crate) fn pod_seen(&mut self, pod: &Pod, now: Instant) {
        self.events += 1;
        let uid = name_of(&pod.metadata.uid);
        let before = self.pods.remove(&uid);
        if let Some(before) = &before {
            self.count(before, -1);
        }
        let mut record = record(pod);
        record.nodes = before.map(|before| before.nodes).unwrap_or_default();
        let node = pod.spec.as_ref().and_then(|spec| spec.node_name.clone()).unwrap_or_default();
        let already = record.node().unwrap_or_default().to_owned();
        if node != already {
            if !already.is_empty() {
                self.violations.push(format!(
                    "pod {}/{} (uid {uid}) was on node {already:?} and is now on {node:?}",
                    record.namespace, record.name
                ));
            }
            record.nodes.push((node.clone(), now));
            self.binds += 1;
        }
        self.count(&record, 1);
        if node != already {
            self.check_node(&node);
        }
        self.note_gang(&record, now, pod);
        self.pods.insert(uid, record);
    }

    pub(crate) fn pod_gone(&mut self, pod: &Pod, now: Instant) {
        self.events += 1;
        let uid = name_of(&pod.metadata.uid);
        if let Some(record) = self.pods.remove(&uid) {
            self.count(&record, -1);
            if let Some(gang) = record.gang.as_ref().and_then(|key| self.gangs.get_mut(key)) {
                gang.note(now);
            }
            self.gone.insert(uid, record);
        }
    }

    /// Adds (`sign` 1) or takes away (-1) one pod from its node and its gang.
    fn count(&mut self, record: &PodRecord, sign: i128) {
        if let Some(node) = record.node().filter(|node| record.occupies(node)) {
            let used = self.used.entry(node.to_owned()).or_default();
            for (resource, amount) in &record.requests {
                *used.entry(resource.clone()).or_default() += sign * amount;
            }
        }
        if let Some(key) = &record.gang {
            let gang = self.gangs.entry(key.clone()).or_default();
            let bound = record.node().is_some() && record.phase != "Failed";
            let step = |count: usize| if sign > 0 { count + 1 } else { count - 1 };
            gang.members = step(gang.members);
            gang.bound = if bound { step(gang.bound) } else { gang.bound };
        }
    }

    fn note_gang(&mut self, record: &PodRecord, now: Instant, pod: &Pod) {
        let Some(gang) = record.gang.as_ref().and_then(|key| self.gangs.get_mut(key)) else {
            return;
        };
        let minimum = annotation(pod, MINIMUM).and_then(|text| text.parse().ok());
        gang.min = minimum.unwrap_or(gang.min);
        gang.note(now);
    }

    fn check_node(&mut self, name: &str) {
        let Some(allocatable) = self.nodes.get(name) else {
            self.violations.push(format!("a pod was bound to node {name:?}, which does not exist"));
            return;
        };
        for (resource, used) in self.used.get(name).into_iter().flatten() {
            let room = allocatable.get(resource).copied().unwrap_or_default();
            if *used > room {
                self.violations.push(format!(
                    "node {name} is oversubscribed: {used} of {room} thousandths of {resource}"
                ));
            }
        }
    }

    /// Live pods of `namespace` that are on a node.
    pub(crate) fn bound_in(&self, namespace: &str) -> usize {
        self.live_in(namespace).filter(|pod| pod.node().is_some()).count()
    }

    pub(crate) fn live_in<'a>(
        &'a self,
        namespace: &'a str,
    ) -> impl Iterator<Item = &'a PodRecord> + 'a {
        self.pods.values().filter(move |pod| pod.namespace == namespace)
    }

    pub(crate) fn gangs_in<'a>(
        &'a self,
        namespace: &'a str,
    ) -> impl Iterator<Item = (&'a GangKey, &'a GangRecord)> + 'a {
        let from = (namespace.to_owned(), String::new());
        self.gangs.range(from..).take_while(move |((owner, _), _)| owner == namespace)
    }

    /// Thousandths of `resource` in use on all nodes.
    pub(crate) fn used(&self, resource: &str) -> i128 {
        self.used.values().filter_map(|used| used.get(resource)).sum()
    }
}

fn record(pod: &Pod) -> PodRecord {
    let spec = pod.spec.as_ref();
    let namespace = name_of(&pod.metadata.namespace);
    let status = pod.status.as_ref();
    PodRecord {
        name: name_of(&pod.metadata.name),
        scheduler: spec.and_then(|spec| spec.scheduler_name.clone()).unwrap_or_default(),
        gang: annotation(pod, GROUP).map(|group| (namespace.clone(), group.to_owned())),
        nodes: Vec::new(),
        phase: status.and_then(|status| status.phase.clone()).unwrap_or_default(),
        requests: requests(pod),
        namespace,
    }
}

fn annotation<'a>(pod: &'a Pod, key: &str) -> Option<&'a str> {
    pod.metadata.annotations.as_ref()?.get(key).map(String::as_str)
}

fn name_of(name: &Option<String>) -> String {
    name.clone().unwrap_or_default()
}

/// A pod needs its containers together, or what its start needs, whichever is more.
fn requests(pod: &Pod) -> Amounts {
    let mut running = Amounts::from([("pods".to_owned(), 1000)]);
    let mut starting = Amounts::new();
    let Some(spec) = &pod.spec else { return running };
    for container in spec.init_containers.iter().flatten() {
        let mut step = container_requests(container);
        if container.restart_policy.as_deref() == Some("Always") {
            add(&mut running, &step);
        } else {
            add(&mut step, &running);
        }
        raise(&mut starting, &step);
    }
    for container in &spec.containers {
        add(&mut running, &container_requests(container));
    }
    raise(&mut running, &starting);
    add(&mut running, &spec.overhead.as_ref().map(amounts).unwrap_or_default());
    running.insert("pods".to_owned(), 1000);
    running
}

fn container_requests(container: &Container) -> Amounts {
    let resources = container.resources.as_ref();
    resources.and_then(|resources| resources.requests.as_ref()).map(amounts).unwrap_or_default()
}

fn add(sum: &mut Amounts, more: &Amounts) {
    for (resource, amount) in more {
        *sum.entry(resource.clone()).or_default() += amount;
    }
}

fn raise(most: &mut Amounts, other: &Amounts) {
    for (resource, amount) in other {
        let entry = most.entry(resource.clone()).or_default();
        *entry = (*entry).max(*amount);
    }
}

fn amounts(quantities: &BTreeMap<String, Quantity>) -> Amounts {
    quantities.iter().map(|(resource, text)| (resource.clone(), thousandths(&text.0))).collect()
}

/// The spellings that the API server gives back for what the tests create.
fn thousandths(text: &str) -> i128 {
    let digits = text.find(|letter: char| !letter.is_ascii_digit()).unwrap_or(text.len());
    let (number, unit) = text.split_at(digits);
    let number: i128 = number.parse().unwrap_or_else(|_| panic!("an odd quantity: {text}"));
    let factor = match unit {
        "m" => return number,
        "" => 1,
        "k" => 1_000,
        "M" => 1_000_000,
        "G" => 1_000_000_000,
        "Ki" => 1 << 10,
        "Mi" => 1 << 20,
        "Gi" => 1 << 30,
        "Ti" => 1 << 40,
        _ => panic!("an odd quantity: {text}"),
    };
    number * factor * 1000
}
