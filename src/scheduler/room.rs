//! Who may make room, and whose room it may be.
//!
//! *Reclaim* takes room across queues, for a queue within its share from queues above theirs.
//! *Preempt* takes room within a queue, for a gang beyond the queue's share from gangs of lower
//! priority, or from the elastic members of its equals.

use super::plans::{Notice, Plan};
use super::pods::{PodEntry, PodState};
use super::{Evictions, Scheduler};
use crate::cluster::{Assignment, ClassId, NodeIndex, PodIndex, ResourceId};
use crate::fairshare::QueueIndex;
use crate::model::fault::{Fault, is_made};
use crate::model::pod::digest;
use crate::model::{Growth, Timestamp, WallTime};
use crate::placement::{
    Candidate, Claim, NarrowedClaim, RoomAnswer, RoomPlan, TaskSpares, Wanted, make_room,
};
use crate::queue::{Amounts, GroupIndex};
use smallvec::SmallVec;
use std::cmp::Reverse;
use std::collections::BTreeMap;

/// What a claimant may do.
pub(super) struct Rights {
    pub(super) leaf: QueueIndex,
    pub(super) priority: i32,
    /// the claimant's own queue must give what goes beyond its share
    pub(super) own_only: bool,
    /// from whom the pair rule lets it take nothing, and until when
    pub(super) spared: Vec<(u64, Timestamp)>,
}

/// A plan, the gangs that it could take from, and the notice that each of these is due.
pub(super) struct Found {
    pub(super) plan: RoomPlan,
    pub(super) candidates: Vec<Candidate>,
    pub(super) grace: Vec<i64>,
}

/// What a search for room came to.
enum Searched {
    Found(Found),
    /// that there is none is proved
    No,
    NotFound,
}

/// A member that may go: those that go first, first.
type Member = (bool, Reverse<WallTime>, PodIndex, ClassId, NodeIndex);

/// What a claimant may do to the gangs of one leaf.
#[derive(Clone, Copy)]
pub(super) struct Stance {
    /// they give what the claimant's own queue holds beyond its share, those of lower priority
    pub(super) may_give: bool,
    /// they are reclaimed from
    pub(super) is_open: bool,
    pub(super) grace_ms: i64,
}

impl Scheduler {
    /// One search; puts the plan in force if there is one.
    pub(super) fn search_room(&mut self, index: GroupIndex) -> bool {
        let group = self.groups.get(index);
        let leaf = group.leaf.expect("a group that was tried has a queue");
        let extra: Amounts = group.claim.clone();
        let beyond = group.non_preemptible && self.beyond_guarantee(leaf, &extra).is_some();
        if beyond || self.too_many_run(index).is_some() {
            return false;
        }
        // of types for which it does not ask it is due what it would be if it did
        let sought = self.sought(&extra);
        self.fair.pend(leaf, &sought, 1);
        let found = self.find_room(index, leaf, &sought);
        self.fair.pend(leaf, &sought, -1);
        found.is_some_and(|found| self.put_in_force(index, found))
    }

    /// Whom to evict so that a group is seated: on nodes of all kinds, as far as it may have what
    /// they offer, or else on those of one kind of which its own queue has to give.
    fn find_room(
        &mut self,
        index: GroupIndex,
        leaf: QueueIndex,
        sought: &Amounts,
    ) -> Option<Found> {
        let mut is_proved = true;
        for only in std::iter::once(None).chain(self.in_the_way(leaf, sought).map(Some)) {
            match self.find_room_as(index, sought, only) {
                Searched::Found(found) => return Some(found),
                Searched::No => {}
                Searched::NotFound => is_proved = false,
            }
        }
        self.tallies.searches_unproved += u64::from(!is_proved);
        None
    }

