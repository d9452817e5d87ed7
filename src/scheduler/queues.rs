//! Queues: the declared tree, which group belongs where, what it is charged, and whose turn it is.

use super::pods::{PodEntry, PodState};
use super::spares::Spares;
use super::{ApiCall, PodRef, Scheduler};
use crate::cluster::{Offer, PodIndex, ResourceId};
use crate::fairshare::{QueueIndex, Run};
use crate::framework::OrderFacts;
use crate::model::fault::{Fault, is_made};
use crate::model::pod::digest;
use crate::model::queue::Ordering as QueueOrdering;
use crate::model::{Caps, Pod, QueueSpec, Timestamp, WallTime};
use crate::placement::weight;
use crate::queue::{Amounts, GroupIndex, Home, Stage};
use smallvec::SmallVec;
use std::cmp::{Ordering, Reverse};

/// A leaf's, then a subtree's, best group on the way up the tree.
#[derive(Clone, Copy)]
struct Contender {
    queue: QueueIndex,
    leaf: QueueIndex,
    depth: usize,
    rank: (i64, i64),
    tie: u64,
    group: GroupIndex,
}

impl Scheduler {
    pub(super) fn queue_applied(&mut self, spec: QueueSpec) {
        self.queues_listed.insert(spec.name.clone());
        self.queues_changed += u64::from(self.refused_queues.remove(&spec.name).is_some());
        if self.queue_specs.get(&spec.name) != Some(&spec) {
            self.queue_specs.insert(spec.name.clone(), spec);
            self.tree_changed = true;
        }
    }

    pub(super) fn queue_deleted(&mut self, name: &str) {
        self.queues_changed += u64::from(self.refused_queues.remove(name).is_some());
        self.remembered.remove(name);
        self.tree_changed |= self.queue_specs.remove(name).is_some();
    }

    /// Puts the declared tree in force; a faulty one leaves the last good one.
    pub(super) fn renew_tree(&mut self) {
        let first = self.options.queues_watched && !self.tree_in_force;
        if !std::mem::take(&mut self.tree_changed) && !first {
            return;
        }
        self.queues_changed += 1;
        let specs: Vec<QueueSpec> = self.queue_specs.values().cloned().collect();
        if !first && self.fair.reweigh(&specs) {
            self.tree_faults.clear();
            self.good_specs = specs;
            // what others may give is another question now
            self.demands_changed += 1;
            return;
        }
        match self.fair.replace(&specs) {
            Err(faults) => self.tree_faults = faults,
            Ok(()) => {
                self.tree_faults.clear();
                self.restore_usage();
                self.good_specs = specs;
                self.name_narrowed();
                self.tree_in_force = true;
                self.charge_afresh();
            }
        }
    }

    /// Charges everything anew, as what is requested means something else now.
    pub(super) fn recount_queues(&mut self) {
        let specs = std::mem::take(&mut self.good_specs);
        self.fair.replace(&specs).expect("these were in force already");
        self.good_specs = specs;
        self.charge_afresh();
    }

    /// Has narrowed resources counted that queues or factors of usage name.
    fn name_narrowed(&mut self) {
        let lists = self.good_specs.iter().flat_map(|spec| {
            let limits = [&spec.limit, &spec.lend_limit, &spec.borrow_limit, &spec.user_limit];
            [&spec.quota].into_iter().chain(limits)
        });
        let names = lists.flatten().map(|(name, _)| &**name);
        let factors = self.options.usage.factors.iter().map(|(name, _)| &**name);
        self.cluster.narrow(names.chain(factors));
    }

    fn charge_afresh(&mut self) {
        self.capacity_changed = true;
        self.fair.bind_resources(self.cluster.resources());
        self.renew_doors();
        let pods: Vec<PodIndex> = self.pods.iter().map(|(index, _)| index).collect();
        pods.iter().for_each(|pod| self.pods.get_mut(*pod).charged = None);
        self.held_fast.clear();
        self.spares = Spares::default();
        self.awaited.clear();
        let capped = |spec: &QueueSpec| spec.caps != Caps::default();
        self.renew_run_limits();
        self.counted.clear(self.good_specs.iter().any(capped));
        let groups: Vec<GroupIndex> = self.groups.iter().map(|(index, _)| index).collect();
        for index in groups {
            let group = self.groups.get_mut(index);
            if group.home != Home::Committing {
                self.queue.move_to(index, group, Home::Idle);
            }
            let group = self.groups.get_mut(index);
            (group.leaf, group.queue_fault) = (None, None);
            group.pending.clear();
            if !group.members.is_empty() {
                self.enter_queue(index);
            }
            self.mark(index);
        }
        pods.iter().for_each(|pod| self.recharge(*pod));
        self.fair.all_counted();
    }

