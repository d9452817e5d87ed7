//! What the API server does with requests, and how they and their answers go astray.

use crate::history::Fault;
use crate::world::{Truth, World};
use mss_scheduler::model::{Timestamp, Uid, WallTime};
use mss_scheduler::scheduler::{BindOutcome, CallId, DeleteOutcome, Event, EvictOutcome};

/// A request under way. The caller sends it again until it is answered.
#[derive(Clone)]
pub(crate) struct Task {
    call: CallId,
    uid: Uid,
    what: What,
    not_before: i64,
    /// it may have had its effect
    has_left: bool,
}

#[derive(Clone)]
pub(crate) enum What {
    Bind(Box<str>),
    Delete,
    Evict,
    /// an eviction that never left
    Withdrawn,
}

impl World {
    pub(crate) fn ask(&mut self, call: CallId, uid: Uid, what: What) {
        self.tasks.push(Task { call, uid, what, not_before: 0, has_left: false });
    }

    /// Evictions of these calls that have not left never do.
    pub(crate) fn withdraw(&mut self, calls: &[CallId]) {
        let waits = |task: &&mut Task| matches!(task.what, What::Evict) && !task.has_left;
        let of_them = self.tasks.iter_mut().filter(|task| calls.contains(&task.call));
        for task in of_them.filter(waits) {
            task.what = What::Withdrawn;
            self.tally.withdrawn += 1;
        }
    }

    /// Pods whose eviction has not left.
    pub(crate) fn to_evict(&self) -> impl Iterator<Item = Uid> {
        let waits = |task: &&Task| matches!(task.what, What::Evict) && !task.has_left;
        self.tasks.iter().filter(waits).map(|task| task.uid)
    }

    pub(crate) fn answer_some(&mut self) {
        for _ in 0..self.random.below(6) {
            if !self.tasks.is_empty() {
                let at = self.random.below(self.tasks.len() as u64);
                self.answer(usize::try_from(at).expect("small"));
            }
        }
    }

    pub(crate) fn answer_all(&mut self) {
        while !self.tasks.is_empty() {
            self.answer(0);
        }
    }

    /// One attempt at a request: it may be refused or fail, before or after it had its effect.
    fn answer(&mut self, at: usize) {
        if self.faults && self.tasks[at].not_before > self.now {
            return;
        }
        self.tasks[at].has_left = true;
        if self.strikes(Fault::TooManyRequests, 12) {
            self.tally.too_many_requests += 1;
            self.tasks[at].not_before = self.now + 1_000;
            return;
        }
        if self.strikes(Fault::Timeout, 16) {
            self.tally.timeouts += 1;
            return;
        }
        let task = self.tasks[at].clone();
        if self.strikes(Fault::LostReply, 12) {
            self.tally.lost_replies += 1;
            self.carry_out(&task);
            return;
        }
        self.tasks.remove(at);
        if self.strikes(Fault::Doubled, 12) {
            self.tally.doubled += 1;
            self.carry_out(&task);
        }
        let answer = self.carry_out(&task);
        self.tell(answer.clone());
        // a call that is over takes no further answer
        let over = self.tasks.iter().all(|other| other.call != task.call);
        if over && self.strikes(Fault::Doubled, 8) {
            self.tally.doubled += 1;
            self.tell(answer);
        }
    }

    pub(crate) fn tell(&mut self, event: Event) {
        self.tally.events += 1;
        self.shadow.hear(self.now, &event);
        self.scheduler.handle(Timestamp(self.now), event);
    }

    fn carry_out(&mut self, task: &Task) -> Event {
        let (call, pod) = (task.call, task.uid);
        match &task.what {
            What::Bind(node) => {
                Event::BindFinished { call, pod, outcome: self.bind(pod, &node.clone()) }
            }
            What::Evict => Event::EvictFinished { call, pod, outcome: self.evict(pod) },
            What::Withdrawn => Event::EvictFinished { call, pod, outcome: EvictOutcome::Withdrawn },
            What::Delete => {
                let failed = self.strikes(Fault::Refusal, 6);
                let outcome = if failed { DeleteOutcome::Failed } else { DeleteOutcome::Deleted };
                if !failed {
                    self.modify(pod, |pod| pod.deleting = true);
                }
                Event::DeleteFinished { call, pod, outcome }
            }
        }
    }

    fn bind(&mut self, uid: Uid, node: &str) -> BindOutcome {
        let now = WallTime(self.now);
        let Some(truth) = self.pods.get(&uid) else { return BindOutcome::Gone };
        match truth.pod.node.as_deref() {
            // the first attempt had its effect
            Some(other) if other == node => return BindOutcome::Bound,
            Some(other) => panic!("I4, S4: {uid} is bound to {other} and asked for on {node}"),
            None if truth.pod.deleting => return BindOutcome::Gone,
            None => {}
        }
        if self.strikes(Fault::Refusal, 10) {
            self.tally.refused += 1;
            return BindOutcome::Refused("admission webhook denied the request".into());
        }
        let truth = self.pods.get_mut(&uid).expect("it was found");
        truth.binds += 1;
        self.tally.binds += 1;
        self.tally.firm_bound += u64::from(self.pods.get(&uid).is_some_and(Truth::is_firm));
        self.modify(uid, |pod| {
            pod.node = Some(node.into());
            pod.bound_at = Some(now);
        });
        BindOutcome::Bound
    }

    fn evict(&mut self, uid: Uid) -> EvictOutcome {
        let stays = self.pods.get(&uid).is_some_and(|truth| !truth.pod.deleting);
        if stays && self.strikes(Fault::DisruptionBudget, 12) {
            self.tally.pdb_refusals += 1;
            return EvictOutcome::Protected("the disruption budget needs 3 healthy pods".into());
        }
        if stays && self.strikes(Fault::Refusal, 20) {
            return EvictOutcome::Failed;
        }
        if stays {
            self.tally.evicted += 1;
            self.replace_later(uid);
            self.modify(uid, |pod| pod.deleting = true);
        }
        EvictOutcome::Evicted
    }

    /// The leader dies, and another takes over.
    pub(crate) fn restart(&mut self) {
        if self.is_off(Fault::LeaderChange) {
            return;
        }
        self.tally.restarts += 1;
        let binds = self.tasks.iter().any(|task| matches!(task.what, What::Bind(_)));
        self.tally.restarts_in_commit += u64::from(binds);
        let awaited = self.warned.iter().any(|uid| self.pods.contains_key(uid));
        self.tally.restarts_in_plan += u64::from(awaited);
        // some calls of the old process still arrive
        for _ in 0..self.random.below(4) {
            if !self.tasks.is_empty() {
                let task = self.tasks.remove(0);
                self.carry_out(&task);
            }
        }
        self.note_gangs();
        let half = self.gangs.values().filter(|gang| gang.half_since.is_some()).count();
        self.tally.half_bound_at_restart += half as u64;
        self.start();
    }
}