    /// The same as though the group asked for one of the narrowed resources that it could take.
    fn find_room_as(
        &mut self,
        index: GroupIndex,
        sought: &Amounts,
        only: Option<(ResourceId, i64)>,
    ) -> Searched {
        let group = self.groups.get(index);
        let leaf = group.leaf.expect("a group that was tried has a queue");
        let (needed, priority, profile) = (group.needed(), group.priority, group.profile);
        let (claimed, mut extra) = (group.claim.clone(), group.claim.clone());
        extra.extend(only);
        let own_only = !self.fair.is_entitled(leaf, &extra);
        let spared = self.spared_by_pairs(index, leaf, &claimed);
        let rights = Rights { leaf, priority, own_only, spared };
        let demands = self.demands(index);
        let is_free = only.is_none() && !self.groups.get(index).asks_topology();
        if is_free && let Some(found) = self.find_singles(index, &rights, &demands) {
            return Searched::Found(found);
        }
        if let [demand] = &demands[..]
            && self.is_blocked(&rights, &extra, (demand.class, needed))
        {
            return Searched::No;
        }
        let (domains, cut) = self.seat_domains(index);
        let (mut candidates, mut grace) = self.candidates(&rights, &extra);
        if cut.as_ref().is_some_and(Wanted::is_sliced) {
            // it would break one slice to mend another
            let own = |candidate: &Candidate| {
                self.pods.get(candidate.pods[0].pod).group == Some(index) && !candidate.leaving
            };
            let others = candidates.into_iter().zip(grace).filter(|(candidate, _)| !own(candidate));
            (candidates, grace) = others.unzip();
        }
        if candidates.is_empty() {
            return Searched::No;
        }
        let going = self.going();
        let allowed = &self.disruptions_allowed();
        let at_most = &self.narrowed_guarantee(index);
        let narrowed = NarrowedClaim { sought, at_most, only };
        let (domains, cut) = (domains.as_deref(), cut.as_ref());
        let (demands, extra, going) = (&*demands, &*claimed, &*going);
        let claim = Claim { leaf, demands, needed, extra, going, allowed, domains, cut, narrowed };
        let own: Vec<GroupIndex> =
            self.is_drained_for(index).then_some(index).into_iter().collect();
        let answer = self.without_drains(&own, |scheduler| {
            make_room(
                &mut scheduler.cluster,
                &mut scheduler.rankings,
                &mut scheduler.fair,
                &scheduler.profiles[usize::from(profile)],
                &claim,
                &candidates,
            )
        });
        match answer {
            RoomAnswer::Placed(plan) => Searched::Found(Found { plan, candidates, grace }),
            RoomAnswer::No => Searched::No,
            RoomAnswer::NotFound => Searched::NotFound,
        }
    }

    /// Whether eviction budgets have room for a plan, and it is in force now.
    fn put_in_force(&mut self, index: GroupIndex, found: Found) -> bool {
        let Found { plan, candidates, grace } = found;
        let mut taken = BTreeMap::new();
        for (place, pods, _) in &plan.victims {
            if !candidates[*place].leaving {
                let pods = i64::try_from(pods.len()).expect("bounded");
                *taken.entry(candidates[*place].leaf).or_default() += pods;
            }
        }
        if !self.charge_budgets(&taken) {
            return false;
        }
        if self.options.evictions == Evictions::ReportOnly {
            self.tallies.plans_reported += 1;
            let chosen = plan.victims.iter().filter(|(place, ..)| !candidates[*place].leaving);
            let pods: Vec<PodIndex> = chosen.flat_map(|(_, pods, _)| pods.clone()).collect();
            self.report_victims(index, &pods);
            return false;
        }
        let notices = plan.victims.into_iter().map(|(place, pods, _)| {
            let leaving = candidates[place].leaving;
            Notice { pods, grace_ms: grace[place], leaving }
        });
        self.end_drain(index);
        self.begin_plan(index, notices.collect(), plan.seats);
        true
    }

    /// Victims of all plans in force that still take room.
    pub(super) fn going(&self) -> Vec<(QueueIndex, Assignment)> {
        let victims = self.plans.values().flat_map(Plan::victims);
        let charged = victims.filter_map(|at| {
            let pod = self.pods.get(at);
            Some((pod.charged?, Assignment { pod: at, class: pod.class, node: pod.node? }))
        });
        charged.collect()
    }

    /// Gangs that may lose members to a claimant, and the notice that each is due. O(leaves x depth
    /// + groups of those that may give).
    fn candidates(&mut self, rights: &Rights, extra: &Amounts) -> (Vec<Candidate>, Vec<i64>) {
        let reach = self.reach(rights, extra);
        let near = self.candidates_of(rights, extra, &reach);
        let none = near.0.iter().all(|candidate| candidate.leaving);
        if none || reach.contains(&QueueIndex::ROOT) {
            return near;
        }
        // what these give may entitle the claimant to what others hold
        let all: Vec<QueueIndex> = self.fair.path(rights.leaf).collect();
        self.candidates_of(rights, extra, &all)
    }

