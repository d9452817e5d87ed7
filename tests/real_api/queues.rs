//! The kind `Queue` on a real API server: what it refuses, what it shows, and what the watch of it
//! hears before it is installed, while it is, and after.

use super::SOON;
use super::support::control_plane::{ControlPlane, User};
use super::support::story::Story;
use kube_runtime::watcher;
use mss_scheduler::kubernetes::client::configure;
use mss_scheduler::kubernetes::convert::{Converter, queue::QueueError};
use mss_scheduler::kubernetes::{Connection, watch};
use mss_scheduler::model::QueueSpec;
use mss_scheduler::scheduler::{Event, Kind};
use mss_scheduler::telemetry::Metrics;
use serde_json::{Value, json};
use std::path::Path;
use std::sync::{Arc, Mutex};
use std::time::Duration;
use tokio::sync::mpsc;

/// The watch looks every 30 seconds whether the kind is there.
const INSTALLED: Duration = Duration::from_secs(60);
const CRD: &str = concat!(env!("CARGO_MANIFEST_DIR"), "/manifests/crd.yaml");
pub(super) const QUEUES: &str = "/apis/mss-scheduler.io/v1alpha1/queues";

#[derive(Default)]
struct Seen {
    failed: Mutex<Vec<String>>,
    refused: Mutex<Vec<String>>,
}

impl watch::Observer for Seen {
    fn listed(&self, _: Kind) {}

    fn failed(&self, kind: Kind, error: &watcher::Error) {
        self.failed.lock().expect("no holder panics").push(format!("{kind:?}: {error}"));
    }

    fn refused(&self, error: &QueueError, in_force: bool) {
        let text = format!("{error} ({in_force})");
        self.refused.lock().expect("no holder panics").push(text);
    }
}

/// What the scheduler would hear of queues.
struct Heard(mpsc::Receiver<Event>);

impl Heard {
    async fn next(&mut self, within: Duration) -> Event {
        let next = async {
            loop {
                let event = self.0.recv().await.expect("the watches go on");
                let of_queues = matches!(
                    event,
                    Event::ListStarted(Kind::Queue)
                        | Event::ListEnded(Kind::Queue)
                        | Event::QueueApplied(_)
                        | Event::QueueDeleted(_)
                );
                if of_queues {
                    return event;
                }
            }
        };
        tokio::time::timeout(within, next).await.expect("an event of queues")
    }

    /// A list, with the names in it.
    async fn list(&mut self, within: Duration) -> Vec<String> {
        let first = self.next(within).await;
        assert!(matches!(first, Event::ListStarted(Kind::Queue)), "{first:?}");
        let mut names = Vec::new();
        loop {
            match self.next(SOON).await {
                Event::QueueApplied(spec) => names.push(spec.name.into()),
                Event::ListEnded(Kind::Queue) => return names,
                other => panic!("{other:?}"),
            }
        }
    }

    async fn applied(&mut self) -> QueueSpec {
        match self.next(SOON).await {
            Event::QueueApplied(spec) => *spec,
            other => panic!("{other:?}"),
        }
    }
}

async fn watch_queues(servers: &ControlPlane) -> (Heard, Arc<Seen>) {
    let path = servers.kubeconfig(User::Scheduler);
    let config = configure(Some(&path)).await.expect("a valid kubeconfig");
    let metrics = Arc::new(Metrics::new(["mss-scheduler"]));
    let connection = Connection::of(config, &metrics, (None, None)).expect("a client");
    let (events, inbox) = mpsc::channel(1024);
    let seen = Arc::new(Seen::default());
    tokio::spawn(watch::run(connection.watches, Converter::default(), events, seen.clone()));
    (Heard(inbox), seen)
}

/// Installs the kind, if it is not.
pub(super) fn install(servers: &ControlPlane) {
    servers.run_kubectl(&["apply", "-f", CRD]).expect("the definition is accepted");
    let established = "--for=condition=Established";
    servers.run_kubectl(&["wait", established, "crd/queues.mss-scheduler.io"]).expect("served");
}

/// Removes the kind and with it all queues, as other stories begin without.
pub(super) fn remove(servers: &ControlPlane) {
    servers.run_kubectl(&["delete", "-f", CRD]).expect("the definition can be removed");
}

pub(super) fn queue(name: &str, spec: &Value) -> Value {
    json!({
        "apiVersion": "mss-scheduler.io/v1alpha1", "kind": "Queue",
        "metadata": {"name": name}, "spec": spec,
    })
}

