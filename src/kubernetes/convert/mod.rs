//! Parses Kubernetes objects into the nouns of [`crate::model`].
//!
//! Nothing here fails as a whole and nothing panics: a pod of ours that cannot be honoured carries
//! the reason in [`Pod::group`] and harms nobody else; a foreign pod counts with what it occupies.
//!
//! What is accepted without being looked at: volumes (a claim that is not bound yet is bound by its
//! own controller or keeps the pod from starting), preferred pod affinity, spreading that is only
//! wished for (`ScheduleAnyway`), and all that concerns the kubelet alone.

mod affinity;
pub mod budget;
mod cel;
pub mod claims;
pub mod levels;
pub mod queue;
pub mod reported;
pub mod reports;
mod requests;

#[cfg(test)]
mod tests;

use super::objects::{
    Condition, ContainerState, Meta, NodeObject, PodObject, PodStatus, TolerationObject,
};
use crate::model::contract::SLOTS;
use crate::model::contract::{self, ContractError, GroupSpec, PREEMPTION};
use crate::model::gpu_part::{GPU, parse_part};
use crate::model::gpu_request;
use crate::model::gpu_topology::{Reported, of_node};
use crate::model::holder;
use crate::model::node::parse_slots;
use crate::model::pod::{self, Protocol, TolerationOperator};
use crate::model::topology::{parse_rank, parse_task_topology, parse_topology};
use crate::model::{
    DeviceSet, HolderRefusal, HostPort, Labels, Node, Phase, Pod, PodClass, PodKey, Taint,
    TaintEffect, Task, Toleration, TopologyAsk, Uid, WallTime,
};
use claims::Claimed;
use serde_json::Value;
use std::collections::BTreeMap;
use std::sync::Arc;

/// A kind of others, which may not be installed.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Optional {
    /// API group.
    pub group: &'static str,
    /// Versions that are asked for in turn.
    pub versions: &'static [&'static str],
    /// `kind`.
    pub kind: &'static str,
    /// Its name in paths.
    pub plural: &'static str,
}

impl Optional {
    /// Whether an object is of this kind, in whatever version.
    #[must_use]
    pub fn is_of(&self, object: &Value) -> bool {
        let version = object["apiVersion"].as_str().unwrap_or_default();
        let group = version.split_once('/').map(|(group, _)| group);
        group == Some(self.group) && object["kind"] == self.kind
    }
}

/// The scheduler name of pods that give none.
const DEFAULT_SCHEDULER: &str = "default-scheduler";
/// Kubernetes' default of `terminationGracePeriodSeconds`.
const TERMINATION_SECONDS: i64 = 30;

/// What dynamic resource allocation goes by.
const CLAIMS: &str = "spec.resourceClaims";
/// Advice for a pod with `spec.resourceClaims` where claims are not read. If they are allocated
/// already it is refused too: what they take is charged to no queue.
const CLAIM_INSTEAD: &str = "claims are not read. Request devices as a resource of containers, as \
                             nvidia.com/gpu, or leave the pod to another scheduler";

/// The class of devices that NVIDIA's driver installs counts as what its device plugin gives.
#[must_use]
pub fn default_classes() -> BTreeMap<String, String> {
    BTreeMap::from([(reports::DRIVER.to_owned(), GPU.to_owned())])
}

/// Converts objects. Cheap to clone, has no state.
#[derive(Clone, Debug)]
pub struct Converter {
    /// `schedulerName`s served; the index is the profile. At most 256.
    pub profiles: Vec<Box<str>>,
    /// Largest minimum a gang may ask for.
    pub min_member_max: u32,
    /// Most bytes of annotations under our prefix, keys included.
    pub annotation_bytes_max: usize,
    /// Whether admission stamps pods with their users.
    pub users_stamped: bool,
    /// The namespace in which holders of shared GPUs count.
    pub holder_namespace: Box<str>,
    /// Whether NodeResourceTopology objects and ResourceSlices are read.
    pub reports: bool,
    /// What classes of devices count as that do not say so themselves, by class; `None`: claims
    /// are not read.
    pub claims: Option<BTreeMap<String, String>>,
}

