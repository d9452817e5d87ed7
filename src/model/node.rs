//! A node, as far as placing pods on it is concerned.

use super::contract::{self, ContractError, SLOTS};
use super::{GpuTopology, NodeDevices, ResourceList};
use std::sync::Arc;

/// Most slots of a node: more than any kubelet runs pods.
const SLOTS_MAX: u32 = 100_000;

/// A node as the API server shows it.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Node {
    /// `metadata.name`.
    pub name: Box<str>,
    /// Labels, sorted by key.
    pub labels: Vec<(Box<str>, Box<str>)>,
    /// `spec.taints` in the object's order, which decides the taint a message names.
    pub taints: Vec<Taint>,
    /// `spec.unschedulable`: cordoned.
    pub unschedulable: bool,
    /// `status.allocatable`, including `pods`, and the slots that the node is given.
    pub allocatable: ResourceList,
    /// How its GPUs are joined, if that is known.
    pub gpus: Option<Arc<GpuTopology>>,
    /// Why what it says of that is not believed.
    pub gpus_refused: Option<Box<str>>,
    /// Why what it says of its slots is not believed.
    pub slots_refused: Option<Box<str>>,
    /// Its devices that claims may be given; `allocatable` is without them.
    pub devices: Option<Arc<NodeDevices>>,
}

/// Reads the slots of a node, which are resources of these names: each pod of this scheduler takes
/// one.
///
/// # Errors
/// If an annotation is no whole number; then neither counts.
pub fn parse_slots<'a>(
    annotation: impl Fn(&str) -> Option<&'a str>,
) -> Result<ResourceList, ContractError> {
    let slots = SLOTS.into_iter().filter_map(|key| {
        let count = contract::count(key, annotation(key)?, (0, SLOTS_MAX));
        Some(count.map(|count| (key.into(), i64::from(count))))
    });
    slots.collect()
}

impl Node {
    /// The value of a label.
    #[must_use]
    pub fn label(&self, key: &str) -> Option<&str> {
        let found = self.labels.binary_search_by(|(k, _)| (**k).cmp(key));
        found.ok().map(|index| &*self.labels[index].1)
    }
}

/// A taint of a node.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub struct Taint {
    /// Key; never empty.
    pub key: Box<str>,
    /// Value; may be empty.
    pub value: Box<str>,
    /// What it does to pods that do not tolerate it.
    pub effect: TaintEffect,
}

/// Effect of a taint.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum TaintEffect {
    /// New pods stay away.
    NoSchedule,
    /// New pods stay away if they can.
    PreferNoSchedule,
    /// New pods stay away, running ones are evicted (by others).
    NoExecute,
}
