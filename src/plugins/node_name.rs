//! NodeName: a pod that names its node runs there only.

use crate::cluster::{Class, Cluster, NodeIndex};
use crate::framework::{Filter, Plugin, Reads, Reason, Status};

#[derive(Debug)]
pub(super) struct NodeName;

impl Plugin for NodeName {
    fn name(&self) -> &'static str {
        "NodeName"
    }
}

impl Filter for NodeName {
    fn reads(&self) -> Reads {
        Reads::Facts
    }

    fn filter(&self, cluster: &Cluster, class: &Class, node: NodeIndex) -> Status {
        match &class.spec.node_name {
            Some(name) if *name != cluster.node(node).name => {
                Status::unresolvable(Reason::NodeName)
            }
            _ => Status::Success,
        }
    }
}
