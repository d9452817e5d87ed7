//! Carries out the scheduler's calls: binds and evictions at once and in parallel, the telling
//! behind them.
//!
//! One task owns all queues, so at most one call per pod is in flight: a bind waits for a condition
//! patch of the same pod that is on its way, and drops one that is still queued. An event costs the
//! API server as much as a bind; events and conditions therefore leave when no bind waits, or when
//! the oldest of them has waited a while.

mod standings;
mod victims;

use super::bind::Binder;
use super::client::Connection;
use super::lease::Fence;
use super::tell::{About, EventText, Note, QueueStatus, Teller, Write};
use super::watch::jobs::Job;
use crate::model::{ClaimState, Uid};
use crate::scheduler::{
    ApiCall, BindMember, BindOutcome, CallId, DeleteOutcome, Event, EvictOutcome, NodeNews, PodRef,
    Telling, Victim,
};
use futures::StreamExt;
use futures::future::BoxFuture;
use futures::stream::FuturesUnordered;
use rustc_hash::{FxHashMap, FxHashSet};
use standings::Standings;
use std::collections::VecDeque;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::time::{Duration, Instant};
use tokio::sync::{mpsc, oneshot};
use victims::Victims;

/// How long the telling may wait behind binds before a little of it goes out between them.
const PATIENCE: Duration = Duration::from_secs(5);
/// Writes of the telling that may be in flight while binds wait.
const BESIDE_BINDS: usize = 2;

/// Bounds; see the configuration's `limits`.
#[derive(Clone, Debug)]
pub struct Limits {
    /// Binds and deletions in flight, and beside them as many evictions.
    pub binds_in_flight: usize,
    /// How long one request may take.
    pub deadline: Duration,
    /// Events and conditions in flight.
    pub writes_in_flight: usize,
    /// Events that wait; beyond it the oldest is dropped and counted.
    pub events_queued: usize,
    /// How long to wait for what is in flight when shutting down.
    pub drain: Duration,
}

/// Who the dispatcher says it is, in events.
#[derive(Clone, Debug)]
pub struct Identity {
    /// `reportingController`: the scheduler's name.
    pub controller: String,
    /// `reportingInstance`: which of its processes.
    pub instance: String,
}

/// What the dispatcher counts.
pub trait Observer: Send + Sync + 'static {
    /// A bind has its answer, after so long.
    fn bound(&self, profile: u8, outcome: &BindOutcome, took: Duration);
    /// An answer was lost and the bind is repeated.
    fn bind_unknown(&self);
    /// An eviction has its answer.
    fn evicted(&self, outcome: &EvictOutcome);
    /// Events that were dropped, as too many waited.
    fn events_dropped(&self, count: u64);
    /// Calls queued and in flight, and writes queued.
    fn queued(&self, binds: usize, writes: usize);
}

enum Done {
    Bind { call: CallId, member: BindMember, outcome: BindOutcome, claims: Vec<ClaimState> },
    Delete { call: CallId, pod: PodRef, outcome: DeleteOutcome },
    Evict { call: CallId, victim: Victim, outcome: EvictOutcome },
    Told { condition: Option<Uid> },
    Shown { status: Box<QueueStatus>, done: bool },
}

/// The dispatcher's queues.
pub struct Dispatcher {
    binder: Arc<Binder>,
    teller: Arc<Teller>,
    limits: Limits,
    observer: Arc<dyn Observer>,
    replies: mpsc::Sender<Event>,
    binds: VecDeque<(CallId, u8, BindMember)>,
    deletes: VecDeque<(CallId, PodRef)>,
    conditions: VecDeque<Uid>,
    condition_of: FxHashMap<Uid, (PodRef, Telling, bool)>,
    events: VecDeque<EventText>,
    waiting_since: Option<Instant>,
    victims: Victims,
    standings: Standings,
    /// that the scheduler waits for
    answers: VecDeque<Event>,
    /// pods with a patch or an eviction in flight, and the bind that waits for it
    telling: FxHashSet<Uid>,
    held_binds: FxHashMap<Uid, (CallId, u8, BindMember)>,
    calls_in_flight: usize,
    writes_in_flight: usize,
    in_flight: FuturesUnordered<BoxFuture<'static, Done>>,
}

