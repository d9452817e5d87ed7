//! What happened to each victim, read afterwards from what the API server keeps: its history of the
//! pods, and the events.

use futures::StreamExt;
use k8s_openapi::api::core::v1::Pod;
use k8s_openapi::api::events::v1::Event;
use kube::api::{Api, ListParams, WatchEvent, WatchParams};
use kube::core::Request;
use kube::{Client, Resource};
use serde::Deserialize;
use std::collections::{BTreeMap, BTreeSet};
use std::time::Duration;

#[derive(Clone, Debug, Deserialize)]
struct SlimPod {
    metadata: SlimMeta,
    #[serde(default)]
    status: SlimStatus,
}

#[derive(Clone, Debug, Default, Deserialize)]
#[serde(default)]
struct SlimMeta {
    uid: String,
}

#[derive(Clone, Debug, Default, Deserialize)]
#[serde(default)]
struct SlimStatus {
    conditions: Vec<Condition>,
}

#[derive(Clone, Debug, Default, Deserialize)]
#[serde(default)]
struct Condition {
    r#type: String,
    status: String,
    reason: String,
}

/// What was seen of a pod, in this order.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(super) struct Fate {
    /// It bore the condition of one that a scheduler evicts to make room.
    pub(super) told: bool,
    /// The Eviction API has then put its own reason there: nothing else does.
    pub(super) evicted: bool,
    /// It was then deleted.
    pub(super) gone: bool,
}

/// The fates of all pods of a namespace of which something was seen since `version`, as soon as
/// `gone` of them are deleted. It watches from the past, so that nothing is watched meanwhile.
pub(super) async fn fates(
    client: &Client,
    namespace: &str,
    version: &str,
    gone: usize,
) -> BTreeMap<String, Fate> {
    let path = Pod::url_path(&(), Some(namespace));
    let parameters = WatchParams::default().timeout(20).disable_bookmarks();
    let request = Request::new(&path).watch(&parameters, version).expect("a valid request");
    let events = client.request_events::<SlimPod>(request).await.expect("it can watch");
    let mut events = std::pin::pin!(events);
    let mut fates: BTreeMap<String, Fate> = BTreeMap::new();
    while fates.values().filter(|fate| fate.gone).count() < gone {
        let patience = Duration::from_secs(25);
        let event = tokio::time::timeout(patience, events.next()).await;
        let Ok(Some(event)) = event else { break };
        match event.expect("the watch is not cut") {
            WatchEvent::Added(pod) | WatchEvent::Modified(pod) => {
                let fate = fates.entry(pod.metadata.uid.clone()).or_default();
                let target = pod.status.conditions.iter().find(|c| c.r#type == "DisruptionTarget");
                match target {
                    Some(c) if c.status == "True" && c.reason == "PreemptionByScheduler" => {
                        fate.told = true;
                    }
                    Some(c) if c.status == "True" && c.reason == "EvictionByEvictionAPI" => {
                        fate.evicted = fate.told;
                    }
                    _ => {}
                }
            }
            WatchEvent::Deleted(pod) => {
                let fate = fates.entry(pod.metadata.uid).or_default();
                fate.gone = fate.evicted;
            }
            WatchEvent::Bookmark(_) => {}
            WatchEvent::Error(status) => panic!("the history was forgotten: {status}"),
        }
    }
    fates
}

/// Uids of the pods that have an event `Preempted`; none has two.
pub(super) async fn preempted(client: &Client, namespace: &str) -> BTreeSet<String> {
    let events: Api<Event> = Api::namespaced(client.clone(), namespace);
    let found = ListParams::default().fields("reason=Preempted");
    let found = events.list(&found).await.expect("events can be listed").items;
    let count = found.len();
    let uids = found.into_iter().filter_map(|event| event.regarding?.uid);
    let uids: BTreeSet<String> = uids.collect();
    assert_eq!(uids.len(), count, "{namespace}: a victim was told twice");
    uids
}

/// The version of the newest change of pods.
pub(super) async fn version(client: &Client, namespace: &str) -> String {
    let pods: Api<Pod> = Api::namespaced(client.clone(), namespace);
    let list = pods.list_metadata(&ListParams::default().limit(1)).await;
    let version = list.expect("pods can be listed").metadata.resource_version;
    version.expect("a list has a version")
}
