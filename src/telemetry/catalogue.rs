//! Every metric: name, type, labels, buckets, help. The code registers from this table and
//! `docs/metrics.md` is written from it.
//!
//! Families named `scheduler_*` and `rest_client_*` are upstream's, under upstream's names, labels
//! and buckets, so that dashboards made for kube-scheduler work. Ours are `mss_*`. No label ever
//! carries the name of a pod, gang, job, node or namespace: the number of series does not grow
//! with the cluster.

use std::fmt::Write as _;

/// One family of metrics.
#[derive(Debug)]
pub struct Family {
    /// Full name.
    pub name: &'static str,
    /// Type and, for histograms, buckets.
    pub kind: Kind,
    /// Label names in order.
    pub labels: &'static [&'static str],
    /// What it counts, in one sentence.
    pub help: &'static str,
}

/// Type of a family.
#[derive(Debug, Clone, Copy, PartialEq)]
pub enum Kind {
    /// Only rises.
    Counter,
    /// Rises and falls.
    Gauge,
    /// Buckets from a start, each the factor larger, so many.
    Histogram(f64, f64, usize),
    /// Buckets as listed.
    HistogramAt(&'static [f64]),
}

impl Kind {
    /// The word of the exposition format.
    #[must_use]
    pub fn word(self) -> &'static str {
        match self {
            Kind::Counter => "counter",
            Kind::Gauge => "gauge",
            Kind::Histogram(..) | Kind::HistogramAt(_) => "histogram",
        }
    }

    /// Upper bounds of the buckets.
    #[must_use]
    pub fn buckets(self) -> Vec<f64> {
        match self {
            Kind::Counter | Kind::Gauge => Vec::new(),
            Kind::Histogram(start, factor, count) => {
                std::iter::successors(Some(start), |bound| Some(bound * factor))
                    .take(count)
                    .collect()
            }
            Kind::HistogramAt(bounds) => bounds.to_vec(),
        }
    }
}

/// client-go's buckets, from a cached read to a call that times out.
const REST_BUCKETS: &[f64] = &[0.005, 0.025, 0.1, 0.25, 0.5, 1.0, 2.0, 4.0, 8.0, 15.0, 30.0, 60.0];
/// A gang waits milliseconds on a free cluster and days on a full one.
const WAIT: Kind = Kind::Histogram(0.01, 4.0, 13);
/// One event takes microseconds, a cycle over a large cluster milliseconds.
const CYCLE: Kind = Kind::Histogram(0.000_01, 4.0, 10);
const ATTEMPT: Kind = Kind::Histogram(0.001, 2.0, 15);

/// The family of a name.
#[must_use]
pub fn find(name: &str) -> Option<&'static Family> {
    CATALOGUE.iter().find(|family| family.name == name)
}

/// The catalogue as a Markdown table: the generated part of `docs/metrics.md`.
#[must_use]
pub fn markdown() -> String {
    let mut text = String::from("| Metric | Type | Labels | Meaning |\n|---|---|---|---|\n");
    for family in CATALOGUE {
        let labels: Vec<String> = family.labels.iter().map(|label| format!("`{label}`")).collect();
        let (name, kind, labels) = (family.name, family.kind.word(), labels.join(", "));
        let _ = writeln!(text, "| `{name}` | {kind} | {labels} | {} |", family.help);
    }
    text
}

const fn family(
    name: &'static str,
    kind: Kind,
    labels: &'static [&'static str],
    help: &'static str,
) -> Family {
    Family { name, kind, labels, help }
}

