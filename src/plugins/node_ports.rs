//! NodePorts: host ports of a node are given out once.

use crate::cluster::{Class, Cluster, NodeIndex};
use crate::framework::{Filter, Plugin, Reads, Reason, Status};
use crate::model::fault::{Fault, is_made};

#[derive(Debug)]
pub(super) struct NodePorts;

impl Plugin for NodePorts {
    fn name(&self) -> &'static str {
        "NodePorts"
    }
}

impl Filter for NodePorts {
    fn reads(&self) -> Reads {
        Reads::Usage
    }

    fn filter(&self, cluster: &Cluster, class: &Class, node: NodeIndex) -> Status {
        let wanted = &class.spec.host_ports;
        if wanted.is_empty() || is_made(Fault::PortsOverlooked) {
            return Status::Success;
        }
        let taken = cluster.ports(node);
        if wanted.iter().any(|port| taken.iter().any(|other| port.conflicts(other))) {
            return Status::unschedulable(Reason::NodePorts);
        }
        Status::Success
    }
}
