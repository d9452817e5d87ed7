//! One scheduling cycle.

use super::Scheduler;
use super::narrowed::NarrowedGate;
use super::pods::{PodEntry, PodState};
use super::report::{Attempt, AttemptResult, Report};
use crate::cluster::{ClassId, DomainId, NodeIndex, PodIndex, ResourceId, Statement};
use crate::fairshare::QueueIndex;
use crate::framework::{Reads, Reason};
use crate::model::Timestamp;
use crate::model::fault::{Fault, is_made};
use crate::placement::{Demand, Failure, Rules, place_in_tree, place_pack};
use crate::queue::{Amounts, GroupIndex, Home, Likeness};
use rustc_hash::FxHashSet;
use smallvec::SmallVec;

/// What keeps a group from being placed though there may be room.
enum Held {
    /// The cap on running gangs of this queue, or of this user.
    Cap(QueueIndex),
    /// The limit of this queue.
    Limit(QueueIndex),
    /// Children of this queue keep what they are guaranteed and do not use.
    Kept(QueueIndex),
    /// What this queue is guaranteed of a resource, for a group that must never be evicted.
    Guarantee(QueueIndex, ResourceId),
    /// This narrowed resource is offered by nodes with room, and this queue may not have more.
    Narrowed(QueueIndex, ResourceId),
}

/// Where members go, and which narrowed resource kept them off nodes.
type Outcome = (Result<Statement, Failure>, Option<ResourceId>);

impl Scheduler {
    /// Looks at what changed, wakes what may be helped, then tries the active groups in order. A
    /// group that does not fit is set aside and the next is tried, so none holds up another.
    pub(super) fn decide(&mut self, now: Timestamp) -> Report {
        self.now = now;
        self.renew_tree();
        self.turn_doors();
        self.renew_capacity(now);
        self.age_usage(now);
        self.give_up_awaited(now);
        while let Some(index) = self.queue.pop_due(now) {
            let group = self.groups.get_mut(index);
            // a search for room may find what it did not: some were protected until now
            (group.wake_at, group.room_tried) = (None, None);
            for (class, kind, _) in &group.waits_for {
                self.tried.remove((*class, *kind));
            }
            self.mark(index);
        }
        self.step_quarantine(now);
        self.step_run_limits(now);
        self.step_drains(now);
        // a plan that ends has its gang looked at again: what it asks for counts at once
        while !self.dirty.is_empty() {
            for index in std::mem::take(&mut self.dirty) {
                self.look_at(now, index);
            }
        }
        self.wake_limited();
        self.wake_helped(now);
        let mut report = Report::default();
        let mut members = 0;
        while members < self.options.members_per_cycle {
            let Some(index) = self.next_group() else { break };
            members += self.groups.get(index).counts.waiting as usize;
            let attempt = self.try_group(now, index);
            report.attempts.push(attempt);
        }
        if !self.queue.any_active() {
            self.make_room_for_waiting();
        }
        self.take_notices_back(now);
        self.show_queues(now);
        report.calls = std::mem::take(&mut self.outbox);
        report
    }

    /// Wakes unschedulable groups of which a pod now fits a node that has improved: the first of
    /// each kind. What rejected them before is not asked: a taint may go while the node is full,
    /// and room come later.
    fn wake_helped(&mut self, now: Timestamp) {
        let improved = std::mem::take(&mut self.improved);
        let mut helped = std::mem::take(&mut self.waking);
        if is_made(Fault::NobodyWoken) {
            return;
        }
        if !self.queue.any_unschedulable() || improved.is_empty() && helped.is_empty() {
            return;
        }
        for kinds in self.queue.waiting_kinds().chunk_by(|a, b| a.0 == b.0) {
            if self.helped(kinds[0].0, &improved) {
                helped.extend(kinds.iter().filter(|(c, kind)| !self.queue.is_limited(*c, *kind)));
            }
        }
        for (class, kind) in helped {
            self.wake_first(now, class, kind);
        }
        for index in std::mem::take(&mut self.dirty) {
            self.look_at(now, index);
        }
    }

