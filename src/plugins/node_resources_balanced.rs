//! NodeResourcesBalancedAllocation: prefers nodes whose resources would be used evenly.

use crate::cluster::{CPU, Class, Cluster, EPHEMERAL_STORAGE, MEMORY, NodeIndex, ResourceId};
use crate::framework::{Plugin, Reads, SCORE_MAX, Score};
use smallvec::SmallVec;

/// Fractions are whole numbers of this part.
const UNIT: i64 = 1_000_000_000;

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

    /// How much the pod improves the balance: 50 for not at all, above for better. The balance is
    /// `100 * (1 - standard deviation of the requested fractions)`, here in integers.
    fn score(&self, cluster: &Cluster, class: &Class, node: NodeIndex) -> i64 {
        let known = self.resources.iter().filter_map(|name| cluster.resources().find(name));
        let known: SmallVec<[ResourceId; 4]> = known.collect();
        if known.iter().all(|resource| class.request(*resource) == 0) {
            return 0;
        }
        let (mut with, mut without) = (Fractions::new(), Fractions::new());
        for resource in known {
            let capacity = cluster.allocatable(resource, node);
            let asked = class.request(resource);
            let basic = matches!(resource, CPU | MEMORY | EPHEMERAL_STORAGE);
            if capacity > 0 && (basic || asked > 0) {
                let requested = cluster.requested(resource, node);
                with.push(fraction(requested + asked, capacity));
                without.push(fraction(requested, capacity));
            }
        }
        50 + (50 + balance(&with) - balance(&without)) / 2
    }
}

type Fractions = SmallVec<[i64; 4]>;

/// In parts of [`UNIT`], at most all of it. Large amounts lose their last bits, which are beyond
/// what a part can tell, so that 64 bits do.
fn fraction(requested: i64, capacity: i64) -> i64 {
    if requested >= capacity {
        return UNIT;
    }
    let shift = (i64::BITS - capacity.leading_zeros()).saturating_sub(33);
    (requested >> shift) * UNIT / (capacity >> shift)
}

fn balance(fractions: &[i64]) -> i64 {
    (UNIT - deviation(fractions)) * SCORE_MAX / UNIT
}

fn deviation(fractions: &[i64]) -> i64 {
    let count = i64::try_from(fractions.len()).unwrap_or(i64::MAX);
    if let [one, other] = fractions {
        return (one - other).abs() / 2;
    }
    if count < 2 {
        return 0;
    }
    let mean = fractions.iter().sum::<i64>() / count;
    let squares = fractions.iter().map(|f| i128::from(f - mean) * i128::from(f - mean));
    let variance = squares.sum::<i128>() / i128::from(count);
    i64::try_from(variance.isqrt()).unwrap_or(UNIT)
}
