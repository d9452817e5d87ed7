//! Nodes that share their GPUs, and pods that ask for parts of them.

use super::{Inputs, Outcome, POLICIES, RunOptions, Sources, outcome, run, write};
use mss_scheduler::model::fault::{Fault, make};
use mss_scheduler::simulator::virtual_time::{Failures, Gpus, Holding};
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::path::Path;

/// A node that shares its two GPUs.
const SHARED: &str = "nodes: [{name: n, count: 1, shared-gpus: true, \
                       allocatable: {nvidia.com/gpu: 2, cpu: 16}}]";

/// A node that shares its GPUs, and one that does not.
const MIXED: &str = "
nodes:
- {name: shared, shared-gpus: true, allocatable: {nvidia.com/gpu: 2}}
- {name: whole, allocatable: {nvidia.com/gpu: 4}}
";

fn inputs(cluster: &str, workload: &str) -> Inputs {
    Inputs::from_texts(cluster, workload, None).unwrap_or_else(|error| panic!("{error}"))
}

fn refused(cluster: &str, workload: &str) -> String {
    Inputs::from_texts(cluster, workload, None).expect_err("it is wrong").to_string()
}

fn started_s(outcome: &Outcome) -> Vec<i64> {
    outcome.gangs.iter().map(|gang| gang.started_ms.map_or(-1, |at| at / 1000)).collect()
}

/// Two thirds of two GPUs for an hour; what asks for more than is left waits for them to leave.
const THIRDS: &str = "
gangs:
- {name: two-thirds, queue: q, run: 1h, gpu-milli: 660, requests: {cpu: 1}, count: 2}
- {name: half, queue: q, arrival: 1m, run: 1h, gpu-milli: 500, requests: {cpu: 1}}
- {name: third, queue: q, arrival: 2m, run: 1h, gpu-milli: 340, requests: {cpu: 1}, count: 2}
- {name: both, queue: q, arrival: 3m, run: 1h, gpu-milli: 2000, requests: {cpu: 1}}
";

#[test]
fn parts_are_given_while_they_last_and_come_back() {
    let mut inputs = inputs(SHARED, THIRDS);
    inputs.map_at_ms = vec![30_000, 1_800_000];
    let first = outcome(&inputs, "fifo");
    let started = started_s(&first);
    let hours: Vec<i64> = started.iter().map(|at| at / 3_600).collect();
    assert_eq!(hours, [0, 0, 1, 0, 0, 2], "{started:?}: the half and both wait");
    assert!(started[3] < 130 && started[4] < 130, "{started:?}: the thirds fit at once");
    let held = |device, milli| Holding { tenant: 0, device: Some(device), milli };
    assert_eq!(first.maps[0].nodes[0], [held(0, 660), held(1, 660)]);
    let full = [held(0, 660), held(0, 340), held(1, 660), held(1, 340)];
    assert_eq!(first.maps[1].nodes[0], full, "each device is given out just once");
    // 660, 660, 500, 340 and 340 for an hour, and two whole ones
    let gpu_hours = first.totals.held_milli_ms as f64 / 3.6e9;
    assert!((4.5..4.52).contains(&gpu_hours), "{gpu_hours}");
    let sample = first.samples.all().find(|(at, _)| *at >= 1_800_000).expect("a sample").1;
    assert_eq!((sample.held_milli(), sample.at_work_milli), (2_000, 2_000));
    assert_eq!(sample.shares[0].pending_milli, 2_500);
    for policy in POLICIES {
        assert_eq!(outcome(&inputs, policy.name).summary.done, 6, "{}", policy.name);
    }
}