impl Default for Converter {
    fn default() -> Self {
        Self {
            profiles: vec!["mss-scheduler".into()],
            min_member_max: 10_000,
            annotation_bytes_max: 4096,
            users_stamped: false,
            holder_namespace: "mss-scheduler".into(),
            reports: true,
            claims: Some(default_classes()),
        }
    }
}

impl Converter {
    /// A pod. For pods of ours that wait, [`Pod::group`] is an error if any part of the pod cannot
    /// be honoured; for pods that are bound already only if the annotations are malformed, as what
    /// runs is counted whatever it asked for.
    #[must_use]
    pub fn pod(&self, object: &PodObject) -> Pod {
        self.pod_with(object, None)
    }

    /// The same with what is known of its claims; `None`: claims are not read.
    #[must_use]
    pub fn pod_with(&self, object: &PodObject, claimed: Option<Claimed>) -> Pod {
        let (spec, status) = (&object.spec, &object.status);
        let name = spec.scheduler_name.as_deref().filter(|name| !name.is_empty());
        let profile = self.profile(name.unwrap_or(DEFAULT_SCHEDULER));
        let node = spec.node_name.clone().filter(|node| !node.is_empty());
        let (class, refused) = class(profile, node.is_some(), object, claimed.as_ref());
        let phase = phase(status);
        let started = started(status);
        let failed_as = status.reason.as_deref().filter(|_| phase == Phase::Failed && !started);
        let said = profile.map(|_| self.contract(&object.meta, refused)).unwrap_or_default();
        let (holds, holder_refused) = match self.holds(&object.meta, &class) {
            Ok(holds) => (holds, None),
            Err(refusal) => (DeviceSet::EMPTY, Some(Box::new(refusal))),
        };
        Pod {
            key: key(&object.meta),
            uid: Uid::parse(object.meta.uid()),
            profile,
            node,
            phase,
            started,
            failed_as: failed_as.map(contract::cut),
            deleting: object.meta.deleting,
            noticed: profile.is_some() && noticed(object),
            gated: spec.scheduling_gates.0,
            priority: spec.priority.unwrap_or(0),
            never_preempts: spec.preemption_policy.as_deref() == Some("Never"),
            run_limit_ms: spec.active_deadline_seconds.map(|limit| limit.saturating_mul(1000)),
            termination_ms: termination_ms(object),
            created: object.meta.created,
            bound_at: bound_at(status),
            finished_at: if phase == Phase::Live { None } else { finished_at(status) },
            controller: object.meta.controller,
            group: said.group,
            user: profile.and_then(|_| self.user(&object.meta)),
            queue: said.queue,
            labels: profile.map(|_| labels(&object.meta)).unwrap_or_default(),
            header: said.header,
            task: said.task,
            topology: said.topology,
            rank: said.rank,
            reclaim_rank: said.reclaim_rank,
            checkpoint: profile.and_then(|_| checkpoint(&object.meta)),
            non_preemptible: said.non_preemptible,
            devices: devices(&object.meta),
            holds,
            holder_refused,
            told: told(status),
            claims: claimed.filter(|_| phase == Phase::Live).unwrap_or_default().claims,
            class,
        }
    }

    /// A node. What cannot be parsed of its allocatable is taken as none, so that nothing is
    /// placed on room that may not exist. `reported`: what others say of its GPUs.
    #[must_use]
    pub fn node(&self, object: &NodeObject, reported: Option<&Reported>) -> Node {
        let mut labels = object.meta.labels.clone();
        labels.sort();
        labels.dedup_by(|later, first| later.0 == first.0);
        let annotation = object.meta.annotation(contract::GPU_TOPOLOGY);
        let joined = of_node(annotation, |key| object.meta.label(key), reported);
        let (gpus, gpus_refused) = match joined {
            Ok(gpus) => (gpus.map(Arc::new), None),
            Err(error) => (None, Some(error.to_string().into())),
        };
        let slots = parse_slots(|key| object.meta.annotation(key));
        let slots_refused = slots.as_ref().err().map(|error| error.to_string().into());
        let mut allocatable = requests::allocatable(&object.status.allocatable);
        allocatable.retain(|(name, _)| !SLOTS.contains(&&**name));
        allocatable.extend(slots.unwrap_or_default());
        allocatable.sort_unstable();
        Node {
            name: object.meta.name().into(),
            labels,
            taints: object.spec.taints.iter().filter_map(taint).collect(),
            unschedulable: object.spec.unschedulable == Some(true),
            allocatable,
            gpus,
            gpus_refused,
            slots_refused,
            devices: None,
        }
    }

