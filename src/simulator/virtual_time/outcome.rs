//! What came of a run.

use super::gpus::gpu_ms;
use super::inputs::Inputs;
use super::policy::Policy;
use super::samples::Samples;
use super::world::World;
use serde::Serialize;
use std::collections::BTreeMap;

/// Sums over a run.
#[derive(Clone, Debug, Default)]
pub struct Totals {
    /// Gangs that ended.
    pub ended: u64,
    /// When the last of them ended.
    pub end_ms: i64,
    /// When the last gang arrived.
    pub last_arrival_ms: i64,
    /// Thousandths of GPUs of bound pods, times milliseconds.
    pub held_milli_ms: i128,
    /// The same of members that do work.
    pub worked_milli_ms: i128,
    /// Those of bound pods until the last arrival.
    pub held_while_arriving_milli_ms: i128,
    /// Pods bound.
    pub binds: u64,
    /// Pods evicted.
    pub evicted_pods: u64,
    /// Nodes lost.
    pub failed_nodes: u64,
    /// Pods lost with them.
    pub failed_pods: u64,
    /// Gangs that were rolled back, half bound.
    pub rollbacks: u64,
    /// Scheduling cycles.
    pub cycles: u64,
    /// Times a gang was tried.
    pub attempts: u64,
    /// Plans to make room.
    pub plans: u64,
    /// Plans that seated their gang.
    pub seated: u64,
    /// Plans given up, by why.
    pub given_up: BTreeMap<&'static str, u64>,
}

/// What came of a gang.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct GangOutcome {
    /// Its place in [`Inputs::gangs`].
    pub gang: usize,
    /// When its minimum ran first.
    pub started_ms: Option<i64>,
    /// When it ended.
    pub ended_ms: Option<i64>,
    /// Members evicted.
    pub evicted_pods: u32,
    /// Times it fell below its minimum.
    pub restarts: u32,
    /// Thousandths of GPUs, times milliseconds, that were lost by that.
    pub lost_milli_ms: i128,
}

/// Who held which GPUs at one time.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct NodeMap {
    /// When.
    pub at_ms: i64,
    /// By node: what is held of whole GPUs, then of shared ones, by device.
    pub nodes: Vec<Vec<Holding>>,
}

/// What a pod has of the GPUs of its node, or of one that is shared.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Holding {
    /// Its queue, by place in [`Inputs::tenants`].
    pub tenant: usize,
    /// Which device, if it is shared.
    pub device: Option<usize>,
    /// How much, in thousandths.
    pub milli: i64,
}

/// What came of a run.
#[derive(Clone, Debug)]
pub struct Outcome {
    /// Name of the policy.
    pub policy: &'static str,
    /// By arrival.
    pub gangs: Vec<GangOutcome>,
    /// Queues over time.
    pub samples: Samples,
    /// Nodes at the chosen times.
    pub maps: Vec<NodeMap>,
    /// Sums.
    pub totals: Totals,
    /// The figures of the table.
    pub summary: Summary,
}

/// The figures of one policy. Times are in seconds.
#[derive(Clone, Debug, PartialEq, Serialize)]
pub struct Summary {
    /// Name of the policy.
    pub policy: &'static str,
    /// Gangs of the workload.
    pub gangs: usize,
    /// Gangs that started.
    pub started: usize,
    /// Gangs that ended.
    pub done: usize,
    /// Wait from arrival to the first run of the minimum, of gangs that started.
    pub wait_mean_s: f64,
    /// Median of the same.
    pub wait_median_s: f64,
    /// 95th percentile of the same.
    pub wait_p95_s: f64,
    /// 99th percentile of the same.
    pub wait_p99_s: f64,
    /// Time from arrival to end, of gangs that ended.
    pub jct_mean_s: f64,
    /// Median of the same.
    pub jct_median_s: f64,
    /// 95th percentile of the same.
    pub jct_p95_s: f64,
    /// 99th percentile of the same.
    pub jct_p99_s: f64,
    /// GPUs that do work over GPUs there are, from the start to the last end.
    pub utilisation: f64,
    /// GPUs held over GPUs there are, from the start to the last end.
    pub allocation: f64,
    /// The same until the last arrival; 0 if all arrive at the start.
    pub allocation_while_arriving: f64,
    /// Mean over time of the GPUs that are free where a typical pod does not fit, over all GPUs.
    pub fragmentation: f64,
    /// Mean over time of how far queues that wait are from what they deserve, over all GPUs.
    pub fairness_error: f64,
    /// Pods evicted.
    pub evicted_pods: u64,
    /// Times a gang fell below its minimum.
    pub restarts: u64,
    /// GPU hours of work that were lost by that.
    pub lost_gpu_hours: f64,
    /// Nodes lost.
    pub failed_nodes: u64,
    /// Pods lost with them.
    pub failed_pods: u64,
    /// The last end.
    pub makespan_s: f64,
    /// Half-bound gangs rolled back.
    pub rollbacks: u64,
    /// Scheduling cycles.
    pub cycles: u64,
    /// Times a gang was tried.
    pub attempts: u64,
    /// Plans to make room.
    pub plans: u64,
    /// Plans that seated their gang.
    pub seated: u64,
    /// Plans given up, by why.
    pub given_up: BTreeMap<&'static str, u64>,
    /// The same by queue.
    pub queues: Vec<QueueSummary>,
}

impl Summary {
    /// Decisions: pods bound and pods evicted would not tell how often the answer was no, so these
    /// are the gangs that were tried and the plans to make room.
    #[must_use]
    pub fn decisions(&self) -> u64 {
        self.attempts + self.plans
    }
}

