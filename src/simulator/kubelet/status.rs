//! The status patches that a kubelet writes.

use super::facts::PodFacts;
use super::machine::Step;
use jiff::Timestamp;
use serde_json::{Value, json};

/// Exit code of containers that the annotation makes fail.
const EXIT_FAILED: i32 = 1;

/// A strategic merge patch of the pod's status; the uid in it makes the API server refuse to write
/// on a namesake. `None` for a step that is not a patch.
pub(super) fn patch(pod: &PodFacts, step: &Step, now: Timestamp, address: u32) -> Option<Value> {
    let status = match step {
        Step::Start => running(pod, now, address),
        Step::Finish { failed } => ended(pod, now, *failed),
        Step::Reject { reason, message } => json!({
            "phase": "Failed", "reason": reason, "message": message, "startTime": stamp(now),
        }),
        Step::Delete => return None,
    };
    Some(json!({"metadata": {"uid": pod.uid}, "status": status}))
}

fn running(pod: &PodFacts, now: Timestamp, address: u32) -> Value {
    let condition =
        |kind: &str| json!({"type": kind, "status": "True", "lastTransitionTime": stamp(now)});
    let state = json!({"running": {"startedAt": stamp(now)}});
    // 10.64.0.0/10, apart from the service range that test clusters use
    let ip = std::net::Ipv4Addr::from(0x0a40_0000 | (address & 0x003f_ffff));
    json!({
        "phase": "Running",
        "startTime": stamp(now),
        "hostIP": "127.0.0.1",
        "hostIPs": [{"ip": "127.0.0.1"}],
        "podIP": ip,
        "podIPs": [{"ip": ip}],
        "conditions": [
            condition("PodReadyToStartContainers"),
            condition("Initialized"),
            condition("Ready"),
            condition("ContainersReady"),
        ],
        "containerStatuses": containers(pod, &state, true),
    })
}

fn ended(pod: &PodFacts, now: Timestamp, failed: bool) -> Value {
    let (phase, reason, code, why) = match failed {
        true => ("Failed", "Error", EXIT_FAILED, "PodFailed"),
        false => ("Succeeded", "Completed", 0, "PodCompleted"),
    };
    let condition = |kind: &str| {
        json!({
            "type": kind, "status": "False", "reason": why, "lastTransitionTime": stamp(now),
        })
    };
    let started = pod.started.unwrap_or(now);
    let state = json!({"terminated": {
        "exitCode": code, "reason": reason,
        "startedAt": stamp(started), "finishedAt": stamp(now),
    }});
    json!({
        "phase": phase,
        "conditions": [condition("Ready"), condition("ContainersReady")],
        "containerStatuses": containers(pod, &state, false),
    })
}

fn containers(pod: &PodFacts, state: &Value, ready: bool) -> Vec<Value> {
    let status = |(name, image): &(Box<str>, Box<str>)| {
        json!({
            "name": name, "image": image, "imageID": "", "restartCount": 0,
            "ready": ready, "started": ready, "state": state,
            "containerID": format!("fake://{}/{name}", pod.uid),
        })
    };
    pod.containers.iter().map(status).collect()
}

/// As `metav1.Time` is written: whole seconds.
fn stamp(at: Timestamp) -> String {
    at.strftime("%Y-%m-%dT%H:%M:%SZ").to_string()
}
