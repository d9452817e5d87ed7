//! Two queues share a cluster: what one borrows it gives back when the other asks, elastic members
//! first; and the objects of the queues tell how they stand.

use super::evictions::budget;
use super::queues::{QUEUES, install, queue, remove, send};
use super::support::audit;
use super::support::objects::{Gang, bare_pod, create_gangs, create_pods, namespace};
use super::support::scheduler::{Scheduler, Settings};
use super::support::story::Story;
use super::{A_WHILE, SOON, bound};
use k8s_openapi::api::core::v1::Pod;
use kube::api::{Api, ListParams};
use serde_json::{Value, json};
use std::time::{Duration, Instant};

async fn status(client: &kube::Client, name: &str) -> Value {
    let path = format!("{QUEUES}/{name}");
    let object = send(client, http::Method::GET, &path, &Value::Null).await.expect("a queue");
    object["status"].clone()
}

/// Waits until the status of a queue is as wanted, and returns it.
pub(super) async fn shown(
    client: &kube::Client,
    name: &str,
    wanted: impl Fn(&Value) -> bool,
) -> Value {
    let deadline = Instant::now() + SOON;
    loop {
        let status = status(client, name).await;
        if wanted(&status) {
            return status;
        }
        assert!(Instant::now() < deadline, "queue {name} stands otherwise: {status}");
        tokio::time::sleep(Duration::from_millis(200)).await;
    }
}

fn gpus(status: &Value, field: &str) -> Value {
    status[field]["nvidia.com/gpu"].clone()
}

/// The queues `lender` and `asker`, of equal weight, each for a namespace of its own.
async fn two_queues(story: &Story) -> [String; 2] {
    install(story.servers);
    let spaces = ["lender", "asker"].map(|name| format!("{}-{name}", story.namespace));
    for (name, space) in ["lender", "asker"].into_iter().zip(&spaces) {
        namespace(&story.client, space).await;
        let object = queue(name, &json!({ "namespaces": [space] }));
        send(&story.client, http::Method::POST, QUEUES, &object).await.expect("a good queue");
    }
    spaces
}

#[tokio::test(flavor = "multi_thread")]
async fn a_borrower_gives_back_and_the_queues_tell_how_they_stand() {
    let Some(story) = Story::begin("shares", 4, 8).await else { return };
    let [lender, asker] = two_queues(&story).await;
    let mut scheduler = Scheduler::start(story.servers, &Settings::default()).await;

    // the lender has everything, in gangs that need but one of their four members. Those come
    // first, onto one node, so that every other node can be vacated without ending a gang
    let gangs: Vec<Gang> = (0..8)
        .map(|number| Gang { minimum: 1, ..Gang::new(&lender, &format!("e{number}"), 4, 1) })
        .collect();
    let (first, others): (Vec<_>, Vec<_>) = gangs
        .iter()
        .map(|gang| {
            let mut pods = gang.pods();
            (pods.remove(0), pods)
        })
        .unzip();
    create_pods(&story.client, first).await;
    let minima = |ledger: &super::Ledger| ledger.bound_in(&lender) == 8;
    story.auditor.expect(SOON, "every gang has its minimum", minima).await;
    create_pods(&story.client, others.into_iter().flatten().collect()).await;
    let all = |ledger: &super::Ledger| ledger.bound_in(&lender) == 32;
    story.auditor.expect(SOON, "the lender borrows all 32 GPUs", all).await;
    let full = |status: &Value| gpus(status, "allocated") == "32" && status["runningGangs"] == 8;
    let status = shown(&story.client, "lender", full).await;
    assert_eq!(gpus(&status, "deserved"), "32", "nobody else asks: {status}");
    assert_eq!(status["usage"]["rate"].as_f64(), Some(128.0), "32 GPUs of factor 4: {status}");

    // within its share: half of the cluster
    create_gangs(&story.client, &[Gang::new(&asker, "wide", 2, 8)]).await;
    let seated = |ledger: &super::Ledger| bound(ledger, &asker, "wide") == 2;
    story.auditor.expect(SOON, "the asker has its gang", seated).await;
    let left: Vec<usize> = story.auditor.read(|ledger| {
        (0..8).map(|number| bound(ledger, &lender, &format!("e{number}"))).collect()
    });
    assert_eq!(left.iter().sum::<usize>(), 16, "16 GPUs are given back, and no more: {left:?}");
    assert!(left.iter().all(|members| *members >= 1), "no gang is under its minimum: {left:?}");
    story.auditor.assert_clean();
    let half =
        |status: &Value| gpus(status, "allocated") == "16" && gpus(status, "deserved") == "16";
    let before = shown(&story.client, "lender", half).await;
    shown(&story.client, "asker", half).await;
    told(&story, &lender).await;

    // another process goes on with the usage that was kept
    let used = |status: &Value| status["usage"]["amount"].as_f64().unwrap_or(0.0);
    scheduler.restart();
    scheduler.wait_ready(SOON).await;
    let path = format!("{QUEUES}/lender");
    let all_day = json!({ "timeZone": "Asia/Tokyo", "dispatch": ["0-12", "12-0"] });
    let heavier = json!({ "spec": { "weight": 3, "windows": all_day } });
    send(&story.client, http::Method::PATCH, &path, &heavier).await.expect("a good weight");
    let newer = |status: &Value| status["observedGeneration"] == 2;
    let after = shown(&story.client, "lender", newer).await;
    assert!(used(&after) > used(&before), "{before} then {after}");
    assert_eq!((&before["window"], &after["window"]), (&Value::Null, &json!("Open")));
    let user = |status: &Value| status["usage"]["users"][0]["amount"].as_f64().unwrap_or(0.0);
    assert!(user(&after) > user(&before), "{before} then {after}");

    // an object at fault says so, and the others stay in force
    let lost = queue("lost", &json!({ "parent": "nowhere" }));
    send(&story.client, http::Method::POST, QUEUES, &lost).await.expect("the schema allows it");
    let refused = |status: &Value| status["conditions"][0]["status"] == "False";
    let status = shown(&story.client, "lost", refused).await;
    let message = status["conditions"][0]["message"].as_str().unwrap_or("");
    assert!(message.contains("nowhere"), "{status}");
    let status = shown(&story.client, "lender", newer).await;
    assert_eq!(status["conditions"][0]["status"], "True", "{status}");
    remove(story.servers);
}

