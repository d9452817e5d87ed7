//! The experiments of the FGD paper (Weng et al., USENIX ATC'23), through the scheduler that ships.
//!
//! The protocol is that of the paper's artifact (hkust-adsl/kubernetes-scheduler-simulator at
//! 8f3d6417): the 1,213 nodes with GPUs, seeds 42 to 51, pods shuffled and brought to 130 % of the
//! GPUs, one attempt per pod, no departures. What it publishes per list, policy and seed is
//! compared with what comes out here.

mod go_random;
mod published;
mod refusals;
mod report;
mod run;
mod workload;

pub use go_random::GoRandom;
pub use published::{LOOKED_AT, Published};
pub use refusals::{KINDS, Refusals, Refused, by_kind};
pub use report::{Row, files, refused_table, table};
pub use run::{Curve, Outcome, run};
pub use workload::Inputs;

/// Seeds of the published runs.
pub const SEEDS: std::ops::RangeInclusive<u32> = 42..=51;

/// Lists of pods with published results.
pub const LISTS: [&str; 11] = [
    "default",
    "cpu050",
    "cpu100",
    "cpu200",
    "cpu250",
    "gpushare40",
    "gpushare60",
    "gpushare80",
    "gpushare100",
    "gpuspec10",
    "multigpu20",
];

/// FGD, as the published results call it.
const FGD: &str = "06-FGD";

/// A policy of the paper.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct PolicyInfo {
    /// As the paper calls it.
    pub name: &'static str,
    /// As the published results call it; empty: they do not know it.
    pub published: &'static str,
    /// The score that acts like it here.
    pub plugin: &'static str,
    /// How far the mean may be from the published mean, in hundredths of a percentage point.
    pub tolerance: u32,
}

/// Our own policy, which is compared with what is published of FGD.
pub const OURS: &str = "Ours";

/// The policies of the paper, and ours.
pub const POLICIES: [PolicyInfo; 7] = [
    policy("Random", "01-Random", "Random", 35),
    policy("DotProduct", "02-DotProd", "DotProduct", 35),
    policy("Clustering", "03-GpuClustering", "GpuClustering", 100),
    policy("Packing", "04-GpuPacking", "GpuPackingByDevice", 100),
    policy("BestFit", "05-BestFit", "BestFit", 35),
    policy("FGD", FGD, "FGD", 35),
    policy(OURS, "", "Packing", 0),
];

const fn policy(
    name: &'static str,
    published: &'static str,
    plugin: &'static str,
    tolerance: u32,
) -> PolicyInfo {
    PolicyInfo { name, published, plugin, tolerance }
}
