//! GangGate: a gang waits, holding nothing, until enough members exist and agree.

use crate::framework::{GroupFacts, Plugin, PreEnqueue};

#[derive(Debug)]
pub(super) struct GangGate;

impl Plugin for GangGate {
    fn name(&self) -> &'static str {
        "GangGate"
    }
}

impl PreEnqueue for GangGate {
    fn pre_enqueue(&self, group: &GroupFacts<'_>) -> Option<String> {
        if let Some(conflict) = group.conflict {
            return Some(format!("members disagree: {conflict}"));
        }
        if group.countable < group.min_member {
            return Some(format!("{} of {} members exist", group.countable, group.min_member));
        }
        let (task, countable, min) = group.lacking?;
        Some(format!("{countable} of {min} members of task group {task} exist"))
    }
}
