//! Composition root: builds the parts, connects them with bounded channels, shuts down in order.
//!
//! ```text
//! watches --> events --> engine --> calls --> dispatcher --> API server
//!                ^                                |
//!                +---------- replies -------------+        the fence is opened by the elector
//! ```
//!
//! The engine never waits for the dispatcher: calls it cannot hand over at once are kept, and it
//! decides nothing new before they are gone. So no cycle of waits can form.

mod engine;
mod observe;
pub mod preview;

use crate::config::{self, Configuration};
use crate::fairshare::{Decay, LsfOptions, UsageOptions};
use crate::kubernetes::client::configure;
use crate::kubernetes::convert::{Converter, queue::file};
use crate::kubernetes::dispatch::{self, Dispatcher};
use crate::kubernetes::lease::{Elector, Fence, Settings};
use crate::kubernetes::objects::QueueObject;
use crate::kubernetes::{Clock, Connection, watch};
use crate::model::narrowed::base;
use crate::model::queue::Ordering;
use crate::model::{EvictionBudget, QueueSpec, WallTime};
use crate::plugins::{self, Arguments, NodeResourcesBalancedAllocation, NodeResourcesFit};
use crate::scheduler::{
    DrainOptions, Event, Evictions, Kind, Leadership, Options, QuarantineOptions, Scheduler,
};
use crate::telemetry::Metrics;
use crate::telemetry::http::{Endpoints, Health, serve};
use anyhow::Context;
use engine::Engine;
use kube::Api;
use kube::api::ListParams;
use observe::Observations;
use std::future::Future;
use std::path::Path;
use std::sync::Arc;
use std::time::Duration;
use tokio::sync::{mpsc, oneshot};

/// Calls handed to the dispatcher and not taken up yet.
const CALLS_QUEUED: usize = 1024;

/// How a run ended.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum End {
    /// It was asked to stop and did so in order.
    Stopped,
    /// The lease was lost: the process must end, and may be started again.
    LostLease(String),
}

/// Schedules until `stop` is done or the lease is lost.
///
/// # Errors
/// If there is no usable connection, or the health address cannot be listened on.
pub async fn run(
    configuration: Configuration,
    kubeconfig: Option<&Path>,
    stop: impl Future<Output = ()>,
) -> anyhow::Result<End> {
    let configured = &configuration.client_connection.kubeconfig;
    let configured = (!configured.is_empty()).then(|| Path::new(configured));
    let cluster = configure(kubeconfig.or(configured)).await?;
    run_on(configuration, cluster, stop).await
}

/// As [`run`], on a given cluster.
///
/// # Errors
/// As [`run`].
pub async fn run_on(
    configuration: Configuration,
    cluster: kube::Config,
    stop: impl Future<Output = ()>,
) -> anyhow::Result<End> {
    let clock = Clock::default();
    let tree = configuration.queues.file.as_deref().map(file::read_tree).transpose()?;
    let names = configuration.profiles.iter().map(|profile| &*profile.scheduler_name);
    let metrics = Arc::new(Metrics::new(names));
    let health = Arc::new(Health::new(configuration.ready_when_standby));
    let limits_of_calls =
        (configuration.client_connection.qps, configuration.client_connection.burst);
    let connection = Connection::of(cluster, &metrics, limits_of_calls)?;
    serve_endpoints(&configuration, &metrics, &health).await?;

    let (events, inbox) = mpsc::channel(configuration.limits.watch_events_queued);
    let (calls, outbox) = mpsc::channel(CALLS_QUEUED);
    let observations = Arc::new(Observations::new(metrics.clone()));
    let fence = Fence::new(clock);
    let (stop_dispatch, stopped) = oneshot::channel();
    let dispatcher = Dispatcher::new(
        connection.clone(),
        fence.clone(),
        limits(&configuration),
        identity(&configuration),
        events.clone(),
        observations.clone(),
    );
    let dispatcher = tokio::spawn(dispatcher.run(outbox, stopped));
    let watches = watch_cluster(
        tree,
        connection.watches.clone(),
        converter(&configuration),
        events.clone(),
        observations,
    );
    let watches = tokio::spawn(watches);
    let scheduler = scheduler(&configuration);
    let engine = Engine::new(scheduler, clock, calls, metrics.clone(), health.clone());
    let mut engine = tokio::spawn(engine.run(inbox));
    tracing::info!(profiles = configuration.profiles.len(), "scheduler started");

    let mut elector = configuration
        .leader_election
        .leader_elect
        .then(|| Elector::new(&connection, lease_settings(&configuration), clock, fence.clone()));
    let end = tokio::select! {
        () = stop => End::Stopped,
        reason = lead(&mut elector, &fence, &events, &metrics, &health) => End::LostLease(reason),
        outcome = &mut engine => {
            outcome.context("the engine failed")?;
            anyhow::bail!("the engine ended by itself");
        }
    };
    if end == End::Stopped {
        tracing::info!("stopping: waiting for calls in flight");
        stop_dispatch.send(()).ok();
        keep_renewing(&mut elector, dispatcher).await;
        if let Some(elector) = &mut elector
            && let Err(error) = elector.release().await
        {
            tracing::warn!(%error, "cannot release the lease: it will run out");
        }
    }
    watches.abort();
    engine.abort();
    Ok(end)
}

