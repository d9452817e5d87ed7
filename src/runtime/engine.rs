//! The one task that owns the scheduler.

use super::observe::{add_tallies, count_attempts, show_gauges};
use crate::kubernetes::Clock;
use crate::model::Timestamp;
use crate::scheduler::{ApiCall, Event, Scheduler, Tallies};
use crate::telemetry::Metrics;
use crate::telemetry::http::Health;
use std::collections::VecDeque;
use std::sync::Arc;
use std::time::{Duration, Instant};
use tokio::sync::mpsc;

/// Events taken in between two cycles at most.
const BATCH: usize = 1024;
/// How often the engine shows life when nothing happens, and brings gauges up to date when much
/// does.
const HEARTBEAT: Duration = Duration::from_secs(10);
/// From which difference on the wall clock counts as set.
const CLOCK_SET_MS: u64 = 500;
const GAUGES: Duration = Duration::from_secs(1);

pub(super) struct Engine {
    scheduler: Scheduler,
    clock: Clock,
    calls: mpsc::Sender<ApiCall>,
    /// calls that the dispatcher had no room for
    outgoing: VecDeque<ApiCall>,
    metrics: Arc<Metrics>,
    health: Arc<Health>,
    /// wall time less monotonic time, as the scheduler knows it
    wall_ahead_ms: Option<i64>,
    /// gauges are behind since then
    stale_since: Option<Instant>,
    /// what the counters show already
    tallies: Tallies,
}

impl Engine {
    pub(super) fn new(
        scheduler: Scheduler,
        clock: Clock,
        calls: mpsc::Sender<ApiCall>,
        metrics: Arc<Metrics>,
        health: Arc<Health>,
    ) -> Self {
        let outgoing = VecDeque::new();
        let tallies = Tallies::default();
        Self {
            scheduler,
            clock,
            calls,
            outgoing,
            metrics,
            health,
            wall_ahead_ms: None,
            stale_since: None,
            tallies,
        }
    }

    /// Runs until nobody sends events any more or nobody takes calls.
    pub(super) async fn run(mut self, mut events: mpsc::Receiver<Event>) {
        let mut batch = Vec::with_capacity(BATCH);
        loop {
            let idle = self.outgoing.is_empty();
            let busy = idle && self.scheduler.has_work();
            let wake = self.wake_at();
            let calls = self.calls.clone();
            tokio::select! {
                biased;
                room = calls.reserve(), if !idle => match (room, self.outgoing.pop_front()) {
                    (Ok(room), Some(call)) => room.send(call),
                    _ => return self.see_out(events).await,
                },
                count = events.recv_many(&mut batch, BATCH) => {
                    if count == 0 {
                        return;
                    }
                    self.take_in(&mut batch);
                }
                () = std::future::ready(()), if busy => {}
                () = tokio::time::sleep_until(wake.into()) => {}
            }
            self.health.beat();
            self.look_at_clock();
            if self.outgoing.is_empty() {
                self.decide();
            }
            self.show();
        }
    }

    /// When to look again if nothing happens.
    fn wake_at(&self) -> Instant {
        let now = Instant::now();
        let timer = self.scheduler.next_deadline().map(|at| self.clock.instant(at));
        let gauges = self.stale_since.map(|since| since + GAUGES);
        let times = [timer, gauges].into_iter().flatten();
        times.min().map_or(now + HEARTBEAT, |at| at.min(now + HEARTBEAT))
    }

    fn now(&self) -> Timestamp {
        self.clock.now()
    }

    /// Tells the scheduler when the wall clock was set, or the machine slept.
    fn look_at_clock(&mut self) {
        let now = self.now();
        let wall = Clock::wall();
        let ahead = wall.0.saturating_sub(now.0);
        let known = self.wall_ahead_ms.get_or_insert(ahead);
        if known.abs_diff(ahead) >= CLOCK_SET_MS {
            *known = ahead;
            self.scheduler.handle(now, Event::ClockSet(wall));
        }
    }

    fn take_in(&mut self, batch: &mut Vec<Event>) {
        let began = Instant::now();
        let now = self.now();
        for event in batch.drain(..) {
            self.scheduler.handle(now, event);
        }
        self.metrics.handle_duration.observe(began.elapsed().as_secs_f64());
        self.stale_since.get_or_insert(began);
        self.health.set_synced(self.scheduler.is_synced());
    }

    fn decide(&mut self) {
        let due = self.scheduler.next_deadline().is_some_and(|at| at <= self.now());
        if !due && !self.scheduler.has_work() {
            return;
        }
        let began = Instant::now();
        let report = self.scheduler.cycle(self.now());
        let took = began.elapsed();
        self.metrics.cycle_duration.observe(took.as_secs_f64());
        self.stale_since.get_or_insert(began);
        if !report.attempts.is_empty() {
            count_attempts(&self.metrics, &report, took);
        }
        self.outgoing.extend(report.calls);
        while let Some(call) = self.outgoing.pop_front() {
            if let Err(error) = self.calls.try_send(call) {
                // full or closed: the next wait finds out which
                self.outgoing.push_front(error.into_inner());
                break;
            }
        }
    }

    fn show(&mut self) {
        if self.stale_since.is_some_and(|since| since.elapsed() >= GAUGES) {
            self.stale_since = None;
            show_gauges(&self.metrics, &self.scheduler.gauges());
            let tallies = self.scheduler.tallies();
            add_tallies(&self.metrics, &self.tallies, &tallies);
            self.tallies = tallies;
        }
    }

    /// The dispatcher has stopped taking calls: only its last answers are heard.
    async fn see_out(mut self, mut events: mpsc::Receiver<Event>) {
        while let Some(event) = events.recv().await {
            self.health.beat();
            let now = self.now();
            self.scheduler.handle(now, event);
        }
    }
}
