//! The handles of every metric, resolved once.

use super::bounded::{BoundedCounters, BoundedGauges};
use super::catalogue::{self, Kind};
use prometheus::core::Collector;
use prometheus::process_collector::ProcessCollector;
use prometheus::{
    Encoder as _, Histogram, HistogramOpts, HistogramVec, IntCounter, IntCounterVec, IntGauge,
    IntGaugeVec, Opts, Registry, TextEncoder,
};

/// How an attempt ended, upstream's three words.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Outcome {
    /// Bound.
    Scheduled,
    /// No room, or a gate.
    Unschedulable,
    /// A bind failed.
    Error,
}

impl Outcome {
    const ALL: [Outcome; 3] = [Outcome::Scheduled, Outcome::Unschedulable, Outcome::Error];

    /// Label value.
    #[must_use]
    pub fn word(self) -> &'static str {
        match self {
            Outcome::Scheduled => "scheduled",
            Outcome::Unschedulable => "unschedulable",
            Outcome::Error => "error",
        }
    }
}

/// Attempts above this are pooled as `15+`, as upstream does.
const ATTEMPTS_POOLED: usize = 15;

/// Every metric. One exists per process; it is shared by reference.
#[derive(Debug)]
pub struct Metrics {
    registry: Registry,
    profiles: Vec<ProfileMetrics>,
    /// `scheduler_scheduling_algorithm_duration_seconds`
    pub algorithm_duration: Histogram,
    /// `scheduler_podgroup_scheduling_algorithm_duration_seconds`
    pub podgroup_algorithm_duration: Histogram,
    sli_duration: Vec<Histogram>,
    /// `scheduler_pod_scheduling_attempts`
    pub pod_attempts: Histogram,
    /// `scheduler_pending_pods{queue="active"}`
    pub pending_active: IntGauge,
    /// `scheduler_pending_pods{queue="backoff"}`
    pub pending_backoff: IntGauge,
    /// `scheduler_pending_pods{queue="unschedulable"}`
    pub pending_unschedulable: IntGauge,
    /// `scheduler_pending_pods{queue="gated"}`
    pub pending_gated: IntGauge,
    /// `scheduler_queue_incoming_pods_total`; both labels are closed sets of the queue.
    pub queue_incoming: IntCounterVec,
    /// `scheduler_cache_size{type="nodes"}`
    pub cache_nodes: IntGauge,
    /// `scheduler_cache_size{type="pods"}`
    pub cache_pods: IntGauge,
    /// `scheduler_cache_size{type="assumed_pods"}`
    pub cache_assumed_pods: IntGauge,
    /// `rest_client_requests_total`
    pub rest_requests: IntCounterVec,
    /// `rest_client_request_duration_seconds`
    pub rest_duration: HistogramVec,
    /// `mss_leader`
    pub leader: IntGauge,
    /// `mss_cycle_duration_seconds{phase="handle"}`
    pub handle_duration: Histogram,
    /// `mss_cycle_duration_seconds{phase="cycle"}`
    pub cycle_duration: Histogram,
    /// `mss_gang_admission_wait_seconds`
    pub gang_admission_wait: Histogram,
    /// `mss_gangs_admitted_total`
    pub gangs_admitted: IntCounter,
    /// `mss_gang_partial_bind_total`
    pub gang_partial_bind: IntCounter,
    /// `mss_gang_rollback_total`
    pub gang_rollback: IntCounter,
    /// `mss_binds_total{result="bound"}`
    pub binds_bound: IntCounter,
    /// `mss_binds_total{result="refused"}`
    pub binds_refused: IntCounter,
    /// `mss_binds_in_flight`
    pub binds_in_flight: IntGauge,
    /// `mss_bind_unknown_total`
    pub bind_unknown: IntCounter,
    /// `mss_evictions_total{result="evicted"}`
    pub evictions_done: IntCounter,
    /// `mss_evictions_total{result="protected"}`
    pub evictions_protected: IntCounter,
    /// `mss_evictions_total{result="failed"}`
    pub evictions_failed: IntCounter,
    /// `mss_evictions_total{result="withdrawn"}`
    pub evictions_withdrawn: IntCounter,
    /// `mss_drained_gpu_seconds_total`
    pub drained_seconds: IntCounter,
    /// `mss_nodes_quarantined`
    pub nodes_quarantined: IntGauge,
    /// `mss_quarantines_total`; the label is a closed set of the scheduler.
    pub quarantines: IntCounterVec,
    /// `mss_failed_starts_total`; likewise.
    pub failed_starts: IntCounterVec,
    /// `mss_run_limit_ends_total`
    pub run_limit_ends: IntCounter,
    /// `mss_plans_total`; the label is a closed set of the scheduler.
    pub plans: IntCounterVec,
    /// `mss_queues_refused_total`
    pub queues_refused: IntCounter,
    /// `mss_events_queued`
    pub events_queued: IntGauge,
    /// `mss_events_dropped_total`
    pub events_dropped: IntCounter,
    /// `mss_gpu_allocated{resource}`
    pub gpu_allocated: BoundedGauges,
    /// `mss_gpu_allocatable{resource}`
    pub gpu_allocatable: BoundedGauges,
    /// `mss_unschedulable_gangs{reason}`
    pub unschedulable_gangs: BoundedGauges,
    /// `mss_watch_relists_total{kind}`
    pub watch_relists: BoundedCounters,
    /// `mss_contract_errors_total{reason}`
    pub contract_errors: BoundedCounters,
}

