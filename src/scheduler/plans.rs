//! Plans: room that is being made for a gang.
//!
//! A plan names its victims and the seats that their going frees. From its beginning the seats are
//! charged to the gang, on top of the victims that still run there, so nobody else can take the
//! room. Victims get their notice, then their eviction; when the last of them is gone the gang is
//! bound. If a victim turns out to be protected, or does not go in time, the plan is given up and
//! those that were not evicted yet are spared.

use super::Scheduler;
use super::calls::{ApiCall, BindMember, CallId, EvictOutcome, PodRef, Victim};
use super::pods::PodState;
use crate::cluster::{Assignment, NodeIndex, PodIndex, Statement};
use crate::framework::Reads;
use crate::model::fault::{Fault, is_made};
use crate::model::{Timestamp, Uid};
use crate::queue::{GroupIndex, Home};
use std::collections::BTreeSet;
use std::sync::Arc;

/// Room being made for one gang.
#[derive(Debug)]
pub(super) struct Plan {
    seats: Vec<PodIndex>,
    /// pods whose room is awaited
    victims: BTreeSet<PodIndex>,
    /// some that were victims are none any more
    has_lost: bool,
    /// evictions that wait for the end of the notice, the next one last
    due: Vec<(Timestamp, Vec<PodIndex>)>,
    /// that ask for evictions
    calls: Vec<CallId>,
    deadline: Timestamp,
}

/// Victims that are treated alike.
pub(super) struct Notice {
    pub(super) pods: Vec<PodIndex>,
    /// between the notice and the eviction
    pub(super) grace_ms: i64,
    /// on its way out already: waited for, not evicted
    pub(super) leaving: bool,
}

impl Plan {
    /// Pods that are to be seated.
    pub(super) fn seats(&self) -> &[PodIndex] {
        &self.seats
    }

    /// Pods whose room is awaited.
    pub(super) fn victims(&self) -> impl Iterator<Item = PodIndex> {
        self.victims.iter().copied()
    }
}

impl Scheduler {
    /// Puts a plan in force: seats are charged, victims get notice.
    pub(super) fn begin_plan(
        &mut self,
        index: GroupIndex,
        notices: Vec<Notice>,
        seats: Vec<Assignment>,
    ) {
        let now = self.now;
        let group = self.groups.get_mut(index);
        assert!(
            group.counts.settled() as usize + seats.len() >= group.min_member as usize,
            "I6: victims are chosen for a gang that they do not seat"
        );
        let seated = seats.iter().map(|seat| seat.pod).collect();
        assert!(self.tasks_met(index, seated), "I6: a task group is seated below its minimum");
        let group = self.groups.get_mut(index);
        self.queue.move_to(index, group, Home::Committing);
        let note = self.note_on_victims(index);
        let mut plan = Plan {
            seats: seats.iter().map(|seat| seat.pod).collect(),
            victims: notices.iter().flat_map(|notice| &notice.pods).copied().collect(),
            has_lost: false,
            due: Vec::with_capacity(notices.len()),
            calls: Vec::new(),
            deadline: now,
        };
        self.assert_whole_units(&notices);
        let mut losers: Vec<GroupIndex> = Vec::new();
        let mut vacating = Vec::with_capacity(plan.victims.len());
        let mut gone = now;
        for notice in notices {
            let stop = notice.pods.iter().map(|pod| self.pods.get(*pod).termination_ms).max();
            let wait = if notice.leaving { 0 } else { self.give_notice(&notice, &note) };
            gone = gone.max(now.plus_ms(wait + stop.unwrap_or(0)));
            for victim in &notice.pods {
                let pod = self.pods.get_mut(*victim);
                assert!(pod.victim_of.is_none(), "I6: a victim of two plans");
                (pod.victim_of, pod.chosen) = (Some(index), !notice.leaving);
                vacating.extend(pod.node.map(|node| (node, *victim)));
                // those of one gang stand together
                losers.extend(pod.group.filter(|group| losers.last() != Some(group)));
            }
            if notice.leaving {
                continue;
            }
            self.tallies.victims += notice.pods.len() as u64;
            plan.due.push((now.plus_ms(wait), notice.pods));
        }
        self.vacating.add(vacating);
        losers.sort_unstable();
        losers.dedup();
        plan.due.sort_by(|a, b| b.cmp(a));
        let early = is_made(Fault::StuckAtOnce);
        plan.deadline = gone.plus_ms(if early { 1 } else { self.options.vacate_deadline_ms });
        for seat in &seats {
            let pod = self.pods.get_mut(seat.pod);
            assert_eq!(pod.state, PodState::Waiting, "I7: only waiting pods are seated");
            (pod.state, pod.node) = (PodState::Nominated, Some(seat.node));
            if !is_made(Fault::SeatNotEarmarked) {
                self.cluster.place(seat.class, seat.node);
            }
            self.recharge(seat.pod);
        }
        self.tallies.plans += 1;
        self.plans.insert(index, plan);
        self.mark(index);
        self.count_now(index);
        // the next search must not count what this one took
        for group in losers {
            self.note_pair(index, group);
            self.mark(group);
            self.count_now(group);
        }
    }

