//! What a pod requests, counted as upstream counts it.
//!
//! The same steps as `k8s.io/component-helpers/resource.PodRequests` of 1.37 with the gates on that
//! are on by default (`PodLevelResources`, `InPlacePodVerticalScaling`,
//! `InPlacePodLevelResourcesVerticalScaling`), in thousandths, rounded to the resource's unit once.

use crate::kubernetes::objects::{
    Container, ContainerStatus, PodSpec, PodStatus, Quantities, Quantity,
};
use crate::model::contract::{ContractError, cut};
use crate::model::{ResourceList, quantity};
use smallvec::SmallVec;

/// Thousandths of the largest value: what an amount is taken for that cannot be read.
const MILLI_MAX: i64 = quantity::VALUE_MAX * 1000;
/// Upstream `DefaultMilliCPURequest`, in thousandths of a core.
const NON_ZERO_CPU: i64 = 100;
/// Upstream `DefaultMemoryRequest`, in thousandths of a byte.
const NON_ZERO_MEMORY: i64 = 200 * 1024 * 1024 * 1000;

/// What a pod occupies.
pub(super) struct Counted {
    /// Requests in the units of [`ResourceList`].
    pub requests: ResourceList,
    /// Milli-CPU and bytes of memory as scores count them.
    pub non_zero: [i64; 2],
    /// The same while the pod itself is placed.
    pub non_zero_asked: [i64; 2],
    /// An amount could not be read or is too large; it is counted as the largest value.
    pub unrepresentable: bool,
}

/// Requests of a pod; `status`, given for bound pods, tells of resizes in progress.
pub(super) fn pod(spec: &PodSpec, status: Option<&PodStatus>) -> Counted {
    let sums = total(spec, status, [false, false]);
    let pod_level = spec.resources.requests.iter().any(|(name, _)| is_pod_level(name));
    let missing = ["cpu", "memory"].map(|name| !pod_level || sums.get(name).is_none());
    let non_zero = match missing {
        [false, false] => scored(&sums),
        _ => scored(&total(spec, status, missing)),
    };
    let non_zero_asked =
        if pod_level { scored(&without_pod_level(spec, status)) } else { non_zero };
    let mut unrepresentable = false;
    let mut requests: ResourceList = Vec::with_capacity(sums.0.len());
    for (name, milli) in sums.0 {
        let value = rounded(name, milli);
        unrepresentable |= value > quantity::VALUE_MAX || milli >= MILLI_MAX;
        if value > 0 && counts(name) && name != "pods" {
            requests.push((name.into(), value.min(quantity::VALUE_MAX)));
        }
    }
    requests.sort_unstable();
    Counted { requests, non_zero, non_zero_asked, unrepresentable }
}

/// Milli-CPU and bytes of memory.
fn scored(sums: &Sums<'_>) -> [i64; 2] {
    ["cpu", "memory"].map(|name| {
        let milli = sums.get(name).unwrap_or(0);
        rounded(name, milli).min(quantity::VALUE_MAX)
    })
}

/// A node's allocatable; unreadable amounts are none.
pub(super) fn allocatable(quantities: &Quantities) -> ResourceList {
    let known = quantities.iter().filter(|(name, _)| counts(name));
    let read = known.filter_map(|(name, quantity)| {
        let value = rounded(name, *quantity.0.as_ref().ok()?).min(quantity::VALUE_MAX);
        (value > 0).then(|| (name.into(), value))
    });
    let mut list: ResourceList = read.collect();
    list.sort_unstable();
    list.dedup_by(|later, first| later.0 == first.0);
    list
}

/// Names the first amount that makes a pod's requests unrepresentable.
pub(super) fn first_bad(spec: &PodSpec) -> ContractError {
    let containers = spec.containers.iter().enumerate().map(|(index, container)| {
        (format!("spec.containers[{index}].resources.requests"), &container.resources.requests)
    });
    let inits = spec.init_containers.iter().enumerate().map(|(index, container)| {
        (format!("spec.initContainers[{index}].resources.requests"), &container.resources.requests)
    });
    let pod = [
        ("spec.resources.requests".to_owned(), &spec.resources.requests),
        ("spec.overhead".to_owned(), &spec.overhead),
    ];
    for (place, quantities) in containers.chain(inits).chain(pod) {
        for (name, Quantity(value)) in quantities.iter() {
            if let Err(found) = value {
                let field = format!("{place}[{}]", cut(name)).into();
                return ContractError::Quantity { field, found: found.clone() };
            }
        }
    }
    ContractError::Quantity { field: "the sum of requests".into(), found: "above 2^52".into() }
}

