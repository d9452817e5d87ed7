//! The gangs that can lose single members, by leaf, in the order in which they would: the exact
//! reverse of the order in which they grow, within what priority and reclaim rank say.

use super::Scheduler;
use crate::fairshare::QueueIndex;
use crate::model::pod::digest;
use crate::queue::GroupIndex;
use rustc_hash::FxHashMap;
use std::collections::{BTreeMap, BTreeSet};
use std::ops::Bound::{Excluded, Unbounded};

/// Pod priority, reclaim rank, minus how far it has grown, minus when it was created, a hash.
type Key = (i32, i16, i64, i64, u64);
/// The place of a gang in its leaf.
pub(super) type Spare = (Key, GroupIndex);

/// See the module.
#[derive(Debug, Default)]
pub(super) struct Spares {
    by_leaf: BTreeMap<QueueIndex, BTreeSet<Spare>>,
    known: FxHashMap<GroupIndex, (QueueIndex, Key)>,
}

impl Spares {
    /// Leaves with such gangs.
    pub(super) fn leaves(&self) -> impl Iterator<Item = QueueIndex> {
        self.by_leaf.keys().copied()
    }

    /// The first of a leaf, or the one that follows another.
    pub(super) fn next(&self, leaf: QueueIndex, after: Option<Spare>) -> Option<Spare> {
        let spares = self.by_leaf.get(&leaf)?;
        match after {
            None => spares.first().copied(),
            Some(after) => spares.range((Excluded(after), Unbounded)).next().copied(),
        }
    }

    fn set(&mut self, index: GroupIndex, now: Option<(QueueIndex, Key)>) {
        let before = match now {
            Some(now) => self.known.insert(index, now),
            None => self.known.remove(&index),
        };
        if before == now {
            return;
        }
        if let Some((leaf, key)) = before
            && let Some(spares) = self.by_leaf.get_mut(&leaf)
        {
            spares.remove(&(key, index));
            if spares.is_empty() {
                self.by_leaf.remove(&leaf);
            }
        }
        if let Some((leaf, key)) = now {
            self.by_leaf.entry(leaf).or_default().insert((key, index));
        }
    }
}

impl Scheduler {
    /// Brings a group's place up to date. Called whenever it was counted.
    pub(super) fn note_spare(&mut self, index: GroupIndex) {
        let group = self.groups.get(index);
        let growth = group.growth();
        let leaf = group.leaf.filter(|_| group.counts.bound > 0 && growth.grown > 0);
        let now = leaf.map(|leaf| {
            let name = group.name.as_ref().map_or("", |known| &known.name);
            let (grown, created) = (-growth.part(0), -growth.created.0);
            (leaf, (group.priority, group.reclaim_rank, grown, created, !digest(name)))
        });
        self.spares.set(index, now);
    }

    /// Ends a group's part.
    pub(super) fn forget_spare(&mut self, index: GroupIndex) {
        self.spares.set(index, None);
    }
}
