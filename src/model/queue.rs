//! A queue: one node of the tree by which the cluster is shared.

use super::{ResourceList, Windows};

/// Name of the queue for namespaces that no queue names. It exists without being declared, as a
/// child of the root with guarantee 0 and weight 1, so that a first pod needs no set-up.
pub const DEFAULT_QUEUE: &str = "default";

/// Depth of the tree: the root is 0, users of a queue are one below it.
pub const DEPTH_MAX: usize = 16;

/// Queues that may be declared.
pub const QUEUES_MAX: usize = 10_000;

/// Weights are 1 to this.
pub const WEIGHT_MAX: u32 = 1_000_000;

/// What a `Queue` object, or a tree from a file, says.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct QueueSpec {
    /// `metadata.name`.
    pub name: Box<str>,
    /// `metadata.generation`; 0 where there is none.
    pub generation: i64,
    /// Name of the queue above; `None`: the root.
    pub parent: Option<Box<str>>,
    /// Share of the surplus among siblings; 1 to [`WEIGHT_MAX`].
    pub weight: u32,
    /// Share of the surplus, where it is not to be [`Self::weight`].
    pub over_quota_weight: Option<u32>,
    /// Guaranteed amounts; a resource that is not named has guarantee 0.
    pub quota: ResourceList,
    /// The most the queue may hold; a resource that is not named is not limited.
    pub limit: ResourceList,
    /// The most of its idle guarantee that others may use; not named: all of it.
    pub lend_limit: ResourceList,
    /// The most it may hold beyond its guarantee; not named: not limited.
    pub borrow_limit: ResourceList,
    /// The most one of its users may hold; not named: no more limited than the queue.
    pub user_limit: ResourceList,
    /// Bands: the surplus goes to siblings of higher priority first.
    pub priority: i32,
    /// The order of what is below: queues, users, and gangs.
    pub order: Ordering,
    /// How priority grows while its gangs wait; `None`: it does not.
    pub ageing: Option<Ageing>,
    /// Namespaces whose pods may name the queue.
    pub namespaces: Vec<Box<str>>,
    /// A closed queue takes no new gangs, nor do those below it; those that run go on.
    pub open: bool,
    /// When its gangs, and those of the queues below, may start and run; `None`: always.
    pub windows: Option<Box<Windows>>,
    /// How long its pods may run.
    pub run_limit: RunLimit,
    /// How many of its gangs run and wait, and how large they may be.
    pub caps: Caps,
    /// What may be done to its gangs, and by them.
    pub preemption: Preemption,
}

/// How long the pods of a queue, and of those below it, run. The nearest default and the smallest
/// maximum hold.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct RunLimit {
    /// Of pods that do not say it themselves; `None`: the maximum.
    pub default_ms: Option<i64>,
    /// Of any pod; `None`: no bound.
    pub maximum_ms: Option<i64>,
}

/// Bounds on the gangs of a queue and all below it; a pod without a gang counts as one. `None`: no
/// bound.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Caps {
    /// Gangs that run.
    pub running_gangs: Option<u32>,
    /// Gangs of one user that run.
    pub running_gangs_per_user: Option<u32>,
    /// Gangs that wait; others are held in the gate.
    pub pending_gangs: Option<u32>,
    /// GPUs that a gang needs to start.
    pub gang_gpus: Option<u32>,
}

impl Default for QueueSpec {
    fn default() -> Self {
        Self {
            name: DEFAULT_QUEUE.into(),
            generation: 0,
            parent: None,
            weight: 1,
            over_quota_weight: None,
            quota: ResourceList::new(),
            limit: ResourceList::new(),
            lend_limit: ResourceList::new(),
            borrow_limit: ResourceList::new(),
            user_limit: ResourceList::new(),
            priority: 0,
            order: Ordering::default(),
            ageing: None,
            namespaces: Vec::new(),
            open: true,
            windows: None,
            run_limit: RunLimit::default(),
            caps: Caps::default(),
            preemption: Preemption::default(),
        }
    }
}

/// The order of the queues, users and gangs below a queue.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Ordering {
    /// Queues and users in the order of their share, then pod priority, then age.
    #[default]
    FairShare,
    /// Queues and users by LSF's dynamic user priority, then pod priority, then age.
    Lsf,
    /// Queues and users by Slurm's fair tree, then pod priority, then age.
    FairTree,
    /// Pod priority, then age, whoever the user is.
    Priority,
    /// Age alone.
    Fifo,
}

impl Ordering {
    /// The words for it, in `spec.ordering` of a Queue and in the configuration.
    pub const WORDS: &[&str] = &["FairShare", "Lsf", "FairTree", "Priority", "Fifo"];

    /// The ordering of a word.
    #[must_use]
    pub fn parse(word: &str) -> Option<Self> {
        Some(match word {
            "FairShare" => Self::FairShare,
            "Lsf" => Self::Lsf,
            "FairTree" => Self::FairTree,
            "Priority" => Self::Priority,
            "Fifo" => Self::Fifo,
            _ => return None,
        })
    }
}

/// Growth of priority with waiting time, without a bound, as LSF's `JOB_PRIORITY_OVER_TIME`. It
/// orders gangs; who may take room from whom goes by pod priority alone.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Ageing {
    /// Points of pod priority; at least 1.
    pub points: u32,
    /// For each such time since the oldest member was created; at least 1.
    pub every_ms: i64,
}

impl Ageing {
    /// What a gang of a priority counts as, after it has waited so long.
    #[must_use]
    pub fn aged(self, priority: i32, waited_ms: i64) -> i32 {
        let waited = i128::from(waited_ms.max(0)) * i128::from(self.points);
        let gained = waited / i128::from(self.every_ms.max(1));
        i32::try_from(i128::from(priority) + gained).unwrap_or(i32::MAX)
    }

    /// When a gang of priority 0 would have been created that goes before the same others, in
    /// milliseconds. It does not change with time.
    #[must_use]
    pub fn as_if_created(self, priority: i32, created_ms: i64) -> i64 {
        let head_start = i128::from(priority) * i128::from(self.every_ms.max(1));
        let created = i128::from(created_ms) - head_start / i128::from(self.points.max(1));
        i64::try_from(created).unwrap_or(if priority > 0 { i64::MIN } else { i64::MAX })
    }
}

/// What may be done to the gangs of a queue, and by them.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Preemption {
    /// Other queues may take back what this one holds above its share.
    pub reclaimable: bool,
    /// Gangs of higher priority in this queue may take room from lower ones.
    pub preemptible: bool,
    /// Its gangs may make room for themselves at all.
    pub may_evict: bool,
    /// How long a pod runs at least before it is evicted.
    pub min_runtime_ms: i64,
    /// Time between the notice and the eviction.
    pub grace_ms: i64,
    /// How many of its pods may be evicted in a time; `None`: no bound.
    pub budget: Option<EvictionBudget>,
}

/// So many pods in a time, spread evenly; after a pause so many at once.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct EvictionBudget {
    /// Pods; at least 1.
    pub pods: u32,
    /// The time; at least 1.
    pub window_ms: i64,
}

impl Default for Preemption {
    fn default() -> Self {
        Self {
            reclaimable: true,
            preemptible: true,
            may_evict: true,
            min_runtime_ms: 0,
            grace_ms: 0,
            budget: None,
        }
    }
}
