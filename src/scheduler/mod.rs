//! The machine: [`Event`]s in, [`ApiCall`]s out.
//!
//! One owner, no locks, no clock, no entropy. [`Scheduler::handle`] takes in what happened,
//! [`Scheduler::cycle`] decides. `commit.rs` is the only place that assumes pods onto nodes for
//! good and that forgets them again.

mod awaited;
mod blocked;
mod budget;
mod calls;
mod capacity;
mod caps;
mod claimants;
mod claims;
mod commit;
mod cycle;
mod devices;
mod disruption;
mod drains;
mod held_fast;
mod holders;
mod intake;
mod invariants;
mod membership;
mod narrowed;
mod notices;
mod pairs;
mod plans;
mod pods;
mod quarantine;
mod queues;
mod report;
mod room;
mod run_limits;
mod singles;
mod spares;
mod standing;
mod tasks;
mod tell;
mod topology;
mod vacancies;
mod vacating;
mod view;
mod windows;

pub use calls::{
    ApiCall, BindMember, BindOutcome, CallId, ConditionReason, DeleteOutcome, EvictOutcome,
    NodeNews, PodRef, Telling, Victim,
};
pub use drains::DrainOptions;
pub use quarantine::QuarantineOptions;
pub use report::{Attempt, AttemptResult, Report};
pub use standing::{Amount, Facts, Remembered, Standing, USERS_SHOWN, WindowState};
pub use view::{Gauges, NodeUse, QueueShare, Tallies};

use crate::cluster::{ClassId, Cluster, KNOWN_LEVELS, NodeIndex, PodIndex};
use crate::fairshare::{FairShare, LsfOptions, TreeFault, UsageOptions};
use crate::framework::Profile;
use crate::model::queue::Ordering;
use crate::model::{Budget, ClaimState, EvictionBudget, Level, Node, Pod, QueueSpec};
use crate::model::{Timestamp, Uid, WallTime};
use crate::placement::Rankings;
use crate::queue::{GroupIndex, GroupTable, Likeness, Queue};
use awaited::Awaited;
use budget::Bucket;
use calls::Calls;
use capacity::Capacities;
use caps::Counted;
use claimants::Tried;
use claims::AskedClaims;
use devices::Devices;
use disruption::Disruption;
use drains::Drain;
use held_fast::HeldFast;
use holders::Holders;
use notices::Notices;
use pairs::Pairs;
use plans::Plan;
use pods::PodTable;
use quarantine::Quarantine;
use run_limits::RunLimits;
use rustc_hash::FxHashSet;
use spares::Spares;
use standing::Shown;
use std::collections::{BTreeMap, BTreeSet};
use vacating::Vacating;
use windows::Doors;

