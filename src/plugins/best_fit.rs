//! BestFit: the node on which least is left, CPU and GPU counting alike. The artifact of FGD
//! (ATC'23) has it as `getBestFitScore` in `best_fit_score.go`.

use super::spec::{CPU_MAX, GPU_MAX, asked_gpu, free_cpu, free_gpu, points};
use crate::cluster::{CPU, Class, Cluster, NodeIndex};
use crate::framework::{Plugin, Reads, Score, Term};

/// The plugin.
#[derive(Clone, Copy, Debug)]
pub(super) struct BestFit;

impl Plugin for BestFit {
    fn name(&self) -> &'static str {
        "BestFit"
    }
}

impl Score for BestFit {
    fn reads(&self) -> Reads {
        Reads::Usage
    }

    fn score(&self, cluster: &Cluster, class: &Class, node: NodeIndex, _: &[Term]) -> i64 {
        let cpu = free_cpu(cluster, node) - class.request(CPU);
        let gpu = free_gpu(cluster, class, node) - asked_gpu(cluster, class, node);
        let left = cpu as f64 / CPU_MAX * 0.5 + gpu as f64 / GPU_MAX as f64 * 0.5;
        points(1.0 - left)
    }
}
