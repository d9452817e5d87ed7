//! The task that plays the nodes: watches in, status patches out.

use super::facts::{self, PodFacts};
use super::heartbeat::{self, Names};
use super::machine::{Machine, Outcome, Step};
use super::{FleetOptions, status};
use futures::future::BoxFuture;
use futures::stream::{BoxStream, FuturesUnordered};
use futures::{FutureExt, StreamExt};
use jiff::Timestamp;
use k8s_openapi::api::core::v1::{Node, Pod};
use kube::api::{DeleteParams, Patch, PatchParams, Preconditions};
use kube::core::Request;
use kube::{Api, Client, Resource};
use kube_runtime::{WatchStreamExt, watcher};
use serde::de::IgnoredAny;
use std::collections::HashSet;
use std::future::pending;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Instant;
use tokio::task::JoinHandle;

/// What a fleet has done so far.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct FleetCounts {
    /// Pods reported as running.
    pub started: u64,
    /// Pods whose containers ended well.
    pub succeeded: u64,
    /// Pods whose containers failed, by annotation.
    pub failed: u64,
    /// Pods refused because they do not fit. With one scheduler this stays zero.
    pub rejected: u64,
    /// Pods deleted after their grace.
    pub deleted: u64,
    /// Writes that failed and were tried again.
    pub retried: u64,
}

#[derive(Debug, Default)]
struct Counters {
    started: AtomicU64,
    succeeded: AtomicU64,
    failed: AtomicU64,
    rejected: AtomicU64,
    deleted: AtomicU64,
    retried: AtomicU64,
}

/// Running fake kubelets. Dropping it stops them; the cluster then looks as after a power cut.
#[derive(Debug)]
pub struct Fleet {
    task: JoinHandle<()>,
    counters: Arc<Counters>,
}

impl Drop for Fleet {
    fn drop(&mut self) {
        self.task.abort();
    }
}

impl Fleet {
    /// Starts playing on the current tokio runtime and returns at once. Lost connections are
    /// taken up again for as long as the fleet lives.
    #[must_use]
    pub fn start(client: Client, options: FleetOptions) -> Self {
        let counters = Arc::new(Counters::default());
        let task = tokio::spawn(Loop::new(client, options, counters.clone()).run());
        Self { task, counters }
    }

    /// What was done so far.
    #[must_use]
    pub fn counts(&self) -> FleetCounts {
        let read = |counter: &AtomicU64| counter.load(Ordering::Relaxed);
        FleetCounts {
            started: read(&self.counters.started),
            succeeded: read(&self.counters.succeeded),
            failed: read(&self.counters.failed),
            rejected: read(&self.counters.rejected),
            deleted: read(&self.counters.deleted),
            retried: read(&self.counters.retried),
        }
    }
}

type Write = BoxFuture<'static, (Box<str>, Step, Outcome)>;

struct Loop {
    client: Client,
    options: FleetOptions,
    counters: Arc<Counters>,
    machine: Machine,
    began: Instant,
    names: Names,
    next_address: u32,
    /// Of the list that is being received: pods to admit in order when it is complete.
    listed_pods: Vec<PodFacts>,
    listed_nodes: HashSet<Box<str>>,
}

impl Loop {
    fn new(client: Client, options: FleetOptions, counters: Arc<Counters>) -> Self {
        Self {
            machine: Machine::new(options.start_delay, options.grace_max),
            client,
            options,
            counters,
            began: Instant::now(),
            names: Names::default(),
            next_address: 0,
            listed_pods: Vec::new(),
            listed_nodes: HashSet::new(),
        }
    }

    async fn run(mut self) {
        let mut nodes = self.watch_nodes();
        let mut pods = self.watch_pods();
        let mut beats = match self.options.heartbeat {
            Some(every) => heartbeat::run(self.client.clone(), every, self.names.clone()).boxed(),
            None => pending().boxed(),
        };
        let mut writes: FuturesUnordered<Write> = FuturesUnordered::new();
        loop {
            let mut wake = None;
            while writes.len() < self.options.concurrency.max(1) {
                match self.machine.pop(self.began.elapsed()) {
                    Some((pod, step)) => writes.push(self.write(pod, step)),
                    None => {
                        wake = self.machine.next_due();
                        break;
                    }
                }
            }
            let timer = async {
                match wake {
                    Some(at) => tokio::time::sleep_until((self.began + at).into()).await,
                    None => pending().await,
                }
            };
            tokio::select! {
                Some(event) = nodes.next() => self.on_node(event),
                Some(event) = pods.next() => self.on_pod(event),
                Some((uid, step, outcome)) = writes.next() => {
                    self.count(&step, outcome);
                    self.machine.finished(self.began.elapsed(), &uid, step, outcome);
                }
                () = timer => {}
                () = &mut beats => {}
            }
        }
    }

