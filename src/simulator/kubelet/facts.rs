//! What a kubelet needs to know of a pod or a node, read once from the API object.

use crate::model::quantity;
use jiff::Timestamp;
use k8s_openapi::api::core::v1::{Container, Node, Pod, PodSpec, ResourceRequirements};
use k8s_openapi::apimachinery::pkg::api::resource::Quantity;
use std::collections::BTreeMap;
use std::time::Duration;

/// Annotation: decimal seconds that the pod's containers run. Absent: they never end.
pub const RUN_SECONDS: &str = "mss-scheduler.io/fake-run-seconds";
/// Annotation: `failed` ends the containers with exit code 1. Without [`RUN_SECONDS`] they end at
/// once. Anything else, or its absence: they end well.
pub const OUTCOME: &str = "mss-scheduler.io/fake-outcome";

/// Longest run time taken from an annotation, a year; a longer one is cut to it.
const RUN_SECONDS_MAX: f64 = 366.0 * 86_400.0;

/// Amounts by resource name: milli-CPU for `cpu`, base units for all else.
pub(super) type Amounts = BTreeMap<Box<str>, i64>;

/// How far a pod has come, by its `status.phase`.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(super) enum Phase {
    Running,
    Pending,
    Ended,
}

/// When and how a pod's containers end.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct End {
    /// From the moment they run.
    pub(super) after: Duration,
    pub(super) failed: bool,
}

/// A bound pod.
#[derive(Clone, Debug)]
pub(super) struct PodFacts {
    pub(super) uid: Box<str>,
    pub(super) namespace: Box<str>,
    pub(super) name: Box<str>,
    pub(super) node: Box<str>,
    pub(super) created: Timestamp,
    /// When it began to run, if it does.
    pub(super) started: Option<Timestamp>,
    pub(super) phase: Phase,
    /// Grace still to be given, for a pod that is being deleted.
    pub(super) deleting: Option<Duration>,
    pub(super) requests: Amounts,
    pub(super) end: Option<End>,
    /// Name and image of each container.
    pub(super) containers: Box<[(Box<str>, Box<str>)]>,
}

impl PodFacts {
    /// `None` for a pod that is not bound or has no uid, which no API server sends here.
    pub(super) fn read(pod: &Pod) -> Option<Self> {
        let spec = pod.spec.as_ref()?;
        let meta = &pod.metadata;
        let status = pod.status.as_ref();
        let phase = match status.and_then(|status| status.phase.as_deref()) {
            Some("Running") => Phase::Running,
            Some("Succeeded" | "Failed") => Phase::Ended,
            _ => Phase::Pending,
        };
        let grace = || {
            let seconds = meta.deletion_grace_period_seconds.unwrap_or(0);
            Duration::from_secs(u64::try_from(seconds).unwrap_or(0))
        };
        Some(Self {
            uid: meta.uid.as_deref()?.into(),
            namespace: meta.namespace.as_deref().unwrap_or("default").into(),
            name: meta.name.as_deref()?.into(),
            node: spec.node_name.as_deref().filter(|node| !node.is_empty())?.into(),
            created: meta.creation_timestamp.as_ref().map_or(Timestamp::MIN, |time| time.0),
            started: status.and_then(|status| status.start_time.as_ref()).map(|time| time.0),
            phase,
            deleting: meta.deletion_timestamp.is_some().then(grace),
            requests: pod_requests(spec),
            end: end(meta.annotations.as_ref()),
            containers: spec
                .containers
                .iter()
                .map(|c| (c.name.as_str().into(), c.image.as_deref().unwrap_or("").into()))
                .collect(),
        })
    }
}

/// Allocatable amounts of a node, `pods` included.
pub(super) fn allocatable(node: &Node) -> Amounts {
    let listed = node.status.as_ref().and_then(|status| status.allocatable.as_ref());
    listed.map(amounts).unwrap_or_default()
}

fn end(annotations: Option<&BTreeMap<String, String>>) -> Option<End> {
    let annotations = annotations?;
    let failed = annotations.get(OUTCOME).is_some_and(|outcome| outcome == "failed");
    let seconds = match annotations.get(RUN_SECONDS) {
        // neither negative nor infinite; a malformed text counts as none
        Some(text) => text.parse::<f64>().ok().filter(|seconds| *seconds >= 0.0)?,
        None if failed => 0.0,
        None => return None,
    };
    Some(End { after: Duration::from_secs_f64(seconds.min(RUN_SECONDS_MAX)), failed })
}

/// What a pod takes of its node, as upstream's `resourcehelper.PodRequests` counts it. Written
/// apart from the scheduler's own reading on purpose: the fake kubelet refuses what does not fit,
/// so a mistake there shows as a rejected pod here.
fn pod_requests(spec: &PodSpec) -> Amounts {
    let mut total = Amounts::new();
    for container in &spec.containers {
        add(&mut total, &container_requests(container));
    }
    // sidecars run beside all that comes after them, an init container only beside earlier sidecars
    let mut sidecars = Amounts::new();
    let mut init_peak = Amounts::new();
    for container in spec.init_containers.iter().flatten() {
        let mut now = container_requests(container);
        if container.restart_policy.as_deref() == Some("Always") {
            add(&mut sidecars, &now);
            now = sidecars.clone();
        } else {
            add(&mut now, &sidecars);
        }
        raise(&mut init_peak, &now);
    }
    add(&mut total, &sidecars);
    raise(&mut total, &init_peak);
    if let Some(pod_level) = &spec.resources {
        // what the pod states as a whole replaces the sum over its containers
        total.extend(requirements(pod_level));
    }
    if let Some(overhead) = &spec.overhead {
        add(&mut total, &amounts(overhead));
    }
    total.retain(|_, amount| *amount > 0);
    total
}

fn container_requests(container: &Container) -> Amounts {
    container.resources.as_ref().map(requirements).unwrap_or_default()
}

fn requirements(resources: &ResourceRequirements) -> Amounts {
    resources.requests.as_ref().map(amounts).unwrap_or_default()
}

fn amounts(listed: &BTreeMap<String, Quantity>) -> Amounts {
    let amount = |(name, text): (&String, &Quantity)| {
        let scale = if name == "cpu" { 3 } else { 0 };
        // an absurd amount fits nowhere, which is what it should do here
        (name.as_str().into(), quantity::parse(&text.0, scale).unwrap_or(quantity::VALUE_MAX))
    };
    listed.iter().map(amount).collect()
}

pub(super) fn add(total: &mut Amounts, more: &Amounts) {
    for (name, amount) in more {
        let sum = total.entry(name.clone()).or_default();
        *sum = sum.saturating_add(*amount);
    }
}

fn raise(total: &mut Amounts, floor: &Amounts) {
    for (name, amount) in floor {
        let at = total.entry(name.clone()).or_default();
        *at = (*at).max(*amount);
    }
}
