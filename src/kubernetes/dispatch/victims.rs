//! Victims: the notice, then the eviction.
//!
//! A notice waits behind binds, as all telling does. An eviction whose pod's notice still waits
//! gives that notice itself before it leaves, and one whose notice is on its way waits for it.
//!
//! The API server lists the disruption budgets for each eviction and lets it wait until that list
//! is current, a tenth of a second as a rule. So many are in flight, beside the binds: those that
//! hang (a webhook that is down) leave the binds' room alone. But of those that meet at one budget
//! all but the first wait for half a second. So those of different budgets leave first, and a few
//! more of the same only where there is nothing else to do.

use super::super::tell::{Fate, Note, Notice, SPARED, Write};
use super::{Dispatcher, Done};
use crate::model::Uid;
use crate::scheduler::{CallId, Event, EvictOutcome, PodRef, Victim};
use jiff::{SignedDuration, Timestamp};
use rustc_hash::{FxHashMap, FxHashSet};
use std::collections::{BTreeMap, VecDeque};
use std::sync::Arc;

/// Evictions of one disruption budget under way at most. While those that met wait, one that comes
/// later finds the budget free: four are half again as fast as one after the other.
const OF_ONE_BUDGET: usize = 4;

/// Evictions that one disruption budget counts.
#[derive(Default)]
struct Lane {
    under_way: usize,
    waiting: VecDeque<(CallId, Victim)>,
}

/// Evictions and notices that wait.
#[derive(Default)]
pub(super) struct Victims {
    evictions: VecDeque<(CallId, Victim)>,
    /// evictions whose pod has a write in flight
    held: FxHashMap<Uid, Vec<(CallId, Victim)>>,
    /// by the number of the budget; those of which nothing is under way or waits are forgotten
    lanes: BTreeMap<u32, Lane>,
    notices: VecDeque<Uid>,
    notice_of: FxHashMap<Uid, Notice>,
    /// what was said, until the eviction is answered
    said: FxHashMap<Uid, Arc<str>>,
    pub(super) in_flight: usize,
}

