//! Who counts as a member, and where a group belongs.
//!
//! A gang lives in incarnations. A member that has ended well counts as long as it belongs to the
//! present one: it has the controller of a live member, or it ended after the incarnation began.
//! That is when its oldest member was created, of all that were live since something of it has had
//! room without a break; a victim that stays if its plan is given up makes none. So a Job index
//! that is done counts while another is replaced, whichever that is, and leftovers of an earlier
//! run under the same name do not.

use super::Scheduler;
use super::pods::{PodEntry, PodState};
use super::tasks::Tasks;
use crate::framework::{GroupFacts, OrderFacts};
use crate::model::fault::{Fault, is_made};
use crate::model::pod::digest;
use crate::model::queue::Ordering;
use crate::model::{Timestamp, TopologyAsk, WallTime};
use crate::queue::{Counts, GroupIndex, Home, OrderKey, PodGroup, Stage};
use smallvec::SmallVec;

/// What one pass over the members found.
struct Look {
    counts: Counts,
    min_member: u32,
    max_member: u32,
    queue: u64,
    priority: i32,
    non_preemptible: bool,
    never_preempts: bool,
    topology: Option<Box<TopologyAsk>>,
    created: WallTime,
    /// when the incarnation began; `None`: nothing of it has room
    run_since: Option<WallTime>,
    /// of bound members
    reclaim_rank: i16,
    conflict: Option<String>,
    /// the youngest bind of a bound member; `None` without any
    last_bound: Option<WallTime>,
    rolling_back: bool,
    /// a victim stays if its plan is given up
    may_stay: bool,
    tasks: Tasks,
}

impl Scheduler {
    /// Brings a group's counts up to date and moves it to its home.
    pub(super) fn look_at(&mut self, now: Timestamp, index: GroupIndex) {
        if !self.groups.is_live(index) {
            return; // it ended after it was marked
        }
        let mut look = self.look(index);
        let group = self.groups.get_mut(index);
        group.dirty = false;
        if group.members.is_empty() {
            if self.has_plan(index) {
                self.step_plan(now, index);
            }
            if self.groups.get(index).home != Home::Committing {
                self.end_drain(index);
                self.leave_queue(index);
                let group = self.groups.get_mut(index);
                self.queue.remove(index, group);
                self.groups.remove(index);
            } else {
                // it asks for nothing while its calls have no answer yet
                self.count_now(index);
            }
            return;
        }
        group.min_member = look.min_member;
        group.max_member = look.max_member.max(look.min_member);
        group.priority = look.priority;
        group.non_preemptible = look.non_preemptible;
        group.never_preempts = look.never_preempts;
        group.topology.clone_from(&look.topology);
        group.created = look.created;
        let home = group.home;
        self.set_counts(index, &mut look);
        if self.has_plan(index) {
            self.step_plan(now, index);
        } else if home != Home::Committing {
            if self.is_stranded(now, index, &look) {
                self.roll_back(index);
            } else {
                let home = self.home_of(now, index, &look);
                let group = self.groups.get_mut(index);
                if home != group.home {
                    self.queue.move_to(index, group, home);
                }
            }
        }
        self.count_group(index);
        self.note_spare(index);
        self.note_holder(index);
        self.repend(index);
    }

    /// Brings the counts of a group up to date in the middle of a cycle.
    pub(super) fn count_now(&mut self, index: GroupIndex) {
        let mut look = self.look(index);
        self.set_counts(index, &mut look);
        self.count_group(index);
        self.note_spare(index);
        self.note_holder(index);
        self.repend(index);
    }

    fn set_counts(&mut self, index: GroupIndex, look: &mut Look) {
        let counts = look.counts;
        let group = self.groups.get_mut(index);
        (group.counts, group.reclaim_rank) = (counts, look.reclaim_rank);
        if look.run_since.is_some() || !look.may_stay {
            group.run_since = look.run_since;
        }
        if !look.tasks.found.is_empty() || !group.tasks.is_empty() {
            if group.run_since.is_some() {
                look.tasks.remember(&group.tasks);
            }
            look.tasks.found.sort_unstable_by(|a, b| a.name.cmp(&b.name));
            group.tasks.clone_from(&look.tasks.found);
            self.groups.get_mut(index).needed_by_tasks = self.needed_by_tasks(index);
        }
    }

