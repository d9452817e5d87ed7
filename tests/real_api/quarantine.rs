//! A node whose kubelet refuses what is bound to it takes no new pods for a while, and says so.

use super::support::objects::{bare_pod, create_pod, unschedulable};
use super::support::scheduler::{Scheduler, Settings};
use super::support::story::Story;
use super::{A_WHILE, SOON};
use k8s_openapi::api::core::v1::{Node, Pod};
use k8s_openapi::api::events::v1::Event;
use kube::api::{Api, ListParams, Patch, PatchParams, PostParams};
use mss_scheduler::simulator::kubelet::{Fleet, FleetOptions, NodeShape};
use serde_json::json;
use std::time::{Duration, Instant};

const ILL: &str = "ill";

/// Plays the kubelet of the node that is ill: a device is gone, so each pod is refused.
async fn refuse_all(client: kube::Client, namespace: String) {
    let pods: Api<Pod> = Api::namespaced(client, &namespace);
    let there = ListParams::default().fields(&format!("spec.nodeName={ILL},status.phase=Pending"));
    let refusal = json!({ "status": {
        "phase": "Failed", "reason": "UnexpectedAdmissionError",
        "message": "Allocate failed due to no healthy devices present; cannot allocate",
    } });
    loop {
        for pod in pods.list(&there).await.expect("pods can be listed") {
            let name = pod.metadata.name.expect("a stored object has a name");
            let patch = Patch::Merge(&refusal);
            // it may be gone by now
            pods.patch_status(&name, &PatchParams::default(), &patch).await.ok();
        }
        tokio::time::sleep(Duration::from_millis(50)).await;
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_node_that_refuses_pods_again_and_again_is_quarantined() {
    let Some(mut story) = Story::begin("quarantine", 1, 8).await else { return };
    let options =
        FleetOptions { node_selector: Some(format!("!{ILL}")), ..FleetOptions::default() };
    story.kubelets = Fleet::start(story.client.clone(), options);
    let settings = Settings { more: "quarantine: {for: 15s}\n", ..Settings::default() };
    let scheduler = Scheduler::start(story.servers, &settings).await;
    let ns = story.namespace.clone();
    // the sound node is full, so what comes goes to the one that is ill
    create_pod(&story.client, &bare_pod(&ns, "full", 8)).await;
    let full = |ledger: &super::Ledger| ledger.bound_in(&ns) == 1;
    story.auditor.expect(SOON, "the sound node is full", full).await;
    let mut shape = NodeShape { gpus: 8, ..NodeShape::default() };
    shape.labels.insert(ILL.into(), "yes".into());
    let nodes: Api<Node> = Api::all(story.client.clone());
    nodes.create(&PostParams::default(), &shape.node(ILL)).await.expect("the node is created");
    let kubelet = tokio::spawn(refuse_all(story.client.clone(), ns.clone()));
    // one after the other: what was sent there together is one try
    for tries in 1..=3 {
        create_pod(&story.client, &bare_pod(&ns, &format!("try-{tries}"), 1)).await;
        let failed = |ledger: &super::Ledger| {
            ledger.live_in(&ns).filter(|pod| pod.phase == "Failed").count() == tries
        };
        story.auditor.expect(SOON, "the pod is refused", failed).await;
    }
    let note = event(&story, "NodeQuarantined").await;
    assert!(note.contains("UnexpectedAdmissionError"), "{note}");
    scheduler.shows("mss_nodes_quarantined", 1.0).await;
    scheduler.shows("mss_quarantines_total{result=\"Begun\"}", 1.0).await;

    // nothing new goes there, and what waits is told why
    create_pod(&story.client, &bare_pod(&ns, "next", 1)).await;
    let told = unschedulable(&story.client, &ns, 1, SOON).await;
    assert!(told[0].contains("1 node(s) were in quarantine"), "{told:?}");
    let next = |ledger: &super::Ledger| {
        ledger.live_in(&ns).any(|pod| pod.name == "next" && pod.node().is_some())
    };
    assert!(!story.auditor.wait_for(A_WHILE, next).await);

    // repaired by the time the quarantine is over
    kubelet.abort();
    story.auditor.expect(SOON, "the pod is placed when it ends", next).await;
    event(&story, "NodeQuarantineEnded").await;
    scheduler.shows("mss_nodes_quarantined", 0.0).await;
}

/// Waits for an event on the node, and returns what it says.
async fn event(story: &Story, reason: &str) -> String {
    let events: Api<Event> = Api::namespaced(story.client.clone(), "default");
    let deadline = Instant::now() + SOON;
    loop {
        let all = events.list(&ListParams::default()).await.expect("events can be listed");
        let found = all.iter().find(|event| {
            let about = event.regarding.as_ref().and_then(|object| object.name.as_deref());
            event.reason.as_deref() == Some(reason) && about == Some(ILL)
        });
        if let Some(event) = found {
            return event.note.clone().unwrap_or_default();
        }
        assert!(Instant::now() < deadline, "no event {reason} on the node");
        tokio::time::sleep(Duration::from_millis(100)).await;
    }
}
