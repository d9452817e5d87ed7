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
        (group.countable < group.min_member)
            .then(|| format!("{} of {} members exist", group.countable, group.min_member))
    }
}
