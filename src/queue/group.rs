//! Pod groups. A bare pod is a group of one, so there is one path.

use super::{Home, Likeness, OrderKey};
use crate::cluster::{ClassId, PodIndex, ResourceId};
use crate::fairshare::QueueIndex;
use crate::model::{Growth, Timestamp, TopologyAsk, WallTime};
use rustc_hash::FxHashMap;
use smallvec::SmallVec;
use std::sync::Arc;

/// Dense index of a group.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct GroupIndex(u32);

impl GroupIndex {
    pub(super) const MIN: Self = Self(0);
    pub(super) const MAX: Self = Self(u32::MAX);

    fn index(self) -> usize {
        self.0 as usize
    }
}

/// Members by what they do, as of the last look.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Counts {
    /// To be placed.
    pub waiting: u32,
    /// Held by scheduling gates.
    pub gated: u32,
    /// Bind in flight.
    pub assumed: u32,
    /// Bound, running, not being deleted or evicted.
    pub bound: u32,
    /// Being evicted, or about to be.
    pub evicting: u32,
    /// Given seats that are not free yet.
    pub nominated: u32,
    /// Ended well and counted, see `scheduler::membership`.
    pub succeeded: u32,
}

impl Counts {
    /// Members that count towards the minimum without further placing.
    #[must_use]
    pub fn settled(&self) -> u32 {
        self.nominated + self.assumed + self.bound + self.succeeded
    }
}

/// A part of a gang with a minimum of its own.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct TaskGroup {
    /// Its name.
    pub name: Box<str>,
    /// Members of it that must run together.
    pub min: u32,
    /// Members of it that count towards the minimum without further placing.
    pub settled: u32,
    /// Members of it to be placed.
    pub waiting: u32,
    /// What it asks of the topology beside its gang.
    pub topology: Option<Box<TopologyAsk>>,
}

impl TaskGroup {
    /// Members still needed.
    #[must_use]
    pub fn needed(&self) -> u32 {
        self.min.saturating_sub(self.settled)
    }
}

/// Amounts by resource.
pub type Amounts = SmallVec<[(ResourceId, i64); 5]>;

/// What a gang is known by. Gangs of two users are two, though they have one name in one namespace:
/// nobody joins, or holds up, the gang of another.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub struct GroupName {
    /// Namespace.
    pub namespace: Arc<str>,
    /// User; the namespace, where users are not stamped.
    pub user: Arc<str>,
    /// What its members say.
    pub name: Box<str>,
}

/// A gang, or a bare pod.
#[derive(Debug, Default)]
pub struct PodGroup {
    /// `None` for a bare pod.
    pub name: Option<GroupName>,
    /// Members; a pod knows its place here.
    pub members: SmallVec<[PodIndex; 1]>,
    /// Members that must run together.
    pub min_member: u32,
    /// Members that run at most.
    pub max_member: u32,
    /// Its parts, if its members name any.
    pub tasks: Vec<TaskGroup>,
    /// Members that must be placed for the minima of its parts, and headers beside them.
    pub needed_by_tasks: u32,
    /// What it asks of the topology.
    pub topology: Option<Box<TopologyAsk>>,
    /// Its members must never be evicted.
    pub non_preemptible: bool,
    /// Nobody is evicted for it: a member says so.
    pub never_preempts: bool,
    /// The queue its members name.
    pub wanted_queue: Option<Box<str>>,
    /// The queue in which it is, or was last.
    pub admitted_to: Option<Box<str>>,
    /// It has been past the gate: its queue is settled.
    pub past_gate: bool,
    /// Where its room is charged; `None`: its queue is refused, and why.
    pub leaf: Option<QueueIndex>,
    /// See `leaf`.
    pub queue_fault: Option<Box<str>>,
    /// What it adds to the demand of its queue.
    pub pending: Amounts,
    /// What the members need that it lacks to its minimum.
    pub claim: Amounts,
    /// State of the cluster in which no room could be made for it.
    pub room_tried: Option<(u64, u64)>,
    /// `spec.priority` of the members.
    pub priority: i32,
    /// The lowest that its bound members give.
    pub reclaim_rank: i16,
    /// Profile that serves it.
    pub profile: u8,
    /// Creation of the oldest live member.
    pub created: WallTime,
    /// Creation of the oldest member that was live since something of it has room; `None`: nothing
    /// has.
    pub run_since: Option<WallTime>,
    /// No room is drained for it before; `None`: it was never looked at.
    pub drain_at: Option<Timestamp>,
    /// Drains that ended without seating it.
    pub drains: u32,
    /// When the first member was seen, for waiting times.
    pub first_seen: Timestamp,
    /// Members by what they do.
    pub counts: Counts,
    /// Where it waits.
    pub home: Home,
    /// Tries so far.
    pub attempts: u32,
    /// API failures in a row, and until when to wait because of them.
    pub failures: u32,
    /// Not tried before this time.
    pub backoff_until: Timestamp,
    /// The minimum was bound for a while: losing members later never ends the gang.
    pub satisfied: bool,
    /// Since when the minimum is bound.
    pub whole_since: Option<Timestamp>,
    /// Since when it has bound members but fewer than the minimum, never having been satisfied.
    pub partial_since: Option<Timestamp>,
    /// What the last try said: filters that rejected, and the reason most nodes gave.
    pub rejected_by: u32,
    /// See `rejected_by`; a word for metrics.
    pub main_reason: &'static str,
    /// To be looked at again before the next decision.
    pub(crate) dirty: bool,
    /// its place among the active when it last was one
    pub(super) order: Option<OrderKey>,
    pub(crate) waits_for: SmallVec<[(ClassId, Likeness, OrderKey); 1]>,
    pub(crate) wake_at: Option<Timestamp>,
    /// Since when the gate holds it; telling waits a little, as members arrive one by one.
    pub(crate) gated_since: Option<Timestamp>,
    live: bool,
}

