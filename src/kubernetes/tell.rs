//! Conditions and events, in upstream's format.

use super::bind::pod_path;
use super::client::{Connection, Reply};
use super::watch::jobs::Job;
use crate::fairshare::Used;
use crate::model::contract::{EVICT_AT, GROUP, PREEMPTION};
use crate::scheduler::{Amount, PodRef, Standing, Telling, WindowState};
use http::{Method, StatusCode};
use serde_json::{Value, json};
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

/// Longest note of an event, in bytes; upstream `NoteLengthLimit`.
const NOTE_MAX: usize = 1024;
/// What marks a note that was cut, as upstream's scheduler does.
const CUT: &str = " ...";
const STRATEGIC: &str = "application/strategic-merge-patch+json";
const APPLY: &str = "application/apply-patch+yaml";
/// Reason of the event and of the condition `DisruptionTarget=False` of a pod that need not go.
pub(super) const SPARED: &str = "PreemptionCancelled";
/// Tries of one write before it is given up: an event is not worth more.
const TRIES: u32 = 5;

/// Something to be written about a pod.
#[derive(Clone, Debug)]
pub(super) enum Write {
    /// An event.
    Event(EventText),
    /// The `PodScheduled=False` condition. `first`: the pod had none, so it begins now.
    Condition { pod: PodRef, telling: Telling, first: bool },
    /// What marks a victim.
    Notice(Notice),
    /// How a queue stands.
    Queue(Box<QueueStatus>),
}

/// What is written into the status of a queue.
#[derive(Clone, Debug)]
pub(super) struct QueueStatus {
    pub(super) standing: Standing,
    /// When it was so.
    pub(super) as_of: jiff::Timestamp,
    /// Since when it is in force, or is not.
    pub(super) since: jiff::Timestamp,
}

/// What is written on a victim before it is evicted, or when it need not go: the condition
/// `DisruptionTarget` and the annotation with the time.
#[derive(Clone, Debug)]
pub(super) struct Notice {
    pub(super) pod: PodRef,
    /// For whom it makes room, and why; or why it does not.
    pub(super) note: Arc<str>,
    pub(super) fate: Fate,
}

/// What becomes of a pod that is or was a victim.
#[derive(Clone, Debug)]
pub(super) enum Fate {
    /// It is evicted at once, or was.
    Evicted,
    EvictedAt(jiff::Timestamp),
    /// Its notice is taken back.
    Spared,
}

/// What an event is about.
#[derive(Clone, Debug)]
pub(super) enum About {
    Pod(PodRef),
    Node(Arc<str>),
    Job(Job),
}

/// An event.
#[derive(Clone, Debug)]
pub(super) struct EventText {
    pub(super) about: About,
    pub(super) warning: bool,
    pub(super) reason: &'static str,
    pub(super) action: &'static str,
    pub(super) note: Note,
}

/// The text of an event; the one of a bind is built when it is written, to keep the queue small.
#[derive(Clone, Debug)]
pub(super) enum Note {
    Assigned(Arc<str>),
    Text(Arc<str>),
}

/// Writes events and conditions.
pub(super) struct Teller {
    pub(super) connection: Connection,
    pub(super) deadline: Duration,
    /// `reportingController`
    pub(super) controller: String,
    /// `reportingInstance`
    pub(super) instance: String,
    /// makes event names unique, with the time this process began
    pub(super) epoch: u64,
    pub(super) counter: AtomicU64,
}

impl Teller {
    /// Whether it was written, or need not be any more.
    pub(super) async fn write(&self, write: &Write) -> bool {
        let mut wait = Duration::from_millis(100);
        let mut request = self.request(write);
        for _ in 0..TRIES {
            let (method, path, content_type, body) = request;
            let reply = self
                .connection
                .call(method.clone(), &path, content_type, body.clone(), self.deadline)
                .await;
            match reply {
                Reply::Answer { status, .. } if status.is_success() => return true,
                Reply::Answer { status: StatusCode::TOO_MANY_REQUESTS, retry_after, .. } => {
                    wait = retry_after.unwrap_or(wait).min(Duration::from_secs(5));
                }
                // the pod is gone or another, the event exists, or the namespace is closing
                Reply::Answer { status, .. } if status.is_client_error() => return true,
                Reply::Answer { .. } | Reply::Unknown(_) => {}
            }
            request = (method, path, content_type, body);
            tokio::time::sleep(wait).await;
            wait = (wait * 2).min(Duration::from_secs(5));
        }
        false
    }

