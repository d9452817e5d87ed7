//! What is read of a Pod.

use super::meta::Meta;
use super::or_default;
use super::scalar::{Present, Quantities, Time};
use serde::Deserialize;

/// A core/v1 Pod, trimmed.
#[derive(Clone, Debug, Default, Deserialize)]
pub struct PodObject {
    /// Metadata, with labels.
    #[serde(default, rename = "metadata")]
    pub meta: Meta,
    /// `spec`.
    #[serde(default, deserialize_with = "or_default")]
    pub spec: PodSpec,
    /// `status`.
    #[serde(default, deserialize_with = "or_default")]
    pub status: PodStatus,
}

/// `spec` of a pod.
#[derive(Clone, Debug, Default, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct PodSpec {
    /// Who schedules it.
    pub scheduler_name: Option<Box<str>>,
    /// The node it is bound to.
    pub node_name: Option<Box<str>>,
    /// Priority, resolved.
    pub priority: Option<i32>,
    /// `Never`: no room is made for it.
    pub preemption_policy: Option<Box<str>>,
    /// How long it may run, in seconds.
    pub active_deadline_seconds: Option<i64>,
    /// How long it may take to stop, in seconds.
    pub termination_grace_period_seconds: Option<i64>,
    /// Whether gates are left.
    #[serde(default)]
    pub scheduling_gates: Present,
    /// Containers.
    #[serde(default, deserialize_with = "or_default")]
    pub containers: Vec<Container>,
    /// Init containers, restartable ones (sidecars) among them.
    #[serde(default, deserialize_with = "or_default")]
    pub init_containers: Vec<Container>,
    /// What the runtime class adds.
    #[serde(default)]
    pub overhead: Quantities,
    /// Pod-level resources.
    #[serde(default, deserialize_with = "or_default")]
    pub resources: Resources,
    /// Labels a node must have; an object of strings.
    #[serde(default)]
    pub node_selector: Option<std::collections::BTreeMap<Box<str>, Box<str>>>,
    /// Affinities.
    #[serde(default, deserialize_with = "or_default")]
    pub affinity: Affinity,
    /// Tolerations.
    #[serde(default, deserialize_with = "or_default")]
    pub tolerations: Vec<TolerationObject>,
    /// Spreading.
    #[serde(default, deserialize_with = "or_default")]
    pub topology_spread_constraints: Vec<TopologySpread>,
    /// Dynamic resource allocation.
    #[serde(default, deserialize_with = "or_default")]
    pub resource_claims: Vec<ClaimReference>,
    /// Native gangs, 1.36 and later.
    #[serde(default)]
    pub scheduling_group: Present,
    /// Native gangs, 1.35.
    #[serde(default)]
    pub workload_ref: Present,
}

/// A claim that a pod names, or a template of which one is made for it.
#[derive(Clone, Debug, Default, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct ClaimReference {
    /// Its name within the pod.
    #[serde(default, deserialize_with = "or_default")]
    pub name: Box<str>,
    /// In `spec`, a claim that is not made for the pod; in `status`, the one that was made, or none
    /// if none is needed.
    pub resource_claim_name: Option<Box<str>>,
}

/// A container or init container.
#[derive(Clone, Debug, Default, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct Container {
    /// Name, which its status repeats.
    #[serde(default, deserialize_with = "or_default")]
    pub name: Box<str>,
    /// Requests.
    #[serde(default, deserialize_with = "or_default")]
    pub resources: Resources,
    /// Ports.
    #[serde(default, deserialize_with = "or_default")]
    pub ports: Vec<Port>,
    /// `Always` on an init container makes it a sidecar.
    pub restart_policy: Option<Box<str>>,
}

impl Container {
    /// A sidecar, if it is among the init containers.
    #[must_use]
    pub fn restartable(&self) -> bool {
        self.restart_policy.as_deref() == Some("Always")
    }
}

/// Requests; limits decide nothing once the API server has defaulted requests from them.
#[derive(Clone, Debug, Default, Deserialize)]
pub struct Resources {
    /// Requests.
    #[serde(default)]
    pub requests: Quantities,
}

/// A container port.
#[derive(Clone, Debug, Default, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct Port {
    /// Port on the host; 0: none.
    pub host_port: Option<i32>,
    /// Address on the host.
    #[serde(rename = "hostIP")]
    pub host_ip: Option<Box<str>>,
    /// Transport.
    pub protocol: Option<Box<str>>,
}

/// `spec.affinity`.
#[derive(Clone, Debug, Default, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct Affinity {
    /// To nodes.
    #[serde(default, deserialize_with = "or_default")]
    pub node_affinity: NodeAffinity,
    /// To pods.
    #[serde(default, deserialize_with = "or_default")]
    pub pod_affinity: PodAffinity,
    /// Away from pods.
    #[serde(default, deserialize_with = "or_default")]
    pub pod_anti_affinity: PodAffinity,
}

/// Affinity to nodes.
#[derive(Clone, Debug, Default, Deserialize)]
pub struct NodeAffinity {
    /// Must hold.
    #[serde(rename = "requiredDuringSchedulingIgnoredDuringExecution")]
    pub required: Option<NodeSelector>,
    /// Should hold.
    #[serde(
        default,
        deserialize_with = "or_default",
        rename = "preferredDuringSchedulingIgnoredDuringExecution"
    )]
    pub preferred: Vec<Preferred>,
}

