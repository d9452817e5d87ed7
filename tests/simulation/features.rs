//! What some worlds have beside the plain. Each draws its own, apart from all else that it draws:
//! most stay simple, and those that have none of it are the same as without this file.

use crate::random::Random;
use crate::world::World;
use mss_scheduler::model::{Pod, RunLimit, WallTime, pod::digest};
use mss_scheduler::scheduler::QuarantineOptions;

#[derive(Clone, Copy, Debug)]
pub(crate) struct Features {
    /// pods fail to start on some nodes
    pub(crate) quarantine: bool,
    /// queues say how long pods run
    pub(crate) run_limits: bool,
    /// reclaim ranks and checkpoints
    pub(crate) ranks: bool,
}

impl Features {
    pub(crate) fn draw(seed: u64) -> Self {
        let mut random = Random::new(!seed);
        let mut one_in = |n| random.below(n) == 0;
        Self { quarantine: one_in(4), run_limits: one_in(4), ranks: one_in(4) }
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
}

impl World {
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
