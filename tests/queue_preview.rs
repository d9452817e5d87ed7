//! `queue preview` on an embedded cluster: what an edited tree would change, and who would pay.

use mss_scheduler::config::Configuration;
use mss_scheduler::runtime::preview::Cluster;
use mss_scheduler::simulator::api_server::{ApiServer, Handle, Options};
use serde_json::{Value, json};
use std::process::Command;

const QUEUES: &str = "/apis/mss-scheduler.io/v1alpha1/queues";

async fn post(server: &Handle, path: &str, object: &Value) {
    let request = http::Request::post(path)
        .header(http::header::CONTENT_TYPE, "application/json")
        .body(object.to_string().into_bytes())
        .expect("a valid request");
    server.client().request::<Value>(request).await.expect("the server takes it");
}

fn queue(name: &str, weight: u32) -> Value {
    json!({ "apiVersion": "mss-scheduler.io/v1alpha1", "kind": "Queue",
        "metadata": { "name": name }, "spec": { "weight": weight, "namespaces": [name] } })
}

fn pod(namespace: &str, name: &str, node: Option<&str>) -> Value {
    let limits = json!({ "nvidia.com/gpu": "1" });
    json!({ "metadata": { "namespace": namespace, "name": name, "annotations": {
            "mss-scheduler.io/pod-group": format!("gang-{namespace}"),
            "mss-scheduler.io/min-member": "1" } },
        "spec": { "schedulerName": "mss-scheduler", "nodeName": node,
            "containers": [{ "name": "main", "image": "x", "resources": { "limits": limits } }] } })
}

/// A cluster of 8 GPUs: team `a` holds all of them, team `b` waits for as many; both weigh 1 and a
/// is guaranteed 8, so nobody need give anything back.
async fn cluster() -> Handle {
    rustls::crypto::ring::default_provider().install_default().ok();
    let server = ApiServer::start(Options::default()).await.expect("a free port");
    let definition = include_str!("../manifests/crd.yaml");
    let definition: Value = serde_saphyr::from_str(definition).expect("YAML");
    post(&server, "/apis/apiextensions.k8s.io/v1/customresourcedefinitions", &definition).await;
    let node = json!({ "metadata": { "name": "n" }, "status": { "allocatable":
        { "nvidia.com/gpu": "8", "cpu": "96", "memory": "1Ti", "pods": "110" } } });
    post(&server, "/api/v1/nodes", &node).await;
    let mut guaranteed = queue("a", 1);
    guaranteed["spec"]["quota"] = json!({ "nvidia.com/gpu": 8 });
    post(&server, QUEUES, &guaranteed).await;
    post(&server, QUEUES, &queue("b", 1)).await;
    for team in ["a", "b"] {
        let namespace = json!({ "metadata": { "name": team } });
        post(&server, "/api/v1/namespaces", &namespace).await;
        for index in 0..8 {
            let node = (team == "a").then_some("n");
            let path = format!("/api/v1/namespaces/{team}/pods");
            post(&server, &path, &pod(team, &format!("p{index}"), node)).await;
        }
    }
    server
}

