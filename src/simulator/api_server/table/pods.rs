//! The columns of pods (upstream's `printPod`).

use super::super::kinds::Kind;
use super::cells::{age, or_none, text};
use serde_json::{Value, json};

pub(super) fn cells(pod: &Value) -> Vec<Value> {
    let spec = &pod["spec"];
    let status = &pod["status"];
    let containers = |list: &str| status[list].as_array().map_or(&[][..], Vec::as_slice);
    let total = spec["containers"].as_array().map_or(0, Vec::len);
    let statuses = containers("containerStatuses");
    let ready =
        statuses.iter().filter(|c| c["ready"] == true && c["state"]["running"].is_object()).count();
    let restarts: i64 =
        statuses.iter().chain(containers("initContainerStatuses")).map(restarts_of).sum();
    let gates = spec["readinessGates"].as_array().map_or(&[][..], Vec::as_slice);
    let conditions = status["conditions"].as_array().map_or(&[][..], Vec::as_slice);
    let passed = gates.iter().filter(|gate| {
        let mut of = conditions.iter().filter(|c| c["type"] == gate["conditionType"]);
        of.any(|c| c["status"] == "True")
    });
    let gates = match gates.len() {
        0 => "<none>".to_owned(),
        count => format!("{}/{count}", passed.count()),
    };
    vec![
        pod["metadata"]["name"].clone(),
        json!(format!("{ready}/{total}")),
        json!(reason(pod)),
        json!(restarts.to_string()),
        json!(age(&pod["metadata"]["creationTimestamp"])),
        json!(or_none(text(&status["podIP"]))),
        json!(or_none(text(&spec["nodeName"]))),
        json!(or_none(text(&status["nominatedNodeName"]))),
        json!(gates),
    ]
}

/// Rows of pods that have ended say so.
pub(super) fn row_conditions(kind: &Kind, object: &Value) -> Option<Value> {
    let phase = text(&object["status"]["phase"]);
    let message = match phase {
        "Succeeded" => "The pod has completed successfully.",
        "Failed" => "The pod failed.",
        _ => return None,
    };
    kind.is_pod().then(
        || json!([{ "type": "Completed", "status": "True", "reason": phase, "message": message }]),
    )
}

fn restarts_of(status: &Value) -> i64 {
    status["restartCount"].as_i64().unwrap_or(0)
}

fn reason(pod: &Value) -> String {
    let status = &pod["status"];
    let mut reason = text(&status["phase"]).to_owned();
    let given = text(&status["reason"]);
    if !given.is_empty() {
        reason = given.to_owned();
    }
    let conditions = status["conditions"].as_array().into_iter().flatten();
    if conditions.clone().any(|c| c["type"] == "PodScheduled" && c["reason"] == "SchedulingGated") {
        reason = "SchedulingGated".to_owned();
    }
    for container in status["containerStatuses"].as_array().into_iter().flatten().rev() {
        let state = &container["state"];
        let terminated = &state["terminated"];
        if !text(&state["waiting"]["reason"]).is_empty() {
            reason = text(&state["waiting"]["reason"]).to_owned();
        } else if !text(&terminated["reason"]).is_empty() {
            reason = text(&terminated["reason"]).to_owned();
        } else if terminated.is_object() {
            reason = format!("ExitCode:{}", terminated["exitCode"].as_i64().unwrap_or(0));
        }
    }
    let finished = ["Succeeded", "Failed"].contains(&text(&status["phase"]));
    if pod["metadata"]["deletionTimestamp"].is_string() {
        if given == "NodeLost" {
            return "Unknown".to_owned();
        }
        if !finished {
            return "Terminating".to_owned();
        }
    }
    reason
}
