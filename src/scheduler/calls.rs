//! What the scheduler asks of the world, and what is in flight.

use super::standing::Standing;
use crate::model::{DeviceSet, Grant, PodKey, Uid};
use crate::queue::GroupIndex;
use rustc_hash::FxHashMap;
use std::sync::Arc;

/// Identity of a call.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct CallId(pub u64);

/// A pod as the API knows it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct PodRef {
    /// Namespace and name.
    pub key: PodKey,
    /// Identity, sent as precondition.
    pub uid: Uid,
}

/// Everything the scheduler can ask of the world. Each member of a `Bind`, `Delete`, `End` or
/// `Evict` is answered exactly once; nothing answers the others.
#[derive(Clone, Debug)]
pub enum ApiCall {
    /// Bind the members, in parallel.
    Bind {
        /// Identity.
        call: CallId,
        /// Index of the profile that decided.
        profile: u8,
        /// Members with their nodes.
        members: Vec<BindMember>,
    },
    /// Delete the bound members of a gang that did not come together.
    Delete {
        /// Identity.
        call: CallId,
        /// The members.
        pods: Vec<PodRef>,
        /// Why, for the event on each pod.
        note: Arc<str>,
    },
    /// Delete pods that have run for as long as they may.
    End {
        /// Identity.
        call: CallId,
        /// The pods.
        pods: Vec<PodRef>,
        /// Why, for the event on each pod.
        note: Arc<str>,
    },
    /// Give victims notice: an event and an annotation on each, and the condition
    /// `DisruptionTarget=True` with reason `PreemptionByScheduler`. Not answered.
    Warn {
        /// The victims.
        pods: Vec<PodRef>,
        /// For whom they make room, and why.
        note: Arc<str>,
        /// When the eviction follows.
        evict_in_ms: i64,
    },
    /// Take back the notice of pods that need not go: an event on each, the condition
    /// `DisruptionTarget=False`, and no annotation. Not answered.
    Spare {
        /// The pods.
        pods: Vec<PodRef>,
        /// Why, for the event and the condition.
        note: Arc<str>,
    },
    /// Write an event on pods that would be evicted if that were allowed, and nothing else.
    Report {
        /// The pods.
        pods: Vec<PodRef>,
        /// For whom they would make room, and why.
        note: Arc<str>,
    },
    /// Evict victims through the Eviction API, with their uid as precondition and their own
    /// termination grace. They have been given notice.
    Evict {
        /// Identity.
        call: CallId,
        /// The victims.
        victims: Vec<Victim>,
    },
    /// Of these evictions none is to leave any more: the plan they were for is given up. Those that
    /// have not left are answered `Withdrawn`, the others as if nothing were said. Not answered
    /// itself. An eviction that is answered otherwise than `Evicted` withdraws the rest of its call
    /// without being told to.
    Withdraw {
        /// Calls that evict.
        calls: Vec<CallId>,
    },
    /// Set the `PodScheduled=False` condition of the pods and write an event on each.
    Tell {
        /// The pods.
        pods: Vec<PodRef>,
        /// What to say.
        telling: Telling,
        /// The pods had no such condition: it begins now.
        first: bool,
    },
    /// Write an event on a pod whose edit is ignored, and nothing else.
    NoteIgnored {
        /// The pod.
        pod: PodRef,
        /// What is ignored, and what holds.
        note: Arc<str>,
    },
    /// Write an event on a holder of GPUs that is not believed, and nothing else.
    TellHolder {
        /// The holder, a pod of whatever scheduler.
        pod: PodRef,
        /// What is wrong and what to do.
        note: Arc<str>,
    },
    /// Write an event on a node.
    TellNode {
        /// The node.
        node: Arc<str>,
        /// What happened.
        news: NodeNews,
        /// Why.
        note: Arc<str>,
    },
    /// Write how a queue stands into its status. A later one replaces an earlier one.
    ShowQueue(Box<Standing>),
}

/// A pod to evict.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Victim {
    /// The pod.
    pub pod: PodRef,
    /// The number of the disruption budget that counts it. The API server lets evictions that meet
    /// at a budget wait for half a second, so they are best sent one after the other.
    pub budget: Option<u32>,
    /// It has no termination grace: with its eviction it is gone.
    pub goes_at_once: bool,
}

/// A pod and the node it is to run on.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct BindMember {
    /// The pod.
    pub pod: PodRef,
    /// The node.
    pub node: Arc<str>,
    /// The GPUs that are best for it there, to be written on it; empty: nothing is to be said.
    pub devices: DeviceSet,
    /// What its claims are to be given, and be reserved for it, before it is bound.
    pub grants: Box<[Grant]>,
}

