//! Node objects of one shape.

use crate::simulator::create::{CreateError, Created, PARALLEL_DEFAULT, create_all};
use jiff::Timestamp;
use k8s_openapi::api::core::v1::{
    Node, NodeAddress, NodeCondition, NodeSpec, NodeStatus, NodeSystemInfo, Taint,
};
use k8s_openapi::apimachinery::pkg::api::resource::Quantity;
use k8s_openapi::apimachinery::pkg::apis::meta::v1::{ObjectMeta, Time};
use kube::Client;
use std::collections::BTreeMap;

/// The extended resource that whole GPUs are counted in.
pub const GPU: &str = "nvidia.com/gpu";

/// What a kubelet allows by default, so also here.
pub const PODS_DEFAULT: u32 = 110;

/// What a node offers. Capacity and allocatable are equal: nothing is set aside for the system.
#[derive(Clone, Debug)]
pub struct NodeShape {
    /// Milli-CPU.
    pub cpu_milli: u64,
    /// MiB.
    pub memory_mib: u64,
    /// Whole GPUs; a node without any does not list the resource.
    pub gpus: u32,
    /// Pods that may run at once.
    pub pods: u32,
    /// Labels beside the ones that a kubelet sets.
    pub labels: BTreeMap<String, String>,
    /// Taints.
    pub taints: Vec<Taint>,
}

impl Default for NodeShape {
    /// A machine with 8 GPUs, 96 cores and 1 TiB.
    fn default() -> Self {
        Self {
            cpu_milli: 96_000,
            memory_mib: 1 << 20,
            gpus: 8,
            pods: PODS_DEFAULT,
            labels: BTreeMap::new(),
            taints: Vec::new(),
        }
    }
}

impl NodeShape {
    /// The object of a node called `name`, ready, as its kubelet would register it.
    #[must_use]
    pub fn node(&self, name: &str) -> Node {
        let mut labels = self.labels.clone();
        labels.insert("kubernetes.io/hostname".into(), name.into());
        labels.insert("kubernetes.io/os".into(), "linux".into());
        labels.insert("kubernetes.io/arch".into(), "amd64".into());
        let resources = self.resources();
        Node {
            metadata: ObjectMeta {
                name: Some(name.into()),
                labels: Some(labels),
                ..ObjectMeta::default()
            },
            spec: Some(NodeSpec {
                taints: (!self.taints.is_empty()).then(|| self.taints.clone()),
                ..NodeSpec::default()
            }),
            status: Some(NodeStatus {
                capacity: Some(resources.clone()),
                allocatable: Some(resources),
                conditions: Some(vec![ready_condition()]),
                addresses: Some(vec![NodeAddress {
                    type_: "Hostname".into(),
                    address: name.into(),
                }]),
                node_info: Some(node_info()),
                ..NodeStatus::default()
            }),
        }
    }

    fn resources(&self) -> BTreeMap<String, Quantity> {
        let mut resources = BTreeMap::from([
            ("cpu".to_owned(), Quantity(format!("{}m", self.cpu_milli))),
            ("memory".to_owned(), Quantity(format!("{}Mi", self.memory_mib))),
            ("pods".to_owned(), Quantity(self.pods.to_string())),
        ]);
        if self.gpus > 0 {
            resources.insert(GPU.to_owned(), Quantity(self.gpus.to_string()));
        }
        resources
    }
}

fn ready_condition() -> NodeCondition {
    let now = Time(Timestamp::now());
    NodeCondition {
        type_: "Ready".into(),
        status: "True".into(),
        reason: Some("KubeletReady".into()),
        message: Some("kubelet is posting ready status".into()),
        last_heartbeat_time: Some(now.clone()),
        last_transition_time: Some(now),
    }
}

fn node_info() -> NodeSystemInfo {
    NodeSystemInfo {
        architecture: "amd64".into(),
        operating_system: "linux".into(),
        kubelet_version: concat!("fake-v", env!("CARGO_PKG_VERSION")).into(),
        container_runtime_version: "fake://0".into(),
        ..NodeSystemInfo::default()
    }
}

/// Creates `count` nodes called `node-0000`, `node-0001` and so on, several at a time.
///
/// # Errors
/// The first create that fails; nodes that exist already are left as they are.
pub async fn create_nodes(
    client: &Client,
    count: usize,
    shape: &NodeShape,
) -> Result<Created, CreateError> {
    let nodes = (0..count).map(|index| shape.node(&node_name(index)));
    create_all(client, nodes, PARALLEL_DEFAULT, || ()).await
}

/// The name that [`create_nodes`] gives the node at `index`.
#[must_use]
pub fn node_name(index: usize) -> String {
    format!("node-{index:04}")
}
