//! What some worlds have beside the plain. Each draws its own, apart from all else that it draws:
//! most stay simple, and those that have none of it are the same as without this file.

use crate::disruption::tier;
use crate::random::Random;
use crate::scene::{SHARED, amount, gang};
use crate::world::{GPU, World};
use mss_scheduler::model::{Pod, QueueSpec, RunLimit, Task, WallTime, pod::digest};
use mss_scheduler::scheduler::QuarantineOptions;

/// The label of nodes that says which GPUs they have, and its values.
pub(crate) const PRODUCT: &str = "nvidia.com/gpu.product";
pub(crate) const TYPES: [&str; 2] = ["A100", "H100"];

const USERS: [Option<&str>; 4] = [None, Some("ann"), Some("ben"), Some("eve")];

#[derive(Clone, Copy, Debug)]
pub(crate) struct Features {
    /// pods fail to start on some nodes
    pub(crate) quarantine: bool,
    /// queues say how long pods run
    pub(crate) run_limits: bool,
    /// reclaim ranks and checkpoints
    pub(crate) ranks: bool,
    /// pods say who stands behind them
    pub(crate) users: bool,
    /// gangs have parts with minima of their own
    pub(crate) tasks: bool,
    /// GPUs are of two types, which queues and gangs may name
    pub(crate) types: bool,
    /// disruption budgets are heard of
    pub(crate) budgets: bool,
    /// a cycle makes room for one gang only
    pub(crate) one_search: bool,
}

impl Features {
    pub(crate) fn draw(seed: u64) -> Self {
        let mut random = Random::new(!seed);
        let mut one_in = |n| random.below(n) == 0;
        Self {
            quarantine: one_in(4),
            run_limits: one_in(4),
            ranks: one_in(4),
            users: one_in(4),
            tasks: one_in(4),
            types: one_in(3),
            budgets: one_in(4),
            one_search: one_in(6),
        }
    }

    /// When nodes are quarantined.
    pub(crate) fn quarantine(self) -> Option<QuarantineOptions> {
        self.quarantine.then_some(QuarantineOptions {
            failures: 2,
            window_ms: 60_000,
            start_deadline_ms: Some(15_000),
            for_ms: 8_000,
            for_max_ms: 30_000,
            percent: 40,
        })
    }

    /// What the members of a gang say of the work that an eviction would cost.
    pub(crate) fn rank(self, pod: &mut Pod) {
        if self.ranks {
            let digest = digest(&pod.key.name);
            pod.reclaim_rank = [-3, 0, 0, 7][usize::try_from(digest % 4).expect("small")];
            pod.checkpoint = digest.is_multiple_of(3).then_some(WallTime(pod.created.0));
        }
    }

    /// To which part of its gang each of so many members belongs: two parts, and in some gangs
    /// members of neither.
    pub(crate) fn tasks(self, gang: &str, members: usize) -> Vec<Option<Task>> {
        let digest = digest(gang) >> 20;
        if !self.tasks || digest.is_multiple_of(4) {
            return vec![None; members];
        }
        let every = if digest.is_multiple_of(3) { 3 } else { 2 };
        let part = |member: usize| (member % every).checked_sub(every - 2);
        let task = |member| {
            let place = part(member)?;
            let size = (0..members).filter(|other| part(*other) == Some(place)).count() as u64;
            let min = u32::try_from((digest >> (8 + 4 * place)) % (size + 1)).expect("small");
            Some(Task { name: ["head", "tail"][place].into(), min, topology: None })
        };
        (0..members).map(task).collect()
    }

    /// By what disruption budgets select a pod.
    pub(crate) fn label(self, pod: &mut Pod) {
        if self.budgets {
            pod.labels = tier(!(digest(&pod.key.name) >> 8).is_multiple_of(2));
        }
    }

    /// The type of GPUs of a node, if it has one.
    pub(crate) fn labels(self, node: &str) -> Vec<(Box<str>, Box<str>)> {
        let place = usize::try_from((digest(node) >> 16) % 3).expect("small");
        let product = TYPES.get(place).filter(|_| self.types);
        product.map(|product| (PRODUCT.into(), (*product).into())).into_iter().collect()
    }

    /// Half of the gangs run on GPUs of one type only.
    pub(crate) fn select(self, pod: &mut Pod) {
        if self.types && pod.profile.is_some() {
            let place = usize::try_from((digest(&gang(pod).1) >> 40) % 4).expect("small");
            let product = TYPES.get(place).map(|product| (PRODUCT.into(), (*product).into()));
            pod.class.node_selector = product.into_iter().collect();
        }
    }

    /// Who stands behind a gang or a bare pod. The same users submit in all namespaces, and some
    /// pods are not stamped.
    pub(crate) fn stamp(self, pod: &mut Pod) {
        if self.users {
            let digest = digest(&gang(pod).1) >> 32;
            let user = USERS[usize::try_from(digest % 4).expect("small")];
            pod.user = user.map(Into::into);
        }
    }
}

/// An edit of a queue that is about one type of GPU.
pub(crate) struct TypedEdit {
    what: u64,
    name: &'static str,
    amount: i64,
}

impl TypedEdit {
    pub(crate) fn make(&self, spec: &mut QueueSpec) {
        let base = |list: &[(Box<str>, i64)]| amount(list, GPU).unwrap_or(0);
        let (list, amount) = match self.what {
            0 => {
                let quota = base(&spec.quota).min(self.amount / 2);
                (&mut spec.quota, quota)
            }
            1 => (&mut spec.limit, self.amount.max(6)),
            2 => (&mut spec.user_limit, self.amount.max(4)),
            _ => {
                let lists = [&mut spec.quota, &mut spec.limit, &mut spec.user_limit];
                return lists
                    .into_iter()
                    .for_each(|list| list.retain(|(name, _)| **name != *self.name));
            }
        };
        list.retain(|(name, _)| **name != *self.name);
        list.push((self.name.into(), amount));
        list.sort_unstable();
    }
}

impl World {
    /// What an edit says of one type of GPU.
    pub(crate) fn draw_typed_edit(&mut self) -> Option<TypedEdit> {
        if !self.features.types || self.random.below(2) == 0 {
            return None;
        }
        let what = self.random.below(4);
        let name = SHARED[2 + usize::try_from(self.random.below(2)).expect("small")];
        let amount = i64::try_from(self.random.below(16)).expect("small");
        Some(TypedEdit { what, name, amount })
    }

    /// Some queues may have few GPUs of a type from the start.
    pub(crate) fn limit_types(&mut self) {
        if !self.features.types {
            return;
        }
        for (place, spec) in (1..).zip(self.queues.values_mut()) {
            let mut random = Random::new(!self.history.seed ^ place << 40);
            if random.below(2) == 0 {
                let name = SHARED[2 + usize::try_from(random.below(2)).expect("small")];
                let amount = 2 + i64::try_from(random.below(6)).expect("small");
                spec.limit.push((name.into(), amount));
            }
        }
    }

    /// A run limit for a queue that is edited: none, a default, a maximum, or both.
    pub(crate) fn draw_run_limit(&mut self) -> Option<RunLimit> {
        if !self.features.run_limits || self.random.below(2) == 0 {
            return None;
        }
        let ms = 4_000 + i64::try_from(self.random.below(30_000)).expect("small");
        let (default, maximum) = (self.random.below(2) == 0, self.random.below(2) == 0);
        Some(RunLimit { default_ms: default.then_some(ms), maximum_ms: maximum.then_some(2 * ms) })
    }
}
