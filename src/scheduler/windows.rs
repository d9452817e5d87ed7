//! The windows of queues: what is closed now, and when to look again.
//!
//! Out of its dispatch window a queue, with all below it, starts nothing new; a gang that has begun
//! may complete its minimum, but does not grow. Out of its run window neither, and what runs goes
//! on, but the queue deserves nothing: what its gangs hold is borrowed, and others who are entitled
//! to it take it back. Nothing is evicted because a clock struck.

use super::{Scheduler, WindowState};
use crate::fairshare::QueueIndex;
use crate::model::windows::Opening;
use crate::model::{Timestamp, WallTime};
use crate::queue::GroupIndex;
use std::collections::BTreeMap;

/// How the windows of queues stand.
#[derive(Debug, Default)]
pub(super) struct Doors {
    /// of the queues that have windows
    own: BTreeMap<QueueIndex, Opening>,
    /// when one changes next
    due: Option<Timestamp>,
}

impl Scheduler {
    /// Takes in that the wall clock shows this now.
    pub(super) fn clock_set(&mut self, wall: WallTime) {
        self.wall_ahead_ms = wall.0.saturating_sub(self.now.0);
        if !self.doors.own.is_empty() {
            self.doors.due = Some(self.now);
        }
    }

    /// Looks at the windows of a new tree. O(queues with windows).
    pub(super) fn renew_doors(&mut self) {
        self.doors = Doors::default();
        let wall = self.wall();
        for queue in self.fair.declared() {
            let Some(windows) = &self.fair.spec(queue).windows else { continue };
            self.doors.own.insert(queue, windows.at(wall));
        }
        for (queue, opening) in &self.doors.own {
            self.fair.set_shut(*queue, !opening.runs);
        }
        self.doors.due = self.next_turn();
    }

    /// Opens and closes what is due. O(queues with windows + groups), when something is.
    pub(super) fn turn_doors(&mut self) {
        if self.doors_due().is_none_or(|due| due > self.now) {
            return;
        }
        let wall = self.wall();
        let mut turned = Vec::new();
        for (queue, opening) in &mut self.doors.own {
            let windows = self.fair.spec(*queue).windows.as_ref();
            let Some(found) = windows.map(|windows| windows.at(wall)) else { continue };
            let old = std::mem::replace(opening, found);
            if (old.runs, old.dispatches) != (found.runs, found.dispatches) {
                turned.push((*queue, !found.runs));
            }
        }
        self.doors.due = self.next_turn();
        if turned.is_empty() {
            return;
        }
        for (queue, shut) in &turned {
            self.fair.set_shut(*queue, *shut);
        }
        self.demands_changed += 1;
        self.queues_changed += 1;
        let below = |leaf| self.fair.path(leaf).any(|at| turned.iter().any(|(q, _)| *q == at));
        let groups = self.groups.iter();
        let groups = groups.filter(|(_, group)| group.leaf.is_some_and(below));
        let groups: Vec<GroupIndex> = groups.map(|(index, _)| index).collect();
        groups.into_iter().for_each(|index| self.mark(index));
    }

    /// When a window opens or closes next.
    pub(super) fn doors_due(&self) -> Option<Timestamp> {
        self.doors.due
    }

    fn next_turn(&self) -> Option<Timestamp> {
        let next = self.doors.own.values().filter_map(|opening| opening.until).min()?;
        Some(Timestamp(next.0.saturating_sub(self.wall_ahead_ms)))
    }

    /// How the windows of a queue and of those above it stand. O(depth).
    pub(super) fn window_state(&self, queue: QueueIndex) -> Option<WindowState> {
        let own = self.fair.path(queue).filter_map(|queue| self.doors.own.get(&queue));
        let state = own.map(|opening| match (opening.runs, opening.dispatches) {
            (false, _) => WindowState::RunClosed,
            (true, false) => WindowState::DispatchClosed,
            (true, true) => WindowState::Open,
        });
        state.max()
    }

    /// The window that keeps a group from starting, or growing. O(depth).
    pub(super) fn out_of_window(&self, index: GroupIndex) -> Option<String> {
        let group = self.groups.get(index);
        let completes = group.counts.settled() > 0 && group.needed() > 0;
        let leaf = group.leaf.filter(|_| !completes && !self.doors.own.is_empty())?;
        let closed = |queue: QueueIndex| {
            let opening = self.doors.own.get(&queue)?;
            let spec = self.fair.spec(queue);
            let windows = spec.windows.as_ref()?;
            let (kind, text) = match (opening.runs, opening.dispatches) {
                (false, _) => ("run", windows.run_text()),
                (true, false) => ("dispatch", windows.dispatch_text()),
                (true, true) => return None,
            };
            Some(format!("queue {} is out of its {kind} window, {text}", spec.name))
        };
        self.fair.path(leaf).skip(1).find_map(closed)
    }
}
