//! Nouns: resources, pods, nodes, pod groups, the annotation contract.
//!
//! Everything here is a plain value. The shell parses Kubernetes objects into these; the core never
//! sees a Kubernetes type.

pub mod budget;
pub mod claim;
pub mod contract;
pub mod duration;
pub mod fault;
pub mod foreign;
pub mod gpu_part;
pub mod gpu_request;
pub mod gpu_topology;
pub mod growth;
pub mod holder;
pub mod narrowed;
pub mod node;
pub mod pod;
pub mod quantity;
pub mod queue;
pub mod selector;
pub mod time;
pub mod topology;
pub mod windows;

pub use budget::{Budget, Labels};
pub use claim::{ClaimState, DeviceName, Grant, NodeDevices, PodClaim};
pub use contract::{ContractError, GroupSpec, Task};
pub use gpu_part::GpuPart;
pub use gpu_request::GpuNeeds;
pub use gpu_topology::{DeviceSet, GpuTopology};
pub use growth::Growth;
pub use holder::{HolderFault, HolderRefusal};
pub use narrowed::NarrowedName;
pub use node::{Node, Taint, TaintEffect};
pub use pod::{HostPort, Phase, Pod, PodClass, PodKey, Toleration, Uid};
pub use queue::{Caps, EvictionBudget, QueueSpec, RunLimit};
pub use selector::{NodeSelectorTerm, Operator, Requirement};
pub use time::{Timestamp, WallTime};
pub use topology::{Level, SliceAsk, TopologyAsk};
pub use windows::Windows;

/// Requests or capacities by resource name, sorted by name, no duplicates, no zero entries but for
/// slots of nodes.
///
/// Units: milli-CPU for `cpu`, bytes for `memory`, `ephemeral-storage` and `hugepages-*`, whole
/// devices for extended resources.
pub type ResourceList = Vec<(Box<str>, i64)>;
