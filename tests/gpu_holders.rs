//! What holders of shared GPUs say of themselves, on the embedded API server: what is wrong with it
//! is told on the holder, once, and no part is given out of what it claims.

mod support;

use k8s_openapi::api::core::v1::Pod;
use kube::api::{Api, Patch, PatchParams};
use mss_scheduler::config::Configuration;
use mss_scheduler::runtime;
use mss_scheduler::simulator::api_server::{ApiServer, Options};
use serde_json::{Value, json};
use std::time::{Duration, Instant};
use support::objects::{bare_pod, create_node, create_pod, delete_pod, namespace};

/// Long enough for anything that is not about waiting on a slow machine.
const SOON: Duration = Duration::from_secs(30);
const HOLDERS: &str = "holders";
const DEVICES: &str = "mss-scheduler.io/gpu-devices";

struct World {
    client: kube::Client,
}

impl World {
    fn pods(&self, namespace: &str) -> Api<Pod> {
        Api::namespaced(self.client.clone(), namespace)
    }

    /// A holder of two of the four GPUs of the node.
    async fn hold(&self, name: &str, says: &str) {
        let mut pod = bare_pod(HOLDERS, name, 2);
        let label = ("mss-scheduler.io/gpu-holder".to_owned(), "true".to_owned());
        pod.metadata.labels = Some([label].into());
        pod.metadata.annotations = Some([(DEVICES.to_owned(), says.to_owned())].into());
        let spec = pod.spec.as_mut().expect("made with a spec");
        spec.scheduler_name = Some("default-scheduler".into());
        spec.node_name = Some("n".into());
        create_pod(&self.client, &pod).await;
    }

    async fn edit(&self, name: &str, metadata: &Value) {
        let patch = Patch::Merge(json!({ "metadata": metadata }));
        let pods = self.pods(HOLDERS);
        pods.patch(name, &PatchParams::default(), &patch).await.expect("it can be patched");
    }

    async fn says(&self, name: &str, says: &str) {
        self.edit(name, &json!({ "annotations": { DEVICES: says } })).await;
    }

    /// Notes of the warnings on a holder, by time.
    async fn warnings(&self, name: &str) -> Vec<String> {
        let path = format!("/apis/events.k8s.io/v1/namespaces/{HOLDERS}/events");
        let request = http::Request::get(path).body(Vec::new()).expect("a valid request");
        let list: Value = self.client.request(request).await.expect("events can be listed");
        let events = list["items"].as_array().expect("a list").iter();
        let of_holder = events.filter(|event| {
            event["regarding"]["name"] == name && event["reason"] == "GpuHolderRefused"
        });
        let mut found: Vec<(String, String)> = of_holder
            .map(|event| {
                assert_eq!(event["type"], "Warning", "{event}");
                let text = |field: &str| event[field].as_str().unwrap_or_default().to_owned();
                (text("eventTime"), text("note"))
            })
            .collect();
        found.sort();
        found.into_iter().map(|(_, note)| note).collect()
    }

    /// Waits until the holder has had so many warnings, and returns the last.
    async fn warned(&self, name: &str, count: usize) -> String {
        let deadline = Instant::now() + SOON;
        loop {
            let mut warnings = self.warnings(name).await;
            assert!(warnings.len() <= count, "told again: {warnings:?}");
            if warnings.len() == count {
                return warnings.pop().unwrap_or_default();
            }
            assert!(Instant::now() < deadline, "{name}: {warnings:?}");
            tokio::time::sleep(Duration::from_millis(50)).await;
        }
    }

    /// A pod that asks for a quarter of a GPU.
    async fn ask(&self, name: &str) {
        let mut pod = bare_pod("team", name, 0);
        let fraction = ("mss-scheduler.io/gpu-fraction".to_owned(), "250".to_owned());
        pod.metadata.annotations = Some([fraction].into());
        create_pod(&self.client, &pod).await;
    }

