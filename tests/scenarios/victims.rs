//! Notices and evictions: what the API server does with them, and what must be true of them.

use crate::format::Answer;
use crate::judge;
use crate::world::{Truth, World, shown};
use mss_scheduler::model::{Phase, Pod, Uid};
use mss_scheduler::scheduler::{CallId, Event, EvictOutcome, PodRef};
use std::collections::{BTreeMap, BTreeSet};

/// The last notice of a pod.
pub(crate) struct Notice {
    pod: Uid,
    pub(crate) text: String,
    /// no eviction before
    due: i64,
}

/// An eviction that has not been answered.
struct Held {
    name: String,
    pod: PodRef,
    call: CallId,
    is_done: bool,
    has_left: bool,
}

/// What is known of victims.
#[derive(Default)]
pub(crate) struct Victims {
    /// by the name of the pod
    pub(crate) notices: BTreeMap<String, Notice>,
    held: Vec<Held>,
    /// those for whom room was to be made
    preemptors: BTreeSet<String>,
    /// those of them that ran since
    seated: BTreeSet<String>,
}

impl Victims {
    /// Calls of a process that is gone are never answered; those that were held never happen.
    pub(crate) fn forget_calls(&mut self) {
        self.held.clear();
    }
}

fn time(millis: i64) -> String {
    if millis % 1000 == 0 { format!("{}s", millis / 1000) } else { format!("{millis}ms") }
}

/// Pods that run, and are not about to go.
fn stays(pod: &Pod) -> bool {
    pod.node.is_some() && !pod.deleting && !pod.ended()
}

impl World {
    pub(crate) fn warn(&mut self, pods: &[PodRef], note: &str, evict_in_ms: i64) {
        let named = note.strip_prefix("evicted to make room for ").expect("a note says for whom");
        let (who, _) = named.split_once(" of queue ").expect("a note names the queue");
        let (_, who) = who.split_once(' ').expect("a gang, or a pod");
        self.victims.preemptors.insert(who.to_owned());
        self.victims.seated.remove(who);
        for pod in pods {
            let name = shown(pod);
            judge::victim(self, pod);
            self.done.warned.push(name.clone());
            let text = format!("in {}: {note}", time(evict_in_ms));
            let notice = Notice { pod: pod.uid, text, due: self.now + evict_in_ms };
            self.victims.notices.insert(name.clone(), notice);
            self.show_notice(pod, true);
        }
    }

    /// Only pods that were given notice, and are not evicted, are told that they stay.
    pub(crate) fn spare(&mut self, pods: &[PodRef], note: &str) {
        for pod in pods {
            let name = shown(pod);
            judge::victim(self, pod);
            let asked = self.victims.held.iter().any(|held| held.pod.uid == pod.uid);
            assert!(!asked, "I6: {name} is spared while its eviction is in flight");
            let truth = self.pods.get(&name).filter(|truth| truth.pod.uid == pod.uid);
            let noticed = truth.is_none_or(|truth| truth.pod.noticed && !truth.pod.deleting);
            assert!(noticed || !self.watching, "I6: {name} is spared and was no victim");
            self.done.spared.push(name.clone());
            self.victims.notices.remove(&name);
            self.show_notice(pod, false);
            assert!(!note.is_empty(), "{name} is told nothing");
        }
    }

    fn show_notice(&mut self, pod: &PodRef, noticed: bool) {
        let name = shown(pod);
        if self.pods.get(&name).is_some_and(|truth| truth.pod.uid == pod.uid) {
            self.modify(&name, |pod| pod.noticed = noticed);
        }
    }

    pub(crate) fn evict(&mut self, call: CallId, pods: &[PodRef]) {
        for pod in pods {
            let name = shown(pod);
            judge::victim(self, pod);
            let notice = self.victims.notices.get(&name).filter(|notice| notice.pod == pod.uid);
            let notice = notice.unwrap_or_else(|| panic!("I6: {name} goes without notice"));
            assert!(notice.due <= self.now, "I6: {name} goes before its time");
        }
        self.whole_units(pods);
        self.done.evictions.push(pods.iter().map(shown).collect());
        for pod in pods {
            let name = shown(pod);
            let held =
                Held { name: name.clone(), pod: pod.clone(), call, is_done: false, has_left: true };
            self.victims.held.push(held);
            match self.answers.get(&name) {
                Some(Answer::Held) => {
                    self.answers.remove(&name);
                }
                Some(Answer::Queued) => {
                    self.answers.remove(&name);
                    self.victims.held.last_mut().expect("it was put there").has_left = false;
                }
                Some(Answer::Lost) => {
                    self.answers.remove(&name);
                    self.start_deletion(pod.uid, &name);
                    let held = self.victims.held.last_mut().expect("it was put there");
                    held.is_done = true;
                }
                _ => {
                    self.release_eviction(&name);
                }
            }
        }
    }

