//! Random operations: what schedulers, kubelets and people do to pods, and some mistakes.

use http::Method;
use rand::{Rng, RngExt};
use serde_json::{Value, json};

/// One request.
#[derive(Clone, Debug)]
pub(crate) struct Operation {
    pub(crate) method: Method,
    pub(crate) path: String,
    pub(crate) content_type: &'static str,
    pub(crate) body: Value,
}

impl Operation {
    pub(crate) fn post(path: String, body: Value) -> Self {
        Self::new(Method::POST, path, "application/json", body)
    }

    fn new(method: Method, path: String, content_type: &'static str, body: Value) -> Self {
        Self { method, path, content_type, body }
    }
}

const STRATEGIC: &str = "application/strategic-merge-patch+json";
const MERGE: &str = "application/merge-patch+json";

fn pick<T: Clone>(random: &mut impl Rng, choices: &[T]) -> T {
    choices[random.random_range(0..choices.len())].clone()
}

fn pod(random: &mut impl Rng, name: &str) -> Value {
    let image = pick(random, &["x", "x:1", "r.io/x:latest", "x@sha256:00"]);
    let mut container = json!({ "name": pick(random, &["a", "a", "a", "A!"]), "image": image });
    container["resources"] = match random.random_range(0..5) {
        0 => json!({ "limits": { "nvidia.com/gpu": pick(random, &["1", "8", "1500m"]),
            "cpu": pick(random, &["1", "0.5", "1000m"]) } }),
        1 => json!({ "requests": { "cpu": pick(random, &["1", "100m", "2"]),
            "memory": pick(random, &["1Gi", "1024Mi", "1e9"]) },
            "limits": { "cpu": "1", "memory": "1Gi" } }),
        2 => json!({ "requests": { "nvidia.com/gpu": "1" } }),
        _ => json!({}),
    };
    if random.random_bool(0.3) {
        container["ports"] = json!([{ "containerPort": 80 }]);
    }
    let mut pod = json!({ "metadata": { "name": name }, "spec": { "containers": [container] } });
    let extras: [(&str, Value); 9] = [
        ("/spec/schedulingGates", json!([{ "name": "g" }])),
        ("/spec/priorityClassName", json!("system-node-critical")),
        ("/spec/priorityClassName", json!("nope")),
        ("/spec/tolerations", json!([{ "key": "k", "operator": "Exists" }])),
        ("/spec/nodeSelector", json!({ "a": "b" })),
        ("/spec/volumes", json!([{ "name": "v" }, { "name": "w", "configMap": { "name": "c" } }])),
        ("/spec/restartPolicy", json!("Never")),
        ("/spec/unknown", json!(1)),
        ("/metadata/labels", json!({ "app": "bad value!" })),
    ];
    if random.random_bool(0.6) {
        pod["metadata"]["labels"] = json!({ "app": pick(random, &["x", "y"]) });
    }
    for (pointer, value) in extras {
        if random.random_bool(0.1) {
            let (parent, field) = pointer.rsplit_once('/').expect("two parts");
            pod.pointer_mut(parent).expect("a parent")[field] = value;
        }
    }
    pod
}

fn patch(random: &mut impl Rng, path: String) -> Operation {
    let (content_type, body) = match random.random_range(0..6) {
        0 => (STRATEGIC, json!({ "metadata": { "labels": { "app": "y" } } })),
        1 => (STRATEGIC, json!({ "metadata": { "labels": { "app": null } } })),
        2 => (STRATEGIC, json!({ "spec": { "containers": [{ "name": "a", "image": "n" }] } })),
        3 => (MERGE, json!({ "spec": { "schedulerName": "other" } })),
        4 => (MERGE, json!({ "metadata": { "annotations": { "k": "v" } } })),
        _ => (
            "application/json-patch+json",
            json!([{ "op": "add", "path": "/metadata/annotations", "value": { "z": "1" } }]),
        ),
    };
    Operation::new(Method::PATCH, path, content_type, body)
}

fn read(random: &mut impl Rng, pods: &str) -> Operation {
    let query = pick(
        random,
        &[
            "labelSelector=app%3Dx",
            "labelSelector=app+in+%28x,y%29",
            "labelSelector=%21app",
            "fieldSelector=spec.nodeName%3Dn1",
            "fieldSelector=status.phase%21%3DRunning",
            "fieldSelector=nothing%3D1",
            "limit=1",
        ],
    );
    let path = format!("{pods}?{query}");
    Operation::new(Method::GET, path, "application/json", Value::Null)
}

/// One operation on the pods of a namespace.
pub(crate) fn random(random: &mut impl Rng, namespace: &str) -> Operation {
    let pods = format!("/api/v1/namespaces/{namespace}/pods");
    let name = pick(random, &["p0", "p1", "p2"]);
    match random.random_range(0..100) {
        0..28 => {
            let query = pick(random, &["", "", "", "?fieldValidation=Strict", "?dryRun=All"]);
            let body = pod(random, name);
            Operation::post(format!("{pods}{query}"), body)
        }
        28..46 => {
            let mut metadata = json!({ "name": pick(random, &[name, name, name, "other"]) });
            if random.random_bool(0.1) {
                metadata["uid"] = json!("wrong");
            }
            let node = pick(random, &["n0", "n1", "n1", ""]);
            let body = json!({ "metadata": metadata, "target": { "name": node } });
            Operation::post(format!("{pods}/{name}/binding"), body)
        }
        46..56 => {
            let query = pick(random, &["", "", "?gracePeriodSeconds=0", "?gracePeriodSeconds=5"]);
            let wrong = json!({ "preconditions": { "uid": "wrong" } });
            let body = pick(random, &[Value::Null, Value::Null, Value::Null, wrong]);
            let path = format!("{pods}/{name}{query}");
            Operation::new(Method::DELETE, path, "application/json", body)
        }
        56..68 => patch(random, format!("{pods}/{name}")),
        68..76 => {
            let status = json!({ "status": {
                "phase": pick(random, &["Running", "Succeeded", "Failed"]),
                "conditions": [{ "type": "Ready", "status": pick(random, &["True", "False"]) }] } });
            let path = format!("{pods}/{name}/status");
            Operation::new(Method::PATCH, path, STRATEGIC, status)
        }
        76..88 => read(random, &pods),
        88..93 => {
            let body = json!({ "apiVersion": "policy/v1", "kind": "Eviction",
                "metadata": { "name": name } });
            Operation::post(format!("{pods}/{name}/eviction"), body)
        }
        93..97 => {
            let path = format!("/apis/coordination.k8s.io/v1/namespaces/{namespace}/leases/{name}");
            let body = json!({ "metadata": { "name": name },
                "spec": { "holderIdentity": pick(random, &["h", "i"]) } });
            Operation::new(Method::PUT, path, "application/json", body)
        }
        _ => {
            let body = json!({ "metadata": { "name": name }, "data": { "a": "b" } });
            Operation::post(format!("/api/v1/namespaces/{namespace}/configmaps"), body)
        }
    }
}
