//! Random pods and nodes as JSON, from a seed: the same seed gives the same cases everywhere.

use serde_json::{Map, Value, json};

/// Names of the nodes of a case.
const NODES: [&str; 8] = ["n0", "n1", "n2", "n3", "n4", "n5", "n6", "n7"];

/// A generator of numbers (splitmix64): small, and its sequence never changes.
pub(crate) struct Dice(pub(crate) u64);

impl Dice {
    pub(crate) fn next(&mut self) -> u64 {
        self.0 = self.0.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let mut z = self.0;
        z = (z ^ (z >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        z = (z ^ (z >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        z ^ (z >> 31)
    }

    /// 0 to `n - 1`.
    pub(crate) fn below(&mut self, n: usize) -> usize {
        let n = u64::try_from(n).expect("a usize fits 64 bits");
        usize::try_from(self.next() % n).expect("below a usize")
    }

    fn one_in(&mut self, n: usize) -> bool {
        self.below(n) == 0
    }

    fn pick<T: Copy>(&mut self, choices: &[T]) -> T {
        choices[self.below(choices.len())]
    }

    fn list(&mut self, at_most: usize, mut make: impl FnMut(&mut Self) -> Value) -> Vec<Value> {
        (0..self.below(at_most + 1)).map(|_| make(self)).collect()
    }
}

/// `{"pod", "nodes", "pods"}`.
pub(crate) fn case(dice: &mut Dice) -> Value {
    let nodes: Vec<Value> = NODES.iter().map(|name| node(dice, name)).collect();
    let mut pods = Vec::new();
    for name in NODES {
        for _ in 0..dice.below(4) {
            let mut pod = pod(dice, pods.len() + 1);
            pod["spec"]["nodeName"] = json!(name);
            pod["status"] = status(dice, &pod);
            pods.push(pod);
        }
    }
    let mut asking = pod(dice, 0);
    if dice.one_in(10) {
        asking["spec"]["nodeName"] = json!(dice.pick(&["n0", "n1", "n2", "n3", "elsewhere"]));
    }
    json!({ "pod": asking, "nodes": nodes, "pods": pods })
}

fn node(dice: &mut Dice, name: &str) -> Value {
    let mut allocatable = json!({
        "cpu": dice.pick(&["4", "8", "7910m", "16", "0"]),
        "memory": dice.pick(&["8Gi", "16Gi", "7Gi", "32123456Ki"]),
        "pods": dice.pick(&["110", "3", "2", "0"]),
    });
    let more = [
        ("ephemeral-storage", ["10Gi", "100G", "1Gi"]),
        ("nvidia.com/gpu", ["8", "4", "0"]),
        ("example.com/fpga", ["1", "2", "3"]),
        ("hugepages-2Mi", ["1Gi", "64Mi", "0"]),
    ];
    for (name, amounts) in more {
        if !dice.one_in(3) {
            allocatable[name] = json!(dice.pick(&amounts));
        }
    }
    let mut labels = Map::new();
    for (key, values) in LABELS {
        if !dice.one_in(4) {
            labels.insert((*key).into(), json!(dice.pick(values)));
        }
    }
    let mut spec = json!({});
    if dice.one_in(3) {
        spec["taints"] = json!(dice.list(2, taint));
    }
    if dice.one_in(8) {
        spec["unschedulable"] = json!(true);
    }
    json!({
        "apiVersion": "v1", "kind": "Node", "metadata": { "name": name, "labels": labels },
        "spec": spec, "status": { "allocatable": allocatable },
    })
}

const LABELS: &[(&str, &[&str])] = &[
    ("zone", &["a", "b", "c"]),
    ("gpu", &["a100", "h100"]),
    ("size", &["1", "5", "05", "+7", "-3", "large", ""]),
];
const TAINT_KEYS: [&str; 3] = ["dedicated", "size", "node.kubernetes.io/unschedulable"];
const TAINT_VALUES: [&str; 6] = ["gpu", "", "5", "05", "-5", "9"];

fn taint(dice: &mut Dice) -> Value {
    json!({
        "key": dice.pick(&TAINT_KEYS), "value": dice.pick(&TAINT_VALUES),
        "effect": dice.pick(&["NoSchedule", "PreferNoSchedule", "NoExecute"]),
    })
}

fn toleration(dice: &mut Dice) -> Value {
    let operator = dice.pick(&["", "Equal", "Exists", "Exists", "Gt", "Lt"]);
    let mut toleration = json!({ "key": dice.pick(&TAINT_KEYS), "operator": operator });
    if operator == "Exists" {
        if dice.one_in(3) {
            toleration["key"] = json!("");
        }
    } else {
        toleration["value"] = json!(dice.pick(&TAINT_VALUES));
    }
    if dice.one_in(2) {
        toleration["effect"] = json!(dice.pick(&["NoSchedule", "PreferNoSchedule", "NoExecute"]));
    }
    toleration
}

fn pod(dice: &mut Dice, number: usize) -> Value {
    let containers: Vec<_> =
        (0..=dice.below(3)).map(|i| container(dice, &format!("c{i}"))).collect();
    let mut spec = json!({ "schedulerName": "mss-scheduler", "containers": containers });
    if dice.one_in(3) {
        let inits: Vec<_> = (0..dice.below(4))
            .map(|i| {
                let mut init = container(dice, &format!("i{i}"));
                if dice.one_in(2) {
                    init["restartPolicy"] = json!("Always");
                }
                init
            })
            .collect();
        spec["initContainers"] = json!(inits);
    }
    if dice.one_in(6) {
        spec["overhead"] = amounts(dice);
    }
    if dice.one_in(6) {
        spec["resources"] = json!({ "requests": amounts(dice) });
    }
    if dice.one_in(4) {
        let (key, values) = dice.pick(LABELS);
        spec["nodeSelector"] = json!({ key: dice.pick(values) });
    }
    if dice.one_in(2) {
        spec["tolerations"] = json!(dice.list(3, toleration));
    }
    if dice.one_in(2) {
        spec["affinity"] = json!({ "nodeAffinity": node_affinity(dice) });
    }
    json!({
        "apiVersion": "v1", "kind": "Pod",
        "metadata": {
            "name": format!("p{number}"), "namespace": "default",
            "uid": format!("00000000-0000-4000-8000-{number:012x}"),
        },
        "spec": spec,
    })
}

fn container(dice: &mut Dice, name: &str) -> Value {
    let mut container = json!({ "name": name });
    if !dice.one_in(4) {
        container["resources"] = json!({ "requests": amounts(dice) });
    }
    if dice.one_in(6) {
        let port = |dice: &mut Dice| {
            json!({
                "containerPort": 80, "hostPort": dice.pick(&[0, 8080, 8081]),
                "hostIP": dice.pick(&["", "", "0.0.0.0", "127.0.0.1", "::"]),
                "protocol": dice.pick(&["", "TCP", "TCP", "UDP", "SCTP"]),
            })
        };
        container["ports"] = json!(dice.list(2, port));
    }
    container
}

fn amounts(dice: &mut Dice) -> Value {
    let all = [
        ("cpu", ["250m", "1", "0.5", "1500000u", "1n", "0"]),
        ("memory", ["512Mi", "1G", "1.5Gi", "100m", "1e9", "0"]),
        ("ephemeral-storage", ["1Gi", "1500M", "1u", "0", "20Gi", "1k"]),
        ("nvidia.com/gpu", ["1", "2", "4", "0", "1", "8"]),
        ("example.com/fpga", ["1", "1", "0", "2", "1", "1"]),
        ("hugepages-2Mi", ["2Mi", "64Mi", "0", "2Mi", "4Mi", "128Mi"]),
        ("example.com/nowhere", ["1", "0", "0", "0", "0", "0"]),
        ("storage", ["1Gi", "0", "1", "1", "1", "1"]),
    ];
    let often = [2, 2, 5, 4, 9, 7, 40, 40];
    let mut amounts = Map::new();
    for ((name, values), often) in all.iter().zip(often) {
        if dice.one_in(often) {
            amounts.insert((*name).into(), json!(dice.pick(values)));
        }
    }
    Value::Object(amounts)
}

fn node_affinity(dice: &mut Dice) -> Value {
    let mut affinity = json!({});
    if dice.one_in(2) {
        let terms: Vec<_> = (0..=dice.below(2)).map(|_| term(dice)).collect();
        affinity["requiredDuringSchedulingIgnoredDuringExecution"] =
            json!({ "nodeSelectorTerms": terms });
    }
    if dice.one_in(2) {
        let preferred = |dice: &mut Dice| {
            let weight = dice.pick(&[1, 10, 33, 100]);
            json!({ "weight": weight, "preference": term(dice) })
        };
        affinity["preferredDuringSchedulingIgnoredDuringExecution"] =
            json!(dice.list(3, preferred));
    }
    affinity
}

fn term(dice: &mut Dice) -> Value {
    let mut term = json!({ "matchExpressions": dice.list(2, expression) });
    if dice.one_in(4) {
        let field = |dice: &mut Dice| {
            json!({
                "key": "metadata.name", "operator": dice.pick(&["In", "In", "NotIn"]),
                "values": [dice.pick(&["n0", "n1", "n2", "n3", "elsewhere"])],
            })
        };
        let fields: Vec<_> = (0..=dice.below(2)).map(|_| field(dice)).collect();
        term["matchFields"] = json!(fields);
    }
    term
}

fn expression(dice: &mut Dice) -> Value {
    let (key, values) = dice.pick(LABELS);
    let operator = dice.pick(&["In", "NotIn", "Exists", "DoesNotExist", "Gt", "Lt"]);
    let values = match operator {
        "In" | "NotIn" => {
            let legal: Vec<_> = values.iter().filter(|v| !v.starts_with(['+', '-'])).collect();
            (0..=dice.below(2)).map(|_| **dice.pick(&legal.iter().collect::<Vec<_>>())).collect()
        }
        "Gt" | "Lt" => vec![dice.pick(&["0", "4", "5", "6", "007"])],
        _ => vec![],
    };
    json!({ "key": key, "operator": operator, "values": values })
}

/// What a kubelet reports of a pod that runs, resizes in progress among it.
fn status(dice: &mut Dice, pod: &Value) -> Value {
    let mut status = json!({ "phase": "Running" });
    if dice.one_in(3) {
        status["containerStatuses"] = statuses(dice, &pod["spec"]["containers"]);
        status["initContainerStatuses"] = statuses(dice, &pod["spec"]["initContainers"]);
    }
    if dice.one_in(5) {
        let reason = dice.pick(&["Infeasible", "Deferred"]);
        status["conditions"] =
            json!([{ "type": "PodResizePending", "status": "True", "reason": reason }]);
    }
    if dice.one_in(5) {
        status["resources"] = json!({ "requests": amounts(dice) });
    }
    if dice.one_in(4) {
        status["allocatedResources"] = amounts(dice);
    }
    status
}

fn statuses(dice: &mut Dice, containers: &Value) -> Value {
    let containers = containers.as_array().into_iter().flatten();
    let mut statuses = Vec::new();
    for container in containers {
        let mut status = json!({
            "name": container["name"], "image": "", "imageID": "", "ready": true,
            "restartCount": 0,
        });
        if dice.one_in(2) {
            status["allocatedResources"] = amounts(dice);
        }
        if dice.one_in(2) {
            status["resources"] = json!({ "requests": amounts(dice) });
        }
        if !dice.one_in(5) {
            statuses.push(status);
        }
    }
    json!(statuses)
}
