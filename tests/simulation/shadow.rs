//! What this process was told, kept in the plainest way, and the scene that it makes.

use crate::awaited::Absent;
use crate::disruption::{BudgetKey, key};
use crate::parts::Run;
use crate::reference::Place;
use crate::scene::{
    Amounts, Gang, Kept, Known, NONE, PORTS, Role, SHARED, Scene, base, gang, only, plus, requests,
    type_of, typed,
};
use crate::world::World;
use mss_scheduler::model::{Budget, Caps, EvictionBudget, Node, Pod, QueueSpec, Uid};
use mss_scheduler::scheduler::{
    BindOutcome, CallId, DeleteOutcome, Event, EvictOutcome, Kind, QueueShare,
};
use std::collections::{BTreeMap, BTreeSet};

/// Not chosen again for this long after a disruption budget protected it.
const PROTECTED_MS: i64 = 60_000;
/// A drop of the capacity lowers shares when it has lasted for this long.
const HOLD_MS: i64 = 60_000;
/// Taints of nodes that are not ready.
pub(crate) const AWAY: [&str; 2] =
    ["node.kubernetes.io/not-ready", "node.kubernetes.io/unreachable"];
/// The pair rule.
const PAIR_MS: i64 = 600_000;

#[derive(Default)]
pub(crate) struct Shadow {
    pub(crate) pods: BTreeMap<Uid, Pod>,
    pub(crate) nodes: BTreeMap<Box<str>, Node>,
    queues: BTreeMap<Box<str>, QueueSpec>,
    pub(crate) in_force: Vec<QueueSpec>,
    pub(crate) leads: bool,
    listed: [BTreeSet<String>; 4],
    /// answered as bound
    pub(crate) bound: BTreeSet<Uid>,
    /// answered as gone, and not heard of since
    gone: BTreeSet<Uid>,
    pub(crate) rolling_back: BTreeSet<Uid>,
    /// gangs of binds and deletions in flight
    calls: BTreeMap<CallId, (Gang, usize)>,
    protected: BTreeMap<Uid, i64>,
    /// victims by whom they make room for
    pub(crate) plans: BTreeMap<Gang, BTreeSet<Uid>>,
    /// until when the victims of plans have time to go
    pub(crate) deadlines: BTreeMap<Gang, i64>,
    /// since when pods are under notice: it goes on under the next plan that names them
    pub(crate) noticed: BTreeMap<Uid, i64>,
    /// plans that were given up as their victims stayed, until the last cycle
    pub(crate) stayed: u64,
    /// pods evicted of late, by what is left of it times the window, and since when
    taken: i64,
    taken_at: i64,
    /// what there was to share, and when that was found to have changed
    offered: Vec<(Amounts, i64)>,
    /// told to go by this process, and nobody else had done so before
    pub(crate) evicted: BTreeMap<Uid, CallId>,
    pub(crate) absent: Vec<Absent>,
    /// disruption budgets, and how many pods were evicted since they were heard of
    pub(crate) budgets: BTreeMap<BudgetKey, (Budget, u32)>,
    /// types of GPUs of nodes that were ever heard of
    types: BTreeMap<Box<str>, usize>,
    /// queues differ from those of the last cycle
    edited: bool,
    /// room that was drained after the last cycle
    kept: Kept,
    drains: u64,
    /// plans made until the last cycle
    pub(crate) made: u64,
    /// nodes in quarantine, and since when
    pub(crate) quarantined: BTreeMap<Box<str>, i64>,
    /// the least limit with which a pod was asked to be bound, where room may be drained
    pub(crate) promised: BTreeMap<Uid, i64>,
    /// of gangs that had room after the last cycle
    pub(crate) runs: BTreeMap<Gang, Run>,
    /// victim, taker, when
    pairs: Vec<(Gang, Gang, i64)>,
}

fn place(kind: Kind) -> Option<usize> {
    [Kind::Pod, Kind::Node, Kind::Queue, Kind::Budget].iter().position(|known| *known == kind)
}

