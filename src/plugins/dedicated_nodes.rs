//! DedicatedNodes: nodes with a certain label take only pods that ask for it by name or tolerate it
//! as a taint. Not one of upstream's.

use crate::cluster::{Class, Cluster, NodeIndex};
use crate::framework::{Filter, Plugin, Reads, Reason, Status};
use crate::model::{Node, Operator, PodClass, Taint, TaintEffect};

/// The plugin with the key of the label; `None`: no node is dedicated.
#[derive(Clone, Debug, Default)]
pub struct DedicatedNodes {
    /// The key, whatever the value.
    pub label_key: Option<Box<str>>,
}

impl Plugin for DedicatedNodes {
    fn name(&self) -> &'static str {
        "DedicatedNodes"
    }
}

impl Filter for DedicatedNodes {
    fn reads(&self) -> Reads {
        Reads::Facts
    }

    fn filter(&self, cluster: &Cluster, class: &Class, node: NodeIndex) -> Status {
        let Some(key) = self.label_key.as_deref() else { return Status::Success };
        let Some(node) = &cluster.node(node).node else { return Status::Success };
        let Some(value) = node.label(key) else { return Status::Success };
        if names(&class.spec, key, node) || tolerates(&class.spec, key, value) {
            return Status::Success;
        }
        Status::unresolvable(Reason::DedicatedNode)
    }
}

/// Whether the pod asks for the label, by its selector or by the term that lets it on the node.
fn names(class: &PodClass, key: &str, node: &Node) -> bool {
    let selected = class.node_selector.iter().any(|(known, _)| **known == *key);
    let terms = class.required.as_deref().unwrap_or_default();
    selected
        || terms.iter().any(|term| {
            let asked = term.expressions.iter().any(|requirement| {
                let absent =
                    matches!(requirement.operator, Operator::NotIn | Operator::DoesNotExist);
                *requirement.key == *key && !absent
            });
            asked && term.matches(node)
        })
}

fn tolerates(class: &PodClass, key: &str, value: &str) -> bool {
    if class.tolerations.is_empty() {
        return false;
    }
    let taint = Taint { key: key.into(), value: value.into(), effect: TaintEffect::NoSchedule };
    class.tolerations.iter().any(|toleration| toleration.tolerates(&taint))
}