#[tokio::test(flavor = "multi_thread")]
async fn what_a_budget_protects_is_not_given_back() {
    let Some(story) = Story::begin("budgets", 2, 8).await else { return };
    let [lender, asker] = two_queues(&story).await;
    let _scheduler = Scheduler::start(story.servers, &Settings::default()).await;

    // the lender has everything; of the seven that are guarded one may go
    let labelled = |number: usize| {
        let mut pod = bare_pod(&lender, &format!("p-{number:02}"), 1);
        let label = if number < 7 { "guarded" } else { "plain" };
        pod.metadata.labels = Some([(label.to_owned(), "yes".to_owned())].into());
        pod
    };
    create_pods(&story.client, (0..16).map(labelled).collect()).await;
    let running = |ledger: &super::Ledger| {
        ledger.live_in(&lender).filter(|pod| pod.phase == "Running").count() == 16
    };
    story.auditor.expect(SOON, "the lender runs on all 16 GPUs", running).await;
    budget(&story, &lender, "guarded", (7, 1)).await;
    // the scheduler hears of it
    tokio::time::sleep(A_WHILE).await;

    let position = audit::position(story.servers.folder());
    create_gangs(&story.client, &[Gang::new(&asker, "half", 8, 1)]).await;
    let seated = |ledger: &super::Ledger| bound(ledger, &asker, "half") == 8;
    story.auditor.expect(SOON, "the asker has its half", seated).await;
    let pods: Api<Pod> = Api::namespaced(story.client.clone(), &lender);
    let left = pods.list(&ListParams::default()).await.expect("pods can be listed");
    let guarded = left.iter().filter(|pod| {
        pod.metadata.labels.as_ref().is_some_and(|labels| labels.contains_key("guarded"))
    });
    let guarded = guarded.count();
    assert_eq!(left.items.len(), 8, "8 GPUs are given back, and no more");
    assert!(guarded >= 6, "{guarded} of 7 guarded pods are left");
    let asked = audit::requests(story.servers.folder(), position);
    let evictions = asked.iter().filter(|request| request.resource == "pods/eviction");
    let codes: Vec<u16> = evictions.map(|request| request.code).collect();
    assert_eq!(codes, [201; 8], "no eviction is tried that the budget would refuse");

    // nothing more may go: the budget allows none, and the rest is the lender's share
    create_gangs(&story.client, &[Gang::new(&asker, "more", 1, 1)]).await;
    let more = |ledger: &super::Ledger| bound(ledger, &asker, "more") > 0;
    assert!(!story.auditor.wait_for(A_WHILE, more).await);
    story.auditor.assert_clean();
    remove(story.servers);
    eprintln!("budgets: 8 of 16 pods given back, {guarded} of 7 guarded ones left");
}

/// Each victim had an event that names the gang it made room for.
async fn told(story: &Story, namespace: &str) {
    let events: Api<k8s_openapi::api::events::v1::Event> =
        Api::namespaced(story.client.clone(), namespace);
    let deadline = Instant::now() + SOON;
    loop {
        let all = events.list(&ListParams::default()).await.expect("events can be listed");
        let preempted: Vec<&str> = all
            .iter()
            .filter(|event| event.reason.as_deref() == Some("Preempted"))
            .filter_map(|event| event.note.as_deref())
            .collect();
        if preempted.len() == 16 {
            assert!(preempted.iter().all(|note| note.contains("/wide")), "{preempted:?}");
            break;
        }
        assert!(Instant::now() < deadline, "{} of 16 victims were told", preempted.len());
        tokio::time::sleep(Duration::from_millis(200)).await;
    }
    let pods: Api<Pod> = Api::namespaced(story.client.clone(), namespace);
    let left = pods.list(&ListParams::default()).await.expect("pods can be listed");
    assert_eq!(left.items.len(), 16, "victims are gone");
}
