//! Workloads and clusters in each of their forms, as files.

use super::{FOUR_NODES, TWO_QUEUES};
use mss_scheduler::simulator::virtual_time::{GangSpec, Inputs, Sources};
use std::path::PathBuf;
use std::time::Duration;

struct Files(tempfile::TempDir);

impl Files {
    fn new() -> Self {
        Self(tempfile::tempdir().expect("a folder"))
    }

    fn write(&self, name: &str, text: &str) -> PathBuf {
        let path = self.0.path().join(name);
        std::fs::write(&path, text).expect("writable");
        path
    }
}

fn read(name: &str, text: &str, sources: Sources) -> Result<Inputs, String> {
    let files = Files::new();
    let cluster = sources.cluster.clone().or(Some(files.write("cluster.yaml", FOUR_NODES)));
    let workload = Some(files.write(name, text));
    Inputs::read(&Sources { cluster, workload, ..sources }).map_err(|error| error.to_string())
}

fn gangs(name: &str, text: &str) -> Vec<GangSpec> {
    read(name, text, Sources::default()).unwrap_or_else(|error| panic!("{error}")).gangs
}

#[test]
fn a_log_in_the_standard_format_has_its_users_as_queues() {
    let log = "; head\n\
        1 100 -1 60 20 -1 -1 -1 -1 -1 -1 7 1 -1 -1 -1 -1 -1\n\
        2 160 -1 -1 4 -1 -1 -1 -1 -1 -1 7 1 -1 -1 -1 -1 -1\n\
        3 220 -1 5 1 -1 -1 -1 -1 -1 -1 -1 1 -1 -1 -1 -1 -1\n";
    let found = gangs("log.swf", log);
    assert_eq!(found.len(), 2, "a job that never ran is left out");
    let (first, second) = (&found[0], &found[1]);
    assert_eq!(
        (first.arrival_ms, first.run_ms, first.members, first.gpus().whole),
        (0, 60_000, 3, 20)
    );
    assert_eq!((first.shape.gpus.whole, first.last.gpus.whole), (8, 4));
    assert_eq!((first.queue.as_deref(), &*first.namespace), (Some("user-7"), "user-7"));
    assert_eq!((second.arrival_ms, &*second.namespace), (120_000, "user-unknown"));
    let four = Sources { gpus_per_member: Some(4), speed_up: Some(3.0), ..Sources::default() };
    let inputs = read("log.swf", log, four).expect("well-formed");
    assert_eq!((inputs.gangs[0].members, inputs.gangs[1].arrival_ms), (5, 40_000));
}

#[test]
fn a_table_of_our_own_columns() {
    let text = "arrival_s,run_s,gpus,members,min_member,queue,name\n\
        0,60,8,4,2,nlp,llama\n30,10,,,,,\n";
    let found = gangs("jobs.csv", text);
    assert_eq!((&*found[0].name, found[0].min_member, found[0].gpus().whole), ("llama", 2, 32));
    assert_eq!((&*found[0].namespace, found[0].queue.as_deref()), ("nlp", Some("nlp")));
    assert_eq!(
        (&*found[1].name, &*found[1].namespace, found[1].gpus().whole),
        ("job-2", "default", 1)
    );
    let error = |text: &str| read("jobs.csv", text, Sources::default()).expect_err("it is wrong");
    let unknown = error("arrival_s,run_s,gpu\n0,1,2\n");
    assert!(unknown.contains("line 1: the column \"gpu\" is not known"), "{unknown}");
    let twice = error("arrival_s,run_s,name\n0,1,a\n0,1,a\n");
    assert!(twice.contains("row 2: the name \"a\""), "{twice}");
    let bad = error("arrival_s,run_s\n0,soon\n");
    assert!(bad.contains("line 2: column \"run_s\" is \"soon\""), "{bad}");
}

const PODS: &str = "name,cpu_milli,memory_mib,num_gpu,gpu_milli,gpu_spec,qos,pod_phase,\
    creation_time,deletion_time,scheduled_time\n\
    a,4000,1024,1,1000,T4|P100,LS,Running,100,160,100\n\
    b,4000,1024,1,460,,LS,Running,130,131,130\n\
    c,1000,1024,0,0,,LS,Running,130,190,130\n";

const NODES: &str = "sn,cpu_milli,memory_mib,gpu,model\nn1,64000,262144,2,V100M16\n\
    n2,64000,262144,2,T4\nn3,96000,262144,0,\n";

#[test]
fn openb_pods_go_to_nodes_of_their_models() {
    let files = Files::new();
    let cluster = Some(files.write("nodes.csv", NODES));
    let sources = || Sources { cluster: cluster.clone(), ..Sources::default() };
    let refused = read("pods.csv", PODS, sources()).expect_err("a part of a GPU");
    assert!(refused.contains("pod b uses 460 thousandths of a GPU"), "{refused}");
    assert!(refused.contains("--whole-gpus"), "{refused}");
    let whole = Sources { whole_gpus: true, ..sources() };
    let inputs = read("pods.csv", PODS, whole).expect("well-formed");
    assert_eq!((inputs.gpus(), inputs.gangs.len()), (4, 3));
    let times: Vec<_> = inputs.gangs.iter().map(|gang| (gang.arrival_ms, gang.run_ms)).collect();
    assert_eq!(times, [(0, 60_000), (30_000, 1_000), (30_000, 60_000)]);
    let mut inputs = inputs;
    inputs.map_at_ms = vec![10_000];
    let outcome = super::outcome(&inputs, "fair-share");
    assert_eq!(outcome.summary.done, 3);
    let held: Vec<usize> = outcome.maps[0].nodes.iter().map(Vec::len).collect();
    assert_eq!(held, [0, 1, 0], "only the second node has a T4");
}

