//! Who looks for room, and in which order: of gangs that are alike one stands for all.

use super::pods::PodState;
use super::room::Rights;
use super::{Evictions, Scheduler};
use crate::cluster::{ClassId, ResourceId};
use crate::fairshare::QueueIndex;
use crate::queue::{GroupIndex, Home, Likeness, OrderKey};
use rustc_hash::FxHashMap;
use std::cmp::Reverse;
use std::collections::{BTreeMap, BTreeSet, BinaryHeap};

/// A group among those of its leaf, the first in its order the greatest.
type Turn = Reverse<(OrderKey, GroupIndex)>;

/// Everything that the outcome of a search depends on, but for time.
pub(super) type Stamp = (u64, u64);

/// Groups that are alike.
type Kind = (ClassId, Likeness);

/// Kinds for which no room could be made, as things stand.
#[derive(Debug, Default)]
pub(super) struct Tried {
    stamp: Stamp,
    kinds: BTreeSet<Kind>,
}

impl Tried {
    fn contains(&self, kind: Kind, stamp: Stamp) -> bool {
        self.stamp == stamp && self.kinds.contains(&kind)
    }

    fn insert(&mut self, kind: Kind, stamp: Stamp) {
        if self.stamp != stamp {
            (self.stamp, self.kinds) = (stamp, BTreeSet::new());
        }
        self.kinds.insert(kind);
    }

    /// What was found of a kind counts no more.
    pub(super) fn remove(&mut self, kind: Kind) {
        self.kinds.remove(&kind);
    }
}

/// Groups that are to look for room in a cycle.
#[derive(Default)]
struct Claimants {
    by_leaf: BTreeMap<QueueIndex, BinaryHeap<Turn>>,
    /// those that stand for others, with their place among these
    heads: FxHashMap<GroupIndex, (Kind, OrderKey)>,
}

impl Scheduler {
    /// Looks for room for the groups that did not fit, as far as they are entitled to it.
    /// O(kinds of groups x log(groups)) and the searches.
    pub(super) fn make_room_for_waiting(&mut self) {
        self.room_wanted = false;
        self.retry_room(self.now);
        let evictions = self.options.evictions != Evictions::Off;
        let idle = !evictions && self.options.drains.is_none();
        if idle || !self.queue.any_unschedulable() {
            return;
        }
        let mut claimants = self.claimants();
        let mut searches = 0;
        while let Some(index) = self.next_claimant(&claimants.by_leaf) {
            let leaf = self.groups.get(index).leaf.expect("a group that was tried has a queue");
            claimants.by_leaf.get_mut(&leaf).expect("it is one of them").pop();
            let head = claimants.heads.remove(&index);
            let group = self.groups.get(index);
            let mut is_vain = false;
            if group.is_complete() {
                if searches == self.options.searches_per_cycle {
                    self.room_wanted = true;
                    return;
                }
                searches += 1;
                let evicts = evictions && self.may_evict(index, leaf);
                is_vain = !(evicts && self.search_room(index));
                if is_vain && evicts {
                    self.note_passed_over(index);
                }
            } // else it has lost members to a plan of this cycle and is looked at again
            if is_vain {
                self.consider_drain(index);
                self.groups.get_mut(index).room_tried = Some(self.room_stamp());
            }
            // those that are alike would find nothing either, unless it alone spares some
            if is_vain && !self.spares_some(index) {
                self.leave_out_alike(index, head.map(|(kind, _)| kind), &mut claimants);
            } else if let Some((kind, place)) = head {
                self.stand_in(kind, Some((place, index)), &mut claimants);
            }
            if claimants.by_leaf.get(&leaf).is_some_and(BinaryHeap::is_empty) {
                claimants.by_leaf.remove(&leaf);
            }
        }
    }

    /// The first of each kind for which it is not known that no room can be made.
    fn claimants(&mut self) -> Claimants {
        let stamp = self.room_stamp();
        let mut claimants = Claimants::default();
        let mut alone: Vec<GroupIndex> = Vec::new();
        for kind in self.queue.waiting_kinds() {
            match kind.1 {
                Likeness::Alone(index) => alone.push(index),
                Likeness::Alike { .. } if self.tried.contains(kind, stamp) => {}
                Likeness::Alike { .. } => self.stand_in(kind, None, &mut claimants),
            }
        }
        // one of several classes waits for each of them
        alone.sort_unstable();
        alone.dedup();
        alone.retain(|index| self.wants_room(*index));
        alone.into_iter().for_each(|index| self.queue_up(index, &mut claimants));
        claimants
    }

    /// Has the next group of a kind look for room.
    fn stand_in(
        &self,
        kind: Kind,
        after: Option<(OrderKey, GroupIndex)>,
        claimants: &mut Claimants,
    ) {
        let mut others = self.queue.waiting_of(kind, after);
        if let Some((place, index)) = others.find(|(_, index)| self.wants_room(*index)) {
            claimants.heads.insert(index, (kind, place));
            self.queue_up(index, claimants);
        }
    }