pub(super) async fn send(
    client: &kube::Client,
    method: http::Method,
    path: &str,
    body: &Value,
) -> Result<Value, kube::Error> {
    let patch = method == http::Method::PATCH;
    let kind = if patch { "application/merge-patch+json" } else { "application/json" };
    let request = http::Request::builder()
        .method(method)
        .uri(path)
        .header(http::header::CONTENT_TYPE, kind)
        .body(body.to_string().into_bytes())
        .expect("a valid request");
    client.request(request).await
}

/// Specs that the API server refuses, each with words of its answer.
fn refused() -> Vec<(Value, &'static str)> {
    let amounts = |map: &str, value: Value| json!({ map: { "nvidia.com/gpu": value } });
    let many: serde_json::Map<String, Value> =
        (0..65).map(|number| (format!("example.com/r{number}"), json!(1))).collect();
    vec![
        (json!({ "weight": 0 }), "spec.weight"),
        (json!({ "weight": 1_000_001 }), "spec.weight"),
        (json!({ "weight": "2" }), "spec.weight"),
        (json!({ "overQuotaWeight": 0 }), "spec.overQuotaWeight"),
        (json!({ "overQuotaWeight": 1_000_001 }), "spec.overQuotaWeight"),
        (json!({ "parent": "bad" }), "a queue cannot be its own parent"),
        (json!({ "parent": "No Name" }), "spec.parent"),
        (amounts("quota", json!(-1)), "spec.quota.nvidia.com/gpu"),
        (amounts("quota", json!("-1")), "spec.quota.nvidia.com/gpu"),
        (amounts("limit", json!("eight")), "spec.limit.nvidia.com/gpu"),
        (amounts("lendLimit", json!(1.5)), "spec.lendLimit.nvidia.com/gpu"),
        (json!({ "borrowLimit": { "gpu": 1 } }), "resources that nodes offer"),
        (json!({ "quota": { "nvidia.com/gpu@type": 1 } }), "is written resource@key=value"),
        (json!({ "quota": many }), "spec.quota"),
        (
            json!({ "quota": { "cpu": "2500m" }, "limit": { "cpu": 2 } }),
            "the limit of a resource must be at least its quota",
        ),
        (
            json!({ "quota": { "memory": "2Gi" }, "limit": { "memory": "2G" } }),
            "the limit of a resource must be at least its quota",
        ),
        (json!({ "ordering": "Random" }), "spec.ordering"),
        (json!({ "ageing": { "points": 1 } }), "spec.ageing.every"),
        (json!({ "ageing": { "points": 0, "every": "1h" } }), "spec.ageing.points"),
        (json!({ "windows": { "run": [] } }), "spec.windows.run"),
        (json!({ "windows": { "dispatch": ["8:00"] } }), "spec.windows.dispatch[0]"),
        (json!({ "windows": { "dispatch": ["8:00-5:9:00"] } }), "spec.windows.dispatch[0]"),
        (json!({ "windows": { "timeZone": "" } }), "spec.windows.timeZone"),
        (json!({ "priority": 3_000_000_000_u64 }), "spec.priority"),
        (json!({ "namespaces": ["a", "a"] }), "spec.namespaces"),
        (json!({ "namespaces": ["a_b"] }), "spec.namespaces[0]"),
        (json!({ "namespaces": vec!["a"; 1001] }), "spec.namespaces"),
        (json!({ "preemption": { "grace": "soon" } }), "spec.preemption.grace"),
        (json!({ "preemption": { "minRuntime": "10" } }), "spec.preemption.minRuntime"),
        (json!({ "open": "yes" }), "spec.open"),
    ]
}

