//! What the policies of the FGD paper look at: what is free of a node and asked by a pod, by the
//! largest node of the paper (its artifact's `MaxSpecCpu`, `MaxSpecGpu`).

use crate::cluster::{CPU, Class, Cluster, NodeIndex};

/// Milli-CPU of the largest node.
pub(super) const CPU_MAX: f64 = 128_000.0;
/// Thousandths of GPUs of the largest node.
pub(super) const GPU_MAX: i64 = 8000;

/// Free milli-CPU.
pub(super) fn free_cpu(cluster: &Cluster, node: NodeIndex) -> i64 {
    cluster.allocatable(CPU, node) - cluster.requested(CPU, node)
}

/// Free thousandths of all devices that the class could get, together.
pub(super) fn free_gpu(cluster: &Cluster, class: &Class, node: NodeIndex) -> i64 {
    cluster.devices_left(class, node).into_iter().map(i64::from).sum()
}

/// Thousandths of devices that a pod asks for.
pub(super) fn asked_gpu(cluster: &Cluster, class: &Class, node: NodeIndex) -> i64 {
    cluster.device_ask(class, node).map_or(0, |ask| ask.total())
}

/// A part of [`crate::framework::SCORE_MAX`], cut to whole points as the artifact cuts it: the
/// ties that this makes are part of how its policies behave.
#[allow(clippy::cast_possible_truncation)] // cutting is the point
pub(super) fn points(part: f64) -> i64 {
    ((part * 100.0) as i64).clamp(0, crate::framework::SCORE_MAX)
}
