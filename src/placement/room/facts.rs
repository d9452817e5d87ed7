//! Which nodes the class may be on at all, whoever goes: asked once per node.

use super::Search;
use crate::cluster::{ClassId, NodeIndex};
use crate::framework::Reads;
use std::cell::Cell;

impl Search<'_> {
    /// From now on it is asked for this class.
    pub(super) fn turn_to(&mut self, class: ClassId) {
        self.class = class;
        self.facts.fill(Cell::new(None));
    }

    /// Whether facts let the class on a node.
    pub(super) fn suits(&self, node: NodeIndex) -> bool {
        let known = &self.facts[node.index()];
        known.get().unwrap_or_else(|| {
            let class = self.cluster.class(self.class);
            let suits = self.profile.passes(Reads::Facts, self.cluster, class, node);
            known.set(Some(suits));
            suits
        })
    }
}
