//! Random operations: what schedulers, kubelets and people do to pods, and some mistakes.

use http::Method;
use rand::{Rng, RngExt};
use serde_json::{Value, json};

/// One request.
#[derive(Clone, Debug)]
pub(crate) struct Operation {
    /// What is done, for counting.
    pub(crate) label: &'static str,
    pub(crate) method: Method,
    pub(crate) path: String,
    pub(crate) content_type: &'static str,
    pub(crate) accept: &'static str,
    pub(crate) body: Value,
    /// The body is merged into the present object, each server's own, before it is sent.
    pub(crate) onto_current: bool,
}

const JSON: &str = "application/json";
pub(crate) const STRATEGIC: &str = "application/strategic-merge-patch+json";
pub(crate) const MERGE: &str = "application/merge-patch+json";
pub(crate) const APPLY: &str = "application/apply-patch+yaml";
const TABLE: &str = "application/json;as=Table;v=v1;g=meta.k8s.io";

impl Operation {
    fn new(label: &'static str, method: Method, path: String, body: Value) -> Self {
        let (content_type, accept) = (JSON, JSON);
        Self { label, method, path, content_type, accept, body, onto_current: false }
    }

    pub(crate) fn post(label: &'static str, path: String, body: Value) -> Self {
        Self::new(label, Method::POST, path, body)
    }

    pub(crate) fn get(label: &'static str, path: String) -> Self {
        Self::new(label, Method::GET, path, Value::Null)
    }

    pub(crate) fn table(label: &'static str, path: String) -> Self {
        Self { accept: TABLE, ..Self::get(label, path) }
    }

    pub(crate) fn delete(label: &'static str, path: String, body: Value) -> Self {
        Self::new(label, Method::DELETE, path, body)
    }

    pub(crate) fn put(label: &'static str, path: String, body: Value) -> Self {
        Self::new(label, Method::PUT, path, body)
    }

    /// PUT of the present object with changes.
    pub(crate) fn put_onto(label: &'static str, path: String, changes: Value) -> Self {
        Self { onto_current: true, ..Self::put(label, path, changes) }
    }

    pub(crate) fn patch(
        label: &'static str,
        path: String,
        content_type: &'static str,
        body: Value,
    ) -> Self {
        Self { content_type, ..Self::new(label, Method::PATCH, path, body) }
    }
}

pub(crate) fn pick<T: Clone>(random: &mut impl Rng, choices: &[T]) -> T {
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
    Operation::patch("pod patch", path, content_type, body)
}

/// PUT: of labels and images, of what may not change, and of versions that are not current.
fn put(random: &mut impl Rng, path: String) -> Operation {
    let image = json!([{ "name": "a", "image": "put" }]);
    let app = pick(random, &["x", "y"]);
    let changes = pick(
        random,
        &[
            json!({ "metadata": { "labels": { "app": app } } }),
            json!({ "metadata": { "labels": { "app": app, "put": "1" } } }),
            json!({ "metadata": { "labels": null } }),
            json!({ "metadata": { "resourceVersion": "1" } }),
            json!({ "metadata": { "resourceVersion": null, "annotations": { "put": "1" } } }),
            json!({ "metadata": { "uid": "wrong" } }),
            json!({ "metadata": { "name": "other" } }),
            json!({ "metadata": { "namespace": "other" } }),
            json!({ "spec": { "activeDeadlineSeconds": 60 } }),
            json!({ "spec": { "containers": image } }),
            json!({ "spec": { "schedulerName": "other" } }),
            json!({ "spec": { "schedulingGates": [{ "name": "late" }] } }),
            json!({ "spec": { "nodeName": "elsewhere" } }),
        ],
    );
    Operation::put_onto("pod put", path, changes)
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
    Operation::get("pod list", format!("{pods}?{query}"))
}

/// One operation on the pods of a namespace.
pub(crate) fn random(random: &mut impl Rng, namespace: &str) -> Operation {
    let pods = format!("/api/v1/namespaces/{namespace}/pods");
    let name = pick(random, &["p0", "p1", "p2"]);
    match random.random_range(0..110) {
        0..28 => {
            let query = pick(random, &["", "", "", "?fieldValidation=Strict", "?dryRun=All"]);
            let body = pod(random, name);
            Operation::post("pod create", format!("{pods}{query}"), body)
        }
        28..46 => {
            let mut metadata = json!({ "name": pick(random, &[name, name, name, "other"]) });
            if random.random_bool(0.1) {
                metadata["uid"] = json!("wrong");
            }
            let node = pick(random, &["n0", "n1", "n1", ""]);
            let body = json!({ "metadata": metadata, "target": { "name": node } });
            Operation::post("pod binding", format!("{pods}/{name}/binding"), body)
        }
        46..56 => {
            let query = pick(random, &["", "", "?gracePeriodSeconds=0", "?gracePeriodSeconds=5"]);
            let wrong = json!({ "preconditions": { "uid": "wrong" } });
            let body = pick(random, &[Value::Null, Value::Null, Value::Null, wrong]);
            Operation::delete("pod delete", format!("{pods}/{name}{query}"), body)
        }
        56..68 => patch(random, format!("{pods}/{name}")),
        68..76 => {
            let status = json!({ "status": {
                "phase": pick(random, &["Running", "Succeeded", "Failed"]),
                "conditions": [{ "type": "Ready", "status": pick(random, &["True", "False"]) }] } });
            Operation::patch("pod status", format!("{pods}/{name}/status"), STRATEGIC, status)
        }
        76..88 => read(random, &pods),
        88..93 => {
            let body = json!({ "apiVersion": "policy/v1", "kind": "Eviction",
                "metadata": { "name": name } });
            Operation::post("pod eviction", format!("{pods}/{name}/eviction"), body)
        }
        93..97 => {
            let path = format!("/apis/coordination.k8s.io/v1/namespaces/{namespace}/leases/{name}");
            let body = json!({ "metadata": { "name": name },
                "spec": { "holderIdentity": pick(random, &["h", "i"]) } });
            Operation::put("lease put", path, body)
        }
        97..100 => {
            let body = json!({ "metadata": { "name": name }, "data": { "a": "b" } });
            let path = format!("/api/v1/namespaces/{namespace}/configmaps");
            Operation::post("configmap create", path, body)
        }
        _ => put(random, format!("{pods}/{name}")),
    }
}