/// What is said of a node.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum NodeNews {
    /// It takes no new pods for a while.
    Quarantined,
    /// It takes them again.
    QuarantineEnded,
    /// What it says of its GPUs cannot be read.
    GpuTopologyRefused,
    /// What it says of its slots cannot be read.
    SlotsRefused,
}

/// What is said of pods that are not scheduled.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Telling {
    /// Reason of the condition.
    pub reason: ConditionReason,
    /// Message of the condition; the event carries the same, cut to the API's limit.
    pub message: Arc<str>,
}

/// `PodScheduled=False` reasons. `Unschedulable` and `SchedulerError` are upstream's.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum ConditionReason {
    /// No node, or not enough nodes; autoscalers act on it.
    Unschedulable,
    /// The pod itself is refused.
    SchedulerError,
    /// Its gang is not complete or does not agree; more nodes would not help.
    WaitingForGang,
    /// A claim that it names does not exist yet, or waits for another pod; more nodes would not
    /// help.
    WaitingForClaim,
}

impl ConditionReason {
    /// The word in the condition.
    #[must_use]
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Unschedulable => "Unschedulable",
            Self::SchedulerError => "SchedulerError",
            Self::WaitingForGang => "WaitingForGang",
            Self::WaitingForClaim => "WaitingForClaim",
        }
    }
}

/// The answer to a bind.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum BindOutcome {
    /// The pod is bound to the node that was asked for.
    Bound,
    /// The pod is bound to another node, by someone else.
    BoundElsewhere(Box<str>),
    /// The pod is gone, being deleted, or has been replaced by a namesake.
    Gone,
    /// The API refuses this bind and would again: forbidden, invalid, or stopped by a webhook.
    Refused(Box<str>),
    /// The call never left: shutting down, or the lease is not safely held.
    NotSent,
}

/// The answer to a deletion.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum DeleteOutcome {
    /// It is being deleted, or gone already.
    Deleted,
    /// The API refuses, or the call never left.
    Failed,
}

/// The answer to an eviction.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum EvictOutcome {
    /// It is being deleted, or gone already.
    Evicted,
    /// A disruption budget does not allow it now.
    Protected(Box<str>),
    /// The API refuses, or the call never left.
    Failed,
    /// It had not left when the others of its plan were given up; nothing was asked of the API.
    Withdrawn,
}

/// Calls in flight.
#[derive(Debug, Default)]
pub(super) struct Calls {
    last: u64,
    in_flight: FxHashMap<CallId, InFlight>,
    /// how many of these hold up a group
    by_group: FxHashMap<GroupIndex, u32>,
}

/// A call in flight.
#[derive(Debug)]
pub(super) struct InFlight {
    pub(super) group: GroupIndex,
    pub(super) outstanding: u32,
    pub(super) failed: u32,
    /// the group goes on meanwhile
    pub(super) ending: bool,
}

impl Calls {
    pub(super) fn begin(&mut self, group: GroupIndex, members: usize) -> CallId {
        self.last += 1;
        let id = CallId(self.last);
        let outstanding = u32::try_from(members).expect("groups are bounded");
        let in_flight = InFlight { group, outstanding, failed: 0, ending: false };
        self.in_flight.insert(id, in_flight);
        *self.by_group.entry(group).or_default() += 1;
        id
    }

    /// A call holds its group up no more.
    fn let_go(&mut self, group: GroupIndex) {
        let calls = self.by_group.get_mut(&group).expect("it was counted");
        *calls -= 1;
        if *calls == 0 {
            self.by_group.remove(&group);
        }
    }

    /// A call that ends some members of a group.
    pub(super) fn begin_ending(&mut self, group: GroupIndex, members: usize) -> CallId {
        let id = self.begin(group, members);
        self.in_flight.get_mut(&id).expect("it has just begun").ending = true;
        self.let_go(group);
        id
    }

    pub(super) fn is_ending(&self, call: CallId) -> bool {
        self.in_flight.get(&call).is_some_and(|call| call.ending)
    }

    /// Counts an answer; the last one ends the call and returns it.
    pub(super) fn answered(&mut self, call: CallId, failed: bool) -> Option<InFlight> {
        let in_flight = self.in_flight.get_mut(&call)?;
        in_flight.failed += u32::from(failed);
        in_flight.outstanding =
            in_flight.outstanding.checked_sub(1).expect("I4: each member is answered once");
        if in_flight.outstanding > 0 {
            return None;
        }
        let call = self.in_flight.remove(&call)?;
        if !call.ending {
            self.let_go(call.group);
        }
        Some(call)
    }

    pub(super) fn len(&self) -> usize {
        self.in_flight.len()
    }

    /// The groups that calls in flight hold up.
    pub(super) fn groups(&self) -> impl Iterator<Item = GroupIndex> {
        self.by_group.keys().copied()
    }

    pub(super) fn contains(&self, call: CallId) -> bool {
        self.in_flight.contains_key(&call)
    }
}
