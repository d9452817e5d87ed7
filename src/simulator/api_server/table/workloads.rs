//! The columns of workloads.

use super::super::kinds::Kind;
use super::cells::{age, human, labels, number, plain, text};
use serde_json::{Value, json};

pub(super) fn cells(kind: &Kind, object: &Value) -> Vec<Value> {
    let name = object["metadata"]["name"].clone();
    let created = json!(age(&object["metadata"]["creationTimestamp"]));
    let (spec, status) = (&object["spec"], &object["status"]);
    match kind.resource.as_str() {
        "replicasets" | "replicationcontrollers" => {
            let counts = [&spec["replicas"], &status["replicas"], &status["readyReplicas"]];
            let row = [name].into_iter().chain(counts.map(number)).chain([created]);
            row.chain(template(spec, true)).collect()
        }
        "statefulsets" => {
            let row = [name, ready(spec, status), created];
            row.into_iter().chain(template(spec, false)).collect()
        }
        "deployments" => {
            let updated = plain(&status["updatedReplicas"], "0");
            let available = plain(&status["availableReplicas"], "0");
            let row = [name, ready(spec, status), updated, available, created];
            row.into_iter().chain(template(spec, true)).collect()
        }
        "daemonsets" => {
            let counts = [
                "desiredNumberScheduled",
                "currentNumberScheduled",
                "numberReady",
                "updatedNumberScheduled",
                "numberAvailable",
            ];
            let selector = json!(labels(&spec["template"]["spec"]["nodeSelector"]));
            let row = [name].into_iter().chain(counts.map(|c| number(&status[c])));
            row.chain([selector, created]).chain(template(spec, true)).collect()
        }
        "jobs" => job(object, name, created),
        _ => vec![name, created],
    }
}

fn ready(spec: &Value, status: &Value) -> Value {
    let ready = status["readyReplicas"].as_i64().unwrap_or(0);
    json!(format!("{ready}/{}", spec["replicas"].as_i64().unwrap_or(0)))
}

/// Containers, images, and the selector of a workload's pods.
fn template(spec: &Value, selector: bool) -> impl Iterator<Item = Value> {
    let containers = spec["template"]["spec"]["containers"].as_array();
    let of = |field: &str| {
        let list = containers.into_iter().flatten().map(|c| text(&c[field]));
        json!(list.collect::<Vec<_>>().join(","))
    };
    let chosen = match &spec["selector"]["matchLabels"] {
        Value::Null => &spec["selector"],
        labels => labels,
    };
    let last = selector.then(|| json!(labels(chosen)));
    [of("name"), of("image")].into_iter().chain(last)
}

fn job(object: &Value, name: Value, created: Value) -> Vec<Value> {
    let (spec, status) = (&object["spec"], &object["status"]);
    let has = |kind: &str| {
        let conditions = status["conditions"].as_array().into_iter().flatten();
        conditions.clone().any(|c| c["type"] == kind && c["status"] == "True")
    };
    let state = [("Complete", "Complete"), ("Failed", "Failed"), ("Suspended", "Suspended")];
    let found = state.iter().find(|(kind, _)| has(kind)).map_or("Running", |(_, shown)| shown);
    let done = status["succeeded"].as_i64().unwrap_or(0);
    let completions = match spec["completions"].as_i64() {
        Some(wanted) => format!("{done}/{wanted}"),
        None => format!("{done}/1 of {}", spec["parallelism"].as_i64().unwrap_or(1)),
    };
    let seconds = |v: &Value| text(v).parse::<jiff::Timestamp>().ok().map(|t| t.as_second());
    let duration = seconds(&status["startTime"]).map_or_else(String::new, |begin| {
        let end = seconds(&status["completionTime"]);
        human(end.unwrap_or_else(|| jiff::Timestamp::now().as_second()) - begin)
    });
    let row = [name, json!(found), json!(completions), json!(duration), created];
    row.into_iter().chain(template(spec, true)).collect()
}
