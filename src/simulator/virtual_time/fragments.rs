//! Two figures of a moment: how fragmented the cluster is, and how unfairly it is shared.

use super::inputs::{Inputs, gpus_in};
use super::world::Tally;
use crate::cluster::{ResourceId, ResourceTable, is_gpu};
use crate::fairshare::{FairShare, QueueIndex};
use crate::model::ResourceList;
use std::collections::BTreeMap;

/// Kinds of pods that are looked at; the rarest are left out.
const KINDS_MAX: usize = 32;

/// What pods of the workload typically ask for, with the part of the pods that do.
#[derive(Clone, Debug)]
pub(super) struct Typical {
    kinds: Vec<(ResourceList, f64)>,
}

impl Typical {
    /// The kinds of pods that ask for GPUs. O(pods).
    pub(super) fn of(inputs: &Inputs) -> Self {
        let mut counts: BTreeMap<&ResourceList, u64> = BTreeMap::new();
        for gang in &inputs.gangs {
            let members: Vec<(u32, u64)> = if gang.templates.is_empty() {
                vec![(0, u64::from(gang.members) - 1), (gang.members - 1, 1)]
            } else {
                (0..gang.members).map(|member| (member, 1)).collect()
            };
            for (member, count) in members.into_iter().filter(|(_, count)| *count > 0) {
                let shape = gang.shape_of(member);
                if shape.gpus > 0 {
                    *counts.entry(&shape.requests).or_default() += count;
                }
            }
        }
        let mut counts: Vec<(&ResourceList, u64)> = counts.into_iter().collect();
        counts.sort_by(|a, b| b.1.cmp(&a.1).then_with(|| a.0.cmp(b.0)));
        counts.truncate(KINDS_MAX);
        let sum: u64 = counts.iter().map(|(_, count)| count).sum();
        let part = |count: u64| count as f64 / sum as f64;
        let kinds = counts.into_iter().map(|(asked, count)| (asked.clone(), part(count)));
        Self { kinds: kinds.collect() }
    }

    /// Of the GPUs that are free on a node, those that a pod drawn from the workload cannot use
    /// there, in the mean: the fragmentation of Weng et al., "Beware of Fragmentation" (ATC'23),
    /// section 4.2, of pods with whole GPUs. O(kinds).
    pub(super) fn fragments(&self, free: &ResourceList) -> f64 {
        let gpus = gpus_in(free);
        if gpus == 0 {
            return 0.0;
        }
        let none = self.kinds.iter().filter(|(asked, _)| !fits(asked, free));
        gpus as f64 * none.map(|(_, part)| part).sum::<f64>()
    }
}

fn fits(asked: &ResourceList, free: &ResourceList) -> bool {
    asked
        .iter()
        .all(|(name, amount)| free.iter().any(|(other, has)| other == name && has >= amount))
}

/// What the declared queues deserve of the GPUs, whatever the policy makes of them.
pub(super) struct Yardstick {
    fair: FairShare,
    gpu: Option<ResourceId>,
    /// by tenant, its leaf and what was charged and pends there
    leaves: Vec<(QueueIndex, i64, i64)>,
    capacity: i64,
}

impl Yardstick {
    /// `resources`: the names that the scheduler knows, among them that of the GPUs.
    pub(super) fn new(inputs: &Inputs, resources: &ResourceTable) -> Self {
        let mut fair = FairShare::default();
        fair.replace(&inputs.queues).expect("the queues were checked when they were read");
        fair.bind_resources(resources);
        let gpu = resources.iter().find(|resource| is_gpu(resources.name(*resource)));
        let capacity = inputs.gpus();
        if let Some(gpu) = gpu {
            fair.set_capacity(gpu, capacity);
        }
        let leaf = |name: &str| fair.find(name).expect("a tenant is a queue");
        let leaves: Vec<QueueIndex> = inputs.tenants.iter().map(|name| leaf(name)).collect();
        let leaves = leaves.into_iter().map(|leaf| (leaf, 0, 0)).collect();
        Self { fair, gpu, leaves, capacity }
    }

