//! NodeAffinity: node selector, required and preferred node affinity.

use crate::cluster::{Class, Cluster, NodeIndex};
use crate::framework::{
    Filter, Narrowing, Plugin, Reads, Reason, Score, Status, Term, default_normalize,
};
use crate::model::{NodeSelectorTerm, Operator};
use std::collections::BTreeSet;

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

    /// The names that the terms ask for, if every one of the alternatives asks for some.
    fn narrow<'a>(&self, class: &'a Class) -> Narrowing<'a> {
        let terms = class.spec.required.as_deref().unwrap_or_default();
        let named: Option<Vec<BTreeSet<&str>>> = terms.iter().map(names).collect();
        match named {
            Some(sets) if !sets.is_empty() => {
                let all: BTreeSet<&str> = sets.into_iter().flatten().collect();
                match all.is_empty() {
                    true => Narrowing::NoNode("pod affinity terms conflict"),
                    false => Narrowing::Only(all),
                }
            }
            _ => Narrowing::AllNodes,
        }
    }
}

/// The nodes that the fields of a term ask for by name; `None`: it asks for no name.
fn names(term: &NodeSelectorTerm) -> Option<BTreeSet<&str>> {
    let asks = term.fields.iter().filter(|field| field.operator == Operator::In);
    let sets = asks.map(|field| field.values.iter().map(|name| &**name).collect());
    sets.reduce(|all: BTreeSet<&str>, more| all.intersection(&more).copied().collect())
}

impl Score for NodeAffinity {
    fn reads(&self) -> Reads {
        Reads::Facts
    }

    /// Sum of the weights of the preferred terms that match.
    fn score(&self, cluster: &Cluster, class: &Class, node: NodeIndex, _: &[Term]) -> i64 {
        let Some(node) = &cluster.node(node).node else { return 0 };
        let matching = class.spec.preferred.iter().filter(|(_, term)| term.matches(node));
        matching.map(|(weight, _)| i64::from(*weight)).sum()
    }

    fn normalize(&self, scores: &mut [i64]) {
        default_normalize(scores, false);
    }
}
