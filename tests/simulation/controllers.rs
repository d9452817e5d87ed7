//! Controllers: what is lost comes again, after a while, and what runs too long is ended.

use crate::world::World;
use mss_scheduler::model::pod::digest;
use mss_scheduler::model::{GroupSpec, Phase, Pod, Uid, WallTime};

/// The longest that a replacement takes. Some come too late to be awaited.
const REPLACED_MS_MAX: u64 = 14_000;

/// The controller of a gang; every other gang has none.
pub(crate) fn controller(namespace: &str, group: &GroupSpec) -> Option<Uid> {
    let digest = digest(&format!("{namespace}/{}", group.name));
    digest.is_multiple_of(2).then_some(Uid(u128::from(digest) << 1 | 1))
}

impl World {
    /// A controller replaces a member that is lost.
    pub(crate) fn replace(&mut self, uid: Uid) {
        let Some(truth) = self.pods.get(&uid) else { return };
        let lost = truth.pod.clone();
        self.come_again(lost);
    }

    /// The same, some time after it was evicted.
    pub(crate) fn replace_later(&mut self, uid: Uid) {
        let Some(truth) = self.pods.get(&uid) else { return };
        let lost = truth.pod.clone();
        if lost.controller.is_none() {
            return self.come_again(lost);
        }
        let delay = i64::try_from(self.random.below(REPLACED_MS_MAX)).expect("small");
        self.lost.push((self.now + delay, lost));
    }

    fn come_again(&mut self, lost: Pod) {
        if let (Some(0), Some(Ok(group))) = (lost.class.profile, lost.group) {
            self.next_limit_ms = lost.run_limit_ms;
            self.next_task = lost.task;
            self.add_pod(lost.class, Some(group), None, (&lost.key.namespace, lost.priority));
        }
    }

    /// Replacements come whose time it is, and what has run for as long as it may fails.
    pub(crate) fn step_controllers(&mut self) {
        self.step_kubelets();
        let now = self.now;
        let (due, later) =
            std::mem::take(&mut self.lost).into_iter().partition(|(at, _)| *at <= now);
        self.lost = later;
        let due: Vec<(i64, Pod)> = due;
        due.into_iter().for_each(|(_, lost)| self.come_again(lost));
        let over = |pod: &Pod| {
            let end = pod.bound_at.zip(pod.run_limit_ms).map(|(at, limit)| at.0 + limit);
            pod.node.is_some() && !pod.ended() && end.is_some_and(|end| end <= now)
        };
        let over = self.pods.values().filter(|truth| over(&truth.pod));
        let over: Vec<Uid> = over.map(|truth| truth.pod.uid).collect();
        for uid in over {
            self.modify(uid, |pod| {
                pod.phase = Phase::Failed;
                pod.finished_at = Some(WallTime(now));
            });
        }
    }
}