#[test]
fn the_files_tell_the_parts_and_are_the_same_for_the_same_seed() {
    let mut inputs = inputs(SHARED, THIRDS);
    inputs.map_at_ms = vec![1_800_000];
    let study = |seed| {
        let folder = tempfile::tempdir().expect("a folder");
        let all: Vec<Outcome> = POLICIES
            .iter()
            .map(|policy| run(&inputs, policy, RunOptions { seed, check: false }, |_| {}))
            .collect();
        write(folder.path(), &inputs, &all, seed).expect("it can be written");
        ["gangs.csv", "queues.csv", "time.csv", "summary.json", "report.html"].map(|name| {
            std::fs::read_to_string(folder.path().join(name)).unwrap_or_else(|e| panic!("{e}"))
        })
    };
    let one = study(7);
    assert!(one == study(7), "I8: the same seed, other bytes");
    let [gangs, queues, time, ..] = &one;
    let row = |name: &str| {
        let line = gangs.lines().find(|line| line.contains(name)).expect(name);
        let cells: Vec<&str> = line.split(',').collect();
        (cells[3].to_owned(), cells[12].to_owned())
    };
    let of = |gpus: &str, milli: &str| (gpus.to_owned(), milli.to_owned());
    assert_eq!((row("half"), row("both")), (of("0.5", "500"), of("2", "1000")));
    assert_eq!(row("gang"), of("gpus", "gpu_milli"));
    assert!(queues.lines().any(|line| line.contains(",1.32,")), "{queues}");
    assert!(time.lines().any(|line| line.contains(",2,1.32,")), "{time}");
}

/// The truth of the run is not the scheduler's: what it gives out twice is noticed.
#[test]
fn a_gpu_that_is_given_out_twice_ends_the_run() {
    let inputs = inputs(SHARED, THIRDS);
    for policy in POLICIES {
        make(Some(Fault::PartNotCounted));
        let options = RunOptions { seed: 1, check: false };
        let failed = catch_unwind(AssertUnwindSafe(|| run(&inputs, policy, options, |_| {})));
        make(None);
        let why = failed.expect_err("it is given out twice");
        let why = why.downcast_ref::<String>().expect("a text");
        assert!(why.starts_with("D1: q/"), "{}: {why}", policy.name);
        assert!(why.contains("of node n-0, which is not shared or given away"), "{why}");
    }
}

#[test]
fn whole_gpus_are_those_of_kubelets_where_some_are_left_and_else_shared_ones() {
    let gangs = "
gangs:
- {name: whole, run: 1h, requests: {nvidia.com/gpu: 2}, members: 2}
- {name: part, run: 1h, requests: {}, gpu-milli: 300, count: 5}
";
    let mixed = inputs(MIXED, gangs);
    assert_eq!(mixed.gpus(), 6);
    let whole = Gpus { whole: 4, shared_milli: 0 };
    assert_eq!(mixed.gangs[0].gpus(), whole);
    assert_eq!(outcome(&mixed, "fair-share").summary.done, 6);
    let shared = inputs(&MIXED.replace("{name: whole,", "{name: whole, shared-gpus: true,"), gangs);
    let as_parts = Gpus { whole: 0, shared_milli: 4_000 };
    assert_eq!((shared.gangs[0].gpus(), shared.gpus()), (as_parts, 6));
    assert_eq!(shared.gangs[0].of_each_milli(), 1000);
    let started = started_s(&outcome(&shared, "fair-share"));
    assert!(started.iter().all(|at| (0..10).contains(at)), "{started:?}");
}

#[test]
fn elastic_gangs_of_parts_shrink_for_other_queues() {
    let gangs = "
gangs:
- {name: a, queue: a, run: 1h, members: 8, min-member: 1, requests: {cpu: 2}, gpu-milli: 250}
- {name: b, queue: b, arrival: 10m, run: 1h, requests: {cpu: 8}}
";
    let fair = outcome(&inputs(SHARED, gangs), "fair-share");
    assert_eq!((fair.summary.done, fair.summary.evicted_pods), (2, 4), "half of the cores");
    let sample = |at_s: i64| {
        let found = fair.samples.all().find(|(at, _)| *at >= at_s * 1000);
        found.expect("a sample").1.at_work_milli
    };
    assert_eq!((sample(300), sample(1_800)), (2_000, 1_000));
}

#[test]
fn shared_gpus_are_lost_with_their_node_and_come_back_with_it() {
    let gangs = "gangs: [{name: a, run: 3h, requests: {cpu: 1}, gpu-milli: 500, count: 40, \
                  checkpoint: 30m}]";
    let mut inputs = inputs(SHARED, gangs);
    inputs.cluster.failures = Some(Failures { mtbf_ms: 4 * 3_600_000, repair_ms: 3_600_000 });
    for policy in ["fair-share", "fifo"] {
        let summary = outcome(&inputs, policy).summary;
        assert_eq!(summary.done, 40, "{summary:?}");
        assert!(summary.failed_nodes > 2 && summary.failed_pods > 2, "{summary:?}");
        assert!(summary.lost_gpu_hours > 0.0, "{summary:?}");
    }
}

