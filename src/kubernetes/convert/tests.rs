//! Pods and nodes as an API server sends them, and as it never would.

use super::Converter;
use crate::kubernetes::objects::{NodeObject, PodObject};
use crate::model::{ContractError, HostPort, Phase, Pod};
use serde_json::{Value, json};

fn convert(value: &Value) -> Pod {
    let object: PodObject = serde_json::from_str(&value.to_string()).expect("a pod");
    Converter::default().pod(&object)
}

fn pod(spec: &Value, annotations: &Value) -> Value {
    let mut pod = json!({
        "metadata": {
            "name": "p", "namespace": "team", "uid": "00000000-0000-4000-8000-000000000001",
            "creationTimestamp": "2026-01-02T03:04:05Z", "annotations": annotations,
            "ownerReferences": [
                { "uid": "00000000-0000-4000-8000-000000000002", "controller": true },
            ],
            "managedFields": [{ "manager": "kubectl", "fieldsV1": { "f:spec": {} } }],
        },
        "spec": { "schedulerName": "mss-scheduler", "containers": [{ "name": "a" }] },
    });
    for (key, value) in spec.as_object().expect("fields of a spec") {
        pod["spec"][key] = value.clone();
    }
    pod
}

#[test]
fn reads_what_decides() {
    let mut value = pod(
        &json!({
            "priority": 7, "activeDeadlineSeconds": 60, "schedulingGates": [{ "name": "wait" }],
            "containers": [{
                "name": "a", "resources": { "requests": { "cpu": "1500m", "memory": "1Gi" } },
                "ports": [{ "hostPort": 8080 }, { "hostPort": 53, "protocol": "UDP" }],
            }],
        }),
        &json!({ "mss-scheduler.io/pod-group": "g", "mss-scheduler.io/min-member": "2", "x": "y" }),
    );
    value["status"] = json!({
        "phase": "Succeeded",
        "conditions": [{
            "type": "PodScheduled", "status": "True",
            "lastTransitionTime": "2026-01-02T03:04:06Z",
        }],
        "containerStatuses": [
            { "name": "a", "state": { "terminated": { "finishedAt": "2026-01-02T03:05:00Z" } } },
        ],
    });
    let pod = convert(&value);
    assert_eq!((pod.profile, pod.priority, pod.gated), (Some(0), 7, true));
    assert_eq!((pod.run_limit_ms, pod.termination_ms), (Some(60_000), 30_000));
    value["spec"]["terminationGracePeriodSeconds"] = json!(600);
    assert_eq!(convert(&value).termination_ms, 600_000);
    value["metadata"]["deletionGracePeriodSeconds"] = json!(5);
    assert_eq!(convert(&value).termination_ms, 5_000, "its deletion says how long it has now");
    assert_eq!(pod.phase, Phase::Succeeded);
    assert_eq!(pod.created.0, 1_767_323_045_000);
    assert_eq!(pod.bound_at.map(|at| at.0 - pod.created.0), Some(1000));
    assert_eq!(pod.finished_at.map(|at| at.0 - pod.created.0), Some(55_000));
    assert!(pod.controller.is_some());
    let group = pod.group.expect("a group").expect("well formed");
    assert_eq!((&*group.name, group.min_member), ("g", 2));
    let requests = vec![("cpu".into(), 1500), ("memory".into(), 1 << 30)];
    assert_eq!(pod.class.requests, requests);
    let ports: Vec<_> = pod.class.host_ports.iter().map(|p| (p.port, p.address)).collect();
    assert_eq!(ports, [(53, HostPort::ANY_ADDRESS), (8080, HostPort::ANY_ADDRESS)]);
}

