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

use crate::config::{Configuration, EvictionMode, core};
use crate::kubernetes::client::configure;
use crate::kubernetes::convert::{Converter, queue::file};
use crate::kubernetes::dispatch::{self, Dispatcher};
use crate::kubernetes::lease::{Elector, Fence, Settings};
use crate::kubernetes::objects::QueueObject;
use crate::kubernetes::{Clock, Connection, watch};
use crate::model::{QueueSpec, WallTime};
use crate::scheduler::{Event, Kind, Leadership};
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
use tokio::sync::{mpsc, oneshot};

/// Calls handed to the dispatcher and not taken up yet.
const CALLS_QUEUED: usize = 1024;
/// Jobs to be warned of and not taken up yet.
const JOBS_QUEUED: usize = 16;

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
    let (advice, jobs) = mpsc::channel(JOBS_QUEUED);
    let dispatcher = tokio::spawn(dispatcher.run(outbox, jobs, stopped));
    let watches = watch_cluster(
        tree,
        connection.watches.clone(),
        converter(&configuration),
        events.clone(),
        observations,
    );
    let levels = watch_levels(&configuration, connection.watches.clone(), events.clone());
    let jobs = watch_jobs(&configuration, connection.watches.clone(), fence.clone(), advice);
    let watches = tokio::spawn(async { tokio::join!(watches, levels, jobs) });
    let scheduler = core::scheduler(&configuration);
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

/// Watches the levels that Topology objects name, if they are to be added.
fn watch_levels(
    configuration: &Configuration,
    client: kube::Client,
    events: mpsc::Sender<Event>,
) -> impl Future<Output = ()> + use<> {
    let known = configuration.topology.from_objects.then(|| core::topology_levels(configuration));
    async move {
        if let Some(known) = known {
            watch::levels::run(client, known, events).await;
        }
    }
}

/// Watches the Jobs that must be told what an eviction means for them, if any pod is evicted.
fn watch_jobs(
    configuration: &Configuration,
    client: kube::Client,
    fence: Fence,
    found: mpsc::Sender<watch::jobs::Job>,
) -> impl Future<Output = ()> + use<> {
    let evicts = configuration.evictions.mode == EvictionMode::Allowed;
    let schedulers = converter(configuration).profiles;
    async move {
        if evicts {
            watch::jobs::run(client, schedulers, fence, found).await;
        }
    }
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

/// Where holders count.
pub(crate) fn holder_namespace(configuration: &Configuration) -> &str {
    match &*configuration.gpu_sharing.holder_namespace {
        "" => &configuration.leader_election.resource_namespace,
        own => own,
    }
}

fn converter(configuration: &Configuration) -> Converter {
    Converter {
        profiles: configuration.profiles.iter().map(|p| p.scheduler_name.as_str().into()).collect(),
        min_member_max: configuration.limits.gang_members_max,
        annotation_bytes_max: configuration.limits.annotation_bytes_max,
        users_stamped: configuration.queues.users_are_stamped(),
        holder_namespace: holder_namespace(configuration).into(),
        reports: configuration.topology.from_objects,
        claims: configuration.dynamic_resources.enabled.then(|| {
            let classes = configuration.dynamic_resources.device_classes.iter();
            classes.map(|class| (class.name.clone(), class.resource.clone())).collect()
        }),
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
