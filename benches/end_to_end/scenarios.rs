//! One measurement: pods in, binder on, what was seen, all away again.

use crate::args::{Args, Binder, Scenario};
use crate::binders;
use crate::observer::{self, Observer, ServerWork};
use crate::reclaim::Terms;
use crate::support::children::Process;
use crate::support::control_plane::{ControlPlane, User};
use k8s_openapi::api::core::v1::{Namespace, Pod};
use kube::Client;
use kube::api::{Api, DeleteParams, ListParams};
use mss_scheduler::simulator::create::{PARALLEL_DEFAULT, create_all};
use serde_json::{Value, json};
use std::collections::HashMap;
use std::time::{Duration, Instant};

/// GPUs of each node.
pub(crate) const NODE_GPUS: usize = 8;

/// More than any node has.
const NEVER_FITS: usize = NODE_GPUS + 1;

/// Members of the gangs that fill and rest use.
const SMALL_GANG: usize = 8;

/// The slowest peer on record needs a minute for 5,000 pods.
pub(crate) const PATIENCE: Duration = Duration::from_secs(240);

/// Events count as written when none has come for this long.
const EVENTS_QUIET: Duration = Duration::from_secs(4);

/// What one measurement found; a field that the scenario does not measure is absent.
#[derive(Clone, Debug, Default)]
pub(crate) struct Sample {
    /// Pods bound, less the first, by the time from first to last bind.
    pub(crate) pods_per_s: Option<f64>,
    /// Start of the process to the first bind, seconds.
    pub(crate) first_bind_s: Option<f64>,
    /// Start of the process to the last bind, seconds.
    pub(crate) last_bind_s: Option<f64>,
    /// Last bind to the last event, seconds, within a third of a second.
    pub(crate) events_after_s: Option<f64>,
    pub(crate) events: Option<f64>,
    /// Of the binder, start-up and all events included.
    pub(crate) cpu_ms_per_pod: Option<f64>,
    pub(crate) server_ms_per_pod: Option<f64>,
    pub(crate) peak_mb: Option<f64>,
    /// Pods evicted.
    pub(crate) evicted: Option<f64>,
    /// At rest: processor seconds of the binder and of the API server, and API writes.
    pub(crate) rest_cpu_s: Option<f64>,
    pub(crate) rest_server_cpu_s: Option<f64>,
    pub(crate) rest_writes: Option<f64>,
}

pub(crate) struct Bench {
    pub(crate) servers: ControlPlane,
    pub(crate) client: Client,
    pub(crate) args: Args,
    /// Measurements so far; gives each its own names.
    pub(crate) count: usize,
}

impl Bench {
    pub(crate) async fn measure(&mut self, scenario: Scenario, binder: Binder) -> Sample {
        self.count += 1;
        let name = format!("{}-{}-{}", scenario.slug(), binder.slug(), self.count);
        self.create_namespace(&name).await;
        let sample = match scenario {
            Scenario::Fill => self.fill(binder, &name, self.args.pods).await,
            Scenario::Gang => self.gang(binder, &name).await,
            Scenario::Rest => self.rest(binder, &name).await,
            Scenario::Reclaim => self.reclaim(binder, Terms::Elastic, &name).await,
            Scenario::ReclaimWhole => self.reclaim(binder, Terms::Whole, &name).await,
        };
        self.remove_pods(&name).await;
        sample
    }

    async fn fill(&self, binder: Binder, name: &str, count: usize) -> Sample {
        let gang = (binder == Binder::MssGangs).then_some(SMALL_GANG);
        self.create_pods(name, count, 1, gang).await;
        self.bind(binder, name, count).await
    }

    async fn gang(&self, binder: Binder, name: &str) -> Sample {
        let count = self.args.gang;
        self.create_pods(name, count, 1, Some(count)).await;
        self.bind(binder, name, count).await
    }

    /// Lets the binder bind all `count` pods of the namespace and all its events be written.
    async fn bind(&self, binder: Binder, name: &str, count: usize) -> Sample {
        let mut observer = Observer::start(self.client.clone(), name.to_owned()).await;
        let before = ServerWork::read(&self.client).await;
        let started = Instant::now();
        let process = binders::start(&self.servers, binder, name);
        if !observer.wait(count, PATIENCE).await {
            let bound = observer.binds().nodes.len();
            panic!("{name}: {bound} of {count} pods bound\n{}", process.last_words());
        }
        let binds = observer.binds();
        assert_eq!(binds.moved, None, "{name}: a pod changed its node");
        let mut by_node: HashMap<&str, usize> = HashMap::new();
        binds.nodes.values().for_each(|node| *by_node.entry(node).or_default() += 1);
        let fullest = by_node.values().max().copied().unwrap_or_default();
        assert!(fullest <= NODE_GPUS, "{name}: {fullest} pods of 1 GPU on a node with {NODE_GPUS}");

        let (first, last) = (binds.first.expect("all bound"), binds.last.expect("all bound"));
        let quiet = self.wait_for_events(before.events, count, binder.writes_events()).await;
        let after = ServerWork::read(&self.client).await;
        let per_pod = 1000.0 / count as f64;
        let seconds = (last - first).as_secs_f64();
        Sample {
            pods_per_s: Some((count - 1) as f64 / seconds),
            first_bind_s: Some((first - started).as_secs_f64()),
            last_bind_s: Some((last - started).as_secs_f64()),
            events_after_s: quiet.map(|at| at.saturating_duration_since(last).as_secs_f64()),
            events: Some((after.events - before.events) as f64),
            cpu_ms_per_pod: Some(observer::cpu(process.id()).as_secs_f64() * per_pod),
            server_ms_per_pod: Some((after.cpu - before.cpu) * per_pod),
            peak_mb: Some(observer::peak_mb(process.id())),
            ..Sample::default()
        }
    }