impl Shadow {
    pub(crate) fn hear(&mut self, now: i64, event: &Event) {
        match event {
            Event::ListStarted(kind) => {
                place(*kind).into_iter().for_each(|at| self.listed[at].clear());
            }
            Event::ListEnded(kind) => self.end_list(now, *kind),
            Event::PodApplied(pod) => self.apply(now, pod),
            Event::BudgetApplied(budget) => {
                self.listed[3].insert(format!("{}/{}", budget.namespace, budget.name));
                self.budgets.insert(key(budget), ((**budget).clone(), 0));
            }
            Event::BudgetDeleted { namespace, name } => {
                self.listed[3].remove(&format!("{namespace}/{name}"));
                self.budgets.remove(&(namespace.clone(), name.clone()));
            }
            Event::PodDeleted(uid) => {
                self.note_leaving(*uid);
                let gone = self.pods.remove(uid);
                gone.iter().for_each(|pod| self.lose(now, pod));
            }
            Event::NodeApplied(node) => {
                self.listed[1].insert((*node.name).to_owned());
                if let Some(at) = type_of(node) {
                    self.types.insert(node.name.clone(), at);
                }
                self.nodes.insert(node.name.clone(), (**node).clone());
            }
            Event::NodeDeleted(name) => {
                self.listed[1].remove(&**name);
                self.nodes.remove(name);
                self.quarantined.remove(name);
            }
            Event::QueueApplied(spec) => {
                self.listed[2].insert((*spec.name).to_owned());
                let before = self.queues.insert(spec.name.clone(), (**spec).clone());
                self.edited |= before.as_ref() != Some(&**spec);
            }
            Event::Leading(_) => self.leads = true,
            Event::BindFinished { call, pod, outcome } => {
                match outcome {
                    BindOutcome::Bound => _ = self.bound.insert(*pod),
                    BindOutcome::Gone => _ = self.gone.insert(*pod),
                    _ => {}
                }
                self.answered(*call);
            }
            Event::DeleteFinished { call, pod, outcome } => {
                if *outcome == DeleteOutcome::Failed {
                    self.rolling_back.remove(pod);
                }
                self.answered(*call);
            }
            Event::EvictFinished { call, pod, outcome: EvictOutcome::Withdrawn } => {
                let is_last = self.evicted.get(pod) == Some(call);
                is_last.then(|| self.evicted.remove(pod));
            }
            Event::EvictFinished { pod, outcome, .. } if *outcome != EvictOutcome::Evicted => {
                self.evicted.remove(pod);
                self.protected.insert(*pod, now + PROTECTED_MS);
                // one that has ended by then is waited for no longer
                if self.pods.get(pod).is_some_and(|pod| !pod.ended()) {
                    self.plans.retain(|_, victims| !victims.contains(pod));
                }
            }
            _ => {}
        }
    }

    /// What a list lacked is gone.
    fn end_list(&mut self, now: i64, kind: Kind) {
        match kind {
            Kind::Pod => {
                let listed = std::mem::take(&mut self.listed[0]);
                let unlisted = self.pods.keys().filter(|uid| !listed.contains(&uid.to_string()));
                let unlisted: Vec<Uid> = unlisted.copied().collect();
                unlisted.into_iter().for_each(|uid| self.note_leaving(uid));
                let is_gone = |_: &Uid, pod: &mut Pod| !listed.contains(&pod.uid.to_string());
                let gone: Vec<Pod> =
                    self.pods.extract_if(.., is_gone).map(|(_, pod)| pod).collect();
                gone.iter().for_each(|pod| self.lose(now, pod));
            }
            Kind::Node => {
                let listed = std::mem::take(&mut self.listed[1]);
                self.nodes.retain(|name, _| listed.contains(&**name));
                self.quarantined.retain(|name, _| listed.contains(&**name));
            }
            Kind::Queue => {
                let listed = std::mem::take(&mut self.listed[2]);
                let known = self.queues.len();
                self.queues.retain(|name, _| listed.contains(&**name));
                self.edited |= self.queues.len() != known;
            }
            Kind::Budget => {
                let listed = std::mem::take(&mut self.listed[3]);
                self.budgets.retain(|(ns, name), _| listed.contains(&format!("{ns}/{name}")));
            }
            Kind::Namespace => {}
        }
    }

    fn apply(&mut self, now: i64, pod: &Pod) {
        self.listed[0].insert(pod.uid.to_string());
        self.gone.remove(&pod.uid);
        if pod.deleting {
            self.note_leaving(pod.uid);
        }
        self.note_absence(now, pod);
        let before = self.pods.insert(pod.uid, pod.clone());
        let entry = self.pods.get_mut(&pod.uid).expect("it was put there");
        // a node is never taken back, nor when it was given
        if let Some(before) = before {
            entry.node = entry.node.take().or(before.node);
            entry.bound_at = entry.bound_at.or(before.bound_at);
        }
    }