/// The handles of one profile.
#[derive(Debug)]
pub struct ProfileMetrics {
    attempts: Vec<IntCounter>,
    attempt_duration: Vec<Histogram>,
    podgroup_attempts: Vec<IntCounter>,
    podgroup_attempt_duration: Vec<Histogram>,
    /// `scheduler_framework_extension_point_duration_seconds{extension_point="Bind"}`, answered.
    pub bind_success: Histogram,
    /// The same, refused or failed.
    pub bind_error: Histogram,
    unschedulable: IntGaugeVec,
    name: String,
}

impl ProfileMetrics {
    /// `scheduler_schedule_attempts_total`
    #[must_use]
    pub fn attempts(&self, outcome: Outcome) -> &IntCounter {
        &self.attempts[outcome as usize]
    }

    /// `scheduler_scheduling_attempt_duration_seconds`
    #[must_use]
    pub fn attempt_duration(&self, outcome: Outcome) -> &Histogram {
        &self.attempt_duration[outcome as usize]
    }

    /// `scheduler_podgroup_schedule_attempts_total`
    #[must_use]
    pub fn podgroup_attempts(&self, outcome: Outcome) -> &IntCounter {
        &self.podgroup_attempts[outcome as usize]
    }

    /// `scheduler_podgroup_scheduling_attempt_duration_seconds`
    #[must_use]
    pub fn podgroup_attempt_duration(&self, outcome: Outcome) -> &Histogram {
        &self.podgroup_attempt_duration[outcome as usize]
    }

    /// `scheduler_unschedulable_pods`; `plugin` is a registered name.
    #[must_use]
    pub fn unschedulable_pods(&self, plugin: &str) -> IntGauge {
        self.unschedulable.with_label_values(&[plugin, &self.name])
    }
}