impl PodGroup {
    /// Whether it is a gang, not a bare pod.
    #[must_use]
    pub fn is_gang(&self) -> bool {
        self.name.is_some()
    }

    /// Members still needed, for its minimum and those of its parts.
    #[must_use]
    pub fn needed(&self) -> u32 {
        self.min_member.saturating_sub(self.counts.settled()).max(self.needed_by_tasks)
    }

    /// Whether its minimum is placed, and those of its parts.
    #[must_use]
    pub fn is_whole(&self) -> bool {
        let tasks = self.tasks.iter().all(|task| task.needed() == 0);
        tasks && self.counts.settled() >= self.min_member
    }

    /// Whether those that wait are enough for its minimum and those of its parts. A plan made in
    /// the same cycle may have taken members from it: what is left of a gang that ends is not
    /// seated.
    #[must_use]
    pub fn is_complete(&self) -> bool {
        let needed = self.needed();
        let parts = self.tasks.iter().all(|task| task.waiting >= task.needed());
        self.counts.waiting >= needed && parts && (self.counts.evicting == 0 || needed == 0)
    }

    /// Whether it, or a part of it, asks anything of the topology.
    #[must_use]
    pub fn asks_topology(&self) -> bool {
        self.topology.is_some() || self.tasks.iter().any(|task| task.topology.is_some())
    }

    /// The place of a part among its parts.
    #[must_use]
    pub fn task(&self, name: &str) -> Option<usize> {
        self.tasks.iter().position(|task| *task.name == *name)
    }

    /// How far it has grown.
    #[must_use]
    pub fn growth(&self) -> Growth {
        Growth {
            created: self.created,
            grown: self.counts.settled().saturating_sub(self.min_member),
            range: self.max_member - self.min_member,
        }
    }

    /// Members that may still join.
    #[must_use]
    pub fn joinable(&self) -> u32 {
        self.max_member.saturating_sub(self.counts.settled())
    }
}

/// All groups.
#[derive(Debug, Default)]
pub struct GroupTable {
    /// boxed: the table grows without moving them, which doubles memory for a moment
    #[allow(clippy::vec_box)]
    groups: Vec<Box<PodGroup>>,
    free: Vec<GroupIndex>,
    by_name: FxHashMap<GroupName, GroupIndex>,
}

impl GroupTable {
    /// A group.
    #[must_use]
    pub fn get(&self, group: GroupIndex) -> &PodGroup {
        &self.groups[group.index()]
    }

    /// Whether a group has not ended.
    #[must_use]
    pub fn is_live(&self, group: GroupIndex) -> bool {
        self.groups[group.index()].live
    }

    /// A group.
    pub fn get_mut(&mut self, group: GroupIndex) -> &mut PodGroup {
        &mut self.groups[group.index()]
    }

    /// The group of a name, or a new one; `None`: a new group for a bare pod.
    pub fn intern(&mut self, name: Option<GroupName>, now: Timestamp) -> GroupIndex {
        if let Some(found) = name.as_ref().and_then(|name| self.by_name.get(name)) {
            return *found;
        }
        let group = PodGroup {
            name: name.clone(),
            first_seen: now,
            min_member: 1,
            max_member: u32::MAX,
            live: true,
            ..PodGroup::default()
        };
        let index = match self.free.pop() {
            Some(index) => {
                *self.groups[index.index()] = group;
                index
            }
            None => {
                self.groups.push(Box::new(group));
                GroupIndex(u32::try_from(self.groups.len() - 1).expect("fewer groups than pods"))
            }
        };
        if let Some(name) = name {
            self.by_name.insert(name, index);
        }
        index
    }

    /// Ends a group without members.
    pub fn remove(&mut self, index: GroupIndex) {
        let group = std::mem::take(&mut *self.groups[index.index()]);
        assert!(group.members.is_empty(), "I3: a group with members ends");
        if let Some(name) = group.name {
            self.by_name.remove(&name);
        }
        self.free.push(index);
    }

    /// All groups.
    pub fn iter(&self) -> impl Iterator<Item = (GroupIndex, &PodGroup)> {
        let live = self.groups.iter().enumerate().filter(|(_, group)| group.live);
        live.map(|(i, group)| (GroupIndex(u32::try_from(i).expect("indexes fit")), &**group))
    }
}
