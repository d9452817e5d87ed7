//! One run: every pod arrives once, is decided by the scheduler that ships, and stays if it was
//! placed; a pod that was not is taken away and does not come again.

use super::PolicyInfo;
use super::refusals::Refusals;
use super::workload::{INFLATED_PERCENT, Inputs, milli, shape};
use crate::model::gpu_part::{GPU, GpuPart, PartAmount};
use crate::model::pod::{digest, mixed};
use crate::model::{DeviceSet, Timestamp, Uid, WallTime};
use crate::model::{Node, NodeSelectorTerm, Operator, Pod, PodClass, PodKey, Requirement};
use crate::plugins::{Arguments, FILTERS, Fgd, profile};
use crate::scheduler::{ApiCall, Event, Evictions, Kind, Leadership, Options, Scheduler};
use crate::simulator::traces::objects::GPU_PRODUCT;
use crate::simulator::traces::openb::{TraceNode, TracePod};

const NAME: &str = "mss-scheduler";
const NOW: Timestamp = Timestamp(0);
/// More pods than any node has room for.
const PODS_MAX: i64 = 1_000_000;
/// Uids of holders begin here, above those of all pods.
const HOLDERS: u128 = 1 << 64;

/// Percent of all GPUs that are allocated when pods that ask for so many percent have arrived.
pub type Curve = Vec<Option<f64>>;

/// What came out of a run.
#[derive(Clone, Debug)]
pub struct Outcome {
    /// What is allocated as demand arrives.
    pub curve: Curve,
    /// Who was refused.
    pub refusals: Refusals,
}

/// Runs a list under a policy. `order` names the order of nodes that breaks ties: a stable hash of
/// the node's name in that order.
#[must_use]
pub fn run(inputs: &Inputs, policy: &PolicyInfo, seed: u32, order: u32) -> Outcome {
    let mut scheduler = scheduler(inputs, policy, order);
    let capacity = inputs.capacity() as f64;
    let (mut arrived, mut used) = (0, 0);
    let slots = usize::try_from(INFLATED_PERCENT).expect("small") + 2;
    let mut sums = vec![(0.0, 0u32); slots];
    let mut refusals = Refusals::new();
    for (number, pod) in inputs.arrivals(seed).into_iter().enumerate() {
        let uid = Uid(number as u128 + 1);
        arrived += milli(pod);
        scheduler.handle(NOW, Event::PodApplied(Box::new(arrival(pod, uid))));
        let mut is_placed = false;
        while scheduler.has_work() {
            let calls = scheduler.cycle(NOW).calls;
            is_placed |= calls.iter().any(|call| matches!(call, ApiCall::Bind { .. }));
        }
        if is_placed {
            used += milli(pod);
        } else {
            scheduler.handle(NOW, Event::PodDeleted(uid));
        }
        let percent = |milli: u64| 100.0 * milli as f64 / capacity;
        refusals.entry(shape(pod)).or_default().count(is_placed, percent(arrived));
        #[allow(clippy::cast_possible_truncation, clippy::cast_sign_loss)] // 0 to 131
        let slot = (percent(arrived).round() as usize).min(slots - 1);
        sums[slot].0 += (percent(used) * 100.0).round() / 100.0;
        sums[slot].1 += 1;
    }
    scheduler.check_invariants();
    let mean = |slot: usize| {
        let (sum, count) = *sums.get(slot)?;
        (count > 0).then(|| sum / f64::from(count))
    };
    let at =
        |slot: usize| mean(slot).or_else(|| mean(slot.checked_sub(1)?)).or_else(|| mean(slot + 1));
    Outcome { curve: (0..slots - 1).map(at).collect(), refusals }
}

fn scheduler(inputs: &Inputs, policy: &PolicyInfo, order: u32) -> Scheduler {
    let fgd = Fgd { typical: inputs.typical().into() };
    let arguments = Arguments { fgd, ..Arguments::default() };
    let filters = FILTERS.iter().copied();
    let profile = profile(NAME, filters, [(policy.plugin, 1)], &arguments);
    let options = Options { evictions: Evictions::Off, drains: None, ..Options::default() };
    let mut scheduler = Scheduler::new(options, vec![profile]);
    for kind in [Kind::Node, Kind::Pod, Kind::Namespace] {
        scheduler.handle(NOW, Event::ListStarted(kind));
        if kind == Kind::Node {
            for node in &inputs.nodes {
                scheduler.handle(NOW, Event::NodeApplied(Box::new(shared_node(node, order))));
            }
        }
        if kind == Kind::Pod {
            for (number, node) in inputs.nodes.iter().enumerate() {
                let holder = holder(node, order, Uid(HOLDERS + number as u128));
                scheduler.handle(NOW, Event::PodApplied(Box::new(holder)));
            }
        }
        scheduler.handle(NOW, Event::ListEnded(kind));
    }
    let leadership = Leadership { previous_renewal: WallTime(0), wall: WallTime(NOW.0) };
    scheduler.handle(NOW, Event::Leading(leadership));
    scheduler
}

