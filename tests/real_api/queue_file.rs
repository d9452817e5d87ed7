//! The tree of queues comes from a file: it holds, and Queue objects are left alone. An edit of a
//! pod's queue after admission is told by an event.

use super::SOON;
use super::queues::{QUEUES, install, queue, remove, send};
use super::support::objects::{bare_pod, create_pod};
use super::support::scheduler::{Scheduler, Settings};
use super::support::story::Story;
use k8s_openapi::api::events::v1::Event;
use kube::api::{Api, ListParams};
use serde_json::{Value, json};
use std::time::{Duration, Instant};

#[tokio::test(flavor = "multi_thread")]
async fn a_tree_from_a_file_takes_the_place_of_objects() {
    let Some(story) = Story::begin("queue-file", 1, 8).await else { return };
    let space = story.namespace.clone();
    install(story.servers);
    let object = queue("object", &json!({ "namespaces": [&space] }));
    send(&story.client, http::Method::POST, QUEUES, &object).await.expect("a good queue");
    let file = story.servers.folder().join("queues.yaml");
    let filed =
        queue("filed", &json!({ "namespaces": [&space], "limit": { "nvidia.com/gpu": 2 } }));
    std::fs::write(&file, filed.to_string()).expect("the data folder is writable");
    let settings = Settings { queues: Some(file), ..Settings::default() };
    let scheduler = Scheduler::start(story.servers, &settings).await;

    for name in ["one", "two", "three"] {
        create_pod(&story.client, &bare_pod(&space, name, 1)).await;
    }
    let two = |ledger: &super::Ledger| ledger.bound_in(&space) == 2;
    story.auditor.expect(SOON, "two pods reach the limit of the file", two).await;
    let pod = format!("/api/v1/namespaces/{space}/pods/one");
    let edit = json!({ "metadata": { "annotations": { "mss-scheduler.io/queue": "object" } } });
    send(&story.client, http::Method::PATCH, &pod, &edit).await.expect("a good annotation");
    let note = ignored(&story, &space).await;
    assert!(note.contains("stays in queue filed") && note.contains("says object"), "{note}");
    assert!(story.auditor.read(two), "the third waits");
    let path = format!("{QUEUES}/object");
    let object = send(&story.client, http::Method::GET, &path, &Value::Null).await;
    assert_eq!(object.expect("a queue")["status"], Value::Null, "objects are left alone");
    drop(scheduler);
    remove(story.servers);
}

/// The note of the event on an edit that is ignored.
async fn ignored(story: &Story, namespace: &str) -> String {
    let events: Api<Event> = Api::namespaced(story.client.clone(), namespace);
    let deadline = Instant::now() + SOON;
    loop {
        let all = events.list(&ListParams::default()).await.expect("events can be listed");
        let is_it = |event: &&Event| event.reason.as_deref() == Some("QueueEditIgnored");
        if let Some(event) = all.iter().find(is_it) {
            return event.note.clone().unwrap_or_default();
        }
        assert!(Instant::now() < deadline, "the edit is not told");
        tokio::time::sleep(Duration::from_millis(200)).await;
    }
}