#[test]
fn refuses_what_it_cannot_honour_on_that_pod_alone() {
    let affinity = |expression: Value| {
        json!({ "affinity": { "nodeAffinity": {
            "requiredDuringSchedulingIgnoredDuringExecution": {
                "nodeSelectorTerms": [{ "matchExpressions": [expression] }],
            },
        } } })
    };
    let asks = |amount: &str| {
        let resources = json!({ "requests": { "cpu": amount } });
        json!({ "containers": [{ "name": "a", "resources": resources }] })
    };
    let cases = [
        ("quantity", asks("lots")),
        ("quantity", asks("1E")),
        ("quantity", asks("-1")),
        ("malformed", affinity(json!({ "key": "zone", "operator": "In" }))),
        ("malformed", affinity(json!({ "key": "zone", "operator": "Like", "values": ["a"] }))),
        ("malformed", affinity(json!({ "key": "zone", "operator": "Gt", "values": ["a"] }))),
        ("unsupported", json!({ "resourceClaims": [{ "name": "gpu" }] })),
        ("unsupported", json!({ "schedulingGroup": { "podGroupName": "g" } })),
        (
            "unsupported",
            json!({ "topologySpreadConstraints": [{ "whenUnsatisfiable": "DoNotSchedule" }] }),
        ),
        (
            "unsupported",
            json!({ "affinity": { "podAntiAffinity": {
                "requiredDuringSchedulingIgnoredDuringExecution": [{ "topologyKey": "h" }],
            } } }),
        ),
    ];
    let claims = pod(&json!({ "resourceClaims": [{ "name": "gpu" }] }), &Value::Null);
    let said = convert(&claims).group.expect("refused").expect_err("refused").to_string();
    assert!(said.starts_with("spec.resourceClaims is not honoured by this scheduler"), "{said}");
    assert!(said.contains("claims are not read. Request devices as a resource"), "{said}");
    for (reason, spec) in cases {
        let value = pod(&spec, &Value::Null);
        let error = convert(&value).group.expect("refused").expect_err("refused");
        assert_eq!(error.reason(), reason, "{spec}");
        let mut bound = value.clone();
        bound["spec"]["nodeName"] = json!("n");
        assert_eq!(convert(&bound).group, None, "what runs is counted, not refused: {spec}");
        let mut foreign = value;
        foreign["spec"]["schedulerName"] = json!("another");
        assert_eq!(convert(&foreign).group, None, "{spec}");
    }
    let soft = json!({ "topologySpreadConstraints": [{ "whenUnsatisfiable": "ScheduleAnyway" }] });
    assert_eq!(convert(&pod(&soft, &Value::Null)).group, None);
}

#[test]
fn oversize_annotations_are_refused_and_foreign_ones_do_not_count() {
    let big = "x".repeat(5000);
    let ours = pod(&json!({}), &json!({ "mss-scheduler.io/note": big }));
    let error = convert(&ours).group.expect("refused").expect_err("refused");
    assert!(matches!(error, ContractError::Oversize { limit: 4096, .. }), "{error}");
    assert_eq!(convert(&pod(&json!({}), &json!({ "other.io/note": big }))).group, None);
}

#[test]
fn a_notice_that_the_scheduler_wrote_makes_no_pod_oversize() {
    let room = 4096 - "mss-scheduler.io/note".len();
    let mut said = json!({ "mss-scheduler.io/note": "x".repeat(room) });
    assert_eq!(convert(&pod(&json!({}), &said)).group, None);
    said["mss-scheduler.io/evict-at"] = json!("2026-01-02T03:04:05Z");
    said["mss-scheduler.io/gpu-devices"] = json!("0,1");
    assert_eq!(convert(&pod(&json!({}), &said)).group, None);
}

#[test]
fn reads_queue_role_and_maximum() {
    let mut value = pod(
        &json!({}),
        &json!({
            "mss-scheduler.io/pod-group": "g", "mss-scheduler.io/min-member": "2",
            "mss-scheduler.io/max-member": "5", "mss-scheduler.io/role": "header",
        }),
    );
    let plain = convert(&value);
    let group = plain.group.expect("a group").expect("well formed");
    assert_eq!((group.min_member, group.max_member), (2, Some(5)));
    assert_eq!((plain.header, plain.queue), (true, None));

    value["metadata"]["labels"] =
        json!({ "app": "x", "mss-scheduler.io/queue": "by-label", "mss-scheduler.io/y": "z" });
    assert_eq!(convert(&value).queue.as_deref(), Some("by-label"));
    assert_eq!(convert(&value).labels.get("app"), Some("x"));
    value["metadata"]["annotations"]["mss-scheduler.io/queue"] = json!("by-annotation");
    assert_eq!(convert(&value).queue.as_deref(), Some("by-annotation"));

    let mut foreign = value.clone();
    foreign["spec"]["schedulerName"] = json!("another");
    let foreign = convert(&foreign);
    assert_eq!((foreign.queue, foreign.header, foreign.group), (None, false, None));

    for (key, wrong) in [("queue", "No Name"), ("role", "worker"), ("max-member", "1")] {
        let mut value = value.clone();
        value["metadata"]["annotations"][format!("mss-scheduler.io/{key}")] = json!(wrong);
        let refused = convert(&value);
        let error = refused.group.expect("refused").expect_err("refused");
        assert_eq!(error.reason(), "annotation");
        assert!(error.to_string().contains(&format!("mss-scheduler.io/{key} is \"{wrong}\"")));
        assert_eq!((refused.queue, refused.header), (None, false));
    }
}

