//! One file per plugin, under upstream's name where upstream has it; this file is the registry.

mod architecture_preference;
mod best_fit;
mod dedicated_nodes;
mod dot_product;
mod dynamic_resources;
mod fgd;
mod gang_gate;
mod gpu_clustering;
mod gpu_packing;
mod gpu_packing_by_device;
mod gpu_request;
mod gpu_sharing;
mod node_affinity;
mod node_name;
mod node_ports;
mod node_quarantine;
mod node_resources_balanced;
mod node_resources_fit;
mod node_unschedulable;
mod packing;
mod priority_sort;
mod random;
mod scheduling_gates;
mod spec;
mod taint_toleration;

pub use architecture_preference::ArchitecturePreference;
pub use dedicated_nodes::DedicatedNodes;
pub use fgd::Fgd;
pub use gpu_packing::GpuPacking;
pub use node_resources_balanced::NodeResourcesBalancedAllocation;
pub use node_resources_fit::{NodeResourcesFit, ScoringStrategy, ShapePoint};

use crate::framework::{Filter, Plugins, PreEnqueue, Profile, Score};

/// Names of the filters, in the order they speak unless configured otherwise.
pub const FILTERS: &[&str] = &[
    "NodeUnschedulable",
    "NodeQuarantine",
    "NodeName",
    "TaintToleration",
    "DedicatedNodes",
    "NodeAffinity",
    "ArchitecturePreference",
    "GpuRequest",
    "NodePorts",
    "GpuSharing",
    "DynamicResources",
    "NodeResourcesFit",
];

/// Names of the scores with their default weights. What is preferred outbids a GPU that packing
/// would save, and the most preferred architecture one and a half.
pub const SCORES: &[(&str, i64)] =
    &[("NodeAffinity", 2), ("TaintToleration", 3), ("ArchitecturePreference", 3), ("Packing", 50)];

/// Names of the scores that run only where a profile names them.
pub const MORE_SCORES: &[&str] = &[
    "NodeResourcesFit",
    "NodeResourcesBalancedAllocation",
    "GpuPacking",
    "FGD",
    "BestFit",
    "DotProduct",
    "GpuClustering",
    "GpuPackingByDevice",
    "Random",
];

/// Names of the plugins that are always on.
pub const ALWAYS_ON: &[&str] = &["PrioritySort", "SchedulingGates", "GangGate"];

/// Arguments of the plugins that have any, resource names unresolved.
#[derive(Clone, Debug, Default)]
pub struct Arguments {
    /// How nodes are scored by how full they are.
    pub fit: NodeResourcesFit,
    /// Which resources should be used evenly.
    pub balanced: NodeResourcesBalancedAllocation,
    /// Which architectures are used, and which rather.
    pub architectures: ArchitecturePreference,
    /// Which nodes are for pods that ask for them.
    pub dedicated: DedicatedNodes,
    /// The workload that FGD expects.
    pub fgd: Fgd,
}

/// The filter of a name.
#[must_use]
pub fn filter(name: &str, arguments: &Arguments) -> Option<Box<dyn Filter>> {
    Some(match name {
        "NodeUnschedulable" => Box::new(node_unschedulable::NodeUnschedulable),
        "NodeQuarantine" => Box::new(node_quarantine::NodeQuarantine),
        "NodeName" => Box::new(node_name::NodeName),
        "TaintToleration" => Box::new(taint_toleration::TaintToleration),
        "DedicatedNodes" => Box::new(arguments.dedicated.clone()),
        "NodeAffinity" => Box::new(node_affinity::NodeAffinity),
        "ArchitecturePreference" => Box::new(arguments.architectures.clone()),
        "GpuRequest" => Box::new(gpu_request::GpuRequest),
        "NodePorts" => Box::new(node_ports::NodePorts),
        "GpuSharing" => Box::new(gpu_sharing::GpuSharing),
        "DynamicResources" => Box::new(dynamic_resources::DynamicResources),
        "NodeResourcesFit" => Box::new(NodeResourcesFit::default()),
        _ => return None,
    })
}

/// The score of a name.
#[must_use]
pub fn score(name: &str, arguments: &Arguments) -> Option<Box<dyn Score>> {
    Some(match name {
        "NodeResourcesFit" => Box::new(arguments.fit.clone()),
        "NodeResourcesBalancedAllocation" => Box::new(arguments.balanced.clone()),
        "NodeAffinity" => Box::new(node_affinity::NodeAffinity),
        "TaintToleration" => Box::new(taint_toleration::TaintToleration),
        "ArchitecturePreference" => Box::new(arguments.architectures.clone()),
        "GpuPacking" => Box::new(GpuPacking),
        "FGD" => Box::new(arguments.fgd.clone()),
        "BestFit" => Box::new(best_fit::BestFit),
        "GpuPackingByDevice" => Box::new(gpu_packing_by_device::GpuPackingByDevice),
        "GpuClustering" => Box::new(gpu_clustering::GpuClustering),
        "DotProduct" => Box::new(dot_product::DotProduct),
        "Packing" => Box::new(packing::Packing::default()),
        "Random" => Box::new(random::Random),
        _ => return None,
    })
}

/// A profile of named plugins; names that are not registered are left out, so callers check first.
#[must_use]
pub fn profile<'a>(
    scheduler_name: &str,
    filters: impl IntoIterator<Item = &'a str>,
    scores: impl IntoIterator<Item = (&'a str, i64)>,
    arguments: &Arguments,
) -> Profile {
    let pre_enqueue: Vec<Box<dyn PreEnqueue>> =
        vec![Box::new(scheduling_gates::SchedulingGates), Box::new(gang_gate::GangGate)];
    let (filters, scores) = (filters.into_iter(), scores.into_iter());
    Profile::new(
        scheduler_name,
        Plugins {
            queue_sort: Box::new(priority_sort::PrioritySort),
            pre_enqueue,
            filters: filters.filter_map(|name| filter(name, arguments)).collect(),
            scores: scores.filter_map(|(name, w)| Some((score(name, arguments)?, w))).collect(),
        },
    )
}

/// The profile that serves `scheduler_name` when nothing is configured.
#[must_use]
pub fn default_profile(scheduler_name: &str) -> Profile {
    let scores = SCORES.iter().copied();
    profile(scheduler_name, FILTERS.iter().copied(), scores, &Arguments::default())
}
