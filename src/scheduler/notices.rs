//! What victims were told, and that it is taken back where they need not go.
//!
//! A notice stands from the plan that gave it until the pod goes. When a plan is given up, those of
//! its victims that were not evicted are told so, unless the search that follows names them again:
//! then the notice they have goes on, and they are evicted when it is over, not later. What an
//! earlier leader announced is given anew by this one's plans, or taken back after a while.

use super::Scheduler;
use super::calls::{ApiCall, PodRef};
use super::plans::Notice;
use super::pods::PodState;
use crate::cluster::PodIndex;
use crate::model::pod::digest;
use crate::model::{Pod, Timestamp, Uid};
use crate::queue::GroupIndex;
use rustc_hash::FxHashMap;
use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;

/// What is said when a notice is taken back.
const SPARED: &str = "not evicted after all: its room is not needed, or would not be enough";
/// The time of a notice that an earlier leader gave: its grace begins anew if it is given again.
const UNKNOWN: Timestamp = Timestamp(i64::MAX / 2);

/// See the module.
#[derive(Debug, Default)]
pub(super) struct Notices {
    /// Pods that were told to go, and when.
    given: FxHashMap<Uid, Timestamp>,
    /// Those of them whose plan was given up.
    loose: BTreeSet<Uid>,
    /// This process has decided, so notices are its own from now on.
    is_ours: bool,
    /// When those of an earlier leader end that were not given anew.
    inherited_until: Option<Timestamp>,
    /// Where evictions are only reported: pods that were told, with what.
    reported: BTreeMap<Uid, u64>,
}

impl Scheduler {
    /// Gives notice. Returns in how many milliseconds the evictions follow: after the grace of the
    /// queue, or what is left of it where all have been under notice since before.
    pub(super) fn give_notice(&mut self, notice: &Notice, note: &Arc<str>) -> i64 {
        let grace_ms = notice.grace_ms;
        let left = |pod: &PodIndex| {
            let pod = self.pods.get(*pod);
            // one whose eviction is on its way is not asked to go twice at once
            let given = self.notices.given.get(&pod.uid).filter(|_| pod.evicted_by.is_none());
            given.map_or(grace_ms, |at| at.since_ms(self.now).min(grace_ms))
        };
        let evict_in_ms = notice.pods.iter().map(left).max().unwrap_or(grace_ms);
        let pods: Vec<PodRef> = notice.pods.iter().map(|pod| self.reference(*pod)).collect();
        let at = self.now.plus_ms(evict_in_ms);
        self.notices.given.extend(pods.iter().map(|pod| (pod.uid, at)));
        self.outbox.push(ApiCall::Warn { pods, note: note.clone(), evict_in_ms });
        evict_in_ms
    }

    /// Tells pods that they would be evicted. None is told the same twice in a row, as a search
    /// that comes to nothing is made again and again.
    pub(super) fn report_victims(&mut self, index: GroupIndex, pods: &[PodIndex]) {
        let why = self.note_on_victims(index);
        let said = digest(&why);
        let pods = pods.iter().map(|pod| self.reference(*pod)).collect::<Vec<_>>();
        let mut news = |pod: &PodRef| self.notices.reported.insert(pod.uid, said) != Some(said);
        let pods: Vec<PodRef> = pods.into_iter().filter(|pod| news(pod)).collect();
        if !pods.is_empty() {
            let note = format!("would be {why}; evictions are only reported").into();
            self.outbox.push(ApiCall::Report { pods, note });
        }
    }

    /// A pod is no victim any more. O(log victims).
    pub(super) fn loosen_notice(&mut self, pod: PodIndex) {
        let uid = self.pods.get(pod).uid;
        if self.notices.given.contains_key(&uid) {
            self.notices.loose.insert(uid);
        }
    }

    /// Takes in what the API shows of a pod's notice, as long as others decide.
    pub(super) fn note_inherited(&mut self, pod: &Pod) {
        if self.notices.is_ours {
            return;
        }
        if pod.noticed && pod.profile.is_some() {
            self.notices.given.insert(pod.uid, UNKNOWN);
        } else {
            self.notices.given.remove(&pod.uid);
        }
    }

    /// A pod is gone.
    pub(super) fn forget_notice(&mut self, uid: Uid) {
        self.notices.given.remove(&uid);
        self.notices.loose.remove(&uid);
        self.notices.reported.remove(&uid);
    }

    /// When notices of an earlier leader end.
    pub(super) fn notices_due(&self) -> Option<Timestamp> {
        self.notices.inherited_until
    }

    /// Tells those that need not go. Called when all searches of a cycle are done.
    pub(super) fn take_notices_back(&mut self, now: Timestamp) {
        if !std::mem::replace(&mut self.notices.is_ours, true) && !self.notices.given.is_empty() {
            self.notices.inherited_until = Some(now.plus_ms(self.options.vacate_deadline_ms));
        }
        if self.notices.inherited_until.is_some_and(|until| until <= now) {
            self.notices.inherited_until = None;
            let inherited = self.notices.given.iter().filter(|(_, at)| **at == UNKNOWN);
            let inherited: Vec<Uid> = inherited.map(|(uid, _)| *uid).collect();
            self.notices.loose.extend(inherited);
        }
        // some of them may be named again by a search that was left for the next cycle
        if self.notices.loose.is_empty() || self.room_wanted || self.queue.any_active() {
            return;
        }
        let mut pods = Vec::new();
        for uid in std::mem::take(&mut self.notices.loose) {
            let Some(index) = self.pods.find(uid) else { continue };
            let pod = self.pods.get(index);
            // one whose eviction is on its way may go yet: its answer decides
            let stays = pod.state == PodState::Bound && !pod.deleting && pod.evicted_by.is_none();
            if stays && pod.victim_of.is_none() {
                self.notices.given.remove(&uid);
                pods.push(self.reference(index));
            }
        }
        if !pods.is_empty() {
            self.outbox.push(ApiCall::Spare { pods, note: SPARED.into() });
        }
    }
}