    /// Those whose common ancestor with the claimant is one of `reach`.
    fn candidates_of(
        &mut self,
        rights: &Rights,
        extra: &Amounts,
        reach: &[QueueIndex],
    ) -> (Vec<Candidate>, Vec<i64>) {
        let asked: Vec<ResourceId> = extra.iter().map(|(resource, _)| *resource).collect();
        let mut candidates = Vec::new();
        let mut grace = Vec::new();
        let mut givers: Vec<(GroupIndex, Stance)> = Vec::new();
        for leaf in self.holders.leaves().collect::<Vec<_>>() {
            let stance = self.stance(rights, leaf, &asked, reach);
            if stance.may_give || stance.is_open {
                givers.extend(self.holders.of(leaf).map(|index| (index, stance)));
            }
        }
        givers.sort_unstable_by_key(|(index, _)| *index);
        for (index, stance) in givers {
            candidates.extend(self.candidate_for(rights, stance, index));
            grace.resize(candidates.len(), stance.grace_ms);
        }
        candidates.extend(self.leaving_candidate(rights.leaf));
        grace.resize(candidates.len(), 0);
        (candidates, grace)
    }

    /// What a claimant may take of a gang.
    pub(super) fn candidate_for(
        &mut self,
        rights: &Rights,
        stance: Stance,
        index: GroupIndex,
    ) -> Option<Candidate> {
        let group = self.groups.get(index);
        let (leaf, priority) = (group.leaf?, group.priority);
        let lower = priority < rights.priority;
        let equal = priority == rights.priority && leaf == rights.leaf;
        let given = stance.may_give && (lower || equal);
        let whole = if given { lower || is_made(Fault::EqualTaken) } else { stance.is_open };
        if !(given || stance.is_open) || self.is_held_fast(index) {
            return None;
        }
        if let Some(until) = self.spared_until(index, &rights.spared) {
            self.tallies.pairs_spared += 1;
            self.retry_room_at(until);
            return None;
        }
        self.candidate(index, leaf, given, whole)
    }

    /// What a claimant may do to the gangs of a leaf.
    pub(super) fn stance(
        &mut self,
        rights: &Rights,
        leaf: QueueIndex,
        asked: &[ResourceId],
        reach: &[QueueIndex],
    ) -> Stance {
        let settings = self.fair.spec(leaf).preemption;
        let grace_ms = settings.grace_ms;
        if self.is_spent(leaf) {
            return Stance { may_give: false, is_open: false, grace_ms };
        }
        let own = self.fair.parent(leaf) == self.fair.parent(rights.leaf);
        let ancestor = self.fair.common_ancestor(leaf, rights.leaf);
        let is_open = leaf != rights.leaf
            && reach.contains(&ancestor)
            && self.is_reclaimable(leaf, ancestor)
            && self.fair.is_above(leaf, asked, &[]);
        let may_give = rights.own_only
            && own
            && self.fair.path(leaf).all(|queue| self.fair.spec(queue).preemption.preemptible);
        Stance { may_give, is_open, grace_ms }
    }

    /// Whether all queues above a leaf, and below an ancestor, let others take what they hold.
    fn is_reclaimable(&self, leaf: QueueIndex, ancestor: QueueIndex) -> bool {
        let mut below = self.fair.path(leaf).take_while(|queue| *queue != ancestor);
        below.all(|queue| self.fair.spec(queue).preemption.reclaimable)
    }

    /// Ancestors below which the claimant is within its share everywhere: from anywhere under them
    /// it may reclaim.
    pub(super) fn reach(
        &mut self,
        rights: &Rights,
        extra: &[(ResourceId, i64)],
    ) -> Vec<QueueIndex> {
        let mut reach = Vec::new();
        let mut queue = rights.leaf;
        while let Some(above) = self.fair.parent(queue).filter(|_| !rights.own_only) {
            if !self.fair.is_entitled(queue, extra) {
                break;
            }
            reach.push(above);
            queue = above;
        }
        reach
    }

