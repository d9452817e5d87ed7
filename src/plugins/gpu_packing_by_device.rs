//! GpuPackingByDevice: devices in use before free devices, nodes in use before free nodes. The
//! artifact of FGD (ATC'23) has it as `getPackingScore` in `gpu_packing_score.go`.

use crate::cluster::{Class, Cluster, NodeIndex};
use crate::framework::{Plugin, Reads, SCORE_MAX, Score, Term};
use crate::model::gpu_part::DEVICE;

/// The plugin.
#[derive(Clone, Copy, Debug)]
pub(super) struct GpuPackingByDevice;

impl Plugin for GpuPackingByDevice {
    fn name(&self) -> &'static str {
        "GpuPackingByDevice"
    }
}

impl Score for GpuPackingByDevice {
    fn reads(&self) -> Reads {
        Reads::Usage
    }

    fn score(&self, cluster: &Cluster, class: &Class, node: NodeIndex, _: &[Term]) -> i64 {
        let Some(ask) = cluster.device_ask(class, node) else { return 0 };
        let mut left = cluster.devices_left(class, node);
        let free = left.iter().filter(|left| **left == DEVICE).count() as i64;
        if free == left.len() as i64 {
            return (SCORE_MAX / 3 - free).max(free).min(SCORE_MAX);
        }
        left.sort_unstable();
        let used = || left.iter().filter(|left| **left >= ask.milli).take(ask.count);
        let fresh = used().filter(|left| **left == DEVICE).count() as i64;
        if fresh > 0 {
            return (SCORE_MAX / 2 - fresh).max(SCORE_MAX / 3);
        }
        let percent = |left: &u16| i64::from(*left) * 100 / i64::from(DEVICE);
        let percent: i64 = used().map(percent).sum();
        (SCORE_MAX - percent / 10).max(SCORE_MAX / 2)
    }
}
