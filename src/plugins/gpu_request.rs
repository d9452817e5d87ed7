//! GpuRequest: what a pod's GPU requirement string demands of the GPUs of a node, of whichever its
//! pods are given. Not one of upstream's.

use crate::cluster::{Class, Cluster, NodeIndex};
use crate::framework::{Filter, Plugin, Reads, Reason, Status};

#[derive(Debug)]
pub(super) struct GpuRequest;

impl Plugin for GpuRequest {
    fn name(&self) -> &'static str {
        "GpuRequest"
    }
}

impl Filter for GpuRequest {
    fn reads(&self) -> Reads {
        Reads::Facts
    }

    fn filter(&self, cluster: &Cluster, class: &Class, node: NodeIndex) -> Status {
        let Some(needs) = &class.spec.gpu_needs else { return Status::Success };
        let Some(node) = &cluster.node(node).node else { return Status::Success };
        let reason = if !needs.is_model(node) {
            Reason::GpuModel
        } else if !needs.has_memory(node) {
            Reason::GpuMemory
        } else if !needs.is_joined(node) {
            Reason::GpuLinks
        } else {
            return Status::Success;
        };
        Status::unresolvable(reason)
    }
}
