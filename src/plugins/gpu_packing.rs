//! GpuPacking: fills nodes whose GPUs are already in use, keeps whole nodes whole, and keeps GPU
//! nodes free of pods that ask for no GPU.

use crate::cluster::{Class, Cluster, NodeIndex, ResourceId, is_gpu};
use crate::framework::{Plugin, Reads, SCORE_MAX, Score};

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

    fn score(&self, cluster: &Cluster, class: &Class, node: NodeIndex) -> i64 {
        let gpu = |(resource, _): &&(ResourceId, i64)| is_gpu(cluster.resources().name(*resource));
        match class.requests.iter().find(gpu) {
            Some((resource, asked)) => with_gpu(cluster, node, *resource, *asked),
            None => without_gpu(cluster, node),
        }
    }
}

fn with_gpu(cluster: &Cluster, node: NodeIndex, resource: ResourceId, asked: i64) -> i64 {
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

fn without_gpu(cluster: &Cluster, node: NodeIndex) -> i64 {
    let resources = cluster.resources();
    let gpus = resources.iter().filter(|resource| is_gpu(resources.name(*resource)));
    let (total, used) = gpus.fold((0, 0), |(total, used), resource| {
        let more = (cluster.allocatable(resource, node), cluster.requested(resource, node));
        (total + more.0, used + more.1)
    });
    if total == 0 {
        return SCORE_MAX;
    }
    TAKEN_GPU_NODE * used.min(total) / total
}
