//! The limit: a process that knows whom to evict and makes the same writes.
//!
//! It waits until the last member of the asking gang is there, gives each victim its condition and
//! evicts it, binds the gang, and writes the events behind the binds. The API server lets all but
//! the first of those that meet at a disruption budget wait for half a second, so no more of one
//! budget are under way than it takes to have enough in flight.

use crate::bare_loop::{Target, bind, connect, pod_event, post};
use futures::{StreamExt, stream};
use k8s_openapi::api::core::v1::Pod;
use kube::Client;
use kube::api::{Api, Patch, PatchParams};
use kube_runtime::{WatchStreamExt, watcher};
use serde::{Deserialize, Serialize};
use serde_json::json;
use std::collections::BTreeMap;
use std::path::Path;

/// Calls in flight.
const IN_FLIGHT: usize = 64;
/// Evictions of one budget under way at most: with more, most of them wait for half a second.
const OF_ONE_BUDGET: usize = 4;
/// What it prints when it waits for the gang.
pub(super) const READY: &str = "ready for the gang";
const NOTE: &str = "evicted to make room for a gang of another queue, which is entitled to it";

/// What the process is told.
#[derive(Serialize, Deserialize)]
pub(super) struct Orders {
    pub(super) asker: String,
    /// Namespace, name and uid of each victim, by budget.
    pub(super) victims: Vec<Vec<[String; 3]>>,
    /// One for each member of the gang.
    pub(super) nodes: Vec<String>,
}

/// Carries out the orders, and waits to be killed.
pub(crate) fn run(kubeconfig: &Path, orders: &Path) -> ! {
    let text = std::fs::read_to_string(orders).expect("the orders can be read");
    let orders: Orders = serde_json::from_str(&text).expect("the bench wrote them");
    let runtime = tokio::runtime::Builder::new_current_thread()
        .enable_all()
        .build()
        .expect("a runtime can be built");
    runtime.block_on(async {
        let client = connect(kubeconfig).await;
        let gang = wait_for_gang(&client, &orders).await;
        let victims = orders.victims.into_iter().map(|lane| {
            lane.into_iter().map(|[namespace, name, uid]| Target { namespace, name, uid }).collect()
        });
        let victims: Vec<Vec<Target>> = victims.collect();
        let beside = (IN_FLIGHT / victims.len()).clamp(1, OF_ONE_BUDGET);
        stream::iter(&victims)
            .for_each_concurrent(IN_FLIGHT, |lane| evict_all(&client, lane, beside))
            .await;
        stream::iter(gang.iter().zip(&orders.nodes))
            .for_each_concurrent(IN_FLIGHT, |(pod, node)| bind(&client, pod, node))
            .await;
        let preempted = victims.iter().flatten().map(|pod| pod_event(pod, "Preempted", NOTE));
        let assigned = gang.iter().zip(&orders.nodes).map(|(pod, node)| {
            let Target { namespace, name, .. } = pod;
            pod_event(
                pod,
                "Scheduled",
                &format!("Successfully assigned {namespace}/{name} to {node}"),
            )
        });
        stream::iter(preempted.chain(assigned))
            .for_each_concurrent(IN_FLIGHT, |(path, event)| {
                let client = &client;
                async move { post(client, &path, &event).await }
            })
            .await;
        std::future::pending().await
    })
}

async fn wait_for_gang(client: &Client, orders: &Orders) -> Vec<Target> {
    let pods: Api<Pod> = Api::namespaced(client.clone(), &orders.asker);
    let config = watcher::Config::default();
    let mut pods = watcher(pods, config).default_backoff().boxed();
    let mut gang = BTreeMap::new();
    while gang.len() < orders.nodes.len() {
        match pods.next().await.expect("a watch has no end").expect("the watch is not cut") {
            watcher::Event::Apply(pod) | watcher::Event::InitApply(pod) => {
                let target = Target::of(pod.metadata);
                gang.insert(target.uid.clone(), target);
            }
            watcher::Event::InitDone => println!("{READY}"),
            watcher::Event::Init | watcher::Event::Delete(_) => {}
        }
    }
    gang.into_values().collect()
}

async fn evict_all(client: &Client, lane: &[Target], beside: usize) {
    stream::iter(lane).for_each_concurrent(beside, |victim| evict(client, victim)).await;
}

async fn evict(client: &Client, victim: &Target) {
    let Target { namespace, name, uid } = victim;
    let pods: Api<Pod> = Api::namespaced(client.clone(), namespace);
    let condition = json!({
        "type": "DisruptionTarget", "status": "True", "reason": "PreemptionByScheduler",
        "message": NOTE, "lastTransitionTime": "2026-01-02T03:04:05Z",
    });
    let patch = json!({"metadata": {"uid": uid}, "status": {"conditions": [condition]}});
    let told = pods.patch_status(name, &PatchParams::default(), &Patch::Strategic(patch)).await;
    told.expect("a status can be patched");
    let eviction = json!({
        "apiVersion": "policy/v1", "kind": "Eviction",
        "metadata": {"namespace": namespace, "name": name},
        "deleteOptions": {"preconditions": {"uid": uid}},
    });
    let path = format!("/api/v1/namespaces/{namespace}/pods/{name}/eviction");
    post(client, &path, &eviction).await;
}
