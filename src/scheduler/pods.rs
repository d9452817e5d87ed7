//! The table of pods, kept small: a scheduler holds every pod of the cluster.

use super::CallId;
use crate::cluster::{ClassId, NodeIndex, Offer, PodIndex};
use crate::fairshare::QueueIndex;
use crate::model::{
    DeviceSet, Labels, PodClaim, PodKey, Task, Timestamp, TopologyAsk, Uid, WallTime,
};
use crate::queue::GroupIndex;
use rustc_hash::FxHashMap;
use std::sync::Arc;

/// What a pod is to this scheduler (I3: exactly one of these).
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum PodState {
    /// Another scheduler's; if it has a node its room counts.
    Foreign,
    /// Ours, but its annotations or requests are refused.
    Refused,
    /// Ours, held by scheduling gates.
    Gated,
    /// Ours, to be placed.
    Waiting,
    /// Ours, decided; its seat is being vacated.
    Nominated,
    /// Ours, decided; the bind of this call is in flight.
    Assumed(CallId),
    /// Ours, bound.
    Bound,
    /// Ours, bound, and being deleted by a rollback.
    RollingBack(CallId),
    /// Ours, unbound, and being deleted by its owner.
    Leaving,
    /// Ended well.
    Succeeded,
    /// Ended otherwise.
    Failed,
}

/// In this order: what is read of every member when its gang is counted, or looked at by who makes
/// room, stands together in front.
#[derive(Debug)]
#[repr(C)]
pub(super) struct PodEntry {
    pub(super) uid: Uid,
    pub(super) state: PodState,
    pub(super) bound_at: Option<WallTime>,
    pub(super) checkpoint: Option<WallTime>,
    pub(super) created: WallTime,
    /// when its bind was seen
    pub(super) bound_seen: Timestamp,
    /// not evicted before: a disruption budget protected it
    pub(super) protected_until: Timestamp,
    pub(super) termination_ms: i64,
    /// node whose room it takes
    pub(super) node: Option<NodeIndex>,
    pub(super) group: Option<GroupIndex>,
    /// the group that is to have its room
    pub(super) victim_of: Option<GroupIndex>,
    /// where its room is charged
    pub(super) charged: Option<QueueIndex>,
    pub(super) class: ClassId,
    /// place in the group's member list
    pub(super) slot: u32,
    pub(super) min_member: u32,
    pub(super) max_member: u32,
    pub(super) priority: i32,
    pub(super) reclaim_rank: i16,
    pub(super) deleting: bool,
    /// a victim because it was chosen, and not because it leaves anyway
    pub(super) chosen: bool,
    /// it was evicted, or deleted, and did not go in time
    pub(super) stuck: bool,
    /// a container of it has run
    pub(super) started: bool,
    pub(super) header: bool,
    pub(super) non_preemptible: bool,
    pub(super) never_preempts: bool,
    pub(super) name: Box<str>,
    /// the part of its gang to which it belongs
    pub(super) task: Option<Box<Task>>,
    /// what its gang asks of the topology
    pub(super) topology: Option<Box<TopologyAsk>>,
    /// digest of the queue it names; 0: none
    pub(super) queue: u64,
    /// uid of the controller, folded; 0: none
    pub(super) controller: u64,
    /// the last call by which this process told it to go, if nobody else had done so before
    pub(super) evicted_by: Option<CallId>,
    pub(super) namespace: Arc<str>,
    /// whose leaf it is charged to; as first seen, it does not change
    pub(super) user: Arc<str>,
    /// GPUs of that node that it was given; empty: none, or unknown
    pub(super) devices: DeviceSet,
    /// the claims that it names; none once it has ended
    pub(super) claims: Box<[PodClaim]>,
    pub(super) labels: Labels,
    /// digest of the queue that it was last seen to name
    pub(super) queue_seen: u64,
    /// the narrowed resources that are charged with it
    pub(super) offer: Offer,
    /// since when, as far as it is known
    pub(super) holds_since: WallTime,
    /// what it says itself
    pub(super) run_limit_ms: Option<i64>,
    /// by which it was let into drained room
    pub(super) promised_ms: Option<i64>,
    /// when it is ended, or looked at for that
    pub(super) ends_at: Option<Timestamp>,
    /// when its bind was asked for by this process
    pub(super) asked: Option<Timestamp>,
    pub(super) finished: Option<WallTime>,
    pub(super) told: u64,
    /// its rank in its gang; without one it comes last
    pub(super) rank: u32,
    pub(super) listed: u32,
}

#[derive(Debug, Default)]
pub(super) struct PodTable {
    entries: Vec<Option<Box<PodEntry>>>,
    free: Vec<PodIndex>,
    by_uid: FxHashMap<Uid, PodIndex>,
    names: FxHashMap<Arc<str>, ()>,
    /// number of the present list; entries that it lacked are gone at its end
    pub(super) list: u32,
}

impl PodTable {
    pub(super) fn find(&self, uid: Uid) -> Option<PodIndex> {
        self.by_uid.get(&uid).copied()
    }

    pub(super) fn get(&self, pod: PodIndex) -> &PodEntry {
        self.entries[pod.index()].as_ref().expect("indexes are of live entries")
    }

    pub(super) fn get_mut(&mut self, pod: PodIndex) -> &mut PodEntry {
        self.entries[pod.index()].as_mut().expect("indexes are of live entries")
    }

    pub(super) fn insert(&mut self, entry: PodEntry) -> PodIndex {
        let uid = entry.uid;
        let index = match self.free.pop() {
            Some(index) => {
                self.entries[index.index()] = Some(Box::new(entry));
                index
            }
            None => {
                self.entries.push(Some(Box::new(entry)));
                PodIndex(u32::try_from(self.entries.len() - 1).expect("fewer than 2^32 pods"))
            }
        };
        self.by_uid.insert(uid, index);
        index
    }

    pub(super) fn remove(&mut self, pod: PodIndex) -> PodEntry {
        let entry = self.entries[pod.index()].take().expect("indexes are of live entries");
        self.by_uid.remove(&entry.uid);
        self.free.push(pod);
        *entry
    }

    /// The one copy of the name of a namespace or user.
    pub(super) fn shared(&mut self, name: &str) -> Arc<str> {
        if let Some((shared, ())) = self.names.get_key_value(name) {
            return shared.clone();
        }
        let shared: Arc<str> = name.into();
        self.names.insert(shared.clone(), ());
        shared
    }

    pub(super) fn len(&self) -> usize {
        self.by_uid.len()
    }

    pub(super) fn iter(&self) -> impl Iterator<Item = (PodIndex, &PodEntry)> {
        let entries = self.entries.iter().enumerate();
        entries.filter_map(|(i, entry)| {
            Some((PodIndex(u32::try_from(i).expect("indexes fit")), &**entry.as_ref()?))
        })
    }
}

impl PodEntry {
    pub(super) fn key(&self) -> PodKey {
        PodKey { namespace: (*self.namespace).into(), name: self.name.clone() }
    }
}
