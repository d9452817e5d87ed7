//! Run limits of queues: how long a pod may run at most, and its end.
//!
//! A pod that says nothing runs for the default of its queue; none runs for longer than the
//! smallest maximum above it. The kubelet ends pods at their own `activeDeadlineSeconds`; what the
//! queue adds to that is kept here, by deleting the pod when its time is over. So a limit holds
//! whoever said it, and drained room may count on it.

use super::Scheduler;
use super::calls::{ApiCall, CallId, DeleteOutcome, PodRef};
use super::pods::{PodEntry, PodState};
use crate::cluster::PodIndex;
use crate::fairshare::QueueIndex;
use crate::model::fault::{Fault, is_made};
use crate::model::{RunLimit, Timestamp, Uid};
use crate::queue::GroupIndex;
use std::collections::{BTreeMap, BTreeSet};

/// Before the end of a pod is tried again that could not be ended.
const AGAIN_MS: i64 = 30_000;

/// The pods whose time their queue limits.
#[derive(Debug, Default)]
pub(super) struct RunLimits {
    /// some queue has limits; otherwise nothing is looked at
    in_use: bool,
    ends: BTreeSet<(Timestamp, PodIndex)>,
}

impl Scheduler {
    /// Begins anew, for a new tree; all pods are charged again after this.
    pub(super) fn renew_run_limits(&mut self) {
        let limited = self.good_specs.iter().any(|spec| spec.run_limit != RunLimit::default());
        for (_, pod) in std::mem::take(&mut self.run_limits.ends) {
            self.pods.get_mut(pod).ends_at = None;
        }
        self.run_limits.in_use = limited;
    }

    /// The nearest default and the smallest maximum, with the queue that sets it. O(depth).
    fn queue_limits(&self, leaf: QueueIndex) -> (Option<i64>, Option<(i64, QueueIndex)>) {
        let limit = |queue: QueueIndex| self.fair.spec(queue).run_limit;
        let default = self.fair.path(leaf).find_map(|queue| limit(queue).default_ms);
        let above = self.fair.path(leaf).skip(1);
        let maxima = above.filter_map(|queue| Some((limit(queue).maximum_ms?, queue)));
        (default, maxima.min_by_key(|(maximum, _)| *maximum))
    }

    /// How long a pod runs at most, if it, its queue or a promise says so.
    pub(super) fn limit_of(&self, pod: &PodEntry) -> Option<i64> {
        let own = pod.run_limit_ms;
        let leaf = pod.group.and_then(|group| self.groups.get(group).leaf);
        let Some(leaf) = leaf.filter(|_| self.run_limits.in_use) else {
            return own.into_iter().chain(pod.promised_ms).min();
        };
        let (default, maximum) = self.queue_limits(leaf);
        let maximum = maximum.map(|(maximum, _)| maximum);
        let said = own.or(default).or(maximum);
        [said, maximum, pod.promised_ms].into_iter().flatten().min()
    }

    /// Why the limits of its queue keep a group in the gate: a member may run for longer.
    pub(super) fn held_by_run_limit(&self, index: GroupIndex) -> Option<String> {
        let group = self.groups.get(index);
        let leaf = group.leaf.filter(|_| self.run_limits.in_use)?;
        let (maximum, queue) = self.queue_limits(leaf).1?;
        let members = group.members.iter().map(|member| self.pods.get(*member));
        let waiting = members.filter(|pod| pod.state == PodState::Waiting);
        let longest = waiting.filter_map(|pod| pod.run_limit_ms).max()?;
        (longest > maximum).then(|| {
            let (asked, most) = (shown(longest), shown(maximum));
            let name = self.fair.name(queue);
            format!("its activeDeadlineSeconds, {asked}, are more than queue {name} allows, {most}")
        })
    }

    /// Has a pod keep the limit by which it is let into drained room, whatever its queue says
    /// later.
    pub(super) fn promise_limit(&mut self, index: PodIndex) {
        if !self.drains.is_empty() {
            self.pods.get_mut(index).promised_ms = self.limit_of(self.pods.get(index));
        }
    }

    /// Brings up to date when a pod that holds room is ended; `holds`: whether it does.
    pub(super) fn note_end(&mut self, index: PodIndex, holds: bool) {
        let end = if holds { self.end_by_queue(self.pods.get(index)) } else { None };
        self.set_end(index, end);
    }

    fn set_end(&mut self, index: PodIndex, at: Option<Timestamp>) {
        let ends = &mut self.run_limits.ends;
        if let Some(old) = std::mem::replace(&mut self.pods.get_mut(index).ends_at, at) {
            ends.remove(&(old, index));
        }
        ends.extend(at.map(|at| (at, index)));
    }

