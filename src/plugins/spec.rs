//! What the policies of the FGD paper look at: what is free of a node and asked by a pod, by the
//! largest node of the paper (its artifact's `MaxSpecCpu`, `MaxSpecGpu`).

use crate::cluster::{CPU, Class, Cluster, DeviceAsk, Left, NodeIndex};
use crate::model::DeviceSet;
use crate::model::gpu_part::DEVICE;
use crate::model::gpu_topology::PRODUCT_LABEL;
use smallvec::SmallVec;

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

/// The model of a node's GPUs, as its label names it; empty: it says none.
pub(super) fn model_of(cluster: &Cluster, node: NodeIndex) -> &str {
    let object = cluster.node(node).node.as_ref();
    object.and_then(|node| node.label(PRODUCT_LABEL)).unwrap_or_default()
}

/// Shows what would be left of a node's devices if a pod took what it asks for: for a fraction with
/// each device that it could be on, by its place, one of those of which as much is left; else
/// with the first free ones, which are all alike. O(devices^2).
pub(super) fn try_devices(
    left: &mut Left,
    ask: Option<DeviceAsk>,
    mut see: impl FnMut(&[u16], Option<usize>),
) {
    let Some(ask) = ask.filter(|ask| ask.is_fraction()) else {
        let whole = left.iter_mut().filter(|left| **left == DEVICE);
        whole.take(ask.map_or(0, |ask| ask.count)).for_each(|left| *left = 0);
        return see(left, None);
    };
    let mut tried: SmallVec<[u16; 8]> = SmallVec::new();
    for device in 0..left.len() {
        let had = left[device];
        if had < ask.milli || tried.contains(&had) {
            continue;
        }
        tried.push(had);
        left[device] -= ask.milli;
        see(left, Some(device));
        left[device] = had;
    }
}

/// The shared device at a place among those of [`Cluster::devices_left`].
pub(super) fn device_at(cluster: &Cluster, node: NodeIndex, place: usize) -> Option<DeviceSet> {
    cluster.shared_devices(node)?.ours().iter().nth(place).map(DeviceSet::one)
}
