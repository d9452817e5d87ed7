//! What is seen from outside the binder: binds by watching, costs by asking the system.

use futures::StreamExt;
use k8s_openapi::api::core::v1::Pod;
use kube::api::{Api, ListParams, WatchEvent, WatchParams};
use kube::core::Request;
use kube::{Client, Resource};
use serde::Deserialize;
use std::collections::HashMap;
use std::time::{Duration, Instant};
use tokio::sync::watch;
use tokio::task::JoinHandle;

/// As much of a pod as the watch needs, so that watching takes little from the binder's cores.
#[derive(Clone, Debug, Deserialize)]
struct SlimPod {
    metadata: SlimMeta,
    #[serde(default)]
    spec: SlimSpec,
}

#[derive(Clone, Debug, Default, Deserialize)]
#[serde(default, rename_all = "camelCase")]
struct SlimMeta {
    name: String,
    resource_version: String,
}

#[derive(Clone, Debug, Default, Deserialize)]
#[serde(default, rename_all = "camelCase")]
struct SlimSpec {
    node_name: String,
}

/// Binds seen in one namespace.
#[derive(Clone, Debug, Default)]
pub(crate) struct Binds {
    /// Node by pod.
    pub(crate) nodes: HashMap<String, String>,
    pub(crate) first: Option<Instant>,
    pub(crate) last: Option<Instant>,
    /// A pod was seen on two nodes.
    pub(crate) moved: Option<String>,
}

/// Watches the pods of a namespace until it is dropped.
pub(crate) struct Observer {
    binds: watch::Receiver<Binds>,
    task: JoinHandle<()>,
}

impl Drop for Observer {
    fn drop(&mut self) {
        self.task.abort();
    }
}

impl Observer {
    pub(crate) async fn start(client: Client, namespace: String) -> Observer {
        let (sender, binds) = watch::channel(Binds::default());
        let pods: Api<Pod> = Api::namespaced(client.clone(), &namespace);
        let list = pods.list_metadata(&ListParams::default().limit(1)).await;
        let version = list.expect("pods can be listed").metadata.resource_version;
        let version = version.expect("a list has a version");
        let task = tokio::spawn(follow(client, namespace, version, sender));
        Observer { binds, task }
    }

    /// Waits until `count` pods are bound; false when that takes longer than `within`.
    pub(crate) async fn wait(&mut self, count: usize, within: Duration) -> bool {
        let enough = self.binds.wait_for(|binds| binds.nodes.len() >= count);
        matches!(tokio::time::timeout(within, enough).await, Ok(Ok(_)))
    }

    pub(crate) fn binds(&self) -> Binds {
        self.binds.borrow().clone()
    }
}

/// Goes on from the last event when the server ends the watch, which it does to those that are
/// slower than a burst of binds.
async fn follow(
    client: Client,
    namespace: String,
    mut version: String,
    sender: watch::Sender<Binds>,
) {
    let path = Pod::url_path(&(), Some(&namespace));
    loop {
        let parameters = WatchParams::default().timeout(290).disable_bookmarks();
        let request = Request::new(&path).watch(&parameters, &version).expect("a valid request");
        let events = client.request_events::<SlimPod>(request).await.expect("it can watch");
        let mut events = std::pin::pin!(events);
        while let Some(Ok(event)) = events.next().await {
            match event {
                WatchEvent::Added(pod) | WatchEvent::Modified(pod) | WatchEvent::Deleted(pod) => {
                    version.clone_from(&pod.metadata.resource_version);
                    sender.send_modify(|binds| record(binds, pod));
                }
                WatchEvent::Bookmark(_) => {}
                WatchEvent::Error(status) => panic!("the observer missed events: {status}"),
            }
        }
    }
}

fn record(binds: &mut Binds, pod: SlimPod) {
    if pod.spec.node_name.is_empty() {
        return;
    }
    let (name, node) = (pod.metadata.name, pod.spec.node_name);
    match binds.nodes.get(&name) {
        Some(known) if *known == node => {}
        Some(known) => binds.moved = Some(format!("{name} from {known} to {node}")),
        None => {
            let now = Instant::now();
            binds.first.get_or_insert(now);
            binds.last = Some(now);
            binds.nodes.insert(name, node);
        }
    }
}

/// What the API server has done since it started, by its own metrics.
#[derive(Clone, Copy, Debug, Default)]
pub(crate) struct ServerWork {
    /// Processor seconds.
    pub(crate) cpu: f64,
    /// Requests that write, leases apart.
    pub(crate) writes: u64,
    /// Events created.
    pub(crate) events: u64,
}

impl ServerWork {
    pub(crate) async fn read(client: &Client) -> ServerWork {
        let request = http::Request::get("/metrics").body(Vec::new()).expect("a valid request");
        let text = client.request_text(request).await.expect("the API server has metrics");
        let mut work = ServerWork::default();
        for line in text.lines() {
            let value = || line.rsplit(' ').next().and_then(|text| text.parse::<f64>().ok());
            if line.starts_with("process_cpu_seconds_total ") {
                work.cpu = value().unwrap_or_default();
            }
            if !line.starts_with("apiserver_request_total{") {
                continue;
            }
            let has = |label: &str| line.contains(label);
            let verbs = ["POST", "PUT", "PATCH", "APPLY", "DELETE", "DELETECOLLECTION"];
            let writes = verbs.iter().any(|verb| has(&format!("verb=\"{verb}\"")));
            let count = value().unwrap_or_default() as u64;
            if writes && !has("resource=\"leases\"") {
                work.writes += count;
            }
            if has("verb=\"POST\"") && has("resource=\"events\"") && has("code=\"201\"") {
                work.events += count;
            }
        }
        work
    }
}

/// Processor time of a process so far, user and kernel mode.
pub(crate) fn cpu(process: u32) -> Duration {
    let text = std::fs::read_to_string(format!("/proc/{process}/stat")).expect("it runs on Linux");
    // the name in parentheses may hold spaces; the times are the 12th and 13th field after it
    let after = text.rsplit(')').next().expect("split gives at least one part");
    let fields: Vec<&str> = after.split_whitespace().collect();
    let ticks = |index: usize| fields[index].parse::<u64>().expect("a number of ticks");
    // Linux reports in hundredths of a second on every architecture
    Duration::from_millis((ticks(11) + ticks(12)) * 10)
}

/// Largest memory that a process has held, in MB of 10^6 bytes.
pub(crate) fn peak_mb(process: u32) -> f64 {
    let path = format!("/proc/{process}/status");
    let text = std::fs::read_to_string(path).expect("it runs on Linux");
    let line = text.lines().find_map(|line| line.strip_prefix("VmHWM:")).expect("Linux tells it");
    let kib = line.trim().trim_end_matches(" kB").parse::<f64>().expect("a number of KiB");
    kib * 1024.0 / 1e6
}