/// The node is in a rack, and team `b`'s gang has to be in one. The level is named by an object
/// of Kueue.
#[tokio::test(flavor = "multi_thread")]
async fn levels_that_objects_name_are_known() {
    let server = cluster().await;
    let patch = async |path: &str, object: &Value| {
        let request = http::Request::patch(path)
            .header(http::header::CONTENT_TYPE, "application/merge-patch+json")
            .body(object.to_string().into_bytes())
            .expect("a valid request");
        server.client().request::<Value>(request).await.expect("the server takes it");
    };
    let label = json!({ "metadata": { "labels": { "example.com/tor": "1" } } });
    patch("/api/v1/nodes/n", &label).await;
    let asks = json!({ "metadata": { "annotations": {
        "kueue.x-k8s.io/podset-required-topology": "example.com/tor" } } });
    for index in 0..8 {
        patch(&format!("/api/v1/namespaces/b/pods/p{index}"), &asks).await;
    }
    let victims = async |from_objects: bool| {
        let mut configuration = Configuration::default();
        configuration.topology.from_objects = from_objects;
        let cluster = Cluster::list(server.client(), &configuration).await.expect("listed");
        let mut edited = cluster.specs().clone();
        edited.get_mut("a").expect("it is there").quota.clear();
        cluster.decide(&configuration, &edited).victims.len()
    };
    assert_eq!(victims(true).await, 0, "the kind is not installed, so no gang can be there");
    let schema = json!({ "type": "object", "x-kubernetes-preserve-unknown-fields": true });
    let definition = json!({ "apiVersion": "apiextensions.k8s.io/v1",
        "kind": "CustomResourceDefinition", "metadata": { "name": "topologies.kueue.x-k8s.io" },
        "spec": { "group": "kueue.x-k8s.io", "scope": "Cluster",
            "names": { "plural": "topologies", "singular": "topology", "kind": "Topology",
                "listKind": "TopologyList" },
            "versions": [{ "name": "v1beta1", "served": true, "storage": true,
                "schema": { "openAPIV3Schema": schema } }] } });
    post(&server, "/apis/apiextensions.k8s.io/v1/customresourcedefinitions", &definition).await;
    let topology = json!({ "apiVersion": "kueue.x-k8s.io/v1beta1", "kind": "Topology",
        "metadata": { "name": "racks" },
        "spec": { "levels": [{ "nodeLabel": "example.com/tor" }] } });
    post(&server, "/apis/kueue.x-k8s.io/v1beta1/topologies", &topology).await;
    assert_eq!(victims(true).await, 1, "room is made in the rack");
    assert_eq!(victims(false).await, 0, "objects are not to be read");
    server.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn an_edit_is_told_before_it_is_made() {
    let server = cluster().await;
    let configuration = Configuration::default();
    let cluster = Cluster::list(server.client(), &configuration).await.expect("it can be listed");
    let before = cluster.decide(&configuration, cluster.specs());
    assert_eq!(before.victims.len(), 0, "{before:?}");

    // without its guarantee a deserves half, and b may have one GPU for its minimum
    let mut edited = cluster.specs().clone();
    edited.get_mut("a").expect("it is there").quota.clear();
    let after = cluster.decide(&configuration, &edited);
    let gang = ("a".into(), "gang-a".into());
    assert_eq!(after.victims.get(&gang), Some(&(1, 8)), "{after:?}");
    let gpus = |name: &str| {
        let (_, facts) = &after.queues[name];
        facts.amounts.iter().find(|(name, _)| &**name == "nvidia.com/gpu").map(|(_, a)| a.deserved)
    };
    assert_eq!((gpus("a"), gpus("b")), (Some(4), Some(4)));

    // the same from the command line
    let folder = tempfile::tempdir().expect("a folder");
    let write = |name: &str, text: &str| {
        let path = folder.path().join(name);
        std::fs::write(&path, text).expect("writable");
        path
    };
    let kubeconfig = json!({ "apiVersion": "v1", "kind": "Config", "current-context": "c",
        "clusters": [{ "name": "c", "cluster": { "server": server.url() } }],
        "users": [{ "name": "u", "user": {} }],
        "contexts": [{ "name": "c", "context": { "cluster": "c", "user": "u" } }] });
    let kubeconfig = write("kubeconfig", &kubeconfig.to_string());
    let preview = |file: &std::path::Path| {
        let mut command = Command::new(env!("CARGO_BIN_EXE_mss-scheduler"));
        command.args(["queue", "preview", "--kubeconfig"]).arg(&kubeconfig).arg("-f").arg(file);
        let output = command.output().expect("the program starts");
        let text = String::from_utf8_lossy(&output.stdout).into_owned();
        (output.status.code(), text + &String::from_utf8_lossy(&output.stderr))
    };
    let ask = |file: std::path::PathBuf| tokio::task::block_in_place(|| preview(&file));
    let (code, text) = ask(write("less.yaml", &queue("a", 1).to_string()));
    assert_eq!(code, Some(0), "{text}");
    assert!(text.contains("8 -> 0") && text.contains("8 -> 4"), "{text}");
    assert!(text.contains("1 pods of 1 gangs would be evicted at once."), "{text}");
    assert!(text.contains("  a/gang-a: 1 of 8 pods"), "{text}");

    let mut lost = queue("c", 1);
    lost["spec"]["parent"] = json!("nowhere");
    let (code, text) = ask(write("lost.yaml", &lost.to_string()));
    assert_eq!(code, Some(1), "{text}");
    assert!(text.contains("REFUSED queue c: its parent nowhere is not declared"), "{text}");
    let (code, text) = ask(write("bad.yaml", &queue("a", 0).to_string()));
    assert_eq!(code, Some(1), "{text}");
    assert!(text.contains("queue a: spec.weight is 0"), "{text}");
    server.stop().await;
}
