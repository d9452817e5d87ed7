//! What each story of the real-API tests starts with: servers that no other story uses meanwhile,
//! empty but for nodes whose pods fake kubelets run, and an auditor.

use super::auditor::Auditor;
use super::control_plane::{ControlPlane, Options, User};
use super::objects::namespace;
use super::scheduler::LEASE;
use k8s_openapi::api::coordination::v1::Lease;
use k8s_openapi::api::core::v1::{Namespace, Node, Pod};
use k8s_openapi::api::rbac::v1::ClusterRoleBinding;
use kube::api::{Api, DeleteParams, ListParams, PostParams};
use mss_scheduler::simulator::kubelet::{Fleet, FleetOptions, NodeShape, create_nodes};
use serde_json::json;
use std::time::Duration;
use tokio::sync::{Mutex, MutexGuard, OnceCell};

/// The servers and what watches them.
pub(crate) struct Story {
    pub(crate) servers: &'static ControlPlane,
    /// An administrator's.
    pub(crate) client: kube::Client,
    pub(crate) auditor: Auditor,
    pub(crate) namespace: String,
    pub(crate) kubelets: Fleet,
    _alone: MutexGuard<'static, ()>,
}

impl Story {
    /// Begins with `nodes` nodes of `gpus` GPUs and an empty namespace of this name; `None` where
    /// no servers can be had.
    pub(crate) async fn begin(name: &str, nodes: usize, gpus: u32) -> Option<Story> {
        static SERVERS: OnceCell<Option<ControlPlane>> = OnceCell::const_new();
        static ALONE: Mutex<()> = Mutex::const_new(());
        // stories share nodes and processors, so they run one after another
        let alone = ALONE.lock().await;
        let servers = SERVERS.get_or_init(start).await.as_ref()?;
        let client = servers.client(User::Admin).await;
        wipe(&client).await;
        let shape = NodeShape { gpus, ..NodeShape::default() };
        create_nodes(&client, nodes, &shape).await.expect("the nodes can be created");
        namespace(&client, name).await;
        let auditor = Auditor::start(client.clone()).await;
        let kubelets = Fleet::start(client.clone(), FleetOptions::default());
        eprintln!("{name}: {nodes} nodes x {gpus} GPUs");
        let namespace = name.into();
        Some(Story { servers, client, auditor, namespace, kubelets, _alone: alone })
    }

    /// Ends the story: neither the auditor nor a kubelet may have anything to say against it.
    /// Returns the longest time that a gang stood between zero and its minimum.
    pub(crate) async fn end(&self, within: Duration) -> Duration {
        let longest = self.auditor.assert_settled(&self.namespace, within).await;
        let counts = self.kubelets.counts();
        assert_eq!(counts.rejected, 0, "kubelets rejected pods: {counts:?}");
        longest
    }
}

async fn start() -> Option<ControlPlane> {
    let options = Options { audit: true, ..Options::default() };
    let servers = ControlPlane::start_with(options).await?;
    allow_all(&servers.client(User::Admin).await).await;
    Some(servers)
}

/// Gives the scheduler all rights, where a test is not about them.
pub(crate) async fn allow_all(client: &kube::Client) {
    let (user, _) = User::Scheduler.identity();
    let binding: ClusterRoleBinding = serde_json::from_value(json!({
        "metadata": {"name": "test-scheduler"},
        "roleRef": {
            "apiGroup": "rbac.authorization.k8s.io", "kind": "ClusterRole", "name": "cluster-admin",
        },
        "subjects": [{"apiGroup": "rbac.authorization.k8s.io", "kind": "User", "name": user}],
    }))
    .expect("a valid binding");
    let bindings: Api<ClusterRoleBinding> = Api::all(client.clone());
    bindings.create(&PostParams::default(), &binding).await.expect("the rights can be given");
}

/// Removes what earlier stories left. Their namespaces stay: nothing runs here that ends them.
async fn wipe(client: &kube::Client) {
    let at_once = DeleteParams::default().grace_period(0);
    let all = ListParams::default();
    let namespaces: Api<Namespace> = Api::all(client.clone());
    for name in namespaces.list(&all).await.expect("namespaces can be listed") {
        let name = name.metadata.name.expect("a stored object has a name");
        let pods: Api<Pod> = Api::namespaced(client.clone(), &name);
        pods.delete_collection(&at_once, &all).await.expect("pods can be deleted");
    }
    let nodes: Api<Node> = Api::all(client.clone());
    nodes.delete_collection(&at_once, &all).await.expect("nodes can be deleted");
    let leases: Api<Lease> = Api::namespaced(client.clone(), "kube-system");
    match leases.delete(LEASE, &at_once).await {
        Err(kube::Error::Api(status)) if status.is_not_found() => {}
        outcome => drop(outcome.expect("the lease can be deleted")),
    }
}