    /// Wakes the first group of a kind that is to be tried; the next follows when it is placed.
    fn wake_first(&mut self, now: Timestamp, class: ClassId, kind: Likeness) {
        self.waking.remove(&(class, kind));
        while let Some(index) = self.queue.first_waiting(class, kind) {
            let group = self.groups.get_mut(index);
            self.queue.move_to(index, group, Home::Idle);
            self.look_at(now, index);
            if matches!(self.groups.get(index).home, Home::Active(_)) {
                self.waking.insert((class, kind));
                return;
            }
        }
    }

    /// Registers a group that failed for a limit of its queue, or else for room. Those of its kind
    /// would fail alike.
    fn wait_for(&mut self, index: GroupIndex, demands: &[Demand], kind: Likeness, limited: bool) {
        for class in demands.iter().map(|demand| demand.class) {
            let group = self.groups.get_mut(index);
            self.queue.wait_for(index, group, class, kind);
            self.queue.set_limited(class, kind, limited);
            self.waking.remove(&(class, kind));
        }
    }

    /// Those of one kind differ in nothing that decides whether they can be placed.
    fn kind(&self, index: GroupIndex, demands: &[Demand]) -> Likeness {
        let group = self.groups.get(index);
        let whole = group.counts.settled() == 0 && group.counts.waiting == group.needed();
        // how long it runs, and what is kept for it, decide where it may run
        let alone = !self.drains.is_empty() && self.run_limit(index).is_some()
            || self.is_drained_for(index)
            || group.asks_topology()
            || self.is_pack(demands);
        match group.leaf {
            Some(leaf) if demands.len() == 1 && whole && !alone && !group.non_preemptible => {
                let (members, priority) = (group.counts.waiting, group.priority);
                Likeness::Alike { leaf, members, priority, never_preempts: group.never_preempts }
            }
            _ => Likeness::Alone(index),
        }
    }

    /// Whether an improved node takes a pod of the class.
    fn helped(&self, class_id: ClassId, improved: &FxHashSet<NodeIndex>) -> bool {
        let class = self.cluster.class(class_id);
        let profile = &self.profiles[usize::from(class.spec.profile.unwrap_or(0))];
        improved.iter().any(|node| {
            self.cluster.node(*node).node.is_some()
                && profile.passes(Reads::Usage, &self.cluster, class, *node)
                && profile.passes(Reads::Facts, &self.cluster, class, *node)
        })
    }

    fn try_group(&mut self, now: Timestamp, index: GroupIndex) -> Attempt {
        self.cluster.turn_stage();
        let demands = self.demands(index);
        let bounds = self.bounds(index);
        let kind = self.kind(index, &demands);
        let woken = demands.first().map(|demand| (demand.class, kind));
        let woken = woken.filter(|kind| self.waking.contains(kind));
        let group = self.groups.get_mut(index);
        group.attempts += 1;
        let bounds = match bounds {
            Ok(bounds) => bounds,
            Err(held) => {
                let attempt = self.set_aside(now, index, held);
                self.wait_for(index, &demands, kind, true);
                return attempt;
            }
        };
        let (outcome, refused) = self.place(index, &demands, bounds);
        if let (Err(_), Some(narrowed), Some(leaf)) =
            (&outcome, refused, self.groups.get(index).leaf)
        {
            let queue = self.fair.parent(leaf).expect("pods are charged to users");
            let attempt = self.set_aside(now, index, Held::Narrowed(queue, narrowed));
            // a node that improves may help, and so may what the queue gives back
            self.wait_for(index, &demands, kind, false);
            self.type_limited.extend(demands.iter().map(|demand| (demand.class, kind)));
            return attempt;
        }
        let group = self.groups.get_mut(index);
        let mut attempt = Attempt {
            profile: group.profile,
            gang: group.is_gang(),
            members: group.counts.waiting,
            attempts: group.attempts,
            waited_ms: now.since_ms(group.first_seen),
            result: AttemptResult::Scheduled,
        };
        match outcome {
            Ok(statement) => {
                attempt.members = u32::try_from(statement.len()).expect("bounded");
                self.commit(index, statement);
                self.tallies.drains_seated += u64::from(self.end_drain(index));
                woken.into_iter().for_each(|(class, kind)| self.wake_first(now, class, kind));
            }
            Err(failure) => {
                group.rejected_by = failure.diagnosis.rejected_by;
                let reason = failure.diagnosis.main_reason;
                group.main_reason = reason.map_or("NoNodes", Reason::word);
                attempt.result = AttemptResult::Unschedulable(failure.diagnosis.main_reason);
                self.queue.move_to(index, group, Home::Unschedulable);
                self.wait_for(index, &demands, kind, false);
                self.wake_to_give_in(index);
                self.tell_unschedulable(index, &failure);
            }
        }
        attempt
    }

