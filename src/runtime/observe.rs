//! Turns what the parts report into metrics and log lines.

use crate::kubernetes::{dispatch, watch};
use crate::scheduler::{AttemptResult, BindOutcome, Gauges, Kind, Report};
use crate::telemetry::{Metrics, Outcome};
use kube_runtime::watcher;
use std::sync::Arc;
use std::time::Duration;

/// Counts what the watches and the dispatcher see.
pub(super) struct Observations {
    metrics: Arc<Metrics>,
}

impl Observations {
    pub(super) fn new(metrics: Arc<Metrics>) -> Self {
        Self { metrics }
    }
}

fn plural(kind: Kind) -> &'static str {
    match kind {
        Kind::Pod => "pods",
        Kind::Node => "nodes",
        Kind::Namespace => "namespaces",
    }
}

impl watch::Observer for Observations {
    fn listed(&self, kind: Kind) {
        self.metrics.watch_relists.of(plural(kind)).inc();
    }

    fn failed(&self, kind: Kind, error: &watcher::Error) {
        tracing::warn!(kind = plural(kind), %error, "watch failed, trying again");
    }
}

impl dispatch::Observer for Observations {
    fn bound(&self, outcome: &BindOutcome, _took: Duration) {
        match outcome {
            BindOutcome::Bound => self.metrics.binds_bound.inc(),
            BindOutcome::NotSent => {}
            BindOutcome::Gone | BindOutcome::BoundElsewhere(_) | BindOutcome::Refused(_) => {
                self.metrics.binds_refused.inc();
            }
        }
    }

    fn bind_unknown(&self) {
        self.metrics.bind_unknown.inc();
    }

    fn events_dropped(&self, count: u64) {
        self.metrics.events_dropped.inc_by(count);
    }

    fn queued(&self, binds: usize, writes: usize) {
        self.metrics.binds_in_flight.set(number(binds));
        self.metrics.events_queued.set(number(writes));
    }
}

/// Counts the tries of a cycle; its time is shared among them.
pub(super) fn count_attempts(metrics: &Metrics, report: &Report, took: Duration) {
    let tries = u32::try_from(report.attempts.len()).unwrap_or(u32::MAX).max(1);
    let each = took.as_secs_f64() / f64::from(tries);
    for attempt in &report.attempts {
        let profile = metrics.profile(usize::from(attempt.profile));
        let scheduled = attempt.result == AttemptResult::Scheduled;
        let outcome = if scheduled { Outcome::Scheduled } else { Outcome::Unschedulable };
        profile.attempts(outcome).inc_by(u64::from(attempt.members));
        profile.attempt_duration(outcome).observe(each);
        metrics.algorithm_duration.observe(each);
        let waited = Duration::from_millis(u64::try_from(attempt.waited_ms).unwrap_or(0));
        if attempt.gang {
            profile.podgroup_attempts(outcome).inc();
            profile.podgroup_attempt_duration(outcome).observe(each);
            metrics.podgroup_algorithm_duration.observe(each);
        }
        if scheduled {
            metrics.pod_attempts.observe(f64::from(attempt.attempts));
            metrics.sli_duration(attempt.attempts).observe(waited.as_secs_f64());
            if attempt.gang {
                metrics.gangs_admitted.inc();
                metrics.gang_admission_wait.observe(waited.as_secs_f64());
            }
        }
    }
    tracing::debug!(tries, took_us = took.as_micros(), calls = report.calls.len(), "cycle");
}

fn number(count: usize) -> i64 {
    i64::try_from(count).unwrap_or(i64::MAX)
}

/// Brings the gauges up to date.
pub(super) fn show_gauges(metrics: &Metrics, gauges: &Gauges) {
    metrics.pending_active.set(number(gauges.groups.active));
    metrics.pending_backoff.set(number(gauges.groups.backoff));
    metrics.pending_unschedulable.set(number(gauges.groups.unschedulable));
    metrics.pending_gated.set(number(gauges.groups.gate));
    metrics.cache_nodes.set(number(gauges.nodes));
    metrics.cache_pods.set(number(gauges.pods));
    metrics.gpu_allocatable.set_all(gauges.gpus.iter().map(|(name, all, _)| (&**name, *all)));
    metrics.gpu_allocated.set_all(gauges.gpus.iter().map(|(name, _, used)| (&**name, *used)));
}
