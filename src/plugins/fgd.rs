//! FGD: the node and device where a pod makes the least of the free GPUs useless.
//!
//! Fragmentation gradient descent, Weng et al., USENIX ATC'23. A node's fragmentation is what the
//! pods of a typical workload could not use of its free GPUs, each weighted by how often it comes;
//! a pod goes where it adds least. The artifact has it as `calculateGpuShareFragExtendScore` in
//! `fgd_score.go` and `NodeGpuShareFragAmount` in `frag.go`. The score is cut to whole points as
//! there: the ties act as a best fit.

use super::spec::{device_at, free_cpu, model_of, points, try_devices};
use crate::cluster::{CPU, Class, Cluster, Expected, NodeIndex};
use crate::framework::{Plugin, Reads, Score, Term};
use crate::model::DeviceSet;
use std::sync::Arc;

/// Typical pods are the commonest shapes that together are such a part of all.
const TYPICAL_PART: f64 = 0.95;

/// The plugin.
#[derive(Clone, Debug, Default)]
pub struct Fgd {
    /// The workload that is expected, its parts together 1; empty: what was learnt of arrivals.
    pub typical: Arc<[Expected]>,
}

impl Plugin for Fgd {
    fn name(&self) -> &'static str {
        "FGD"
    }
}

/// The commonest of what was learnt.
fn commonest(all: &[Expected]) -> &[Expected] {
    let mut sum = 0.0;
    let reached = all.iter().position(|known| {
        sum += known.part;
        sum >= TYPICAL_PART
    });
    reached.map_or(all, |last| &all[..=last])
}

impl Fgd {
    /// Thousandths of free GPUs that are of no use to the typical pods, on average.
    fn fragmentation(typical: &[Expected], model: &str, cpu: i64, left: &[u16]) -> f64 {
        let total: u32 = left.iter().map(|left| u32::from(*left)).sum();
        if total == 0 {
            return 0.0;
        }
        let useless = |known: &Expected| {
            let pod = &known.shape;
            let barred = !pod.models.is_empty() && pod.models.iter().all(|m| **m != *model);
            if pod.milli == 0 || barred || cpu < pod.cpu {
                return total;
            }
            let (mut fitting, mut scraps) = (0, 0);
            for left in left {
                if *left < pod.milli {
                    scraps += u32::from(*left);
                } else {
                    fitting += 1;
                }
            }
            if fitting < pod.gpus { total } else { scraps }
        };
        typical.iter().map(|known| known.part * f64::from(useless(known))).sum()
    }

    /// The score of the best choice of devices; for a fraction also the best device, by its place
    /// among those of [`Cluster::devices_left`].
    fn best(&self, cluster: &Cluster, class: &Class, node: NodeIndex) -> (i64, Option<usize>) {
        let learnt = cluster.learnt();
        let typical = if self.typical.is_empty() { &learnt.shapes } else { &*self.typical };
        let typical = if self.typical.is_empty() { commonest(typical) } else { typical };
        let model = model_of(cluster, node);
        let cpu = free_cpu(cluster, node);
        let mut left = cluster.devices_left(class, node);
        let before = Self::fragmentation(typical, model, cpu, &left);
        let cpu = cpu - class.request(CPU);
        let mut best = (0, None);
        let mut is_first = true;
        try_devices(&mut left, cluster.device_ask(class, node), |left, device| {
            let less = before - Self::fragmentation(typical, model, cpu, left);
            let score = points(1.0 / (1.0 + (-less / 1000.0).exp()));
            if std::mem::take(&mut is_first) || score > best.0 {
                best = (score, device);
            }
        });
        best
    }
}

impl Score for Fgd {
    fn reads(&self) -> Reads {
        Reads::Usage
    }

    fn score(&self, cluster: &Cluster, class: &Class, node: NodeIndex, _: &[Term]) -> i64 {
        self.best(cluster, class, node).0
    }

    fn learns(&self) -> bool {
        self.typical.is_empty()
    }

    fn devices(&self, cluster: &Cluster, class: &Class, node: NodeIndex) -> Option<DeviceSet> {
        let place = self.best(cluster, class, node).1?;
        device_at(cluster, node, place)
    }
}