/// Everything that can happen to the scheduler.
#[derive(Clone, Debug)]
pub enum Event {
    /// A list of one kind begins; what follows of that kind, up to the end, is all there is.
    ListStarted(Kind),
    /// The list is complete: objects it lacked are gone.
    ListEnded(Kind),
    /// A pod was listed, added or modified.
    PodApplied(Box<Pod>),
    /// A pod is gone.
    PodDeleted(Uid),
    /// A node was listed, added or modified.
    NodeApplied(Box<Node>),
    /// A node is gone.
    NodeDeleted(Box<str>),
    /// A namespace was listed, added or modified.
    NamespaceApplied {
        /// Its name.
        name: Box<str>,
        /// Whether it is being deleted, and so takes no new work.
        terminating: bool,
    },
    /// A namespace is gone.
    NamespaceDeleted(Box<str>),
    /// This process may decide from now on.
    Leading(Leadership),
    /// The wall clock shows this, and not what followed from the time that has passed.
    ClockSet(WallTime),
    /// A member's bind has its one and only answer.
    BindFinished {
        /// The call.
        call: CallId,
        /// The member.
        pod: Uid,
        /// The answer.
        outcome: BindOutcome,
    },
    /// A member's deletion has its one and only answer.
    DeleteFinished {
        /// The call.
        call: CallId,
        /// The member.
        pod: Uid,
        /// The answer.
        outcome: DeleteOutcome,
    },
    /// A victim's eviction has its one and only answer.
    EvictFinished {
        /// The call.
        call: CallId,
        /// The victim.
        pod: Uid,
        /// The answer.
        outcome: EvictOutcome,
    },
    /// A queue was listed, added or modified.
    QueueApplied(Box<QueueSpec>),
    /// A queue is gone.
    QueueDeleted(Box<str>),
    /// A disruption budget was listed, added or modified.
    BudgetApplied(Box<Budget>),
    /// A disruption budget is gone.
    BudgetDeleted {
        /// Its namespace.
        namespace: Box<str>,
        /// Its name.
        name: Box<str>,
    },
    /// The object of a queue declares none that could be; what was in force before it stays so.
    QueueRefused {
        /// Its name.
        name: Box<str>,
        /// Its generation.
        generation: i64,
        /// What is wrong with it.
        why: Box<str>,
    },
    /// A claim was listed, added, modified, or written by this process; told before the pods that
    /// name it, and before the answer to the bind for which it was written.
    ClaimApplied(Box<ClaimState>),
    /// A claim is gone.
    ClaimDeleted(Uid),
    /// The levels of the topology are these from now on, the outermost first.
    LevelsFound(Vec<Level>),
    /// Usage that was kept on a queue's object. Counts until the first tree is in force.
    UsageRemembered(Box<Remembered>),
}

/// Kinds that are watched.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Kind {
    /// core/v1 Pod
    Pod,
    /// core/v1 Node
    Node,
    /// core/v1 Namespace
    Namespace,
    /// mss-scheduler.io/v1alpha1 Queue; where the kind is not installed, an empty list
    Queue,
    /// policy/v1 PodDisruptionBudget
    Budget,
}

impl Kind {
    /// All of them.
    pub const ALL: [Self; 5] = [Self::Pod, Self::Node, Self::Namespace, Self::Queue, Self::Budget];
}

/// The circumstances of becoming the leader.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Leadership {
    /// When the previous leader last renewed its lease, or the present time if there was none. A
    /// gang whose last bind is well before that had its partial window seen out by the previous
    /// leader, so it once was whole.
    pub previous_renewal: WallTime,
    /// The wall time of this event. What is kept across restarts is told in wall time.
    pub wall: WallTime,
}

/// Bounds and times of the core.
#[derive(Clone, Debug)]
pub struct Options {
    /// First wait after an API failure, doubled up to the maximum.
    pub backoff_initial_ms: i64,
    /// Longest wait after API failures.
    pub backoff_max_ms: i64,
    /// How long a gang may have some but not enough members bound before it is rolled back.
    pub partial_deadline_ms: i64,
    /// How long before the previous leader's last renewal a bind may lie for its gang to be taken
    /// as never having been whole.
    pub takeover_window_ms: i64,
    /// How long the minimum must be bound for the gang to count as having been whole. It is longer
    /// than news of a lost member takes, and what it risks is that much work.
    pub whole_after_ms: i64,
    /// How long the gate holds a gang before its members are told.
    pub gate_tell_delay_ms: i64,
    /// Whether the tree of queues comes from events: nothing is decided before it was listed.
    pub queues_watched: bool,
    /// Disruption budgets are watched: nothing is decided before they are listed.
    pub budgets_watched: bool,
    /// Whether anything may be evicted.
    pub evictions: Evictions,
    /// Searches for room per cycle; the rest wait for the next.
    pub searches_per_cycle: usize,
    /// How long beyond their own termination grace victims may take to go before the plan is given
    /// up.
    pub vacate_deadline_ms: i64,
    /// How long a pod that a disruption budget protected is not chosen again.
    pub protected_ms: i64,
    /// Pods that may be evicted in a time, in the whole cluster; `None`: no bound.
    pub eviction_budget: Option<EvictionBudget>,
    /// How often queues are shown on their objects at most; `None`: never.
    pub queue_status_interval_ms: Option<i64>,
    /// How long a drop of the capacity must last before shares follow.
    pub capacity_hold_ms: i64,
    /// When room is drained for gangs that would wait for ever; `None`: never.
    pub drains: Option<DrainOptions>,
    /// When nodes are quarantined; `None`: never.
    pub quarantine: Option<QuarantineOptions>,
    /// What counts as usage, and how fast it fades.
    pub usage: UsageOptions,
    /// The parameters of the order `Lsf`.
    pub lsf: LsfOptions,
    /// The order of the queues at the top of the tree.
    pub root_order: Ordering,
    /// The levels of the topology, the outermost first.
    pub topology_levels: Vec<Level>,
    /// Members tried per cycle, so that calls leave and events are heard in between.
    pub members_per_cycle: usize,
}

