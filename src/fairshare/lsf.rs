//! LSF's dynamic user priority, the order `Lsf`.
//!
//! ```text
//! priority = shares / (cpu_time * CPU_TIME_FACTOR
//!     + (historical_run_time + run_time) * RUN_TIME_FACTOR
//!     + (committed_run_time - run_time) * COMMITTED_RUN_TIME_FACTOR
//!     + (1 + job_slots) * RUN_JOB_FACTOR
//!     + (historical_gpu_run_time + gpu_run_time) * ngpus_physical * GPU_RUN_TIME_FACTOR)
//! ```
//!
//! IBM Spectrum LSF 10.1, "Dynamic user priority", "Configuring committed run time", "Configuring
//! GPU run time" and `lsb.params`. The manual prints the term of GPUs behind the closing bracket;
//! read so, use would raise the priority, so it stands inside here. Times are hours. A pod is a
//! slot, and the run time of a job is that of all its pods; `cpu_time` is what is requested.
//! The terms of forwarded jobs and of an adjustment plug-in have nothing to be computed from.

use super::FairShare;
use super::tree::QueueIndex;
use super::usage::Flow;
use crate::cluster::{CPU, ResourceId, is_gpu};
use crate::model::WallTime;
use std::cmp::Ordering;

/// Milliseconds of an hour.
pub(super) const HOUR: f64 = 3_600_000.0;

/// The parameters, with the defaults of LSF's `lsb.params`.
#[derive(Clone, Debug, PartialEq)]
pub struct LsfOptions {
    /// `CPU_TIME_FACTOR`, per core-hour.
    pub cpu_time_factor: f64,
    /// `RUN_TIME_FACTOR`, per hour.
    pub run_time_factor: f64,
    /// `COMMITTED_RUN_TIME_FACTOR`, per hour that pods may still run.
    pub committed_run_time_factor: f64,
    /// `RUN_JOB_FACTOR`, per pod.
    pub run_job_factor: f64,
    /// `GPU_RUN_TIME_FACTOR`, per GPU-hour.
    pub gpu_run_time_factor: f64,
    /// `HIST_HOURS`: in what time the past comes to count a tenth; 0: it does not fade.
    pub hist_hours: f64,
    /// `ENABLE_HIST_RUN_TIME`: the run time of pods that ended counts.
    pub enable_hist_run_time: bool,
    /// `ENABLE_GPU_HIST_RUN_TIME`: the GPU run time of pods that ended counts.
    pub enable_gpu_hist_run_time: bool,
}

impl Default for LsfOptions {
    fn default() -> Self {
        Self {
            cpu_time_factor: 0.7,
            run_time_factor: 0.7,
            committed_run_time_factor: 0.0,
            run_job_factor: 3.0,
            gpu_run_time_factor: 0.0,
            hist_hours: 5.0,
            enable_hist_run_time: false,
            enable_gpu_hist_run_time: false,
        }
    }
}

/// A pod that holds room.
#[derive(Clone, Copy, Debug)]
pub struct Run<'a> {
    /// What it requests, as charged.
    pub requests: &'a [(ResourceId, i64)],
    /// Since when.
    pub since: WallTime,
    /// How long it may run at most; `None`: without end.
    pub limit_ms: Option<i64>,
}

/// Pods that hold room below a slot; times are milliseconds, sums of start times wall times.
#[derive(Clone, Copy, Debug, Default)]
struct Running {
    pods: i64,
    started: i128,
    gpus: i64,
    gpus_started: i128,
    limited: i64,
    ends: i128,
}

#[derive(Debug, Default)]
pub(super) struct Lsf {
    options: LsfOptions,
    /// some queue is ordered so; otherwise nothing is counted
    pub(super) in_use: bool,
    /// it is in use from now on, and pods that run already are counted with their past
    fresh: bool,
    wall: WallTime,
    /// `[slot]`
    running: Vec<Running>,
}

impl Lsf {
    /// Begins anew with so many slots.
    pub(super) fn clear(&mut self, in_use: bool, slots: usize) {
        self.fresh = in_use && !self.in_use;
        self.in_use = in_use;
        self.running = if in_use { vec![Running::default(); slots] } else { Vec::new() };
    }

    pub(super) fn grow(&mut self, slots: usize) {
        if self.in_use && self.running.len() < slots {
            self.running.resize(slots, Running::default());
        }
    }
}

impl FairShare {
    /// The parameters of the order `Lsf`, from now on. Usage until now keeps fading as before.
    pub fn set_lsf_options(&mut self, options: LsfOptions) {
        self.accrue_all();
        self.usage.set_hist_hours(options.hist_hours);
        self.lsf.options = options;
    }

