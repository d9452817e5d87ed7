//! The configuration file: parse, validate, explain.
//!
//! The file is shaped like upstream's `KubeSchedulerConfiguration`. What a file leaves out is as
//! in [`fields::FIELDS`], the one table behind defaults, checks, explanations and docs. Parsing is
//! strict: an unknown or ill-typed field is an error, and all errors of a file are told at once.

mod check;
mod claims;
pub mod core;
mod duration;
pub mod explain;
pub mod fields;
mod nodes;
mod plugins;
mod profile;
mod queues;
mod section;
mod topology;
#[cfg(test)]
mod tests;
mod tree;

pub use claims::{CountedAs, DynamicResources};
pub use nodes::{Architecture, DedicatedNodes};
pub use profile::{
    BalancedAllocationArgs, FitArgs, Profile, ResourceWeight, ScoringStrategy, ShapePoint,
};
pub use queues::{Factor, Lsf, Queues};
pub use topology::{Level, Topology};

pub(crate) use duration::parse as parse_duration;

use section::Section;
use serde::Serialize;
use std::net::SocketAddr;
use std::path::Path;
use std::time::Duration;

/// The version of the format.
pub const API_VERSION: &str = "mss-scheduler.io/v1alpha1";
/// The kind of the file.
pub const KIND: &str = "MssSchedulerConfiguration";
/// Most profiles: each adds label values to some forty time series.
pub const PROFILES_MAX: usize = 16;

/// Why a configuration is refused. Nobody retries; a person edits the file.
#[derive(Debug, thiserror::Error)]
pub enum Error {
    /// The file cannot be read.
    #[error("read configuration file {file}: {source}")]
    Read {
        /// Path as given.
        file: String,
        /// What the system says.
        source: std::io::Error,
    },
    /// The file is no valid configuration: one line `file:line: message` for each problem.
    #[error("{}", lines(.file, .problems))]
    Invalid {
        /// Path as given.
        file: String,
        /// What is wrong, by line.
        problems: Vec<Problem>,
    },
}

/// One thing that is wrong with a file.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord)]
pub struct Problem {
    /// Line in the file, from 1.
    pub line: u64,
    /// What is wrong and what to write instead.
    pub message: String,
}

impl Problem {
    fn new(line: u64, message: String) -> Self {
        Problem { line, message }
    }
}

fn lines(file: &str, problems: &[Problem]) -> String {
    let line = |problem: &Problem| format!("{file}:{}: {}", problem.line, problem.message);
    problems.iter().map(line).collect::<Vec<_>>().join("\n")
}

/// A valid configuration, every default filled in.
#[derive(Debug, Clone, PartialEq, Serialize)]
#[serde(rename_all = "camelCase")]
pub struct Configuration {
    /// Which replica schedules.
    pub leader_election: LeaderElection,
    /// The connection to the API server.
    pub client_connection: ClientConnection,
    /// Where health and metrics are served; `None`: nowhere.
    pub health_bind_address: Option<SocketAddr>,
    /// Whether a synced standby answers `/readyz` with 200.
    pub ready_when_standby: bool,
    /// Wait after a gang's first failed attempt.
    #[serde(serialize_with = "duration::serialize")]
    pub pod_initial_backoff: Duration,
    /// Longest wait between attempts.
    #[serde(serialize_with = "duration::serialize")]
    pub pod_max_backoff: Duration,
    /// One entry per scheduler name that is served; never empty.
    pub profiles: Vec<Profile>,
    /// What is kept and shown of the queues.
    pub queues: Queues,
    /// How room is made.
    pub evictions: Evictions,
    /// Room kept free for gangs that would wait for ever.
    pub drains: Drains,
    /// Nodes on which pods fail to start.
    pub quarantine: Quarantine,
    /// Which processor architectures are used, and which rather.
    pub architectures: Vec<Architecture>,
    /// Nodes that are for pods that ask for them.
    pub dedicated_nodes: DedicatedNodes,
    /// The levels of the cluster's network.
    pub topology: Topology,
    /// Parts of GPUs.
    pub gpu_sharing: GpuSharing,
    /// Devices that pods claim.
    pub dynamic_resources: DynamicResources,
    /// Bounds.
    pub limits: Limits,
}

/// See the fields of `gpuSharing`.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
#[serde(rename_all = "camelCase")]
pub struct GpuSharing {
    /// Where holders count; empty: where the lease is.
    pub holder_namespace: String,
}

