//! Who waits, and where: every group with pending members is in exactly one home.
//!
//! `gate` waits for members, `active` is tried next, `backoff` waits out an API failure,
//! `unschedulable` waits for a change that may help, `committing` has binds in flight.

mod group;

pub use group::{Amounts, Counts, GroupIndex, GroupName, GroupTable, PodGroup, TaskGroup};

use crate::cluster::ClassId;
use crate::fairshare::QueueIndex;
use crate::model::Timestamp;
use std::collections::{BTreeMap, BTreeSet};
use std::ops::Bound;

/// Order of the active groups of one leaf: the stage, then the profile's QueueSort, then a stable
/// hash, then the index.
pub type OrderKey = (Stage, (i64, i64), u64);

const KEY_MIN: OrderKey = (Stage::Completion, (i64::MIN, i64::MIN), 0);
const KEY_MAX: OrderKey = (Stage::Growth, (i64::MAX, i64::MAX), u64::MAX);

/// What an active group is after.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Stage {
    /// Completing itself: it is half bound.
    Completion,
    /// Its minimum.
    Minimum,
    /// Members above its minimum.
    Growth,
}

/// Unschedulable groups of one kind fit or do not fit together: while the first of them does not,
/// the others need no try.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Likeness {
    /// Nothing of them runs, and all of their members are needed, of one class.
    Alike {
        /// Where they are charged.
        leaf: QueueIndex,
        /// Members of each.
        members: u32,
        /// `spec.priority` of the members.
        priority: i32,
        /// Nobody is evicted for them.
        never_preempts: bool,
    },
    /// A group like no other.
    Alone(GroupIndex),
}

/// Where a group is.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Home {
    /// Nothing of it is pending.
    #[default]
    Idle,
    /// Held by PreEnqueue.
    Gate,
    /// To be tried.
    Active(OrderKey),
    /// An API call failed: waits until this time.
    Backoff(Timestamp),
    /// Did not fit: waits for a change.
    Unschedulable,
    /// Binds or deletes are in flight.
    Committing,
}

/// The homes and the timers.
#[derive(Debug, Default)]
pub struct Queue {
    active: BTreeMap<QueueIndex, BTreeSet<(OrderKey, GroupIndex)>>,
    /// those of which the last try failed for a limit of the queue, not for room
    limited: BTreeSet<(ClassId, Likeness)>,
    unschedulable: BTreeSet<(ClassId, Likeness, OrderKey, GroupIndex)>,
    timers: BTreeSet<(Timestamp, GroupIndex)>,
    counts: HomeCounts,
    entered: HomeCounts,
}

/// Numbers per home.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct HomeCounts {
    /// Groups in the gate.
    pub gate: usize,
    /// Groups to be tried.
    pub active: usize,
    /// Groups in backoff.
    pub backoff: usize,
    /// Groups waiting for a change.
    pub unschedulable: usize,
    /// Groups with calls in flight.
    pub committing: usize,
}

impl HomeCounts {
    /// Adds to the number of a home.
    pub fn add(&mut self, home: Home, more: usize) {
        if let Some(count) = self.of(home) {
            *count += more;
        }
    }

    fn of(&mut self, home: Home) -> Option<&mut usize> {
        match home {
            Home::Idle => None,
            Home::Gate => Some(&mut self.gate),
            Home::Active(_) => Some(&mut self.active),
            Home::Backoff(_) => Some(&mut self.backoff),
            Home::Unschedulable => Some(&mut self.unschedulable),
            Home::Committing => Some(&mut self.committing),
        }
    }
}