    /// The wall time. O(1).
    pub fn set_wall(&mut self, wall: WallTime) {
        self.lsf.wall = wall;
    }

    /// From here on pods have no past: all that run have been counted.
    pub fn all_counted(&mut self) {
        self.lsf.fresh = false;
    }

    /// Counts (`sign` 1) or uncounts (-1) a pod that holds room at a leaf, beside its charge. What
    /// one that `ended` has run becomes history. O(depth), and nothing without the order `Lsf`.
    pub fn count_run(&mut self, leaf: QueueIndex, run: Run<'_>, sign: i64, ended: bool) {
        if !self.lsf.in_use {
            return;
        }
        let name = |resource: ResourceId| self.bound.get(resource.index()).map(|(_, name)| &**name);
        let gpus = run.requests.iter().filter(|(r, _)| name(*r).is_some_and(is_gpu));
        let gpus: i64 = gpus.map(|(_, amount)| amount).sum();
        let since = i128::from(run.since.0);
        let ran = self.lsf.wall.0.saturating_sub(run.since.0).max(0);
        let cores = run.requests.iter().filter(|(resource, _)| *resource == CPU);
        let cores: i64 = cores.map(|(_, amount)| amount).sum();
        let queues: Vec<QueueIndex> = self.tree.path(leaf).collect();
        for queue in queues {
            let flow = self.flow(queue);
            self.usage.accrue(queue, flow);
            if self.lsf.fresh && sign > 0 {
                self.usage.add_past_cpu(queue, cores, ran);
            }
            if ended {
                self.usage.add_ended(queue, ran, ran.saturating_mul(gpus));
            }
            let running = &mut self.lsf.running[queue.index()];
            running.pods += sign;
            running.started += i128::from(sign) * since;
            running.gpus += sign * gpus;
            running.gpus_started += i128::from(sign * gpus) * since;
            if let Some(limit) = run.limit_ms {
                running.limited += sign;
                running.ends += i128::from(sign) * (since + i128::from(limit));
            }
        }
    }

    /// The order of two siblings; `Less`: `a` goes first. Queue priority, higher first; then LSF's
    /// dynamic priority, higher first, with the weight for the shares. O(resources with a factor).
    #[must_use]
    pub fn compare_lsf(&self, a: QueueIndex, b: QueueIndex) -> Ordering {
        let node = |queue| self.tree.node(queue);
        let by_priority = node(b).priority.cmp(&node(a).priority);
        by_priority.then_with(|| {
            let shares = |queue| f64::from(node(queue).weight);
            // in single precision: what differs by rounding alone is equal
            #[allow(clippy::cast_possible_truncation)]
            let dynamic = |queue| (shares(queue) / self.divisor(queue)) as f32;
            let (a_dynamic, b_dynamic) = (dynamic(a), dynamic(b));
            match a_dynamic.is_infinite() && b_dynamic.is_infinite() {
                true => shares(b).total_cmp(&shares(a)),
                false => b_dynamic.total_cmp(&a_dynamic),
            }
        })
    }

    /// What the shares are divided by, not below zero.
    fn divisor(&self, queue: QueueIndex) -> f64 {
        let options = &self.lsf.options;
        let running = self.lsf.running.get(queue.index()).copied().unwrap_or_default();
        let since = |count: i64, started: i128| {
            let total = i128::from(count) * i128::from(self.lsf.wall.0) - started;
            total.max(0) as f64 / HOUR
        };
        let past = self.usage.past_hours(queue, self.flow(queue));
        let history = |enabled: bool, hours: f64| if enabled { hours } else { 0.0 };
        let run =
            since(running.pods, running.started) + history(options.enable_hist_run_time, past.run);
        let gpu = since(running.gpus, running.gpus_started)
            + history(options.enable_gpu_hist_run_time, past.gpu);
        let left = running.ends - i128::from(running.limited) * i128::from(self.lsf.wall.0);
        let terms = past.cpu * options.cpu_time_factor
            + run * options.run_time_factor
            + left.max(0) as f64 / HOUR * options.committed_run_time_factor
            + (1.0 + running.pods as f64) * options.run_job_factor
            + gpu * options.gpu_run_time_factor;
        terms.max(0.0)
    }

