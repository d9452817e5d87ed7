//! A world: what is true, what the scheduler has been told so far, and what is under way.

use crate::api::{Task, What};
use crate::controllers::controller;
use crate::disruption::BudgetKey;
use crate::features::Features;
use crate::history::{Fault, History};
use crate::judge::Plan;
use crate::parts::Part;
use crate::random::Random;
use crate::scene;
use crate::shadow::Shadow;
use crate::story::short;
use crate::tally::Tally;
use crate::watches::Watches;
use mss_scheduler::model::pod::digest;
use mss_scheduler::model::{
    Budget, EvictionBudget, GroupSpec, HostPort, Node, Phase, Pod, PodClass, PodKey, QueueSpec,
    Taint, TaintEffect, Timestamp, Uid, WallTime,
};
use mss_scheduler::plugins::default_profile;
use mss_scheduler::scheduler::{
    ApiCall, DrainOptions, Event, Leadership, Options, PodRef, Scheduler,
};
use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;

/// What a pod truly is.
#[derive(Clone)]
pub(crate) struct Truth {
    pub(crate) pod: Pod,
    /// binds it had: more than one is a double bind
    pub(crate) binds: u32,
}

impl Truth {
    /// It says that it must never be evicted.
    pub(crate) fn is_firm(&self) -> bool {
        self.pod.non_preemptible
    }
}

/// Namespace and name of a gang: two namespaces share some names.
pub(crate) type GangKey = (Box<str>, Box<str>);

/// The gang of a pod.
pub(crate) fn gang_of(pod: &Pod) -> Option<GangKey> {
    names_of(pod).map(|(namespace, name)| (namespace.into(), name.into()))
}

/// The same, borrowed.
pub(crate) fn names_of(pod: &Pod) -> Option<(&str, &str)> {
    let group = pod.group.as_ref()?.as_ref().ok()?;
    Some((&pod.key.namespace, &group.name))
}

/// Whether a pod is a member of a gang.
pub(crate) fn is_of(pod: &Pod, gang: &GangKey) -> bool {
    names_of(pod) == Some((&gang.0, &gang.1))
}

/// A gang as it was made.
#[derive(Clone, Default)]
pub(crate) struct Gang {
    pub(crate) min: u32,
    /// how many parts it has
    pub(crate) parts: usize,
    /// at some time the minimum was bound
    pub(crate) whole: bool,
    /// since when it has been half bound without ever having been whole
    pub(crate) half_since: Option<i64>,
    /// members that it lost to others and did not get back
    pub(crate) lost: u32,
}

pub(crate) struct World {
    pub(crate) random: Random,
    pub(crate) now: i64,
    pub(crate) scheduler: Scheduler,
    pub(crate) pods: BTreeMap<Uid, Truth>,
    pub(crate) nodes: BTreeMap<Box<str>, Node>,
    /// by namespace and name
    pub(crate) gangs: BTreeMap<GangKey, Gang>,
    /// declared queues; none: everything is in the default queue
    pub(crate) queues: BTreeMap<Box<str>, QueueSpec>,
    /// disruption budgets
    pub(crate) budgets: BTreeMap<BudgetKey, Budget>,
    pub(crate) tally: Tally,
    /// every call, for comparing runs
    pub(crate) log: Vec<String>,
    /// calls that matter, for people
    pub(crate) story: Vec<String>,
    /// foreign pods and shrunk nodes may oversubscribe; then only our own binds are judged
    pub(crate) watches: Watches,
    pub(crate) tasks: Vec<Task>,
    /// pods that this process gave notice
    pub(crate) warned: BTreeSet<Uid>,
    serial: u64,
    pub(crate) history: History,
    pub(crate) shadow: Shadow,
    /// plans that were judged, if they are to be kept
    pub(crate) keep: Option<Vec<(scene::Scene, Plan)>>,
    /// gangs that a plan had seated after the last cycle
    pub(crate) seated: BTreeSet<scene::Gang>,
    pub(crate) options: Options,
    pub(crate) features: Features,
    next_is_header: bool,
    pub(crate) next_limit_ms: Option<i64>,
    pub(crate) next_task: Option<Box<mss_scheduler::model::Task>>,
    /// what controllers replace, and when
    pub(crate) lost: Vec<(i64, Pod)>,
    pub(crate) faults: bool,
}

/// When a world begins.
pub(crate) const START_MS: i64 = 1_000;

pub(crate) const GPU: &str = "nvidia.com/gpu";