#[tokio::test(flavor = "multi_thread")]
async fn queues_are_checked_shown_and_watched() {
    let Some(story) = Story::begin("queues", 0, 0).await else { return };
    let (servers, client) = (story.servers, &story.client);
    let (mut heard, seen) = watch_queues(servers).await;
    // the kind is not installed: the scheduler need not wait
    assert_eq!(heard.list(SOON).await, [""; 0]);

    let manifests = Path::new(env!("CARGO_MANIFEST_DIR")).join("manifests");
    let tree = manifests.join("examples/queues.yaml").to_str().expect("a path of text").to_owned();
    install(servers);
    servers.run_kubectl(&["apply", "--validate=strict", "-f", &tree]).expect("a good tree");
    for (spec, words) in refused() {
        let error = send(client, http::Method::POST, QUEUES, &queue("bad", &spec)).await;
        let error = error.expect_err(&format!("{spec} is refused")).to_string();
        assert!(error.contains(words), "{spec}: {error}");
    }

    let status = json!({ "status": {
        "deserved": { "nvidia.com/gpu": 24 }, "allocated": { "nvidia.com/gpu": "16" },
        "requested": { "nvidia.com/gpu": 40 },
        "usage": { "asOf": "2026-01-02T03:04:05.678Z", "amount": 12.5, "rate": 64,
            "users": [{ "name": "vision", "amount": 12.5, "rate": 64 }],
            "otherUsers": { "amount": 0, "rate": 0 } },
        "window": "Open", "pendingGangs": 3, "runningGangs": 2, "observedGeneration": 1,
        "conditions": [{
            "type": "Accepted", "status": "True", "reason": "InForce", "message": "",
            "lastTransitionTime": "2026-01-02T03:04:05Z",
        }],
    } });
    let path = format!("{QUEUES}/vision/status");
    let patched = send(client, http::Method::PATCH, &path, &status).await.expect("a status");
    assert_eq!(patched["status"], status["status"], "no field of it is pruned");
    let shown = servers.run_kubectl(&["get", "mq", "vision"]).expect("the short name");
    let rows: Vec<Vec<&str>> = shown.lines().map(|l| l.split_whitespace().collect()).collect();
    let columns =
        ["NAME", "PARENT", "WEIGHT", "RUNNING", "PENDING", "GPU-DESERVED", "GPU-ALLOCATED", "AGE"];
    assert_eq!(rows[0], columns);
    assert_eq!(rows[1][..7], ["vision", "research", "2", "2", "3", "24", "16"]);

    // installed by now: found within half a minute
    let mut names = heard.list(INSTALLED).await;
    names.sort();
    assert_eq!(names, ["language", "production", "research", "vision"]);

    heard_changes(&mut heard, &seen, client).await;

    // removed with all queues: none is in force
    remove(servers);
    let gone = loop {
        match heard.next(SOON).await {
            Event::QueueDeleted(_) => {}
            Event::ListStarted(Kind::Queue) => break heard.next(SOON).await,
            other => panic!("{other:?}"),
        }
    };
    assert!(matches!(gone, Event::ListEnded(Kind::Queue)), "{gone:?}");
    let failed = seen.failed.lock().expect("no holder panics").clone();
    assert!(failed.len() <= 2, "a missing kind is no failure: {failed:?}");
}

/// What the watch makes of changes while the kind is there.
async fn heard_changes(heard: &mut Heard, seen: &Seen, client: &kube::Client) {
    let spec = json!({
        "parent": "research", "weight": 3, "overQuotaWeight": 5, "priority": -1,
        "quota": { "cpu": "1500m", "memory": "1Gi", "nvidia.com/gpu": 2 },
        "limit": { "nvidia.com/gpu": 4, "amd.com/gpu": 0 }, "ordering": "Lsf", "open": false,
        "ageing": { "points": 10, "every": "1h" },
        "windows": { "timeZone": "Europe/Berlin", "run": ["5:19:00-1:8:30", "20-6"] },
        "preemption": { "grace": "1m30s", "mayEvict": false },
    });
    send(client, http::Method::POST, QUEUES, &queue("team", &spec)).await.expect("a good queue");
    let team = heard.applied().await;
    let quota = [("cpu", 1500), ("memory", 1 << 30), ("nvidia.com/gpu", 2)];
    assert_eq!(team.quota, quota.map(|(name, amount)| (name.into(), amount)));
    assert_eq!(team.limit, [("amd.com/gpu".into(), 0), ("nvidia.com/gpu".into(), 4)]);
    assert_eq!(team.ageing.map(|ageing| ageing.points), Some(10));
    let windows = team.windows.as_ref().map(|windows| windows.run_text());
    assert_eq!(windows.as_deref(), Some("5:19:00-1:8:30 20-6 Europe/Berlin"));
    assert_eq!((team.weight, team.over_quota_weight, team.priority), (3, Some(5), -1));
    assert_eq!(
        (team.open, team.preemption.may_evict, team.preemption.grace_ms),
        (false, false, 90_000)
    );

    // what the definition cannot check: the sum is within bounds there, the amount is not here
    let path = format!("{QUEUES}/team");
    let huge = json!({ "spec": { "limit": { "nvidia.com/gpu": "9E" } } });
    send(client, http::Method::PATCH, &path, &huge).await.expect("the definition takes it");
    assert_eq!(heard.applied().await, team, "what was in force stays");
    let refused = seen.refused.lock().expect("no holder panics").clone();
    let expected = "queue team: spec.limit[nvidia.com/gpu] is \"9E\": \
                    expected a quantity between 0 and 2^52 (true)";
    assert_eq!(refused, [expected]);

    let delete = send(client, http::Method::DELETE, &path, &json!({})).await;
    delete.expect("the queue can be deleted");
    let gone = heard.next(SOON).await;
    assert!(matches!(&gone, Event::QueueDeleted(name) if &**name == "team"), "{gone:?}");
}