impl Default for Options {
    fn default() -> Self {
        Self {
            backoff_initial_ms: 1_000,
            backoff_max_ms: 10_000,
            partial_deadline_ms: 20_000,
            takeover_window_ms: 600_000,
            whole_after_ms: 10_000,
            gate_tell_delay_ms: 3_000,
            queues_watched: false,
            budgets_watched: false,
            evictions: Evictions::Allowed,
            searches_per_cycle: 64,
            vacate_deadline_ms: 30_000,
            protected_ms: 60_000,
            eviction_budget: None,
            queue_status_interval_ms: None,
            capacity_hold_ms: 60_000,
            drains: None,
            quarantine: None,
            usage: UsageOptions::default(),
            lsf: LsfOptions::default(),
            root_order: Ordering::default(),
            topology_levels: KNOWN_LEVELS.iter().map(|level| (*level).into()).collect(),
            members_per_cycle: 2_000,
        }
    }
}

/// The switch over all evictions.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Evictions {
    /// Decided and made.
    #[default]
    Allowed,
    /// Decided and reported, not made.
    ReportOnly,
    /// Not even looked for.
    Off,
}

/// The scheduler.
#[derive(Debug)]
pub struct Scheduler {
    options: Options,
    profiles: Vec<Profile>,
    cluster: Cluster,
    rankings: Rankings,
    pods: PodTable,
    groups: GroupTable,
    queue: Queue,
    calls: Calls,
    leadership: Option<Leadership>,
    /// wall time less the time of events
    wall_ahead_ms: i64,
    synced: Synced,
    terminating: FxHashSet<Box<str>>,
    namespaces_listed: FxHashSet<Box<str>>,
    nodes_listed: FxHashSet<Box<str>>,
    queues_listed: FxHashSet<Box<str>>,
    queue_specs: BTreeMap<Box<str>, QueueSpec>,
    tree_changed: bool,
    tree_faults: Vec<TreeFault>,
    /// a declared tree has been put in force
    tree_in_force: bool,
    /// objects that declare no valid queue, with their generation and why
    refused_queues: BTreeMap<Box<str>, (i64, Box<str>)>,
    queues_changed: u64,
    /// usage that was stored, until the first tree is in force
    remembered: BTreeMap<Box<str>, (Timestamp, Remembered)>,
    shown: Shown,
    fair: FairShare,
    /// room of pods that must never be evicted, by declared queue
    held_fast: HeldFast,
    devices: Devices,
    asked_claims: AskedClaims,
    disruption: Disruption,
    /// kinds of which a narrowed resource kept a group off nodes
    type_limited: BTreeSet<(ClassId, Likeness)>,
    counted: Counted,
    /// the tree in force
    good_specs: Vec<QueueSpec>,
    /// pods on nodes that are being deleted
    leaving: BTreeSet<PodIndex>,
    /// groups with bound members
    holders: Holders,
    spares: Spares,
    /// the time of the present event or cycle
    now: Timestamp,
    capacity_changed: bool,
    capacities: Capacities,
    quota_freed: bool,
    demands_changed: u64,
    /// evicted pods that may come again
    awaited: Awaited,
    /// room being made, by the group it is made for
    plans: BTreeMap<GroupIndex, Plan>,
    /// victims of plans, by their nodes
    vacating: Vacating,
    /// seats kept free, by the group they are kept for
    drains: BTreeMap<GroupIndex, Drain>,
    drains_metered: Timestamp,
    quarantine: Quarantine,
    run_limits: RunLimits,
    /// searches for room were left for the next cycle
    room_wanted: bool,
    tried: Tried,
    /// gangs that searches in vain passed over, because they were being bound
    passed_over: FxHashSet<GroupIndex>,
    /// when a search may end otherwise though nothing happens: protection ends, a budget fills
    room_retry: Option<Timestamp>,
    /// evictions that queues may still suffer, by name
    buckets: BTreeMap<Box<str>, Bucket>,
    doors: Doors,
    pairs: Pairs,
    notices: Notices,
    dirty: Vec<GroupIndex>,
    /// nodes that may take more than at the last cycle, with the strongest change
    improved: FxHashSet<NodeIndex>,
    /// kinds of groups of which the first was woken and has not failed yet
    waking: BTreeSet<(ClassId, Likeness)>,
    outbox: Vec<ApiCall>,
    tallies: Tallies,
}

