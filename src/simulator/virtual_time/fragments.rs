//! Two figures of a moment: how fragmented the cluster is, and how unfairly it is shared.

use super::gpus::{Gpus, WHOLE, gpus};
use super::inputs::{Inputs, gpus_in};
use super::shared::Shared;
use super::world::Tally;
use crate::cluster::{ResourceId, ResourceTable, is_gpu};
use crate::fairshare::{FairShare, QueueIndex};
use crate::model::ResourceList;
use crate::model::gpu_part::GPU_MILLI;
use std::collections::BTreeMap;

/// Kinds of pods that are looked at; the rarest are left out.
const KINDS_MAX: usize = 32;

/// What pods of the workload typically ask for, with the part of the pods that do.
#[derive(Clone, Debug)]
pub(super) struct Typical {
    kinds: Vec<(ResourceList, Gpus, f64)>,
}

impl Typical {
    /// The kinds of pods that ask for GPUs. O(pods).
    pub(super) fn of(inputs: &Inputs) -> Self {
        let mut counts: BTreeMap<(&ResourceList, Gpus), u64> = BTreeMap::new();
        for gang in &inputs.gangs {
            let members: Vec<(u32, u64)> = if gang.templates.is_empty() {
                vec![(0, u64::from(gang.members) - 1), (gang.members - 1, 1)]
            } else {
                (0..gang.members).map(|member| (member, 1)).collect()
            };
            for (member, count) in members.into_iter().filter(|(_, count)| *count > 0) {
                let shape = gang.shape_of(member);
                if shape.gpus != Gpus::default() {
                    *counts.entry((&shape.requests, shape.gpus)).or_default() += count;
                }
            }
        }
        let mut counts: Vec<_> = counts.into_iter().collect();
        counts.sort_by(|a, b| b.1.cmp(&a.1).then_with(|| a.0.cmp(&b.0)));
        counts.truncate(KINDS_MAX);
        let sum: u64 = counts.iter().map(|(_, count)| count).sum();
        let part = |count: u64| count as f64 / sum as f64;
        let kinds = counts.into_iter();
        let kinds = kinds.map(|((asked, gpus), count)| (asked.clone(), gpus, part(count)));
        Self { kinds: kinds.collect() }
    }

    /// Of the GPUs that are free on a node, those that a pod drawn from the workload cannot use
    /// there, in the mean: the fragmentation of Weng et al., "Beware of Fragmentation" (ATC'23),
    /// section 4.2. O(kinds), and of shared GPUs O(kinds x (devices + pods there)).
    pub(super) fn fragments<Owner: Copy + PartialEq>(
        &self,
        free: &ResourceList,
        shared: &Shared<Owner>,
    ) -> f64 {
        let whole = gpus_in(free);
        if shared.is_empty() {
            if whole == 0 {
                return 0.0;
            }
            let none = self.kinds.iter().filter(|(asked, ..)| !fits(asked, free));
            return whole as f64 * none.map(|(.., part)| part).sum::<f64>();
        }
        let left: Vec<i64> = shared.left().collect();
        let all = whole * WHOLE + left.iter().sum::<i64>();
        let useless = |(asked, of, part): &(ResourceList, Gpus, f64)| {
            // a part of one, or several whole ones
            let each = of.shared_milli.clamp(0, WHOLE);
            let count = usize::try_from(of.shared_milli / each.max(1)).unwrap_or(usize::MAX);
            let too_small = |left: &&i64| **left < each;
            let with_room = left.len() - left.iter().filter(too_small).count();
            let useless = match fits(asked, free) && with_room >= count {
                // whole ones are of no use to a pod for parts, and the other way round
                true if each > 0 => whole * WHOLE + left.iter().filter(too_small).sum::<i64>(),
                true => all - whole * WHOLE,
                false => all,
            };
            gpus(useless) * part
        };
        self.kinds.iter().map(useless).sum()
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
    measures: Vec<Measure>,
    leaves: Vec<QueueIndex>,
    /// all GPUs
    capacity: i64,
}

/// Whole GPUs, or thousandths of shared ones: queues share them apart from each other.
struct Measure {
    resource: ResourceId,
    of: fn(Gpus) -> i64,
    /// GPUs that one is
    unit: f64,
    /// by tenant, what was charged and pends
    known: Vec<(i64, i64)>,
}

impl Yardstick {
    /// `resources`: the names that the scheduler knows, among them those of the GPUs.
    pub(super) fn new(inputs: &Inputs, resources: &ResourceTable) -> Self {
        let mut fair = FairShare::default();
        fair.replace(&inputs.queues).expect("the queues were checked when they were read");
        fair.bind_resources(resources);
        let shared: usize = inputs.cluster.shared().iter().map(|shared| shared.len()).sum();
        let shared = i64::try_from(shared).expect("few");
        let whole = resources.iter().find(|resource| is_gpu(resources.name(*resource)));
        let parts = resources.find(GPU_MILLI).filter(|_| shared > 0);
        let capacity = inputs.gpus();
        let mut measures = Vec::new();
        let mut measure = |resource: Option<ResourceId>, of, has: i64, unit| {
            let Some(resource) = resource else { return };
            fair.set_capacity(resource, has);
            let known = vec![(0, 0); inputs.tenants.len()];
            measures.push(Measure { resource, of, unit, known });
        };
        measure(whole, |gpus: Gpus| gpus.whole, capacity - shared, 1.0);
        measure(parts, |gpus: Gpus| gpus.shared_milli, shared * WHOLE, gpus(1));
        let leaf = |name: &str| fair.find(name).expect("a tenant is a queue");
        let leaves: Vec<QueueIndex> = inputs.tenants.iter().map(|name| leaf(name)).collect();
        Self { fair, measures, leaves, capacity }
    }

