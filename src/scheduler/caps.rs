//! Caps on how many gangs of a queue run and wait, and how large they may be.

use super::Scheduler;
use crate::fairshare::QueueIndex;
use crate::model::Caps;
use crate::queue::{GroupIndex, Home};
use rustc_hash::FxHashMap;
use std::collections::BTreeSet;

/// Groups by queue and leaf, as far as caps ask.
#[derive(Debug, Default)]
pub(super) struct Counted {
    /// some queue has caps; otherwise nothing is counted
    in_use: bool,
    running: FxHashMap<QueueIndex, u32>,
    pending: FxHashMap<QueueIndex, u32>,
    /// how each group is counted
    by_group: FxHashMap<GroupIndex, (QueueIndex, Standing)>,
    /// groups that a cap on pending ones holds in the gate, oldest first, by the capped queue
    held: FxHashMap<QueueIndex, BTreeSet<(i64, GroupIndex)>>,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Standing {
    Running,
    Pending,
}

impl Counted {
    /// Begins anew, for a tree with caps or without.
    pub(super) fn clear(&mut self, in_use: bool) {
        *self = Self { in_use, ..Self::default() };
    }

    fn of(&mut self, standing: Standing) -> &mut FxHashMap<QueueIndex, u32> {
        match standing {
            Standing::Running => &mut self.running,
            Standing::Pending => &mut self.pending,
        }
    }
}

impl Scheduler {
    fn caps(&self, queue: QueueIndex) -> &Caps {
        &self.fair.spec(queue).caps
    }

    /// Brings the counts in line with where a group is now. A group runs from its first seat on.
    pub(super) fn count_group(&mut self, index: GroupIndex) {
        if !self.counted.in_use {
            return;
        }
        let group = self.groups.get(index);
        let waits = !matches!(group.home, Home::Gate | Home::Idle);
        let standing = match (group.counts.settled() > 0, waits) {
            (true, _) => Some(Standing::Running),
            (false, true) => Some(Standing::Pending),
            (false, false) => None,
        };
        let now = group.leaf.zip(standing);
        self.count_as(index, now);
    }

    /// Ends a group's part in the counts.
    pub(super) fn uncount_group(&mut self, index: GroupIndex) {
        self.count_as(index, None);
    }

    fn count_as(&mut self, index: GroupIndex, now: Option<(QueueIndex, Standing)>) {
        let before = match now {
            Some(now) => self.counted.by_group.insert(index, now),
            None => self.counted.by_group.remove(&index),
        };
        if before == now {
            return;
        }
        for (counted, up) in [(before, false), (now, true)] {
            let Some((leaf, standing)) = counted else { continue };
            let path: Vec<QueueIndex> = self.fair.path(leaf).collect();
            for queue in path {
                let count = self.counted.of(standing).entry(queue).or_default();
                *count = if up { *count + 1 } else { *count - 1 };
                if !up && standing == Standing::Pending {
                    self.admit_held(queue);
                }
            }
            self.quota_freed |= !up && standing == Standing::Running;
        }
    }

    /// Has the oldest group that the queue's cap holds looked at again.
    fn admit_held(&mut self, queue: QueueIndex) {
        let Some(held) = self.counted.held.get_mut(&queue) else { return };
        while let Some((_, index)) = held.pop_first() {
            if self.groups.is_live(index) && self.groups.get(index).home == Home::Gate {
                self.mark(index);
                return;
            }
        }
    }

    /// The queue or user whose cap on running gangs keeps a group from starting. O(depth).
    pub(super) fn too_many_run(&self, index: GroupIndex) -> Option<QueueIndex> {
        let group = self.groups.get(index);
        let leaf = group.leaf.filter(|_| group.counts.settled() == 0)?;
        let capped = |queue: &QueueIndex| {
            let caps = self.caps(*queue);
            let most =
                if *queue == leaf { caps.running_gangs_per_user } else { caps.running_gangs };
            let running = self.counted.running.get(queue).copied().unwrap_or(0);
            most.is_some_and(|most| running >= most)
        };
        self.fair.path(leaf).find(capped)
    }

    /// Why the queue's caps keep a group in the gate.
    pub(super) fn held_by_caps(&mut self, index: GroupIndex) -> Option<String> {
        let group = self.groups.get(index);
        if group.counts.settled() > 0 || !self.counted.in_use {
            return None;
        }
        let (leaf, created) = (group.leaf?, group.created.0);
        let waits = !matches!(group.home, Home::Gate | Home::Idle);
        let queues: Vec<QueueIndex> = self.fair.path(leaf).skip(1).collect();
        for queue in queues {
            let caps = *self.caps(queue);
            if let Some(most) = caps.gang_gpus {
                let gpus = self.gpus_needed(index);
                if gpus > i64::from(most) {
                    let name = self.fair.name(queue);
                    return Some(format!(
                        "it needs {gpus} GPUs, and queue {name} takes gangs of at most {most}"
                    ));
                }
            }
            let pending = self.counted.pending.get(&queue).copied().unwrap_or(0);
            if let Some(most) = caps.pending_gangs.filter(|most| pending >= *most && !waits) {
                self.counted.held.entry(queue).or_default().insert((created, index));
                let name = self.fair.name(queue);
                return Some(format!("{pending} gangs of queue {name} wait, its cap is {most}"));
            }
        }
        None
    }
}
