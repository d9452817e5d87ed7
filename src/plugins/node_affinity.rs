//! NodeAffinity: node selector, required and preferred node affinity.

use crate::cluster::{Class, Cluster, NodeIndex};
use crate::framework::{Filter, Plugin, Reads, Reason, Score, Status, default_normalize};

#[derive(Debug)]
pub(super) struct NodeAffinity;

impl Plugin for NodeAffinity {
    fn name(&self) -> &'static str {
        "NodeAffinity"
    }
}

impl Filter for NodeAffinity {
    fn reads(&self) -> Reads {
        Reads::Facts
    }

    fn filter(&self, cluster: &Cluster, class: &Class, node: NodeIndex) -> Status {
        let Some(node) = &cluster.node(node).node else {
            return Status::unresolvable(Reason::NodeAffinity);
        };
        let selector = &class.spec.node_selector;
        let selected = selector.iter().all(|(key, value)| node.label(key) == Some(&**value));
        let required = class.spec.required.as_ref();
        if selected && required.is_none_or(|terms| terms.iter().any(|term| term.matches(node))) {
            return Status::Success;
        }
        Status::unresolvable(Reason::NodeAffinity)
    }
}

impl Score for NodeAffinity {
    fn reads(&self) -> Reads {
        Reads::Facts
    }

    /// Sum of the weights of the preferred terms that match.
    fn score(&self, cluster: &Cluster, class: &Class, node: NodeIndex) -> i64 {
        let Some(node) = &cluster.node(node).node else { return 0 };
        let matching = class.spec.preferred.iter().filter(|(_, term)| term.matches(node));
        matching.map(|(weight, _)| i64::from(*weight)).sum()
    }

    fn normalize(&self, scores: &mut [i64]) {
        default_normalize(scores, false);
    }
}