#[test]
fn what_would_wait_for_ever_is_refused() {
    let part = "gangs: [{name: a, run: 1h, requests: {}, gpu-milli: 500}]";
    let none = "nodes: [{name: n, allocatable: {nvidia.com/gpu: 2}}]";
    let error = refused(none, part);
    assert!(error.contains("gang default/a: it asks for a part of a GPU, and no node"), "{error}");
    assert!(error.contains("shared-gpus: true of nodes, or --shared-gpus"), "{error}");
    let cluster = |gpus: &str| refused(&SHARED.replace("gpu: 2", gpus), part);
    let expected = "nodes[0].shared-gpus is \"true\": expected false, unless nodes have from 1 to";
    assert!(cluster("gpu: 0").contains(expected) && cluster("gpu: 65").contains(expected));
    let large = "gangs: [{name: a, run: 1h, requests: {nvidia.com/gpu: 65}}]";
    let error = refused(SHARED, large);
    assert!(error.contains("asks for 65 GPUs, and all are shared: at most 64"), "{error}");
    let cases = [
        ("requests: {}, gpu-milli: 0", "gpu-milli is \"0\": expected thousandths of a GPU from 1"),
        ("requests: {}, gpu-milli: 1500", "from 1 to 1000, or whole ones from 2000 to 64000"),
        ("requests: {}, gpu-milli: 65000", "gpu-milli is \"65000\": "),
        ("requests: {nvidia.com/gpu: 1}, gpu-milli: 500", "nothing, as requests name GPUs"),
        ("requests: {mss-scheduler.io/gpu-milli: 5}", "is asked for by gpu-milli beside requests"),
    ];
    for (fields, expected) in cases {
        let error = refused(SHARED, &format!("gangs: [{{name: a, run: 1h, {fields}}}]"));
        assert!(error.contains(expected), "{fields}: {error}");
    }
}

fn pod(name: &str, annotations: &str, resources: &str) -> String {
    format!(
        "---\nkind: Pod\nmetadata:\n  name: {name}\n  annotations: \
         {{mss-scheduler.io/fake-run-seconds: '60'{annotations}}}\nspec:\n  \
         schedulerName: mss-scheduler\n  containers: [{{name: main, resources: \
         {{limits: {{{resources}}}}}}}]\n"
    )
}

#[test]
fn pods_ask_for_parts_by_their_annotations() {
    let memory = ", mss-scheduler.io/gpu-memory: 4Gi";
    let asks = [
        (", mss-scheduler.io/gpu-fraction: '250'", 250),
        (", mss-scheduler.io/gpu-fraction: '1000', mss-scheduler.io/gpu-count: '2'", 2_000),
        (memory, 250),
    ];
    let labels = "labels: {nvidia.com/gpu.memory: '16384'}, shared-gpus";
    let with_memory = SHARED.replace("shared-gpus", labels);
    for (annotations, milli) in asks {
        let inputs = inputs(&with_memory, &pod("a", annotations, "cpu: 1"));
        assert_eq!(inputs.gangs[0].gpus(), Gpus { whole: 0, shared_milli: milli });
        let outcome = outcome(&inputs, "fair-share");
        assert_eq!(outcome.summary.done, 1, "{annotations}");
        let held = outcome.totals.held_milli_ms as f64 / milli as f64 / 60_000.0;
        assert!((1.0..1.1).contains(&held), "{annotations}: for its minute: {held}");
    }
    let error = refused(SHARED, &pod("a", memory, "cpu: 1"));
    assert!(error.contains("by the label nvidia.com/gpu.memory of its node"), "{error}");
    let two = "nodes: [{name: a, shared-gpus: true, allocatable: {nvidia.com/gpu: 2}, \
               labels: {nvidia.com/gpu.memory: '16384'}}, \
               {name: b, shared-gpus: true, allocatable: {nvidia.com/gpu: 2}, \
               labels: {nvidia.com/gpu.memory: '32768'}}]";
    let error = refused(two, &pod("a", memory, "cpu: 1"));
    assert!(error.contains("these have 16384 to 32768 MiB"), "{error}");
    let error = refused(SHARED, &pod("a", "", "nvidia.com/gpu: 1"));
    assert!(error.contains("gang default/a: its pods ask for whole GPUs"), "{error}");
    assert!(error.contains("gpu-fraction: \"1000\""), "{error}");
}

