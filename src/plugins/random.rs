//! Random: any node, and any device of it, with room. The artifact of FGD (ATC'23) has it as
//! `random_score.go`.
//!
//! There is no entropy in the core: what is drawn is a stable hash of the state and the node, so
//! the same events give the same choices.

use crate::cluster::{Class, Cluster, NodeIndex};
use crate::framework::{Plugin, Reads, SCORE_MAX, SCORE_PARTS, Score, Term};
use crate::model::DeviceSet;
use crate::model::pod::mixed;

/// The plugin.
#[derive(Clone, Copy, Debug)]
pub(super) struct Random;

impl Plugin for Random {
    fn name(&self) -> &'static str {
        "Random"
    }
}

/// One draw, by the version of the state, the node and the use.
fn draw(cluster: &Cluster, node: NodeIndex, what: u64) -> u64 {
    let state = cluster.changes().version() ^ what << 56;
    mixed(state ^ mixed(u64::from(cluster.node(node).tie)))
}

impl Score for Random {
    fn reads(&self) -> Reads {
        Reads::Usage
    }

    fn draws(&self) -> bool {
        true
    }

    fn is_fine(&self) -> bool {
        true
    }

    fn score(&self, cluster: &Cluster, class: &Class, node: NodeIndex, terms: &[Term]) -> i64 {
        self.fine_score(cluster, class, node, terms) / SCORE_PARTS
    }

    fn fine_score(&self, cluster: &Cluster, _: &Class, node: NodeIndex, _: &[Term]) -> i64 {
        let values = (SCORE_MAX * SCORE_PARTS).unsigned_abs();
        i64::try_from(draw(cluster, node, 1) % values).expect("below the largest score")
    }

    fn devices(&self, cluster: &Cluster, class: &Class, node: NodeIndex) -> Option<DeviceSet> {
        let ask = cluster.device_ask(class, node).filter(|ask| ask.is_fraction())?;
        let shared = cluster.shared_devices(node)?;
        let fits = || shared.lefts().filter(|(_, left)| *left >= ask.milli);
        let count = fits().count() as u64;
        let place = usize::try_from(draw(cluster, node, 2).checked_rem(count)?).ok()?;
        fits().nth(place).map(|(device, _)| DeviceSet::one(device))
    }
}
