//! SchedulingGates: a pod with `spec.schedulingGates` does not count and is not tried.

use crate::framework::{GroupFacts, Plugin, PreEnqueue};

#[derive(Debug)]
pub(super) struct SchedulingGates;

impl Plugin for SchedulingGates {
    fn name(&self) -> &'static str {
        "SchedulingGates"
    }
}

impl PreEnqueue for SchedulingGates {
    fn pre_enqueue(&self, group: &GroupFacts<'_>) -> Option<String> {
        let held = group.gated > 0 && group.countable < group.min_member;
        held.then(|| format!("{} members have scheduling gates", group.gated))
    }
}
