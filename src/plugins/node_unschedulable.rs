//! NodeUnschedulable: cordoned nodes take only pods that tolerate the cordon's taint.

use crate::cluster::{Class, Cluster, NodeIndex};
use crate::framework::{Filter, Plugin, Reads, Reason, Status};
use crate::model::{Taint, TaintEffect};

/// The taint that stands for a cordon; upstream `v1.TaintNodeUnschedulable`.
const CORDON: &str = "node.kubernetes.io/unschedulable";

#[derive(Debug)]
pub(super) struct NodeUnschedulable;

impl Plugin for NodeUnschedulable {
    fn name(&self) -> &'static str {
        "NodeUnschedulable"
    }
}

impl Filter for NodeUnschedulable {
    fn reads(&self) -> Reads {
        Reads::Facts
    }

    fn filter(&self, cluster: &Cluster, class: &Class, node: NodeIndex) -> Status {
        if !cluster.node(node).node.as_ref().is_some_and(|node| node.unschedulable) {
            return Status::Success;
        }
        let taint = Taint { key: CORDON.into(), value: "".into(), effect: TaintEffect::NoSchedule };
        if class.spec.tolerations.iter().any(|toleration| toleration.tolerates(&taint)) {
            return Status::Success;
        }
        Status::unresolvable(Reason::NodeUnschedulable)
    }
}