    /// I6: a gang that loses members keeps its minimum, or loses all that run.
    fn assert_whole_units(&self, notices: &[Notice]) {
        let taken = notices.iter().filter(|notice| !notice.leaving).flat_map(|n| &n.pods);
        let of_groups = taken.filter_map(|pod| Some((self.pods.get(*pod).group?, *pod)));
        let mut of_groups: Vec<(GroupIndex, PodIndex)> = of_groups.collect();
        of_groups.sort_by_key(|(group, _)| *group);
        for pods in of_groups.chunk_by(|a, b| a.0 == b.0) {
            let index = pods[0].0;
            let group = self.groups.get(index);
            let taken = u32::try_from(pods.len()).expect("groups are bounded");
            let keeps = group.counts.settled() >= group.min_member + taken;
            let pods = || pods.iter().map(|(_, pod)| *pod).collect::<Vec<PodIndex>>();
            assert!(
                group.counts.bound == taken || keeps && self.tasks_spare(index, &pods()),
                "I6: a gang is left between zero and its minimum"
            );
        }
    }

    pub(super) fn note_on_victims(&self, index: GroupIndex) -> Arc<str> {
        let group = self.groups.get(index);
        let member = self.pods.get(group.members[0]);
        let who = match &group.name {
            Some(known) => format!("gang {}/{}", known.namespace, known.name),
            None => format!("pod {}", member.key()),
        };
        let queue = group.leaf.map(|leaf| self.fair.name(leaf)).unwrap_or_default();
        format!("evicted to make room for {who} of queue {queue}, which is entitled to it").into()
    }

    pub(super) fn reference(&self, pod: PodIndex) -> PodRef {
        let pod = self.pods.get(pod);
        PodRef { key: pod.key(), uid: pod.uid }
    }

    /// Whether room is being made for a group.
    pub(super) fn has_plan(&self, index: GroupIndex) -> bool {
        self.plans.contains_key(&index)
    }

    /// Does what is due in a group's plan.
    pub(super) fn step_plan(&mut self, now: Timestamp, index: GroupIndex) {
        let Some(mut plan) = self.plans.remove(&index) else { return };
        plan.seats.retain(|pod| self.pods.get(*pod).state == PodState::Nominated);
        let group = self.groups.get(index);
        if plan.seats.is_empty() || group.needed() > 0 {
            return self.give_up(now, index, plan, "MembersChanged");
        }
        if plan.victims.is_empty() {
            return self.take_seats(now, index, plan);
        }
        if plan.deadline <= now {
            for victim in &plan.victims {
                let pod = self.pods.get_mut(*victim);
                pod.stuck = pod.deleting;
            }
            return self.give_up(now, index, plan, "VictimsStayed");
        }
        while let Some((_, pods)) = plan.due.pop_if(|(at, _)| *at <= now) {
            let is_left = |pod: &PodIndex| !plan.has_lost || plan.victims.contains(pod);
            let pods: Vec<PodIndex> = pods.into_iter().filter(is_left).collect();
            plan.calls.extend(self.evict(index, &pods));
        }
        let next = plan.due.last().map_or(plan.deadline, |(at, _)| *at);
        self.queue.wake_at(index, self.groups.get_mut(index), next);
        self.plans.insert(index, plan);
    }

