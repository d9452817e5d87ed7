//! NodeQuarantine: nodes on which pods failed to start again and again take no others for a while.
//! Not one of upstream's.

use crate::cluster::{Class, Cluster, NodeIndex};
use crate::framework::{Filter, Plugin, Reads, Reason, Status};
use crate::model::fault::{Fault, is_made};
use crate::model::{Taint, TaintEffect, contract};

#[derive(Debug)]
pub(super) struct NodeQuarantine;

impl Plugin for NodeQuarantine {
    fn name(&self) -> &'static str {
        "NodeQuarantine"
    }
}

impl Filter for NodeQuarantine {
    fn reads(&self) -> Reads {
        Reads::Facts
    }

    fn filter(&self, cluster: &Cluster, class: &Class, node: NodeIndex) -> Status {
        if !cluster.node(node).quarantined || is_made(Fault::QuarantineIgnored) {
            return Status::Success;
        }
        // as if it were tainted, so that a pod which is to find out what is wrong gets there
        let (key, effect) = (contract::QUARANTINE.into(), TaintEffect::NoSchedule);
        let taint = Taint { key, value: "".into(), effect };
        if class.spec.tolerations.iter().any(|toleration| toleration.tolerates(&taint)) {
            return Status::Success;
        }
        Status::unresolvable(Reason::NodeQuarantined)
    }
}