    /// Waits until an event was written for each of `count` pods or none comes any more. Returns
    /// when the last one was seen.
    pub(crate) async fn wait_for_events(
        &self,
        before: u64,
        count: usize,
        expected: bool,
    ) -> Option<Instant> {
        if !expected {
            return None;
        }
        let mut last = (Instant::now(), before);
        loop {
            let now = ServerWork::read(&self.client).await.events;
            if now > last.1 {
                last = (Instant::now(), now);
            }
            if now >= before + count as u64 || last.0.elapsed() > EVENTS_QUIET {
                return Some(last.0);
            }
            tokio::time::sleep(Duration::from_millis(300)).await;
        }
    }

    async fn rest(&self, binder: Binder, name: &str) -> Sample {
        let gang = (binder == Binder::MssGangs).then_some(SMALL_GANG);
        let gpus = if binder.binds_blindly() { None } else { Some(NEVER_FITS) };
        // the loops that do not think would bind even these, so they get nothing to bind
        if let Some(gpus) = gpus {
            self.create_pods(name, self.args.rest_pods, gpus, gang).await;
        }
        let mut process = binders::start(&self.servers, binder, name);
        self.wait_until_quiet(&mut process).await;
        let before = (ServerWork::read(&self.client).await, observer::cpu(process.id()));
        tokio::time::sleep(Duration::from_secs(self.args.rest_seconds)).await;
        let after = (ServerWork::read(&self.client).await, observer::cpu(process.id()));
        Sample {
            rest_cpu_s: Some((after.1 - before.1).as_secs_f64()),
            rest_server_cpu_s: Some(after.0.cpu - before.0.cpu),
            rest_writes: Some((after.0.writes - before.0.writes) as f64),
            peak_mb: Some(observer::peak_mb(process.id())),
            ..Sample::default()
        }
    }

    /// The pods have been told that they do not fit: no API write for five seconds, or a minute
    /// has passed, for a binder that never stops writing.
    pub(crate) async fn wait_until_quiet(&self, process: &mut Process) {
        let began = Instant::now();
        let mut last = (Instant::now(), ServerWork::read(&self.client).await.writes);
        let (quiet, patience) = (Duration::from_secs(5), Duration::from_secs(60));
        while last.0.elapsed() < quiet && began.elapsed() < patience {
            tokio::time::sleep(Duration::from_secs(1)).await;
            let writes = ServerWork::read(&self.client).await.writes;
            if writes != last.1 {
                last = (Instant::now(), writes);
            }
        }
        assert!(process.exited().is_none(), "{}", process.last_words());
    }

    pub(crate) async fn create_namespace(&self, name: &str) {
        let namespace: Namespace =
            serde_json::from_value(json!({"metadata": {"name": name}})).expect("a namespace");
        create_all(&self.client, [namespace], 1, || ()).await.expect("it can be created");
    }

    async fn create_pods(&self, name: &str, count: usize, gpus: usize, gang: Option<usize>) {
        let pods = (0..count).map(|index| pod(name, index, gpus, gang));
        let created = create_all(&self.client, pods, PARALLEL_DEFAULT, || ()).await;
        assert_eq!(created.expect("the API server takes the pods").new, count);
    }

    pub(crate) async fn remove_pods(&self, name: &str) {
        let pods: Api<Pod> = Api::namespaced(self.client.clone(), name);
        let now = DeleteParams::default().grace_period(0);
        pods.delete_collection(&now, &ListParams::default()).await.expect("pods can be deleted");
        let left = pods.list_metadata(&ListParams::default().limit(1)).await;
        assert!(left.expect("pods can be listed").items.is_empty(), "{name}: pods are left");
    }

    /// A bench for `args` on servers of its own, with their nodes.
    pub(crate) async fn start(args: Args, servers: ControlPlane) -> Bench {
        use mss_scheduler::simulator::kubelet::{NodeShape, create_nodes};
        let client = servers.client(User::Admin).await;
        let shape = NodeShape { gpus: NODE_GPUS as u32, ..NodeShape::default() };
        let created = create_nodes(&client, args.nodes, &shape).await;
        assert_eq!(created.expect("the API server takes the nodes").new, args.nodes);
        Bench { servers, client, args, count: 0 }
    }
}

/// Each measurement has a scheduler name of its own, equal to its namespace.
fn pod(name: &str, index: usize, gpus: usize, gang: Option<usize>) -> Pod {
    let annotations = match gang {
        Some(size) => json!({
            "mss-scheduler.io/pod-group": format!("gang-{}", index / size),
            "mss-scheduler.io/min-member": size.to_string(),
        }),
        None => Value::Null,
    };
    let resources = json!({"nvidia.com/gpu": gpus.to_string()});
    serde_json::from_value(json!({
        "metadata": {
            "namespace": name, "name": format!("pod-{index:06}"), "annotations": annotations,
        },
        "spec": {
            "schedulerName": name,
            "containers": [{
                "name": "main", "image": "registry.k8s.io/pause:3.10",
                "resources": {"limits": resources, "requests": resources},
            }],
        },
    }))
    .expect("a pod")
}