fn read(sources: Sources) -> Result<Inputs, String> {
    Inputs::read(&sources).map_err(|error| error.to_string())
}

#[test]
fn the_flag_shares_the_gpus_of_every_node() {
    let folder = tempfile::tempdir().expect("a folder");
    let file = |name: &str, text: &str| {
        let path = folder.path().join(name);
        std::fs::write(&path, text).expect("writable");
        Some(path)
    };
    let list = "sn,cpu_milli,memory_mib,gpu,model\nn1,64000,262144,2,T4\nn2,64000,262144,0,\n";
    let pods = "name,cpu_milli,memory_mib,num_gpu,gpu_milli,gpu_spec,qos,pod_phase,\
        creation_time,deletion_time,scheduled_time\n\
        a,4000,1024,1,600,,LS,Running,0,60,0\nb,4000,1024,1,600,T4,LS,Running,0,60,0\n\
        c,4000,1024,1,400,,LS,Running,10,60,10\nd,4000,1024,2,1000,,LS,Running,10,60,10\n\
        e,4000,1024,0,0,,LS,Running,10,60,10\n";
    let sources = Sources {
        cluster: file("nodes.csv", list),
        workload: file("pods.csv", pods),
        shared_gpus: true,
        ..Sources::default()
    };
    let milli = |inputs: &Inputs| -> Vec<i64> {
        inputs.gangs.iter().map(|gang| gang.gpus().milli()).collect()
    };
    let parts = read(sources.clone()).unwrap_or_else(|error| panic!("{error}"));
    assert_eq!((milli(&parts), parts.gpus()), (vec![600, 600, 400, 2_000, 0], 2));
    let started = started_s(&outcome(&parts, "fifo"));
    assert!(started[..3].iter().all(|at| *at < 15) && started[3] >= 60, "{started:?}");
    let whole = read(Sources { whole_gpus: true, ..sources.clone() }).expect("well-formed");
    assert_eq!(milli(&whole), [1_000, 1_000, 1_000, 2_000, 0]);
    let jobs = file("jobs.csv", "arrival_s,run_s,gpus\n0,60,2\n0,60,1\n");
    let jobs = read(Sources { workload: jobs, ..sources.clone() }).expect("well-formed");
    assert_eq!(milli(&jobs), [2_000, 1_000]);
    assert_eq!(outcome(&jobs, "fair-share").summary.done, 2);

    let error = |cluster: &str| {
        let cluster = file("cluster.yaml", cluster);
        read(Sources { cluster, ..sources.clone() }).expect_err("it is wrong")
    };
    let none = error("nodes: [{name: n, allocatable: {cpu: 2}}]");
    assert_eq!(none, "--shared-gpus: no node has nvidia.com/gpu to be shared");
    let many = error("nodes: [{name: n, allocatable: {nvidia.com/gpu: 65}}]");
    assert_eq!(many, "--shared-gpus: node n has 65 nvidia.com/gpu: at most 64 are shared");
}