impl World {
    pub(crate) fn new(history: &History) -> Self {
        let mut random = Random::new(history.seed);
        let features = Features::draw(history.seed);
        let quarantine = features.quarantine();
        let mut options = Options { quarantine, ..options(&mut random) };
        if features.one_search {
            options.searches_per_cycle = 1;
        }
        let mut world = World {
            random,
            now: START_MS,
            scheduler: scheduler(&options),
            options,
            features,
            pods: BTreeMap::new(),
            nodes: BTreeMap::new(),
            gangs: BTreeMap::new(),
            queues: BTreeMap::new(),
            budgets: BTreeMap::new(),
            tally: Tally::default(),
            log: Vec::new(),
            story: Vec::new(),
            watches: Watches::default(),
            tasks: Vec::new(),
            warned: BTreeSet::new(),
            history: history.clone(),
            next_is_header: false,
            next_limit_ms: None,
            next_task: None,
            lost: Vec::new(),
            shadow: Shadow::default(),
            keep: None,
            seated: BTreeSet::new(),
            serial: 0,
            faults: true,
        };
        let nodes = 2 + world.random.below(6);
        (0..nodes).for_each(|_| world.add_node());
        if world.random.below(3) > 0 {
            world.declare_queues();
        }
        world.start();
        world
    }

    /// A new process: everything is listed, then it leads.
    pub(crate) fn start(&mut self) {
        self.collect();
        self.scheduler = scheduler(&self.options);
        self.watches = Watches::default();
        self.tasks.clear();
        self.warned.clear();
        self.seated.clear();
        self.shadow = Shadow::default();
        self.relist();
        let previous_renewal = WallTime(self.now);
        self.send(Event::Leading(Leadership { previous_renewal, wall: WallTime(self.now) }));
    }

    /// One random thing happens, then the scheduler hears some of the news and decides. What
    /// happens depends on the seed and the number of the step alone, so steps can be left out.
    pub(crate) fn step(&mut self, number: u64) {
        self.random = Random::new(self.history.seed.wrapping_add(number << 32));
        self.now += i64::try_from(self.random.below(400)).expect("small");
        match self.random.below(100) {
            0..=15 => self.add_gang(),
            16..=20 => self.add_bare(),
            21..=23 => self.add_foreign(),
            24..=31 => self.end_some_pod(),
            32..=35 => self.delete_some_pod(),
            36..=37 => self.add_node(),
            38 => self.lose_node(),
            39..=40 => self.cordon(),
            41..=42 => self.restart(),
            43..=44 => self.miss_news(),
            45..=70 => self.answer_some(),
            71..=72 => self.edit_queue(),
            73..=80 => self.finish_some_deletions(),
            81..=86 => self.pause(),
            87..=88 => self.slow_down(),
            _ => {}
        }
        self.step_controllers();
        self.edit_budget();
        for _ in 0..self.random.below(8) {
            self.hear();
        }
        self.hear_what_is_late();
        self.decide();
        self.note_gangs();
    }

    /// A while in which nothing new happens.
    fn pause(&mut self) {
        let pieces = 8;
        let each = i64::try_from(800 + self.random.below(6_400)).expect("small");
        for _ in 0..pieces {
            self.now += each;
            self.step_controllers();
            (0..self.random.below(20)).for_each(|_| self.hear());
            self.hear_what_is_late();
            (0..3).for_each(|_| self.answer_some());
            self.finish_some_deletions();
            self.decide();
            self.check();
            self.note_gangs();
        }
    }

    /// What must hold after every event.
    pub(crate) fn check(&self) {
        self.scheduler.check_invariants();
        crate::checks::truth(self);
    }

    /// Faults stop; everything is heard and answered until nothing happens any more.
    pub(crate) fn settle(&mut self) {
        self.faults = false;
        // then until nothing is under way: jobs that end at their limit come again and again
        for round in 0..230 {
            if round >= 200 && self.is_quiet() {
                break;
            }
            self.now += 700;
            self.step_controllers();
            self.hear_all();
            self.answer_all();
            self.finish_deletions();
            self.decide();
            self.check();
            self.come_to_rest();
            self.note_gangs();
        }
        self.check_drains();
        self.collect();
    }