    fn profile(&self, name: &str) -> Option<u8> {
        let index = self.profiles.iter().position(|profile| **profile == *name)?;
        u8::try_from(index).ok()
    }

    /// The GPUs of a holder: as many as it requests. One that says nothing has not found out yet
    /// which it has.
    fn holds(&self, meta: &Meta, class: &PodClass) -> Result<DeviceSet, HolderRefusal> {
        let is_holder = meta.label(contract::GPU_HOLDER) == Some("true")
            && *self.holder_namespace == *meta.namespace()
            && !meta.deleting;
        let said = meta.annotation(contract::GPU_DEVICES).filter(|_| is_holder);
        let Some(said) = said else { return Ok(DeviceSet::EMPTY) };
        let owned = class.requests.iter().find(|(name, _)| &**name == GPU);
        holder::read(said, owned.map_or(0, |(_, count)| *count))
    }

    /// Who created the pod.
    fn user(&self, meta: &Meta) -> Option<Box<str>> {
        let stamp = meta.annotation(contract::USER).filter(|_| self.users_stamped);
        stamp.filter(|user| !user.is_empty()).map(Into::into)
    }

    /// What the pod says of gang and queue. `refused`: what else is wrong with it, which is told
    /// after what is wrong here.
    fn contract(&self, meta: &Meta, refused: Option<ContractError>) -> Said {
        self.read_contract(meta)
            .and_then(|said| refused.map_or(Ok(said), Err))
            .unwrap_or_else(|error| Said { group: Some(Err(error)), ..Said::default() })
    }

    fn read_contract(&self, meta: &Meta) -> Result<Said, ContractError> {
        let (bytes, limit) = (meta.annotation_bytes(), self.annotation_bytes_max);
        if bytes > limit {
            return Err(ContractError::Oversize { bytes, limit });
        }
        let annotation = |key: &str| meta.annotation(key);
        let group = contract::parse_group(annotation, self.min_member_max)?;
        let header = contract::parse_header(annotation)?;
        let mut task = contract::parse_task(annotation, self.min_member_max)?.map(Box::new);
        let topology = parse_topology(annotation, group.as_ref())?;
        let of_task = parse_task_topology(annotation, task.as_deref(), topology.as_deref())?;
        if let Some(task) = &mut task {
            task.topology = of_task;
        }
        let rank = parse_rank(annotation(contract::RANK), |key| meta.label(key))?;
        let queue =
            contract::parse_queue(annotation(contract::QUEUE), meta.label(contract::QUEUE))?;
        let non_preemptible = contract::parse_non_preemptible(annotation(contract::PREEMPTIBLE))?;
        let reclaim_rank = contract::parse_reclaim_rank(annotation(contract::RECLAIM_RANK))?;
        let group = group.map(Ok);
        Ok(Said { group, queue, header, task, topology, rank, reclaim_rank, non_preemptible })
    }
}

/// What a pod says of gang and queue.
#[derive(Default)]
struct Said {
    group: Option<Result<GroupSpec, ContractError>>,
    queue: Option<Box<str>>,
    header: bool,
    task: Option<Box<Task>>,
    topology: Option<Box<TopologyAsk>>,
    rank: Option<u32>,
    reclaim_rank: i16,
    non_preemptible: bool,
}

fn checkpoint(meta: &Meta) -> Option<WallTime> {
    let time: jiff::Timestamp = meta.annotation(contract::CHECKPOINT_AT)?.parse().ok()?;
    Some(WallTime(time.as_millisecond()))
}

/// What cannot be read says nothing, as it is written by a bind and not by a user.
fn devices(meta: &Meta) -> DeviceSet {
    meta.annotation(contract::GPU_DEVICES).and_then(DeviceSet::parse).unwrap_or_default()
}

fn labels(meta: &Meta) -> Labels {
    Labels::new(meta.labels.iter().map(|(key, value)| (&**key, &**value)))
}

fn key(meta: &Meta) -> PodKey {
    PodKey { namespace: meta.namespace().into(), name: meta.name().into() }
}