/// Affinity to pods: only whether it is required matters.
#[derive(Clone, Debug, Default, Deserialize)]
pub struct PodAffinity {
    /// Whether terms must hold.
    #[serde(default, rename = "requiredDuringSchedulingIgnoredDuringExecution")]
    pub required: Present,
}

/// Alternatives.
#[derive(Clone, Debug, Default, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct NodeSelector {
    /// One must hold.
    #[serde(default, deserialize_with = "or_default")]
    pub node_selector_terms: Vec<LabelSelectorTerm>,
}

/// A preference.
#[derive(Clone, Debug, Default, Deserialize)]
pub struct Preferred {
    /// 1 to 100.
    #[serde(default, deserialize_with = "or_default")]
    pub weight: i32,
    /// What is preferred.
    #[serde(default, deserialize_with = "or_default")]
    pub preference: LabelSelectorTerm,
}

/// All of these must hold.
#[derive(Clone, Debug, Default, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct LabelSelectorTerm {
    /// Over labels.
    #[serde(default, deserialize_with = "or_default")]
    pub match_expressions: Vec<SelectorRequirement>,
    /// Over fields.
    #[serde(default, deserialize_with = "or_default")]
    pub match_fields: Vec<SelectorRequirement>,
}

/// `key operator values`.
#[derive(Clone, Debug, Default, Deserialize)]
pub struct SelectorRequirement {
    /// Label key or field path.
    #[serde(default, deserialize_with = "or_default")]
    pub key: Box<str>,
    /// Operator.
    #[serde(default, deserialize_with = "or_default")]
    pub operator: Box<str>,
    /// Values.
    #[serde(default, deserialize_with = "or_default")]
    pub values: Vec<Box<str>>,
}

/// A toleration.
#[derive(Clone, Debug, Default, Deserialize)]
pub struct TolerationObject {
    /// Key.
    #[serde(default, deserialize_with = "or_default")]
    pub key: Box<str>,
    /// Operator; empty: `Equal`.
    #[serde(default, deserialize_with = "or_default")]
    pub operator: Box<str>,
    /// Value.
    #[serde(default, deserialize_with = "or_default")]
    pub value: Box<str>,
    /// Effect; empty: all.
    #[serde(default, deserialize_with = "or_default")]
    pub effect: Box<str>,
}

/// A spreading constraint: only whether it is hard matters.
#[derive(Clone, Debug, Default, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct TopologySpread {
    /// `DoNotSchedule` (the default) or `ScheduleAnyway`.
    pub when_unsatisfiable: Option<Box<str>>,
}

/// `status` of a pod.
#[derive(Clone, Debug, Default, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct PodStatus {
    /// Phase.
    pub phase: Option<Box<str>>,
    /// Why it failed as a whole, one word.
    pub reason: Option<Box<str>>,
    /// Conditions.
    #[serde(default, deserialize_with = "or_default")]
    pub conditions: Vec<Condition>,
    /// States of containers.
    #[serde(default, deserialize_with = "or_default")]
    pub container_statuses: Vec<ContainerStatus>,
    /// States of init containers.
    #[serde(default, deserialize_with = "or_default")]
    pub init_container_statuses: Vec<ContainerStatus>,
    /// Claims that were made of templates.
    #[serde(default, deserialize_with = "or_default")]
    pub resource_claim_statuses: Vec<ClaimReference>,
    /// Pod-level resources that the node has admitted.
    #[serde(default)]
    pub allocated_resources: Quantities,
    /// Pod-level resources in force.
    pub resources: Option<Resources>,
}

/// A condition.
#[derive(Clone, Debug, Default, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct Condition {
    /// Type.
    #[serde(rename = "type", default, deserialize_with = "or_default")]
    pub kind: Box<str>,
    /// `True`, `False` or `Unknown`.
    #[serde(default, deserialize_with = "or_default")]
    pub status: Box<str>,
    /// One word.
    #[serde(default, deserialize_with = "or_default")]
    pub reason: Box<str>,
    /// A sentence.
    #[serde(default, deserialize_with = "or_default")]
    pub message: Box<str>,
    /// Since when.
    #[serde(default)]
    pub last_transition_time: Time,
}

/// The state of a container.
#[derive(Clone, Debug, Default, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct ContainerStatus {
    /// Name of the container.
    #[serde(default, deserialize_with = "or_default")]
    pub name: Box<str>,
    /// What the node has admitted.
    #[serde(default)]
    pub allocated_resources: Quantities,
    /// What is in force.
    pub resources: Option<Resources>,
    /// How it is.
    #[serde(default, deserialize_with = "or_default")]
    pub state: ContainerState,
}

/// How a container is.
#[derive(Clone, Debug, Default, Deserialize)]
pub struct ContainerState {
    /// That it runs.
    #[serde(default)]
    pub running: Present,
    /// How it ended.
    #[serde(default, deserialize_with = "or_default")]
    pub terminated: Terminated,
}

/// How a container ended.
#[derive(Clone, Debug, Default, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct Terminated {
    /// When.
    #[serde(default)]
    pub finished_at: Time,
    /// Why, one word.
    pub reason: Option<Box<str>>,
}