/// Every family, upstream's first.
#[rustfmt::skip]
pub static CATALOGUE: &[Family] = &[
    family("scheduler_schedule_attempts_total", Kind::Counter, &["result", "profile"],
        "Attempts to schedule pods, by result: scheduled, unschedulable or error."),
    family("scheduler_scheduling_attempt_duration_seconds", ATTEMPT, &["result", "profile"],
        "Seconds from the decision about a pod to its bind's answer, or to its rejection."),
    family("scheduler_scheduling_algorithm_duration_seconds", ATTEMPT, &[],
        "Seconds of the decision about one pod or gang, without binding."),
    family("scheduler_pod_scheduling_sli_duration_seconds", Kind::Histogram(0.01, 2.0, 20),
        &["attempts"],
        "Seconds from the first sight of a pod to its bind, by number of attempts (15+ pooled)."),
    family("scheduler_pod_scheduling_attempts", Kind::Histogram(1.0, 2.0, 5), &[],
        "Attempts it took to schedule a pod."),
    family("scheduler_pending_pods", Kind::Gauge, &["queue"],
        "Pods waiting, by place: active, backoff, unschedulable, or gated."),
    family("scheduler_queue_incoming_pods_total", Kind::Counter, &["queue", "event"],
        "Pods that entered a place of the queue, by the event that moved them."),
    family("scheduler_unschedulable_pods", Kind::Gauge, &["plugin", "profile"],
        "Pods waiting that a plugin rejected at their last attempt."),
    family("scheduler_framework_extension_point_duration_seconds",
        Kind::Histogram(0.0001, 2.0, 12), &["extension_point", "status", "profile"],
        "Seconds of an extension point; Bind is measured, from request to answer."),
    family("scheduler_cache_size", Kind::Gauge, &["type"],
        "Objects believed to exist: nodes, pods, assumed_pods."),
    family("scheduler_podgroup_schedule_attempts_total", Kind::Counter, &["result", "profile"],
        "Attempts to schedule gangs, by result: scheduled, unschedulable or error."),
    family("scheduler_podgroup_scheduling_attempt_duration_seconds", ATTEMPT,
        &["result", "profile"],
        "Seconds from the decision about a gang to its last bind's answer, or to its rejection."),
    family("scheduler_podgroup_scheduling_algorithm_duration_seconds", ATTEMPT, &[],
        "Seconds of the decision about one gang, without binding."),
    family("rest_client_requests_total", Kind::Counter, &["code", "method"],
        "Requests to the API server, by status code (<error> without an answer) and method."),
    family("rest_client_request_duration_seconds", Kind::HistogramAt(REST_BUCKETS), &["verb"],
        "Seconds from a request to the head of its answer, by method."),

    family("mss_build_info", Kind::Gauge, &["version"],
        "Always 1; the label tells the version."),
    family("mss_leader", Kind::Gauge, &[],
        "1 while this replica holds the lease (or needs none), else 0."),
    family("mss_cycle_duration_seconds", CYCLE, &["phase"],
        "Seconds of the scheduler's own thread, by phase: handle (one event) or cycle."),
    family("mss_gang_admission_wait_seconds", WAIT, &[],
        "Seconds from the first sight of a gang to the decision that places it."),
    family("mss_gangs_admitted_total", Kind::Counter, &[],
        "Gangs placed for the first time with at least their minimum."),
    family("mss_gang_partial_bind_total", Kind::Counter, &[],
        "Gangs found between zero and their minimum after a bind failed or a leader died."),
    family("mss_gang_rollback_total", Kind::Counter, &[],
        "Gangs whose bound members were deleted because the minimum could not be completed."),
    family("mss_binds_total", Kind::Counter, &["result"],
        "Pods whose bind has its final answer: bound or refused."),
    family("mss_binds_in_flight", Kind::Gauge, &[],
        "Binds and evictions waiting, or sent and not yet answered."),
    family("mss_bind_unknown_total", Kind::Counter, &[],
        "Binds whose outcome was unknown for a while and had to be asked again."),
    family("mss_evictions_total", Kind::Counter, &["result"],
        "Evictions with their final answer: evicted (or gone already), protected by a disruption \
         budget, failed, or withdrawn before they left as their plan was given up."),
    family("mss_plans_total", Kind::Counter, &["result"],
        "Plans to make room: Begun; then Seated, or given up as MembersChanged, VictimsStayed, \
         RoomGone or VictimProtected. Not begun: Reported (evictions are report-only), \
         OverBudget; NotFound, which is not a proof that there is no room. PairSpared: gangs left \
         alone as they lately took from the one that asks. DrainBegun, DrainExpired: room kept \
         free for a gang, and not enough of it in time."),
    family("mss_drained_gpu_seconds_total", Kind::Counter, &[],
        "GPU-seconds that stood idle as room was kept free for gangs that wait for it."),
    family("mss_nodes_quarantined", Kind::Gauge, &[],
        "Nodes that take no new pods for a while, as pods failed to start there."),
    family("mss_quarantines_total", Kind::Counter, &["result"],
        "Quarantines of nodes: Begun; then ended as PodStarted or Expired. Not begun: TooMany, as \
         enough nodes, or one by the word of the same user alone, are in quarantine."),
    family("mss_failed_starts_total", Kind::Counter, &["result"],
        "Pods that failed where they were bound before anything of them ran: Refused by the \
         kubelet for a reason of the node, or NotStarted."),
    family("mss_run_limit_ends_total", Kind::Counter, &[],
        "Pods ended as they had run for as long as their queue lets them."),
    family("mss_queues_refused_total", Kind::Counter, &[],
        "Queue objects that were refused, so that what was in force before them stayed so."),
    family("mss_events_queued", Kind::Gauge, &[],
        "Events and conditions waiting to be written."),
    family("mss_events_dropped_total", Kind::Counter, &[],
        "Events dropped because limits.eventsQueued was reached."),
    family("mss_gpu_allocated", Kind::Gauge, &["resource"],
        "GPUs requested by pods on nodes, all schedulers together."),
    family("mss_gpu_allocatable", Kind::Gauge, &["resource"],
        "GPUs that nodes offer."),
    family("mss_unschedulable_gangs", Kind::Gauge, &["reason"],
        "Gangs waiting after a failed attempt, by the reason that most nodes gave."),
    family("mss_watch_relists_total", Kind::Counter, &["kind"],
        "Full lists taken because a watch could not go on, by kind."),
    family("mss_contract_errors_total", Kind::Counter, &["reason"],
        "Pods refused for what they ask: annotation, quantity, malformed, unsupported, claim or \
         oversize."),
];
