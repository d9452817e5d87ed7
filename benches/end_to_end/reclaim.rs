//! Making room: a queue that borrowed the whole cluster gives back for one large gang of another.
//!
//! The lender's gangs of 16 need four members each and hold every GPU; the asker wants whole nodes
//! for one gang within its share. The bare loop makes the same writes and knows whom to evict.

use crate::args::Binder;
use crate::binders;
use crate::observer::{self, Observer};
use crate::scenarios::{Bench, NODE_GPUS, PATIENCE, Sample};
use futures::StreamExt;
use futures::stream;
use k8s_openapi::api::core::v1::Pod;
use kube::api::{Api, EvictParams, ListParams, Patch, PatchParams};
use mss_scheduler::simulator::create::{PARALLEL_DEFAULT, create_all};
use serde_json::{Value, json};
use std::collections::{BTreeMap, BTreeSet};
use std::time::{Duration, Instant};

const GANG: usize = 16;
const MINIMUM: usize = 4;
/// Of 100 nodes the asker wants so many.
const ASKED_OF_100: usize = 32;
/// Calls of the bare loop in flight.
const IN_FLIGHT: usize = 64;

impl Bench {
    pub(crate) async fn reclaim(&self, binder: Binder, name: &str) -> Sample {
        let (lender, asker) = (format!("{name}-lender"), format!("{name}-asker"));
        self.declare_queues(&lender, &asker).await;
        let held = self.args.nodes * NODE_GPUS;
        let asked = self.args.nodes * ASKED_OF_100 / 100;
        let mut observer = Observer::start(self.client.clone(), lender.clone()).await;
        let process = binders::start(&self.servers, Binder::Mss, name);
        let members = (0..held).map(|index| member(name, &lender, index, (GANG, MINIMUM), 1));
        create_all(&self.client, members, PARALLEL_DEFAULT, || ()).await.expect("pods are taken");
        assert!(observer.wait(held, PATIENCE).await, "{name}: the lender cannot borrow all");
        tokio::time::sleep(Duration::from_secs(5)).await;

        let mut observer = Observer::start(self.client.clone(), asker.clone()).await;
        let members =
            (0..asked).map(|index| member(name, &asker, index, (asked, asked), NODE_GPUS));
        // without a scheduler the bare loop evicts and binds by itself
        let process = match binder {
            Binder::Bare => {
                drop(process);
                None
            }
            _ => Some(process),
        };
        let cpu = process.as_ref().map(|process| observer::cpu(process.id()));
        let started = Instant::now();
        create_all(&self.client, members, PARALLEL_DEFAULT, || ()).await.expect("pods are taken");
        if process.is_none() {
            self.make_room_blindly(&lender, &asker, asked).await;
        }
        if !observer.wait(asked, PATIENCE).await {
            let words = process.map(|process| process.last_words()).unwrap_or_default();
            panic!("{name}: {} of {asked} are bound\n{words}", observer.binds().nodes.len());
        }
        let last = observer.binds().last.expect("all are bound");
        let left = self.gangs_left(&lender).await;
        let evicted = held - left.values().sum::<usize>();
        if process.is_some() {
            assert_eq!(evicted, asked * NODE_GPUS, "{name}: pods evicted");
            assert_eq!(left.len(), held / GANG, "{name}: a gang was ended");
            assert!(left.values().all(|members| *members >= MINIMUM), "{name}: {left:?}");
        }
        let spent = process.as_ref().map(|process| observer::cpu(process.id()));
        let per_victim = 1000.0 / evicted as f64;
        let sample = Sample {
            last_bind_s: Some((last - started).as_secs_f64()),
            evicted: Some(evicted as f64),
            cpu_ms_per_pod: spent.zip(cpu).map(|(a, b)| (a - b).as_secs_f64() * per_victim),
            peak_mb: process.as_ref().map(|process| observer::peak_mb(process.id())),
            ..Sample::default()
        };
        drop(process);
        self.remove_pods(&lender).await;
        self.remove_pods(&asker).await;
        self.remove_queues(&[lender, asker]).await;
        sample
    }

    async fn declare_queues(&self, lender: &str, asker: &str) {
        let crd = concat!(env!("CARGO_MANIFEST_DIR"), "/manifests/crd.yaml");
        self.servers.run_kubectl(&["apply", "-f", crd]).expect("the definition is accepted");
        let established = ["wait", "--for=condition=Established", "crd/queues.mss-scheduler.io"];
        self.servers.run_kubectl(&established).expect("the definition is served");
        for queue in [lender, asker] {
            self.create_namespace(queue).await;
            let object = json!({
                "apiVersion": "mss-scheduler.io/v1alpha1", "kind": "Queue",
                "metadata": {"name": queue}, "spec": {"namespaces": [queue]},
            });
            let request = http::Request::post("/apis/mss-scheduler.io/v1alpha1/queues")
                .header(http::header::CONTENT_TYPE, "application/json")
                .body(object.to_string().into_bytes())
                .expect("a valid request");
            self.client.request::<Value>(request).await.expect("a good queue");
        }
    }