    fn look(&self, index: GroupIndex) -> Look {
        let group = self.groups.get(index);
        let mut look = Look {
            counts: Counts::default(),
            min_member: group.min_member,
            max_member: group.max_member,
            queue: 0,
            priority: group.priority,
            non_preemptible: group.non_preemptible,
            never_preempts: false,
            topology: group.topology.clone(),
            created: WallTime(i64::MAX),
            run_since: None,
            reclaim_rank: 0,
            conflict: None,
            last_bound: None,
            rolling_back: false,
            may_stay: false,
            tasks: Tasks::default(),
        };
        let mut controllers: SmallVec<[u64; 4]> = SmallVec::new();
        let mut first = true;
        for pod in group.members.iter().map(|member| self.pods.get(*member)) {
            let counted = match pod.state {
                PodState::Waiting => &mut look.counts.waiting,
                PodState::Gated => &mut look.counts.gated,
                PodState::Assumed(_) => &mut look.counts.assumed,
                PodState::Nominated => &mut look.counts.nominated,
                PodState::Bound if pod.victim_of.is_some() && pod.chosen => {
                    look.counts.evicting += 1;
                    look.may_stay |= !pod.deleting;
                    continue;
                }
                PodState::Bound if !pod.deleting => {
                    let bound_at = pod.bound_at.unwrap_or(WallTime(i64::MAX));
                    look.last_bound = look.last_bound.max(Some(bound_at));
                    look.reclaim_rank = look.reclaim_rank.min(pod.reclaim_rank);
                    &mut look.counts.bound
                }
                PodState::RollingBack(_) => {
                    look.rolling_back = true;
                    continue;
                }
                _ => continue,
            };
            *counted += 1;
            look.created = look.created.min(pod.created);
            if pod.controller != 0 && !controllers.contains(&pod.controller) {
                controllers.push(pod.controller);
            }
            if first {
                (look.min_member, look.max_member) = (pod.min_member, pod.max_member);
                (look.priority, look.queue, first) = (pod.priority, pod.queue, false);
                look.non_preemptible = pod.non_preemptible;
                look.topology.clone_from(&pod.topology);
            }
            look.never_preempts |= pod.never_preempts;
            look.note_conflict(pod);
            let waiting = pod.state == PodState::Waiting;
            look.tasks.count(pod, waiting, !waiting && pod.state != PodState::Gated);
        }
        self.look_at_ended(group, &controllers, &mut look);
        let tasks = look.tasks.conflict.take().or_else(|| look.tasks.too_many(look.max_member));
        look.conflict = look.conflict.or(tasks);
        look
    }

    /// Counts members that have ended, with the controllers of those that live.
    fn look_at_ended(&self, group: &PodGroup, controllers: &[u64], look: &mut Look) {
        if look.counts.bound + look.counts.assumed + look.counts.nominated > 0 {
            let known = group.run_since.unwrap_or(look.created);
            look.run_since = Some(look.created.min(known));
        }
        let since = look.run_since.unwrap_or(look.created);
        let ended = group.members.iter().map(|member| self.pods.get(*member));
        let counts = |pod: &&PodEntry| {
            pod.state == PodState::Succeeded
                && (controllers.contains(&pod.controller)
                    || pod.finished.is_some_and(|finished| finished >= since))
        };
        for pod in ended.filter(counts) {
            look.counts.succeeded += 1;
            look.tasks.count(pod, false, true);
        }
    }

    /// Whether the gang is half bound past its deadline. Decides, on the way, whether a gang with
    /// fewer bound members than its minimum was ever whole.
    fn is_stranded(&mut self, now: Timestamp, index: GroupIndex, look: &Look) -> bool {
        let window = self.options.takeover_window_ms;
        let renewal = self.leadership.map_or(WallTime(i64::MIN), |lead| lead.previous_renewal);
        let deadline = self.options.partial_deadline_ms;
        let group = self.groups.get_mut(index);
        let whole = group.is_whole();
        if look.counts.evicting > 0 {
            // what is left of a gang that is evicted goes too
            return false;
        }
        let Some(last_bound) = look.last_bound.filter(|_| !whole) else {
            group.partial_since = None;
            if look.last_bound.is_none() {
                // an incarnation ends when nothing of it is bound
                (group.satisfied, group.whole_since) = (false, None);
            } else {
                group.whole_since.get_or_insert(now);
                group.failures = 0;
            }
            return false;
        };
        let long_ago = last_bound.0.saturating_add(window) < renewal.0;
        // news of a loss may be older than the bind that seemed to make the gang whole
        let whole_for = group.whole_since.take().map_or(0, |since| now.since_ms(since));
        group.satisfied |= whole_for >= self.options.whole_after_ms;
        group.satisfied |= long_ago && group.partial_since.is_none();
        if group.satisfied {
            return false;
        }
        self.tallies.half_bound += u64::from(group.partial_since.is_none());
        let since = *group.partial_since.get_or_insert(now);
        let due = since.plus_ms(deadline).max(group.backoff_until);
        if due > now {
            self.queue.wake_at(index, group, due);
        }
        due <= now && !look.rolling_back && !is_made(Fault::PartialKept)
    }

