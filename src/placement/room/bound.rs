//! A bound from above: what fits if every candidate gave all that it could.

use super::{Demand, Search};
use crate::cluster::NodeIndex;
use crate::framework::Reads;

impl Search<'_> {
    /// Whether no set of victims seats all pods of the demand: each node is given the most that
    /// could come free there, whatever shares, minima and budgets say. O(nodes + candidates' pods).
    pub(super) fn is_hopeless(&mut self, demand: &Demand) -> bool {
        let needed = u32::try_from(demand.pods.len()).expect("groups are bounded");
        self.class = demand.class;
        let mut total = 0;
        for node in (0..self.slots.len()).map(NodeIndex::at) {
            total += self.most_on(node, needed);
            if total >= needed {
                return false;
            }
        }
        true
    }

    /// How many pods of the class could fit on a node at most.
    fn most_on(&self, node: NodeIndex, most: u32) -> u32 {
        let class = self.cluster.class(self.class);
        if self.cluster.node(node).node.is_none() || self.is_closed(node) {
            return 0;
        }
        let here = self.on_node.get(&node).map_or(&[][..], Vec::as_slice);
        // ports may come free with a victim
        let usage =
            here.is_empty() && !self.profile.passes(Reads::Usage, self.cluster, class, node);
        if usage || !class.unknown.is_empty() {
            return 0;
        }
        let most = if class.spec.host_ports.is_empty() { most } else { 1 };
        let fits = class.requests.iter().filter(|(_, amount)| *amount > 0).map(|(r, amount)| {
            let given = here.iter().filter(|(place, at)| {
                let candidate = &self.candidates[*place];
                candidate.whole || at + candidate.kept < candidate.pods.len()
            });
            let given = given.map(|(place, at)| self.candidates[*place].pods[*at].class);
            let given: i64 = given.map(|class| self.cluster.class(class).request(*r)).sum();
            let free = self.cluster.allocatable(*r, node) - self.cluster.requested(*r, node);
            u32::try_from(((free + given) / amount).clamp(0, i64::from(most))).expect("clamped")
        });
        let fits = fits.min().unwrap_or(most);
        if fits > 0 && self.profile.passes(Reads::Facts, self.cluster, class, node) {
            fits
        } else {
            0
        }
    }
}