    /// The sum over the queues that wait of the distance between what they hold and what they
    /// deserve, over all GPUs: 0 if each has its share. O(queues).
    pub(super) fn unfairness(&mut self, tallies: &[Tally]) -> f64 {
        if self.capacity <= 0 {
            return 0.0;
        }
        let mut sum = 0.0;
        for Measure { resource, of, unit, known } in &mut self.measures {
            for ((leaf, (held, pending)), tally) in self.leaves.iter().zip(&mut *known).zip(tallies)
            {
                let (holds, waits) = (of(tally.held), of(tally.pending));
                self.fair.charge(*leaf, &[(*resource, holds - *held)], 1);
                self.fair.pend(*leaf, &[(*resource, waits - *pending)], 1);
                (*held, *pending) = (holds, waits);
            }
            for (leaf, (held, pending)) in self.leaves.iter().zip(&*known) {
                if *pending > 0 {
                    let deserved = self.fair.deserved_milli(*leaf, *resource) as f64 / 1000.0;
                    sum += (*held as f64 - deserved).abs() * *unit;
                }
            }
        }
        sum / self.capacity as f64
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::model::DeviceSet;
    use crate::scheduler::Event;

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
            free.iter().map(|free| typical.fragments(free, &Shared::<u32>::default())).sum()
        };
        assert_eq!(fragments(&[free(8, 8), free(0, 8)]), 0.0);
        assert_eq!(fragments(&[free(4, 8)]), 1.0, "a quarter of the pods cannot use the four");
        assert_eq!(fragments(&[free(4, 0), free(4, 4)]), 5.0, "without a core nobody can");
    }

    #[test]
    fn of_shared_gpus_what_is_too_small_for_a_pod_is_a_fragment() {
        let shared = "nodes: [{name: n, shared-gpus: true, allocatable: {nvidia.com/gpu: 3}}]";
        let gangs = "gangs:\n- {name: a, run: 1h, requests: {cpu: 1}, gpu-milli: 400}\n\
                     - {name: b, run: 1h, requests: {cpu: 1}, gpu-milli: 2000}\n";
        let inputs = Inputs::from_texts(shared, gangs, None).expect("well-formed");
        let typical = Typical::of(&inputs);
        let mut devices = Shared::of(inputs.cluster.shared()[0]);
        let fragments = |devices: &Shared<u32>, cpu: i64| {
            let left: i64 = devices.left().sum();
            let free = vec![("cpu".into(), cpu), (GPU_MILLI.into(), left)];
            typical.fragments(&free, devices)
        };
        assert_eq!(fragments(&devices, 1000), 0.0);
        assert_eq!(fragments(&devices, 0), 3.0, "nobody fits");
        devices.give(0, DeviceSet::one(0), 700).expect("it is free");
        // 0.3 is of use to nobody
        assert_eq!(fragments(&devices, 1000), 0.3);
        devices.give(1, DeviceSet::one(1), 500).expect("it is free");
        // to half of the pods 0.3 is of no use, to the others nothing of 1.8
        assert_eq!(fragments(&devices, 1000), 0.5 * 0.3 + 0.5 * 1.8);
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
        scheduler.handle(now, Event::NodeApplied(node));
        let mut yardstick = Yardstick::new(&inputs, scheduler.cluster().resources());
        let mut of = |amounts: [(i64, i64); 2]| {
            let gpus = |whole| Gpus { whole, ..Gpus::default() };
            let tally = |(held, pending)| Tally {
                held: gpus(held),
                pending: gpus(pending),
                waiting: pending,
            };
            yardstick.unfairness(&amounts.map(tally))
        };
        assert_eq!(of([(0, 0), (0, 0)]), 0.0);
        assert_eq!(of([(16, 4), (0, 8)]), 1.0, "each deserves 8 of 16: 8 too many, 8 too few");
        assert_eq!(of([(16, 0), (0, 8)]), 0.5, "the one that does not wait does not count");
        assert_eq!(of([(8, 4), (8, 8)]), 0.0);
    }

    #[test]
    fn whole_and_shared_gpus_are_shared_apart() {
        let cluster = "nodes: [{name: n, allocatable: {nvidia.com/gpu: 8}}, \
                       {name: s, shared-gpus: true, allocatable: {nvidia.com/gpu: 8}}]";
        let gangs = "gangs: [{name: a, queue: a, run: 1h, requests: {nvidia.com/gpu: 1}}, \
                     {name: b, queue: b, run: 1h, requests: {}, gpu-milli: 500}]";
        let inputs = Inputs::from_texts(cluster, gangs, None).expect("well-formed");
        let mut scheduler = crate::scheduler::Scheduler::new(Default::default(), Vec::new());
        let (now, cluster) = (crate::model::Timestamp(0), &inputs.cluster);
        for node in &cluster.nodes {
            scheduler.handle(now, Event::NodeApplied(Box::new(node.clone())));
        }
        for pod in &cluster.standing {
            scheduler.handle(now, Event::PodApplied(Box::new(pod.clone())));
        }
        let mut yardstick = Yardstick::new(&inputs, scheduler.cluster().resources());
        let gpus = |whole, shared_milli| Gpus { whole, shared_milli };
        let a = Tally { held: gpus(6, 0), pending: gpus(0, 0), waiting: 0 };
        let b = Tally { held: gpus(0, 3_000), pending: gpus(2, 2_500), waiting: 2 };
        // b deserves two whole ones, and of the shared ones all the 5.5 that it asks for
        assert_eq!(yardstick.unfairness(&[a, b]), (2.0 + 2.5) / 16.0);
    }
}
