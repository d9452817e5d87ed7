//! The tree of queues as it is declared.

use super::Scheduler;
use super::calls::{CallId, EvictOutcome};
use crate::model::{QueueSpec, Timestamp, Uid};

impl Scheduler {
    pub(super) fn queue_applied(&mut self, _spec: QueueSpec) {}

    pub(super) fn queue_deleted(&mut self, _name: &str) {}

    pub(super) fn evict_finished(
        &mut self,
        now: Timestamp,
        call: CallId,
        _pod: Uid,
        outcome: &EvictOutcome,
    ) {
        self.settle(now, call, *outcome != EvictOutcome::Evicted);
    }
}