impl Dispatcher {
    /// A dispatcher that sends its replies to `replies`.
    #[must_use]
    pub fn new(
        connection: Connection,
        fence: Fence,
        limits: Limits,
        identity: Identity,
        replies: mpsc::Sender<Event>,
        observer: Arc<dyn Observer>,
    ) -> Self {
        let binder = Binder {
            connection: connection.clone(),
            fence,
            deadline: limits.deadline,
            draining: AtomicBool::new(false),
        };
        let teller = Teller {
            connection,
            deadline: limits.deadline,
            controller: identity.controller,
            instance: identity.instance.chars().take(128).collect(),
            epoch: u64::try_from(jiff::Timestamp::now().as_microsecond()).unwrap_or(0),
            counter: AtomicU64::new(0),
        };
        Self {
            binder: Arc::new(binder),
            teller: Arc::new(teller),
            limits,
            observer,
            replies,
            binds: VecDeque::new(),
            deletes: VecDeque::new(),
            conditions: VecDeque::new(),
            condition_of: FxHashMap::default(),
            events: VecDeque::new(),
            waiting_since: None,
            victims: Victims::default(),
            standings: Standings::default(),
            answers: VecDeque::new(),
            telling: FxHashSet::default(),
            held_binds: FxHashMap::default(),
            calls_in_flight: 0,
            writes_in_flight: 0,
            in_flight: FuturesUnordered::new(),
        }
    }

    /// Works until `stop`, then sees out what is in flight and ends.
    pub async fn run(
        mut self,
        mut calls: mpsc::Receiver<ApiCall>,
        mut jobs: mpsc::Receiver<Job>,
        mut stop: oneshot::Receiver<()>,
    ) {
        loop {
            self.fill();
            self.show_queues();
            tokio::select! {
                biased;
                _ = &mut stop => break,
                Some(done) = self.in_flight.next() => self.finish(done),
                call = calls.recv() => match call {
                    Some(call) => self.accept(call),
                    None => break,
                },
                Some(job) = jobs.recv() => self.warn_job(job),
            }
            self.answer().await;
        }
        self.drain(&mut calls).await;
    }

    fn show_queues(&self) {
        let binds = self.binds.len() + self.held_binds.len();
        let evictions = self.victims.evictions() + self.victims.in_flight;
        let calls = binds + evictions + self.calls_in_flight;
        let conditions = self.conditions.len() + self.victims.notices();
        let writes = self.events.len() + conditions + self.standings.len();
        self.observer.queued(calls, writes);
    }

    fn accept(&mut self, call: ApiCall) {
        match call {
            ApiCall::Bind { call, profile, members } => {
                for member in members {
                    let uid = member.pod.uid;
                    // what was to be said of the pod is not true any more
                    self.condition_of.remove(&uid);
                    if self.telling.contains(&uid) {
                        self.held_binds.insert(uid, (call, profile, member));
                    } else {
                        self.binds.push_back((call, profile, member));
                    }
                }
            }
            ApiCall::Delete { call, pods, note } => {
                self.delete(call, pods, &note, ("GangRolledBack", "Binding"));
            }
            ApiCall::End { call, pods, note } => {
                self.delete(call, pods, &note, ("RunLimitExceeded", "Ending"));
            }
            ApiCall::Warn { pods, note, evict_in_ms } => self.warn(pods, &note, evict_in_ms),
            ApiCall::Spare { pods, note } => self.spare(pods, &note),
            ApiCall::Report { pods, note } => {
                for pod in pods {
                    let note = Note::Text(note.clone());
                    self.queue_event(&pod, false, "WouldBePreempted", "Preempting", note);
                }
            }
            ApiCall::Evict { call, victims } => self.evict(call, victims),
            ApiCall::Withdraw { calls } => self.withdraw(&calls),
            ApiCall::NoteIgnored { pod, note } => {
                self.queue_event(&pod, true, "QueueEditIgnored", "Scheduling", Note::Text(note));
            }
            ApiCall::TellHolder { pod, note } => {
                self.queue_event(&pod, true, "GpuHolderRefused", "Reading", Note::Text(note));
            }
            ApiCall::TellNode { node, news, note } => self.push_event(EventText {
                about: About::Node(node),
                warning: news != NodeNews::QuarantineEnded,
                reason: match news {
                    NodeNews::Quarantined => "NodeQuarantined",
                    NodeNews::QuarantineEnded => "NodeQuarantineEnded",
                    NodeNews::GpuTopologyRefused => "GpuTopologyRefused",
                    NodeNews::SlotsRefused => "SlotsRefused",
                },
                action: match news {
                    NodeNews::GpuTopologyRefused | NodeNews::SlotsRefused => "Reading",
                    NodeNews::Quarantined | NodeNews::QuarantineEnded => "Quarantine",
                },
                note: Note::Text(note),
            }),
            ApiCall::ShowQueue(standing) => self.standings.take_in(*standing),
            ApiCall::Tell { pods, telling, first } => {
                pods.into_iter().for_each(|pod| self.tell(pod, &telling, first));
            }
        }
    }

