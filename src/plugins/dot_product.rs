//! DotProduct: the node whose free amounts point least in the direction of what the pod asks for.
//! Tetris (SIGCOMM'14) as the artifact of FGD (ATC'23) has it: `calculateDotProductScore` in
//! `dot_product_score.go`, with GPUs merged into one dimension and the largest node as the unit.

use super::spec::{CPU_MAX, GPU_MAX, asked_gpu, free_cpu, free_gpu, points};
use crate::cluster::{CPU, Class, Cluster, NodeIndex};
use crate::framework::{Plugin, Reads, Score, Term};

/// The plugin.
#[derive(Clone, Copy, Debug)]
pub(super) struct DotProduct;

impl Plugin for DotProduct {
    fn name(&self) -> &'static str {
        "DotProduct"
    }
}

impl Score for DotProduct {
    fn reads(&self) -> Reads {
        Reads::Usage
    }

    fn score(&self, cluster: &Cluster, class: &Class, node: NodeIndex, _: &[Term]) -> i64 {
        let gpu_max = GPU_MAX as f64;
        let cpu = free_cpu(cluster, node) as f64 / CPU_MAX * (class.request(CPU) as f64 / CPU_MAX);
        let (free, asked) = (free_gpu(cluster, class, node), asked_gpu(cluster, class, node));
        let gpu = free as f64 / gpu_max * (asked as f64 / gpu_max);
        points(1.0 - f64::midpoint(cpu, gpu))
    }
}