impl Metrics {
    /// Registers every family of the catalogue, with the handles of these profiles.
    ///
    /// # Panics
    /// If a family is used that the catalogue lacks, or with other labels: a bug of this file.
    #[must_use]
    pub fn new<'a>(profiles: impl IntoIterator<Item = &'a str>) -> Self {
        let families = Families { registry: Registry::new() };
        let profiles = families.profiles(profiles);
        let [pending_active, pending_backoff, pending_unschedulable, pending_gated] = families
            .gauges("scheduler_pending_pods", ["active", "backoff", "unschedulable", "gated"]);
        let [cache_nodes, cache_pods, cache_assumed_pods] =
            families.gauges("scheduler_cache_size", ["nodes", "pods", "assumed_pods"]);
        let [handle_duration, cycle_duration] =
            families.histograms("mss_cycle_duration_seconds", ["handle", "cycle"]);
        let [binds_bound, binds_refused] =
            families.counters("mss_binds_total", ["bound", "refused"]);
        let [evictions_done, evictions_protected, evictions_failed, evictions_withdrawn] = families
            .counters("mss_evictions_total", ["evicted", "protected", "failed", "withdrawn"]);
        let [build_info] = families.gauges("mss_build_info", [env!("CARGO_PKG_VERSION")]);
        build_info.set(1);
        families.process();
        Metrics {
            profiles,
            algorithm_duration: families
                .histogram("scheduler_scheduling_algorithm_duration_seconds"),
            podgroup_algorithm_duration: families
                .histogram("scheduler_podgroup_scheduling_algorithm_duration_seconds"),
            sli_duration: families.sli(),
            pod_attempts: families.histogram("scheduler_pod_scheduling_attempts"),
            pending_active,
            pending_backoff,
            pending_unschedulable,
            pending_gated,
            queue_incoming: families.counter_vec("scheduler_queue_incoming_pods_total"),
            cache_nodes,
            cache_pods,
            cache_assumed_pods,
            rest_requests: families.counter_vec("rest_client_requests_total"),
            rest_duration: families.histogram_vec("rest_client_request_duration_seconds"),
            leader: families.gauge("mss_leader"),
            handle_duration,
            cycle_duration,
            gang_admission_wait: families.histogram("mss_gang_admission_wait_seconds"),
            gangs_admitted: families.counter("mss_gangs_admitted_total"),
            gang_partial_bind: families.counter("mss_gang_partial_bind_total"),
            gang_rollback: families.counter("mss_gang_rollback_total"),
            binds_bound,
            binds_refused,
            binds_in_flight: families.gauge("mss_binds_in_flight"),
            bind_unknown: families.counter("mss_bind_unknown_total"),
            evictions_done,
            evictions_protected,
            evictions_failed,
            evictions_withdrawn,
            drained_seconds: families.counter("mss_drained_gpu_seconds_total"),
            nodes_quarantined: families.gauge("mss_nodes_quarantined"),
            quarantines: families.counter_vec("mss_quarantines_total"),
            failed_starts: families.counter_vec("mss_failed_starts_total"),
            run_limit_ends: families.counter("mss_run_limit_ends_total"),
            plans: families.counter_vec("mss_plans_total"),
            queues_refused: families.counter("mss_queues_refused_total"),
            events_queued: families.gauge("mss_events_queued"),
            events_dropped: families.counter("mss_events_dropped_total"),
            gpu_allocated: BoundedGauges::new(families.gauge_vec("mss_gpu_allocated")),
            gpu_allocatable: BoundedGauges::new(families.gauge_vec("mss_gpu_allocatable")),
            unschedulable_gangs: BoundedGauges::new(families.gauge_vec("mss_unschedulable_gangs")),
            watch_relists: BoundedCounters::new(families.counter_vec("mss_watch_relists_total")),
            contract_errors: BoundedCounters::new(
                families.counter_vec("mss_contract_errors_total"),
            ),
            registry: families.registry,
        }
    }

    /// Number of profiles.
    #[must_use]
    pub fn profiles(&self) -> usize {
        self.profiles.len()
    }

    /// The handles of a profile, by its place in the configuration.
    #[must_use]
    pub fn profile(&self, index: usize) -> &ProfileMetrics {
        &self.profiles[index]
    }

    /// `scheduler_pod_scheduling_sli_duration_seconds` for a pod bound at its n-th attempt.
    #[must_use]
    pub fn sli_duration(&self, attempts: u32) -> &Histogram {
        let place = (attempts.max(1) as usize).min(ATTEMPTS_POOLED + 1) - 1;
        &self.sli_duration[place]
    }

    /// Everything in Prometheus' text format.
    #[must_use]
    pub fn encode(&self) -> String {
        let mut text = Vec::new();
        // writing to memory cannot fail, and a family that cannot be encoded is no reason to die
        TextEncoder::new().encode(&self.registry.gather(), &mut text).ok();
        String::from_utf8_lossy(&text).into_owned()
    }
}

/// Builds families as the catalogue describes them.
struct Families {
    registry: Registry,
}

const REGISTERED: &str = "each family of the catalogue is registered once, with its own labels";