    async fn remove_queues(&self, queues: &[String]) {
        for queue in queues {
            let path = format!("/apis/mss-scheduler.io/v1alpha1/queues/{queue}");
            let request = http::Request::delete(path).body(Vec::new()).expect("a valid request");
            self.client.request::<Value>(request).await.expect("it can be deleted");
        }
    }

    /// Members by gang, of those that have a node and are not being deleted.
    async fn gangs_left(&self, lender: &str) -> BTreeMap<String, usize> {
        let pods: Api<Pod> = Api::namespaced(self.client.clone(), lender);
        let mut left = BTreeMap::new();
        for pod in pods.list(&ListParams::default()).await.expect("pods can be listed") {
            let group = pod.metadata.annotations.as_ref().expect("members have annotations")
                ["mss-scheduler.io/pod-group"]
                .clone();
            let bound = pod.spec.expect("a pod has a spec").node_name.is_some();
            if bound && pod.metadata.deletion_timestamp.is_none() {
                *left.entry(group).or_default() += 1;
            }
        }
        left
    }

    /// Notice and eviction for everything on the first nodes, then the binds.
    async fn make_room_blindly(&self, lender: &str, asker: &str, asked: usize) {
        let pods: Api<Pod> = Api::namespaced(self.client.clone(), lender);
        let all = pods.list(&ListParams::default()).await.expect("pods can be listed");
        let mut by_node: BTreeMap<String, Vec<String>> = BTreeMap::new();
        for pod in all {
            let node = pod.spec.and_then(|spec| spec.node_name).expect("all are bound");
            by_node.entry(node).or_default().push(pod.metadata.name.expect("a name"));
        }
        let nodes: BTreeSet<String> = by_node.keys().take(asked).cloned().collect();
        let victims = nodes.iter().flat_map(|node| by_node[node].clone());
        stream::iter(victims)
            .for_each_concurrent(IN_FLIGHT, |victim| {
                let pods = pods.clone();
                async move {
                    let condition = json!({
                        "type": "DisruptionTarget", "status": "True",
                        "reason": "PreemptionByScheduler", "message": "to make room",
                        "lastTransitionTime": "2026-01-02T03:04:05Z",
                    });
                    let patch = Patch::Strategic(json!({"status": {"conditions": [condition]}}));
                    let told = pods.patch_status(&victim, &PatchParams::default(), &patch).await;
                    told.expect("a status can be patched");
                    pods.evict(&victim, &EvictParams::default()).await.expect("it can be evicted");
                }
            })
            .await;
        stream::iter(nodes.into_iter().enumerate())
            .for_each_concurrent(IN_FLIGHT, |(index, node)| async move {
                let name = pod_name(index);
                let binding = json!({
                    "apiVersion": "v1", "kind": "Binding",
                    "metadata": {"namespace": asker, "name": name},
                    "target": {"apiVersion": "v1", "kind": "Node", "name": node},
                });
                let path = format!("/api/v1/namespaces/{asker}/pods/{name}/binding");
                let request = http::Request::post(path)
                    .header(http::header::CONTENT_TYPE, "application/json")
                    .body(binding.to_string().into_bytes())
                    .expect("a valid request");
                self.client.request::<Value>(request).await.expect("it can be bound");
            })
            .await;
    }
}

fn pod_name(index: usize) -> String {
    format!("pod-{index:06}")
}

fn member(
    scheduler: &str,
    namespace: &str,
    index: usize,
    (size, minimum): (usize, usize),
    gpus: usize,
) -> Pod {
    let resources = json!({"nvidia.com/gpu": gpus.to_string()});
    serde_json::from_value(json!({
        "metadata": {
            "namespace": namespace, "name": pod_name(index),
            "annotations": {
                "mss-scheduler.io/pod-group": format!("gang-{}", index / size),
                "mss-scheduler.io/min-member": minimum.to_string(),
            },
        },
        "spec": {
            "schedulerName": scheduler,
            // gone with the eviction: no kubelet takes part
            "terminationGracePeriodSeconds": 0,
            "containers": [{
                "name": "main", "image": "registry.k8s.io/pause:3.10",
                "resources": {"limits": resources, "requests": resources},
            }],
        },
    }))
    .expect("a pod")
}
