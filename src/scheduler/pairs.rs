//! The pair rule: a gang that lost members to another takes none of that one for a while, so that
//! two of them do not throw each other out by turns. A gang within the guarantees of its queues is
//! not refused by it.

use super::Scheduler;
use crate::cluster::ResourceId;
use crate::fairshare::{QueueIndex, accounts};
use crate::model::Timestamp;
use crate::model::fault::{Fault, is_made};
use crate::model::pod::digest_of;
use crate::queue::GroupIndex;
use std::collections::BTreeMap;

/// How long a pair is remembered.
const REMEMBERED_MS: i64 = 10 * 60_000;
/// Pairs beyond this are not remembered: the rule is a comfort, not a promise.
const PAIRS_MAX: usize = 10_000;

/// Who lately took members of whom.
#[derive(Debug, Default)]
pub(super) struct Pairs {
    /// by victim, then by who took
    taken: BTreeMap<(u64, u64), Timestamp>,
}

impl Pairs {
    fn add(&mut self, victim: u64, taker: u64, now: Timestamp) {
        if self.taken.len() >= PAIRS_MAX {
            self.taken.retain(|_, at| now.since_ms(*at) < REMEMBERED_MS);
        }
        if self.taken.len() < PAIRS_MAX && !is_made(Fault::PairsForgotten) {
            self.taken.insert((victim, taker), now);
        }
    }

    /// Who took from this one, and when the last of it is forgotten.
    fn takers(&self, victim: u64, now: Timestamp) -> Vec<(u64, Timestamp)> {
        let pairs = self.taken.range((victim, 0)..=(victim, u64::MAX));
        let ends = pairs.map(|((_, taker), at)| (*taker, at.plus_ms(REMEMBERED_MS)));
        ends.filter(|(_, end)| *end > now).collect()
    }
}

impl Scheduler {
    /// The same for a gang and its successor of the same name and user.
    fn pair_key(&self, index: GroupIndex) -> Option<u64> {
        let group = self.groups.get(index);
        let first = self.pods.get(*group.members.first()?);
        let name = group.name.as_ref().map_or(&first.name, |known| &known.name);
        Some(digest_of(&[&first.namespace, "/", &first.user, "/", name]))
    }

    /// Remembers that a gang takes members of another.
    pub(super) fn note_pair(&mut self, taker: GroupIndex, victim: GroupIndex) {
        if let (Some(taker), Some(victim)) = (self.pair_key(taker), self.pair_key(victim)) {
            self.pairs.add(victim, taker, self.now);
        }
    }

    /// Whom the claimant may not take from, with the time at which it may again. Empty for one that
    /// stays within its guarantees.
    pub(super) fn spared_by_pairs(
        &self,
        claimant: GroupIndex,
        leaf: QueueIndex,
        extra: &[(ResourceId, i64)],
    ) -> Vec<(u64, Timestamp)> {
        if self.pairs.taken.is_empty() || self.stays_guaranteed(leaf, extra) {
            return Vec::new();
        }
        self.pair_key(claimant).map_or(Vec::new(), |key| self.pairs.takers(key, self.now))
    }

    /// Whether the pair rule may keep a group from what others like it could take.
    pub(super) fn spares_some(&self, claimant: GroupIndex) -> bool {
        let group = self.groups.get(claimant);
        let leaf = group.leaf.expect("a group that was tried has a queue");
        !self.spared_by_pairs(claimant, leaf, &group.claim).is_empty()
    }

    /// When the pair rule lets a candidate be taken from; `None`: now.
    pub(super) fn spared_until(
        &self,
        candidate: GroupIndex,
        spared: &[(u64, Timestamp)],
    ) -> Option<Timestamp> {
        if spared.is_empty() {
            return None;
        }
        let key = self.pair_key(candidate)?;
        spared.iter().find(|(taker, _)| *taker == key).map(|(_, until)| *until)
    }

    fn stays_guaranteed(&self, leaf: QueueIndex, extra: &[(ResourceId, i64)]) -> bool {
        let declared = self.fair.path(leaf).skip(1);
        declared.filter(|queue| *queue != QueueIndex::ROOT).all(|queue| {
            extra.iter().all(|(resource, amount)| {
                let held = self.fair.allocated(queue, *resource) + amount;
                *amount == 0
                    || !accounts(self.cluster.resources().name(*resource))
                    || held <= self.fair.guarantee(queue, *resource)
            })
        })
    }
}