/// Watches the cluster; a tree from a file takes the place of its queues.
async fn watch_cluster(
    tree: Option<Vec<QueueSpec>>,
    client: kube::Client,
    converter: Converter,
    events: mpsc::Sender<Event>,
    observer: Arc<Observations>,
) {
    let Some(tree) = tree else { return watch::run(client, converter, events, observer).await };
    tracing::info!(queues = tree.len(), "the tree of queues is that of the file");
    let queues = tree.into_iter().map(|spec| Event::QueueApplied(Box::new(spec)));
    let list = std::iter::once(Event::ListStarted(Kind::Queue)).chain(queues);
    for event in list.chain([Event::ListEnded(Kind::Queue)]) {
        if events.send(event).await.is_err() {
            return;
        }
    }
    let ignored = async {
        let first = ListParams::default().limit(1);
        let found = Api::<QueueObject>::all(client.clone()).list(&first).await;
        if found.is_ok_and(|found| !found.items.is_empty()) {
            tracing::warn!(
                "the cluster has Queue objects, which are ignored: the configuration names a file"
            );
        }
    };
    tokio::join!(watch::run_but_queues(client.clone(), converter, events, observer), ignored);
}

/// Becomes the leader, tells the engine, and returns when the lease is lost.
async fn lead(
    elector: &mut Option<Elector>,
    fence: &Fence,
    events: &mpsc::Sender<Event>,
    metrics: &Metrics,
    health: &Health,
) -> String {
    let previous_renewal: WallTime = match elector {
        Some(elector) => elector.acquire().await,
        None => {
            fence.open();
            Clock::wall()
        }
    };
    tracing::info!("leading");
    metrics.leader.set(1);
    health.set_leading(true);
    events.send(Event::Leading(Leadership { previous_renewal, wall: Clock::wall() })).await.ok();
    match elector {
        Some(elector) => elector.hold().await,
        None => std::future::pending().await,
    }
}

/// Waits for the dispatcher to drain. Its calls need the lease until the last is answered.
async fn keep_renewing(elector: &mut Option<Elector>, dispatcher: tokio::task::JoinHandle<()>) {
    let Some(elector) = elector else {
        dispatcher.await.ok();
        return;
    };
    tokio::select! {
        _ = dispatcher => {}
        reason = elector.hold() => tracing::error!(%reason, "lost the lease while stopping"),
    }
}

