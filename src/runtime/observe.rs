//! Turns what the parts report into metrics and log lines.

use crate::kubernetes::convert::queue::QueueError;
use crate::kubernetes::{dispatch, watch};
use crate::scheduler::{AttemptResult, BindOutcome, EvictOutcome, Gauges, Kind, Report, Tallies};
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
        Kind::Queue => "queues",
        Kind::Budget => "poddisruptionbudgets",
    }
}

impl watch::Observer for Observations {
    fn listed(&self, kind: Kind) {
        self.metrics.watch_relists.of(plural(kind)).inc();
    }

    fn failed(&self, kind: Kind, error: &watcher::Error) {
        tracing::warn!(kind = plural(kind), %error, "watch failed, trying again");
    }

    fn refused(&self, error: &QueueError, in_force: bool) {
        self.metrics.queues_refused.inc();
        match in_force {
            true => tracing::error!(%error, "queue refused: what it said before stays in force"),
            false => tracing::error!(%error, "queue refused: it does not exist until corrected"),
        }
    }
}

impl dispatch::Observer for Observations {
    fn bound(&self, profile: u8, outcome: &BindOutcome, took: Duration) {
        let profile = self.metrics.profile(usize::from(profile));
        match outcome {
            BindOutcome::Bound => {
                self.metrics.binds_bound.inc();
                profile.bind_success.observe(took.as_secs_f64());
            }
            BindOutcome::NotSent => {}
            BindOutcome::Gone | BindOutcome::BoundElsewhere(_) | BindOutcome::Refused(_) => {
                self.metrics.binds_refused.inc();
                profile.bind_error.observe(took.as_secs_f64());
            }
        }
    }

    fn bind_unknown(&self) {
        self.metrics.bind_unknown.inc();
    }

    fn evicted(&self, outcome: &EvictOutcome) {
        match outcome {
            EvictOutcome::Evicted => self.metrics.evictions_done.inc(),
            EvictOutcome::Protected(_) => self.metrics.evictions_protected.inc(),
            EvictOutcome::Failed => self.metrics.evictions_failed.inc(),
            EvictOutcome::Withdrawn => self.metrics.evictions_withdrawn.inc(),
        }
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
    metrics.pending_active.set(number(gauges.pending.active));
    metrics.pending_backoff.set(number(gauges.pending.backoff));
    metrics.pending_unschedulable.set(number(gauges.pending.unschedulable));
    metrics.pending_gated.set(number(gauges.pending.gate));
    metrics.nodes_quarantined.set(number(gauges.quarantined));
    metrics.cache_nodes.set(number(gauges.nodes));
    metrics.cache_pods.set(number(gauges.pods));
    metrics.cache_assumed_pods.set(number(gauges.assumed));
    metrics.gpu_allocatable.set_all(gauges.gpus.iter().map(|(name, all, _)| (&**name, *all)));
    metrics.gpu_allocated.set_all(gauges.gpus.iter().map(|(name, _, used)| (&**name, *used)));
    let gangs = gauges.unschedulable_gangs.iter();
    metrics.unschedulable_gangs.set_all(gangs.map(|(word, count)| (*word, *count)));
    for index in 0..metrics.profiles() {
        for plugin in crate::plugins::FILTERS {
            let key = (u8::try_from(index).unwrap_or(u8::MAX), *plugin);
            let pods = gauges.rejected_pods.get(&key).copied().unwrap_or(0);
            metrics.profile(index).unschedulable_pods(plugin).set(pods);
        }
    }
}

/// Adds what the scheduler has counted since `before`.
pub(super) fn add_tallies(metrics: &Metrics, before: &Tallies, now: &Tallies) {
    metrics.gang_partial_bind.inc_by(now.half_bound - before.half_bound);
    metrics.run_limit_ends.inc_by(now.ended_by_limit - before.ended_by_limit);
    metrics.gang_rollback.inc_by(now.rolled_back - before.rolled_back);
    for (reason, count) in &now.refused {
        let counted = before.refused.get(reason).copied().unwrap_or(0);
        metrics.contract_errors.of(reason).inc_by(count - counted);
    }
    for (result, more) in [
        ("Begun", now.plans - before.plans),
        ("Seated", now.seated - before.seated),
        ("Reported", now.plans_reported - before.plans_reported),
        ("NotFound", now.searches_unproved - before.searches_unproved),
        ("OverBudget", now.budget_stops - before.budget_stops),
        ("DrainBegun", now.drains - before.drains),
        ("DrainExpired", now.drains_expired - before.drains_expired),
        ("PairSpared", now.pairs_spared - before.pairs_spared),
    ] {
        metrics.plans.with_label_values(&[result]).inc_by(more);
    }
    metrics.drained_seconds.inc_by(now.drained_gpu_ms / 1000 - before.drained_gpu_ms / 1000);
    for (family, before, now) in [
        (&metrics.plans, &before.plans_given_up, &now.plans_given_up),
        (&metrics.quarantines, &before.quarantines, &now.quarantines),
        (&metrics.failed_starts, &before.failed_starts, &now.failed_starts),
    ] {
        for (result, count) in now {
            let counted = before.get(result).copied().unwrap_or(0);
            family.with_label_values(&[result]).inc_by(count - counted);
        }
    }
    let (old, new) = (&before.entered, &now.entered);
    for (queue, event, more) in [
        ("active", "GroupReady", new.active - old.active),
        ("unschedulable", "ScheduleAttemptFailure", new.unschedulable - old.unschedulable),
        ("backoff", "BindFailure", new.backoff - old.backoff),
        ("gated", "PreEnqueue", new.gate - old.gate),
    ] {
        let more = u64::try_from(more).unwrap_or(u64::MAX);
        metrics.queue_incoming.with_label_values(&[queue, event]).inc_by(more);
    }
}