    /// N2: the pods to be ended are those that hold room and say so.
    pub(super) fn check_run_limits(&self) {
        let ends = self.pods.iter().filter_map(|(index, pod)| Some((pod.ends_at?, index, pod)));
        let mut found = 0;
        for (at, index, pod) in ends {
            assert!(self.run_limits.ends.contains(&(at, index)), "N2: the end of a pod is lost");
            assert!(pod.charged.is_some(), "N2: a pod is to be ended that holds no room");
            found += 1;
        }
        assert_eq!(found, self.run_limits.ends.len(), "N2: a pod is to be ended twice");
    }

    /// When the time of a pod is over that its own deadline does not end before.
    fn end_by_queue(&self, pod: &PodEntry) -> Option<Timestamp> {
        if !self.run_limits.in_use && pod.promised_ms.is_none() {
            return None;
        }
        let limit = self.limit_of(pod)?;
        let longer = pod.run_limit_ms.is_none_or(|own| own > limit);
        let is_bound = matches!(pod.state, PodState::Bound | PodState::RollingBack(_));
        // what is not bound yet is looked at again when it would be over
        let since = if is_bound { self.runs_since(pod) } else { self.now };
        let early = if is_made(Fault::EndedEarly) { 1_000 } else { 0 };
        (longer && !is_made(Fault::RunsOn)).then(|| since.plus_ms(limit - early))
    }

    /// When a pod was bound.
    pub(super) fn runs_since(&self, pod: &PodEntry) -> Timestamp {
        let bound = pod.bound_at.map(|at| Timestamp(at.0.saturating_sub(self.wall_ahead_ms)));
        bound.unwrap_or(pod.bound_seen)
    }

    /// When the next pod is ended.
    pub(super) fn run_limits_due(&self) -> Option<Timestamp> {
        self.run_limits.ends.first().map(|(at, _)| *at)
    }

    /// Ends the pods whose time is over.
    pub(super) fn step_run_limits(&mut self, now: Timestamp) {
        let mut over: BTreeMap<GroupIndex, Vec<PodIndex>> = BTreeMap::new();
        while let Some((_, index)) = self.run_limits.ends.first().filter(|(at, _)| *at <= now) {
            let index = *index;
            self.run_limits.ends.pop_first();
            let pod = self.pods.get_mut(index);
            pod.ends_at = None;
            if pod.deleting {
                continue;
            }
            // one that is evicted, or being bound, has a call in flight or soon will
            let free = pod.state == PodState::Bound && pod.victim_of.is_none();
            let Some(end) = self.end_by_queue(self.pods.get(index)) else { continue };
            match self.pods.get(index).group {
                Some(group) if free && end <= now => over.entry(group).or_default().push(index),
                _ if free => self.set_end(index, Some(end)),
                _ => self.set_end(index, Some(end.max(now.plus_ms(AGAIN_MS)))),
            }
        }
        over.into_iter().for_each(|(group, pods)| self.end_pods(group, &pods));
    }

    /// Asks for the deletion of pods whose time is over.
    fn end_pods(&mut self, group: GroupIndex, pods: &[PodIndex]) {
        let limit = pods.iter().filter_map(|pod| self.limit_of(self.pods.get(*pod))).min();
        let leaf = self.groups.get(group).leaf;
        let queue = leaf.map(|leaf| self.fair.spec(leaf).name.clone()).unwrap_or_default();
        let time = shown(limit.unwrap_or_default());
        let note = format!("its time is over: in queue {queue} it may run for {time}");
        let call = self.calls.begin_ending(group, pods.len());
        let mut refs = Vec::with_capacity(pods.len());
        for index in pods {
            let pod = self.pods.get_mut(*index);
            refs.push(PodRef { key: pod.key(), uid: pod.uid });
            self.set_state(*index, PodState::RollingBack(call));
        }
        self.tallies.ended_by_limit += pods.len() as u64;
        self.outbox.push(ApiCall::End { call, pods: refs, note: note.into() });
    }

    /// Takes in the answer to the end of a pod. Whether the call is one.
    pub(super) fn end_finished(&mut self, call: CallId, uid: Uid, outcome: DeleteOutcome) -> bool {
        if !self.calls.is_ending(call) {
            return false;
        }
        let failed = outcome == DeleteOutcome::Failed;
        self.calls.answered(call, failed);
        if let Some(index) = self.pods.find(uid).filter(|_| failed)
            && self.pods.get(index).state == PodState::RollingBack(call)
        {
            self.set_state(index, PodState::Bound);
            let holds = self.pods.get(index).charged.is_some();
            self.set_end(index, holds.then(|| self.now.plus_ms(AGAIN_MS)));
        }
        true
    }
}

/// A time in the largest unit that tells it exactly.
fn shown(ms: i64) -> String {
    match ms {
        ms if ms % 3_600_000 == 0 => format!("{}h", ms / 3_600_000),
        ms if ms % 60_000 == 0 => format!("{}m", ms / 60_000),
        ms if ms % 1_000 == 0 => format!("{}s", ms / 1_000),
        ms => format!("{ms}ms"),
    }
}