    /// Asks for the eviction of pods, if there are any.
    fn evict(&mut self, index: GroupIndex, pods: &[PodIndex]) -> Option<CallId> {
        if pods.is_empty() {
            return None;
        }
        let places = self.disruption_places(pods);
        let places = places.into_iter().chain(std::iter::repeat(None));
        let victims = pods.iter().zip(places).map(|(pod, budget)| {
            let entry = self.pods.get(*pod);
            let pod = PodRef { key: entry.key(), uid: entry.uid };
            Victim { pod, budget, goes_at_once: entry.termination_ms == 0 }
        });
        let victims: Vec<Victim> = victims.collect();
        let call = self.calls.begin(index, victims.len());
        for pod in pods {
            let pod = self.pods.get_mut(*pod);
            if !pod.deleting {
                pod.evicted_by = Some(call);
            }
        }
        self.outbox.push(ApiCall::Evict { call, victims });
        Some(call)
    }

    /// Takes in that a pod no longer takes room.
    pub(super) fn victim_gone(&mut self, pod: PodIndex) {
        if let Some(index) = self.pods.get_mut(pod).victim_of.take()
            && let Some(plan) = self.plans.get_mut(&index)
        {
            plan.victims.remove(&pod);
            plan.has_lost = true;
            self.mark(index);
            // a plan may have counted on the room that another one makes
            let waiting = self.plans.iter().filter(|(_, plan)| plan.victims.is_empty());
            let waiting: Vec<GroupIndex> = waiting.map(|(index, _)| *index).collect();
            waiting.into_iter().for_each(|index| self.mark(index));
        }
    }

    /// Takes in that a member of a plan's gang is gone.
    pub(super) fn seat_gone(&mut self, pod: PodIndex) {
        let group = self.pods.get(pod).group;
        if let Some(plan) = group.and_then(|group| self.plans.get_mut(&group)) {
            plan.seats.retain(|seat| *seat != pod);
        }
    }

    /// Binds the gang to the seats that are free now.
    fn take_seats(&mut self, now: Timestamp, index: GroupIndex, plan: Plan) {
        let profile = self.groups.get(index).profile;
        let exists = plan.seats.iter().all(|seat| {
            let pod = self.pods.get(*seat);
            let node = pod.node.expect("a nominated pod has a seat");
            let class = self.cluster.class(pod.class);
            let profile = &self.profiles[usize::from(profile)];
            self.cluster.node(node).node.is_some()
                && profile.passes(Reads::Facts, &self.cluster, class, node)
        });
        let is_free =
            exists && self.seats_are_free(&plan, profile) && self.give_seats_devices(&plan.seats);
        let may_wait = exists && !is_free && plan.deadline > now;
        if may_wait && (self.others_leave(&plan) || self.claims_linger(&plan)) {
            self.queue.wake_at(index, self.groups.get_mut(index), plan.deadline);
            self.plans.insert(index, plan);
            return;
        }
        if !is_free {
            return self.give_up(now, index, plan, "RoomGone");
        }
        let call = self.calls.begin(index, plan.seats.len());
        let mut members = Vec::with_capacity(plan.seats.len());
        for seat in plan.seats {
            let pod = self.pods.get_mut(seat);
            pod.state = PodState::Assumed(call);
            let node = pod.node.expect("a nominated pod has a seat");
            let node: Arc<str> = (*self.cluster.node(node).name).into();
            let (devices, grants) = self.grant(seat, call);
            members.push(BindMember { pod: self.reference(seat), node, devices, grants });
            self.await_start(seat);
        }
        self.tallies.seated += 1;
        self.mark(index);
        self.outbox.push(ApiCall::Bind { call, profile, members });
    }