#[test]
fn an_unreadable_amount_of_a_bound_pod_counts_as_the_largest() {
    let asks = json!({
        "nodeName": "n", "schedulerName": "another",
        "containers": [{ "name": "a", "resources": { "requests": { "cpu": "lots" } } }],
    });
    let requests = convert(&pod(&asks, &Value::Null)).class.requests;
    assert_eq!(requests, vec![("cpu".into(), crate::model::quantity::VALUE_MAX)]);
}

#[test]
fn reads_a_node() {
    let value = json!({
        "metadata": { "name": "n", "labels": { "z": "1", "a": "2" } },
        "spec": {
            "unschedulable": true,
            "taints": [{ "key": "k", "effect": "NoSchedule" }, { "key": "k", "effect": "Odd" }],
        },
        "status": { "allocatable": { "cpu": "2", "pods": "110", "memory": "?", "odd": "1" } },
    });
    let object: NodeObject = serde_json::from_str(&value.to_string()).expect("a node");
    let node = Converter::default().node(&object, None);
    assert_eq!((node.label("a"), node.label("z")), (Some("2"), Some("1")));
    assert!(node.unschedulable);
    assert_eq!(node.taints.len(), 1);
    assert_eq!(node.allocatable, vec![("cpu".into(), 2000), ("pods".into(), 110)]);
}

#[test]
fn reads_how_the_gpus_of_a_node_are_joined() {
    let node = |annotations: Value| {
        let labels =
            json!({ "nvidia.com/gpu.product": "NVIDIA-H200", "nvidia.com/gpu.count": "8" });
        let value = json!({
            "metadata": { "name": "n", "labels": labels, "annotations": annotations },
        });
        let object: NodeObject = serde_json::from_str(&value.to_string()).expect("a node");
        let node = Converter::default().node(&object, None);
        (node.gpus.map(|gpus| gpus.to_string()), node.gpus_refused)
    };
    let known = "v1 gpus=8 numa=0:0-3/1:4-7 else=NV18".to_owned();
    assert_eq!(node(json!({})), (Some(known), None));
    let said = json!({ "mss-scheduler.io/gpu-topology": "v1 gpus=2 else=PIX" });
    assert_eq!(node(said), (Some("v1 gpus=2 else=PIX".into()), None));
    let (gpus, refused) = node(json!({ "mss-scheduler.io/gpu-topology": "v1 gpus=2" }));
    assert_eq!(gpus, None);
    assert!(refused.unwrap().contains("devices 0 and 1 are joined by no link"));
}

#[test]
fn the_slots_of_a_node_are_resources_of_the_names_of_their_annotations() {
    let node = |annotations: Value| {
        let (cpu, gpu) = ("mss-scheduler.io/cpu-slots", "mss-scheduler.io/gpu-slots");
        let value = json!({
            "metadata": { "name": "n", "annotations": annotations },
            "status": { "allocatable": { "cpu": "1", cpu: "7", gpu: "7" } },
        });
        let object: NodeObject = serde_json::from_str(&value.to_string()).expect("a node");
        let node = Converter::default().node(&object, None);
        let slots = node.allocatable.into_iter().filter(|(name, _)| **name != *"cpu");
        (slots.map(|(_, count)| count).collect::<Vec<_>>(), node.slots_refused)
    };
    assert_eq!(node(json!({})), (vec![], None), "what is offered as a resource is none");
    let said = json!({ "mss-scheduler.io/cpu-slots": "30", "mss-scheduler.io/gpu-slots": "0" });
    assert_eq!(node(said), (vec![30, 0], None));
    let said = json!({ "mss-scheduler.io/cpu-slots": "30", "mss-scheduler.io/gpu-slots": "-1" });
    let (slots, refused) = node(said);
    assert!(slots.is_empty());
    assert!(refused.unwrap().contains("gpu-slots is \"-1\": expected a whole number from 0"));
}