/// Thousandths by resource name, in order of appearance. Sums saturate: what saturates is above
/// [`MILLI_MAX`] and so refused or clamped.
#[derive(Clone, Default)]
struct Sums<'a>(SmallVec<[(&'a str, i64); 6]>);

impl<'a> Sums<'a> {
    fn get(&self, name: &str) -> Option<i64> {
        self.0.iter().find(|(n, _)| *n == name).map(|(_, milli)| *milli)
    }

    fn merge(&mut self, name: &'a str, milli: i64, combine: impl Fn(i64, i64) -> i64) {
        match self.0.iter_mut().find(|(n, _)| *n == name) {
            Some((_, sum)) => *sum = combine(*sum, milli),
            None => self.0.push((name, milli)),
        }
    }

    /// Upstream `addResourceList`.
    fn add(&mut self, other: &Self) {
        for (name, milli) in &other.0 {
            self.merge(name, *milli, i64::saturating_add);
        }
    }

    /// Upstream `maxResourceList`.
    fn max(&mut self, other: &Self) {
        for (name, milli) in &other.0 {
            self.merge(name, *milli, i64::max);
        }
    }
}

impl<'a> From<&'a Quantities> for Sums<'a> {
    fn from(quantities: &'a Quantities) -> Self {
        let mut sums = Self::default();
        for (name, Quantity(value)) in quantities.iter() {
            // a key that comes twice counts as it last came, as in any JSON object
            sums.merge(name, *value.as_ref().unwrap_or(&MILLI_MAX), |_, last| last);
        }
        sums
    }
}

/// Which of a container's lists of requests is meant.
#[derive(Clone, Copy)]
enum View {
    /// What the pod asks for.
    Spec,
    /// What the node has admitted.
    Allocated,
    /// What is in force.
    Actuated,
}

/// Upstream `PodRequests`. `missing` tells of CPU and memory whether a container without a request
/// counts with a default (`NonMissingContainerRequests`).
fn total<'a>(spec: &'a PodSpec, status: Option<&'a PodStatus>, missing: [bool; 2]) -> Sums<'a> {
    let mut sums = containers(spec, status, missing);
    let asked = &spec.resources.requests;
    if asked.iter().any(|(name, _)| is_pod_level(name)) {
        let resized = status.and_then(|status| Some((status, status.resources.as_ref()?)));
        let mut effective = Sums::from(asked);
        if let Some((status, in_force)) = resized {
            if is_resize_infeasible(status) {
                effective = Sums::default();
            }
            effective.max(&Sums::from(&in_force.requests));
            effective.max(&Sums::from(&status.allocated_resources));
        }
        for (name, milli) in effective.0 {
            if is_pod_level(name) {
                sums.merge(name, milli, |_, pod_level| pod_level);
            }
        }
    }
    sums.add(&Sums::from(&spec.overhead));
    sums
}

/// What upstream's `resourceAllocationScorer` of `NodeResourcesFit` counts: it is not told of
/// pod-level resources.
fn without_pod_level<'a>(spec: &'a PodSpec, status: Option<&'a PodStatus>) -> Sums<'a> {
    let mut sums = containers(spec, status, [true, true]);
    sums.add(&Sums::from(&spec.overhead));
    sums
}