    /// Whether all seats pass the filters beside what is on their nodes. Seats of other plans are
    /// not: they wait for their own victims, whose room is counted as taken.
    fn seats_are_free(&mut self, plan: &Plan, profile: u8) -> bool {
        let nodes: BTreeSet<NodeIndex> = self.nodes_of(&plan.seats).collect();
        let others = self.plans.values().flat_map(|other| &other.seats);
        let seat = |pod: &PodIndex| {
            let entry = self.pods.get(*pod);
            let node = entry.node.filter(|node| nodes.contains(node))?;
            Some(Assignment { pod: *pod, class: entry.class, node })
        };
        let seats: Vec<Assignment> = others.chain(&plan.seats).filter_map(seat).collect();
        let mut paper = Statement::default();
        let start = paper.checkpoint();
        seats.iter().for_each(|seat| paper.evict(&mut self.cluster, *seat));
        let profile = &self.profiles[usize::from(profile)];
        let own = &seats[seats.len() - plan.seats.len()..];
        let is_free = own.iter().all(|seat| {
            let class = self.cluster.class(seat.class);
            let passes = profile.passes(Reads::Usage, &self.cluster, class, seat.node);
            paper.assume(&mut self.cluster, *seat);
            passes
        });
        paper.rollback(&mut self.cluster, start);
        is_free
    }

    /// Whether victims of other plans are still on the nodes of the seats.
    fn others_leave(&self, plan: &Plan) -> bool {
        let nodes: BTreeSet<NodeIndex> = self.nodes_of(&plan.seats).collect();
        let victims = self.plans.values().flat_map(Plan::victims);
        let mut on = victims.filter_map(|pod| self.pods.get(pod).node);
        on.any(|node| nodes.contains(&node))
    }

    fn nodes_of(&self, pods: &[PodIndex]) -> impl Iterator<Item = NodeIndex> {
        pods.iter().filter_map(|pod| self.pods.get(*pod).node)
    }

    /// Ends a plan without binding. Evictions that have not left are withdrawn, and victims that
    /// were not evicted are spared.
    fn give_up(&mut self, now: Timestamp, index: GroupIndex, plan: Plan, why: &'static str) {
        let open = plan.calls.into_iter().filter(|call| self.calls.contains(*call));
        let calls: Vec<CallId> = open.collect();
        if !calls.is_empty() && !is_made(Fault::NotWithdrawn) {
            self.outbox.push(ApiCall::Withdraw { calls });
        }
        for seat in plan.seats {
            self.forget(seat, PodState::Waiting);
        }
        if is_made(Fault::EvictedAfterAll) {
            let left = plan.due.iter().flat_map(|(_, pods)| pods);
            let left = left.filter(|pod| plan.victims.contains(*pod));
            let pods: Vec<PodIndex> = left.copied().collect();
            self.evict(index, &pods);
        }
        for victim in plan.victims {
            let pod = self.pods.get_mut(victim);
            pod.victim_of = None;
            if let Some(node) = pod.node {
                self.vacating.remove(node, victim);
            }
            if let Some(group) = self.pods.get(victim).group {
                self.mark(group);
            }
            self.loosen_notice(victim);
        }
        *self.tallies.plans_given_up.entry(why).or_default() += 1;
        let group = self.groups.get_mut(index);
        group.backoff_until = now.plus_ms(self.options.backoff_initial_ms);
        self.queue.move_to(index, group, Home::Idle);
        self.mark(index);
    }

    pub(super) fn evict_finished(
        &mut self,
        now: Timestamp,
        call: CallId,
        uid: Uid,
        outcome: &EvictOutcome,
    ) {
        self.calls.answered(call, *outcome != EvictOutcome::Evicted);
        let Some(pod) = self.pods.find(uid).filter(|_| *outcome != EvictOutcome::Evicted) else {
            return;
        };
        let entry = self.pods.get_mut(pod);
        if *outcome == EvictOutcome::Withdrawn {
            // its plan is given up; another may have named the pod since
            if entry.evicted_by == Some(call) {
                entry.evicted_by = None;
                self.loosen_notice(pod);
            }
            return;
        }
        entry.evicted_by = None;
        if !is_made(Fault::ProtectionForgotten) {
            entry.protected_until = now.plus_ms(self.options.protected_ms);
        }
        let (group, claim) = (entry.group, entry.victim_of);
        self.loosen_notice(pod);
        group.into_iter().for_each(|group| self.mark(group));
        if let Some(index) = claim
            && let Some(plan) = self.plans.remove(&index)
        {
            self.give_up(now, index, plan, "VictimProtected");
            if matches!(outcome, EvictOutcome::Protected(_)) {
                // what is free by now goes into the next search at once
                self.groups.get_mut(index).backoff_until = now;
            }
        }
    }
}
