//! A live cluster in a file, and runs that begin with it.

use super::outcome;
use mss_scheduler::kubernetes::snapshot::{Snapshot, take};
use mss_scheduler::simulator::api_server::{ApiServer, Handle, Options};
use mss_scheduler::simulator::virtual_time::{Inputs, Sources};
use serde_json::{Value, json};
use std::path::{Path, PathBuf};
use std::process::Command;
use std::time::Duration;

async fn post(server: &Handle, path: &str, object: &Value) {
    let request = http::Request::post(path)
        .header(http::header::CONTENT_TYPE, "application/json")
        .body(object.to_string().into_bytes())
        .expect("a valid request");
    server.client().request::<Value>(request).await.expect("the server takes it");
}

fn pod(name: &str, node: Option<&str>, scheduler: &str, run_s: Option<i64>) -> Value {
    json!({ "metadata": { "namespace": "team", "name": name,
            "annotations": { "mss-scheduler.io/queue": "team", "note": "not ours" } },
        "spec": { "schedulerName": scheduler, "nodeName": node, "activeDeadlineSeconds": run_s,
            "containers": [{ "name": "main", "image": "secret/image", "env": [{ "name": "KEY",
                "value": "secret" }],
                "resources": { "limits": { "nvidia.com/gpu": "4" } } }] } })
}

/// Two nodes of 8 GPUs: one pod of another scheduler, two of ours that run, and 600 that wait, more
/// than a page.
async fn cluster() -> Handle {
    rustls::crypto::ring::default_provider().install_default().ok();
    let server = ApiServer::start(Options::default()).await.expect("a free port");
    let definition = include_str!("../../manifests/crd.yaml");
    let definition: Value = serde_saphyr::from_str(definition).expect("YAML");
    post(&server, "/apis/apiextensions.k8s.io/v1/customresourcedefinitions", &definition).await;
    for name in ["n1", "n2"] {
        let node = json!({ "metadata": { "name": name }, "status": { "allocatable":
            { "nvidia.com/gpu": "8", "cpu": "96", "memory": "1Ti", "pods": "110" } } });
        post(&server, "/api/v1/nodes", &node).await;
    }
    let queue = json!({ "apiVersion": "mss-scheduler.io/v1alpha1", "kind": "Queue",
        "metadata": { "name": "team" }, "spec": { "weight": 2, "namespaces": ["team"] } });
    post(&server, "/apis/mss-scheduler.io/v1alpha1/queues", &queue).await;
    post(&server, "/api/v1/namespaces", &json!({ "metadata": { "name": "team" } })).await;
    let pods = "/api/v1/namespaces/team/pods";
    post(&server, pods, &pod("foreign", Some("n1"), "other", None)).await;
    post(&server, pods, &pod("said", Some("n1"), "mss-scheduler", Some(7_200))).await;
    post(&server, pods, &pod("silent", Some("n2"), "mss-scheduler", None)).await;
    for number in 0..600 {
        post(&server, pods, &pod(&format!("w{number}"), None, "mss-scheduler", Some(60))).await;
    }
    server
}

fn start(file: &Path, more: Sources) -> Result<Inputs, String> {
    let snapshot = Some(file.to_path_buf());
    Inputs::read(&Sources { snapshot, ..more }).map_err(|error| error.to_string())
}

fn hour() -> Sources {
    Sources { run: Some(Duration::from_secs(3_600)), ..Sources::default() }
}

fn ended_s(inputs: &Inputs, policy: &str, name: &str) -> i64 {
    let place = inputs.gangs.iter().position(|gang| &*gang.name == name).expect("it is there");
    let ended = outcome(inputs, policy).gangs[place].ended_ms;
    ended.expect("it ends") / 1000
}

#[tokio::test(flavor = "multi_thread")]
async fn a_run_begins_with_a_live_cluster() {
    let server = cluster().await;
    let snapshot = take(&server.client(), "2026-01-05T10:00:00Z".into()).await.expect("listed");
    let counts = (snapshot.nodes.len(), snapshot.queues.len(), snapshot.pods.len());
    assert_eq!(counts, (2, 1, 603));
    let folder = tempfile::tempdir().expect("a folder");
    let file = folder.path().join("snapshot.json");
    let mut early = Snapshot { taken: later(&snapshot), ..snapshot };
    early.pods.truncate(20);
    let text = serde_json::to_string(&early).expect("it is JSON");
    assert!(!text.contains("secret") && !text.contains("not ours"), "more is kept than is needed");
    std::fs::write(&file, text).expect("written");
    tokio::task::block_in_place(|| goes_on(&file, &early));
    written_by_the_program(&server, folder.path());
    server.stop().await;
}

