//! GpuClustering: pods beside pods that ask for as many GPUs. Gandiva (OSDI'18) as the artifact of
//! FGD (ATC'23) has it: `gpu_clustering_score.go`. It sees pods on shared GPUs only.

use super::spec::{GPU_MAX, free_gpu};
use crate::cluster::{Class, Cluster, Held, NodeIndex};
use crate::framework::{Plugin, Reads, SCORE_MAX, Score, Term};
use crate::model::gpu_part::DEVICE;

/// The plugin.
#[derive(Clone, Copy, Debug)]
pub(super) struct GpuClustering;

impl Plugin for GpuClustering {
    fn name(&self) -> &'static str {
        "GpuClustering"
    }
}

impl Score for GpuClustering {
    fn reads(&self) -> Reads {
        Reads::Usage
    }

    fn score(&self, cluster: &Cluster, class: &Class, node: NodeIndex, _: &[Term]) -> i64 {
        let Some(ask) = cluster.device_ask(class, node) else { return 0 };
        let kind = |milli: u16, count: usize| if milli < DEVICE { 0 } else { count };
        let own = kind(ask.milli, ask.count);
        let here = cluster.shared_devices(node).map_or(&[][..], |shared| shared.held());
        let is_own = |held: &Held| kind(held.milli, held.devices.len()) == own;
        let quarter = SCORE_MAX / 4;
        let base = match here {
            [] => quarter,
            pods if pods.iter().all(is_own) => 3 * quarter,
            pods if pods.iter().any(is_own) => 2 * quarter,
            _ => 0,
        };
        base + quarter * (GPU_MAX - free_gpu(cluster, class, node)).max(0) / GPU_MAX
    }
}
