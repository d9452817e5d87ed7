//! The world of a scenario: what is true, what is asked of it, and what it answers.
//!
//! Time stands still unless a step lets it pass. A bind is carried out and answered at once unless
//! the scenario says otherwise. Every call is judged by what is true, see `judge.rs`.

use crate::format::{Answer, PodSpec, Step, expand, millis, names};
use crate::judge;
use crate::objects;
use crate::victims::Victims;
use mss_scheduler::model::pod::digest;
use mss_scheduler::model::{Budget, Node, Phase, Pod, QueueSpec, Timestamp, Uid, WallTime};
use mss_scheduler::plugins::{Arguments, FILTERS, SCORES, profile};
use mss_scheduler::scheduler::{
    ApiCall, BindMember, BindOutcome, CallId, DeleteOutcome, Event, Kind, Leadership, Options,
    PodRef, Scheduler, Telling,
};
use std::collections::{BTreeMap, BTreeSet};

/// A pod as it is.
pub(crate) struct Truth {
    pub(crate) pod: Pod,
    /// `Reason: message` of its condition
    pub(crate) told: Option<String>,
}

/// A bind that has not been answered.
pub(crate) struct Held {
    pub(crate) name: String,
    pub(crate) member: BindMember,
    call: CallId,
    /// what happened already
    outcome: Option<BindOutcome>,
}

/// What was done since the last step in which something happened.
#[derive(Default)]
pub(crate) struct Done {
    pub(crate) binds: Vec<Vec<String>>,
    pub(crate) deletes: Vec<Vec<String>>,
    pub(crate) notes: Vec<String>,
    pub(crate) ignored: Vec<String>,
    pub(crate) node_events: Vec<String>,
    pub(crate) warned: Vec<String>,
    pub(crate) spared: Vec<String>,
    pub(crate) withdrawn: Vec<String>,
    pub(crate) reported: Vec<String>,
    pub(crate) evictions: Vec<Vec<String>>,
    pub(crate) attempts: usize,
    pub(crate) tells: usize,
}

pub(crate) struct World {
    pub(crate) now: i64,
    pub(crate) scheduler: Scheduler,
    /// by the name a scenario uses
    pub(crate) pods: BTreeMap<String, Truth>,
    pub(crate) nodes: BTreeMap<String, Node>,
    pub(crate) held: Vec<Held>,
    pub(crate) done: Done,
    /// whether news reach the scheduler
    pub(crate) watching: bool,
    pub(crate) victims: Victims,
    pub(crate) answers: BTreeMap<String, Answer>,
    options: Options,
    arguments: Arguments,
    /// whether evicted pods come again
    recreate: bool,
    evicted: BTreeSet<Uid>,
    queues: BTreeMap<String, QueueSpec>,
    budgets: BTreeMap<String, Budget>,
    terminating: BTreeSet<String>,
    uids: u128,
    shortest_run_limit: Option<i64>,
}

/// The name that a scenario uses.
pub(crate) fn shown(pod: &PodRef) -> String {
    match &*pod.key.namespace {
        "default" => pod.key.name.to_string(),
        _ => pod.key.to_string(),
    }
}

fn reference(pod: &Pod) -> PodRef {
    PodRef { key: pod.key.clone(), uid: pod.uid }
}

fn scheduler(options: &Options, arguments: &Arguments) -> Scheduler {
    let (filters, scores) = (FILTERS.iter().copied(), SCORES.iter().copied());
    Scheduler::new(options.clone(), vec![profile("mss-scheduler", filters, scores, arguments)])
}

fn clock(text: &str) -> i64 {
    let time = text.parse::<jiff::Timestamp>().unwrap_or_else(|error| panic!("{text}: {error}"));
    time.as_millisecond()
}

fn refused() -> BindOutcome {
    BindOutcome::Refused("denied by a webhook".into())
}

