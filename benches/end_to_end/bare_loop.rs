//! The limit: a process that watches pods as a scheduler must and binds each to the next node.

use futures::StreamExt;
use futures::stream::FuturesUnordered;
use jiff::Timestamp;
use k8s_openapi::api::core::v1::{Node, Pod};
use k8s_openapi::apimachinery::pkg::apis::meta::v1::ObjectMeta;
use kube::api::{Api, ListParams};
use kube::config::{KubeConfigOptions, Kubeconfig};
use kube::{Client, Config};
use kube_runtime::{WatchStreamExt, watcher};
use serde::de::IgnoredAny;
use serde_json::{Value, json};
use std::collections::{HashSet, VecDeque};
use std::path::Path;

/// Binds in flight.
const IN_FLIGHT: usize = 64;

/// Binds the pods of `scheduler_name` until it is killed.
pub(crate) fn run(kubeconfig: &Path, scheduler_name: &str, with_events: bool) -> ! {
    let runtime = tokio::runtime::Builder::new_current_thread()
        .enable_all()
        .build()
        .expect("a runtime can be built");
    runtime.block_on(bind_all(kubeconfig, scheduler_name, with_events))
}

pub(crate) async fn connect(kubeconfig: &Path) -> Client {
    let file = Kubeconfig::read_from(kubeconfig).expect("a valid kubeconfig");
    let options = KubeConfigOptions::default();
    let mut config =
        Config::from_custom_kubeconfig(file, &options).await.expect("a valid kubeconfig");
    config.default_retry = false;
    Client::try_from(config).expect("a client can be made of a valid configuration")
}

async fn bind_all(kubeconfig: &Path, scheduler_name: &str, with_events: bool) -> ! {
    let client = connect(kubeconfig).await;
    let nodes = Api::<Node>::all(client.clone())
        .list_metadata(&ListParams::default())
        .await
        .expect("nodes can be listed");
    let mut nodes = nodes.items.into_iter().filter_map(|node| node.metadata.name).cycle();

    // what upstream's scheduler watches
    let live = "status.phase!=Succeeded,status.phase!=Failed";
    let config = watcher::Config::default().fields(live);
    let mut pods = watcher(Api::<Pod>::all(client.clone()), config).default_backoff().boxed();
    // bounded by the pods that the bench creates
    let mut waiting: VecDeque<Target> = VecDeque::new();
    let mut seen: HashSet<String> = HashSet::new();
    let mut binding = FuturesUnordered::new();
    loop {
        while binding.len() < IN_FLIGHT
            && let Some(pod) = waiting.pop_front()
        {
            let node = nodes.next().expect("there are nodes");
            binding.push(bind_and_tell(client.clone(), pod, node, with_events));
        }
        tokio::select! {
            Some(event) = pods.next() => {
                let (watcher::Event::Apply(pod) | watcher::Event::InitApply(pod)) =
                    event.expect("the watch of the bench is not cut")
                else {
                    continue;
                };
                let spec = pod.spec.expect("a pod has a spec");
                if spec.scheduler_name.as_deref() != Some(scheduler_name)
                    || spec.node_name.is_some()
                {
                    continue;
                }
                let target = Target::of(pod.metadata);
                if seen.insert(target.uid.clone()) {
                    waiting.push_back(target);
                }
            }
            Some(()) = binding.next() => {}
        }
    }
}

/// A pod to write about.
pub(crate) struct Target {
    pub(crate) namespace: String,
    pub(crate) name: String,
    pub(crate) uid: String,
}

impl Target {
    pub(crate) fn of(meta: ObjectMeta) -> Target {
        Target {
            namespace: meta.namespace.expect("a stored pod has a namespace"),
            name: meta.name.expect("a stored pod has a name"),
            uid: meta.uid.expect("a stored pod has a uid"),
        }
    }
}

async fn bind_and_tell(client: Client, pod: Target, node: String, with_events: bool) {
    bind(&client, &pod, &node).await;
    if with_events {
        let Target { namespace, name, .. } = &pod;
        let note = format!("Successfully assigned {namespace}/{name} to {node}");
        let (path, event) = pod_event(&pod, "Scheduled", &note);
        post(&client, &path, &event).await;
    }
}

pub(crate) async fn bind(client: &Client, pod: &Target, node: &str) {
    let Target { namespace, name, uid } = pod;
    let binding = json!({
        "apiVersion": "v1", "kind": "Binding",
        "metadata": {"namespace": namespace, "name": name, "uid": uid},
        "target": {"apiVersion": "v1", "kind": "Node", "name": node},
    });
    post(client, &format!("/api/v1/namespaces/{namespace}/pods/{name}/binding"), &binding).await;
}

/// An event about a pod, and where it is posted.
pub(crate) fn pod_event(pod: &Target, reason: &str, note: &str) -> (String, Value) {
    let Target { namespace, name, uid } = pod;
    let (preempted, now) = (reason == "Preempted", Timestamp::now());
    let event = json!({
        "apiVersion": "events.k8s.io/v1", "kind": "Event",
        "metadata": {"namespace": namespace, "name": format!("{name}.{:x}", now.as_nanosecond())},
        "eventTime": now.strftime("%Y-%m-%dT%H:%M:%S%.6fZ").to_string(),
        "reportingController": "bare-loop", "reportingInstance": "bare-loop-0",
        "action": if preempted { "Preempting" } else { "Binding" },
        "reason": reason, "type": if preempted { "Warning" } else { "Normal" },
        "regarding": {
            "apiVersion": "v1", "kind": "Pod", "namespace": namespace, "name": name, "uid": uid,
        },
        "note": note,
    });
    (format!("/apis/events.k8s.io/v1/namespaces/{namespace}/events"), event)
}

pub(crate) async fn post(client: &Client, path: &str, body: &Value) {
    let body = serde_json::to_vec(body).expect("a JSON value can be written");
    let request = http::Request::post(path)
        .header(http::header::CONTENT_TYPE, "application/json")
        .body(body)
        .expect("a valid request");
    client.request::<IgnoredAny>(request).await.expect("the API server takes it");
}
