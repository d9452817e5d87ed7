//! Kubernetes objects of trace rows.

use super::{TraceGang, TraceNode, TracePod};
use crate::model::contract::{MIN_MEMBER, POD_GROUP};
use crate::simulator::kubelet::{GPU, NodeShape, PODS_DEFAULT, RUN_SECONDS};
use k8s_openapi::api::core::v1::{
    Affinity, Container, Node, NodeAffinity, NodeSelector, NodeSelectorRequirement,
    NodeSelectorTerm, Pod, PodSpec, ResourceRequirements,
};
use k8s_openapi::apimachinery::pkg::api::resource::Quantity;
use k8s_openapi::apimachinery::pkg::apis::meta::v1::ObjectMeta;
use std::collections::BTreeMap;

/// Label of a node: its GPU model, under the name that NVIDIA's feature discovery uses.
pub const GPU_PRODUCT: &str = "nvidia.com/gpu.product";

/// Label of a Philly pod: the virtual cluster that its job belongs to.
pub const VIRTUAL_CLUSTER: &str = "virtual-cluster";

/// An image that is never pulled.
const IMAGE: &str = "registry.k8s.io/pause:3.10";

/// What the rows do not say.
#[derive(Clone, Debug)]
pub struct ObjectOptions {
    /// Namespace of the pods; it has to exist.
    pub namespace: String,
    /// `spec.schedulerName` of the pods.
    pub scheduler_name: String,
    /// Philly members ask for this much milli-CPU for each GPU.
    pub cpu_milli_per_gpu: u64,
    /// Philly members ask for this much memory for each GPU, in MiB.
    pub memory_mib_per_gpu: u64,
    /// Philly pods run for their trace's duration divided by this; `None`: for ever.
    pub speed: Option<f64>,
}

impl Default for ObjectOptions {
    fn default() -> Self {
        Self {
            namespace: "default".into(),
            scheduler_name: "mss-scheduler".into(),
            // eight GPUs then leave a 96-core, 1 TiB node some room for its own pods
            cpu_milli_per_gpu: 8_000,
            memory_mib_per_gpu: 64 << 10,
            speed: None,
        }
    }
}

/// The node of a row, labelled with its GPU model.
#[must_use]
pub fn node(row: &TraceNode) -> Node {
    let model = (GPU_PRODUCT.to_owned(), row.model.to_string());
    let shape = NodeShape {
        cpu_milli: row.cpu_milli,
        memory_mib: row.memory_mib,
        gpus: row.gpus,
        pods: PODS_DEFAULT,
        labels: (!row.model.is_empty()).then_some(model).into_iter().collect(),
        taints: Vec::new(),
    };
    shape.node(&row.name)
}

/// The pod of a row. A share of a GPU counts as one GPU, as Kubernetes counts whole devices only.
#[must_use]
pub fn pod(row: &TracePod, options: &ObjectOptions) -> Pod {
    let affinity = (!row.models.is_empty()).then(|| model_affinity(&row.models));
    let resources = resources(row.cpu_milli, row.memory_mib, row.gpus);
    let metadata = ObjectMeta {
        name: Some(row.name.to_string()),
        namespace: Some(options.namespace.clone()),
        ..ObjectMeta::default()
    };
    object(metadata, resources, affinity, options)
}

/// The pods of a job: all of them or none are to run.
pub fn gang<'a>(
    row: &'a TraceGang,
    options: &'a ObjectOptions,
) -> impl Iterator<Item = Pod> + use<'a> {
    (0..row.members()).map(move |index| {
        let gpus = row.member_gpus(index);
        let mut annotations = BTreeMap::from([
            (POD_GROUP.to_owned(), row.name()),
            (MIN_MEMBER.to_owned(), row.members().to_string()),
        ]);
        if let Some(speed) = options.speed {
            let seconds = row.duration.as_secs_f64() / speed;
            annotations.insert(RUN_SECONDS.to_owned(), format!("{seconds:.3}"));
        }
        let cluster = (VIRTUAL_CLUSTER.to_owned(), row.virtual_cluster.to_string());
        let metadata = ObjectMeta {
            name: Some(format!("{}-{index}", row.name())),
            namespace: Some(options.namespace.clone()),
            labels: Some([cluster].into()),
            annotations: Some(annotations),
            ..ObjectMeta::default()
        };
        let cpu_milli = u64::from(gpus) * options.cpu_milli_per_gpu;
        let memory_mib = u64::from(gpus) * options.memory_mib_per_gpu;
        object(metadata, resources(cpu_milli, memory_mib, gpus), None, options)
    })
}

fn object(
    metadata: ObjectMeta,
    resources: ResourceRequirements,
    affinity: Option<Affinity>,
    options: &ObjectOptions,
) -> Pod {
    Pod {
        metadata,
        spec: Some(PodSpec {
            scheduler_name: Some(options.scheduler_name.clone()),
            restart_policy: Some("Never".into()),
            affinity,
            containers: vec![Container {
                name: "main".into(),
                image: Some(IMAGE.into()),
                resources: Some(resources),
                ..Container::default()
            }],
            ..PodSpec::default()
        }),
        status: None,
    }
}

fn resources(cpu_milli: u64, memory_mib: u64, gpus: u32) -> ResourceRequirements {
    let mut requests = BTreeMap::from([
        ("cpu".to_owned(), Quantity(format!("{cpu_milli}m"))),
        ("memory".to_owned(), Quantity(format!("{memory_mib}Mi"))),
    ]);
    if gpus == 0 {
        return ResourceRequirements { requests: Some(requests), ..Default::default() };
    }
    let gpus = (GPU.to_owned(), Quantity(gpus.to_string()));
    requests.extend([gpus.clone()]);
    // the API refuses an extended resource whose limit is not stated
    let limits = Some([gpus].into());
    ResourceRequirements { requests: Some(requests), limits, ..Default::default() }
}

fn model_affinity(models: &[Box<str>]) -> Affinity {
    let requirement = NodeSelectorRequirement {
        key: GPU_PRODUCT.into(),
        operator: "In".into(),
        values: Some(models.iter().map(ToString::to_string).collect()),
    };
    let term = NodeSelectorTerm {
        match_expressions: Some(vec![requirement]),
        ..NodeSelectorTerm::default()
    };
    let required = NodeSelector { node_selector_terms: vec![term] };
    Affinity {
        node_affinity: Some(NodeAffinity {
            required_during_scheduling_ignored_during_execution: Some(required),
            ..NodeAffinity::default()
        }),
        ..Affinity::default()
    }
}