    fn watch_nodes(&self) -> BoxStream<'static, watcher::Result<watcher::Event<Node>>> {
        let mut config = watcher::Config::default();
        config.label_selector.clone_from(&self.options.node_selector);
        watcher(Api::all(self.client.clone()), config).default_backoff().boxed()
    }

    fn watch_pods(&self) -> BoxStream<'static, watcher::Result<watcher::Event<Pod>>> {
        // a pod enters this watch when it is bound
        let config = watcher::Config::default().fields("spec.nodeName!=");
        watcher(Api::all(self.client.clone()), config).default_backoff().boxed()
    }

    fn on_node(&mut self, event: watcher::Result<watcher::Event<Node>>) {
        let now = self.began.elapsed();
        match event {
            Ok(watcher::Event::Init) => self.listed_nodes.clear(),
            Ok(watcher::Event::InitApply(node)) => {
                self.listed_nodes.extend(node.metadata.name.as_deref().map(Into::into));
                self.node_applied(&node);
            }
            Ok(watcher::Event::Apply(node)) => self.node_applied(&node),
            Ok(watcher::Event::Delete(node)) => {
                let name = node.metadata.name.unwrap_or_default();
                self.machine.node_deleted(&name);
                self.names.lock().remove(name.as_str());
            }
            Ok(watcher::Event::InitDone) => {
                let listed = std::mem::take(&mut self.listed_nodes);
                let known: Vec<Box<str>> = self.machine.node_names().map(Into::into).collect();
                for name in known.iter().filter(|name| !listed.contains(*name)) {
                    self.machine.node_deleted(name);
                }
                *self.names.lock() = listed.into_iter().collect();
            }
            Err(error) => tracing::debug!("watching nodes at {now:?}: {error}"),
        }
    }

    fn node_applied(&mut self, node: &Node) {
        let Some(name) = node.metadata.name.as_deref() else { return };
        let allocatable = facts::allocatable(node);
        self.machine.node_applied(self.began.elapsed(), Timestamp::now(), name, allocatable);
        self.names.lock().insert(name.into());
    }

    fn on_pod(&mut self, event: watcher::Result<watcher::Event<Pod>>) {
        let now = self.began.elapsed();
        match event {
            Ok(watcher::Event::Init) => self.listed_pods.clear(),
            Ok(watcher::Event::InitApply(pod)) => self.listed_pods.extend(PodFacts::read(&pod)),
            Ok(watcher::Event::InitDone) => {
                let mut listed = std::mem::take(&mut self.listed_pods);
                let uids: HashSet<_> = listed.iter().map(|pod| pod.uid.clone()).collect();
                self.machine.retain_pods(|uid| uids.contains(uid));
                // as a kubelet that restarts: what runs keeps its place, the oldest comes next
                listed.sort_by_key(|pod| (pod.phase, pod.created));
                for pod in listed {
                    self.machine.pod_applied(now, Timestamp::now(), pod);
                }
            }
            Ok(watcher::Event::Apply(pod)) => {
                if let Some(pod) = PodFacts::read(&pod) {
                    self.machine.pod_applied(now, Timestamp::now(), pod);
                }
            }
            Ok(watcher::Event::Delete(pod)) => {
                self.machine.pod_deleted(pod.metadata.uid.as_deref().unwrap_or_default());
            }
            Err(error) => tracing::debug!("watching pods at {now:?}: {error}"),
        }
    }

    fn write(&mut self, pod: PodFacts, step: Step) -> Write {
        self.next_address = self.next_address.wrapping_add(1);
        let request = request(&pod, &step, self.next_address);
        let client = self.client.clone();
        async move {
            let answer = match request {
                Ok(request) => client.request::<IgnoredAny>(request).await,
                Err(error) => Err(kube::Error::BuildRequest(error)),
            };
            let outcome = match answer {
                Ok(_) => Outcome::Done,
                Err(kube::Error::Api(status)) if status.code == 404 => Outcome::Gone,
                Err(error) => {
                    tracing::debug!("writing pod {}/{}: {error}", pod.namespace, pod.name);
                    Outcome::Retry
                }
            };
            (pod.uid, step, outcome)
        }
        .boxed()
    }

    fn count(&self, step: &Step, outcome: Outcome) {
        let counters = &self.counters;
        let counter = match (outcome, step) {
            (Outcome::Retry, _) => &counters.retried,
            (Outcome::Gone, _) => return,
            (_, Step::Start) => &counters.started,
            (_, Step::Finish { failed: false }) => &counters.succeeded,
            (_, Step::Finish { failed: true }) => &counters.failed,
            (_, Step::Reject { .. }) => &counters.rejected,
            (_, Step::Delete) => &counters.deleted,
        };
        counter.fetch_add(1, Ordering::Relaxed);
    }
}

fn request(
    pod: &PodFacts,
    step: &Step,
    address: u32,
) -> Result<http::Request<Vec<u8>>, kube::core::request::Error> {
    let pods = Request::new(Pod::url_path(&(), Some(&pod.namespace)));
    match status::patch(pod, step, Timestamp::now(), address) {
        Some(patch) => {
            let patch = Patch::Strategic(&patch);
            pods.patch_subresource("status", &pod.name, &PatchParams::default(), &patch)
        }
        None => {
            let uid = Some(pod.uid.to_string());
            let preconditions = Some(Preconditions { uid, resource_version: None });
            let parameters = DeleteParams { preconditions, ..DeleteParams::default() };
            pods.delete(&pod.name, &parameters.grace_period(0))
        }
    }
}
