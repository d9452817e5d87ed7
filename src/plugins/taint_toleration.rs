//! TaintToleration: pods stay off nodes whose taints they do not tolerate.

use crate::cluster::{Class, Cluster, NodeIndex};
use crate::framework::{Filter, Plugin, Reads, Reason, Score, Status, Term, default_normalize};
use crate::model::TaintEffect;

#[derive(Debug)]
pub(super) struct TaintToleration;

impl Plugin for TaintToleration {
    fn name(&self) -> &'static str {
        "TaintToleration"
    }
}

impl Filter for TaintToleration {
    fn reads(&self) -> Reads {
        Reads::Facts
    }

    fn filter(&self, cluster: &Cluster, class: &Class, node: NodeIndex) -> Status {
        let taints = cluster.node(node).taints.iter();
        let mut hard =
            taints.filter(|id| cluster.taint(**id).effect != TaintEffect::PreferNoSchedule);
        let tolerations = &class.spec.tolerations;
        if hard.all(|id| tolerations.iter().any(|t| t.tolerates(cluster.taint(*id)))) {
            return Status::Success;
        }
        Status::unresolvable(Reason::UntoleratedTaint)
    }
}

impl Score for TaintToleration {
    fn reads(&self) -> Reads {
        Reads::Facts
    }

    /// Number of `PreferNoSchedule` taints that are not tolerated: fewer is better.
    fn score(&self, cluster: &Cluster, class: &Class, node: NodeIndex, _: &[Term]) -> i64 {
        let soft = |effect| effect == TaintEffect::PreferNoSchedule;
        let tolerations = &class.spec.tolerations;
        let mut count = 0;
        for taint in cluster.node(node).taints.iter().map(|id| cluster.taint(*id)) {
            count +=
                i64::from(soft(taint.effect) && !tolerations.iter().any(|t| t.tolerates(taint)));
        }
        count
    }

    fn normalize(&self, scores: &mut [i64]) {
        default_normalize(scores, true);
    }
}
