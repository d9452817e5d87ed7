//! A pod that has run for as long as its queue lets it is told so and deleted; one that asks for
//! longer waits.

use super::queues::{QUEUES, install, queue, remove, send};
use super::support::objects::{bare_pod, create_pod};
use super::support::scheduler::{Scheduler, Settings};
use super::support::story::Story;
use super::{A_WHILE, SOON};
use k8s_openapi::api::core::v1::Pod;
use k8s_openapi::api::events::v1::Event;
use kube::api::{Api, ListParams};
use serde_json::json;
use std::time::{Duration, Instant};

#[tokio::test(flavor = "multi_thread")]
async fn a_pod_that_has_run_for_long_enough_is_ended() {
    let Some(story) = Story::begin("run-limits", 1, 8).await else { return };
    install(story.servers);
    let ns = &story.namespace;
    let limits = json!({ "default": "6s", "maximum": "1h" });
    let object = queue("short", &json!({ "namespaces": [ns], "runLimit": limits }));
    send(&story.client, http::Method::POST, QUEUES, &object).await.expect("a good queue");
    let scheduler = Scheduler::start(story.servers, &Settings::default()).await;

    let mut long = bare_pod(ns, "long", 1);
    long.spec.as_mut().expect("made with a spec").active_deadline_seconds = Some(7200);
    let mut own = bare_pod(ns, "own", 1);
    own.spec.as_mut().expect("made with a spec").active_deadline_seconds = Some(1800);
    for pod in [bare_pod(ns, "plain", 1), own, long] {
        create_pod(&story.client, &pod).await;
    }
    let pods: Api<Pod> = Api::namespaced(story.client.clone(), ns);
    let began = Instant::now();
    let two = |ledger: &super::Ledger| ledger.bound_in(ns) == 2;
    story.auditor.expect(SOON, "two may run", two).await;
    assert!(pods.get_opt("plain").await.expect("pods can be read").is_some(), "ended too soon");
    let events: Api<Event> = Api::namespaced(story.client.clone(), ns);
    let gone = |ledger: &super::Ledger| ledger.live_in(ns).all(|pod| pod.name != "plain");
    story.auditor.expect(SOON, "the pod of no deadline is ended", gone).await;
    assert!(began.elapsed() >= Duration::from_secs(5), "after {:?}", began.elapsed());
    let deadline = Instant::now() + SOON;
    loop {
        let all = events.list(&ListParams::default()).await.expect("events can be listed");
        let ended: Vec<&Event> =
            all.iter().filter(|e| e.reason.as_deref() == Some("RunLimitExceeded")).collect();
        if let [event] = ended[..] {
            let about = event.regarding.as_ref().and_then(|object| object.name.as_deref());
            assert_eq!(about, Some("plain"));
            break;
        }
        assert!(Instant::now() < deadline, "{} events", ended.len());
        tokio::time::sleep(Duration::from_millis(100)).await;
    }
    scheduler.shows("mss_run_limit_ends_total", 1.0).await;

    // its own deadline is within the limit, the other's is not
    let others = |ledger: &super::Ledger| ledger.bound_in(ns) != 1;
    assert!(!story.auditor.wait_for(A_WHILE, others).await, "one runs on");
    let told = waits(&pods).await;
    assert!(told.contains("are more than queue short allows, 1h"), "{told}");
    drop(scheduler);
    remove(story.servers);
}

/// What the pod that asks for too long is told.
async fn waits(pods: &Api<Pod>) -> String {
    let deadline = Instant::now() + SOON;
    loop {
        let pod = pods.get("long").await.expect("it waits");
        let conditions = pod.status.and_then(|status| status.conditions).unwrap_or_default();
        let told = conditions.into_iter().find(|c| c.type_ == "PodScheduled");
        if let Some(message) = told.filter(|c| c.status == "False").and_then(|c| c.message) {
            return message;
        }
        assert!(Instant::now() < deadline, "it is told nothing");
        tokio::time::sleep(Duration::from_millis(100)).await;
    }
}
