//! Random server-side applies by two managers, on configmaps, pods and custom objects of their own
//! that nobody else writes.

use super::custom::widgets;
use super::operations::{APPLY, Operation, pick};
use rand::{Rng, RngExt};
use serde_json::{Value, json};

fn labels(random: &mut impl Rng, object: &mut Value) {
    for label in ["l", "m"] {
        if random.random_bool(0.4) {
            object["metadata"]["labels"][label] = json!(pick(random, &["1", "1", "2"]));
        }
    }
}

fn map(random: &mut impl Rng, name: &str) -> Value {
    let mut map = json!({ "apiVersion": "v1", "kind": "ConfigMap", "metadata": { "name": name } });
    for key in ["x", "y", "z"] {
        if random.random_bool(0.5) {
            map["data"][key] = json!(pick(random, &["1", "1", "2"]));
        }
    }
    map
}

fn pod(random: &mut impl Rng, name: &str) -> Value {
    let mut container = json!({ "name": "main", "image": pick(random, &["i:1", "i:1", "i:2"]) });
    if random.random_bool(0.3) {
        container["ports"] = json!([{ "containerPort": 80 }]);
    }
    let mut pod = json!({ "apiVersion": "v1", "kind": "Pod", "metadata": { "name": name },
        "spec": { "containers": [container] } });
    if random.random_bool(0.3) {
        pod["spec"]["nodeSelector"] = json!({ "a": "b" });
    }
    if random.random_bool(0.2) {
        pod["metadata"]["finalizers"] = json!([pick(random, &["example.com/a", "example.com/b"])]);
    }
    pod
}

fn widget(random: &mut impl Rng, name: &str) -> Value {
    let mut widget = json!({ "apiVersion": "parity.example.com/v1", "kind": "Widget",
        "metadata": { "name": name }, "spec": { "size": pick(random, &[1, 1, 2]) } });
    let extras = [
        ("queue", json!("other")),
        ("tags", json!(["x"])),
        ("tags", json!(["y"])),
        ("sizes", json!({ "a": 1 })),
        ("sizes", json!({ "a": 2, "b": 1 })),
        ("parts", json!([{ "name": "p", "count": 2 }])),
        ("parts", json!([{ "name": "p", "count": 3 }, { "name": "q" }])),
        ("nested", json!({ "depth": 1 })),
    ];
    for (field, value) in extras {
        if random.random_bool(0.2) {
            widget["spec"][field] = value;
        }
    }
    widget
}

/// One apply, read or deletion.
pub(crate) fn random(random: &mut impl Rng, namespace: &str) -> Operation {
    let name = pick(random, &["s0", "s1"]);
    let core = format!("/api/v1/namespaces/{namespace}");
    let (label, path, mut body) = match random.random_range(0..10) {
        0..5 => ("apply map", format!("{core}/configmaps/{name}"), map(random, name)),
        5..7 => ("apply pod", format!("{core}/pods/{name}"), pod(random, name)),
        _ => ("apply custom", format!("{}/{name}", widgets(namespace)), widget(random, name)),
    };
    labels(random, &mut body);
    match random.random_range(0..20) {
        0 => return Operation::delete("apply delete", path + "?gracePeriodSeconds=0", Value::Null),
        1 => body["metadata"]["resourceVersion"] = json!("1"),
        2 => body["metadata"]["name"] = json!("other"),
        3 => body["nothing"] = json!(1),
        4 => body["kind"] = json!("Other"),
        _ => {}
    }
    let manager = pick(random, &["fieldManager=a", "fieldManager=b", "fieldManager=a"]);
    let manager = if random.random_bool(0.03) { "" } else { manager };
    let more = pick(random, &["", "", "", "", "&force=true", "&force=true", "&dryRun=All"]);
    let more = if random.random_bool(0.05) { "&fieldValidation=Strict" } else { more };
    Operation::patch(label, format!("{path}?{manager}{more}"), APPLY, body)
}