    fn request(&self, write: &Write) -> (Method, String, &'static str, Vec<u8>) {
        match write {
            Write::Event(event) => {
                let namespace = event.about.namespace();
                let path = format!("/apis/events.k8s.io/v1/namespaces/{namespace}/events");
                (Method::POST, path, "application/json", self.event(event))
            }
            Write::Condition { pod, telling, first } => {
                let path = format!("{}/status", pod_path(&pod.key));
                let body = condition(pod, telling, *first);
                (Method::PATCH, path, STRATEGIC, body)
            }
            Write::Notice(notice) => {
                // the status of a pod is written with its annotations, so one patch does, and the
                // right to patch whole pods is not needed
                let path = format!("{}/status", pod_path(&notice.pod.key));
                (Method::PATCH, path, STRATEGIC, disruption(notice))
            }
            Write::Queue(status) => {
                let queue = &status.standing.queue;
                let manager = &self.controller;
                let path = format!(
                    "/apis/{GROUP}/v1alpha1/queues/{queue}/status?fieldManager={manager}&force=true"
                );
                (Method::PATCH, path, APPLY, queue_status(status).to_string().into_bytes())
            }
        }
    }

    fn event(&self, event: &EventText) -> Vec<u8> {
        let namespace = event.about.namespace();
        let (version, kind, name, uid) = match &event.about {
            About::Pod(pod) => ("v1", "Pod", &*pod.key.name, pod.uid.to_string()),
            // as kubelets do it: `kubectl describe node` looks for this
            About::Node(name) => ("v1", "Node", &**name, name.to_string()),
            About::Job(job) => ("batch/v1", "Job", &*job.key.name, job.uid.to_string()),
        };
        let number = self.counter.fetch_add(1, Ordering::Relaxed);
        let note = match &event.note {
            Note::Assigned(node) => format!("Successfully assigned {namespace}/{name} to {node}"),
            Note::Text(text) => cut(text),
        };
        // at most 253 bytes: the object's name is cut if need be
        let prefix = &name[..name.len().min(253 - 34)];
        let mut body = json!({
            "apiVersion": "events.k8s.io/v1",
            "kind": "Event",
            "metadata": {
                "name": format!("{prefix}.{:x}{number:x}", self.epoch),
                "namespace": namespace,
            },
            "eventTime": jiff::Timestamp::now().strftime("%Y-%m-%dT%H:%M:%S.%6fZ").to_string(),
            "type": if event.warning { "Warning" } else { "Normal" },
            "reason": event.reason,
            "action": event.action,
            "note": note,
            "regarding": {
                "apiVersion": version,
                "kind": kind,
                "name": name,
                "uid": uid,
            },
            "reportingController": self.controller,
            "reportingInstance": self.instance,
        });
        if matches!(event.about, About::Pod(_) | About::Job(_)) {
            body["regarding"]["namespace"] = namespace.into();
        }
        body.to_string().into_bytes()
    }
}

impl About {
    /// Where its events are kept: those about objects without a namespace in `default`.
    fn namespace(&self) -> &str {
        match self {
            Self::Pod(PodRef { key, .. }) | Self::Job(Job { key, .. }) => &key.namespace,
            Self::Node(_) => "default",
        }
    }
}

fn condition(pod: &PodRef, telling: &Telling, first: bool) -> Vec<u8> {
    let mut condition = json!({
        "type": "PodScheduled",
        "status": "False",
        "reason": telling.reason.as_str(),
        "message": &*telling.message,
    });
    if first {
        condition["lastTransitionTime"] = seconds(jiff::Timestamp::now()).into();
    }
    // the uid makes the patch miss a namesake
    let patch = json!({
        "metadata": {"uid": pod.uid.to_string()},
        "status": {"conditions": [condition]},
    });
    patch.to_string().into_bytes()
}