    fn queue_up(&self, index: GroupIndex, claimants: &mut Claimants) {
        let leaf = self.groups.get(index).leaf.expect("a group that was tried has a queue");
        claimants.by_leaf.entry(leaf).or_default().push(Reverse((self.order_key(index), index)));
    }

    /// No room can be made for groups like this one.
    fn leave_out_alike(&mut self, index: GroupIndex, own: Option<Kind>, claimants: &mut Claimants) {
        let stamp = self.room_stamp();
        own.into_iter().for_each(|kind| self.tried.insert(kind, stamp));
        let leaf = self.groups.get(index).leaf.expect("as above");
        let (Some(alike), Some(others)) = (self.kind_of(index), claimants.by_leaf.get_mut(&leaf))
        else {
            return;
        };
        others.retain(|Reverse((_, other))| {
            let differs = self.kind_of(*other) != Some(alike);
            if !differs {
                self.groups.get_mut(*other).room_tried = Some(stamp);
                let kind = claimants.heads.remove(other);
                kind.into_iter().for_each(|(kind, _)| self.tried.insert(kind, stamp));
            }
            differs
        });
    }

    /// Whether room may be made for a group at all: neither its members nor a queue above it say
    /// no. O(depth).
    fn may_evict(&self, index: GroupIndex, leaf: QueueIndex) -> bool {
        let queue_may = |queue| self.fair.spec(queue).preemption.may_evict;
        !self.groups.get(index).never_preempts && self.fair.path(leaf).all(queue_may)
    }

    /// What decides, for members of one leaf, whether room can be made; `None` for a group of
    /// several classes, which is like no other.
    fn kind_of(&self, index: GroupIndex) -> Option<(ClassId, u32, i32, [bool; 2])> {
        let group = self.groups.get(index);
        let members = group.members.iter().map(|member| self.pods.get(*member));
        let mut classes = members.filter(|pod| pod.state == PodState::Waiting).map(|pod| pod.class);
        let class = classes.next()?;
        let is_one = !group.asks_topology() && classes.all(|other| other == class);
        let limits = [group.non_preemptible, group.never_preempts];
        is_one.then_some((class, group.needed(), group.priority, limits))
    }

    /// Names everything that the outcome of a search depends on, but for time.
    fn room_stamp(&self) -> Stamp {
        (self.cluster.changes().version(), self.demands_changed)
    }

    /// Of those that want room the one that comes first by the order of shares.
    fn next_claimant(
        &mut self,
        by_leaf: &BTreeMap<QueueIndex, BinaryHeap<Turn>>,
    ) -> Option<GroupIndex> {
        let first = |turns: &BinaryHeap<Turn>| turns.peek().map(|Reverse((key, i))| (key.2, *i));
        let firsts = by_leaf.iter();
        let mut firsts = firsts.filter_map(|(leaf, turns)| Some((*leaf, first(turns)?)));
        if by_leaf.len() <= 1 {
            return firsts.next().map(|(_, (_, group))| group);
        }
        self.first_by_share(firsts.map(|(leaf, (tie, group))| (leaf, tie, group)))
    }

    fn wants_room(&self, index: GroupIndex) -> bool {
        let group = self.groups.get(index);
        group.home == Home::Unschedulable
            && group.needed() > 0
            && group.room_tried != Some(self.room_stamp())
            && group.leaf.is_some()
            && !self.asks_part(index)
            && !self.claims_part_of_nodes(index)
    }

    /// Who is being bound is no candidate yet. When that has ended, a search in vain is made again
    /// if such a gang might have given something. O(calls in flight x depth).
    fn note_passed_over(&mut self, index: GroupIndex) {
        let group = self.groups.get(index);
        let leaf = group.leaf.expect("a group that was tried has a queue");
        let (extra, priority) = (group.claim.clone(), group.priority);
        let sought = self.sought(&extra);
        let own_only =
            !self.fair.is_entitled(leaf, &extra) || self.in_the_way(leaf, &sought).next().is_some();
        let rights = Rights { leaf, priority, own_only, spared: Vec::new() };
        let asked: Vec<ResourceId> = extra.iter().map(|(resource, _)| *resource).collect();
        let reach: Vec<QueueIndex> = self.fair.path(leaf).collect();
        let in_flight: Vec<GroupIndex> =
            self.calls.groups().filter(|other| !self.passed_over.contains(other)).collect();
        for other in in_flight {
            let group = self.groups.get(other);
            let Some(giver) = group.leaf.filter(|_| group.counts.assumed > 0) else { continue };
            let stance = self.stance(&rights, giver, &asked, &reach);
            if stance.may_give || stance.is_open {
                self.passed_over.insert(other);
            }
        }
    }
}