/// The class, and why a waiting pod of ours is refused. Selectors and tolerations of foreign pods
/// are left out: they decide nothing here, and fewer classes are kept without them.
fn class(
    profile: Option<u8>,
    bound: bool,
    object: &PodObject,
    claimed: Option<&Claimed>,
) -> (PodClass, Option<ContractError>) {
    let spec = &object.spec;
    let counted = requests::pod(spec, bound.then_some(&object.status));
    let mut class = PodClass {
        profile,
        requests: counted.requests,
        non_zero: counted.non_zero,
        non_zero_asked: counted.non_zero_asked,
        host_ports: host_ports(object),
        ..PodClass::default()
    };
    if profile.is_none() {
        claimed.into_iter().for_each(|claimed| claimed.apply(&mut class, true));
        return (class, None);
    }
    let selector = spec.node_selector.iter().flatten();
    class.node_selector = selector.map(|(key, value)| (key.clone(), value.clone())).collect();
    class.tolerations = spec.tolerations.iter().filter_map(toleration).collect();
    let affinity = affinity::node(&spec.affinity.node_affinity).map(|(required, preferred)| {
        class.required = required;
        class.preferred = preferred;
    });
    claimed.into_iter().for_each(|claimed| claimed.apply(&mut class, bound));
    let asked = object.meta.annotation(contract::GPU_REQUEST);
    let needs = asked.map_or(Ok(None), |text| gpu_request::parse(text, &class.requests));
    let needs = needs.map(|needs| class.gpu_needs = needs);
    let part = parse_part(|key| object.meta.annotation(key), &class.requests);
    let part = part.map(|part| class.set_gpu_part(part));
    if bound {
        return (class, None);
    }
    let refused = counted.unrepresentable.then(|| requests::first_bad(spec));
    let refused = refused.or_else(|| affinity.err()).or_else(|| unsupported(object, claimed));
    let refused = refused.or_else(|| needs.err()).or_else(|| part.err());
    (class, refused)
}

/// What would be wrong to ignore and is not honoured.
fn unsupported(object: &PodObject, claimed: Option<&Claimed>) -> Option<ContractError> {
    let spec = &object.spec;
    let hard = |when: Option<&str>| when != Some("ScheduleAnyway");
    let spread = &spec.topology_spread_constraints;
    let field = if spec.affinity.pod_affinity.required.0 {
        "spec.affinity.podAffinity.requiredDuringSchedulingIgnoredDuringExecution"
    } else if spec.affinity.pod_anti_affinity.required.0 {
        "spec.affinity.podAntiAffinity.requiredDuringSchedulingIgnoredDuringExecution"
    } else if spread.iter().any(|spread| hard(spread.when_unsatisfiable.as_deref())) {
        "spec.topologySpreadConstraints with whenUnsatisfiable DoNotSchedule"
    } else if !spec.resource_claims.is_empty() && claimed.is_none() {
        CLAIMS
    } else if spec.scheduling_group.0 {
        "spec.schedulingGroup"
    } else if spec.workload_ref.0 {
        "spec.workloadRef"
    } else {
        return claimed.and_then(|claimed| claimed.fault.clone());
    };
    let instead = if field == CLAIMS { CLAIM_INSTEAD } else { "remove it" };
    Some(ContractError::Unsupported { field, instead })
}

/// Upstream `GetHostPorts`: containers and sidecars. What is not a port number is ignored, as the
/// kubelet could not open it either.
fn host_ports(object: &PodObject) -> Vec<HostPort> {
    let sidecars = object.spec.init_containers.iter().filter(|init| init.restartable());
    let ports = sidecars.chain(&object.spec.containers).flat_map(|container| &container.ports);
    let mut found: Vec<_> = ports
        .filter_map(|port| {
            let number = u16::try_from(port.host_port?).ok().filter(|number| *number > 0)?;
            let protocol = match port.protocol.as_deref() {
                None | Some("" | "TCP") => Protocol::Tcp,
                Some("UDP") => Protocol::Udp,
                Some("SCTP") => Protocol::Sctp,
                Some(_) => return None,
            };
            let address = match port.host_ip.as_deref() {
                None | Some("" | "0.0.0.0") => HostPort::ANY_ADDRESS,
                Some(address) => pod::digest(address),
            };
            Some(HostPort { port: number, protocol, address })
        })
        .collect();
    found.sort_unstable();
    found.dedup();
    found
}