    pub(crate) fn decide(&mut self) {
        let report = self.scheduler.cycle(Timestamp(self.now));
        let mut plans: Vec<(Arc<str>, Vec<PodRef>)> = Vec::new();
        let (mut bound, mut ended): (Vec<Uid>, Vec<PodRef>) = Default::default();
        let mut evicted: Vec<Uid> = Vec::new();
        for call in report.calls {
            self.log.push(format!("{} {call:?}", self.now));
            self.story.extend(short(&call).map(|call| format!("{} {call}", self.now)));
            match call {
                ApiCall::Bind { call, members, .. } => {
                    self.note_growth(&members);
                    self.check_binds(&members);
                    let asked = uids(members.iter().map(|m| &m.pod));
                    self.shadow.asked(call, &asked, false);
                    bound.extend(asked);
                    for member in members {
                        self.ask(call, member.pod.uid, What::Bind((*member.node).into()));
                    }
                }
                ApiCall::Warn { pods, note, .. } => {
                    self.note_victims(&pods);
                    match plans.iter_mut().find(|(known, _)| *known == note) {
                        Some((_, victims)) => victims.extend(pods),
                        None => plans.push((note, pods)),
                    }
                }
                ApiCall::Evict { call, victims } => {
                    for pod in victims.into_iter().map(|victim| victim.pod) {
                        evicted.push(pod.uid);
                        self.shadow.asked_to_evict(call, pod.uid);
                        self.ask(call, pod.uid, What::Evict);
                    }
                }
                ApiCall::Withdraw { calls } => self.withdraw(&calls),
                ApiCall::End { call, pods, .. } => {
                    // unlike a gang that is rolled back, one of which some are ended goes on
                    self.shadow.rolling_back.extend(uids(&pods));
                    ended.extend(pods.iter().cloned());
                    pods.into_iter().for_each(|pod| self.ask(call, pod.uid, What::Delete));
                }
                ApiCall::Delete { call, pods, .. } => {
                    self.tally.rollbacks += 1;
                    self.shadow.asked(call, &uids(&pods), true);
                    pods.into_iter().for_each(|pod| self.ask(call, pod.uid, What::Delete));
                }
                ApiCall::TellNode { node, news, .. } => self.note_node(&node, news),
                ApiCall::Spare { pods, .. } => {
                    self.shadow.noticed.retain(|uid, _| pods.iter().all(|pod| pod.uid != *uid));
                }
                ApiCall::Report { .. }
                | ApiCall::NoteIgnored { .. }
                | ApiCall::TellHolder { .. } => {}
                ApiCall::ShowQueue(standing) => {
                    self.tally.shown += 1;
                    assert!(standing.used.amount >= 0.0, "{standing:?}");
                }
                ApiCall::Tell { pods, telling, .. } => {
                    self.tally.told += pods.len() as u64;
                    for pod in pods {
                        let digest = digest(&telling.message);
                        self.modify(pod.uid, |pod| pod.told = digest);
                    }
                }
            }
        }
        self.judge(plans, &bound);
        self.check_parts(&bound);
        self.check_evictions(&evicted);
        self.note_promises(&bound);
        self.check_ends(&ended);
        self.check_quarantines();
    }

    pub(crate) fn modify(&mut self, uid: Uid, change: impl FnOnce(&mut Pod)) {
        if let Some(truth) = self.pods.get_mut(&uid) {
            change(&mut truth.pod);
            let pod = truth.pod.clone();
            self.send(Event::PodApplied(Box::new(pod)));
        }
    }

    fn uid(&mut self) -> Uid {
        self.serial += 1;
        Uid(u128::from(self.serial))
    }

    fn class(&mut self, ours: bool) -> PodClass {
        let gpus = [1, 1, 2, 4, 8][usize::try_from(self.random.below(5)).expect("small")];
        let port = (self.random.below(12) == 0).then_some(HostPort {
            port: 80,
            protocol: Default::default(),
            address: 0,
        });
        PodClass {
            profile: ours.then_some(0),
            requests: vec![("cpu".into(), 1000), (GPU.into(), gpus)],
            host_ports: port.into_iter().collect(),
            ..PodClass::default()
        }
    }