/// See the fields of `evictions`.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
#[serde(rename_all = "camelCase")]
pub struct Evictions {
    /// The switch over all evictions.
    pub mode: EvictionMode,
    /// Gangs for which room is looked for in one cycle.
    pub searches_per_cycle: usize,
    /// How long victims may take to be gone, beyond their own termination grace.
    #[serde(serialize_with = "duration::serialize")]
    pub vacate_deadline: Duration,
    /// Pods that may be evicted in the time of the window; 0: no bound.
    pub budget_pods: u32,
    /// The time of the budget.
    #[serde(serialize_with = "duration::serialize")]
    pub budget_window: Duration,
    /// How long a pod that a disruption budget protected is not chosen again.
    #[serde(serialize_with = "duration::serialize")]
    pub protected_for: Duration,
}

/// See the fields of `drains`.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
#[serde(rename_all = "camelCase")]
pub struct Drains {
    /// How long a gang waits before; zero: no room is drained.
    #[serde(serialize_with = "duration::serialize")]
    pub after: Duration,
    /// How long a drain lasts at most.
    #[serde(rename = "for", serialize_with = "duration::serialize")]
    pub lasting: Duration,
    /// The part of the cluster that all drains may keep.
    pub percent: u32,
}

/// See the fields of `quarantine`.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
#[serde(rename_all = "camelCase")]
pub struct Quarantine {
    /// So many failures put a node in quarantine; 0: none ever is.
    pub failures: usize,
    /// How long a failure counts.
    #[serde(serialize_with = "duration::serialize")]
    pub window: Duration,
    /// When a pod of which nothing runs counts as failed; zero: never.
    #[serde(serialize_with = "duration::serialize")]
    pub start_deadline: Duration,
    /// How long the first quarantine lasts.
    #[serde(rename = "for", serialize_with = "duration::serialize")]
    pub lasting: Duration,
    /// How long one lasts at most.
    #[serde(serialize_with = "duration::serialize")]
    pub for_max: Duration,
    /// The part of the nodes that may be in quarantine at once.
    pub percent: usize,
}

/// See the field `evictions.mode`.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize)]
pub enum EvictionMode {
    /// Decided and made.
    Allowed,
    /// Decided and reported, not made.
    ReportOnly,
    /// Not even looked for.
    Off,
}

/// See the fields of `leaderElection`.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
#[serde(rename_all = "camelCase")]
pub struct LeaderElection {
    /// Whether a lease is held at all.
    pub leader_elect: bool,
    /// Name of the lease.
    pub resource_name: String,
    /// Namespace of the lease.
    pub resource_namespace: String,
    /// How long an unrenewed lease stays valid.
    #[serde(serialize_with = "duration::serialize")]
    pub lease_duration: Duration,
    /// How long a leader goes on without renewing.
    #[serde(serialize_with = "duration::serialize")]
    pub renew_deadline: Duration,
    /// Pause between attempts.
    #[serde(serialize_with = "duration::serialize")]
    pub retry_period: Duration,
}

/// See the fields of `clientConnection`.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
#[serde(rename_all = "camelCase")]
pub struct ClientConnection {
    /// Path of a kubeconfig file; empty: the usual places, then the service account.
    pub kubeconfig: String,
    /// Requests per second; `None`: no limit.
    pub qps: Option<u32>,
    /// Requests that may exceed it at once; `None`: no limit.
    pub burst: Option<u32>,
}

/// See the fields of `limits`.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
#[serde(rename_all = "camelCase")]
pub struct Limits {
    /// Bind requests sent and not yet answered.
    pub binds_in_flight: usize,
    /// How long one bind request may take.
    #[serde(serialize_with = "duration::serialize")]
    pub bind_timeout: Duration,
    /// How long a gang may stay between zero and its minimum.
    #[serde(serialize_with = "duration::serialize")]
    pub partial_bind_deadline: Duration,
    /// Events and conditions sent and not yet answered.
    pub events_in_flight: usize,
    /// Events waiting.
    pub events_queued: usize,
    /// Largest min-member accepted.
    pub gang_members_max: u32,
    /// Bytes of our annotations read from one pod.
    pub annotation_bytes_max: usize,
    /// Watch events between the connection and the scheduler.
    pub watch_events_queued: usize,
    /// No request leaves when the lease runs out within this time.
    #[serde(serialize_with = "duration::serialize")]
    pub lease_margin: Duration,
    /// How long a terminating scheduler waits for requests in flight.
    #[serde(serialize_with = "duration::serialize")]
    pub shutdown_grace_period: Duration,
}

