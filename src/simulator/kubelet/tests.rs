//! The state machine on tables of pods; the whole fleet is tested on API servers.

use super::facts::{Phase, PodFacts, allocatable};
use super::machine::{Machine, Outcome, Step};
use super::nodes::NodeShape;
use jiff::Timestamp;
use k8s_openapi::api::core::v1::Pod;
use serde_json::{Value, json};
use std::time::Duration;

const START: Duration = Duration::from_millis(100);

fn at(millis: u64) -> Duration {
    Duration::from_millis(millis)
}

fn facts(name: &str, extra: Value) -> PodFacts {
    let mut pod = json!({
        "metadata": {"name": name, "namespace": "team", "uid": name, "annotations": {}},
        "spec": {"nodeName": "n", "containers": [{
            "name": "main", "image": "image",
            "resources": {"requests": {"cpu": "1500m", "nvidia.com/gpu": "4"}},
        }]},
    });
    json_patch::merge(&mut pod, &extra);
    let pod: Pod = serde_json::from_value(pod).expect("a pod");
    PodFacts::read(&pod).expect("a bound pod")
}

fn annotated(name: &str, key: &str, value: &str) -> PodFacts {
    facts(name, json!({"metadata": {"annotations": {key: value}}}))
}

fn machine() -> Machine {
    let mut machine = Machine::new(START, at(1000));
    let shape = NodeShape { cpu_milli: 8000, gpus: 8, ..NodeShape::default() };
    machine.node_applied(at(0), Timestamp::UNIX_EPOCH, "n", allocatable(&shape.node("n")));
    machine
}

fn apply(machine: &mut Machine, now: u64, pod: PodFacts) {
    machine.pod_applied(at(now), Timestamp::UNIX_EPOCH, pod);
}

/// Pops what is due and reports it as done.
fn step(machine: &mut Machine, now: u64) -> Option<(String, Step)> {
    let (pod, step) = machine.pop(at(now))?;
    machine.finished(at(now), &pod.uid, step.clone(), Outcome::Done);
    Some((pod.name.into(), step))
}

#[test]
fn a_pod_runs_and_ends() {
    let mut machine = machine();
    apply(&mut machine, 0, annotated("a", super::RUN_SECONDS, "2.5"));
    apply(&mut machine, 0, facts("forever", json!({})));
    assert_eq!(step(&mut machine, 99), None);
    assert_eq!(step(&mut machine, 100), Some(("a".into(), Step::Start)));
    assert_eq!(step(&mut machine, 100), Some(("forever".into(), Step::Start)));
    assert_eq!(machine.next_due(), Some(at(2600)));
    assert_eq!(step(&mut machine, 2600), Some(("a".into(), Step::Finish { failed: false })));
    assert_eq!(machine.next_due(), None);
}

#[test]
fn the_outcome_annotation_fails_a_pod() {
    let mut machine = machine();
    apply(&mut machine, 0, annotated("a", super::OUTCOME, "failed"));
    assert_eq!(step(&mut machine, 100), Some(("a".into(), Step::Start)));
    assert_eq!(step(&mut machine, 100), Some(("a".into(), Step::Finish { failed: true })));
    for malformed in ["-1", "soon", "NaN", ""] {
        assert_eq!(annotated("b", super::RUN_SECONDS, malformed).end, None, "{malformed}");
    }
}

#[test]
fn what_does_not_fit_is_rejected_in_the_kubelets_words() {
    let mut machine = machine();
    for name in ["a", "b", "c"] {
        apply(&mut machine, 0, facts(name, json!({})));
    }
    let (name, rejected) = step(&mut machine, 0).expect("the third does not fit");
    assert_eq!(name, "c");
    let message = "Pod was rejected: Node didn't have enough resource: nvidia.com/gpu, \
                   requested: 4, used: 8, capacity: 8";
    let reason = "OutOfnvidia.com/gpu".into();
    assert_eq!(rejected, Step::Reject { reason, message: message.into() });

    let cpu = json!({"spec": {"containers": [{
        "name": "main", "resources": {"requests": {"cpu": "6"}},
    }]}});
    apply(&mut machine, 0, facts("d", cpu));
    let (_, rejected) = step(&mut machine, 0).expect("no room for 6 cores");
    let Step::Reject { reason, message } = rejected else { panic!("{rejected:?}") };
    assert_eq!(&*reason, "OutOfcpu");
    assert!(message.ends_with("cpu, requested: 6000, used: 3000, capacity: 8000"), "{message}");
}

