//! The workload of one run: the pods of a list in the order of a seed, brought to 130 % of the
//! GPUs, and the typical pods that FGD expects.

use super::go_random::GoRandom;
use crate::cluster::{Expected, Shape};
use crate::simulator::traces::TraceError;
use crate::simulator::traces::openb::{self, TraceNode, TracePod};
use std::collections::BTreeMap;
use std::path::{Path, PathBuf};

/// Arrivals ask for so many percent of all GPUs (the artifact's `tune` of 1.3).
pub(super) const INFLATED_PERCENT: u64 = 130;
/// Typical pods are the commonest shapes that together are so many percent of all pods.
const TYPICAL_PERCENT: usize = 95;

/// The nodes and one list of pods.
#[derive(Clone, Debug)]
pub struct Inputs {
    /// Nodes with GPUs, in the order of the file.
    pub nodes: Vec<TraceNode>,
    /// Pods, by name.
    pub pods: Vec<TracePod>,
}

/// Thousandths of all GPUs of a pod together.
#[must_use]
pub(super) fn milli(pod: &TracePod) -> u64 {
    u64::from(pod.gpus) * u64::from(pod.gpu_milli)
}

/// What a pod asks for, as far as packing goes.
#[must_use]
pub(super) fn shape(pod: &TracePod) -> Shape {
    Shape {
        cpu: i64::try_from(pod.cpu_milli).expect("the trace has no such CPUs"),
        gpus: pod.gpus as usize,
        milli: if pod.gpus > 0 { u16::try_from(pod.gpu_milli).expect("at most 1000") } else { 0 },
        models: pod.models.clone(),
    }
}

/// The file of a list: plain or gzipped.
fn list_file(folder: &Path, list: &str) -> PathBuf {
    let plain = folder.join(format!("openb_pod_list_{list}.csv"));
    if plain.exists() { plain } else { folder.join(format!("openb_pod_list_{list}.csv.gz")) }
}

impl Inputs {
    /// Reads the nodes with GPUs and a list of pods from the folder of the trace.
    ///
    /// # Errors
    /// As [`openb::nodes`].
    pub fn read(folder: &Path, list: &str) -> Result<Self, TraceError> {
        let file = folder.join("openb_node_list_gpu_node.csv");
        let nodes = openb::nodes(&file)?.collect::<Result<_, _>>()?;
        let file = list_file(folder, list);
        let mut pods: Vec<TracePod> = openb::shapes(&file)?.collect::<Result<_, _>>()?;
        pods.sort_by(|a, b| a.name.cmp(&b.name));
        Ok(Self { nodes, pods })
    }

    /// Thousandths of all GPUs.
    #[must_use]
    pub fn capacity(&self) -> u64 {
        self.nodes.iter().map(|node| 1000 * u64::from(node.gpus)).sum()
    }

    /// The pods of one run in the order of their arrival. The artifact's `SortClusterPods` and
    /// `TunePodsByNodeTotalResource`: clones that fill up come last and are not shuffled, and the
    /// draw that ends it is judged by what it asks of one GPU.
    #[must_use]
    pub fn arrivals(&self, seed: u32) -> Vec<&TracePod> {
        let mut random = GoRandom::new(seed);
        random.int63(); // the argument of a log line
        let mut pods: Vec<&TracePod> = self.pods.iter().collect();
        random.shuffle(&mut pods);
        let target = self.capacity() * INFLATED_PERCENT / 100;
        let mut total: u64 = pods.iter().map(|pod| milli(pod)).sum();
        let count = u32::try_from(self.pods.len()).expect("lists are shorter than 2^31");
        if total < target && total > 0 {
            loop {
                let pod = &self.pods[random.below(count)];
                let of_one = if pod.gpus > 0 { u64::from(pod.gpu_milli) } else { 0 };
                if total + of_one > target {
                    return pods;
                }
                total += milli(pod);
                pods.push(pod);
            }
        }
        while total > target {
            let left = u32::try_from(pods.len()).expect("lists are shorter than 2^31");
            total -= milli(pods.remove(random.below(left)));
        }
        pods
    }

    /// The artifact's `GetTypicalPods`: shapes by falling number, pods without GPUs included.
    #[must_use]
    pub fn typical(&self) -> Vec<Expected> {
        let mut shapes: BTreeMap<(u64, u32, u32, String), usize> = BTreeMap::new();
        for pod in &self.pods {
            let of_one = if pod.gpus > 0 { pod.gpu_milli } else { 0 };
            let shape = (pod.cpu_milli, of_one, pod.gpus, pod.models.join("|"));
            *shapes.entry(shape).or_default() += 1;
        }
        let mut shapes: Vec<_> = shapes.into_iter().map(|(shape, n)| (n, shape)).collect();
        shapes.sort_by(|a, b| b.cmp(a));
        let mut counted = 0;
        shapes.retain(|(number, _)| {
            let is_typical = counted * 100 < self.pods.len() * TYPICAL_PERCENT;
            counted += if is_typical { *number } else { 0 };
            is_typical
        });
        let typical = |(number, (cpu, milli, gpus, models)): (usize, (u64, u32, u32, String))| {
            let models = models.split('|').filter(|model| !model.is_empty());
            let shape = Shape {
                cpu: i64::try_from(cpu).expect("the trace has no such CPUs"),
                gpus: gpus as usize,
                milli: u16::try_from(milli).expect("at most 1000"),
                models: models.map(Into::into).collect(),
            };
            let part = number as f64 / counted as f64;
            Expected { shape, memory: 0, count: number as u64, part }
        };
        shapes.into_iter().map(typical).collect()
    }
}
