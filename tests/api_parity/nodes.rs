//! Random operations on nodes: kubelets register and report, people label, taint and cordon.

use super::operations::{MERGE, Operation, STRATEGIC, pick};
use rand::{Rng, RngExt};
use serde_json::{Value, json};

const NODES: &str = "/api/v1/nodes";

fn taints(random: &mut impl Rng) -> Value {
    let taint = |key: &str, effect: &str| json!({ "key": key, "value": "v", "effect": effect });
    pick(
        random,
        &[
            json!([taint("a", "NoSchedule")]),
            json!([taint("a", "NoSchedule"), taint("a", "NoExecute")]),
            json!([taint("example.com/b", "PreferNoSchedule")]),
            json!([taint("a", "NoSchedule"), taint("a", "NoSchedule")]),
            json!([taint("a", "Sometimes")]),
            json!([taint("a", "")]),
            json!([taint("bad key", "NoSchedule")]),
            json!([{ "key": "a", "value": "bad value", "effect": "NoSchedule" }]),
            json!([{ "key": "novalue", "effect": "NoExecute" }]),
            json!([]),
        ],
    )
}

fn conditions(random: &mut impl Rng) -> Value {
    let ready = json!({ "type": "Ready", "status": pick(random, &["True", "False", "Unknown"]) });
    let pressure = json!({ "type": "DiskPressure", "status": "False", "reason": "Enough" });
    pick(random, &[json!([ready]), json!([ready, pressure]), json!([pressure])])
}

fn quantities(random: &mut impl Rng) -> Value {
    json!({ "cpu": pick(random, &["4", "3500m", "0.5"]),
        "memory": pick(random, &["8Gi", "8192Mi", "1e9"]),
        "nvidia.com/gpu": pick(random, &["8", "1"]) })
}

fn node(random: &mut impl Rng, name: &str, seed: u64) -> Value {
    let mut node = json!({ "metadata": { "name": name,
        "labels": { "seed": seed.to_string(), "kubernetes.io/hostname": name } } });
    if random.random_bool(0.5) {
        node["metadata"]["labels"]["zone"] = json!(pick(random, &["x", "y"]));
    }
    if random.random_bool(0.1) {
        node["metadata"]["labels"]["node-role.kubernetes.io/worker"] = json!("");
    }
    if random.random_bool(0.3) {
        node["spec"]["taints"] = taints(random);
    }
    if random.random_bool(0.2) {
        node["spec"]["unschedulable"] = json!(random.random_bool(0.5));
    }
    if random.random_bool(0.2) {
        node["spec"]["providerID"] = json!("p://1");
    }
    if random.random_bool(0.6) {
        node["status"]["capacity"] = quantities(random);
        node["status"]["conditions"] = conditions(random);
    }
    if random.random_bool(0.2) {
        node["status"]["allocatable"] = quantities(random);
    }
    if random.random_bool(0.1) {
        node["status"]["nothing"] = json!(1);
    }
    node
}

fn patch(random: &mut impl Rng, path: String) -> Operation {
    let taints = taints(random);
    let (content_type, body) = match random.random_range(0..9) {
        0 => (STRATEGIC, json!({ "metadata": { "labels": { "zone": "x" } } })),
        1 => (MERGE, json!({ "metadata": { "labels": { "zone": null, "more": "1" } } })),
        2 => (STRATEGIC, json!({ "spec": { "unschedulable": true } })),
        3 => (STRATEGIC, json!({ "spec": { "unschedulable": null } })),
        4 => (STRATEGIC, json!({ "spec": { "taints": taints } })),
        5 => (MERGE, json!({ "spec": { "taints": taints } })),
        6 => (MERGE, json!({ "spec": { "providerID": pick(random, &["p://1", "p://2"]) } })),
        7 => (MERGE, json!({ "metadata": { "annotations": { "k": "v" } } })),
        _ => (STRATEGIC, json!({ "status": { "phase": "Running" } })),
    };
    Operation::patch("node patch", path, content_type, body)
}

fn status(random: &mut impl Rng, path: String) -> Operation {
    let address =
        json!({ "type": pick(random, &["InternalIP", "ExternalIP"]), "address": "10.1.2.3" });
    let status = match random.random_range(0..4) {
        0 => json!({ "capacity": quantities(random), "allocatable": quantities(random) }),
        1 => json!({ "addresses": [address, { "type": "Hostname", "address": "h" }] }),
        2 => json!({ "nodeInfo": { "kubeletVersion": "v1", "osImage": "os" } }),
        _ => json!({ "conditions": conditions(random) }),
    };
    let mut body = json!({ "status": status });
    if random.random_bool(0.2) {
        body["spec"]["unschedulable"] = json!(true);
        body["metadata"]["labels"]["by-status"] = json!("1");
    }
    Operation::patch("node status", path + "/status", STRATEGIC, body)
}

fn put(random: &mut impl Rng, path: String) -> Operation {
    let changes = pick(
        random,
        &[
            json!({ "metadata": { "labels": { "put": "1" } } }),
            json!({ "metadata": { "resourceVersion": "1" } }),
            json!({ "metadata": { "resourceVersion": null, "annotations": { "put": "1" } } }),
            json!({ "metadata": { "uid": "wrong" } }),
            json!({ "spec": { "unschedulable": true } }),
            json!({ "spec": { "podCIDR": "10.0.0.0/24", "podCIDRs": ["10.0.0.0/24"] } }),
        ],
    );
    Operation::put_onto("node put", path, changes)
}

/// One operation on the nodes of a sequence.
pub(crate) fn random(random: &mut impl Rng, seed: u64) -> Operation {
    let name = format!("n{seed}-{}", pick(random, &["0", "1", "2"]));
    let path = format!("{NODES}/{name}");
    match random.random_range(0..100) {
        0..30 => {
            let query = pick(random, &["", "", "", "?fieldValidation=Strict", "?dryRun=All"]);
            Operation::post("node create", format!("{NODES}{query}"), node(random, &name, seed))
        }
        30..55 => patch(random, path),
        55..70 => status(random, path),
        70..78 => put(random, path),
        78..88 => Operation::delete("node delete", path, Value::Null),
        88..92 => Operation::get("node get", path),
        92..95 => Operation::table("node table", format!("{NODES}?labelSelector=seed%3D{seed}")),
        _ => {
            let query = pick(
                random,
                &["fieldSelector=spec.unschedulable%3Dtrue", "fieldSelector=spec.podCIDR%3Dx", ""],
            );
            let path = format!("{NODES}?labelSelector=seed%3D{seed}&{query}");
            Operation::get("node list", path)
        }
    }
}
