//! NodeResourcesBalancedAllocation: prefers nodes whose resources would be used evenly.

use crate::cluster::{CPU, Class, Cluster, EPHEMERAL_STORAGE, MEMORY, NodeIndex};
use crate::framework::{Plugin, Reads, SCORE_MAX, Score, Term, Terms};
use smallvec::SmallVec;

/// The plugin with its arguments.
#[derive(Clone, Debug)]
pub struct NodeResourcesBalancedAllocation {
    /// Resources whose use is compared.
    pub resources: Vec<Box<str>>,
}

impl Default for NodeResourcesBalancedAllocation {
    fn default() -> Self {
        Self { resources: ["cpu", "memory"].map(Into::into).into() }
    }
}

impl Plugin for NodeResourcesBalancedAllocation {
    fn name(&self) -> &'static str {
        "NodeResourcesBalancedAllocation"
    }
}

impl Score for NodeResourcesBalancedAllocation {
    fn reads(&self) -> Reads {
        Reads::Usage
    }

    fn terms(&self, cluster: &Cluster, class: &Class) -> Terms {
        let known = self.resources.iter().filter_map(|name| cluster.resources().find(name));
        known.map(|r| Term { resource: r, asked: class.request(r), weight: 1 }).collect()
    }

    /// How much the pod improves the balance: 75 for not at all, above for better. The balance is
    /// `100 * (1 - standard deviation of the requested fractions)`, in upstream's floating point,
    /// operation by operation: the result is upstream's to the last bit, and the same everywhere.
    fn score(&self, cluster: &Cluster, _: &Class, node: NodeIndex, terms: &[Term]) -> i64 {
        if terms.iter().all(|term| term.asked == 0) {
            return 0;
        }
        let (mut with, mut without) = (Fractions::new(), Fractions::new());
        for Term { resource, asked, .. } in terms {
            let capacity = cluster.allocatable(*resource, node);
            let basic = matches!(*resource, CPU | MEMORY | EPHEMERAL_STORAGE);
            if capacity > 0 && (basic || *asked > 0) {
                let requested = cluster.requested(*resource, node);
                with.push(fraction(requested + asked, capacity));
                without.push(fraction(requested, capacity));
            }
        }
        50 + (50 + balance(&with) - balance(&without)) / 2
    }
}

type Fractions = SmallVec<[f64; 4]>;

#[allow(clippy::cast_precision_loss)] // as upstream; quantities end at 2^52, so nothing is lost
fn fraction(requested: i64, capacity: i64) -> f64 {
    (requested as f64 / capacity as f64).min(1.0)
}

#[allow(clippy::cast_possible_truncation, clippy::cast_precision_loss)] // 0 to 100, cut as upstream
fn balance(fractions: &[f64]) -> i64 {
    ((1.0 - deviation(fractions)) * SCORE_MAX as f64) as i64
}

#[allow(clippy::cast_precision_loss)] // a handful of resources
fn deviation(fractions: &[f64]) -> f64 {
    match fractions {
        [] | [_] => 0.0,
        [one, other] => ((one - other) / 2.0).abs(),
        _ => {
            let count = fractions.len() as f64;
            let mean = fractions.iter().fold(0.0, |sum, f| sum + f) / count;
            let squares = fractions.iter().map(|f| (f - mean) * (f - mean));
            (squares.fold(0.0, |sum, square| sum + square) / count).sqrt()
        }
    }
}