    /// What a gang may lose. The search is made again when the protection of a member ends.
    fn candidate(
        &mut self,
        index: GroupIndex,
        leaf: QueueIndex,
        given: bool,
        whole: bool,
    ) -> Option<Candidate> {
        let spec = self.fair.spec(leaf);
        let (queue_priority, runtime_ms) = (spec.priority, spec.preemption.min_runtime_ms);
        let group = self.groups.get(index);
        let mut next_end: Option<Timestamp> = None;
        let mut is_young = false;
        // what a member says counts for its gang; a time to come is none
        let mut saved = group.created;
        let wall = self.wall();
        let mut members: SmallVec<[Member; 16]> = SmallVec::new();
        for member in group.members.iter().copied() {
            let pod = self.pods.get(member);
            let (PodState::Bound, Some(node)) = (pod.state, pod.node) else { continue };
            saved = saved.max(pod.checkpoint.unwrap_or(saved).min(wall));
            let end = self.safe_until(pod, runtime_ms);
            let young = end > self.now;
            if young {
                next_end = Some(next_end.map_or(end, |next| next.min(end)));
            }
            if !pod.deleting && pod.victim_of.is_none() {
                is_young |= young;
                let kept = pod.header && !is_made(Fault::HeaderFirst) || young;
                members.push((kept, Reverse(pod.created), member, pod.class, node));
            }
        }
        // the reverse of how they join: the youngest first, headers and protected pods not at all
        // before the others; most often they stand in the order in which they came
        members.reverse();
        members.sort_by(|a, b| {
            let name = |member: &Member| &self.pods.get(member.2).name;
            (a.0, a.1).cmp(&(b.0, b.1)).then_with(|| name(b).cmp(name(a)))
        });
        let single = members.iter().filter(|(kept, ..)| !kept).count();
        // the fault leaves fewer than the minimum, but some: losing all is another matter
        let ended = group.counts.settled().saturating_sub(group.counts.bound);
        let less = u32::from(is_made(Fault::MinimumIgnored) && group.min_member > 1 + ended);
        let min = group.min_member - less;
        let spare = group.counts.settled().saturating_sub(min);
        let spare = spare.min(u32::try_from(single).expect("groups are bounded"));
        let whole = whole && !is_young && group.counts.assumed == 0;
        let name = group.name.as_ref().map_or("", |known| &known.name);
        let since = saved.0.saturating_neg();
        let rank = (queue_priority, group.priority, group.reclaim_rank, 0, since, digest(name));
        let growth = group.growth();
        if let Some(end) = next_end {
            self.retry_room_at(end);
        }
        if members.is_empty() || spare == 0 && !whole {
            return None;
        }
        let pods: Vec<PodIndex> = members.iter().map(|(_, _, pod, ..)| *pod).collect();
        let assignments = members.iter();
        Some(Candidate {
            leaf,
            given,
            leaving: false,
            budgets: self.disruption_places(&pods),
            spare,
            whole,
            kept: pods.len() - single,
            pods: assignments
                .map(|(_, _, pod, class, node)| Assignment {
                    pod: *pod,
                    class: *class,
                    node: *node,
                })
                .collect(),
            tasks: self.task_spares(index, &pods),
            rank,
            growth,
        })
    }

    /// Until when a pod is not evicted: it has not run for long enough, or a disruption budget
    /// protected it.
    fn safe_until(&self, pod: &PodEntry, runtime_ms: i64) -> Timestamp {
        let bound = pod.bound_at.map(|at| Timestamp(at.0.saturating_sub(self.wall_ahead_ms)));
        let since = bound.map_or(pod.bound_seen, |bound| bound.min(pod.bound_seen));
        let runtime_ms = if is_made(Fault::YoungTaken) { 0 } else { runtime_ms };
        pod.protected_until.max(since.plus_ms(runtime_ms))
    }

    /// Pods that are on their way out anyway: their room costs nothing but the wait. Those that
    /// did not go in time are not waited for again.
    pub(super) fn leaving_candidate(&self, leaf: QueueIndex) -> Option<Candidate> {
        let pods: Vec<Assignment> = self
            .leaving
            .iter()
            .filter_map(|at| {
                let pod = self.pods.get(*at);
                let node = pod.node.filter(|_| pod.victim_of.is_none() && !pod.stuck)?;
                Some(Assignment { pod: *at, class: pod.class, node })
            })
            .collect();
        let spare = u32::try_from(pods.len()).expect("fewer than 2^32 pods");
        (spare > 0).then_some(Candidate {
            budgets: Vec::new(),
            leaf,
            given: true,
            leaving: true,
            spare,
            whole: false,
            pods,
            kept: 0,
            tasks: TaskSpares::default(),
            rank: (i32::MIN, i32::MIN, i16::MIN, i64::MIN, i64::MIN, 0),
            growth: Growth::default(),
        })
    }
}