    pub(crate) fn add_pod(
        &mut self,
        class: PodClass,
        group: Option<GroupSpec>,
        node: Option<Box<str>>,
        (namespace, priority): (&str, i32),
    ) {
        let uid = self.uid();
        // an eighth of the gangs, where there are queues to guarantee them anything
        let one_in_eight = |group: &GroupSpec| digest(&group.name).is_multiple_of(8);
        let non_preemptible = !self.queues.is_empty() && group.as_ref().is_some_and(one_in_eight);
        let mut pod = Pod {
            non_preemptible,
            header: std::mem::take(&mut self.next_is_header),
            key: PodKey { namespace: namespace.into(), name: format!("pod-{}", uid.0).into() },
            uid,
            priority,
            profile: class.profile,
            node,
            created: WallTime(self.now),
            controller: group.as_ref().and_then(|group| controller(namespace, group)),
            run_limit_ms: self.next_limit_ms.take(),
            task: self.next_task.take(),
            group: group.map(Ok),
            class,
            ..Pod::default()
        };
        self.features.rank(&mut pod);
        self.features.stamp(&mut pod);
        self.features.label(&mut pod);
        self.features.select(&mut pod);
        self.pods.insert(uid, Truth { pod: pod.clone(), binds: 0 });
        self.send(Event::PodApplied(Box::new(pod)));
    }

    fn add_gang(&mut self) {
        if self.pods.len() > 80 {
            return;
        }
        self.serial += 1;
        let name: Box<str> = format!("gang-{}", self.serial).into();
        let (namespace, priority) = self.tenant();
        self.add_gang_in((&namespace, priority), name.clone());
        if self.random.below(3) == 0 {
            self.tally.namesakes += 1;
            self.add_gang_in(("other", priority), name);
        }
    }

    fn add_gang_in(&mut self, (namespace, priority): (&str, i32), name: Box<str>) {
        self.tally.gangs += 1;
        let size = 2 + self.random.below(6);
        let min = 1 + u32::try_from(self.random.below(size)).expect("small");
        let class = self.class(true);
        let other = self.class(true);
        let mixed = self.random.below(4) == 0;
        // some say how long they run
        let limit = (self.random.below(5) == 0).then(|| 2_000 + self.random.below(20_000));
        let limit = limit.map(|limit| i64::try_from(limit).expect("small"));
        let tasks = self.features.tasks(&name, usize::try_from(size).expect("small"));
        let parts = tasks.iter().flatten().map(|task| &task.name).collect::<BTreeSet<_>>().len();
        let gang = Gang { min, parts, ..Gang::default() };
        self.gangs.insert((namespace.into(), name.clone()), gang);
        for (member, task) in tasks.into_iter().enumerate() {
            self.next_task = task.map(Box::new);
            let class = if mixed && member == 0 { other.clone() } else { class.clone() };
            let group = GroupSpec { name: name.clone(), min_member: min, max_member: None };
            let is_header = member == 0 && digest(&name).is_multiple_of(3);
            (self.next_is_header, self.next_limit_ms) = (is_header, limit);
            self.add_pod(class, Some(group), None, (namespace, priority));
        }
    }

    fn add_bare(&mut self) {
        let class = self.class(true);
        let tenant = self.tenant();
        self.add_pod(class, None, None, (&tenant.0, tenant.1));
    }

    fn add_foreign(&mut self) {
        if self.is_off(Fault::Foreign) {
            return;
        }
        let class = self.class(false);
        let names: Vec<Box<str>> = self.nodes.keys().cloned().collect();
        if !names.is_empty() {
            let at = usize::try_from(self.random.below(names.len() as u64)).expect("small");
            self.add_pod(class, None, Some(names[at].clone()), ("kube-system", 0));
        }
    }

    fn some_pod(&mut self, fits: impl Fn(&Pod) -> bool) -> Option<Uid> {
        let found: Vec<Uid> =
            self.pods.values().filter(|t| fits(&t.pod)).map(|t| t.pod.uid).collect();
        let at = self.random.below(found.len().max(1) as u64);
        found.get(usize::try_from(at).expect("small")).copied()
    }

    fn end_some_pod(&mut self) {
        let running = |pod: &Pod| pod.node.is_some() && !pod.ended() && !pod.deleting;
        let Some(uid) = self.some_pod(running) else { return };
        let (now, failed) = (WallTime(self.now), self.random.below(3) == 0);
        self.modify(uid, |pod| {
            pod.phase = if failed { Phase::Failed } else { Phase::Succeeded };
            pod.finished_at = Some(now);
        });
        if failed {
            self.replace(uid);
        }
    }

    fn delete_some_pod(&mut self) {
        let Some(uid) = self.some_pod(|pod| !pod.deleting) else { return };
        let replaced = self.random.below(2) == 0;
        if replaced && self.pods.get(&uid).is_some_and(|truth| !truth.pod.ended()) {
            self.replace(uid);
        }
        if self.random.below(2) == 0 {
            self.modify(uid, |pod| pod.deleting = true);
        } else {
            self.remove(uid);
        }
    }