async fn serve_endpoints(
    configuration: &Configuration,
    metrics: &Arc<Metrics>,
    health: &Arc<Health>,
) -> anyhow::Result<()> {
    let Some(address) = configuration.health_bind_address else { return Ok(()) };
    let listener = tokio::net::TcpListener::bind(address)
        .await
        .with_context(|| format!("cannot listen on healthBindAddress {address}"))?;
    let configz = serde_json::to_string(configuration).context("cannot show the configuration")?;
    let endpoints = Endpoints { metrics: metrics.clone(), health: health.clone(), configz };
    tokio::spawn(async move {
        if let Err(error) = serve(listener, endpoints, std::future::pending()).await {
            tracing::error!(%error, "health and metrics are not served any more");
        }
    });
    Ok(())
}

fn converter(configuration: &Configuration) -> Converter {
    let own = &configuration.gpu_sharing.holder_namespace;
    let holders =
        if own.is_empty() { &configuration.leader_election.resource_namespace } else { own };
    Converter {
        profiles: configuration.profiles.iter().map(|p| p.scheduler_name.as_str().into()).collect(),
        min_member_max: configuration.limits.gang_members_max,
        annotation_bytes_max: configuration.limits.annotation_bytes_max,
        users_stamped: configuration.queues.users_are_stamped(),
        holder_namespace: holders.as_str().into(),
    }
}

fn limits(configuration: &Configuration) -> dispatch::Limits {
    let limits = &configuration.limits;
    dispatch::Limits {
        binds_in_flight: limits.binds_in_flight,
        deadline: limits.bind_timeout,
        writes_in_flight: limits.events_in_flight,
        events_queued: limits.events_queued,
        drain: limits.shutdown_grace_period,
    }
}

fn host() -> String {
    let name = std::fs::read_to_string("/proc/sys/kernel/hostname").unwrap_or_default();
    if name.trim().is_empty() { "unknown".to_owned() } else { name.trim().to_owned() }
}

fn identity(configuration: &Configuration) -> dispatch::Identity {
    let controller = configuration.profiles[0].scheduler_name.clone();
    let instance = format!("{controller}-{}", host());
    dispatch::Identity { controller, instance }
}

fn lease_settings(configuration: &Configuration) -> Settings {
    let election = &configuration.leader_election;
    Settings {
        namespace: election.resource_namespace.clone(),
        name: election.resource_name.clone(),
        identity: format!("{}_{}", host(), uuid::Uuid::new_v4()),
        duration: election.lease_duration,
        renew_deadline: election.renew_deadline,
        retry_period: election.retry_period,
        margin: configuration.limits.lease_margin,
    }
}

fn millis(duration: Duration) -> i64 {
    i64::try_from(duration.as_millis()).unwrap_or(i64::MAX)
}

/// The core as configured.
#[must_use]
pub fn scheduler(configuration: &Configuration) -> Scheduler {
    let profiles = configuration.profiles.iter().map(profile).collect();
    Scheduler::new(options(configuration), profiles)
}

fn options(configuration: &Configuration) -> Options {
    Options {
        backoff_initial_ms: millis(configuration.pod_initial_backoff),
        backoff_max_ms: millis(configuration.pod_max_backoff),
        // a third of the time is left for the deletions themselves
        partial_deadline_ms: millis(configuration.limits.partial_bind_deadline) * 2 / 3,
        queues_watched: true,
        budgets_watched: true,
        evictions: match configuration.evictions.mode {
            config::EvictionMode::Allowed => Evictions::Allowed,
            config::EvictionMode::ReportOnly => Evictions::ReportOnly,
            config::EvictionMode::Off => Evictions::Off,
        },
        searches_per_cycle: configuration.evictions.searches_per_cycle,
        vacate_deadline_ms: millis(configuration.evictions.vacate_deadline),
        protected_ms: millis(configuration.evictions.protected_for),
        eviction_budget: (configuration.evictions.budget_pods > 0).then(|| EvictionBudget {
            pods: configuration.evictions.budget_pods,
            window_ms: millis(configuration.evictions.budget_window),
        }),
        drains: (!configuration.drains.after.is_zero()).then(|| DrainOptions {
            after_ms: millis(configuration.drains.after),
            for_ms: millis(configuration.drains.lasting),
            percent: configuration.drains.percent,
        }),
        quarantine: quarantine(&configuration.quarantine),
        capacity_hold_ms: millis(configuration.queues.capacity_hold),
        queue_status_interval_ms: match configuration.queues.file {
            None => Some(millis(configuration.queues.status_interval)),
            Some(_) => None,
        },
        usage: UsageOptions {
            cpu_factor: f64::from(configuration.queues.cpu_factor),
            memory_factor: f64::from(configuration.queues.memory_factor),
            gpu_factor: f64::from(configuration.queues.gpu_factor),
            factors: configuration.queues.factors.iter().map(per_base_unit).collect(),
            decay: Decay::HalfLife(millis(configuration.queues.usage_half_life)),
        },
        lsf: lsf(&configuration.queues.lsf),
        root_order: Ordering::parse(&configuration.queues.ordering).unwrap_or_default(),
        topology_levels: topology_levels(configuration),
        ..Options::default()
    }
}