    fn home_of(&mut self, now: Timestamp, index: GroupIndex, look: &Look) -> Home {
        let group = self.groups.get(index);
        if look.counts.waiting == 0 {
            return if look.counts.gated > 0 { Home::Gate } else { Home::Idle };
        }
        let facts = GroupFacts {
            min_member: look.min_member,
            countable: look.counts.settled() + look.counts.waiting,
            gated: look.counts.gated,
            lacking: look.tasks.lacking(),
            conflict: look.conflict.as_deref(),
        };
        let first = self.pods.get(group.members[0]);
        let held = if self.terminating.contains(&*first.namespace) {
            Some("the namespace is being deleted".to_owned())
        } else if let Some(reason) = self.held_by_queue(index) {
            Some(reason)
        } else if let Some(reason) = self.held_by_caps(index) {
            Some(reason)
        } else {
            let profile = &self.profiles[usize::from(self.groups.get(index).profile)];
            profile.pre_enqueue().find_map(|plugin| plugin.pre_enqueue(&facts))
        };
        if let Some(reason) = held {
            self.hold(now, index, &reason);
            return Home::Gate;
        }
        if self.groups.get(index).joinable() == 0 {
            return Home::Idle;
        }
        let key = self.order_key(index);
        let group = self.groups.get_mut(index);
        (group.gated_since, group.past_gate) = (None, true);
        if group.backoff_until > now {
            // an earlier timer may have been in its place, and is spent now
            self.queue.wake_at(index, group, group.backoff_until);
            return Home::Backoff(group.backoff_until);
        }
        Home::Active(key)
    }

    /// Keeps a group in the gate, and says so once it has been there for a while.
    fn hold(&mut self, now: Timestamp, index: GroupIndex, reason: &str) {
        let delay = self.options.gate_tell_delay_ms;
        let group = self.groups.get_mut(index);
        let since = *group.gated_since.get_or_insert(now);
        if since.plus_ms(delay) <= now {
            self.tell_held(index, reason);
        } else {
            self.queue.wake_at(index, group, since.plus_ms(delay));
        }
    }

    /// What keeps a group from being tried beside its members.
    fn held_by_queue(&self, index: GroupIndex) -> Option<String> {
        let group = self.groups.get(index);
        if let Some(fault) = &group.queue_fault {
            return Some(fault.to_string());
        }
        let leaf = group.leaf.expect("a group has a queue or a fault");
        // a closed queue takes nothing for those below it either
        let mut above = self.fair.path(leaf).map(|queue| self.fair.spec(queue));
        if group.counts.settled() == 0
            && let Some(closed) = above.find(|queue| !queue.open)
        {
            return Some(format!("queue {} is closed", closed.name));
        }
        if let Some(reason) = self.held_by_run_limit(index) {
            return Some(reason);
        }
        if let Some(closed) = self.out_of_window(index) {
            return Some(closed);
        }
        let dissolving = group.counts.evicting > 0 && group.needed() > 0;
        dissolving.then(|| "its members are being evicted".to_owned())
    }

    /// Half-bound gangs first, then minima in the profile's order or by age alone, then growth: the
    /// least grown first. A stable hash breaks ties.
    pub(super) fn order_key(&self, index: GroupIndex) -> OrderKey {
        let group = self.groups.get(index);
        let profile = &self.profiles[usize::from(group.profile)];
        let facts = OrderFacts { priority: group.priority, created: group.created };
        let name = match &group.name {
            Some(known) => &known.name,
            None => &self.pods.get(group.members[0]).name,
        };
        let queue = group.leaf.map(|leaf| self.fair.spec(leaf));
        let key = match (queue.map(|queue| queue.order), queue.and_then(|queue| queue.ageing)) {
            (Some(Ordering::Fifo), _) => (group.created.0, 0),
            (_, Some(ageing)) => {
                (ageing.as_if_created(group.priority, group.created.0), group.created.0)
            }
            _ => profile.queue_sort().key(&facts),
        };
        if group.partial_since.is_some() {
            return (Stage::Completion, key, digest(name));
        }
        if group.needed() > 0 || group.counts.settled() == 0 {
            return (Stage::Minimum, key, digest(name));
        }
        (Stage::Growth, (group.growth().part(0), group.created.0), digest(name))
    }
}

impl Look {
    fn note_conflict(&mut self, pod: &PodEntry) {
        let found = if pod.min_member != self.min_member {
            Some(("min-member", i64::from(self.min_member), i64::from(pod.min_member)))
        } else if pod.max_member != self.max_member {
            Some(("max-member", i64::from(self.max_member), i64::from(pod.max_member)))
        } else if pod.priority != self.priority {
            Some(("priority", i64::from(self.priority), i64::from(pod.priority)))
        } else {
            None
        };
        if let (None, Some((what, one, other))) = (&self.conflict, found) {
            self.conflict = Some(format!("{what} is {one} and {other}"));
        }
        if self.conflict.is_none() && pod.queue != self.queue {
            self.conflict = Some("they name different queues".to_owned());
        }
        if self.conflict.is_none() && pod.non_preemptible != self.non_preemptible {
            self.conflict = Some("some may be evicted and some must not".to_owned());
        }
        if self.conflict.is_none() && pod.topology != self.topology {
            self.conflict = Some("they ask different things of the topology".to_owned());
        }
    }
}