impl World {
    pub(crate) fn new(scenario: &crate::format::Scenario) -> Self {
        let options = objects::options(&scenario.options);
        let arguments = objects::arguments(&scenario.options);
        let mut world = World {
            now: scenario.clock.as_deref().map_or(1_000_000_000, clock),
            scheduler: scheduler(&options, &arguments),
            pods: BTreeMap::new(),
            nodes: BTreeMap::new(),
            held: Vec::new(),
            done: Done::default(),
            watching: false,
            victims: Victims::default(),
            answers: BTreeMap::new(),
            options,
            arguments,
            recreate: scenario.recreate,
            evicted: BTreeSet::new(),
            queues: BTreeMap::new(),
            budgets: BTreeMap::new(),
            terminating: BTreeSet::new(),
            uids: 0,
            shortest_run_limit: None,
        };
        for queue in scenario.queues.iter().flat_map(objects::queues) {
            world.note_limits(&queue);
            world.queues.insert(queue.name.to_string(), queue);
        }
        for node in scenario.nodes.iter().flat_map(objects::nodes) {
            world.nodes.insert(node.name.to_string(), node);
        }
        scenario.pods.iter().for_each(|spec| world.create(spec));
        world.start(0);
        world.run();
        world
    }

    /// Does what a step says.
    pub(crate) fn step(&mut self, step: &Step) {
        if !step.only_expects() {
            self.done = Done::default();
        }
        for (name, answer) in &step.answers {
            let names = names([name]).into_iter().map(|name| (name, answer.clone()));
            self.answers.extend(names);
        }
        self.watching = step.watch.unwrap_or(self.watching);
        self.change_queues(step);
        self.change_budgets(step);
        self.change_nodes(step);
        for name in &step.terminate {
            self.terminating.insert(name.clone());
            let event = Event::NamespaceApplied { name: name.as_str().into(), terminating: true };
            self.news(event);
        }
        step.pods.iter().for_each(|spec| self.create(spec));
        self.change_pods(step);
        for name in names(&step.release) {
            self.release(&name);
        }
        if step.relist {
            self.relist();
        }
        if let Some(silent) = &step.leader {
            self.start(millis(silent));
        }
        self.run();
        if let Some(time) = &step.clock {
            self.hear(Event::ClockSet(WallTime(clock(time))));
            self.run();
        }
        if let Some(time) = &step.wait {
            self.wait(millis(time));
        }
    }

    fn change_queues(&mut self, step: &Step) {
        for queue in step.queues.iter().flat_map(objects::queues) {
            self.note_limits(&queue);
            self.queues.insert(queue.name.to_string(), queue.clone());
            self.news(Event::QueueApplied(Box::new(queue)));
        }
        for name in names(&step.queues_gone) {
            self.queues.remove(&name).unwrap_or_else(|| panic!("no queue {name}"));
            self.news(Event::QueueDeleted(name.into()));
        }
    }

    fn change_budgets(&mut self, step: &Step) {
        for budget in step.budgets.iter().map(objects::budget) {
            let key = format!("{}/{}", budget.namespace, budget.name);
            self.budgets.insert(key, budget.clone());
            self.news(Event::BudgetApplied(Box::new(budget)));
        }
        for key in names(&step.budgets_gone) {
            let budget = self.budgets.remove(&key).unwrap_or_else(|| panic!("no budget {key}"));
            let Budget { namespace, name, .. } = budget;
            self.news(Event::BudgetDeleted { namespace, name });
        }
    }

    fn change_nodes(&mut self, step: &Step) {
        if let Some(levels) = &step.levels {
            let levels = levels.iter().map(|level| level.as_str().into());
            self.news(Event::LevelsFound(levels.collect()));
        }
        for node in step.nodes.iter().flat_map(objects::nodes) {
            self.nodes.insert(node.name.to_string(), node.clone());
            self.news(Event::NodeApplied(Box::new(node)));
        }
        for (list, unschedulable) in [(&step.cordon, true), (&step.uncordon, false)] {
            for name in names(list) {
                let node = self.nodes.get_mut(&name).unwrap_or_else(|| panic!("no node {name}"));
                node.unschedulable = unschedulable;
                let node = Box::new(node.clone());
                self.news(Event::NodeApplied(node));
            }
        }
        for name in names(&step.nodes_gone) {
            self.nodes.remove(&name).unwrap_or_else(|| panic!("no node {name}"));
            self.news(Event::NodeDeleted(name.into()));
        }
    }

