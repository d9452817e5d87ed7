//! The trimmed types inside what `kube` reads, and what they cost.

use super::PodObject;
use kube::Resource;
use kube::api::{ObjectList, WatchEvent};
use serde_json::{Value, json};
use std::time::Instant;

/// About 3 KB, as a kubelet and two controllers leave a pod behind.
fn realistic() -> Value {
    let fields: Vec<Value> = (0..3)
        .map(|i| {
            json!({
                "manager": format!("manager-{i}"), "operation": "Update", "apiVersion": "v1",
                "time": "2026-01-02T03:04:05Z", "fieldsType": "FieldsV1",
                "fieldsV1": { "f:metadata": { "f:labels": { ".": {}, "f:app": {}, "f:team": {} } },
                    "f:spec": { "f:containers": { "k:{\"name\":\"main\"}": { ".": {}, "f:image": {},
                        "f:imagePullPolicy": {}, "f:name": {}, "f:resources": {} } } } },
            })
        })
        .collect();
    json!({
        "apiVersion": "v1", "kind": "Pod",
        "metadata": {
            "name": "llama-0", "namespace": "team", "resourceVersion": "12345",
            "uid": "6ba7b810-9dad-41d1-80b4-00c04fd430c8",
            "creationTimestamp": "2026-01-02T03:04:05Z",
            "labels": { "app": "llama", "team": "nlp" },
            "annotations": {
                "mss-scheduler.io/pod-group": "llama", "mss-scheduler.io/min-member": "4",
                "kubectl.kubernetes.io/last-applied-configuration": "x".repeat(600),
            },
            "managedFields": fields,
        },
        "spec": {
            "schedulerName": "mss-scheduler", "priority": 0,
            "containers": [{
                "name": "main", "image": "registry.example/llama:1", "command": ["train"],
                "env": [{ "name": "A", "value": "1" }, { "name": "B", "value": "2" }],
                "resources": { "requests": { "cpu": "8", "memory": "64Gi", "nvidia.com/gpu": "8" },
                    "limits": { "nvidia.com/gpu": "8" } },
                "volumeMounts": [{ "name": "token", "mountPath": "/var/run/secrets" }],
            }],
            "tolerations": [{ "key": "node.kubernetes.io/not-ready", "operator": "Exists",
                "effect": "NoExecute", "tolerationSeconds": 300 }],
            "volumes": [{ "name": "token", "projected": { "sources": [] } }],
        },
        "status": { "phase": "Pending", "qosClass": "Burstable" },
    })
}

#[test]
fn are_read_inside_events_and_lists() {
    let event = json!({ "type": "ADDED", "object": realistic() }).to_string();
    let WatchEvent::Added(pod) =
        serde_json::from_str::<WatchEvent<PodObject>>(&event).expect("an event")
    else {
        panic!("not added")
    };
    assert_eq!(pod.meta().name.as_deref(), Some("llama-0"));
    assert_eq!(pod.meta().resource_version.as_deref(), Some("12345"));
    assert_eq!(pod.meta.annotations.len(), 2);
    let list = json!({
        "apiVersion": "v1", "kind": "PodList", "metadata": { "resourceVersion": "9" },
        "items": [realistic()],
    });
    let list: ObjectList<PodObject> = serde_json::from_str(&list.to_string()).expect("a list");
    assert_eq!(list.items[0].meta.uid(), "6ba7b810-9dad-41d1-80b4-00c04fd430c8");
    assert_eq!(PodObject::url_path(&(), Some("team")), "/api/v1/namespaces/team/pods");
}

#[test]
fn cost_of_an_event_is_printed() {
    fn nanos<T: serde::de::DeserializeOwned>(text: &str) -> u128 {
        let started = Instant::now();
        for _ in 0..2000 {
            let event = serde_json::from_str::<WatchEvent<T>>(text).expect("an event");
            std::hint::black_box(event);
        }
        started.elapsed().as_nanos() / 2000
    }
    let text = json!({ "type": "ADDED", "object": realistic() }).to_string();
    let ours = nanos::<PodObject>(&text);
    let full = nanos::<k8s_openapi::api::core::v1::Pod>(&text);
    println!("a pod event of {} bytes: {ours} ns, the full type {full} ns", text.len());
}