/// A node with a holder of three of its four GPUs, a pod of another scheduler beside it, parts that
/// run, and parts that wait.
fn snapshot() -> serde_json::Value {
    use serde_json::json;
    let bound = |name: &str, namespace: &str, annotations: serde_json::Value, gpus: u32| {
        json!({ "metadata": { "name": name, "namespace": namespace, "annotations": annotations,
                "labels": { "mss-scheduler.io/gpu-holder": "true" } },
            "spec": { "nodeName": "n", "schedulerName": "default-scheduler", "containers":
                [{ "name": "main", "resources": { "requests": { "nvidia.com/gpu": gpus } } }] },
            "status": { "phase": "Running" } })
    };
    let part = |name: &str, milli: u32, devices: Option<&str>| {
        let mut pod = json!({ "metadata": { "name": name, "namespace": "team",
                "creationTimestamp": "2026-01-05T10:00:00Z", "annotations": {
                "mss-scheduler.io/gpu-fraction": milli.to_string(),
                "mss-scheduler.io/fake-run-seconds": "600" } },
            "spec": { "schedulerName": "mss-scheduler", "containers": [{ "name": "main" }] } });
        if let Some(devices) = devices {
            pod["metadata"]["annotations"]["mss-scheduler.io/gpu-devices"] = devices.into();
            pod["spec"]["nodeName"] = "n".into();
        }
        pod
    };
    let holder = json!({ "mss-scheduler.io/gpu-devices": "0,1,3" });
    json!({ "apiVersion": "mss-scheduler.io/v1alpha1", "kind": "Snapshot",
        "taken": "2026-01-05T10:00:00Z", "queues": [],
        "nodes": [{ "metadata": { "name": "n" }, "status": { "allocatable":
            { "nvidia.com/gpu": "4", "cpu": "96", "memory": "1Ti", "pods": "110" } } }],
        "pods": [
            bound("holder", "mss-scheduler", holder, 3),
            bound("foreign", "team", json!({}), 1),
            part("on-0", 700, Some("0")), part("on-1", 700, Some("1")),
            part("full", 1000, Some("3")), part("beyond", 400, Some("1")),
            part("waits", 300, None),
            part("waits-longer", 700, None)] })
}

fn from(file: &Path, more: Sources) -> Result<Inputs, String> {
    read(Sources { snapshot: Some(file.to_path_buf()), ..more })
}

#[test]
fn a_snapshot_has_its_holders() {
    let folder = tempfile::tempdir().expect("a folder");
    let file = folder.path().join("snapshot.json");
    std::fs::write(&file, snapshot().to_string()).expect("writable");
    let mut inputs = from(&file, Sources::default()).unwrap_or_else(|error| panic!("{error}"));
    assert_eq!((inputs.gpus(), inputs.gangs.len()), (3, 6), "one is another scheduler's");
    inputs.map_at_ms = vec![60_000];
    let all = outcome(&inputs, "fair-share");
    assert_eq!((all.summary.done, all.summary.evicted_pods), (6, 0));
    let started: Vec<(&str, i64)> = (inputs.gangs.iter().zip(started_s(&all)))
        .map(|(gang, at)| (&*gang.name, at.max(0) / 600))
        .collect();
    // what says that it has more of a device than is left cannot stay
    let expected = [("beyond", 0), ("full", 0), ("on-0", 0), ("on-1", 1), ("waits", 0)];
    assert_eq!(started[..5], expected);
    assert_eq!(started[5], ("waits-longer", 1));
    let on = |device| all.maps[0].nodes[0].iter().filter(move |held| held.device == Some(device));
    let held = [0, 1, 2, 3].map(|device| on(device).map(|held| held.milli).sum::<i64>());
    assert_eq!(held, [1_000, 400, 0, 1_000]);

    // what if the holders counted elsewhere, or the node shared nothing, or all?
    let elsewhere = Sources { holder_namespace: Some("other".into()), ..Sources::default() };
    let none = from(&file, elsewhere).unwrap_or_else(|error| panic!("{error}"));
    assert_eq!((none.gpus(), outcome(&none, "fifo").summary.started), (0, 0), "as it would be");
    let whole = from(&file, Sources { nodes: Some(1), ..Sources::default() });
    assert!(whole.expect_err("parts").contains("no node shares its GPUs"));
    let shared = Sources { nodes: Some(1), shared_gpus: true, ..Sources::default() };
    let shared = from(&file, shared).unwrap_or_else(|error| panic!("{error}"));
    assert_eq!((shared.gpus(), outcome(&shared, "fifo").summary.done), (8, 6));
    let both = from(&file, Sources { shared_gpus: true, ..Sources::default() });
    let both = both.expect_err("whose holders say it");
    assert!(both.contains("--shared-gpus does not go with the nodes of a snapshot"), "{both}");
}
