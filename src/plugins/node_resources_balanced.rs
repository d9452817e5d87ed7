//! NodeResourcesBalancedAllocation: prefers nodes whose resources would be used evenly.

use super::node_resources_fit::utilization;
use crate::cluster::{Class, Cluster, NodeIndex};
use crate::framework::{Plugin, Reads, SCORE_MAX, Score};
use smallvec::SmallVec;

/// Fractions are whole numbers of this part.
const UNIT: i64 = 1_000_000;

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

    /// `100 * (1 - standard deviation of the used fractions)`, in integers.
    fn score(&self, cluster: &Cluster, class: &Class, node: NodeIndex) -> i64 {
        let fraction = |(requested, capacity): (i64, i64)| {
            let parts = i128::from(requested) * i128::from(UNIT) / i128::from(capacity);
            i64::try_from(parts).unwrap_or(UNIT).min(UNIT)
        };
        let names = self.resources.iter();
        let fractions: SmallVec<[i64; 4]> =
            names.filter_map(|n| utilization(cluster, class, node, n)).map(fraction).collect();
        (UNIT - deviation(&fractions)) * SCORE_MAX / UNIT
    }
}

fn deviation(fractions: &[i64]) -> i64 {
    let count = i64::try_from(fractions.len()).unwrap_or(i64::MAX);
    if count < 2 {
        return 0;
    }
    let mean = fractions.iter().sum::<i64>() / count;
    let squares: i64 = fractions.iter().map(|f| (f - mean) * (f - mean)).sum();
    (squares / count).isqrt()
}