    fn delete(
        &mut self,
        call: CallId,
        pods: Vec<PodRef>,
        note: &Arc<str>,
        (reason, action): (&'static str, &'static str),
    ) {
        for pod in pods {
            self.queue_event(&pod, true, reason, action, Note::Text(note.clone()));
            self.deletes.push_back((call, pod));
        }
    }

    fn tell(&mut self, pod: PodRef, telling: &Telling, first: bool) {
        let note = Note::Text(telling.message.clone());
        self.queue_event(&pod, true, "FailedScheduling", "Scheduling", note);
        let uid = pod.uid;
        let old = self.condition_of.insert(uid, (pod, telling.clone(), first));
        match old {
            None => self.conditions.push_back(uid),
            Some((_, _, was_first)) if was_first => {
                if let Some(entry) = self.condition_of.get_mut(&uid) {
                    entry.2 = true;
                }
            }
            Some(_) => {}
        }
    }

    fn queue_event(
        &mut self,
        pod: &PodRef,
        warning: bool,
        reason: &'static str,
        action: &'static str,
        note: Note,
    ) {
        let about = About::Pod(pod.clone());
        self.push_event(EventText { about, warning, reason, action, note });
    }

    /// Evictions count as failures of a Job.
    fn warn_job(&mut self, job: Job) {
        let note = "an eviction that makes room for others counts as a failure of this Job, and at \
                    its backoffLimit it fails: give it restartPolicy Never and a podFailurePolicy \
                    that ignores the pod condition DisruptionTarget";
        self.push_event(EventText {
            about: About::Job(job),
            warning: true,
            reason: "EvictionsCountAsFailures",
            action: "Preempting",
            note: Note::Text(note.into()),
        });
    }

    fn push_event(&mut self, event: EventText) {
        if self.events.len() >= self.limits.events_queued {
            self.events.pop_front();
            self.observer.events_dropped(1);
        }
        self.events.push_back(event);
    }

    /// Starts what may be started.
    fn fill(&mut self) {
        while self.start_evict() {}
        while self.calls_in_flight < self.limits.binds_in_flight {
            if let Some((call, pod)) = self.deletes.pop_front() {
                self.start_delete(call, pod);
            } else if let Some((call, profile, member)) = self.binds.pop_front() {
                self.start_bind(call, profile, member);
            } else {
                break;
            }
        }
        let binding = self.calls_in_flight + self.victims.in_flight > 0;
        let conditions = self.conditions.len() + self.victims.notices();
        if self.events.is_empty() && conditions == 0 && !self.standings.ready() {
            self.waiting_since = None;
            return;
        }
        let since = *self.waiting_since.get_or_insert_with(Instant::now);
        let room = match binding {
            false => self.limits.writes_in_flight,
            true if since.elapsed() >= PATIENCE => BESIDE_BINDS,
            true => 0,
        };
        while self.writes_in_flight < room && self.start_write() {}
    }

    fn start_bind(&mut self, call: CallId, profile: u8, member: BindMember) {
        let (binder, observer) = (self.binder.clone(), self.observer.clone());
        self.calls_in_flight += 1;
        self.in_flight.push(Box::pin(async move {
            let began = Instant::now();
            let (outcome, claims) = binder.bind(&member, || observer.bind_unknown()).await;
            observer.bound(profile, &outcome, began.elapsed());
            Done::Bind { call, member, outcome, claims }
        }));
    }

    fn start_delete(&mut self, call: CallId, pod: PodRef) {
        let binder = self.binder.clone();
        self.calls_in_flight += 1;
        self.in_flight.push(Box::pin(async move {
            let outcome = binder.delete(&pod).await;
            Done::Delete { call, pod, outcome }
        }));
    }

