//! NodeName: a pod that names its node runs there only.

use crate::cluster::{Class, Cluster, NodeIndex};
use crate::framework::{Filter, Narrowing, Plugin, Reads, Reason, Status};

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
            Some(name) if **name != *cluster.node(node).name => {
                Status::unresolvable(Reason::NodeName)
            }
            _ => Status::Success,
        }
    }

    fn narrow<'a>(&self, class: &'a Class) -> Narrowing<'a> {
        let name = class.spec.node_name.as_deref();
        name.map_or(Narrowing::AllNodes, |name| Narrowing::Only([name].into()))
    }
}