#[derive(Clone, Copy, Debug, Default)]
struct Synced {
    pods: bool,
    nodes: bool,
    namespaces: bool,
    queues: bool,
    budgets: bool,
}

impl Scheduler {
    /// A scheduler that serves these profiles, whose indexes are [`Pod::profile`].
    #[must_use]
    pub fn new(options: Options, profiles: Vec<Profile>) -> Self {
        let mut fair = FairShare::default();
        fair.set_usage_options(options.usage.clone());
        fair.set_lsf_options(options.lsf.clone());
        fair.set_root_order(options.root_order);
        let mut cluster = Cluster::default();
        cluster.set_levels(options.topology_levels.clone());
        if profiles.iter().any(Profile::learns) {
            cluster.keep_arrivals();
        }
        Self {
            options,
            profiles,
            cluster,
            rankings: Rankings::default(),
            pods: PodTable::default(),
            groups: GroupTable::default(),
            queue: Queue::default(),
            calls: Calls::default(),
            leadership: None,
            wall_ahead_ms: 0,
            synced: Synced::default(),
            terminating: FxHashSet::default(),
            namespaces_listed: FxHashSet::default(),
            nodes_listed: FxHashSet::default(),
            queues_listed: FxHashSet::default(),
            queue_specs: BTreeMap::new(),
            tree_changed: false,
            tree_faults: Vec::new(),
            tree_in_force: false,
            refused_queues: BTreeMap::new(),
            queues_changed: 0,
            remembered: BTreeMap::new(),
            shown: Shown::default(),
            fair,
            held_fast: HeldFast::default(),
            devices: Devices::default(),
            asked_claims: AskedClaims::default(),
            disruption: Disruption::default(),
            type_limited: BTreeSet::new(),
            counted: Counted::default(),
            good_specs: Vec::new(),
            leaving: BTreeSet::new(),
            holders: Holders::default(),
            spares: Spares::default(),
            now: Timestamp(0),
            capacity_changed: true,
            capacities: Capacities::default(),
            quota_freed: false,
            demands_changed: 0,
            awaited: Awaited::default(),
            plans: BTreeMap::new(),
            vacating: Vacating::default(),
            drains: BTreeMap::new(),
            drains_metered: Timestamp(0),
            quarantine: Quarantine::default(),
            run_limits: RunLimits::default(),
            room_wanted: false,
            tried: Tried::default(),
            passed_over: FxHashSet::default(),
            room_retry: None,
            buckets: BTreeMap::new(),
            doors: Doors::default(),
            pairs: Pairs::default(),
            notices: Notices::default(),
            dirty: Vec::new(),
            improved: FxHashSet::default(),
            waking: BTreeSet::new(),
            outbox: Vec::new(),
            tallies: Tallies::default(),
        }
    }

