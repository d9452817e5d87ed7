//! Answers of plugins. "Does not fit" is a value, never an error.

use crate::cluster::{Cluster, ResourceId};
use crate::model::HolderFault;
use smallvec::SmallVec;

/// Why a node cannot take a pod.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Reason {
    /// Less is free than asked for.
    Insufficient(ResourceId),
    /// More is asked for than the node's `pods`.
    TooManyPods,
    /// A `NoSchedule` or `NoExecute` taint is not tolerated.
    UntoleratedTaint,
    /// `spec.unschedulable` is set.
    NodeUnschedulable,
    /// Pods failed to start there again and again.
    NodeQuarantined,
    /// Node selector or required node affinity does not match.
    NodeAffinity,
    /// The GPUs are not of the model that is asked for.
    GpuModel,
    /// The GPUs have less memory than is asked for.
    GpuMemory,
    /// NVLink does not join each GPU of the node to each.
    GpuLinks,
    /// The architecture is not to be used.
    Architecture,
    /// The node is for pods that ask for it.
    DedicatedNode,
    /// `spec.nodeName` is another node.
    NodeName,
    /// A host port is taken.
    NodePorts,
    /// No domain of the topology holds the gang.
    NoDomain,
    /// It asks for a part of a GPU, and no GPU of the node is shared, or is so large.
    GpuNotShared,
    /// A holder of its GPUs is not believed, so none of them is shared.
    HolderRefused(HolderFault),
    /// The shared GPUs have too little left, or not on one device.
    GpuTaken,
    /// The devices are not there that its claims ask for, or others have them.
    DevicesTaken,
    /// A resource that no node offers, by its place in [`crate::cluster::Class::unknown`].
    UnknownResource(u8),
}

impl Reason {
    /// One of a closed set of words, for metrics.
    #[must_use]
    pub fn word(self) -> &'static str {
        match self {
            Self::Insufficient(_) | Self::UnknownResource(_) => "InsufficientResources",
            Self::TooManyPods => "TooManyPods",
            Self::UntoleratedTaint => "UntoleratedTaint",
            Self::NodeUnschedulable => "NodeUnschedulable",
            Self::NodeQuarantined => "NodeQuarantined",
            Self::NodeAffinity => "NodeAffinity",
            Self::GpuModel | Self::GpuMemory | Self::GpuLinks => "GpuRequest",
            Self::Architecture => "Architecture",
            Self::DedicatedNode => "DedicatedNode",
            Self::NodeName => "NodeName",
            Self::NodePorts => "NodePorts",
            Self::NoDomain => "NoDomain",
            Self::GpuNotShared | Self::GpuTaken | Self::HolderRefused(_) => "GpuSharing",
            Self::DevicesTaken => "DynamicResources",
        }
    }

    /// Upstream's text. `unknown` are the names behind [`Reason::UnknownResource`].
    #[must_use]
    pub fn text(self, cluster: &Cluster, unknown: &[Box<str>]) -> String {
        match self {
            Self::Insufficient(resource) => {
                format!("Insufficient {}", cluster.resources().name(resource))
            }
            Self::UnknownResource(place) => {
                let name = unknown.get(usize::from(place)).map_or("resources", |name| &**name);
                format!("Insufficient {name}")
            }
            Self::TooManyPods => "Too many pods".to_owned(),
            Self::UntoleratedTaint => "node(s) had untolerated taint(s)".to_owned(),
            Self::NodeUnschedulable => "node(s) were unschedulable".to_owned(),
            Self::GpuModel => "node(s) had no GPUs of the requested model".to_owned(),
            Self::GpuMemory => "node(s) had GPUs with too little memory".to_owned(),
            Self::GpuLinks => "node(s) had GPUs that NVLink does not all join".to_owned(),
            Self::NodeQuarantined => {
                "node(s) were in quarantine as pods failed to start there".to_owned()
            }
            Self::NodeAffinity => "node(s) didn't match Pod's node affinity/selector".to_owned(),
            Self::Architecture => "node(s) had an architecture that is not used".to_owned(),
            Self::DedicatedNode => "node(s) were dedicated to other pods".to_owned(),
            Self::NodeName => "node(s) didn't match the requested node name".to_owned(),
            Self::NodePorts => {
                "node(s) didn't have free ports for the requested pod ports".to_owned()
            }
            Self::NoDomain => "node(s) were in no domain that holds the gang".to_owned(),
            Self::GpuNotShared => "node(s) shared no GPUs as large as that".to_owned(),
            Self::HolderRefused(fault) => {
                let what = match fault {
                    HolderFault::Unreadable => "cannot be read",
                    HolderFault::Miscounted => "names other GPUs than it requests",
                    HolderFault::Unknown => "names GPUs that the node lacks",
                    HolderFault::Claimed => "names GPUs that another names too",
                };
                format!("node(s) had a GPU holder whose gpu-devices {what}, see its events")
            }
            Self::GpuTaken => "node(s) had too little left of each shared GPU".to_owned(),
            Self::DevicesTaken => "cannot allocate all claims".to_owned(),
        }
    }
}

/// Reasons of one node; several resources can be short at once.
pub type Reasons = SmallVec<[Reason; 2]>;

/// The answer of a filter.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Status {
    /// It may run there.
    Success,
    /// Not now; removing pods from the node might help.
    Unschedulable(Reasons),
    /// Not as long as the node is what it is: removing pods does not help.
    UnschedulableAndUnresolvable(Reasons),
}

impl Status {
    /// Not resolvable, for one reason.
    #[must_use]
    pub fn unresolvable(reason: Reason) -> Self {
        Self::UnschedulableAndUnresolvable(SmallVec::from_slice(&[reason]))
    }

    /// Not now, for one reason.
    #[must_use]
    pub fn unschedulable(reason: Reason) -> Self {
        Self::Unschedulable(SmallVec::from_slice(&[reason]))
    }

    /// Whether it may run there.
    #[must_use]
    pub fn is_success(&self) -> bool {
        matches!(self, Self::Success)
    }

    /// The reasons; none on success.
    #[must_use]
    pub fn reasons(&self) -> &[Reason] {
        match self {
            Self::Success => &[],
            Self::Unschedulable(reasons) | Self::UnschedulableAndUnresolvable(reasons) => reasons,
        }
    }
}