    fn answered(&mut self, call: CallId) {
        if let Some((_, left)) = self.calls.get_mut(&call) {
            *left -= 1;
            if *left == 0 {
                self.calls.remove(&call);
            }
        }
    }

    /// What ready nodes offer less what is taken there by others. Where all are ready, others count
    /// on nodes that are gone too, until their pods are.
    fn offered(&self, node_of: impl Fn(Uid) -> Option<Box<str>>) -> Amounts {
        let away = |node: &&Node| node.taints.iter().any(|taint| AWAY.contains(&&*taint.key));
        let all_ready = !self.nodes.values().any(|node| away(&node));
        let ready = self.nodes.values().filter(|node| !away(node));
        let names: BTreeSet<&str> = ready.clone().map(|node| &*node.name).collect();
        let of = |node: &Node| {
            let offered = base(&node.allocatable);
            typed(offered, self.types.get(&node.name).copied())
        };
        let offered = ready.map(of).fold(NONE, plus);
        let foreign = self.pods.iter().filter(|(_, pod)| pod.profile.is_none());
        let foreign = foreign.filter(|(uid, _)| {
            node_of(**uid).is_some_and(|node| all_ready || names.contains(&*node))
        });
        let taken = foreign.map(|(uid, pod)| {
            let node = node_of(*uid);
            typed(requests(pod), node.and_then(|node| self.types.get(&node).copied()))
        });
        let taken = taken.fold(NONE, plus);
        let left = std::array::from_fn(|at| (offered[at] - taken[at]).max(0));
        only(&self.named(), left)
    }

    /// Which of the shared resources there are: those that are narrowed, if a queue names them.
    pub(crate) fn named(&self) -> [bool; SHARED.len()] {
        let lists = self.in_force.iter().flat_map(|spec| {
            let limits = [&spec.limit, &spec.lend_limit, &spec.borrow_limit, &spec.user_limit];
            limits.into_iter().chain([&spec.quota])
        });
        let names: BTreeSet<&str> = lists.flatten().map(|(name, _)| &**name).collect();
        std::array::from_fn(|at| at < 2 || names.contains(SHARED[at]))
    }

    /// Notes what there is to share in a cycle.
    fn note_offered(&mut self, now: i64, offered: Amounts) {
        match self.offered.last_mut() {
            Some((last, until)) if *last != offered => *until = now,
            Some(_) => return,
            None => {}
        }
        self.offered.retain(|(_, until)| until + HOLD_MS > now);
        self.offered.push((offered, i64::MAX - HOLD_MS));
    }

    /// The most that there was to share until a drop would have lasted.
    fn capacity(&self, now: i64) -> Amounts {
        let recent = self.offered.iter().filter(|(_, until)| until + HOLD_MS > now);
        recent.fold(NONE, |most, (offered, _)| std::array::from_fn(|at| most[at].max(offered[at])))
    }

    /// Binds or deletions are asked for.
    pub(crate) fn asked(&mut self, call: CallId, pods: &[Uid], deletes: bool) {
        let first = pods.first().and_then(|uid| self.pods.get(uid));
        if let Some(first) = first {
            self.calls.insert(call, (gang(first), pods.len()));
        }
        if deletes {
            self.rolling_back.extend(pods);
        }
    }

    /// E7: the budget of the whole cluster admits a plan, and is charged for it.
    pub(crate) fn charge(&mut self, now: i64, budget: EvictionBudget, pods: i64) -> bool {
        let (size, back) = (i64::from(budget.pods), i64::from(budget.pods));
        self.taken = (self.taken - (now - self.taken_at) * back).max(0);
        self.taken_at = now;
        let admitted = self.taken + pods * budget.window_ms <= size * budget.window_ms;
        let full = self.taken == 0;
        self.taken += pods * budget.window_ms;
        admitted || full
    }

    /// A plan is in force from now on.
    pub(crate) fn planned(&mut self, now: i64, taker: &Gang, victims: &[Uid]) {
        self.plans.insert(taker.clone(), victims.iter().copied().collect());
        let losers: BTreeSet<Gang> =
            victims.iter().filter_map(|uid| self.pods.get(uid)).map(gang).collect();
        self.pairs.retain(|(_, _, at)| at + PAIR_MS > now);
        self.pairs.extend(losers.into_iter().map(|loser| (loser, taker.clone(), now)));
    }
}

impl Shadow {
    /// Whether the queues differ from those in force in more than their weights.
    fn is_another_tree(&self) -> bool {
        let unweighed = |spec: &QueueSpec| QueueSpec {
            generation: 0,
            weight: 1,
            over_quota_weight: None,
            ..spec.clone()
        };
        !self.in_force.iter().map(unweighed).eq(self.queues.values().map(unweighed))
    }
}