impl Configuration {
    /// Reads and checks a file.
    ///
    /// # Errors
    /// [`Error::Read`] if it cannot be read, [`Error::Invalid`] with every problem it has.
    pub fn load(path: &Path) -> Result<Self, Error> {
        let file = path.display().to_string();
        match std::fs::read_to_string(path) {
            Ok(text) => Self::parse(&text, &file),
            Err(source) => Err(Error::Read { file, source }),
        }
    }

    /// Parses and checks the text of a file; `file` is how errors name it.
    ///
    /// # Errors
    /// [`Error::Invalid`] with every problem of the text, in the order of lines.
    pub fn parse(text: &str, file: &str) -> Result<Self, Error> {
        let invalid = |problems| Error::Invalid { file: file.to_owned(), problems };
        let root = tree::parse(text).map_err(|error| invalid(vec![syntax_problem(&error)]))?;
        let mut problems = Vec::new();
        check::check(&root, &mut problems);
        let section = Section::root(&root);
        for (name, value) in [("apiVersion", API_VERSION), ("kind", KIND)] {
            if !section.has(name) {
                problems.push(Problem::new(1, format!("missing \"{name}: {value}\"")));
            }
        }
        let configuration = Self::read(&section, &mut problems);
        problems.sort();
        problems.dedup();
        if problems.is_empty() { Ok(configuration) } else { Err(invalid(problems)) }
    }

    fn read(root: &Section<'_>, problems: &mut Vec<Problem>) -> Self {
        let address = root.text("healthBindAddress");
        let initial: u64 = root.integer("podInitialBackoffSeconds");
        let max: u64 = root.integer("podMaxBackoffSeconds");
        if max < initial {
            problems.push(Problem::new(
                root.line("podMaxBackoffSeconds"),
                format!(
                    "\"podMaxBackoffSeconds\" ({max}) must not be below \
                     \"podInitialBackoffSeconds\" ({initial})"
                ),
            ));
        }
        let leader_election = LeaderElection::read(&root.section("leaderElection"), problems);
        let evictions = Evictions::read(&root.section("evictions"));
        let drains = root.section("drains");
        let drains = Drains {
            after: drains.duration("after"),
            lasting: drains.duration("for"),
            percent: drains.integer("percent"),
        };
        let quarantine = Quarantine::read(&root.section("quarantine"), problems);
        let limits = Limits::read(&root.section("limits"));
        check_margin(&root.section("limits"), &leader_election, &limits, problems);
        Configuration {
            client_connection: ClientConnection::read(&root.section("clientConnection"), problems),
            health_bind_address: address.parse().ok(),
            ready_when_standby: root.flag("readyWhenStandby"),
            pod_initial_backoff: Duration::from_secs(initial),
            pod_max_backoff: Duration::from_secs(max),
            profiles: profile::read_all(root, problems),
            leader_election,
            queues: Queues::read(&root.section("queues"), problems),
            evictions,
            drains,
            quarantine,
            architectures: Architecture::read_all(root, problems),
            dedicated_nodes: DedicatedNodes::read(&root.section("dedicatedNodes")),
            topology: Topology::read(&root.section("topology"), problems),
            gpu_sharing: GpuSharing {
                holder_namespace: root.section("gpuSharing").text("holderNamespace"),
            },
            dynamic_resources: DynamicResources::read(&root.section("dynamicResources"), problems),
            limits,
        }
    }
}

impl Default for Configuration {
    fn default() -> Self {
        let text = format!("apiVersion: {API_VERSION}\nkind: {KIND}\n");
        Self::parse(&text, "default").expect("the defaults of the table are valid")
    }
}

impl Evictions {
    fn read(section: &Section<'_>) -> Self {
        Evictions {
            mode: match section.text("mode").as_str() {
                "ReportOnly" => EvictionMode::ReportOnly,
                "Off" => EvictionMode::Off,
                _ => EvictionMode::Allowed,
            },
            searches_per_cycle: section.integer("searchesPerCycle"),
            vacate_deadline: section.duration("vacateDeadline"),
            budget_pods: section.integer("budgetPods"),
            budget_window: section.duration("budgetWindow"),
            protected_for: section.duration("protectedFor"),
        }
    }
}

