//! What users are told, and only when it changes.

use super::Scheduler;
use super::calls::{ApiCall, ConditionReason, PodRef, Telling};
use super::pods::PodState;
use crate::cluster::PodIndex;
use crate::fairshare::QueueIndex;
use crate::framework::GangProgress;
use crate::model::ContractError;
use crate::model::pod::digest;
use crate::placement::Failure;
use crate::queue::{GroupIndex, PodGroup};
use std::sync::Arc;

/// What task groups of a gang lack, as a sentence.
fn lacking(group: &PodGroup) -> String {
    let lacking = group.tasks.iter().filter(|task| task.needed() > 0);
    let parts: Vec<String> =
        lacking.map(|task| format!("{} {}", task.needed(), task.name)).collect();
    if parts.is_empty() { String::new() } else { format!(" It needs {}.", parts.join(", ")) }
}

impl Scheduler {
    /// Says on each pending member why the group was not placed.
    pub(super) fn tell_unschedulable(&mut self, index: GroupIndex, failure: &Failure) {
        let beyond = self.beyond_share(index);
        let group = self.groups.get(index);
        let kept = if self.is_drained_for(index) { " Room is kept free for it." } else { "" };
        let insists = self.insists(index).unwrap_or_default();
        let message: Arc<str> = match &group.name {
            None => format!("{}{kept}{beyond}", failure.diagnosis.message).into(),
            Some(known) => {
                let progress = GangProgress {
                    placeable: group.counts.settled() + failure.placeable,
                    members: group.counts.settled() + group.counts.waiting,
                    min_member: group.min_member,
                };
                let why = &failure.diagnosis.message;
                let progress = progress.sentence(&known.name);
                format!("{why}{insists} {progress}{}{kept}{beyond}", lacking(group)).into()
            }
        };
        self.tell_waiting(index, ConditionReason::Unschedulable, &message);
    }

    /// A sentence for a gang of which even the minimum is more than a queue above it deserves.
    fn beyond_share(&mut self, index: GroupIndex) -> String {
        let group = self.groups.get(index);
        let Some(leaf) = group.leaf.filter(|_| !group.pending.is_empty()) else {
            return String::new();
        };
        let claim = group.claim.clone();
        if self.fair.too_small_for(QueueIndex::ROOT, &claim).is_some() {
            return String::new(); // there is not so much at all
        }
        let queue = self.fair.too_small_for(leaf, &claim);
        queue.map_or_else(String::new, |queue| {
            format!(
                " It asks for more than {} deserves: it can run only on what others leave, and may \
                 have to give that back.",
                self.fair.name(queue)
            )
        })
    }

    /// Says on each pending member why the gate holds the group.
    pub(super) fn tell_held(&mut self, index: GroupIndex, reason: &str) {
        let name = self.groups.get(index).name.as_ref().map(|known| known.name.clone());
        let message = match name {
            Some(name) => format!("gang {name} waits: {reason}."),
            None => format!("pod waits: {reason}."),
        };
        self.tell_waiting(index, ConditionReason::WaitingForGang, &message.into());
    }

    /// Says on a pod of ours why it is refused.
    pub(super) fn tell_refused(&mut self, index: PodIndex, error: &ContractError) {
        let message = format!("pod refused: {error}.").into();
        if self.tell(&[index], ConditionReason::SchedulerError, &message) > 0 {
            *self.tallies.refused.entry(error.reason()).or_default() += 1;
        }
    }

    /// Says on a pod that the API refused its bind.
    pub(super) fn tell_bind_refused(&mut self, index: PodIndex, error: &str) {
        let message = format!("binding rejected: {error}").into();
        self.tell(&[index], ConditionReason::SchedulerError, &message);
    }

    fn tell_waiting(&mut self, index: GroupIndex, reason: ConditionReason, message: &Arc<str>) {
        let members = self.groups.get(index).members.clone();
        let waiting = |pod: &&PodIndex| self.pods.get(**pod).state == PodState::Waiting;
        let waiting: Vec<PodIndex> = members.iter().filter(waiting).copied().collect();
        self.tell(&waiting, reason, message);
    }

    /// Tells the pods that were not told just this already; returns how many.
    pub(super) fn tell(
        &mut self,
        pods: &[PodIndex],
        reason: ConditionReason,
        message: &Arc<str>,
    ) -> usize {
        let digest = digest(message);
        let (mut fresh, mut again) = (Vec::new(), Vec::new());
        for pod in pods {
            let pod = self.pods.get_mut(*pod);
            let told = std::mem::replace(&mut pod.told, digest);
            if told != digest {
                let list = if told == 0 { &mut fresh } else { &mut again };
                list.push(PodRef { key: pod.key(), uid: pod.uid });
            }
        }
        let told = fresh.len() + again.len();
        for (pods, first) in [(fresh, true), (again, false)] {
            if !pods.is_empty() {
                let telling = Telling { reason, message: message.clone() };
                self.outbox.push(ApiCall::Tell { pods, telling, first });
            }
        }
        told
    }
}
