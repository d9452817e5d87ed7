//! The only place that assumes pods onto nodes for good, and that forgets them again.
//!
//! A gang is decided whole (I2). Kubernetes binds pods one by one, so some binds of a decided gang
//! may fail. Then the gang is half bound: it is tried again before all others, and if its minimum
//! is not bound by the deadline its bound members are deleted, which is the only way back that
//! Kubernetes offers.

use super::Scheduler;
use super::calls::{ApiCall, BindMember, BindOutcome, CallId, DeleteOutcome, PodRef};
use super::pods::PodState;
use crate::cluster::{PodIndex, Statement};
use crate::model::{Timestamp, Uid};
use crate::queue::{GroupIndex, Home};

impl Scheduler {
    /// Assumes all members of a statement and asks for their binds.
    pub(super) fn commit(&mut self, index: GroupIndex, statement: Statement) {
        let group = self.groups.get_mut(index);
        let placed = u32::try_from(statement.len()).expect("groups are bounded");
        assert!(
            group.counts.settled() + placed >= group.min_member && placed > 0,
            "I2: a gang is committed below its minimum"
        );
        if !group.tasks.is_empty() {
            let placed = statement.assumed().map(|assignment| assignment.pod).collect();
            assert!(self.tasks_met(index, placed), "I2: a task group is bound below its minimum");
        }
        let group = self.groups.get_mut(index);
        self.queue.move_to(index, group, Home::Committing);
        let profile = group.profile;
        let call = self.calls.begin(index, statement.len());
        let mut members = Vec::with_capacity(statement.len());
        for assignment in statement.commit() {
            let node = self.cluster.node(assignment.node).name.clone();
            let pod = self.pods.get_mut(assignment.pod);
            assert_eq!(pod.state, PodState::Waiting, "I7: only waiting pods are bound");
            pod.state = PodState::Assumed(call);
            pod.node = Some(assignment.node);
            self.devices.moved(assignment.pod, None, Some(assignment.node));
            let (devices, grants) = self.grant(assignment.pod, call);
            self.await_start(assignment.pod);
            self.promise_limit(assignment.pod);
            self.recharge(assignment.pod);
            let pod = self.pods.get(assignment.pod);
            let pod = PodRef { key: pod.key(), uid: pod.uid };
            members.push(BindMember { pod, node, devices, grants });
        }
        self.mark(index);
        self.count_now(index);
        self.outbox.push(ApiCall::Bind { call, profile, members });
    }

    pub(super) fn bind_finished(
        &mut self,
        now: Timestamp,
        call: CallId,
        uid: Uid,
        outcome: BindOutcome,
    ) {
        self.claims_answered(call, uid);
        let pod = self.pods.find(uid);
        let in_flight = |index: &PodIndex| self.pods.get(*index).state == PodState::Assumed(call);
        if let Some(index) = pod.filter(in_flight) {
            match &outcome {
                BindOutcome::Bound => self.set_state(index, PodState::Bound),
                BindOutcome::BoundElsewhere(node) => {
                    self.move_room(index, Some(node));
                    self.set_state(index, PodState::Bound);
                }
                BindOutcome::Gone => self.forget(index, PodState::Leaving),
                BindOutcome::Refused(message) => {
                    self.forget(index, PodState::Waiting);
                    self.tell_bind_refused(index, message);
                }
                BindOutcome::NotSent => self.forget(index, PodState::Waiting),
            }
        }
        let failed = matches!(outcome, BindOutcome::Gone | BindOutcome::Refused(_));
        self.settle(now, call, failed);
    }

    /// Takes an assumption back. What it has counted as usage meanwhile counts no more.
    pub(super) fn forget(&mut self, index: PodIndex, state: PodState) {
        let pod = self.pods.get(index);
        if let Some(leaf) = pod.charged {
            let millis = self.wall().0.saturating_sub(pod.holds_since.0);
            let charges = self.cluster.charges(pod.class, pod.offer);
            self.fair.refund(leaf, &charges, millis);
            self.discharge(index);
        }
        self.move_room(index, None);
        let leaving = self.pods.get(index).deleting;
        self.set_state(index, if leaving { PodState::Leaving } else { state });
    }

    /// Asks for the deletion of the bound members of a gang that was never whole.
    pub(super) fn roll_back(&mut self, index: GroupIndex) {
        let members = self.groups.get(index).members.clone();
        let bound = |pod: &&PodIndex| {
            let pod = self.pods.get(**pod);
            pod.state == PodState::Bound && !pod.deleting
        };
        let bound: Vec<PodIndex> = members.iter().filter(bound).copied().collect();
        let group = self.groups.get_mut(index);
        let note = format!(
            "gang {} had {} of {} members bound and could not be completed: rolled back",
            group.name.as_ref().map_or("", |known| &known.name),
            bound.len(),
            group.min_member
        );
        self.queue.move_to(index, group, Home::Committing);
        self.tallies.rolled_back += 1;
        let call = self.calls.begin(index, bound.len());
        let mut pods = Vec::with_capacity(bound.len());
        for member in bound {
            let pod = self.pods.get_mut(member);
            pod.state = PodState::RollingBack(call);
            pods.push(PodRef { key: pod.key(), uid: pod.uid });
        }
        self.mark(index);
        self.outbox.push(ApiCall::Delete { call, pods, note: note.into() });
    }

    pub(super) fn delete_finished(
        &mut self,
        now: Timestamp,
        call: CallId,
        uid: Uid,
        outcome: DeleteOutcome,
    ) {
        if self.end_finished(call, uid, outcome) {
            return;
        }
        let failed = outcome == DeleteOutcome::Failed;
        if let Some(index) = self.pods.find(uid)
            && failed
            && self.pods.get(index).state == PodState::RollingBack(call)
        {
            self.set_state(index, PodState::Bound);
        }
        self.settle(now, call, failed);
    }

    /// Counts an answer; after the last one the group is free to be tried again, later if
    /// something failed.
    pub(super) fn settle(&mut self, now: Timestamp, call: CallId, failed: bool) {
        let Some(ended) = self.calls.answered(call, failed) else { return };
        self.demands_changed += u64::from(self.passed_over.remove(&ended.group));
        let group = self.groups.get_mut(ended.group);
        if ended.failed > 0 {
            group.failures += 1;
            let doublings = (group.failures - 1).min(16);
            let wait = self.options.backoff_initial_ms << doublings;
            group.backoff_until = now.plus_ms(wait.min(self.options.backoff_max_ms));
        }
        self.queue.move_to(ended.group, group, Home::Idle);
        self.mark(ended.group);
    }
}