/// The figures of one queue under one policy.
#[derive(Clone, Debug, PartialEq, Serialize)]
pub struct QueueSummary {
    /// Name of the queue.
    pub queue: Box<str>,
    /// Its gangs.
    pub gangs: usize,
    /// Those that ended.
    pub done: usize,
    /// Mean wait of those that started.
    pub wait_mean_s: f64,
    /// 95th percentile of the same.
    pub wait_p95_s: f64,
    /// Mean time from arrival to end of those that ended.
    pub jct_mean_s: f64,
    /// Pods evicted.
    pub evicted_pods: u64,
}

impl Outcome {
    pub(super) fn new(
        policy: &Policy,
        world: &World<'_>,
        (samples, maps): (Samples, Vec<NodeMap>),
        totals: Totals,
    ) -> Self {
        let gangs = world.gangs.iter().enumerate().map(|(gang, truth)| GangOutcome {
            gang,
            started_ms: truth.started_ms,
            ended_ms: truth.ended_ms,
            evicted_pods: truth.evicted_pods,
            restarts: truth.restarts,
            lost_milli_ms: truth.lost_milli_ms,
        });
        let gangs: Vec<GangOutcome> = gangs.collect();
        let summary = summarise(policy.name, world.inputs, &gangs, (&totals, &samples));
        Self { policy: policy.name, gangs, samples, maps, totals, summary }
    }
}

/// Waits and completion times of some gangs.
struct Times {
    gangs: usize,
    /// sorted
    waits: Vec<i64>,
    /// sorted
    completions: Vec<i64>,
    evicted_pods: u64,
}

impl Times {
    fn of<'a>(inputs: &Inputs, gangs: impl Iterator<Item = &'a GangOutcome>) -> Self {
        let mut times =
            Self { gangs: 0, waits: Vec::new(), completions: Vec::new(), evicted_pods: 0 };
        for gang in gangs {
            let arrival = inputs.gangs[gang.gang].arrival_ms;
            times.gangs += 1;
            times.waits.extend(gang.started_ms.map(|at| at - arrival));
            times.completions.extend(gang.ended_ms.map(|at| at - arrival));
            times.evicted_pods += u64::from(gang.evicted_pods);
        }
        times.waits.sort_unstable();
        times.completions.sort_unstable();
        times
    }
}

fn summarise(
    policy: &'static str,
    inputs: &Inputs,
    gangs: &[GangOutcome],
    (totals, samples): (&Totals, &Samples),
) -> Summary {
    let times = Times::of(inputs, gangs.iter());
    let part = |held: i128, until: i64| {
        let offered = i128::from(inputs.gpus()) * i128::from(until);
        if offered > 0 { gpu_ms(held) / offered as f64 } else { 0.0 }
    };
    let lost: i128 = gangs.iter().map(|gang| gang.lost_milli_ms).sum();
    Summary {
        policy,
        gangs: gangs.len(),
        started: times.waits.len(),
        done: times.completions.len(),
        wait_mean_s: mean_s(&times.waits),
        wait_median_s: percentile_s(&times.waits, 50),
        wait_p95_s: percentile_s(&times.waits, 95),
        wait_p99_s: percentile_s(&times.waits, 99),
        jct_mean_s: mean_s(&times.completions),
        jct_median_s: percentile_s(&times.completions, 50),
        jct_p95_s: percentile_s(&times.completions, 95),
        jct_p99_s: percentile_s(&times.completions, 99),
        utilisation: part(totals.worked_milli_ms, totals.end_ms),
        allocation: part(totals.held_milli_ms, totals.end_ms),
        allocation_while_arriving: part(
            totals.held_while_arriving_milli_ms,
            totals.last_arrival_ms,
        ),
        fragmentation: samples.mean(|sample| sample.fragments) / (inputs.gpus() as f64).max(1.0),
        fairness_error: samples.mean(|sample| sample.unfairness),
        evicted_pods: totals.evicted_pods,
        restarts: gangs.iter().map(|gang| u64::from(gang.restarts)).sum(),
        lost_gpu_hours: gpu_ms(lost) / 3_600_000.0,
        failed_nodes: totals.failed_nodes,
        failed_pods: totals.failed_pods,
        makespan_s: seconds(totals.end_ms),
        rollbacks: totals.rollbacks,
        cycles: totals.cycles,
        attempts: totals.attempts,
        plans: totals.plans,
        seated: totals.seated,
        given_up: totals.given_up.clone(),
        queues: by_queue(inputs, gangs),
    }
}

fn by_queue(inputs: &Inputs, gangs: &[GangOutcome]) -> Vec<QueueSummary> {
    let queues = inputs.tenants.iter().map(|name| &**name).enumerate();
    let queue = |(place, name): (usize, &str)| {
        let own = gangs.iter().filter(|gang| inputs.tenant_of[gang.gang] == place);
        let times = Times::of(inputs, own);
        QueueSummary {
            queue: name.into(),
            gangs: times.gangs,
            done: times.completions.len(),
            wait_mean_s: mean_s(&times.waits),
            wait_p95_s: percentile_s(&times.waits, 95),
            jct_mean_s: mean_s(&times.completions),
            evicted_pods: times.evicted_pods,
        }
    };
    queues.map(queue).collect()
}

/// Milliseconds as seconds.
pub(super) fn seconds(millis: i64) -> f64 {
    millis as f64 / 1000.0
}

fn mean_s(millis: &[i64]) -> f64 {
    let sum: i128 = millis.iter().map(|value| i128::from(*value)).sum();
    if millis.is_empty() { 0.0 } else { sum as f64 / millis.len() as f64 / 1000.0 }
}

/// The least value that so many in a hundred do not exceed; of sorted values.
fn percentile_s(sorted: &[i64], percent: usize) -> f64 {
    let rank = (sorted.len() * percent).div_ceil(100).max(1);
    sorted.get(rank - 1).map_or(0.0, |value| seconds(*value))
}