#[test]
fn reads_the_gpus_of_a_pod_and_what_they_must_be() {
    let asks = json!({
        "containers": [{ "name": "a", "resources": { "requests": { "nvidia.com/gpu": "2" } } }],
    });
    let read = |annotations: Value| convert(&pod(&asks, &annotations));
    let given = read(json!({ "mss-scheduler.io/gpu-devices": "0,3" }));
    assert_eq!(given.devices.to_string(), "0,3");
    assert!(read(json!({ "mss-scheduler.io/gpu-devices": "3,0" })).devices.is_empty());
    let joined = read(json!({ "mss-scheduler.io/gpu-request": "num=2:glink=yes" }));
    assert!(joined.group.is_none() && joined.class.gpu_needs.unwrap().joined);
    let refused = read(json!({ "mss-scheduler.io/gpu-request": "num=4" }));
    let error = refused.group.expect("refused").expect_err("refused").to_string();
    assert!(error.ends_with("num=4, but the pod asks for 2 nvidia.com/gpu"), "{error}");
}

#[test]
fn a_holder_names_what_it_owns_in_a_namespace_that_may() {
    let read = |namespace: &str, held: Value, labels: Value, deleting: bool| {
        let mut object = json!({
            "metadata": {
                "name": "h", "namespace": namespace, "uid": "1", "labels": labels,
                "annotations": { "mss-scheduler.io/gpu-devices": held },
            },
            "spec": {
                "nodeName": "a",
                "containers": [{ "name": "a", "resources": { "requests": { "nvidia.com/gpu": "2" } } }],
            },
        });
        if deleting {
            object["metadata"]["deletionTimestamp"] = json!("2026-01-01T00:00:00Z");
        }
        let pod = convert(&object);
        let refused = pod.holder_refused.map(|refusal| format!("{:?}", refusal.fault));
        pod.holds.to_string() + &refused.unwrap_or_default()
    };
    let holder = || json!({ "mss-scheduler.io/gpu-holder": "true" });
    let own = "mss-scheduler";
    assert_eq!(read(own, json!("0,3"), holder(), false), "0,3");
    assert_eq!(read("tenant", json!("0,3"), holder(), false), "", "another namespace");
    assert_eq!(read(own, json!("0,3"), json!({}), false), "", "without the label");
    assert_eq!(read(own, json!("0,1,3"), holder(), false), "Miscounted", "more than it requests");
    assert_eq!(read(own, json!("GPU-1"), holder(), false), "Unreadable", "no indexes");
    assert_eq!(read(own, json!("0,3"), holder(), true), "", "it is leaving");
}

/// Replaces the value at the `at`-th place, counted depth first.
fn replace(value: &mut Value, at: &mut usize, with: &Value) {
    if *at == 0 {
        *value = with.clone();
    }
    *at = at.wrapping_sub(1);
    match value {
        Value::Object(fields) => fields.values_mut().for_each(|v| replace(v, at, with)),
        Value::Array(items) => items.iter_mut().for_each(|v| replace(v, at, with)),
        _ => {}
    }
}

#[test]
fn no_mutation_of_a_pod_panics() {
    let whole = pod(
        &json!({
            "overhead": { "cpu": "1" }, "nodeSelector": { "a": "b" },
            "resources": { "requests": { "memory": "1Gi" } },
            "initContainers": [{ "name": "i", "restartPolicy": "Always" }],
            "tolerations": [{ "key": "k", "operator": "Gt", "value": "5", "effect": "NoExecute" }],
            "containers": [{ "name": "a", "ports": [{ "hostPort": 1, "hostIP": "::" }] }],
        }),
        &json!({ "mss-scheduler.io/pod-group": "g", "mss-scheduler.io/min-member": "2" }),
    );
    let odd = [
        json!(null),
        json!(true),
        json!(-1),
        json!(1e300),
        json!(u64::MAX),
        json!(""),
        json!("\u{0}é"),
        json!("99999999999999999999E"),
        json!([]),
        json!([null]),
        json!({}),
        json!({ "cpu": [] }),
        json!("9".repeat(5000)),
    ];
    let (mut read, mut refused) = (0, 0);
    for with in &odd {
        for place in 0..80 {
            let mut value = whole.clone();
            replace(&mut value, &mut place.clone(), with);
            match serde_json::from_str::<PodObject>(&value.to_string()) {
                Ok(object) => {
                    let _ = Converter::default().pod(&object);
                    read += 1;
                }
                Err(_) => refused += 1,
            }
        }
    }
    assert!(read > 300 && refused > 100, "{read} read, {refused} refused");
}

