//! Demand of pods that were evicted and may come again: between what must be held and what may be.

use crate::scene::{Amounts, Leaf, NONE, SHARED, asked, only, plus, user};
use crate::shadow::Shadow;
use crate::tenants::queue_of;
use crate::world::World;
use mss_scheduler::model::{Phase, Pod, Uid};
use mss_scheduler::scheduler::CallId;
use std::collections::{BTreeMap, BTreeSet};

/// Held for so long at most.
const REPLACED_WITHIN_MS: i64 = 10_000;

/// A pod that was evicted, and is gone.
pub(crate) struct Absent {
    namespace: Box<str>,
    user: Box<str>,
    controller: Uid,
    requests: Amounts,
    until: i64,
    /// nothing has been heard that may replace it
    sure: bool,
}

/// Whether a pod may stand for another one that is gone.
fn waits(pod: &Pod) -> bool {
    pod.node.is_none() && !pod.ended() && !pod.deleting
}

impl Shadow {
    /// The API is asked to evict a pod.
    pub(crate) fn asked_to_evict(&mut self, call: CallId, uid: Uid) {
        if self.pods.get(&uid).is_some_and(|pod| !pod.deleting) {
            self.evicted.insert(uid, call);
        }
    }

    /// What a pod is now, as the scheduler is told.
    pub(crate) fn note_absence(&mut self, now: i64, pod: &Pod) {
        if pod.phase == Phase::Succeeded {
            self.evicted.remove(&pod.uid);
        } else if pod.ended() {
            self.lose(now, pod);
        } else if waits(pod) {
            let same = |absent: &&mut Absent| Some(absent.controller) == pod.controller;
            self.absent.iter_mut().filter(same).for_each(|absent| absent.sure = false);
        }
    }

    /// A pod no longer takes room.
    pub(crate) fn lose(&mut self, now: i64, pod: &Pod) {
        let Some(controller) = pod.controller.filter(|_| self.evicted.remove(&pod.uid).is_some())
        else {
            return;
        };
        let mut others = self.pods.values().filter(|other| other.controller == pod.controller);
        let absent = Absent {
            namespace: pod.key.namespace.clone(),
            user: user(pod).into(),
            controller,
            requests: asked(pod),
            until: now + REPLACED_WITHIN_MS,
            sure: !others.any(|other| waits(other) && !self.bound.contains(&other.uid)),
        };
        self.absent.push(absent);
    }

    /// The user for whom the room of a pod may be held.
    fn leaf(&self, absent: &Absent) -> Leaf {
        let own = queue_of(&absent.namespace);
        let known = self.in_force.iter().any(|spec| &*spec.name == own);
        (if known { own } else { "default" }.into(), absent.user.clone())
    }

    /// What must be held for a user, and what may be.
    fn bounds(&self, leaf: &Leaf, now: i64) -> [Amounts; 2] {
        [true, false].map(|sure| {
            let of = |absent: &&Absent| absent.until > now && self.leaf(absent) == *leaf;
            let held = self.absent.iter().filter(of).filter(|absent| absent.sure || !sure);
            let named = self.named();
            held.map(|absent| only(&named, absent.requests)).fold(NONE, plus)
        })
    }
}

impl World {
    /// F1: what is held for pods that may come again, by user, if it can be right.
    pub(crate) fn awaited(&self) -> BTreeMap<Leaf, Amounts> {
        let mut held: BTreeMap<Leaf, Amounts> = BTreeMap::new();
        for (leaf, resource, amount) in self.scheduler.awaited() {
            let (queue, user) = leaf.rsplit_once('/').expect("a leaf is a user of a queue");
            let leaf = (queue.into(), user.into());
            let at = SHARED.iter().position(|name| *name == resource);
            if let Some(at) = at {
                held.entry(leaf).or_default()[at] += amount;
            }
        }
        let absent = self.shadow.absent.iter().map(|absent| self.shadow.leaf(absent));
        let leaves: BTreeSet<Leaf> = held.keys().cloned().chain(absent).collect();
        for leaf in leaves {
            let [least, most] = self.shadow.bounds(&leaf, self.now);
            let held = held.get(&leaf).copied().unwrap_or_default();
            let right = |at: usize| (least[at]..=most[at]).contains(&held[at]);
            assert!(
                (0..SHARED.len()).all(right),
                "F1: for what was evicted of {leaf:?} {held:?} is held, not {least:?} to {most:?}"
            );
        }
        held
    }
}