    fn change_pods(&mut self, step: &Step) {
        let now = WallTime(self.now);
        let ended = |phase| {
            move |pod: &mut Pod| {
                pod.phase = phase;
                pod.finished_at = Some(now);
            }
        };
        for (name, queue) in &step.rename_queue {
            for name in expand(name) {
                self.modify(&name, |pod| pod.queue = Some(queue.as_str().into()));
            }
        }
        names(&step.ungate).iter().for_each(|name| self.modify(name, |pod| pod.gated = false));
        names(&step.end).iter().for_each(|name| self.modify(name, ended(Phase::Succeeded)));
        names(&step.fail).iter().for_each(|name| self.modify(name, ended(Phase::Failed)));
        names(&step.start).iter().for_each(|name| self.modify(name, |pod| pod.started = true));
        for (name, reason) in &step.reject {
            for name in expand(name) {
                self.modify(&name, |pod| {
                    ended(Phase::Failed)(pod);
                    pod.failed_as = Some(reason.as_str().into());
                });
            }
        }
        names(&step.leave).iter().for_each(|name| self.modify(name, |pod| pod.deleting = true));
        for (name, node) in &step.bind_elsewhere {
            self.modify(name, |pod| pod.node = Some(node.as_str().into()));
        }
        names(&step.delete).iter().for_each(|name| self.remove(name));
    }

    /// Of all limits that a queue has or had.
    pub(crate) fn shortest_run_limit(&self) -> Option<i64> {
        self.shortest_run_limit
    }

    fn note_limits(&mut self, queue: &QueueSpec) {
        let said = queue.run_limit;
        let limits = [said.default_ms, said.maximum_ms, self.shortest_run_limit];
        self.shortest_run_limit = limits.into_iter().flatten().min();
    }

    fn create(&mut self, spec: &PodSpec) {
        let mut uids = self.uids;
        let pods = objects::pods(spec, self.now, || {
            uids += 1;
            Uid(uids)
        });
        self.uids = uids;
        for pod in pods {
            let name = shown(&reference(&pod));
            let truth = Truth { pod: pod.clone(), told: None };
            assert!(self.pods.insert(name, truth).is_none(), "{} exists", pod.key);
            self.news(Event::PodApplied(Box::new(pod)));
        }
    }

    pub(crate) fn pod(&mut self, name: &str) -> &mut Truth {
        self.pods.get_mut(name).unwrap_or_else(|| panic!("no pod {name}"))
    }

    pub(crate) fn modify(&mut self, name: &str, change: impl FnOnce(&mut Pod)) {
        let truth = self.pod(name);
        change(&mut truth.pod);
        let pod = Box::new(truth.pod.clone());
        self.news(Event::PodApplied(pod));
    }

    pub(crate) fn remove(&mut self, name: &str) {
        let truth = self.pods.remove(name).unwrap_or_else(|| panic!("no pod {name}"));
        self.news(Event::PodDeleted(truth.pod.uid));
        if self.evicted.remove(&truth.pod.uid) {
            self.come_again(name, truth.pod);
        }
    }

    /// Notes that a pod is on its way out because of an eviction.
    pub(crate) fn note_evicted(&mut self, uid: Uid) {
        if self.recreate {
            self.evicted.insert(uid);
        }
    }

    /// An evicted pod counts against the budgets that protect it, as the API server has it.
    pub(crate) fn take_from_budgets(&mut self, name: &str) {
        let pod = &self.pods[name].pod;
        let covers = |budget: &&mut Budget| {
            budget.namespace == pod.key.namespace && budget.protects(&pod.labels)
        };
        let taken = self.budgets.values_mut().filter(covers);
        let taken: Vec<Budget> = taken
            .map(|budget| {
                budget.allowed = budget.allowed.saturating_sub(1);
                budget.clone()
            })
            .collect();
        taken.into_iter().for_each(|budget| self.news(Event::BudgetApplied(Box::new(budget))));
    }

    fn come_again(&mut self, name: &str, old: Pod) {
        self.uids += 1;
        let pod = Pod {
            uid: Uid(self.uids),
            node: None,
            bound_at: None,
            started: false,
            deleting: false,
            noticed: false,
            told: 0,
            created: WallTime(self.now),
            ..old
        };
        self.pods.insert(name.to_owned(), Truth { pod: pod.clone(), told: None });
        self.news(Event::PodApplied(Box::new(pod)));
    }

    /// The watch shows something.
    fn news(&mut self, event: Event) {
        if self.watching {
            self.hear(event);
        }
    }

    pub(crate) fn hear(&mut self, event: Event) {
        self.scheduler.handle(Timestamp(self.now), event);
        self.scheduler.check_invariants();
    }

