//! The gangs that hold room, by leaf: a claimant looks only at leaves that may give it something.

use super::Scheduler;
use crate::fairshare::QueueIndex;
use crate::queue::GroupIndex;
use rustc_hash::FxHashMap;
use std::collections::{BTreeMap, BTreeSet};

/// See the module.
#[derive(Debug, Default)]
pub(super) struct Holders {
    by_leaf: BTreeMap<QueueIndex, BTreeSet<GroupIndex>>,
    known: FxHashMap<GroupIndex, QueueIndex>,
}

impl Holders {
    /// Leaves with such gangs.
    pub(super) fn leaves(&self) -> impl Iterator<Item = QueueIndex> {
        self.by_leaf.keys().copied()
    }

    /// Those of a leaf.
    pub(super) fn of(&self, leaf: QueueIndex) -> impl Iterator<Item = GroupIndex> {
        self.by_leaf.get(&leaf).into_iter().flatten().copied()
    }

    /// How many they are.
    pub(super) fn count(&self, leaf: QueueIndex) -> usize {
        self.by_leaf.get(&leaf).map_or(0, BTreeSet::len)
    }

    fn set(&mut self, index: GroupIndex, now: Option<QueueIndex>) {
        let before = match now {
            Some(leaf) => self.known.insert(index, leaf),
            None => self.known.remove(&index),
        };
        if before == now {
            return;
        }
        if let Some(leaf) = before
            && let Some(holders) = self.by_leaf.get_mut(&leaf)
        {
            holders.remove(&index);
            if holders.is_empty() {
                self.by_leaf.remove(&leaf);
            }
        }
        if let Some(leaf) = now {
            self.by_leaf.entry(leaf).or_default().insert(index);
        }
    }
}

impl Scheduler {
    /// Brings a group's place up to date. Called whenever it was counted.
    pub(super) fn note_holder(&mut self, index: GroupIndex) {
        let group = self.groups.get(index);
        self.holders.set(index, group.leaf.filter(|_| group.counts.bound > 0));
    }

    /// Ends a group's part.
    pub(super) fn forget_holder(&mut self, index: GroupIndex) {
        self.holders.set(index, None);
    }
}