/// `None`: it can match no taint, as upstream.
fn toleration(object: &TolerationObject) -> Option<Toleration> {
    let operator = match &*object.operator {
        "" | "Equal" => TolerationOperator::Equal,
        "Exists" => TolerationOperator::Exists,
        "Gt" => TolerationOperator::Gt,
        "Lt" => TolerationOperator::Lt,
        _ => return None,
    };
    let effect = match &*object.effect {
        "" => None,
        text => Some(effect(text)?),
    };
    Some(Toleration { key: object.key.clone(), operator, value: object.value.clone(), effect })
}

/// `None`: an effect that means nothing to a scheduler.
fn taint(object: &super::objects::TaintObject) -> Option<Taint> {
    let effect = effect(&object.effect)?;
    Some(Taint { key: object.key.clone(), value: object.value.clone(), effect })
}

fn effect(text: &str) -> Option<TaintEffect> {
    match text {
        "NoSchedule" => Some(TaintEffect::NoSchedule),
        "PreferNoSchedule" => Some(TaintEffect::PreferNoSchedule),
        "NoExecute" => Some(TaintEffect::NoExecute),
        _ => None,
    }
}

fn phase(status: &PodStatus) -> Phase {
    match status.phase.as_deref() {
        Some("Succeeded") => Phase::Succeeded,
        Some("Failed") => Phase::Failed,
        _ => Phase::Live,
    }
}

/// Reasons of containers that ended without having run: the runtime could not start them, or the
/// kubelet knows of none.
const NEVER_RAN: [&str; 4] =
    ["StartError", "ContainerCannotRun", "CreateContainerError", "ContainerStatusUnknown"];

/// Whether any container has run. A pod whose image is pulled, or whose volume is awaited, has not.
fn started(status: &PodStatus) -> bool {
    let containers = status.init_container_statuses.iter().chain(&status.container_statuses);
    let ran = |state: &ContainerState| {
        let ended = state.terminated.finished_at.0.is_some();
        let reason = state.terminated.reason.as_deref().unwrap_or_default();
        state.running.0 || ended && !NEVER_RAN.contains(&reason)
    };
    matches!(status.phase.as_deref(), Some("Running" | "Succeeded"))
        || containers.into_iter().any(|container| ran(&container.state))
}

fn bound_at(status: &PodStatus) -> Option<WallTime> {
    let scheduled = |kind: &str, value: &str| kind == "PodScheduled" && value == "True";
    let found = status.conditions.iter().find(|c| scheduled(&c.kind, &c.status))?;
    found.last_transition_time.0
}

/// How long the kubelet gives a pod to stop; what its deletion says comes before its spec.
fn termination_ms(object: &PodObject) -> i64 {
    let asked = object.spec.termination_grace_period_seconds;
    let seconds = object.meta.deletion_grace.or(asked).unwrap_or(TERMINATION_SECONDS);
    seconds.max(0).saturating_mul(1000)
}

fn finished_at(status: &PodStatus) -> Option<WallTime> {
    let containers = status.init_container_statuses.iter().chain(&status.container_statuses);
    let ended = containers.filter_map(|container| container.state.terminated.finished_at.0).max();
    ended.or_else(|| status.conditions.iter().filter_map(|c| c.last_transition_time.0).max())
}

/// Whether a scheduler's notice stands. Upstream's disruption controller takes the condition of one
/// that is older than two minutes back, but not the annotation; one without grace has none.
fn noticed(object: &PodObject) -> bool {
    let is_notice = |condition: &Condition| {
        let (kind, status, reason) = (&*condition.kind, &*condition.status, &*condition.reason);
        (kind, status, reason) == ("DisruptionTarget", "True", PREEMPTION)
    };
    object.meta.annotation(contract::EVICT_AT).is_some()
        || object.status.conditions.iter().any(is_notice)
}

fn told(status: &PodStatus) -> u64 {
    let refused = |kind: &str, value: &str| kind == "PodScheduled" && value == "False";
    let found = status.conditions.iter().find(|c| refused(&c.kind, &c.status));
    found.map_or(0, |condition| pod::digest(&condition.message))
}