    fn relist(&mut self) {
        self.watching = true;
        for kind in [Kind::Node, Kind::Pod, Kind::Namespace, Kind::Queue, Kind::Budget] {
            let objects: Vec<Event> = match kind {
                Kind::Node => {
                    let nodes = self.nodes.values().cloned();
                    nodes.map(|node| Event::NodeApplied(Box::new(node))).collect()
                }
                Kind::Pod => {
                    let pods = self.pods.values().map(|truth| truth.pod.clone());
                    pods.map(|pod| Event::PodApplied(Box::new(pod))).collect()
                }
                Kind::Namespace => {
                    let names = self.terminating.iter().map(|name| name.as_str().into());
                    let event = |name| Event::NamespaceApplied { name, terminating: true };
                    names.map(event).collect()
                }
                Kind::Queue => {
                    let queues = self.queues.values().cloned();
                    queues.map(|queue| Event::QueueApplied(Box::new(queue))).collect()
                }
                Kind::Budget => {
                    let budgets = self.budgets.values().cloned();
                    budgets.map(|budget| Event::BudgetApplied(Box::new(budget))).collect()
                }
            };
            self.hear(Event::ListStarted(kind));
            objects.into_iter().for_each(|event| self.hear(event));
            self.hear(Event::ListEnded(kind));
        }
    }

    /// A new process takes over from one that was silent for so long; calls of the old one that
    /// have not been carried out never are.
    fn start(&mut self, silent: i64) {
        self.scheduler = scheduler(&self.options, &self.arguments);
        self.held.clear();
        self.victims.forget_calls();
        self.relist();
        let previous_renewal = WallTime(self.now - silent);
        self.hear(Event::Leading(Leadership { previous_renewal, wall: WallTime(self.now) }));
    }

    /// Decides until there is nothing to do at this time.
    fn run(&mut self) {
        for _ in 0..100 {
            let report = self.scheduler.cycle(Timestamp(self.now));
            self.scheduler.check_invariants();
            self.done.attempts += report.attempts.len();
            if report.calls.is_empty() && !self.scheduler.has_work() {
                return;
            }
            report.calls.into_iter().for_each(|call| self.carry_out(call));
            self.note_seated();
        }
        panic!("the scheduler does not come to rest");
    }

    fn wait(&mut self, time: i64) {
        let until = self.now + time;
        for _ in 0..10_000 {
            match self.scheduler.next_deadline() {
                Some(deadline) if deadline.0 <= until => self.now = deadline.0.max(self.now),
                _ => break,
            }
            self.run();
        }
        self.now = until;
        self.run();
    }

    fn carry_out(&mut self, call: ApiCall) {
        match call {
            ApiCall::Bind { call, members, .. } => {
                judge::bind(self, &members);
                self.done.binds.push(members.iter().map(|m| shown(&m.pod)).collect());
                let held = |member: BindMember| Held {
                    name: shown(&member.pod),
                    member,
                    call,
                    outcome: None,
                };
                // all are in flight before the first is answered
                let names: Vec<String> = members.iter().map(|m| shown(&m.pod)).collect();
                self.held.extend(members.into_iter().map(held));
                names.iter().for_each(|name| self.answer_bind(name));
            }
            ApiCall::Delete { call, pods, note } => {
                judge::delete(self, &pods);
                self.done.deletes.push(pods.iter().map(shown).collect());
                self.done.notes.push(note.to_string());
                pods.iter().for_each(|pod| self.answer_delete(call, pod));
            }
            ApiCall::End { call, pods, note } => {
                judge::end(self, &pods);
                self.done.deletes.push(pods.iter().map(shown).collect());
                self.done.notes.push(note.to_string());
                pods.iter().for_each(|pod| self.answer_delete(call, pod));
            }
            ApiCall::Tell { pods, telling, first } => {
                pods.iter().for_each(|pod| self.tell(pod, &telling, first));
            }
            ApiCall::Warn { pods, note, evict_in_ms } => self.warn(&pods, &note, evict_in_ms),
            ApiCall::Spare { pods, note } => self.spare(&pods, &note),
            ApiCall::Report { pods, note } => {
                let said = pods.iter().map(|pod| format!("{}: {note}", shown(pod)));
                self.done.reported.extend(said);
            }
            ApiCall::Evict { call, victims } => {
                let pods: Vec<PodRef> = victims.into_iter().map(|victim| victim.pod).collect();
                self.evict(call, &pods);
            }
            ApiCall::Withdraw { calls } => self.withdraw(&calls),
            ApiCall::NoteIgnored { pod, note } | ApiCall::TellHolder { pod, note } => {
                self.done.ignored.push(format!("{}: {note}", shown(&pod)));
            }
            ApiCall::TellNode { node, note, .. } => {
                self.done.node_events.push(format!("{node}: {note}"));
            }
            ApiCall::ShowQueue(_) => {}
        }
    }