impl World {
    /// Gangs with seats that are not free yet.
    pub(crate) fn seated_now(&mut self) -> BTreeSet<Gang> {
        let scheduler = &self.scheduler;
        let shadow = &mut self.shadow;
        let decides = shadow.leads && scheduler.is_synced();
        let is_new = !shadow.in_force.iter().eq(shadow.queues.values());
        let is_edited = decides && std::mem::take(&mut shadow.edited);
        // of edited weights alone nothing is forgotten
        if is_edited && scheduler.tree_faults().is_empty() && shadow.is_another_tree() {
            shadow.absent.clear();
            // names are looked up anew, and only where nodes are known
            let nodes = &shadow.nodes;
            shadow.types.retain(|name, _| nodes.contains_key(name));
        }
        if decides && is_new && scheduler.tree_faults().is_empty() {
            shadow.in_force = shadow.queues.values().cloned().collect();
        }
        if decides {
            let offered = shadow.offered(|uid| scheduler.node_of(uid).map(Into::into));
            shadow.note_offered(self.now, offered);
        }
        let seated = self.shadow.pods.iter().filter(|(uid, pod)| {
            let bound = pod.node.is_some() || self.shadow.bound.contains(uid);
            let ours = pod.profile.is_some() && !pod.ended();
            ours && !bound && scheduler.node_of(**uid).is_some() && !scheduler.is_assumed(**uid)
        });
        let seated: BTreeSet<Gang> = seated.map(|(_, pod)| gang(pod)).collect();
        self.shadow.plans.retain(|taker, _| seated.contains(taker));
        seated
    }

    /// Whether what is counted as demand cannot be retraced here: caps hold gangs in the gate in
    /// the order in which they came.
    pub(crate) fn is_vague(&self) -> bool {
        let holds = |caps: &Caps| caps.pending_gangs.is_some() || caps.gang_gpus.is_some();
        self.shadow.in_force.iter().any(|spec| holds(&spec.caps))
    }

    /// What the scheduler counts as taken beside all pods: seats of drains.
    fn kept_now(&self) -> Kept {
        let mut kept = Kept::new();
        if self.scheduler.gauges().drains == 0 {
            return kept;
        }
        let cluster = self.scheduler.cluster();
        for (index, entry) in cluster.live_nodes() {
            for resource in cluster.resources().iter() {
                let key = ((*entry.name).into(), cluster.resources().name(resource).into());
                kept.insert(key, cluster.requested(resource, index));
            }
            let ports = i64::try_from(cluster.ports(index).len()).expect("few");
            kept.insert(((*entry.name).into(), PORTS.into()), ports);
        }
        for (uid, pod) in &self.shadow.pods {
            let Some(node) = self.scheduler.node_of(*uid) else { continue };
            let ports = i64::try_from(pod.class.host_ports.len()).expect("few");
            let more = [("pods".into(), 1), (PORTS.into(), ports)];
            for (resource, amount) in pod.class.requests.iter().chain(&more) {
                let taken = kept.get_mut(&(node.into(), resource.clone()));
                taken.into_iter().for_each(|taken| *taken -= amount);
            }
        }
        kept.retain(|_, amount| *amount > 0);
        kept
    }

    /// Room that was drained all through the last cycle, and at its beginning or end.
    pub(crate) fn kept(&mut self) -> [Kept; 2] {
        let now = self.kept_now();
        let before = std::mem::replace(&mut self.shadow.kept, now.clone());
        let begun = self.scheduler.tallies().drains;
        // a drain that was begun may have come in the place of another
        let is_new = std::mem::replace(&mut self.shadow.drains, begun) != begun;
        let both = before.iter().filter(|_| !is_new);
        let both = both.filter_map(|(at, amount)| Some((at.clone(), *now.get(at)?.min(amount))));
        let all = both.collect();
        let mut either = now;
        for (at, amount) in before {
            let kept = either.entry(at).or_default();
            *kept = amount.max(*kept);
        }
        [all, either]
    }