    /// Takes in what happened. O(1) in the number of pods, but for lists.
    pub fn handle(&mut self, now: Timestamp, event: Event) {
        self.now = now;
        if self.leadership.is_some() {
            self.age_usage(now);
        }
        match event {
            Event::ListStarted(kind) => self.list_started(kind),
            Event::ListEnded(kind) => self.list_ended(kind),
            Event::PodApplied(pod) => self.pod_applied(now, *pod),
            Event::PodDeleted(uid) => self.pod_deleted(uid),
            Event::NodeApplied(node) => self.node_applied(*node),
            Event::NodeDeleted(name) => self.node_deleted(&name),
            Event::NamespaceApplied { name, terminating } => {
                self.namespace_applied(name, terminating);
            }
            Event::NamespaceDeleted(name) => self.namespace_applied(name, false),
            Event::Leading(leadership) => {
                self.leadership = Some(leadership);
                self.clock_set(leadership.wall);
            }
            Event::ClockSet(wall) => self.clock_set(wall),
            Event::BindFinished { call, pod, outcome } => {
                self.bind_finished(now, call, pod, outcome);
            }
            Event::DeleteFinished { call, pod, outcome } => {
                self.delete_finished(now, call, pod, outcome);
            }
            Event::EvictFinished { call, pod, outcome } => {
                self.evict_finished(now, call, pod, &outcome);
            }
            Event::QueueApplied(spec) => self.queue_applied(*spec),
            Event::QueueDeleted(name) => self.queue_deleted(&name),
            Event::BudgetApplied(budget) => self.budget_applied(*budget),
            Event::BudgetDeleted { namespace, name } => self.budget_deleted(&namespace, &name),
            Event::QueueRefused { name, generation, why } => {
                self.queue_refused(name, generation, why);
            }
            Event::ClaimApplied(state) => self.claim_seen(*state),
            Event::ClaimDeleted(uid) => self.claim_gone(uid),
            Event::LevelsFound(levels) => self.levels_found(levels),
            Event::UsageRemembered(remembered) => self.usage_remembered(*remembered),
        }
    }

    /// Whether a list of every kind has been seen.
    #[must_use]
    pub fn is_synced(&self) -> bool {
        let queues = self.synced.queues || !self.options.queues_watched;
        let budgets = self.synced.budgets || !self.options.budgets_watched;
        let core = self.synced.pods && self.synced.nodes && self.synced.namespaces;
        core && queues && budgets
    }

    /// Decides and returns what is to be done. Nothing is decided before every kind was listed and
    /// this process leads.
    pub fn cycle(&mut self, now: Timestamp) -> Report {
        if !self.is_synced() || self.leadership.is_none() {
            return Report::default();
        }
        self.decide(now)
    }

    /// Whether [`Self::cycle`] has work now, without any further event.
    #[must_use]
    pub fn has_work(&self) -> bool {
        let waiting = !self.dirty.is_empty() || self.queue.any_active() || self.tree_changed;
        let helped = !self.improved.is_empty() && self.queue.any_unschedulable();
        (waiting || helped || self.room_wanted || !self.outbox.is_empty())
            && self.is_synced()
            && self.leadership.is_some()
    }

    /// When [`Self::cycle`] will have work if nothing happens before.
    #[must_use]
    pub fn next_deadline(&self) -> Option<Timestamp> {
        let timers = [
            self.queue.next_timer(),
            self.room_retry,
            self.awaited_due(),
            self.standings_due(),
            self.doors_due(),
            self.drain_deadline(),
            self.capacity_due(),
            self.quarantine_due(),
            self.run_limits_due(),
            self.notices_due(),
        ];
        self.leadership.and_then(|_| timers.into_iter().flatten().min())
    }
}