    /// Finds the queue of a group and its user's leaf. A group that holds room stays in its queue
    /// as long as there is one of that name.
    pub(super) fn enter_queue(&mut self, index: GroupIndex) {
        let group = self.groups.get_mut(index);
        let first = self.pods.get(group.members[0]);
        let (namespace, user) = (first.namespace.clone(), first.user.clone());
        let placed = group.members.iter().any(|member| self.pods.get(*member).node.is_some());
        let admitted = group.admitted_to.as_deref().filter(|_| placed);
        let queue = match admitted.and_then(|name| self.fair.find(name)) {
            Some(queue) => Ok(queue),
            None => self.fair.queue_for(&namespace, group.wanted_queue.as_deref()),
        };
        match queue {
            Ok(queue) => {
                // before the declared tree is in force nobody is admitted anywhere
                let name = self.tree_in_force.then(|| self.fair.spec(queue).name.clone());
                group.admitted_to = name;
                group.leaf = Some(self.fair.acquire_leaf(queue, &user));
            }
            Err(fault) => group.queue_fault = Some(fault.into()),
        }
    }

    /// Takes in which queue a member names now. Once its gang has been past the gate, or holds
    /// room, that is ignored, and said so.
    pub(super) fn take_queue_edit(&mut self, index: PodIndex, pod: &Pod) {
        let named = pod.queue.as_deref().map_or(0, digest);
        let entry = self.pods.get_mut(index);
        if std::mem::replace(&mut entry.queue_seen, named) == named {
            return;
        }
        let (entered, pod_ref) = (entry.queue, PodRef { key: entry.key(), uid: entry.uid });
        let Some(index_of_group) = entry.group else { return };
        let group = self.groups.get(index_of_group);
        let placed = group.members.iter().any(|member| self.pods.get(*member).node.is_some());
        if let Some(leaf) = group.leaf.filter(|_| placed || group.past_gate) {
            if named != entered && self.leadership.is_some() {
                let stays = &self.fair.spec(leaf).name;
                let says = pod.queue.as_deref().unwrap_or("nothing");
                let note = format!(
                    "it stays in queue {stays}, in which it was admitted: that its queue \
                     annotation or label says {says} now is ignored"
                );
                self.outbox.push(ApiCall::NoteIgnored { pod: pod_ref, note: note.into() });
            }
            return;
        }
        self.pods.get_mut(index).queue = named;
        self.leave_queue(index_of_group);
        let group = self.groups.get_mut(index_of_group);
        group.wanted_queue.clone_from(&pod.queue);
        group.queue_fault = None;
        self.enter_queue(index_of_group);
        self.mark(index_of_group);
    }

    /// Ends a group's part in its queue.
    pub(super) fn leave_queue(&mut self, index: GroupIndex) {
        self.set_pending(index, Amounts::new());
        self.uncount_group(index);
        self.forget_spare(index);
        self.forget_holder(index);
        if let Some(leaf) = self.groups.get_mut(index).leaf.take() {
            self.fair.release_leaf(leaf);
        }
    }

    /// Charges a pod's room to its group's leaf, or takes the charge back.
    pub(super) fn recharge(&mut self, index: PodIndex) {
        let pod = self.pods.get(index);
        let group = pod.group.filter(|_| pod.node.is_some());
        let leaf = group.and_then(|group| self.groups.get(group).leaf);
        let old = pod.charged;
        let offer = pod.node.map_or_else(Offer::default, |node| self.cluster.offer(node));
        if old == leaf && (leaf.is_none() || pod.offer == offer) {
            return;
        }
        if old.is_some() {
            self.charge_pod(index, -1, leaf.is_none());
        }
        self.pods.get_mut(index).charged = leaf;
        if leaf.is_some() {
            let wall = self.wall();
            let pod = self.pods.get_mut(index);
            pod.holds_since = pod.bound_at.unwrap_or(wall);
            pod.offer = offer;
            self.charge_pod(index, 1, false);
        }
        self.note_end(index, leaf.is_some());
    }