    /// Places a group, on seats that are kept free too as far as it may have them; and which
    /// narrowed resource kept it off nodes.
    fn place(&mut self, index: GroupIndex, demands: &[Demand], bounds: (u32, u32)) -> Outcome {
        let first = self.place_within(index, demands, bounds);
        let open = self.open_drains(index);
        if first.0.is_ok() || open.is_empty() {
            return first;
        }
        self.without_drains(&open, |scheduler| scheduler.place_within(index, demands, bounds))
    }

    fn place_once(&mut self, index: GroupIndex, demands: &[Demand], bounds: (u32, u32)) -> Outcome {
        let is_narrowed = !self.cluster.narrowed().is_empty();
        let group = self.groups.get(index);
        let profile = &self.profiles[usize::from(group.profile)];
        let wanted = match self.wanted(index) {
            Ok(wanted) => wanted,
            Err(failure) => return (Err(failure), None),
        };
        let packed = self.is_pack(demands);
        let pinned = if packed { self.place_of_pack(index) } else { None };
        let (cluster, rankings) = (&mut self.cluster, &mut self.rankings);
        if !is_narrowed {
            let outcome = if packed {
                place_pack(cluster, rankings, profile, demands, bounds, (pinned, None))
            } else {
                let rules = Rules { gate: None, wanted: wanted.as_ref(), inside: DomainId::ROOT };
                place_in_tree(cluster, rankings, profile, demands, bounds, rules)
            };
            return (outcome, None);
        }
        let mut gate = NarrowedGate {
            fair: &mut self.fair,
            leaf: group.leaf.expect("an active group has a queue"),
            held_fast: group.non_preemptible.then_some(&self.held_fast),
            taken: Amounts::new(),
            refused: None,
        };
        let outcome = if packed {
            place_pack(cluster, rankings, profile, demands, bounds, (pinned, Some(&mut gate)))
        } else {
            let (wanted, inside) = (wanted.as_ref(), DomainId::ROOT);
            let rules = Rules { gate: Some(&mut gate), wanted, inside };
            place_in_tree(cluster, rankings, profile, demands, bounds, rules)
        };
        (outcome, gate.refused)
    }

    fn place_within(
        &mut self,
        index: GroupIndex,
        demands: &[Demand],
        bounds: (u32, u32),
    ) -> Outcome {
        let first = self.place_once(index, demands, bounds);
        let needed_by_tasks = self.groups.get(index).needed_by_tasks;
        if first.0.is_ok() || needed_by_tasks == 0 || bounds.1 <= bounds.0 {
            return first;
        }
        // members beyond the minima may have taken the room of a task group
        let least = self.place_once(index, demands, (bounds.0, bounds.0));
        if least.0.is_ok() { least } else { first }
    }

    /// How many members must and may be placed now, or what of a queue forbids the first.
    /// While others wait for their minimum, a gang takes no more than its own, and grows by one.
    fn bounds(&mut self, index: GroupIndex) -> Result<(u32, u32), Held> {
        let group = self.groups.get(index);
        let leaf = group.leaf.expect("an active group has a queue");
        let needed = group.needed();
        if let Some(queue) = self.fair.limited_by(leaf, &group.claim) {
            return Err(Held::Limit(queue));
        }
        if let Some(queue) = self.too_many_run(index) {
            return Err(Held::Cap(queue));
        }
        if let Some(queue) = self.fair.withheld_by(leaf, &group.claim, |_| &[]) {
            return Err(Held::Kept(queue));
        }
        if let Some((queue, resource)) = self.beyond(index, &group.claim) {
            return Err(Held::Guarantee(queue, resource));
        }
        let needed = needed - u32::from(needed > 1 && is_made(Fault::OneTooFew));
        let (least, most) = (needed.max(1), group.joinable());
        let all = group.counts.waiting > least
            && self.queue.is_only_active()
            && !self.others_grow(index)
            && self.fair.limited_by(leaf, &group.pending).is_none()
            && self.beyond(index, &group.pending).is_none()
            && self.fair.withheld_by(leaf, &group.pending, |_| &[]).is_none();
        Ok((needed, if all { most } else { least }))
    }