fn topology_levels(configuration: &Configuration) -> Vec<Box<str>> {
    configuration.topology.levels.iter().map(|level| level.node_label.as_str().into()).collect()
}

fn per_base_unit(configured: &config::Factor) -> (Box<str>, f64) {
    let units = match base(&configured.resource) {
        "cpu" => 1000.0,
        "memory" => f64::from(1 << 30),
        _ => 1.0,
    };
    (configured.resource.as_str().into(), configured.factor / units)
}

fn quarantine(configured: &config::Quarantine) -> Option<QuarantineOptions> {
    let deadline = configured.start_deadline;
    (configured.failures > 0).then(|| QuarantineOptions {
        failures: configured.failures,
        window_ms: millis(configured.window),
        start_deadline_ms: (!deadline.is_zero()).then(|| millis(deadline)),
        for_ms: millis(configured.lasting),
        for_max_ms: millis(configured.for_max),
        percent: configured.percent,
    })
}

fn lsf(configured: &config::Lsf) -> LsfOptions {
    LsfOptions {
        cpu_time_factor: configured.cpu_time_factor,
        run_time_factor: configured.run_time_factor,
        committed_run_time_factor: configured.committed_run_time_factor,
        run_job_factor: configured.run_job_factor,
        gpu_run_time_factor: configured.gpu_run_time_factor,
        hist_hours: configured.hist_hours,
        enable_hist_run_time: configured.enable_hist_run_time,
        enable_gpu_hist_run_time: configured.enable_gpu_hist_run_time,
    }
}

fn profile(configured: &config::Profile) -> crate::framework::Profile {
    let fit = &configured.fit;
    let resources = fit.resources.iter();
    let strategy = match &fit.strategy {
        config::ScoringStrategy::LeastAllocated => plugins::ScoringStrategy::LeastAllocated,
        config::ScoringStrategy::MostAllocated => plugins::ScoringStrategy::MostAllocated,
        config::ScoringStrategy::RequestedToCapacityRatio(shape) => {
            let point = |point: &config::ShapePoint| plugins::ShapePoint {
                utilization: i64::from(point.utilization),
                score: i64::from(point.score) * 10,
            };
            plugins::ScoringStrategy::RequestedToCapacityRatio(shape.iter().map(point).collect())
        }
    };
    let arguments = Arguments {
        fit: NodeResourcesFit {
            strategy,
            resources: resources.map(|r| (r.name.as_str().into(), i64::from(r.weight))).collect(),
        },
        balanced: NodeResourcesBalancedAllocation {
            resources: configured
                .balanced_allocation
                .resources
                .iter()
                .map(|name| name.as_str().into())
                .collect(),
        },
        ..Arguments::default()
    };
    plugins::profile(
        &configured.scheduler_name,
        configured.filters.iter().map(String::as_str),
        configured.scores.iter().map(|(name, weight)| (name.as_str(), i64::from(*weight))),
        &arguments,
    )
}