#[test]
fn an_ended_pod_frees_its_place_before_it_is_reported() {
    let mut machine = machine();
    apply(&mut machine, 0, annotated("a", super::RUN_SECONDS, "1"));
    apply(&mut machine, 0, facts("b", json!({})));
    step(&mut machine, 100);
    step(&mut machine, 100);
    let (pod, _) = machine.pop(at(1100)).expect("a ends");
    assert_eq!(&*pod.name, "a");
    apply(&mut machine, 1100, facts("c", json!({})));
    assert_eq!(step(&mut machine, 1200), Some(("c".into(), Step::Start)));
}

#[test]
fn pods_beyond_the_nodes_count_are_rejected() {
    let mut machine = Machine::new(START, at(0));
    let shape = NodeShape { pods: 1, ..NodeShape::default() };
    machine.node_applied(at(0), Timestamp::UNIX_EPOCH, "n", allocatable(&shape.node("n")));
    apply(&mut machine, 0, facts("a", json!({})));
    apply(&mut machine, 0, facts("b", json!({})));
    let (_, rejected) = step(&mut machine, 0).expect("one pod only");
    assert!(matches!(rejected, Step::Reject { reason, .. } if &*reason == "OutOfpods"));
}

#[test]
fn deletion_waits_for_the_capped_grace_and_for_the_write_in_flight() {
    let mut machine = machine();
    apply(&mut machine, 0, facts("a", json!({})));
    let (pod, start) = machine.pop(at(100)).expect("a starts");
    let deleting = json!({"metadata": {
        "deletionTimestamp": "2026-01-01T00:00:00Z", "deletionGracePeriodSeconds": 30,
    }});
    apply(&mut machine, 100, facts("a", deleting.clone()));
    assert!(machine.pop(at(5000)).is_none(), "one write at a time");
    machine.finished(at(200), &pod.uid, start, Outcome::Retry);
    // an echo of the deletion does not put it off
    apply(&mut machine, 900, facts("a", deleting));
    assert_eq!(machine.next_due(), Some(at(1100)));
    let (pod, delete) = machine.pop(at(1100)).expect("the grace is over");
    assert_eq!(delete, Step::Delete);
    machine.finished(at(1100), &pod.uid, delete, Outcome::Gone);
    assert_eq!(machine.next_due(), None);
}

#[test]
fn a_failed_write_is_tried_again() {
    let mut machine = machine();
    apply(&mut machine, 0, facts("a", json!({})));
    let (pod, start) = machine.pop(at(100)).expect("a starts");
    machine.finished(at(100), &pod.uid, start, Outcome::Retry);
    assert_eq!(step(&mut machine, 599), None);
    assert_eq!(step(&mut machine, 600), Some(("a".into(), Step::Start)));
}

#[test]
fn a_fleet_that_starts_late_takes_over_what_runs() {
    let mut machine = Machine::new(START, at(0));
    let running = json!({
        "metadata": {"annotations": {super::RUN_SECONDS: "10"}},
        "status": {"phase": "Running", "startTime": "1970-01-01T00:00:00Z"},
    });
    let wall = Timestamp::from_second(7).expect("a valid time");
    let running = facts("a", running);
    assert_eq!(running.phase, Phase::Running);
    // pods may be seen before their node
    machine.pod_applied(at(0), wall, running);
    machine.pod_applied(at(0), wall, facts("b", json!({})));
    assert_eq!(machine.next_due(), None);
    let node = NodeShape::default().node("n");
    machine.node_applied(at(50), wall, "n", allocatable(&node));
    assert_eq!(step(&mut machine, 150), Some(("b".into(), Step::Start)));
    assert_eq!(machine.next_due(), Some(at(3050)));
    machine.retain_pods(|uid| uid == "b");
    assert_eq!(machine.next_due(), None);
}

#[test]
fn requests_are_counted_as_upstream_counts_them() {
    let pod = facts(
        "a",
        json!({"spec": {
            "overhead": {"memory": "1Ki"},
            "initContainers": [
                {"name": "i", "resources": {"requests": {"cpu": "5"}}},
                {"name": "s", "restartPolicy": "Always", "resources": {"requests": {"cpu": "1"}}},
                {"name": "j", "resources": {"requests": {"cpu": "2", "memory": "1Mi"}}},
            ],
        }}),
    );
    let expected = [("cpu", 5000), ("memory", (1 << 20) + 1024), ("nvidia.com/gpu", 4)];
    assert_eq!(pod.requests, expected.map(|(name, amount)| (name.into(), amount)).into());
}
