//! Whether room could have been made for those who start late.

use super::philly::guarantees;
use super::policy;
use mss_scheduler::simulator::virtual_time::{Inputs, Moment, RunOptions, Stage, watch};
use std::collections::BTreeMap;

/// GPUs; shares are computed in floating point.
const EPSILON: f64 = 0.01;
const GPUS: i64 = 8;
/// Between two looks, unless room could have been made at the last.
const STEP_MS: i64 = 5_000;

/// A gang that waits inside its guarantee, from when until when.
#[derive(Clone, Debug)]
pub(crate) struct Case {
    pub(crate) gang: usize,
    pub(crate) from_ms: i64,
    pub(crate) to_ms: i64,
    /// its queue holds no more than this where it is inside
    pub(crate) most: i64,
}

/// What was found of a case.
#[derive(Clone, Copy, Debug, Default)]
pub(crate) struct Finding {
    /// moments looked at
    pub(crate) looks: u32,
    /// moments at which victims could have made room
    pub(crate) could: u32,
    /// moments at which so many GPUs were free, on whatever nodes
    pub(crate) scattered: u32,
    /// the longest time in which they always could
    pub(crate) longest_ms: i64,
    since: Option<i64>,
}

/// What each queue deserves: its guarantee first, the rest dealt evenly to those who ask for more.
fn deserved(capacity: i64, guarantees: &[i64], demand: &[i64]) -> Vec<f64> {
    let first = guarantees.iter().zip(demand).map(|(guarantee, asked)| *guarantee.min(asked));
    let mut due: Vec<f64> = first.map(|gpus| gpus as f64).collect();
    let mut rest = capacity as f64 - due.iter().sum::<f64>();
    loop {
        let lacks = |at: usize| demand[at] as f64 - due[at];
        let open: Vec<usize> = (0..due.len()).filter(|at| lacks(*at) > EPSILON).collect();
        if open.is_empty() || rest < EPSILON {
            return due;
        }
        let least = open.iter().map(|at| lacks(*at)).fold(f64::INFINITY, f64::min);
        let part = least.min(rest / open.len() as f64);
        open.iter().for_each(|at| due[*at] += part);
        rest -= part * open.len() as f64;
    }
}

/// What the gangs of one queue could give on one node, each by its GPUs there and in all: any of
/// them that together, but for the greatest, are less than what the queue holds above its share.
fn most_given(gangs: &[(i64, i64)], excess: f64) -> i64 {
    let mut most: i64 = 0;
    for set in 1_u32..1 << gangs.len() {
        let chosen = || (0..gangs.len()).filter(|at| set & 1 << at != 0).map(|at| gangs[at]);
        let (sum, greatest) = (chosen().map(|g| g.1).sum::<i64>(), chosen().map(|g| g.1).max());
        if ((sum - greatest.unwrap_or(0)) as f64) < excess - EPSILON {
            most = most.max(chosen().map(|g| g.0).sum::<i64>());
        }
    }
    most
}

struct Scene {
    held: Vec<i64>,
    due: Vec<f64>,
    used: Vec<i64>,
    /// by node and queue, by gang its GPUs there
    on: BTreeMap<(usize, usize), BTreeMap<u32, i64>>,
}

impl Scene {
    fn of(inputs: &Inputs, moment: &Moment<'_>, guarantees: &[i64]) -> Self {
        let mut used = vec![0; inputs.gpus() as usize / GPUS as usize];
        let (mut held, mut demand) = (vec![0; guarantees.len()], vec![0; guarantees.len()]);
        let mut on: BTreeMap<(usize, usize), BTreeMap<u32, i64>> = BTreeMap::new();
        for pod in moment.pods() {
            let spec = &inputs.gangs[pod.gang as usize];
            let tenant = inputs.tenant_of[pod.gang as usize];
            let is_last = pod.member + 1 == spec.members;
            let gpus = if is_last { spec.last.gpus.whole } else { spec.shape.gpus.whole };
            match (pod.stage, pod.node) {
                (Stage::Succeeded | Stage::Gone, _) => continue,
                (Stage::Bound | Stage::Running | Stage::Stopping, Some(node)) => {
                    used[node as usize] += gpus;
                    held[tenant] += gpus;
                    let here = on.entry((node as usize, tenant)).or_default();
                    *here.entry(pod.gang).or_default() += gpus;
                }
                _ => {}
            }
            demand[tenant] += gpus;
        }
        let due = deserved(inputs.gpus(), guarantees, &demand);
        Self { held, due, used, on }
    }

    /// At most so many of the gang's members could have a seat, one queue's victims on one node
    /// taken without regard to those on others: for a gang of one pod this is exact.
    fn seats(&self, inputs: &Inputs, gang: usize) -> i64 {
        let (spec, own) = (&inputs.gangs[gang], inputs.tenant_of[gang]);
        let size = if spec.members == 1 {
            spec.last.gpus.whole
        } else {
            spec.last.gpus.whole.min(spec.shape.gpus.whole)
        };
        let mut free: Vec<i64> = self.used.iter().map(|used| GPUS - used).collect();
        for ((node, tenant), gangs) in &self.on {
            let excess = self.held[*tenant] as f64 - self.due[*tenant];
            if *tenant != own && excess > EPSILON {
                let whole = |gang: &u32| inputs.gangs[*gang as usize].gpus().whole;
                let gangs: Vec<(i64, i64)> =
                    gangs.iter().map(|(gang, here)| (*here, whole(gang))).collect();
                free[*node] += most_given(&gangs, excess);
            }
        }
        free.iter().map(|free| free / size.max(1)).sum()
    }
}

/// Looks at the run again, wherever a case is inside its guarantee and waits.
pub(crate) fn look_into(inputs: &Inputs, cases: &[Case]) -> Vec<Finding> {
    let guarantees = guarantees(inputs);
    let mut findings = vec![Finding::default(); cases.len()];
    let mut next = 0;
    let _ = watch(inputs, &policy("fair-share"), RunOptions::default(), |moment| {
        let now = moment.now_ms;
        let is_inside = |case: &Case| {
            let tenant = inputs.tenant_of[case.gang];
            (case.from_ms..case.to_ms).contains(&now) && moment.held(tenant).whole <= case.most
        };
        let outside = cases.iter().zip(&mut findings).filter(|(case, _)| !is_inside(case));
        outside.for_each(|(_, found)| found.since = None);
        // what could be done may be over a moment later
        let is_watched = findings.iter().any(|found| found.since.is_some());
        if now < next && !is_watched || !cases.iter().any(is_inside) {
            return;
        }
        next = now + STEP_MS;
        let scene = Scene::of(inputs, moment, &guarantees);
        for (case, found) in cases.iter().zip(&mut findings) {
            if !is_inside(case) {
                continue;
            }
            let spec = &inputs.gangs[case.gang];
            let free = inputs.gpus() - scene.used.iter().sum::<i64>();
            found.looks += 1;
            found.scattered += u32::from(free >= spec.gpus().whole);
            if scene.seats(inputs, case.gang) >= i64::from(spec.members) {
                found.could += 1;
                let since = *found.since.get_or_insert(now);
                found.longest_ms = found.longest_ms.max(now - since);
            } else {
                found.since = None;
            }
        }
    });
    findings
}
