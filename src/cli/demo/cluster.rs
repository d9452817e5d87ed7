//! The demo's cluster: API server, fake nodes, scheduler.

use crate::config::Configuration;
use crate::model::contract::GPU_TOPOLOGY;
use crate::runtime;
use crate::simulator::api_server::{ApiServer, Handle, Options};
use crate::simulator::kubelet::{Fleet, FleetOptions, NodeShape, create_nodes};
use anyhow::Context;
use k8s_openapi::api::core::v1::{Node, Pod};
use kube::api::{DeleteParams, ListParams, Patch, PatchParams, PostParams};
use kube::{Api, Client};
use serde_json::{Value, json};
use tokio::sync::oneshot;
use tokio::task::JoinHandle;

const NODES: usize = 8;
/// How the GPUs of a node are joined: two islands of four by NVLink.
const JOINED: &str = "v1 gpus=8 numa=0:0-3/1:4-7 NV4=0-3/4-7 else=SYS";
/// The kind Queue, as it is installed on any cluster.
const DEFINITION: &str = include_str!("../../../manifests/crd.yaml");

pub(super) struct Cluster {
    server: Handle,
    client: Client,
    _fleet: Fleet,
    stop: oneshot::Sender<()>,
    scheduler: JoinHandle<anyhow::Result<runtime::End>>,
}

impl Cluster {
    pub(super) async fn start() -> anyhow::Result<Self> {
        let server = ApiServer::start(Options::default()).await?;
        let client = server.client();
        let definition: Value =
            serde_saphyr::from_str(DEFINITION).context("cannot read the definition of queues")?;
        server.create(&definition).context("cannot install the kind Queue")?;
        let shape = NodeShape::default();
        create_nodes(&client, NODES, &shape).await.context("cannot create the nodes")?;
        join_gpus(&client).await.context("cannot say how the GPUs are joined")?;
        let fleet = Fleet::start(client.clone(), FleetOptions::default());

        let configuration = Configuration { health_bind_address: None, ..Configuration::default() };
        let url = server.url().parse().context("cannot read the server's own URL")?;
        let config = kube::Config::new(url);
        let (stop, stopped) = oneshot::channel();
        let stopped = async move {
            stopped.await.ok();
        };
        let scheduler = tokio::spawn(runtime::run_on(configuration, config, stopped));
        Ok(Self { server, client, _fleet: fleet, stop, scheduler })
    }

    pub(super) fn url(&self) -> String {
        self.server.url()
    }

    pub(super) fn kubeconfig(&self) -> String {
        self.server.kubeconfig()
    }

    pub(super) async fn stop(self) {
        self.stop.send(()).ok();
        self.scheduler.await.ok();
        self.server.stop().await;
    }

    /// Creates one member of a gang.
    pub(super) async fn create(&self, member: &Member<'_>) -> anyhow::Result<()> {
        let api: Api<Pod> = Api::namespaced(self.client.clone(), member.namespace);
        let pod = serde_json::from_value(member.object()).context("a member is a valid pod")?;
        api.create(&PostParams::default(), &pod)
            .await
            .with_context(|| format!("cannot create pod {}", member.name))?;
        Ok(())
    }

    /// Creates a namespace, and a queue of the same name for it.
    pub(super) fn create_team(&self, name: &str) -> anyhow::Result<()> {
        let namespace =
            json!({"apiVersion": "v1", "kind": "Namespace", "metadata": {"name": name}});
        let queue = json!({
            "apiVersion": "mss-scheduler.io/v1alpha1", "kind": "Queue",
            "metadata": {"name": name}, "spec": {"namespaces": [name]},
        });
        for object in [namespace, queue] {
            self.server.create(&object).with_context(|| format!("cannot create {object}"))?;
        }
        Ok(())
    }

    /// Deletes all pods of the default namespace at once.
    pub(super) async fn clear(&self) -> anyhow::Result<()> {
        let api: Api<Pod> = Api::default_namespaced(self.client.clone());
        let at_once = DeleteParams::default().grace_period(0);
        let deleted = api.delete_collection(&at_once, &ListParams::default()).await;
        deleted.map(drop).context("cannot delete the pods")
    }

    pub(super) async fn pods(&self) -> anyhow::Result<Vec<Pod>> {
        let api: Api<Pod> = Api::all(self.client.clone());
        Ok(api.list(&ListParams::default()).await.context("cannot list pods")?.items)
    }

    pub(super) async fn nodes(&self) -> anyhow::Result<Vec<Node>> {
        let api: Api<Node> = Api::all(self.client.clone());
        Ok(api.list(&ListParams::default()).await.context("cannot list nodes")?.items)
    }
}

/// Writes on each node what `mss-scheduler node-topology` would.
async fn join_gpus(client: &Client) -> anyhow::Result<()> {
    let nodes: Api<Node> = Api::all(client.clone());
    let patch = Patch::Merge(json!({"metadata": {"annotations": {GPU_TOPOLOGY: JOINED}}}));
    for node in nodes.list(&ListParams::default()).await? {
        let name = node.metadata.name.unwrap_or_default();
        nodes.patch(&name, &PatchParams::default(), &patch).await?;
    }
    Ok(())
}

/// A member to be created.
pub(super) struct Member<'a> {
    pub(super) namespace: &'a str,
    pub(super) gang: &'a str,
    pub(super) name: String,
    pub(super) min_member: u32,
    pub(super) gpus: u32,
    /// fails after this many seconds
    pub(super) fails_after: Option<&'a str>,
}

impl Member<'_> {
    fn object(&self) -> Value {
        let mut annotations = json!({
            "mss-scheduler.io/pod-group": self.gang,
            "mss-scheduler.io/min-member": self.min_member.to_string(),
        });
        if let Some(seconds) = self.fails_after {
            annotations[crate::simulator::kubelet::RUN_SECONDS] = seconds.into();
            annotations[crate::simulator::kubelet::OUTCOME] = "failed".into();
        }
        json!({
            "apiVersion": "v1",
            "kind": "Pod",
            "metadata": {"name": self.name, "annotations": annotations},
            "spec": {
                "schedulerName": "mss-scheduler",
                "terminationGracePeriodSeconds": 1,
                "restartPolicy": "Never",
                "containers": [{
                    "name": "train",
                    "image": "example.invalid/train",
                    "resources": {
                        "requests": {"cpu": "4", "memory": "16Gi"},
                        "limits": {"nvidia.com/gpu": self.gpus.to_string()},
                    },
                }],
            },
        })
    }
}
