//! GpuPacking: fills nodes whose GPUs are already in use, keeps whole nodes whole, and keeps GPU
//! nodes free of pods that ask for no GPU.

use crate::cluster::{Class, Cluster, NodeIndex};
use crate::framework::{Plugin, Reads, SCORE_MAX, Score, Term, Terms};

/// What breaking up an idle node costs, against any node already in use.
const IDLE_NODE_MAX: i64 = 40;
/// What a pod without GPUs gets on a node whose GPUs are all taken: better than one that still
/// could host GPU pods, worse than one without GPUs.
const TAKEN_GPU_NODE: i64 = 60;

/// The plugin.
#[derive(Clone, Copy, Debug)]
pub struct GpuPacking;

impl Plugin for GpuPacking {
    fn name(&self) -> &'static str {
        "GpuPacking"
    }
}

impl Score for GpuPacking {
    fn reads(&self) -> Reads {
        Reads::Usage
    }

    /// The GPUs that the class asks for, or else all kinds that there are.
    fn terms(&self, cluster: &Cluster, class: &Class) -> Terms {
        let resources = cluster.resources();
        let term = |resource, asked| Term { resource, asked, weight: 1 };
        let asked = class.requests.iter().find(|(r, n)| *n > 0 && resources.is_gpu(*r));
        if let Some((resource, asked)) = asked {
            return std::iter::once(term(*resource, *asked)).collect();
        }
        let gpus = resources.iter().filter(|resource| resources.is_gpu(*resource));
        gpus.map(|resource| term(resource, 0)).collect()
    }

    fn score(&self, cluster: &Cluster, _: &Class, node: NodeIndex, terms: &[Term]) -> i64 {
        match terms {
            [gpu] if gpu.asked > 0 => with_gpu(cluster, node, gpu),
            gpus => without_gpu(cluster, node, gpus),
        }
    }
}

fn with_gpu(cluster: &Cluster, node: NodeIndex, gpu: &Term) -> i64 {
    let (resource, asked) = (gpu.resource, gpu.asked);
    let total = cluster.allocatable(resource, node).max(1);
    let used = cluster.requested(resource, node);
    if asked >= total {
        return SCORE_MAX;
    }
    let after = (used + asked).min(total);
    if used == 0 {
        return IDLE_NODE_MAX * after / total;
    }
    IDLE_NODE_MAX + (SCORE_MAX - IDLE_NODE_MAX) * after / total
}

fn without_gpu(cluster: &Cluster, node: NodeIndex, gpus: &[Term]) -> i64 {
    let (total, used) = gpus.iter().fold((0, 0), |(total, used), Term { resource, .. }| {
        let more = (cluster.allocatable(*resource, node), cluster.requested(*resource, node));
        (total + more.0, used + more.1)
    });
    if total == 0 {
        return SCORE_MAX;
    }
    TAKEN_GPU_NODE * used.min(total) / total
}