fn bytes(mib: u64) -> i64 {
    i64::try_from(mib << 20).expect("the trace has no such amounts")
}

fn cpus(milli: u64) -> i64 {
    i64::try_from(milli).expect("the trace has no such amounts")
}

/// What order nodes of equal score come in follows from a hash of their names (FNV-1a). Of names
/// that differ in one number it makes orders that resemble each other, so they differ throughout.
fn name_of(node: &TraceNode, order: u32) -> Box<str> {
    match order {
        // as in the first published table
        0 => format!("{}.order-0", node.name).into(),
        _ => {
            let place = mixed(digest(&node.name).wrapping_add(u64::from(order)));
            format!("{place:016x}.{}", node.name).into()
        }
    }
}

/// The pod that owns the GPUs of a node.
fn holder(node: &TraceNode, order: u32, uid: Uid) -> Pod {
    let requests = vec![(GPU.into(), i64::from(node.gpus))];
    Pod {
        key: PodKey { namespace: "holders".into(), name: node.name.to_string().into() },
        uid,
        node: Some(name_of(node, order)),
        holds: DeviceSet::lowest(node.gpus as usize),
        class: PodClass { requests, ..PodClass::default() },
        ..Pod::default()
    }
}

fn shared_node(node: &TraceNode, order: u32) -> Node {
    let allocatable = vec![
        ("cpu".into(), cpus(node.cpu_milli)),
        ("memory".into(), bytes(node.memory_mib)),
        (GPU.into(), i64::from(node.gpus)),
        ("pods".into(), PODS_MAX),
    ];
    let labels = vec![(GPU_PRODUCT.into(), node.model.clone())];
    Node { name: name_of(node, order), labels, allocatable, ..Node::default() }
}

fn arrival(pod: &TracePod, uid: Uid) -> Pod {
    let (cpu, memory) = (cpus(pod.cpu_milli), bytes(pod.memory_mib));
    let mut requests = vec![("cpu".into(), cpu), ("memory".into(), memory)];
    let part = (pod.gpus > 0).then(|| GpuPart {
        count: u8::try_from(pod.gpus).expect("nodes have 8 GPUs"),
        amount: PartAmount::Milli(u16::try_from(pod.gpu_milli).expect("at most 1000")),
        packed: false,
    });
    requests.retain(|(_, amount): &(_, i64)| *amount > 0);
    let expression =
        Requirement { key: GPU_PRODUCT.into(), operator: Operator::In, values: pod.models.clone() };
    let term = NodeSelectorTerm { expressions: vec![expression], ..NodeSelectorTerm::default() };
    let mut class = PodClass {
        profile: Some(0),
        requests,
        non_zero: [cpu, memory],
        non_zero_asked: [cpu, memory],
        required: (!pod.models.is_empty()).then(|| vec![term]),
        ..PodClass::default()
    };
    class.set_gpu_part(part);
    let key = PodKey { namespace: "openb".into(), name: format!("{}-{}", pod.name, uid.0).into() };
    Pod { key, uid, profile: Some(0), class, ..Pod::default() }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::cluster::Cluster;

    #[test]
    fn each_order_is_another() {
        let node = |number| TraceNode {
            name: format!("openb-node-{number:04}").into(),
            cpu_milli: 96_000,
            memory_mib: 786_432,
            gpus: 8,
            model: "V100M32".into(),
        };
        let nodes: Vec<TraceNode> = (0..200).map(node).collect();
        let ranks = |order: u32| -> Vec<f64> {
            let mut cluster = Cluster::default();
            let ties: Vec<u32> = nodes
                .iter()
                .map(|node| {
                    _ = cluster.apply_node(shared_node(node, order));
                    let index = cluster.find_node(&name_of(node, order)).expect("it was applied");
                    cluster.node(index).tie
                })
                .collect();
            let rank = |tie: &u32| ties.iter().filter(|other| *other < tie).count() as f64;
            ties.iter().map(rank).collect()
        };
        let all: Vec<Vec<f64>> = (0..6).map(ranks).collect();
        for (number, one) in all.iter().enumerate() {
            for other in &all[..number] {
                // Spearman's rank correlation of independent orders is 0 +- 0.07
                let apart: f64 = one.iter().zip(other).map(|(a, b)| (a - b).powi(2)).sum();
                let n = 200.0_f64;
                let correlation = 1.0 - 6.0 * apart / (n * (n * n - 1.0));
                assert!(correlation.abs() < 0.35, "order {number}: {correlation}");
            }
        }
    }
}