impl Victims {
    /// Evictions that have not left.
    pub(super) fn evictions(&self) -> usize {
        let held = self.held.values().map(Vec::len).sum::<usize>();
        let behind = self.lanes.values().map(|lane| lane.waiting.len()).sum::<usize>();
        self.evictions.len() + held + behind
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

    /// The next eviction that may leave; one whose pod is being written waits for that. O(budgets).
    fn next(&mut self, telling: &FxHashSet<Uid>) -> Option<(CallId, Victim)> {
        while let Some((call, victim)) = self.evictions.pop_front() {
            if telling.contains(&victim.pod.uid) {
                self.hold(call, victim);
                continue;
            }
            let Some(budget) = victim.budget else { return Some((call, victim)) };
            let lane = self.lanes.entry(budget).or_default();
            if lane.under_way == 0 && lane.waiting.is_empty() {
                lane.under_way = 1;
                return Some((call, victim));
            }
            lane.waiting.push_back((call, victim));
        }
        loop {
            let open =
                |lane: &&mut Lane| lane.under_way < OF_ONE_BUDGET && !lane.waiting.is_empty();
            let lane = self.lanes.values_mut().filter(open).min_by_key(|lane| lane.under_way)?;
            let (call, victim) = lane.waiting.pop_front()?;
            if !telling.contains(&victim.pod.uid) {
                lane.under_way += 1;
                return Some((call, victim));
            }
            self.hold(call, victim);
        }
    }

    fn hold(&mut self, call: CallId, victim: Victim) {
        self.held.entry(victim.pod.uid).or_default().push((call, victim));
    }

    /// An eviction is answered.
    fn leave(&mut self, victim: &Victim) {
        let Some(budget) = victim.budget else { return };
        let Some(lane) = self.lanes.get_mut(&budget) else { return };
        lane.under_way = lane.under_way.saturating_sub(1);
        if lane.under_way == 0 && lane.waiting.is_empty() {
            self.lanes.remove(&budget);
        }
    }

    /// Takes back those of these calls that have not left.
    fn withdraw(&mut self, calls: &[CallId]) -> Vec<(CallId, Victim)> {
        let of_them = |(call, _): &(CallId, Victim)| calls.contains(call);
        let mut taken = Vec::new();
        let mut take = |queue: &mut VecDeque<(CallId, Victim)>| {
            let (of_calls, rest) = std::mem::take(queue).into_iter().partition(of_them);
            *queue = rest;
            taken.append(&mut Vec::from(of_calls));
        };
        take(&mut self.evictions);
        self.lanes.values_mut().for_each(|lane| take(&mut lane.waiting));
        self.lanes.retain(|_, lane| lane.under_way > 0 || !lane.waiting.is_empty());
        self.held.retain(|_, held| {
            taken.extend(held.extract_if(.., |eviction| of_them(eviction)));
            !held.is_empty()
        });
        taken
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

    pub(super) fn evict(&mut self, call: CallId, victims: Vec<Victim>) {
        self.victims.evictions.extend(victims.into_iter().map(|victim| (call, victim)));
    }

    /// Evictions of these calls that have not left never do.
    pub(super) fn withdraw(&mut self, calls: &[CallId]) {
        for (call, victim) in self.victims.withdraw(calls) {
            let (pod, outcome) = (victim.pod.uid, EvictOutcome::Withdrawn);
            self.observer.evicted(&outcome);
            self.answers.push_back(Event::EvictFinished { call, pod, outcome });
        }
    }

    /// Starts the next eviction, if there is one that may leave.
    pub(super) fn start_evict(&mut self) -> bool {
        if self.victims.in_flight >= self.limits.binds_in_flight {
            return false;
        }
        let Some((call, victim)) = self.victims.next(&self.telling) else { return false };
        let uid = victim.pod.uid;
        let notice = self.victims.notice_of.remove(&uid);
        let (binder, teller) = (self.binder.clone(), self.teller.clone());
        self.telling.insert(uid);
        self.victims.in_flight += 1;
        self.in_flight.push(Box::pin(async move {
            if let Some(notice) = notice.filter(|_| binder.may_send()) {
                teller.write(&Write::Notice(notice)).await;
            }
            let outcome = binder.evict(&victim.pod).await;
            Done::Evict { call, victim, outcome }
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

    pub(super) fn evicted(&mut self, call: CallId, victim: Victim, outcome: EvictOutcome) {
        let pod = &victim.pod;
        self.victims.in_flight -= 1;
        self.victims.leave(&victim);
        self.telling.remove(&pod.uid);
        self.observer.evicted(&outcome);
        let said = match outcome {
            EvictOutcome::Protected(_) => None,
            _ => self.victims.said.remove(&pod.uid),
        };
        let goes = outcome == EvictOutcome::Evicted;
        let stays = goes && !victim.goes_at_once;
        if let Some(note) = said.filter(|_| stays) {
            // the eviction has put its own reason over ours
            self.victims
                .notice_of
                .insert(pod.uid, Notice { pod: pod.clone(), note, fate: Fate::Evicted });
        }
        let pod = pod.uid;
        self.release(pod);
        self.answers.push_back(Event::EvictFinished { call, pod, outcome });
        if !goes {
            // the scheduler gives the plan up; until it has said so more would leave
            self.withdraw(&[call]);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::model::PodKey;

    fn victim(number: u8, budget: Option<u32>) -> Victim {
        let uid = Uid::parse(&format!("00000000-0000-0000-0000-0000000000{number:02}"));
        let key = PodKey { namespace: "ns".into(), name: format!("w-{number}").into() };
        Victim { pod: PodRef { key, uid }, budget, goes_at_once: false }
    }

    #[test]
    fn what_has_not_left_can_be_withdrawn() {
        let mut victims = Victims::default();
        let names = |taken: Vec<(CallId, Victim)>| {
            let taken = taken.iter().map(|(_, victim)| victim.pod.key.name.to_string());
            std::collections::BTreeSet::from_iter(taken)
        };
        let mine = |number, budget| (CallId(1), victim(number, budget));
        let first = [mine(0, Some(7)), mine(1, Some(7)), mine(2, None), mine(3, Some(8))];
        victims.evictions.extend(first);
        victims.evictions.push_back((CallId(2), victim(4, Some(7))));
        let telling = FxHashSet::from_iter([victim(2, None).pod.uid]);
        let left = victims.next(&telling).expect("one may leave");
        assert_eq!(&*left.1.pod.key.name, "w-0");
        // one waits behind its budget, one is being written, one has a budget of its own
        let left = victims.next(&telling).expect("another may leave");
        assert_eq!(&*left.1.pod.key.name, "w-3");

        assert_eq!(names(victims.withdraw(&[CallId(3)])), names(vec![]));
        assert_eq!(
            names(victims.withdraw(&[CallId(1)])),
            names(vec![mine(1, None), mine(2, None)])
        );
        let left = victims.next(&FxHashSet::default()).expect("that of the other call");
        assert_eq!(&*left.1.pod.key.name, "w-4");
        assert_eq!(victims.evictions(), 0);
        for (number, budget) in [(0, 7), (3, 8), (4, 7)] {
            victims.leave(&victim(number, Some(budget)));
        }
        assert!(victims.lanes.is_empty(), "no budget is remembered for nothing");
    }

    #[test]
    fn those_of_other_budgets_leave_first_and_few_of_one() {
        let mut victims = Victims::default();
        let of = |range: std::ops::Range<u8>, budget| {
            range.map(move |number| (CallId(1), victim(number, budget)))
        };
        victims.evictions.extend(of(0..6, Some(7)));
        victims.evictions.extend(of(10..12, Some(8)));
        victims.evictions.extend(of(20..22, None));
        let mut telling = FxHashSet::from_iter([victim(1, None).pod.uid]);
        let left = |victims: &mut Victims, telling: &FxHashSet<Uid>| {
            let mut left = Vec::new();
            while let Some((_, victim)) = victims.next(telling) {
                left.push(victim.pod.key.name.to_string());
            }
            left
        };
        // the second of budget 7 is being written, and its sixth is one too many
        let first = left(&mut victims, &telling);
        assert_eq!(first, ["w-0", "w-10", "w-20", "w-21", "w-2", "w-11", "w-3", "w-4"]);
        assert_eq!(victims.evictions(), 2, "one is held, one waits");

        telling.clear();
        victims.release(victim(1, None).pod.uid);
        assert_eq!(left(&mut victims, &telling), [""; 0], "the budget is still busy");
        for number in [0, 2, 3, 4, 5] {
            victims.leave(&victim(number, Some(7)));
            let next = left(&mut victims, &telling);
            match number {
                0 => assert_eq!(next, ["w-5"], "the first that waits has its turn"),
                2 => assert_eq!(next, ["w-1"]),
                _ => assert_eq!(next, [""; 0]),
            }
        }
        victims.leave(&victim(1, Some(7)));
        [10, 11].into_iter().for_each(|number| victims.leave(&victim(number, Some(8))));
        assert!(victims.lanes.is_empty(), "no budget is remembered for nothing");
        assert_eq!(victims.evictions(), 0);
    }
}