    /// Takes a pod's charge back, as its class or group is about to change.
    pub(super) fn discharge(&mut self, index: PodIndex) {
        if self.pods.get(index).charged.is_some() {
            self.charge_pod(index, -1, false);
            self.pods.get_mut(index).charged = None;
            self.note_end(index, false);
        }
    }

    /// Counts (`sign` 1) or uncounts (-1) a pod where it is charged.
    fn charge_pod(&mut self, index: PodIndex, sign: i64, ended: bool) {
        let pod = self.pods.get(index);
        let leaf = pod.charged.expect("the pod is charged");
        let requests = &self.cluster.class(pod.class).requests;
        let charges = self.cluster.charges(pod.class, pod.offer);
        let run = Run { requests, since: pod.holds_since, limit_ms: pod.run_limit_ms };
        if sign > 0 {
            self.fair.charge(leaf, &charges, 1);
            self.fair.count_run(leaf, run, 1, ended);
        } else {
            // its leaf may end with the charge
            self.fair.count_run(leaf, run, -1, ended);
            self.fair.charge(leaf, &charges, -1);
            self.quota_freed = true;
        }
        if pod.non_preemptible {
            let charges = charges.into_owned();
            self.hold_fast(leaf, &charges, sign);
        }
    }

    /// Brings up to date what a group adds to its queue's demand, and what it claims. Countable is
    /// what is past the gate, up to the group's maximum.
    pub(super) fn repend(&mut self, index: GroupIndex) {
        let group = self.groups.get(index);
        let counted = !matches!(group.home, Home::Gate | Home::Idle) && group.leaf.is_some();
        let (needed, joinable) = (group.needed() as usize, group.joinable() as usize);
        let mut pending = Amounts::new();
        let mut claim = Amounts::new();
        if counted {
            let members = group.members.iter().map(|member| (*member, self.pods.get(*member)));
            let waiting = members.filter(|(_, pod)| pod.state == PodState::Waiting);
            let mut waiting: SmallVec<[(PodIndex, &PodEntry); 8]> = waiting.collect();
            let is_mixed = waiting.iter().any(|(_, pod)| pod.class != waiting[0].1.class);
            if is_mixed && !is_made(Fault::ClaimOfTheFirst) {
                // those that are placed first
                let required = self.required(index);
                let weight = |pod: &PodEntry| Reverse(weight(&self.cluster, pod.class));
                waiting.sort_by_cached_key(|(at, pod)| {
                    (!pod.header && required.binary_search(at).is_err(), weight(pod))
                });
            }
            for (place, (_, pod)) in waiting.into_iter().take(joinable).enumerate() {
                let asked = self.cluster.asked(pod.class);
                add(&mut pending, &asked);
                if place < needed.max(1) {
                    add(&mut claim, &asked);
                }
            }
        }
        self.groups.get_mut(index).claim = claim;
        self.set_pending(index, pending);
    }

    fn set_pending(&mut self, index: GroupIndex, pending: Amounts) {
        let group = self.groups.get_mut(index);
        if group.pending == pending {
            return;
        }
        let old = std::mem::replace(&mut group.pending, pending);
        if let Some(leaf) = group.leaf {
            self.fair.pend(leaf, &old, -1);
            self.fair.pend(leaf, &group.pending, 1);
            self.replaced(index, &old);
            self.demands_changed += 1;
            // who asks keeps less from being lent
            self.quota_freed |= self.good_specs.iter().any(|spec| !spec.lend_limit.is_empty());
        }
    }

    /// The group whose turn it is: half-bound gangs first, then minima in the order of shares, then
    /// growth in the order of how far each gang has grown. O(leaves with active groups x depth).
    pub(super) fn next_group(&mut self) -> Option<GroupIndex> {
        let firsts = self.queue.first_by_leaf();
        if firsts.len() <= 1 {
            return self.queue.first_by_leaf().next().map(|(_, _, group)| group);
        }
        let stage = firsts.map(|(_, (stage, _, _), _)| stage).min()?;
        let same = self.queue.first_by_leaf().filter(|(_, key, _)| key.0 == stage);
        if stage != Stage::Minimum {
            return same.min_by_key(|(_, key, group)| (*key, *group)).map(|(_, _, group)| group);
        }
        let firsts: Vec<_> = same.map(|(leaf, (_, _, tie), group)| (leaf, tie, group)).collect();
        self.first_by_share(firsts.into_iter())
    }