/// Upstream `AggregateContainerRequests`.
fn containers<'a>(
    spec: &'a PodSpec,
    status: Option<&'a PodStatus>,
    missing: [bool; 2],
) -> Sums<'a> {
    let asked = aggregate(spec, status, missing, View::Spec);
    let Some(status) = status else {
        return asked;
    };
    let in_force = status.resources.as_ref().map(|resources| &resources.requests);
    let reported =
        in_force.filter(|list| list.0.is_some() && status.allocated_resources.0.is_some());
    let (allocated, actuated) = match reported {
        Some(in_force) => (Sums::from(&status.allocated_resources), Sums::from(in_force)),
        None => (
            aggregate(spec, Some(status), missing, View::Allocated),
            aggregate(spec, Some(status), missing, View::Actuated),
        ),
    };
    let mut sums = if is_resize_infeasible(status) { Sums::default() } else { asked };
    sums.max(&actuated);
    sums.max(&allocated);
    sums
}

/// Upstream `aggregateContainerResourcesByFn`: containers and sidecars run together; each other
/// init container runs beside the sidecars started before it.
fn aggregate<'a>(
    spec: &'a PodSpec,
    status: Option<&'a PodStatus>,
    missing: [bool; 2],
    view: View,
) -> Sums<'a> {
    let one = |container| container_requests(container, status, missing, view);
    let mut sums = Sums::default();
    for container in &spec.containers {
        sums.add(&one(container));
    }
    let mut sidecars = Sums::default();
    let mut peak = Sums::default();
    for container in &spec.init_containers {
        let mut requests = one(container);
        if container.restartable() {
            sums.add(&requests);
            sidecars.add(&requests);
            peak.max(&sidecars);
        } else {
            requests.add(&sidecars);
            peak.max(&requests);
        }
    }
    sums.max(&peak);
    sums
}

fn container_requests<'a>(
    container: &'a Container,
    status: Option<&'a PodStatus>,
    missing: [bool; 2],
    view: View,
) -> Sums<'a> {
    let asked = &container.resources.requests;
    let chosen = match (view, status) {
        (View::Spec, _) | (_, None) => Some(asked),
        (_, Some(status)) => {
            let found = container_status(status, &container.name);
            let in_force = found
                .filter(|_| matches!(view, View::Actuated))
                .and_then(|found| found.resources.as_ref())
                .map(|resources| &resources.requests)
                .filter(|list| list.0.is_some());
            let allocated = found.map(|f| &f.allocated_resources).filter(|list| list.0.is_some());
            let asked = (!is_resize_infeasible(status)).then_some(asked);
            in_force.or(allocated).or(asked)
        }
    };
    let mut sums = chosen.map(Sums::from).unwrap_or_default();
    for (name, default, missing) in
        [("cpu", NON_ZERO_CPU, missing[0]), ("memory", NON_ZERO_MEMORY, missing[1])]
    {
        if missing {
            sums.merge(name, default, |present, _| present);
        }
    }
    sums
}

/// Upstream `findContainerStatus`.
fn container_status<'a>(status: &'a PodStatus, name: &str) -> Option<&'a ContainerStatus> {
    let all = status.container_statuses.iter().chain(&status.init_container_statuses);
    all.into_iter().find(|found| *found.name == *name)
}

/// Upstream `IsPodResizeInfeasible`: the node can never grant the resize.
fn is_resize_infeasible(status: &PodStatus) -> bool {
    let pending = status.conditions.iter().find(|c| &*c.kind == "PodResizePending");
    pending.is_some_and(|condition| &*condition.reason == "Infeasible")
}

/// Upstream `IsSupportedPodLevelResource`.
fn is_pod_level(name: &str) -> bool {
    matches!(name, "cpu" | "memory") || name.starts_with("hugepages-")
}

/// Upstream `Resource.Add`: names that are no resource of a node are not counted.
pub(super) fn counts(name: &str) -> bool {
    matches!(name, "cpu" | "memory" | "ephemeral-storage" | "pods") || is_scalar(name)
}

/// Upstream `IsScalarResourceName`.
fn is_scalar(name: &str) -> bool {
    (name.contains('/') && !name.starts_with("requests."))
        || name.contains("kubernetes.io/")
        || name.starts_with("hugepages-")
        || name.starts_with("attachable-volumes-")
}

/// From thousandths to the unit of the resource: milli for `cpu`, whole units otherwise, rounded
/// up.
pub(super) fn rounded(name: &str, milli: i64) -> i64 {
    if name == "cpu" { milli } else { milli / 1000 + i64::from(milli % 1000 > 0) }
}
