//! What the scheduler reads of others about topology, on the embedded API server; on a real one the
//! same is told in `real_api/sources.rs`.

mod support;

use mss_scheduler::config::Configuration;
use mss_scheduler::kubernetes::snapshot::{Snapshot, take};
use mss_scheduler::runtime;
use mss_scheduler::simulator::api_server::{ApiServer, Options};
use mss_scheduler::simulator::virtual_time::{
    Inputs, RunOptions, Sources, policies, run as simulate,
};
use serde_json::{Value, json};
use support::objects::namespace;
use support::sources::{
    gangs_go_where_levels_of_objects_say, gpus_are_chosen_by_what_is_reported, install,
    nothing_is_read_of_objects,
};

#[tokio::test(flavor = "multi_thread")]
async fn levels_and_gpus_are_those_that_objects_of_others_say() {
    rustls::crypto::ring::default_provider().install_default().ok();
    let server = ApiServer::start(Options::default()).await.expect("a free loopback port");
    let client = server.client();
    install(&client).await;
    namespace(&client, "sources").await;
    let start = |from_objects: bool| {
        let mut configuration =
            Configuration { health_bind_address: None, ..Configuration::default() };
        configuration.topology.from_objects = from_objects;
        let config = kube::Config::new(server.url().parse().expect("the server's own address"));
        let (stop, stopped) = tokio::sync::oneshot::channel::<()>();
        let stopped = async {
            stopped.await.ok();
        };
        (stop, tokio::spawn(runtime::run_on(configuration, config, stopped)))
    };
    let (stop, scheduler) = start(true);
    gangs_go_where_levels_of_objects_say(&client, "sources").await;
    gpus_are_chosen_by_what_is_reported(&client, "sources").await;
    stop.send(()).ok();
    scheduler.await.expect("it does not panic").expect("it ends in order");

    let (stop, scheduler) = start(false);
    nothing_is_read_of_objects(&client, "sources").await;
    stop.send(()).ok();
    scheduler.await.expect("it does not panic").expect("it ends in order");
    let taken = take(&client, jiff::Timestamp::now().to_string()).await.expect("it can be listed");
    tokio::task::block_in_place(|| a_snapshot_tells_the_same(taken));
    server.stop().await;
}

/// A run from a snapshot of that cluster knows the levels and the GPUs that the scheduler knew.
fn a_snapshot_tells_the_same(mut snapshot: Snapshot) {
    let kinds = |snapshot: &Snapshot| -> Vec<String> {
        let kinds = snapshot.others.iter().map(|object| object["kind"].as_str());
        kinds.map(|kind| kind.expect("a kind").to_owned()).collect()
    };
    let expected = ["Topology", "Topology", "NodeResourceTopology", "ResourceSlice"];
    assert_eq!(kinds(&snapshot), expected);
    let text = serde_json::to_string(&snapshot.others).expect("JSON");
    assert!(!text.contains("uuid") && !text.contains("topologyPolicies"), "{text}");
    // pods that are left of the stories are not what this is about
    snapshot.pods.clear();
    let member = |number: usize| {
        json!({ "apiVersion": "v1", "kind": "Pod", "metadata": {
                "name": format!("m-{number}"), "namespace": "sources", "annotations": {
                    "mss-scheduler.io/pod-group": "six", "mss-scheduler.io/min-member": "6",
                    "kueue.x-k8s.io/podset-required-topology": "cloud.example.com/rack",
                    "mss-scheduler.io/fake-run-seconds": "60" } },
            "spec": { "schedulerName": "mss-scheduler", "containers": [{ "name": "main",
                "resources": { "limits": { "nvidia.com/gpu": "1" } } }] } })
    };
    let members: Vec<Value> = (0..6).map(member).collect();
    let folder = tempfile::tempdir().expect("a folder");
    let write = |name: &str, value: Value| {
        let path = folder.path().join(name);
        std::fs::write(&path, value.to_string()).expect("writable");
        Some(path)
    };
    let workload = write("pods.yaml", json!({ "kind": "List", "items": members }));
    let run = |without_objects: bool| {
        let taken = write("live.json", serde_json::to_value(&snapshot).expect("JSON"));
        let sources = Sources {
            snapshot: taken,
            workload: workload.clone(),
            without_objects,
            ..Sources::default()
        };
        let inputs = Inputs::read(&sources).unwrap_or_else(|error| panic!("{error}"));
        let joined = |name: &str| {
            let node = inputs.cluster.nodes.iter().find(|node| *node.name == *name);
            node.expect("it is there").gpus.as_ref().map(ToString::to_string)
        };
        let joined = ["named", "counted", "plain"].map(joined);
        let policy = policies(&["fair-share".to_owned()]).expect("it is one")[0];
        (simulate(&inputs, &policy, RunOptions::default(), |_| {}).summary.done, joined)
    };
    let (done, [named, counted, plain]) = run(false);
    assert_eq!(done, 1, "it is in the rack of two nodes");
    assert_eq!(counted.as_deref(), Some("v1 gpus=4 numa=0:0/1:1-3 NODE=1-3 else=SYS"));
    assert!(named.is_some_and(|named| named.starts_with("v1 gpus=4 ")), "of the slices");
    assert_eq!(plain, None);
    assert_eq!(run(true), (0, [None, None, None]), "topology.fromObjects: false");
}
