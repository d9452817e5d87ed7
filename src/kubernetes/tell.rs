//! Conditions and events, in upstream's format.

use super::bind::pod_path;
use super::client::{Connection, Reply};
use crate::model::contract::EVICT_AT;
use crate::scheduler::{PodRef, Telling};
use http::{Method, StatusCode};
use serde_json::json;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

/// Longest note of an event, in bytes; upstream `NoteLengthLimit`.
const NOTE_MAX: usize = 1024;
/// What marks a note that was cut, as upstream's scheduler does.
const CUT: &str = " ...";
const STRATEGIC: &str = "application/strategic-merge-patch+json";
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
}

/// What is written on a victim before it is evicted: the `DisruptionTarget=True` condition and the
/// annotation with the time.
#[derive(Clone, Debug)]
pub(super) struct Notice {
    pub(super) pod: PodRef,
    /// For whom it makes room, and why.
    pub(super) note: Arc<str>,
    /// When it is evicted; `None`: at once.
    pub(super) evict_at: Option<jiff::Timestamp>,
}

/// An event about a pod.
#[derive(Clone, Debug)]
pub(super) struct EventText {
    pub(super) pod: PodRef,
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
                let namespace = &event.pod.key.namespace;
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
        }
    }

    fn event(&self, event: &EventText) -> Vec<u8> {
        let PodRef { key, uid } = &event.pod;
        let number = self.counter.fetch_add(1, Ordering::Relaxed);
        let note = match &event.note {
            Note::Assigned(node) => format!("Successfully assigned {key} to {node}"),
            Note::Text(text) => cut(text),
        };
        // at most 253 bytes: the pod's name is cut if need be
        let prefix = &key.name[..key.name.len().min(253 - 34)];
        let body = json!({
            "apiVersion": "events.k8s.io/v1",
            "kind": "Event",
            "metadata": {
                "name": format!("{prefix}.{:x}{number:x}", self.epoch),
                "namespace": key.namespace,
            },
            "eventTime": jiff::Timestamp::now().strftime("%Y-%m-%dT%H:%M:%S.%6fZ").to_string(),
            "type": if event.warning { "Warning" } else { "Normal" },
            "reason": event.reason,
            "action": event.action,
            "note": note,
            "regarding": {
                "apiVersion": "v1",
                "kind": "Pod",
                "namespace": key.namespace,
                "name": key.name,
                "uid": uid.to_string(),
            },
            "reportingController": self.controller,
            "reportingInstance": self.instance,
        });
        body.to_string().into_bytes()
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
    let mut patch = json!({
        "metadata": {"uid": notice.pod.uid.to_string()},
        "status": {"conditions": [{
            "type": "DisruptionTarget",
            "status": "True",
            "reason": "PreemptionByScheduler",
            "message": &*notice.note,
            "lastTransitionTime": seconds(jiff::Timestamp::now()),
        }]},
    });
    if let Some(at) = notice.evict_at {
        patch["metadata"]["annotations"] = json!({ EVICT_AT: seconds(at) });
    }
    patch.to_string().into_bytes()
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
