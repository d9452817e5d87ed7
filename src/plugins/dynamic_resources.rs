//! DynamicResources: claims get devices that are there and that no other claim has.

use crate::cluster::{Class, Cluster, NodeIndex};
use crate::framework::{Filter, Plugin, Reads, Reason, Status};

/// The plugin.
#[derive(Clone, Copy, Debug)]
pub(super) struct DynamicResources;

impl Plugin for DynamicResources {
    fn name(&self) -> &'static str {
        "DynamicResources"
    }
}

impl Filter for DynamicResources {
    fn reads(&self) -> Reads {
        Reads::Usage
    }

    fn filter(&self, cluster: &Cluster, class: &Class, node: NodeIndex) -> Status {
        if cluster.has_claim_room(class, node) {
            Status::Success
        } else if cluster.has_devices(class, node) {
            Status::unschedulable(Reason::DevicesTaken)
        } else {
            Status::unresolvable(Reason::DevicesTaken)
        }
    }
}