    fn answer_bind(&mut self, name: &str) {
        let outcome = match self.answers.remove(name) {
            None => self.bind(name),
            Some(Answer::Held) => return,
            Some(Answer::Lost) => {
                let outcome = self.bind(name);
                let held = self.held.iter_mut().find(|held| held.name == name);
                held.expect("it was put there").outcome = Some(outcome);
                return;
            }
            Some(Answer::Refused) => refused(),
            Some(Answer::NotSent) => BindOutcome::NotSent,
            Some(Answer::Slow | Answer::Queued) => panic!("a bind is not slow: hold it"),
            Some(Answer::Protected) => panic!("no budget protects from binds"),
        };
        self.finish_bind(name, outcome);
    }

    fn release(&mut self, name: &str) {
        if self.release_eviction(name) {
            return;
        }
        let held = self.held.iter().find(|held| held.name == name);
        let held = held.unwrap_or_else(|| panic!("no answer for {name} is held"));
        let outcome = match (held.outcome.clone(), self.answers.remove(name)) {
            (Some(outcome), None) => outcome,
            (None, None) => self.bind(name),
            (None, Some(Answer::Refused)) => refused(),
            _ => panic!("{name}: what is released is answered by what is true, or refused"),
        };
        self.finish_bind(name, outcome);
    }

    fn finish_bind(&mut self, name: &str, outcome: BindOutcome) {
        let place = self.held.iter().position(|held| held.name == name).expect("it is in flight");
        let Held { call, member, .. } = self.held.remove(place);
        self.hear(Event::BindFinished { call, pod: member.pod.uid, outcome });
    }

    /// What the API server does with a bind.
    fn bind(&mut self, name: &str) -> BindOutcome {
        let held = self.held.iter().find(|held| held.name == name).expect("it is in flight");
        let (uid, node) = (held.member.pod.uid, held.member.node.clone());
        let devices = held.member.devices;
        let now = WallTime(self.now);
        match self.pods.get(name).map(|truth| &truth.pod) {
            Some(pod) if pod.uid == uid && !pod.deleting => match &pod.node {
                Some(other) if **other != *node => BindOutcome::BoundElsewhere(other.clone()),
                _ => {
                    self.modify(name, |pod| {
                        pod.node = Some((*node).into());
                        pod.devices = devices;
                        pod.bound_at = Some(now);
                    });
                    BindOutcome::Bound
                }
            },
            _ => BindOutcome::Gone,
        }
    }

    fn answer_delete(&mut self, call: CallId, pod: &PodRef) {
        let name = shown(pod);
        let answer = self.answers.remove(&name);
        let exists = self.pods.get(&name).is_some_and(|truth| truth.pod.uid == pod.uid);
        let outcome = match answer {
            Some(Answer::Refused | Answer::NotSent) => DeleteOutcome::Failed,
            _ => DeleteOutcome::Deleted,
        };
        if exists && outcome == DeleteOutcome::Deleted {
            self.modify(&name, |pod| pod.deleting = true);
        }
        self.hear(Event::DeleteFinished { call, pod: pod.uid, outcome });
        if exists && answer.is_none() {
            self.remove(&name);
        }
    }

    fn tell(&mut self, pod: &PodRef, telling: &Telling, first: bool) {
        self.done.tells += 1;
        let name = shown(pod);
        if self.pods.get(&name).is_none_or(|truth| truth.pod.uid != pod.uid) {
            return;
        }
        let truth = self.pod(&name);
        assert_eq!(truth.told.is_none(), first, "{name}: whether it was told something before");
        truth.told = Some(format!("{}: {}", telling.reason.as_str(), telling.message));
        self.modify(&name, |pod| pod.told = digest(&telling.message));
    }
}