impl Families {
    fn opts(name: &str) -> (Opts, &'static [&'static str], Kind) {
        let family = catalogue::find(name).unwrap_or_else(|| panic!("{name} is not catalogued"));
        (Opts::new(family.name, family.help), family.labels, family.kind)
    }

    fn register<C: Collector + Clone + 'static>(&self, collector: C) -> C {
        self.registry.register(Box::new(collector.clone())).expect(REGISTERED);
        collector
    }

    fn counter_vec(&self, name: &str) -> IntCounterVec {
        let (opts, labels, _) = Self::opts(name);
        self.register(IntCounterVec::new(opts, labels).expect(REGISTERED))
    }

    fn gauge_vec(&self, name: &str) -> IntGaugeVec {
        let (opts, labels, _) = Self::opts(name);
        self.register(IntGaugeVec::new(opts, labels).expect(REGISTERED))
    }

    fn histogram_vec(&self, name: &str) -> HistogramVec {
        let (opts, labels, kind) = Self::opts(name);
        let opts = HistogramOpts { common_opts: opts, buckets: kind.buckets() };
        self.register(HistogramVec::new(opts, labels).expect(REGISTERED))
    }

    fn counter(&self, name: &str) -> IntCounter {
        self.counter_vec(name).with_label_values::<&str>(&[])
    }

    fn gauge(&self, name: &str) -> IntGauge {
        self.gauge_vec(name).with_label_values::<&str>(&[])
    }

    fn histogram(&self, name: &str) -> Histogram {
        self.histogram_vec(name).with_label_values::<&str>(&[])
    }

    fn counters<const N: usize>(&self, name: &str, values: [&str; N]) -> [IntCounter; N] {
        let vec = self.counter_vec(name);
        values.map(|value| vec.with_label_values(&[value]))
    }

    fn gauges<const N: usize>(&self, name: &str, values: [&str; N]) -> [IntGauge; N] {
        let vec = self.gauge_vec(name);
        values.map(|value| vec.with_label_values(&[value]))
    }

    fn histograms<const N: usize>(&self, name: &str, values: [&str; N]) -> [Histogram; N] {
        let vec = self.histogram_vec(name);
        values.map(|value| vec.with_label_values(&[value]))
    }

    /// One histogram per number of attempts, the last for all above.
    fn sli(&self) -> Vec<Histogram> {
        let vec = self.histogram_vec("scheduler_pod_scheduling_sli_duration_seconds");
        let label = |attempts: usize| match attempts {
            attempts if attempts > ATTEMPTS_POOLED => format!("{ATTEMPTS_POOLED}+"),
            attempts => attempts.to_string(),
        };
        (1..=ATTEMPTS_POOLED + 1).map(|n| vec.with_label_values(&[label(n)])).collect()
    }

    /// `process_*`, which upstream's dashboards show beside the scheduler's own.
    fn process(&self) {
        self.registry.register(Box::new(ProcessCollector::for_self())).expect(REGISTERED);
    }

    fn profiles<'a>(&self, names: impl IntoIterator<Item = &'a str>) -> Vec<ProfileMetrics> {
        let attempts = self.counter_vec("scheduler_schedule_attempts_total");
        let duration = self.histogram_vec("scheduler_scheduling_attempt_duration_seconds");
        let group_attempts = self.counter_vec("scheduler_podgroup_schedule_attempts_total");
        let group_duration =
            self.histogram_vec("scheduler_podgroup_scheduling_attempt_duration_seconds");
        let points = self.histogram_vec("scheduler_framework_extension_point_duration_seconds");
        let unschedulable = self.gauge_vec("scheduler_unschedulable_pods");
        let counters = |vec: &IntCounterVec, name: &str| {
            Outcome::ALL.map(|outcome| vec.with_label_values(&[outcome.word(), name])).to_vec()
        };
        let histograms = |vec: &HistogramVec, name: &str| {
            Outcome::ALL.map(|outcome| vec.with_label_values(&[outcome.word(), name])).to_vec()
        };
        let profile = |name: &str| ProfileMetrics {
            attempts: counters(&attempts, name),
            attempt_duration: histograms(&duration, name),
            podgroup_attempts: counters(&group_attempts, name),
            podgroup_attempt_duration: histograms(&group_duration, name),
            bind_success: points.with_label_values(&["Bind", "Success", name]),
            bind_error: points.with_label_values(&["Bind", "Error", name]),
            unschedulable: unschedulable.clone(),
            name: name.to_owned(),
        };
        names.into_iter().map(profile).collect()
    }
}