    /// Waits until the pod is told that it waits, with these words.
    async fn waits(&self, name: &str, words: &str) {
        let deadline = Instant::now() + SOON;
        loop {
            let pod = self.pods("team").get(name).await.expect("it exists");
            assert_eq!(pod.spec.and_then(|spec| spec.node_name), None, "{name} is bound");
            let conditions = pod.status.and_then(|status| status.conditions).unwrap_or_default();
            let told: Vec<_> = conditions.into_iter().filter_map(|c| c.message).collect();
            if told.iter().any(|text| text.contains(words)) {
                return;
            }
            assert!(Instant::now() < deadline, "{name} is told {told:?}");
            tokio::time::sleep(Duration::from_millis(50)).await;
        }
    }

    /// Waits until the pod is bound; which devices it was given.
    async fn given(&self, name: &str) -> String {
        let deadline = Instant::now() + SOON;
        loop {
            let pod = self.pods("team").get(name).await.expect("it exists");
            if pod.spec.and_then(|spec| spec.node_name).is_some() {
                return pod.metadata.annotations.unwrap_or_default()[DEVICES].clone();
            }
            assert!(Instant::now() < deadline, "{name} is not bound: {:?}", pod.status);
            tokio::time::sleep(Duration::from_millis(50)).await;
        }
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_holder_that_is_not_believed_is_told_why_once() {
    rustls::crypto::ring::default_provider().install_default().ok();
    let server = ApiServer::start(Options::default()).await.expect("a free loopback port");
    let world = World { client: server.client() };
    for name in [HOLDERS, "team"] {
        namespace(&world.client, name).await;
    }
    create_node(&world.client, "n", 4).await;
    world.hold("h", "GPU-4ff9e1c2,GPU-5aa01b3d").await;
    world.ask("p").await;
    let mut configuration = Configuration { health_bind_address: None, ..Configuration::default() };
    configuration.gpu_sharing.holder_namespace = HOLDERS.into();
    let config = kube::Config::new(server.url().parse().expect("the server's own address"));
    let (stop, stopped) = tokio::sync::oneshot::channel::<()>();
    let stopped = async {
        stopped.await.ok();
    };
    let scheduler = tokio::spawn(runtime::run_on(configuration, config, stopped));

    let note = world.warned("h", 1).await;
    assert!(note.contains("\"GPU-4ff9e1c2\" is no index of a GPU: it is a UUID"), "{note}");
    assert!(note.contains("deviceIDStrategy: index"), "what to do: {note}");
    world.waits("p", "1 node(s) had a GPU holder whose gpu-devices cannot be read").await;
    let mut told = 1;
    // a pod that waits is told anew when it is tried again, so another comes for each
    for (says, on_holder, on_pod) in [
        ("1,1", "GPU 1 is named twice", "cannot be read"),
        ("0,1,2", "it names 3 GPUs and requests 2", "names other GPUs than it requests"),
        (
            "3,4",
            "the node has 4 GPUs, 0 to 3, so it has no GPU 4",
            "names GPUs that the node lacks",
        ),
    ] {
        world.says("h", says).await;
        told += 1;
        let note = world.warned("h", told).await;
        assert!(note.contains(on_holder), "{says}: {note}");
        let name = format!("p-{told}");
        world.ask(&name).await;
        world.waits(&name, on_pod).await;
    }
    // nothing about it changes, so nothing is said again
    world.edit("h", &json!({ "labels": { "touched": "true" } })).await;

    world.says("h", "0,1").await;
    assert_eq!(world.given("p").await, "0");
    // another claims one of them: both are told, and only the others are given out
    world.hold("g", "1,2").await;
    for (name, count) in [("h", told + 1), ("g", 1)] {
        let note = world.warned(name, count).await;
        assert!(note.contains("another holder on the node names GPU 1 too"), "{name}: {note}");
    }
    delete_pod(&world.client, HOLDERS, "h").await;
    world.ask("q").await;
    assert_eq!(world.given("q").await, "1", "the first that is left");
    assert_eq!(world.warnings("h").await.len(), told + 1);
    assert_eq!(world.warnings("g").await.len(), 1);
    stop.send(()).ok();
    scheduler.await.expect("it does not panic").expect("it ends in order");
    server.stop().await;
}