    /// What is not guaranteed of `amounts` to a group that must never be evicted.
    fn beyond(&self, index: GroupIndex, amounts: &Amounts) -> Option<(QueueIndex, ResourceId)> {
        let group = self.groups.get(index);
        let leaf = group.leaf.filter(|_| group.non_preemptible)?;
        self.beyond_guarantee(leaf, amounts)
    }

    /// Whether another gang whose binds are in flight has members left to place.
    fn others_grow(&self, index: GroupIndex) -> bool {
        let mut others = self.calls.groups().filter(|other| *other != index);
        others.any(|other| {
            let group = self.groups.get(other);
            group.counts.waiting > 0 && group.joinable() > 0
        })
    }

    /// Sets a group aside until its queue gives something back.
    fn set_aside(&mut self, now: Timestamp, index: GroupIndex, held: Held) -> Attempt {
        let (word, message) = match held {
            Held::Cap(queue) => {
                let name = self.fair.name(queue);
                ("QueueCap", format!("as many gangs of {name} run as its queue allows"))
            }
            Held::Limit(queue) => {
                ("QueueLimit", format!("queue {} is at its limit", self.fair.name(queue)))
            }
            Held::Kept(queue) => {
                let name = self.fair.name(queue);
                let message = format!(
                    "what is free is kept for other queues of {name} by their \
                    guarantees and lend limits"
                );
                ("QueueWithheld", message)
            }
            Held::Narrowed(queue, resource) => {
                let (name, resource) =
                    (self.fair.name(queue), self.cluster.resources().name(resource));
                let why = "other nodes have no room";
                ("QueueLimit", format!("queue {name} may not have more {resource}, and {why}"))
            }
            Held::Guarantee(queue, resource) => {
                let (name, resource) =
                    (self.fair.name(queue), self.cluster.resources().name(resource));
                let why = "what must never be evicted has to fit what is guaranteed";
                ("QueueGuarantee", format!("{why}: queue {name} has not enough {resource}"))
            }
        };
        let group = self.groups.get_mut(index);
        (group.rejected_by, group.main_reason) = (0, word);
        self.queue.move_to(index, group, Home::Unschedulable);
        let attempt = Attempt {
            profile: group.profile,
            gang: group.is_gang(),
            members: group.counts.waiting,
            attempts: group.attempts,
            waited_ms: now.since_ms(group.first_seen),
            result: AttemptResult::Unschedulable(None),
        };
        if group.needed() > 0 || group.counts.settled() == 0 {
            self.tell_held(index, &message);
        }
        attempt
    }

    /// Pending members by class; within a class those first without which nothing is placed, then
    /// by rank, then the oldest, then by name.
    pub(super) fn demands(&self, index: GroupIndex) -> SmallVec<[Demand; 1]> {
        let members = self.groups.get(index).members.iter().copied();
        let waiting = |pod: &_| self.pods.get(*pod).state == PodState::Waiting;
        let mut pods: SmallVec<[_; 4]> = members.filter(waiting).collect();
        let required = self.required(index);
        let first = |at: &PodIndex, pod: &PodEntry| {
            pod.header || !required.is_empty() && required.binary_search(at).is_ok()
        };
        if pods.len() > 1 {
            pods.sort_by(|at, bt| {
                let (a, b) = (self.pods.get(*at), self.pods.get(*bt));
                let key =
                    |at: &_, pod: &PodEntry| (pod.class, !first(at, pod), pod.rank, pod.created);
                key(at, a).cmp(&key(bt, b)).then_with(|| a.name.cmp(&b.name))
            });
        }
        let same = |a: &_, b: &_| self.pods.get(*a).class == self.pods.get(*b).class;
        let classes = pods.chunk_by(same);
        classes
            .map(|pods| Demand {
                class: self.pods.get(pods[0]).class,
                headers: pods.iter().filter(|at| first(at, self.pods.get(**at))).count(),
                pods: pods.into(),
            })
            .collect()
    }
}