impl Quarantine {
    fn read(section: &Section<'_>, problems: &mut Vec<Problem>) -> Self {
        let read = Quarantine {
            failures: section.integer("failures"),
            window: section.duration("window"),
            start_deadline: section.duration("startDeadline"),
            lasting: section.duration("for"),
            for_max: section.duration("forMax"),
            percent: section.integer("percent"),
        };
        if read.for_max < read.lasting {
            let [max, first] = [read.for_max, read.lasting].map(duration::format);
            problems.push(Problem::new(
                section.line("forMax"),
                format!(
                    "\"quarantine.forMax\" ({max}) must not be below \"quarantine.for\" ({first})"
                ),
            ));
        }
        read
    }
}

impl LeaderElection {
    fn read(section: &Section<'_>, problems: &mut Vec<Problem>) -> Self {
        let read = LeaderElection {
            leader_elect: section.flag("leaderElect"),
            resource_name: section.text("resourceName"),
            resource_namespace: section.text("resourceNamespace"),
            lease_duration: section.duration("leaseDuration"),
            renew_deadline: section.duration("renewDeadline"),
            retry_period: section.duration("retryPeriod"),
        };
        let [lease, renew, retry] =
            [read.lease_duration, read.renew_deadline, read.retry_period].map(duration::format);
        if read.renew_deadline >= read.lease_duration {
            problems.push(Problem::new(
                section.line("renewDeadline"),
                format!(
                    "\"leaderElection.renewDeadline\" ({renew}) must be shorter than \
                     \"leaderElection.leaseDuration\" ({lease})"
                ),
            ));
        }
        // client-go's jitter factor: a retry comes up to 1.2 periods after the last attempt
        if read.retry_period * 6 / 5 >= read.renew_deadline {
            problems.push(Problem::new(
                section.line("retryPeriod"),
                format!(
                    "1.2 times \"leaderElection.retryPeriod\" ({retry}) must be shorter than \
                     \"leaderElection.renewDeadline\" ({renew})"
                ),
            ));
        }
        for (name, value) in
            [("resourceName", &read.resource_name), ("resourceNamespace", &read.resource_namespace)]
        {
            if value.is_empty() {
                let message = format!("\"leaderElection.{name}\" must not be empty");
                problems.push(Problem::new(section.line(name), message));
            }
        }
        read
    }
}

impl ClientConnection {
    fn read(section: &Section<'_>, problems: &mut Vec<Problem>) -> Self {
        let limit = |name| Some(section.integer::<u32>(name)).filter(|limit| *limit > 0);
        let (qps, burst) = (limit("qps"), limit("burst"));
        if qps.is_some() != burst.is_some() {
            problems.push(Problem::new(
                section.line(if qps.is_some() { "qps" } else { "burst" }),
                "\"clientConnection.qps\" and \"clientConnection.burst\" must be set together"
                    .to_owned(),
            ));
        }
        ClientConnection { kubeconfig: section.text("kubeconfig"), qps, burst }
    }
}

impl Limits {
    fn read(section: &Section<'_>) -> Self {
        Limits {
            binds_in_flight: section.integer("bindsInFlight"),
            bind_timeout: section.duration("bindTimeout"),
            partial_bind_deadline: section.duration("partialBindDeadline"),
            events_in_flight: section.integer("eventsInFlight"),
            events_queued: section.integer("eventsQueued"),
            gang_members_max: section.integer("gangMembersMax"),
            annotation_bytes_max: section.integer("annotationBytesMax"),
            watch_events_queued: section.integer("watchEventsQueued"),
            lease_margin: section.duration("leaseMargin"),
            shutdown_grace_period: section.duration("shutdownGracePeriod"),
        }
    }
}

/// A margin as long as the lease outlives its leader would let no request leave at all.
fn check_margin(
    section: &Section<'_>,
    election: &LeaderElection,
    limits: &Limits,
    problems: &mut Vec<Problem>,
) {
    let slack = election.lease_duration.saturating_sub(election.renew_deadline);
    if election.leader_elect && !slack.is_zero() && limits.lease_margin >= slack {
        problems.push(Problem::new(
            section.line("leaseMargin"),
            format!(
                "\"limits.leaseMargin\" ({}) must be shorter than \
                 \"leaderElection.leaseDuration\" less \"leaderElection.renewDeadline\" ({})",
                duration::format(limits.lease_margin),
                duration::format(slack),
            ),
        ));
    }
}

/// What the YAML parser says, without the picture it draws of the place.
fn syntax_problem(error: &serde_saphyr::Error) -> Problem {
    let line = error.location().map_or(1, |location| location.line().max(1));
    let text = error.without_snippet().to_string();
    Problem::new(line, format!("invalid YAML: {}", text.lines().next().unwrap_or_default()))
}