fn disruption(notice: &Notice) -> Vec<u8> {
    let (status, reason) = match notice.fate {
        Fate::Evicted | Fate::EvictedAt(_) => ("True", PREEMPTION),
        Fate::Spared => ("False", SPARED),
    };
    let mut patch = json!({
        "metadata": {"uid": notice.pod.uid.to_string()},
        "status": {"conditions": [{
            "type": "DisruptionTarget",
            "status": status,
            "reason": reason,
            "message": &*notice.note,
            "lastTransitionTime": seconds(jiff::Timestamp::now()),
        }]},
    });
    match notice.fate {
        Fate::Evicted => {}
        Fate::EvictedAt(at) => patch["metadata"]["annotations"] = json!({ EVICT_AT: seconds(at) }),
        Fate::Spared => patch["metadata"]["annotations"] = json!({ EVICT_AT: null }),
    }
    patch.to_string().into_bytes()
}

/// The whole status: what an earlier one had and this one lacks is removed.
fn queue_status(status: &QueueStatus) -> Value {
    let Standing { queue, facts, used, users, other_users } = &status.standing;
    let amounts = |part: fn(&Amount) -> i64| -> Value {
        let amounts = facts.amounts.iter();
        amounts.map(|(name, amount)| (name.to_string(), quantity(name, part(amount)))).collect()
    };
    let (word, reason, message) = match &facts.fault {
        None => ("True", "InForce", ""),
        Some(why) => ("False", "Refused", &**why),
    };
    let usage = |used: &Used| json!({ "amount": rounded(used.amount), "rate": rounded(used.rate) });
    let named = users.iter().map(|(name, used)| {
        let mut user = usage(used);
        user["name"] = json!(name);
        user
    });
    let mut all = usage(used);
    all["asOf"] = millis(status.as_of).into();
    all["users"] = named.collect();
    all["otherUsers"] = usage(other_users);
    let window = facts.window.map(|window| match window {
        WindowState::Open => "Open",
        WindowState::DispatchClosed => "DispatchClosed",
        WindowState::RunClosed => "RunClosed",
    });
    let mut object = json!({
        "apiVersion": format!("{GROUP}/v1alpha1"),
        "kind": "Queue",
        "metadata": { "name": queue },
        "status": {
            "observedGeneration": facts.generation,
            "deserved": amounts(|amount| amount.deserved),
            "allocated": amounts(|amount| amount.allocated),
            "requested": amounts(|amount| amount.requested),
            "pendingGangs": facts.pending,
            "runningGangs": facts.running,
            "usage": all,
            "conditions": [{
                "type": "Accepted",
                "status": word,
                "reason": reason,
                "message": message,
                "observedGeneration": facts.generation,
                "lastTransitionTime": seconds(status.since),
            }],
        },
    });
    if let Some(window) = window {
        object["status"]["window"] = window.into();
    }
    object
}

/// An amount in base units as quantities are written.
fn quantity(resource: &str, amount: i64) -> Value {
    let text = match resource {
        "cpu" if amount % 1000 != 0 => format!("{amount}m"),
        "cpu" => (amount / 1000).to_string(),
        _ => {
            let units = [(1 << 30, "Gi"), (1 << 20, "Mi"), (1 << 10, "Ki")];
            let bytes = resource == "memory" || resource == "ephemeral-storage";
            let fitting = units.iter().find(|(unit, _)| bytes && amount > 0 && amount % unit == 0);
            fitting.map_or_else(
                || amount.to_string(),
                |(unit, name)| format!("{}{name}", amount / unit),
            )
        }
    };
    text.into()
}

/// Thousandths are enough.
fn rounded(number: f64) -> f64 {
    (number * 1000.0).round() / 1000.0
}

fn millis(time: jiff::Timestamp) -> String {
    time.strftime("%Y-%m-%dT%H:%M:%S.%3fZ").to_string()
}

/// RFC 3339, as the API writes times.
fn seconds(time: jiff::Timestamp) -> String {
    time.strftime("%Y-%m-%dT%H:%M:%SZ").to_string()
}

fn cut(text: &str) -> String {
    if text.len() <= NOTE_MAX {
        return text.to_owned();
    }
    let end = text.floor_char_boundary(NOTE_MAX - CUT.len());
    format!("{}{CUT}", &text[..end])
}
