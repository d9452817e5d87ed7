//! How queues stand, on its way to their objects: the newest of each, one write at a time.

use super::super::tell::{QueueStatus, Write};
use super::{Dispatcher, Done};
use crate::scheduler::Standing;
use jiff::Timestamp;
use rustc_hash::{FxHashMap, FxHashSet};
use std::collections::BTreeMap;

/// What waits to be written.
#[derive(Default)]
pub(super) struct Standings {
    waiting: BTreeMap<Box<str>, QueueStatus>,
    in_flight: FxHashSet<Box<str>>,
    /// whether the object is in force, and since when
    since: FxHashMap<Box<str>, (bool, Timestamp)>,
}

impl Standings {
    /// Queues of which something waits and may leave.
    pub(super) fn ready(&self) -> bool {
        self.waiting.keys().any(|queue| !self.in_flight.contains(queue))
    }

    pub(super) fn len(&self) -> usize {
        self.waiting.len()
    }

    /// Takes in how a queue stands now.
    pub(super) fn take_in(&mut self, standing: Standing) {
        let as_of = Timestamp::now();
        let in_force = standing.facts.fault.is_none();
        let since = self.since.entry(standing.queue.clone()).or_insert((in_force, as_of));
        if since.0 != in_force {
            *since = (in_force, as_of);
        }
        let since = since.1;
        self.waiting.insert(standing.queue.clone(), QueueStatus { standing, as_of, since });
    }

    fn next(&mut self) -> Option<QueueStatus> {
        let mut free = self.waiting.keys().filter(|queue| !self.in_flight.contains(*queue));
        let queue = free.next()?.clone();
        let status = self.waiting.remove(&queue)?;
        self.in_flight.insert(queue);
        Some(status)
    }

    /// Takes in that a write has ended; one that failed is made again, unless there is news.
    pub(super) fn written(&mut self, status: QueueStatus, done: bool) {
        let queue = status.standing.queue.clone();
        self.in_flight.remove(&queue);
        if !done {
            self.waiting.entry(queue).or_insert(status);
        }
    }
}

impl Dispatcher {
    /// Starts the next write, if there is one that may leave.
    pub(super) fn start_standing(&mut self) -> bool {
        let Some(status) = self.standings.next() else { return false };
        let teller = self.teller.clone();
        self.writes_in_flight += 1;
        self.in_flight.push(Box::pin(async move {
            let write = Write::Queue(Box::new(status));
            let done = teller.write(&write).await;
            let Write::Queue(status) = write else { unreachable!("it is the one made above") };
            Done::Shown { status, done }
        }));
        true
    }
}