#[test]
fn hosts_have_their_switches_as_labels() {
    let files = Files::new();
    let hosts = "ip,DSW,PSW,ASW\nh1,G6,P10,S14\nh2,G6,P12,S2\n";
    let path = files.write("topo.csv", hosts);
    let one = "gangs: [{name: a, run: 1h, requests: {nvidia.com/gpu: 8}}]";
    let sources = Sources { cluster: Some(path.clone()), ..Sources::default() };
    let inputs = read("w.yaml", one, sources).expect("well-formed");
    let node = &inputs.cluster.nodes[1];
    let label = |layer: &str| node.label(&format!("network.topology.nvidia.com/{layer}"));
    assert_eq!(["core", "spine", "leaf"].map(label), [Some("G6"), Some("P12"), Some("S2")]);
    assert_eq!(inputs.gpus(), 16);
    let two = |nodes| Sources { network: Some(path.clone()), nodes, ..Sources::default() };
    let error = read("w.yaml", one, two(None)).expect_err("four nodes, two hosts");
    assert!(error.contains("has 2 hosts, and the cluster has more nodes"), "{error}");
    let inputs = read("w.yaml", one, two(Some(2))).expect("well-formed");
    assert!(inputs.cluster.nodes.iter().all(|node| node.labels.len() == 3));
    let other = files.write("other.csv", "a,b\n1,2\n");
    let sources = Sources { cluster: Some(other), ..Sources::default() };
    let error = read("w.yaml", one, sources).expect_err("no list of nodes");
    assert!(error.contains("the columns are a,b: expected a list of nodes"), "{error}");
}

const MANIFEST: &str = "
apiVersion: v1
kind: Pod
metadata:
  name: w0
  namespace: nlp
  annotations: {mss-scheduler.io/pod-group: llama, mss-scheduler.io/min-member: '2',
    mss-scheduler.io/fake-run-seconds: '600'}
spec:
  schedulerName: mss-scheduler
  tolerations: [{key: gpu, operator: Exists}]
  containers: [{name: main, image: x, resources: {limits: {nvidia.com/gpu: 8}}}]
---
apiVersion: v1
kind: List
items:
- kind: Pod
  metadata: {name: w1, namespace: nlp, annotations: {mss-scheduler.io/pod-group: llama,
    mss-scheduler.io/min-member: '2'}}
  spec:
    schedulerName: mss-scheduler
    containers: [{name: main, image: x, resources: {limits: {nvidia.com/gpu: 4}}}]
- kind: Pod
  metadata: {name: single, namespace: vision}
  spec:
    schedulerName: mss-scheduler
    activeDeadlineSeconds: 60
    containers: [{name: main, image: x, resources: {limits: {nvidia.com/gpu: 1}}}]
";

#[test]
fn pods_are_read_as_the_scheduler_reads_them() {
    let files = Files::new();
    let queues = Some(files.write("queues.yaml", TWO_QUEUES));
    let sources = Sources { queues, ..Sources::default() };
    let inputs = read("pods.yaml", MANIFEST, sources.clone()).expect("well-formed");
    let found: Vec<_> = inputs.gangs.iter().map(|g| (&*g.name, g.members, g.run_ms)).collect();
    assert_eq!(found, [("llama", 2, 600_000), ("single", 1, 60_000)]);
    assert_eq!(inputs.gangs[0].gpus().whole, 12);
    for policy in ["fair-share", "fifo", "partitions"] {
        assert_eq!(super::outcome(&inputs, policy).summary.done, 2, "{policy}");
    }
    let error = |from: &str, to: &str| {
        let text = MANIFEST.replacen(from, to, 1);
        read("pods.yaml", &text, sources.clone()).expect_err("it is wrong")
    };
    let kind = error("kind: Pod", "kind: Job");
    assert!(kind.contains("document 1: kind is \"Job\": expected Pod"), "{kind}");
    let foreign = error("schedulerName: mss-scheduler", "schedulerName: other");
    assert!(foreign.contains("pod nlp/w0: schedulerName"), "{foreign}");
    let group = error("min-member: '2'", "min-member: 'two'");
    assert!(group.contains("pod nlp/w0: ") && group.contains("two"), "{group}");
    let endless = error("activeDeadlineSeconds: 60", "priority: 0");
    assert!(endless.contains("pod vision/single: how long does it run?"), "{endless}");
    let run = Some(Duration::from_secs(30));
    let text = MANIFEST.replacen("activeDeadlineSeconds: 60", "priority: 0", 1);
    let inputs = read("pods.yaml", &text, Sources { run, ..sources }).expect("well-formed");
    assert_eq!(inputs.gangs[1].run_ms, 30_000);
}