    /// Of the first groups of leaves, each with its tie-breaker, the one whose turn it is.
    pub(super) fn first_by_share(
        &mut self,
        firsts: impl Iterator<Item = (QueueIndex, u64, GroupIndex)>,
    ) -> Option<GroupIndex> {
        let contenders = firsts.map(|(leaf, tie, group)| {
            let depth = self.fair.path(leaf).count();
            Contender { queue: leaf, leaf, depth, rank: self.rank(group), tie, group }
        });
        let contenders: Vec<Contender> = contenders.collect();
        self.most_deserving(contenders)
    }

    /// Reduces siblings to their best, level by level from the deepest, up to the root.
    fn most_deserving(&mut self, mut left: Vec<Contender>) -> Option<GroupIndex> {
        while left.len() > 1 {
            let depth = left.iter().map(|contender| contender.depth).max()?;
            let (deepest, mut others): (Vec<_>, Vec<_>) =
                left.into_iter().partition(|contender| contender.depth == depth);
            let mut deepest: Vec<(Option<QueueIndex>, Contender)> =
                deepest.into_iter().map(|c| (self.fair.parent(c.queue), c)).collect();
            deepest.sort_by_key(|(parent, contender)| (*parent, contender.queue));
            for siblings in deepest.chunk_by(|a, b| a.0 == b.0) {
                let mut best = siblings[0].1;
                for (_, other) in &siblings[1..] {
                    if self.goes_before(other, &best, siblings[0].0) {
                        best = *other;
                    }
                }
                let queue = siblings[0].0.unwrap_or(best.queue);
                others.push(Contender { queue, depth: depth - 1, ..best });
            }
            left = others;
        }
        left.first().map(|contender| contender.group)
    }

    /// Where a gang stands among those of other users, by its priority now.
    fn rank(&self, index: GroupIndex) -> (i64, i64) {
        let group = self.groups.get(index);
        let ageing = group.leaf.and_then(|leaf| self.fair.spec(leaf).ageing);
        let waited_ms = self.wall().0.saturating_sub(group.created.0);
        let priority =
            ageing.map_or(group.priority, |ageing| ageing.aged(group.priority, waited_ms));
        let profile = &self.profiles[usize::from(group.profile)];
        profile.queue_sort().key(&OrderFacts { priority, created: group.created })
    }

    fn goes_before(&mut self, a: &Contender, b: &Contender, above: Option<QueueIndex>) -> bool {
        let policy = above.map(|queue| self.fair.spec(queue).order).unwrap_or_default();
        let (one, other) = (self.groups.get(a.group), self.groups.get(b.group));
        let by_rank = a.rank.cmp(&b.rank);
        let order = match policy {
            QueueOrdering::FairShare => {
                self.fair.compare(a.queue, &one.claim, b.queue, &other.claim).then(by_rank)
            }
            QueueOrdering::Lsf => self.fair.compare_lsf(a.queue, b.queue).then(by_rank),
            QueueOrdering::FairTree => {
                let (a, b) = ((a.queue, a.leaf), (b.queue, b.leaf));
                self.fair.compare_fair_tree(a, b).then(by_rank)
            }
            QueueOrdering::Priority => by_rank,
            QueueOrdering::Fifo => one.created.cmp(&other.created),
        };
        order.then(a.tie.cmp(&b.tie)).then(a.group.cmp(&b.group)) == Ordering::Less
    }

    /// Wakes the groups that a limit of their queue held up, once room was given back.
    pub(super) fn wake_limited(&mut self) {
        if !std::mem::take(&mut self.quota_freed) {
            return;
        }
        self.waking.extend(self.queue.limited());
        self.waking.append(&mut self.type_limited);
    }

    /// Moves the clock of decayed usage on.
    pub(super) fn age_usage(&mut self, now: Timestamp) {
        self.fair.advance(now);
        self.fair.set_wall(self.wall());
    }

    /// The wall time, once this process leads.
    pub(super) fn wall(&self) -> WallTime {
        WallTime(self.now.0.saturating_add(self.wall_ahead_ms))
    }
}

pub(super) fn add(sums: &mut Amounts, requests: &[(ResourceId, i64)]) {
    for (resource, amount) in requests {
        match sums.iter_mut().find(|(known, _)| known == resource) {
            Some((_, sum)) => *sum += amount,
            None => sums.push((*resource, *amount)),
        }
    }
}