    pub(crate) fn remove(&mut self, uid: Uid) {
        self.pods.remove(&uid);
        self.send(Event::PodDeleted(uid));
    }

    fn finish_deletions(&mut self) {
        let leaving = self.pods.values().filter(|truth| truth.pod.deleting);
        let leaving: Vec<Uid> = leaving.map(|truth| truth.pod.uid).collect();
        leaving.into_iter().for_each(|uid| self.remove(uid));
    }

    fn add_node(&mut self) {
        self.serial += 1;
        let name: Box<str> = format!("node-{}", self.serial).into();
        let gpus = if self.random.below(4) == 0 { 4 } else { 8 };
        let allocatable = vec![("cpu".into(), 16_000), (GPU.into(), gpus), ("pods".into(), 12)];
        let labels = self.features.labels(&name);
        let node = Node { name: name.clone(), labels, allocatable, ..Node::default() };
        self.nodes.insert(name, node.clone());
        self.send(Event::NodeApplied(Box::new(node)));
    }

    fn lose_node(&mut self) {
        if self.nodes.len() < 3 || self.is_off(Fault::NodeLoss) {
            return;
        }
        let Some(name) = self.nodes.keys().next().cloned() else { return };
        self.tally.nodes_lost += 1;
        self.nodes.remove(&name);
        self.send(Event::NodeDeleted(name.clone()));
        let there = self.pods.values().filter(|t| t.pod.node.as_deref() == Some(&*name));
        let there: Vec<Uid> = there.map(|truth| truth.pod.uid).collect();
        there.into_iter().for_each(|uid| self.remove(uid));
    }

    fn cordon(&mut self) {
        if self.is_off(Fault::Cordon) {
            return;
        }
        let at = self.random.below(self.nodes.len() as u64);
        let at = usize::try_from(at).expect("small");
        let Some(node) = self.nodes.values_mut().nth(at) else { return };
        node.unschedulable = !node.unschedulable;
        node.taints = match node.taints.is_empty() {
            true => vec![Taint {
                key: "maintenance".into(),
                value: "".into(),
                effect: TaintEffect::NoSchedule,
            }],
            false => Vec::new(),
        };
        let node = node.clone();
        self.send(Event::NodeApplied(Box::new(node)));
    }

    /// Bound members of a gang that count.
    pub(crate) fn bound(&self, gang: &GangKey) -> u32 {
        let counts = |truth: &&Truth| {
            is_of(&truth.pod, gang)
                && truth.pod.node.is_some()
                && !truth.pod.deleting
                && truth.pod.phase == Phase::Live
        };
        u32::try_from(self.pods.values().filter(counts).count()).expect("small")
    }

    fn succeeded(&self, gang: &GangKey) -> u32 {
        let counts =
            |truth: &&Truth| is_of(&truth.pod, gang) && truth.pod.phase == Phase::Succeeded;
        u32::try_from(self.pods.values().filter(counts).count()).expect("small")
    }

    pub(crate) fn note_gangs(&mut self) {
        let names: Vec<GangKey> = self.gangs.keys().cloned().collect();
        for name in names {
            let (bound, ended, now) = (self.bound(&name), self.succeeded(&name), self.now);
            let have_minima = self.parts(&name).iter().all(Part::has_minimum);
            let gang = self.gangs.get_mut(&name).expect("it was listed");
            gang.whole |= bound + ended >= gang.min && have_minima;
            gang.half_since = match bound {
                0 => None,
                _ if gang.whole => None,
                _ => gang.half_since.or(Some(now)),
            };
        }
    }
}

fn uids<'a>(pods: impl IntoIterator<Item = &'a PodRef>) -> Vec<Uid> {
    pods.into_iter().map(|pod| pod.uid).collect()
}

fn options(random: &mut Random) -> Options {
    // in a third of the worlds the whole cluster has a budget of evictions
    let budget = EvictionBudget { pods: 2, window_ms: 20_000 };
    let eviction_budget = (random.below(3) == 0).then_some(budget);
    let drains = DrainOptions { after_ms: 10_000, for_ms: 20_000, percent: 50 };
    let drains = (random.below(2) == 0).then_some(drains);
    Options {
        queue_status_interval_ms: Some(2_000),
        queues_watched: true,
        eviction_budget,
        drains,
        ..Options::default()
    }
}

fn scheduler(options: &Options) -> Scheduler {
    Scheduler::new(options.clone(), vec![default_profile("mss-scheduler")])
}
