//! Victims: the notice, then the eviction.
//!
//! A notice waits behind binds, as all telling does. An eviction whose pod's notice still waits
//! gives that notice itself before it leaves, and one whose notice is on its way waits for it.

use super::super::tell::{Fate, Note, Notice, SPARED, Write};
use super::{Dispatcher, Done};
use crate::model::Uid;
use crate::scheduler::{CallId, EvictOutcome, PodRef};
use jiff::{SignedDuration, Timestamp};
use rustc_hash::FxHashMap;
use std::collections::VecDeque;
use std::sync::Arc;

/// Evictions take at most this part of the calls in flight, so that those which hang (a webhook
/// that is down) leave room for binds.
const PART_OF_CALLS: usize = 4;

/// Evictions and notices that wait.
#[derive(Default)]
pub(super) struct Victims {
    evictions: VecDeque<(CallId, PodRef)>,
    /// evictions whose pod has a write in flight
    held: FxHashMap<Uid, Vec<(CallId, PodRef)>>,
    notices: VecDeque<Uid>,
    notice_of: FxHashMap<Uid, Notice>,
    /// what was said, until the eviction is answered
    said: FxHashMap<Uid, Arc<str>>,
    in_flight: usize,
}

impl Victims {
    /// Evictions that have not left.
    pub(super) fn evictions(&self) -> usize {
        self.evictions.len() + self.held.values().map(Vec::len).sum::<usize>()
    }

    /// Notices that have not left.
    pub(super) fn notices(&self) -> usize {
        self.notice_of.len()
    }

    fn give(&mut self, notice: Notice) {
        let uid = notice.pod.uid;
        if self.notice_of.insert(uid, notice).is_none() {
            self.notices.push_back(uid);
        }
    }

    /// Nothing new leaves any more.
    pub(super) fn clear(&mut self) {
        *self = Self {
            in_flight: self.in_flight,
            said: std::mem::take(&mut self.said),
            ..Self::default()
        };
    }

    /// A write of this pod is done: what waited for it may go.
    pub(super) fn release(&mut self, uid: Uid) {
        for eviction in self.held.remove(&uid).into_iter().flatten().rev() {
            self.evictions.push_front(eviction);
        }
        if self.notice_of.contains_key(&uid) {
            self.notices.push_back(uid);
        }
    }
}

impl Dispatcher {
    pub(super) fn warn(&mut self, pods: Vec<PodRef>, note: &Arc<str>, evict_in_ms: i64) {
        let later = |ms| Timestamp::now().checked_add(SignedDuration::from_millis(ms));
        let fate = match evict_in_ms {
            ..=0 => Fate::Evicted,
            _ => Fate::EvictedAt(later(evict_in_ms).unwrap_or(Timestamp::MAX)),
        };
        if self.victims.said.len() + pods.len() > self.limits.events_queued {
            // they lose a word after their eviction, no more
            self.victims.said.clear();
        }
        for pod in pods {
            self.queue_event(&pod, true, "Preempted", "Preempting", Note::Text(note.clone()));
            self.victims.said.insert(pod.uid, note.clone());
            self.victims.give(Notice { pod, note: note.clone(), fate: fate.clone() });
        }
    }

    pub(super) fn spare(&mut self, pods: Vec<PodRef>, note: &Arc<str>) {
        for pod in pods {
            self.queue_event(&pod, false, SPARED, "Preempting", Note::Text(note.clone()));
            self.victims.said.remove(&pod.uid);
            self.victims.give(Notice { pod, note: note.clone(), fate: Fate::Spared });
        }
    }

    pub(super) fn evict(&mut self, call: CallId, pods: Vec<PodRef>) {
        self.victims.evictions.extend(pods.into_iter().map(|pod| (call, pod)));
    }

    /// Starts the next eviction, if there is one that may leave.
    pub(super) fn start_evict(&mut self) -> bool {
        if self.victims.in_flight >= (self.limits.binds_in_flight / PART_OF_CALLS).max(1) {
            return false;
        }
        let (call, pod) = loop {
            let Some((call, pod)) = self.victims.evictions.pop_front() else { return false };
            if !self.telling.contains(&pod.uid) {
                break (call, pod);
            }
            self.victims.held.entry(pod.uid).or_default().push((call, pod));
        };
        let notice = self.victims.notice_of.remove(&pod.uid);
        let (binder, teller) = (self.binder.clone(), self.teller.clone());
        self.telling.insert(pod.uid);
        self.victims.in_flight += 1;
        self.calls_in_flight += 1;
        self.in_flight.push(Box::pin(async move {
            if let Some(notice) = notice.filter(|_| binder.may_send()) {
                teller.write(&Write::Notice(notice)).await;
            }
            let outcome = binder.evict(&pod).await;
            Done::Evict { call, pod, outcome }
        }));
        true
    }

    /// Starts the next notice, if there is one that may leave.
    pub(super) fn start_notice(&mut self) -> bool {
        while let Some(uid) = self.victims.notices.pop_front() {
            if self.telling.contains(&uid) {
                // its turn comes when what is on its way is done
                continue;
            }
            // none: its eviction gave it
            let Some(notice) = self.victims.notice_of.remove(&uid) else { continue };
            let teller = self.teller.clone();
            self.telling.insert(uid);
            self.writes_in_flight += 1;
            self.in_flight.push(Box::pin(async move {
                teller.write(&Write::Notice(notice)).await;
                Done::Told { condition: Some(uid) }
            }));
            return true;
        }
        false
    }

    pub(super) fn evicted(&mut self, pod: &PodRef, outcome: &EvictOutcome) {
        self.calls_in_flight -= 1;
        self.victims.in_flight -= 1;
        self.telling.remove(&pod.uid);
        self.observer.evicted(outcome);
        let said = match outcome {
            EvictOutcome::Protected(_) => None,
            _ => self.victims.said.remove(&pod.uid),
        };
        if let Some(note) = said.filter(|_| *outcome == EvictOutcome::Evicted) {
            // the eviction has put its own reason over ours
            self.victims
                .notice_of
                .insert(pod.uid, Notice { pod: pod.clone(), note, fate: Fate::Evicted });
        }
        self.release(pod.uid);
    }
}
