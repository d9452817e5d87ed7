//! A custom resource definition, and random operations on its objects.

use super::compare::{Pair, ask};
use super::operations::{MERGE, Operation, STRATEGIC, pick};
use rand::{Rng, RngExt};
use serde_json::{Value, json};
use std::time::Duration;

const DEFINITIONS: &str = "/apis/apiextensions.k8s.io/v1/customresourcedefinitions";
const FINALIZER: &str = "parity.example.com/f";

fn definition() -> Value {
    let schema = json!({ "type": "object", "required": ["spec"], "properties": {
        "spec": { "type": "object", "required": ["size"], "properties": {
            "size": { "type": "integer", "minimum": 1, "maximum": 10 },
            "queue": { "type": "string", "default": "main", "maxLength": 8 },
            "mode": { "type": "string", "enum": ["a", "b"] },
            "note": { "type": "string", "nullable": true },
            "ratio": { "type": "number" },
            "port": { "x-kubernetes-int-or-string": true },
            "tags": { "type": "array", "items": { "type": "string" }, "maxItems": 3 },
            "sizes": { "type": "object", "additionalProperties": { "type": "integer" } },
            "free": { "type": "object", "x-kubernetes-preserve-unknown-fields": true },
            "parts": { "type": "array", "x-kubernetes-list-type": "map",
                "x-kubernetes-list-map-keys": ["name"],
                "items": { "type": "object", "required": ["name"], "properties": {
                    "name": { "type": "string" },
                    "count": { "type": "integer", "default": 1 } } } },
            "nested": { "type": "object", "default": {}, "properties": {
                "depth": { "type": "integer", "default": 3 } } } } },
        "status": { "type": "object", "properties": {
            "phase": { "type": "string" }, "count": { "type": "integer", "minimum": 0 } } } } });
    let column = |name: &str, kind: &str, path: &str| json!({ "name": name, "type": kind, "jsonPath": path });
    json!({ "apiVersion": "apiextensions.k8s.io/v1", "kind": "CustomResourceDefinition",
        "metadata": { "name": "widgets.parity.example.com" },
        "spec": { "group": "parity.example.com", "scope": "Namespaced",
            "names": { "plural": "widgets", "singular": "widget", "kind": "Widget",
                "listKind": "WidgetList", "shortNames": ["wd"] },
            "versions": [{ "name": "v1", "served": true, "storage": true,
                "subresources": { "status": {} }, "schema": { "openAPIV3Schema": schema },
                "additionalPrinterColumns": [
                    column("Size", "integer", ".spec.size"),
                    column("Queue", "string", ".spec.queue"),
                    column("Phase", "string", ".status.phase"),
                    column("Age", "date", ".metadata.creationTimestamp")] }] } })
}

pub(crate) fn widgets(namespace: &str) -> String {
    format!("/apis/parity.example.com/v1/namespaces/{namespace}/widgets")
}

/// Installs the definition on both servers and compares it once it is established.
pub(crate) async fn install(pair: &mut Pair) {
    let create = Operation::post("definition", DEFINITIONS.into(), definition());
    pair.prepare(&create).await;
    let path = format!("{DEFINITIONS}/widgets.parity.example.com");
    let get = Operation::get("definition", path.clone());
    for client in [pair.real.clone(), pair.ours.clone()] {
        let list = Operation::get("definition", widgets("default"));
        while !ask(&client, &list).await["error"].is_null()
            || ask(&client, &get).await["status"]["conditions"].as_array().map(Vec::len) != Some(2)
        {
            tokio::time::sleep(Duration::from_millis(50)).await;
        }
    }
    pair.both("definition", &get).await;
    pair.both("definition", &create).await;
    let label = json!({ "metadata": { "labels": { "a": "b" } } });
    pair.both("definition", &Operation::patch("definition", path.clone(), MERGE, label)).await;
    let scope = json!({ "spec": { "scope": "Cluster" } });
    pair.both("definition", &Operation::patch("definition", path, MERGE, scope)).await;
}

fn specification(random: &mut impl Rng) -> Value {
    let mut spec = json!({ "size": pick(random, &[1, 5, 10]) });
    let extras = [
        ("size", json!(0)),
        ("size", json!(11)),
        ("size", json!("big")),
        ("size", Value::Null),
        ("queue", json!("other")),
        ("queue", json!("too-long-a-name")),
        ("queue", Value::Null),
        ("mode", json!("a")),
        ("mode", json!("c")),
        ("note", Value::Null),
        ("ratio", json!(1.5)),
        ("ratio", json!("half")),
        ("port", json!("http")),
        ("port", json!(80)),
        ("port", json!(true)),
        ("tags", json!(["x", "y"])),
        ("tags", json!(["x", 1])),
        ("tags", json!(["w", "x", "y", "z"])),
        ("sizes", json!({ "a": 1, "b": 2 })),
        ("sizes", json!({ "a": "one" })),
        ("free", json!({ "any": { "thing": [1, "2"] } })),
        ("parts", json!([{ "name": "p" }, { "name": "q", "count": 2, "odd": 1 }])),
        ("parts", json!([{ "name": "p" }, { "name": "p" }])),
        ("parts", json!([{ "count": 1 }])),
        ("nested", json!({ "depth": 1 })),
        ("nested", json!({})),
        ("unknown", json!(1)),
    ];
    for (field, value) in extras {
        if random.random_bool(0.06) {
            spec[field] = value;
        }
    }
    spec
}