    /// What a pod is to the scheduler, but for victims of plans. Seats of `begun` are not counted.
    pub(crate) fn role(&self, uid: Uid, pod: &Pod, begun: &BTreeSet<Gang>) -> Role {
        let (shadow, scheduler) = (&self.shadow, &self.scheduler);
        if pod.profile.is_none() {
            return Role::Foreign;
        }
        if pod.ended() {
            return Role::Ended;
        }
        let has_node = scheduler.node_of(uid).is_some();
        let bound = pod.node.is_some() || shadow.bound.contains(&uid);
        let assumed = scheduler.is_assumed(uid);
        match pod {
            _ if shadow.rolling_back.contains(&uid) && has_node => Role::Going,
            _ if bound && !assumed && pod.deleting => Role::Going,
            _ if bound && !assumed && has_node => Role::Bound,
            _ if assumed => Role::Placed,
            pod if has_node && begun.contains(&gang(pod)) => Role::Waiting,
            _ if has_node => Role::Placed,
            pod if pod.deleting || shadow.gone.contains(&uid) => Role::Ended,
            _ => Role::Waiting,
        }
    }

    /// The scene after a cycle, but for plans that were made in it: `begun`.
    pub(crate) fn scene(&mut self, begun: &BTreeSet<Gang>) -> Scene {
        let shadow = &self.shadow;
        let mut scene = Scene {
            now: self.now,
            capacity: shadow.capacity(self.now),
            replaced: self.awaited(),
            queues: shadow.in_force.clone(),
            nodes: shadow.nodes.clone(),
            closed: shadow.quarantined.keys().cloned().collect(),
            remembered: shadow.runs.clone(),
            named: shadow.named(),
            types: shadow.types.clone(),
            ..Scene::default()
        };
        if !scene.queues.iter().any(|spec| &*spec.name == "default") {
            scene.queues.push(QueueSpec::default());
        }
        for (uid, pod) in &shadow.pods {
            let role = self.role(*uid, pod, begun);
            let node = self.scheduler.node_of(*uid).filter(|_| role != Role::Waiting);
            let node: Option<Box<str>> = node.map(Into::into);
            let protected_until = shadow.protected.get(uid).copied().unwrap_or(i64::MIN);
            let known = Known { pod: pod.clone(), role, node, protected_until };
            scene.pods.insert(*uid, known);
            if role != Role::Foreign {
                scene.of_gang.entry(gang(pod)).or_default().push(*uid);
            }
        }
        for uid in shadow.plans.values().flatten() {
            let Some(known) = scene.pods.get_mut(uid).filter(|known| known.node.is_some()) else {
                continue;
            };
            known.role = Role::Going;
            scene.awaited.insert(*uid);
        }
        let seated = self.seated.iter().filter(|gang| !begun.contains(*gang));
        let committing = shadow.calls.values().map(|(gang, _)| gang).chain(seated);
        scene.counted = committing.cloned().collect();
        let waiting = scene.pods.values().filter(|known| known.role == Role::Waiting);
        let waiting: BTreeSet<Gang> = waiting.map(|known| gang(&known.pod)).collect();
        let passing = waiting.into_iter().filter(|gang| scene.passes_gate(gang));
        let passing: Vec<Gang> = passing.collect();
        scene.counted.extend(passing);
        let now = self.now;
        let pairs = shadow.pairs.iter().filter(|(_, _, at)| at + PAIR_MS > now);
        scene.pairs = pairs.map(|(victim, taker, _)| (victim.clone(), taker.clone())).collect();
        scene
    }

    /// I5, F1: what everybody holds and deserves, recomputed from nothing.
    pub(crate) fn check_shares(&mut self) {
        let decides = self.shadow.leads && self.scheduler.is_synced();
        if self.is_vague() || !decides {
            return;
        }
        let scene = self.scene(&BTreeSet::new());
        let shares = scene.shares(None);
        let believed = self.scheduler.shares();
        for place in shares.places() {
            let name = shares.name(place);
            let held = scene.held(place, &shares, |_| true);
            for (at, resource) in SHARED.iter().enumerate().filter(|(at, _)| scene.named[*at]) {
                let same =
                    |share: &&QueueShare| share.queue == name && *share.resource == **resource;
                let Some(share) = believed.iter().find(same) else {
                    assert!(held[at] == 0, "F1: {name} holds {} {resource} unknown", held[at]);
                    continue;
                };
                let deserved = shares.deserved(place, at);
                let (i, f) = (share.allocated, share.deserved_milli);
                let root = place == Place::Root;
                assert!(root || i == held[at], "I5: {name} holds {} {resource}, not {i}", held[at]);
                assert!(f == deserved, "F1: {name} deserves {deserved} of {resource}, not {f}");
            }
        }
        self.tally.shares_checked += 1;
    }
}
