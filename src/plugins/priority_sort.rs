//! PrioritySort: higher priority first, then the older group.

use crate::framework::{OrderFacts, Plugin, QueueSort};

#[derive(Debug)]
pub(super) struct PrioritySort;

impl Plugin for PrioritySort {
    fn name(&self) -> &'static str {
        "PrioritySort"
    }
}

impl QueueSort for PrioritySort {
    fn key(&self, group: &OrderFacts) -> (i64, i64) {
        (-i64::from(group.priority), group.created.0)
    }
}