#[test]
fn tells_whether_anything_of_a_pod_ran_and_why_it_failed_before() {
    let state = |state: &Value| json!([{ "name": "a", "state": state }]);
    let ended = |reason: &str| {
        state(&json!({ "terminated": {
            "exitCode": 128, "reason": reason, "finishedAt": "2026-01-02T03:05:00Z",
        } }))
    };
    let waiting = state(&json!({ "waiting": { "reason": "ImagePullBackOff" } }));
    let running = state(&json!({ "running": { "startedAt": "2026-01-02T03:05:00Z" } }));
    let refused = json!({ "phase": "Failed", "reason": "UnexpectedAdmissionError" });
    for (status, started, failed_as) in [
        (json!({ "phase": "Pending" }), false, None),
        (json!({ "phase": "Pending", "containerStatuses": waiting }), false, None),
        (json!({ "phase": "Pending", "initContainerStatuses": running }), true, None),
        (json!({ "phase": "Running" }), true, None),
        (json!({ "phase": "Failed", "containerStatuses": ended("Error") }), true, None),
        (json!({ "phase": "Failed", "containerStatuses": ended("StartError") }), false, None),
        (refused, false, Some("UnexpectedAdmissionError")),
        (json!({ "phase": "Running", "reason": "NodeLost" }), true, None),
    ] {
        let mut value = pod(&json!({ "nodeName": "n" }), &json!({}));
        value["status"] = status;
        let pod = convert(&value);
        assert_eq!((pod.started, pod.failed_as.as_deref()), (started, failed_as), "{value}");
    }
}

#[test]
fn reads_the_task_group_of_a_member() {
    let read = |annotations: Value| convert(&pod(&json!({}), &annotations));
    let member = read(json!({
        "mss-scheduler.io/pod-group": "g", "mss-scheduler.io/min-member": "2",
        "mss-scheduler.io/task-group": "worker", "mss-scheduler.io/task-group-min": "2",
    }));
    let task = member.task.expect("a task group");
    assert_eq!((&*task.name, task.min), ("worker", 2));
    let lone = read(json!({ "mss-scheduler.io/task-group": "worker" }));
    assert!(matches!(lone.group, Some(Err(ContractError::Annotation { .. }))), "{lone:?}");
}

#[test]
fn what_others_ask_of_the_topology_is_read_and_refused_as_ours_is() {
    let read = |level: &str| {
        convert(&pod(
            &json!({}),
            &json!({
                "mss-scheduler.io/pod-group": "g", "mss-scheduler.io/min-member": "2",
                "kueue.x-k8s.io/podset-required-topology": level,
                "kueue.x-k8s.io/queue-name": "not read",
            }),
        ))
    };
    let ask = read("cloud.example.com/rack").topology.expect("it asks");
    assert_eq!(ask.required.as_deref(), Some("cloud.example.com/rack"));
    let error = read("a rack").group.expect("refused").expect_err("refused");
    assert_eq!(error.reason(), "annotation");
    let text = "annotation kueue.x-k8s.io/podset-required-topology is \"a rack\": expected the key";
    assert!(error.to_string().starts_with(text), "{error}");
}

#[test]
fn the_preemption_policy_of_a_pod_is_kept() {
    let never = |policy: &str| {
        convert(&pod(&json!({ "preemptionPolicy": policy }), &Value::Null)).never_preempts
    };
    assert_eq!([never("Never"), never("PreemptLowerPriority")], [true, false]);
}

#[test]
fn a_notice_stands_until_it_is_taken_back() {
    let noticed = |annotation: bool, condition: Value| {
        let time = json!({ "mss-scheduler.io/evict-at": "2026-01-02T03:04:05Z" });
        let mut value = pod(&json!({}), if annotation { &time } else { &Value::Null });
        value["status"] = json!({ "conditions": [condition] });
        convert(&value).noticed
    };
    let condition = |status: &str, reason: &str| -> Value {
        let kind = "DisruptionTarget";
        json!({ "type": kind, "status": status, "reason": reason })
    };
    assert!(noticed(true, condition("True", "PreemptionByScheduler")));
    assert!(noticed(false, condition("True", "PreemptionByScheduler")), "one without grace");
    assert!(noticed(true, condition("False", "")), "as upstream leaves it after two minutes");
    assert!(!noticed(false, condition("False", "PreemptionCancelled")));
    assert!(!noticed(false, condition("True", "EvictionByEvictionAPI")), "another's");
}