impl Queue {
    /// Moves a group. `Unschedulable` registers it under the classes of its pending members.
    pub fn move_to(&mut self, index: GroupIndex, group: &mut PodGroup, home: Home) {
        match group.home {
            Home::Active(key) => {
                let leaf = group.leaf.expect("an active group has a queue");
                let active = self.active.get_mut(&leaf).expect("its leaf is active");
                active.remove(&(key, index));
                if active.is_empty() {
                    self.active.remove(&leaf);
                }
                group.order = Some(key);
            }
            Home::Unschedulable => {
                for (class, kind, key) in group.waits_for.drain(..) {
                    self.unschedulable.remove(&(class, kind, key, index));
                }
            }
            _ => {}
        }
        if let Some(count) = self.counts.of(group.home) {
            *count -= 1;
        }
        self.counts.add(home, 1);
        self.entered.add(home, group.counts.waiting as usize);
        match home {
            Home::Active(key) => {
                let leaf = group.leaf.expect("an active group has a queue");
                self.active.entry(leaf).or_default().insert((key, index));
            }
            Home::Backoff(until) => self.wake_at(index, group, until),
            _ => {}
        }
        group.home = home;
    }

    /// Registers an unschedulable group under a class whose room may help it.
    pub fn wait_for(
        &mut self,
        index: GroupIndex,
        group: &mut PodGroup,
        class: ClassId,
        kind: Likeness,
    ) {
        debug_assert_eq!(group.home, Home::Unschedulable);
        let key = group.order.expect("it was active before");
        if self.unschedulable.insert((class, kind, key, index)) {
            group.waits_for.push((class, kind, key));
        }
    }

    /// Says what groups alike wait for: their queue to fall below its limit, or else room.
    pub fn set_limited(&mut self, class: ClassId, likeness: Likeness, limited: bool) {
        if limited {
            self.limited.insert((class, likeness));
        } else {
            self.limited.remove(&(class, likeness));
        }
    }

    /// Whether such groups wait for their queue to fall below its limit.
    #[must_use]
    pub fn is_limited(&self, class: ClassId, likeness: Likeness) -> bool {
        self.limited.contains(&(class, likeness))
    }

    /// All groups alike that wait for their queue to fall below its limit.
    #[must_use]
    pub fn limited(&mut self) -> Vec<(ClassId, Likeness)> {
        let mut limited = std::mem::take(&mut self.limited);
        limited.retain(|(class, likeness)| self.first_waiting(*class, *likeness).is_some());
        self.limited = limited;
        self.limited.iter().copied().collect()
    }

    /// Whether any group is to be tried.
    #[must_use]
    pub fn any_active(&self) -> bool {
        !self.active.is_empty()
    }

    /// The first active group of each leaf that has any.
    pub fn first_by_leaf(
        &self,
    ) -> impl ExactSizeIterator<Item = (QueueIndex, OrderKey, GroupIndex)> {
        self.active.iter().map(|(leaf, groups)| {
            let (key, group) = groups.first().expect("an empty leaf is removed");
            (*leaf, *key, *group)
        })
    }

    /// Whether this is the only active group.
    #[must_use]
    pub fn is_only_active(&self) -> bool {
        self.active.len() == 1 && self.active.values().all(|groups| groups.len() == 1)
    }

    /// Classes that unschedulable groups wait for, each with the kinds of these groups, ascending.
    /// O(kinds x log(groups)).
    #[must_use]
    pub fn waiting_kinds(&self) -> Vec<(ClassId, Likeness)> {
        let mut kinds = Vec::new();
        let mut next = self.unschedulable.first();
        while let Some((class, kind, ..)) = next.copied() {
            kinds.push((class, kind));
            let last = Bound::Excluded((class, kind, KEY_MAX, GroupIndex::MAX));
            next = self.unschedulable.range((last, Bound::Unbounded)).next();
        }
        kinds
    }

    /// The first unschedulable group of a kind.
    #[must_use]
    pub fn first_waiting(&self, class: ClassId, kind: Likeness) -> Option<GroupIndex> {
        self.waiting_of((class, kind), None).next().map(|(_, group)| group)
    }