fn widget(random: &mut impl Rng, name: &str) -> Value {
    let mut widget = json!({ "apiVersion": "parity.example.com/v1", "kind": "Widget",
        "metadata": { "name": name }, "spec": specification(random) });
    if random.random_bool(0.5) {
        widget["metadata"]["labels"] = json!({ "app": pick(random, &["x", "y"]) });
    }
    if random.random_bool(0.15) {
        widget["metadata"]["finalizers"] = json!([FINALIZER]);
    }
    if random.random_bool(0.2) {
        widget["status"] = json!({ "phase": "Told" });
    }
    if random.random_bool(0.05) {
        widget["kind"] = json!("Gadget");
    }
    if random.random_bool(0.05) {
        widget.as_object_mut().expect("an object").remove("spec");
    }
    if random.random_bool(0.05) {
        widget["extra"] = json!({ "a": 1 });
    }
    widget
}

fn put(random: &mut impl Rng, path: String) -> Operation {
    let spec = specification(random);
    let changes = pick(
        random,
        &[
            json!({ "spec": spec }),
            json!({ "metadata": { "labels": { "app": "z" } } }),
            json!({ "metadata": { "resourceVersion": "1" } }),
            json!({ "metadata": { "resourceVersion": null } }),
            json!({ "metadata": { "uid": "wrong" } }),
            json!({ "metadata": { "finalizers": null } }),
            json!({ "metadata": { "finalizers": [FINALIZER] } }),
            json!({ "status": { "phase": "Ignored" } }),
        ],
    );
    Operation::put_onto("custom put", path, changes)
}

fn patch(random: &mut impl Rng, path: String) -> Operation {
    let (content_type, body) = match random.random_range(0..6) {
        0 => (MERGE, json!({ "spec": specification(random) })),
        1 => (MERGE, json!({ "spec": { "queue": null, "mode": null } })),
        2 => (MERGE, json!({ "metadata": { "labels": { "app": "y" } } })),
        3 => (MERGE, json!({ "metadata": { "finalizers": null } })),
        4 => (STRATEGIC, json!({ "spec": { "size": 2 } })),
        _ => (
            "application/json-patch+json",
            json!([{ "op": "replace", "path": "/spec/size", "value": 3 }]),
        ),
    };
    Operation::patch("custom patch", path, content_type, body)
}

fn status(random: &mut impl Rng, path: String) -> Operation {
    let path = path + "/status";
    let status = pick(
        random,
        &[
            json!({ "phase": "Good" }),
            json!({ "count": -1 }),
            json!({ "count": 2, "odd": 1 }),
            json!({ "phase": 1 }),
            Value::Null,
        ],
    );
    let body = json!({ "status": status, "spec": { "size": 9 },
        "metadata": { "labels": { "by-status": "1" } } });
    if random.random_bool(0.4) {
        return Operation::put_onto("custom status", path, body);
    }
    Operation::patch("custom status", path, MERGE, body)
}

/// One operation on the widgets of a namespace.
pub(crate) fn random(random: &mut impl Rng, namespace: &str) -> Operation {
    let widgets = widgets(namespace);
    let name = pick(random, &["w0", "w1", "w2"]);
    let path = format!("{widgets}/{name}");
    match random.random_range(0..100) {
        0..35 => {
            let query = pick(random, &["", "", "", "?fieldValidation=Strict", "?dryRun=All"]);
            Operation::post("custom create", format!("{widgets}{query}"), widget(random, name))
        }
        35..50 => put(random, path),
        50..52 => Operation::put("custom put", path, widget(random, name)),
        52..67 => patch(random, path),
        67..80 => status(random, path),
        80..88 => Operation::delete("custom delete", path, Value::Null),
        88..91 => Operation::get("custom get", path),
        91..94 => Operation::table("custom table", widgets),
        _ => {
            let query = pick(
                random,
                &[
                    "labelSelector=app%3Dx",
                    "fieldSelector=metadata.name%3Dw1",
                    "fieldSelector=spec.size%3D1",
                    "limit=1",
                ],
            );
            Operation::get("custom list", format!("{widgets}?{query}"))
        }
    }
}