/// Half an hour after its pods were created.
fn later(snapshot: &Snapshot) -> String {
    let created = snapshot.pods[0]["metadata"]["creationTimestamp"].as_str().expect("a time");
    let created: jiff::Timestamp = created.parse().expect("RFC 3339");
    (created + Duration::from_secs(1_800)).to_string()
}

fn goes_on(file: &Path, snapshot: &Snapshot) {
    let error = start(file, Sources::default()).expect_err("nobody knows how long");
    assert!(error.contains("pod team/silent: how long does it run?"), "{error}");
    let inputs = start(file, hour()).unwrap_or_else(|error| panic!("{error}"));
    assert_eq!((inputs.gpus(), inputs.queues.len()), (12, 1), "foreign pods hold their room");
    assert_eq!(&*inputs.tenants[0], "team");
    for policy in ["fair-share", "fifo"] {
        let all = outcome(&inputs, policy);
        assert_eq!(all.summary.done, inputs.gangs.len(), "{policy}");
        assert_eq!(all.summary.evicted_pods, 0, "{policy}");
        let said = ended_s(&inputs, policy, "said");
        assert!((5_390..5_410).contains(&said), "it has run for half an hour of two: {said}");
        let silent = ended_s(&inputs, policy, "silent");
        assert_eq!(silent, 3_600, "an hour from now");
    }
    // what if the second node were not there?
    let names = snapshot.nodes.iter().map(|node| node["metadata"]["name"].as_str());
    assert_eq!(names.collect::<Vec<_>>(), [Some("n1"), Some("n2")]);
    let smaller = Snapshot { nodes: snapshot.nodes[..1].to_vec(), ..snapshot.clone() };
    let path: PathBuf = file.with_file_name("smaller.json");
    std::fs::write(&path, serde_json::to_string(&smaller).expect("JSON")).expect("written");
    let inputs = start(&path, hour()).unwrap_or_else(|error| panic!("{error}"));
    assert_eq!(inputs.gpus(), 4);
    assert!(ended_s(&inputs, "fair-share", "silent") > 3_600, "it waits for the other to end");
    let other = Snapshot { kind: "Pod".into(), ..smaller };
    std::fs::write(&path, serde_json::to_string(&other).expect("JSON")).expect("written");
    let error = start(&path, hour()).expect_err("no snapshot");
    assert!(error.contains("kind is \"Pod\": expected Snapshot"), "{error}");
}

fn written_by_the_program(server: &Handle, folder: &Path) {
    let kubeconfig = json!({ "apiVersion": "v1", "kind": "Config", "current-context": "c",
        "clusters": [{ "name": "c", "cluster": { "server": server.url() } }],
        "users": [{ "name": "u", "user": {} }],
        "contexts": [{ "name": "c", "context": { "cluster": "c", "user": "u" } }] });
    let path = folder.join("kubeconfig");
    std::fs::write(&path, kubeconfig.to_string()).expect("written");
    let file = folder.join("live.json");
    let run = |args: &[&str]| {
        let mut command = Command::new(env!("CARGO_BIN_EXE_mss-scheduler"));
        let output = command.args(args).output().expect("the program starts");
        let text = String::from_utf8_lossy(&output.stdout).into_owned();
        assert!(output.status.success(), "{text}{}", String::from_utf8_lossy(&output.stderr));
        text
    };
    tokio::task::block_in_place(|| {
        let (config, file) = (path.display().to_string(), file.display().to_string());
        let told = run(&["snapshot", "--kubeconfig", &config, "--out", &file]);
        assert!(told.starts_with("2 nodes, 1 queues and 603 pods in "), "{told}");
        let common = ["simulate", "--snapshot", &file, "--run", "1h", "--policy", "fair-share"];
        let figures: Value =
            serde_json::from_str(&run(&[&common[..], &["--output", "json"]].concat()))
                .expect("standard output is JSON and nothing else");
        assert_eq!(figures["policies"][0]["done"], 602, "{figures}");
        let csv = run(&[&common[..], &["--output", "csv"]].concat());
        let mut lines = csv.lines();
        let header = lines.next().expect("a header");
        assert!(header.split(',').any(|column| column == "wait_p99_s"), "{header}");
        assert_eq!(lines.count(), 1, "{csv}");
    });
}
