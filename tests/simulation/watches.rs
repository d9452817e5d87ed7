//! The watches: each kind is late by itself, is heard twice, or breaks and is listed anew.

use crate::history::Fault;
use crate::world::World;
use mss_scheduler::model::WallTime;
use mss_scheduler::scheduler::{Event, Kind};
use std::collections::VecDeque;

/// News arrives within this time: less than what makes a gang count as having been whole.
const LAG_MS_MAX: i64 = 5_000;

const KINDS: [Kind; 4] = [Kind::Queue, Kind::Node, Kind::Pod, Kind::Namespace];

/// News on its way, by kind, with the time at which it was sent.
#[derive(Default)]
pub(crate) struct Watches {
    news: [VecDeque<(i64, Event)>; 4],
    /// until when nothing of a kind is heard, unless it is late
    slow_until: [i64; 4],
}

/// The place of a kind's watch. What has no kind comes with the namespaces.
fn place(event: &Event) -> usize {
    match event {
        Event::QueueApplied(_) | Event::QueueDeleted(_) => 0,
        Event::NodeApplied(_) | Event::NodeDeleted(_) => 1,
        Event::PodApplied(_) | Event::PodDeleted(_) => 2,
        Event::ListStarted(kind) | Event::ListEnded(kind) => {
            KINDS.iter().position(|known| known == kind).expect("all kinds are there")
        }
        _ => 3,
    }
}

impl World {
    pub(crate) fn send(&mut self, event: Event) {
        self.watches.news[place(&event)].push_back((self.now, event));
    }

    /// What is next of some kind.
    pub(crate) fn hear(&mut self) {
        let ready = |at: &usize| {
            !self.watches.news[*at].is_empty() && self.watches.slow_until[*at] <= self.now
        };
        let ready: Vec<usize> = (0..KINDS.len()).filter(ready).collect();
        if !ready.is_empty() {
            let at = self.random.below(ready.len() as u64);
            self.hear_of(ready[usize::try_from(at).expect("small")]);
        }
    }

    fn hear_of(&mut self, at: usize) {
        let Some((_, mut event)) = self.watches.news[at].pop_front() else { return };
        if let Event::Leading(leadership) = &mut event {
            leadership.wall = WallTime(self.now);
        }
        let begins = matches!(event, Event::Leading(_) | Event::ListStarted(_));
        let object = !begins && !matches!(event, Event::ListEnded(_));
        if object && self.strikes(Fault::Doubled, 24) {
            self.tally.doubled += 1;
            self.tell(event.clone());
        }
        self.tell(event);
    }

    pub(crate) fn hear_what_is_late(&mut self) {
        let due = self.now - LAG_MS_MAX;
        for at in 0..KINDS.len() {
            while self.watches.news[at].front().is_some_and(|(sent, _)| *sent < due) {
                self.hear_of(at);
            }
        }
    }

    pub(crate) fn hear_all(&mut self) {
        for at in 0..KINDS.len() {
            while !self.watches.news[at].is_empty() {
                self.hear_of(at);
            }
        }
    }

    /// Whether all is heard of, and nothing is asked for.
    pub(crate) fn is_quiet(&self) -> bool {
        self.tasks.is_empty() && self.watches.news.iter().all(VecDeque::is_empty)
    }

    /// One kind is heard of late.
    pub(crate) fn slow_down(&mut self) {
        let at = usize::try_from(self.random.below(4)).expect("small");
        let delay = i64::try_from(self.random.below(10_000)).expect("small");
        if !self.is_off(Fault::SlowWatch) {
            self.tally.slow_watches += 1;
            self.watches.slow_until[at] = self.now + delay;
        }
    }

    /// A watch breaks, or all do; what was on its way is lost, and a list makes up for it.
    pub(crate) fn miss_news(&mut self) {
        if self.is_off(Fault::Relist) {
            return;
        }
        self.tally.relists += 1;
        match usize::try_from(self.random.below(6)).expect("small") {
            at @ 0..=2 => {
                self.tally.dropped_news += self.watches.news[at].len() as u64;
                self.list(at);
            }
            _ => self.relist(),
        }
    }

    pub(crate) fn relist(&mut self) {
        (0..KINDS.len()).for_each(|at| self.list(at));
    }

    fn list(&mut self, at: usize) {
        let kind = KINDS[at];
        self.watches.news[at].retain(|(_, event)| matches!(event, Event::Leading(_)));
        self.send(Event::ListStarted(kind));
        let nodes = self.nodes.values().filter(|_| kind == Kind::Node);
        let nodes = nodes.map(|node| Event::NodeApplied(Box::new(node.clone())));
        let pods = self.pods.values().filter(|_| kind == Kind::Pod);
        let pods = pods.map(|truth| Event::PodApplied(Box::new(truth.pod.clone())));
        let queues = self.queues.values().filter(|_| kind == Kind::Queue);
        let queues = queues.map(|spec| Event::QueueApplied(Box::new(spec.clone())));
        let budgets = self.budgets.values().filter(|_| kind == Kind::Namespace);
        let budgets = budgets.map(|budget| Event::BudgetApplied(Box::new(budget.clone())));
        let objects: Vec<Event> = nodes.chain(pods).chain(queues).chain(budgets).collect();
        objects.into_iter().for_each(|event| self.send(event));
        self.send(Event::ListEnded(kind));
    }
}
