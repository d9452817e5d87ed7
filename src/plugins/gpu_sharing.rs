//! GpuSharing: a part of a GPU only where a holder owns devices, and no device beyond a whole one.

use crate::cluster::{Class, Cluster, NodeIndex};
use crate::framework::{Filter, Plugin, Reads, Reason, Status};

/// The plugin.
#[derive(Clone, Copy, Debug)]
pub(super) struct GpuSharing;

impl Plugin for GpuSharing {
    fn name(&self) -> &'static str {
        "GpuSharing"
    }
}

impl Filter for GpuSharing {
    fn reads(&self) -> Reads {
        Reads::Usage
    }

    fn filter(&self, cluster: &Cluster, class: &Class, node: NodeIndex) -> Status {
        if class.spec.gpu_part.is_none() {
            return Status::Success;
        }
        let shared = cluster.shared_devices(node);
        if let Some(none) = shared.filter(|shared| shared.ours().is_empty())
            && let Some(fault) = none.fault()
        {
            return Status::unschedulable(Reason::HolderRefused(fault));
        }
        let shared = shared.filter(|shared| !shared.ours().is_empty());
        if shared.is_none() || cluster.device_ask(class, node).is_none() {
            return Status::unschedulable(Reason::GpuNotShared);
        }
        match cluster.choose_devices(class, node) {
            Some(_) => Status::Success,
            None => Status::unschedulable(Reason::GpuTaken),
        }
    }
}