    /// Notices, standings and conditions first: controllers act on them, people read events.
    fn start_write(&mut self) -> bool {
        if !self.binder.may_send() {
            return false;
        }
        if self.start_notice() || self.start_standing() {
            return true;
        }
        let (write, condition) = loop {
            let Some(uid) = self.conditions.pop_front() else {
                match self.events.pop_front() {
                    Some(event) => break (Write::Event(event), None),
                    None => return false,
                }
            };
            if self.telling.contains(&uid) {
                // the one before is still on its way; this one's turn comes when it is done
                continue;
            }
            if let Some((pod, telling, first)) = self.condition_of.remove(&uid) {
                self.telling.insert(uid);
                break (Write::Condition { pod, telling, first }, Some(uid));
            }
        };
        let teller = self.teller.clone();
        self.writes_in_flight += 1;
        self.in_flight.push(Box::pin(async move {
            teller.write(&write).await;
            Done::Told { condition }
        }));
        true
    }

    /// Takes in what is done.
    fn finish(&mut self, done: Done) {
        match done {
            Done::Bind { call, member, outcome, claims } => {
                self.calls_in_flight -= 1;
                if outcome == BindOutcome::Bound {
                    let note = Note::Assigned(member.node);
                    self.queue_event(&member.pod, false, "Scheduled", "Binding", note);
                }
                // before the answer: from then on devices are those that claims say
                let claims = claims.into_iter().map(|state| Event::ClaimApplied(Box::new(state)));
                self.answers.extend(claims);
                let pod = member.pod.uid;
                self.answers.push_back(Event::BindFinished { call, pod, outcome });
            }
            Done::Delete { call, pod, outcome } => {
                self.calls_in_flight -= 1;
                self.answers.push_back(Event::DeleteFinished { call, pod: pod.uid, outcome });
            }
            Done::Evict { call, victim, outcome } => {
                self.evicted(call, victim, outcome);
            }
            Done::Shown { status, done } => {
                self.writes_in_flight -= 1;
                self.standings.written(*status, done);
            }
            Done::Told { condition } => {
                self.writes_in_flight -= 1;
                if let Some(uid) = condition {
                    self.telling.remove(&uid);
                    self.release(uid);
                }
            }
        }
    }

    /// Nothing is in flight for this pod any more: what waited for that may go.
    fn release(&mut self, uid: Uid) {
        self.victims.release(uid);
        if let Some(bind) = self.held_binds.remove(&uid) {
            self.binds.push_front(bind);
        } else if self.condition_of.contains_key(&uid) {
            self.conditions.push_back(uid);
        }
    }

    /// Passes answers on. The scheduler never waits for the dispatcher, so this ends soon; if the
    /// scheduler is gone there is nobody to tell.
    async fn answer(&mut self) {
        while let Some(event) = self.answers.pop_front() {
            self.replies.send(event).await.ok();
        }
    }

    /// Sends nothing new, answers what was never sent, and waits for the rest.
    async fn drain(&mut self, calls: &mut mpsc::Receiver<ApiCall>) {
        self.binder.draining.store(true, Ordering::Release);
        let deadline = tokio::time::sleep(self.limits.drain);
        tokio::pin!(deadline);
        while let Ok(call) = calls.try_recv() {
            drop(call);
        }
        self.binds.clear();
        self.deletes.clear();
        self.held_binds.clear();
        self.victims.clear();
        while self.calls_in_flight + self.victims.in_flight > 0 {
            tokio::select! {
                biased;
                () = &mut deadline => {
                    let calls = self.calls_in_flight + self.victims.in_flight;
                    tracing::warn!(calls, "calls were left unanswered");
                    return;
                }
                Some(done) = self.in_flight.next() => self.finish(done),
            }
            self.answer().await;
        }
        self.tell_the_rest(&mut deadline).await;
    }

    /// Events of binds that were made are still written, as far as time allows.
    async fn tell_the_rest(&mut self, deadline: &mut std::pin::Pin<&mut tokio::time::Sleep>) {
        self.binder.draining.store(false, Ordering::Release);
        loop {
            while self.writes_in_flight < self.limits.writes_in_flight && self.start_write() {}
            if self.writes_in_flight == 0 {
                return;
            }
            tokio::select! {
                biased;
                () = &mut *deadline => return,
                Some(done) = self.in_flight.next() => self.finish(done),
            }
            self.answer().await;
        }
    }
}