    /// I6: no gang that had its minimum is left with some members, but fewer than that.
    fn whole_units(&self, pods: &[PodRef]) {
        let mut gangs: BTreeMap<(&str, &str), u32> = BTreeMap::new();
        let victims: BTreeSet<Uid> = pods.iter().map(|pod| pod.uid).collect();
        let all = || self.pods.values().map(|truth: &Truth| &truth.pod);
        for (namespace, name, min) in all().filter_map(judge::gang) {
            gangs.insert((namespace, name), min);
        }
        for ((namespace, name), min) in gangs {
            let members = || {
                let of_it = |pod: &&Pod| {
                    judge::gang(pod).is_some_and(|(n, g, _)| (n, g) == (namespace, name))
                };
                all().filter(of_it)
            };
            let ended = members().filter(|pod| pod.phase == Phase::Succeeded).count();
            let before = members().filter(|pod| stays(pod)).count();
            let after = members().filter(|pod| stays(pod) && !victims.contains(&pod.uid)).count();
            let min = min as usize;
            let short = after > 0 && after + ended < min && before + ended >= min;
            assert!(!short, "I6: {name} is left with {after} of {before} members, needs {min}");
            for task in members().filter_map(|pod| pod.task.as_deref()) {
                let of_it = |pod: &&Pod| pod.task.as_deref() == Some(task);
                let stay = |pod: &&Pod| stays(pod) || pod.phase == Phase::Succeeded;
                let before = members().filter(of_it).filter(stay).count();
                let left = members().filter(of_it).filter(stay);
                let left = left.filter(|pod| !victims.contains(&pod.uid)).count();
                let (part, min) = (&task.name, task.min as usize);
                let short = after > 0 && left < min && before >= min;
                assert!(!short, "I6: {part} of {name} is left with {left} of {min} members");
            }
        }
    }

    fn start_deletion(&mut self, uid: Uid, name: &str) {
        if self.pods.get(name).is_some_and(|truth| truth.pod.uid == uid) {
            self.note_evicted(uid);
            self.modify(name, |pod| pod.deleting = true);
            self.take_from_budgets(name);
        }
    }

    /// Carries an eviction out, if that has not happened, and answers it. Whether there was one.
    pub(crate) fn release_eviction(&mut self, name: &str) -> bool {
        let place = self.victims.held.iter().position(|held| held.name == name);
        let Some(place) = place else { return false };
        let Held { pod, call, is_done, .. } = self.victims.held.remove(place);
        let answer = self.answers.remove(name);
        let outcome = match &answer {
            Some(Answer::Protected) => EvictOutcome::Protected("the budget needs it".into()),
            Some(Answer::Refused | Answer::NotSent) => EvictOutcome::Failed,
            None | Some(Answer::Slow) => EvictOutcome::Evicted,
            Some(Answer::Held | Answer::Queued | Answer::Lost) => {
                panic!("{name}: it is released already")
            }
        };
        let goes = outcome == EvictOutcome::Evicted;
        if goes && !is_done {
            self.start_deletion(pod.uid, name);
        }
        self.hear(Event::EvictFinished { call, pod: pod.uid, outcome });
        let exists = self.pods.get(name).is_some_and(|truth| truth.pod.uid == pod.uid);
        if goes && exists && answer.is_none() {
            self.remove(name);
        }
        true
    }

    /// What has not left of these calls never does.
    pub(crate) fn withdraw(&mut self, calls: &[CallId]) {
        let waits = |held: &mut Held| calls.contains(&held.call) && !held.has_left;
        let taken: Vec<Held> = self.victims.held.extract_if(.., waits).collect();
        for Held { name, pod, call, .. } in taken {
            self.done.withdrawn.push(name);
            let (pod, outcome) = (pod.uid, EvictOutcome::Withdrawn);
            self.hear(Event::EvictFinished { call, pod, outcome });
        }
    }

    /// Notes which of those for whom room was to be made run now.
    pub(crate) fn note_seated(&mut self) {
        let waiting = self.victims.preemptors.difference(&self.victims.seated);
        let now: Vec<String> = waiting.filter(|who| self.is_seated(who)).cloned().collect();
        self.victims.seated.extend(now);
    }

    fn is_seated(&self, who: &str) -> bool {
        let (namespace, name) = who.split_once('/').expect("namespace and name");
        let is_member = |pod: &&Pod| match judge::gang(pod) {
            Some((n, gang, _)) => (n, gang) == (namespace, name),
            None => (&*pod.key.namespace, &*pod.key.name) == (namespace, name),
        };
        let members = || self.pods.values().map(|truth| &truth.pod).filter(is_member);
        let min = members().next().and_then(judge::gang).map_or(1, |(_, _, min)| min);
        let counts = |pod: &&Pod| stays(pod) || pod.phase == Phase::Succeeded;
        members().filter(counts).count() >= min as usize
    }

    /// I6: all for whom room was to be made were seated, but those of which it was said.
    pub(crate) fn check_seated(&self, unseated: &[String]) {
        let never = self.victims.preemptors.difference(&self.victims.seated);
        let never: Vec<&String> = never.collect();
        let said: Vec<&String> = unseated.iter().collect();
        assert_eq!(never, said, "I6: those for whom victims got notice, and that were not seated");
    }
}