    /// The unschedulable groups of a kind in their order, those after one of them if it is named.
    pub fn waiting_of(
        &self,
        (class, kind): (ClassId, Likeness),
        after: Option<(OrderKey, GroupIndex)>,
    ) -> impl Iterator<Item = (OrderKey, GroupIndex)> {
        let start = after
            .map_or(Bound::Included((class, kind, KEY_MIN, GroupIndex::MIN)), |last| {
                Bound::Excluded((class, kind, last.0, last.1))
            });
        let end = Bound::Included((class, kind, KEY_MAX, GroupIndex::MAX));
        self.unschedulable.range((start, end)).map(|(.., place, group)| (*place, *group))
    }

    /// Unschedulable groups, those at a limit included, ascending.
    #[must_use]
    pub fn unschedulable(&self) -> Vec<GroupIndex> {
        let mut groups: Vec<GroupIndex> =
            self.unschedulable.iter().map(|(.., group)| *group).collect();
        groups.sort_unstable();
        groups.dedup();
        groups
    }

    /// Whether any group waits for a change.
    #[must_use]
    pub fn any_unschedulable(&self) -> bool {
        !self.unschedulable.is_empty()
    }

    /// Has the group looked at again at a time; an earlier time stands.
    pub fn wake_at(&mut self, index: GroupIndex, group: &mut PodGroup, at: Timestamp) {
        if group.wake_at.is_some_and(|earlier| earlier <= at) {
            return;
        }
        if let Some(later) = group.wake_at.replace(at) {
            self.timers.remove(&(later, index));
        }
        self.timers.insert((at, index));
    }

    /// The next group whose time has come; its timer is gone after this.
    pub fn pop_due(&mut self, now: Timestamp) -> Option<GroupIndex> {
        let (at, index) = *self.timers.first()?;
        if at > now {
            return None;
        }
        self.timers.pop_first();
        Some(index)
    }

    /// When [`Queue::pop_due`] will next give something.
    #[must_use]
    pub fn next_timer(&self) -> Option<Timestamp> {
        self.timers.first().map(|(at, _)| *at)
    }

    /// Forgets a group that ends.
    pub fn remove(&mut self, index: GroupIndex, group: &mut PodGroup) {
        self.move_to(index, group, Home::Idle);
        if let Some(at) = group.wake_at.take() {
            self.timers.remove(&(at, index));
        }
    }

    /// Pending pods of groups that ever entered a home.
    #[must_use]
    pub fn entered(&self) -> HomeCounts {
        self.entered
    }

    /// Groups per home.
    #[must_use]
    pub fn counts(&self) -> HomeCounts {
        self.counts
    }

    /// I3 for groups: sets and homes agree. O(groups).
    ///
    /// # Panics
    /// If they do not.
    pub fn check(&self, groups: &GroupTable) {
        let mut counts = HomeCounts::default();
        let mut registered = 0;
        for (index, group) in groups.iter() {
            if let Some(count) = counts.of(group.home) {
                *count += 1;
            }
            if let Home::Active(key) = group.home {
                let leaf = group.leaf.expect("I3: an active group without a queue");
                let queued = self.active.get(&leaf).is_some_and(|a| a.contains(&(key, index)));
                assert!(queued, "I3: an active group is not queued");
            }
            if let Home::Backoff(until) = group.home {
                let woken = group.wake_at.is_some_and(|at| at <= until);
                assert!(woken, "S10: a group in backoff has no timer");
            }
            if let Some(at) = group.wake_at {
                assert!(self.timers.contains(&(at, index)), "S10: a timer is lost");
            }
            let registers = matches!(group.home, Home::Unschedulable);
            assert!(registers || group.waits_for.is_empty(), "I3: a group waits in two homes");
            for (class, kind, key) in &group.waits_for {
                let wait = (*class, *kind, *key, index);
                assert!(self.unschedulable.contains(&wait), "I3: a wait is lost");
            }
            registered += group.waits_for.len();
        }
        assert_eq!(counts, self.counts, "I3: homes are miscounted");
        let active: usize = self.active.values().map(BTreeSet::len).sum();
        assert_eq!(active, counts.active, "I3: the active queue has strangers");
        assert_eq!(self.unschedulable.len(), registered, "I3: the waiting set has strangers");
    }
}