    /// The sum over the queues that wait of the distance between what they hold and what they
    /// deserve, over all GPUs: 0 if each has its share. O(queues).
    pub(super) fn unfairness(&mut self, tallies: &[Tally]) -> f64 {
        let Some(gpu) = self.gpu.filter(|_| self.capacity > 0) else { return 0.0 };
        for ((leaf, held, pending), tally) in self.leaves.iter_mut().zip(tallies) {
            self.fair.charge(*leaf, &[(gpu, tally.held - *held)], 1);
            self.fair.pend(*leaf, &[(gpu, tally.pending - *pending)], 1);
            (*held, *pending) = (tally.held, tally.pending);
        }
        let mut sum = 0.0;
        for (leaf, held, pending) in &self.leaves {
            if *pending > 0 {
                let deserved = self.fair.deserved_milli(*leaf, gpu) as f64 / 1000.0;
                sum += (*held as f64 - deserved).abs();
            }
        }
        sum / self.capacity as f64
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const CLUSTER: &str = "nodes: [{name: n, count: 2, allocatable: {nvidia.com/gpu: 8, cpu: 8}}]";

    fn inputs(gangs: &str) -> Inputs {
        Inputs::from_texts(CLUSTER, gangs, None).expect("well-formed")
    }

    #[test]
    fn free_gpus_are_fragments_for_the_pods_that_do_not_fit() {
        let typical = Typical::of(&inputs(
            "gangs:\n- {name: a, run: 1h, requests: {nvidia.com/gpu: 8, cpu: 8}}\n\
             - {name: b, run: 1h, requests: {nvidia.com/gpu: 1, cpu: 1}, members: 3}\n\
             - {name: c, run: 1h, requests: {cpu: 1}, members: 50}\n",
        ));
        let free = |gpus: i64, cpu: i64| -> ResourceList {
            vec![("cpu".into(), cpu * 1000), ("nvidia.com/gpu".into(), gpus)]
        };
        let fragments = |free: &[ResourceList]| -> f64 {
            free.iter().map(|free| typical.fragments(free)).sum()
        };
        assert_eq!(fragments(&[free(8, 8), free(0, 8)]), 0.0);
        assert_eq!(fragments(&[free(4, 8)]), 1.0, "a quarter of the pods cannot use the four");
        assert_eq!(fragments(&[free(4, 0), free(4, 4)]), 5.0, "without a core nobody can");
    }

    #[test]
    fn only_queues_that_wait_are_treated_unfairly() {
        let inputs = inputs(
            "gangs:\n- {name: a, queue: a, run: 1h, requests: {nvidia.com/gpu: 1}}\n\
             - {name: b, queue: b, run: 1h, requests: {nvidia.com/gpu: 1}}\n",
        );
        let mut scheduler = crate::scheduler::Scheduler::new(Default::default(), Vec::new());
        let node = Box::new(inputs.cluster.nodes[0].clone());
        let now = crate::model::Timestamp(0);
        scheduler.handle(now, crate::scheduler::Event::NodeApplied(node));
        let mut yardstick = Yardstick::new(&inputs, scheduler.cluster().resources());
        let mut of = |amounts: [(i64, i64); 2]| {
            let tally = |(held, pending)| Tally { held, pending, waiting: pending };
            yardstick.unfairness(&amounts.map(tally))
        };
        assert_eq!(of([(0, 0), (0, 0)]), 0.0);
        assert_eq!(of([(16, 4), (0, 8)]), 1.0, "each deserves 8 of 16: 8 too many, 8 too few");
        assert_eq!(of([(16, 0), (0, 8)]), 0.5, "the one that does not wait does not count");
        assert_eq!(of([(8, 4), (8, 8)]), 0.0);
    }
}