    /// What is allocated to a queue, as usage counts it.
    pub(super) fn flow(&self, queue: QueueIndex) -> Flow {
        let factors = self.usage.factors().iter();
        let held = factors.filter_map(|(resource, factor)| {
            Some(self.column(*resource)?.allocated(queue) as f64 * factor)
        });
        let cores = self.column(CPU).filter(|_| self.lsf.in_use);
        Flow { weighted: held.sum(), cores: cores.map_or(0, |cpu| cpu.allocated(queue)) }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::cluster::ResourceTable;
    use crate::model::queue::Ordering as QueueOrdering;
    use crate::model::{QueueSpec, Timestamp};

    const CPUS: &[(ResourceId, i64)] = &[(CPU, 2_000)];

    fn started(options: LsfOptions) -> (FairShare, QueueIndex) {
        let mut share = FairShare::default();
        share.set_lsf_options(options);
        share.bind_resources(&ResourceTable::default());
        let spec =
            QueueSpec { name: "q".into(), order: QueueOrdering::Lsf, ..QueueSpec::default() };
        share.replace(&[spec]).expect("a tree");
        share.all_counted();
        let queue = share.find("q").expect("declared");
        (share, queue)
    }

    fn pass(share: &mut FairShare, hours: i64) {
        share.advance(Timestamp(hours * 3_600_000));
        share.set_wall(WallTime(hours * 3_600_000));
    }

    fn run(share: &mut FairShare, leaf: QueueIndex, since: i64, sign: i64, ended: bool) {
        let since = WallTime(since * 3_600_000);
        let run = Run { requests: CPUS, since, limit_ms: Some(10 * 3_600_000) };
        if sign > 0 {
            share.charge(leaf, CPUS, 1);
        }
        share.count_run(leaf, run, sign, ended);
        if sign < 0 {
            share.charge(leaf, CPUS, -1);
        }
    }

    #[test]
    fn the_terms_are_those_of_the_manual() {
        let options = LsfOptions {
            committed_run_time_factor: 0.5,
            enable_hist_run_time: true,
            ..LsfOptions::default()
        };
        let (mut share, queue) = started(options);
        let leaf = share.acquire_leaf(queue, "u");
        assert!((share.divisor(leaf) - 3.0).abs() < 1e-9, "{}", share.divisor(leaf));
        run(&mut share, leaf, 0, 1, false);
        run(&mut share, leaf, 0, 1, false);
        pass(&mut share, 5);
        // the integral of four cores under decay to a tenth in five hours
        let cpu = 4.0 * (1.0 - 0.1) * 5.0 / std::f64::consts::LN_10;
        let expected = 0.7 * cpu + 0.7 * 10.0 + 0.5 * 10.0 + 3.0 * 3.0;
        assert!((share.divisor(leaf) - expected).abs() < 1e-3, "{}", share.divisor(leaf));
        run(&mut share, leaf, 0, -1, true);
        run(&mut share, leaf, 0, -1, true);
        pass(&mut share, 10);
        // a tenth of both is left
        let expected = 0.7 * cpu / 10.0 + 0.7 * 1.0 + 3.0;
        assert!((share.divisor(leaf) - expected).abs() < 1e-3, "{}", share.divisor(leaf));
    }

    #[test]
    fn what_runs_when_the_order_is_chosen_counts_with_its_past() {
        let (mut share, queue) = started(LsfOptions::default());
        let leaf = share.acquire_leaf(queue, "u");
        run(&mut share, leaf, 0, 1, false);
        pass(&mut share, 5);
        let measured = share.divisor(leaf);
        let mut fresh = FairShare::default();
        pass(&mut fresh, 5);
        let spec =
            QueueSpec { name: "q".into(), order: QueueOrdering::Lsf, ..QueueSpec::default() };
        fresh.replace(&[spec]).expect("a tree");
        let queue = fresh.find("q").expect("declared");
        let leaf = fresh.acquire_leaf(queue, "u");
        run(&mut fresh, leaf, 0, 1, false);
        assert!(
            (fresh.divisor(leaf) - measured).abs() < 1e-6,
            "{} {measured}",
            fresh.divisor(leaf)
        );
    }

    #[test]
    fn the_order_of_events_at_one_time_makes_no_difference() {
        let divisor = |order: &[i64]| {
            let (mut share, queue) =
                started(LsfOptions { enable_hist_run_time: true, ..LsfOptions::default() });
            let leaf = share.acquire_leaf(queue, "u");
            order.iter().for_each(|since| run(&mut share, leaf, *since, 1, false));
            pass(&mut share, 30);
            order.iter().for_each(|since| run(&mut share, leaf, *since, -1, true));
            pass(&mut share, 37);
            share.divisor(queue)
        };
        let expected = divisor(&[1, 3, 7, 11, 13]);
        for order in [[13, 11, 7, 3, 1], [3, 1, 13, 7, 11], [7, 13, 1, 11, 3]] {
            assert_eq!(divisor(&order).to_bits(), expected.to_bits());
        }
    }
}
