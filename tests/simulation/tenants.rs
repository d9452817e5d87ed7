//! Tenants of a world: queues that are edited, gangs that are evicted.

use crate::history::Fault;
use crate::judge::{Plan, judge};
use crate::scene::{Amounts, Role, Scene, gang, user};
use crate::world::{GPU, GangKey, Truth, World, gang_of};
use mss_scheduler::model::queue::{Ageing, Ordering};
use mss_scheduler::model::windows::{Week, zone};
use mss_scheduler::model::{Caps, EvictionBudget, Pod, QueueSpec, Uid, Windows};
use mss_scheduler::scheduler::{BindMember, Event, PodRef};
use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;

/// A window of every day around a minute, or just before or after it.
fn window(minute: i64, amount: i64) -> Week {
    let clock = |minute: i64| format!("{}:{}", minute.rem_euclid(1440) / 60, minute.rem_euclid(60));
    let begin = minute + amount / 4 - 2;
    let text = format!("{}-{}", clock(begin), clock(begin + 1 + amount / 2));
    Week::parse(&[text.as_str()]).expect("a window")
}

const NAMESPACES: [&str; 4] = ["a", "b", "c", "d"];

/// For whom room is made: namespace, and name of the gang or the pod.
fn claimant(note: &str) -> GangKey {
    let named = note.strip_prefix("evicted to make room for ").expect("a note says for whom");
    let (who, _) = named.split_once(" of queue ").expect("a note names the queue");
    let (_, who) = who.split_once(' ').expect("a gang, or a pod");
    let (namespace, name) = who.split_once('/').expect("namespace and name");
    (namespace.into(), name.into())
}

/// The declared queue of a namespace.
pub(crate) fn queue_of(namespace: &str) -> &'static str {
    match namespace {
        "a" => "vision",
        "b" => "training",
        "c" => "serving",
        _ => "default",
    }
}

impl World {
    pub(crate) fn finish_some_deletions(&mut self) {
        let leaving = self.pods.values().filter(|truth| truth.pod.deleting);
        let leaving: Vec<Uid> = leaving.map(|truth| truth.pod.uid).collect();
        leaving.into_iter().step_by(2).for_each(|uid| self.remove(uid));
    }

    /// Who submits: with queues one of four namespaces, and sometimes a higher priority.
    pub(crate) fn tenant(&mut self) -> (Box<str>, i32) {
        let priority = if self.random.below(4) == 0 { 10 } else { 0 };
        let at = usize::try_from(self.random.below(4)).expect("small");
        let namespace = if self.queues.is_empty() { "ns" } else { NAMESPACES[at] };
        (namespace.into(), if self.queues.is_empty() { 0 } else { priority })
    }

    /// Two teams, one of them with two projects; the fourth namespace is in the default queue.
    pub(crate) fn declare_queues(&mut self) {
        let queue = |name: &str, parent: Option<&str>, weight, namespaces: &[&str]| QueueSpec {
            name: name.into(),
            parent: parent.map(Into::into),
            weight,
            namespaces: namespaces.iter().map(|name| (*name).into()).collect(),
            ..QueueSpec::default()
        };
        let queues = [
            queue("vision", None, 1, &["a"]),
            queue("language", None, 2, &[]),
            queue("training", Some("language"), 3, &["b"]),
            queue("serving", Some("language"), 1, &["c"]),
        ];
        let guaranteed = self.random.below(2) == 0;
        let queues = queues.map(|spec| match (&*spec.name, guaranteed) {
            ("serving", _) | (_, false) => spec,
            _ => QueueSpec { quota: vec![("cpu".into(), 16_000), (GPU.into(), 16)], ..spec },
        });
        self.queues = queues.into_iter().map(|spec| (spec.name.clone(), spec)).collect();
        self.limit_types();
        for _ in 0..3 {
            self.edit_queue();
        }
    }

    /// Weights, guarantees, limits and protections change; some edits are refused.
    pub(crate) fn edit_queue(&mut self) {
        if self.queues.is_empty() || self.is_off(Fault::QueueEdits) {
            return;
        }
        self.tally.queue_edits += 1;
        let at = usize::try_from(self.random.below(4)).expect("small");
        let (what, amount) = (self.random.below(15), self.random.below(16));
        let window = window(self.now / 60_000, i64::try_from(amount).expect("small"));
        let (amount, few) = (i64::try_from(amount).expect("small"), u32::try_from(amount / 4 + 1));
        let few = few.expect("small");
        let run_limit = self.draw_run_limit();
        let typed = self.draw_typed_edit();
        let spec = self.queues.values_mut().nth(at).expect("there are four");
        spec.run_limit = run_limit.unwrap_or(spec.run_limit);
        match what {
            0 => spec.weight = 1 + u32::try_from(amount).expect("small"),
            1 => spec.quota = vec![("cpu".into(), amount * 2_000), (GPU.into(), amount)],
            2 => spec.quota = Vec::new(),
            3 => spec.limit = vec![(GPU.into(), amount.max(8))],
            4 => spec.limit = Vec::new(),
            5 => spec.user_limit = vec![(GPU.into(), amount.max(4))],
            6 | 13 => {
                spec.preemption.budget = Some(EvictionBudget { pods: few, window_ms: 120_000 })
            }
            7 => {
                spec.caps = Caps {
                    running_gangs: Some(few * 2),
                    running_gangs_per_user: Some(few),
                    pending_gangs: Some(few),
                    gang_gpus: Some(few * 4),
                };
            }
            8 => {
                (spec.caps, spec.preemption.budget) = (Caps::default(), None);
                spec.user_limit = Vec::new();
            }
            9 => spec.preemption.grace_ms = amount * 500,
            10 => {
                let word = Ordering::WORDS[usize::try_from(amount % 5).expect("small")];
                spec.order = Ordering::parse(word).expect("a word for an order");
            }
            11 => {
                let ageing = Ageing { points: few, every_ms: 60_000 };
                spec.ageing = (amount > 4).then_some(ageing);
            }
            12 => {
                let zone = zone("UTC").expect("the zone of all");
                let windows = match amount % 3 {
                    0 => Some(Windows::new(zone, Some(window), None)),
                    1 => Some(Windows::new(zone, None, Some(window))),
                    _ => None,
                };
                spec.windows = windows.map(Box::new);
            }
            _ => spec.preemption.min_runtime_ms = amount * 1_000,
        }
        typed.iter().for_each(|edit| edit.make(spec));
        let spec = spec.clone();
        self.send(Event::QueueApplied(Box::new(spec)));
    }

    /// Counts whose members go: gangs that keep their minimum shrink, the others end.
    pub(crate) fn note_victims(&mut self, pods: &[PodRef]) {
        self.tally.warned += pods.len() as u64;
        let firm = pods.iter().filter(|pod| self.pods.get(&pod.uid).is_some_and(Truth::is_firm));
        self.tally.firm_evicted += firm.count() as u64;
        let mut gangs: BTreeMap<GangKey, u32> = BTreeMap::new();
        for pod in pods.iter().filter_map(|pod| Some(&self.pods.get(&pod.uid)?.pod)) {
            if let Some(Ok(group)) = &pod.group {
                let key = (pod.key.namespace.clone(), group.name.clone());
                *gangs.entry(key).or_default() += 1;
            }
        }
        for (name, taken) in gangs {
            let left = self.bound(&name).saturating_sub(taken);
            if let Some(gang) = self.gangs.get_mut(&name) {
                gang.lost = if left > 0 { gang.lost + taken } else { 0 };
            }
            self.tally.shrunk += u64::from(left > 0);
            self.tally.ended_whole += u64::from(left == 0);
        }
    }

    /// Judges the plans of a cycle, in the order in which they were made.
    pub(crate) fn judge(&mut self, notices: Vec<(Arc<str>, Vec<PodRef>)>, bound: &[Uid]) {
        let now = self.seated_now();
        let before = std::mem::replace(&mut self.seated, now);
        self.note_runs(bound, &before);
        self.check_patience(&before);
        let kept = self.kept();
        let plans = self.scheduler.tallies().plans;
        let made = plans - std::mem::replace(&mut self.shadow.made, plans);
        let begun: BTreeSet<GangKey> = notices.iter().map(|(note, _)| claimant(note)).collect();
        // one that needs only the room of pods that leave anyway is made without notice, and it is
        // not known which was made first
        let silent = made != begun.len() as u64;
        if !notices.is_empty() || self.random.below(4) == 0 {
            self.check_shares();
        }
        if notices.is_empty() {
            return;
        }
        let mut scene = self.scene(&begun);
        scene.kept = kept;
        let vague = self.is_vague() || silent;
        for (note, victims) in notices {
            let claimant = claimant(&note);
            let members: Vec<Uid> = scene.members(&claimant).map(|(uid, _)| *uid).collect();
            let waits = |uid: &Uid| scene.pods[uid].role == Role::Waiting;
            let seats = members.into_iter().filter(waits);
            let seats = seats.filter_map(|uid| Some((uid, self.scheduler.node_of(uid)?.into())));
            let plan = Plan {
                claimant: claimant.clone(),
                victims: victims.iter().map(|pod| pod.uid).collect(),
                seats: seats.collect(),
            };
            self.note_plan(&claimant.0, &victims);
            let pods = i64::try_from(victims.len()).expect("small");
            let budget = self.options.eviction_budget;
            let admitted = budget.is_none_or(|budget| self.shadow.charge(self.now, budget, pods));
            assert!(admitted, "E7: the budget of the cluster has not room for {pods} evictions");
            if vague {
                self.tally.unjudged += 1;
            } else {
                self.tally.judged += 1;
                self.note_users(&plan);
                self.note_parts(&scene, &plan);
                self.note_types(&scene, &plan);
                self.note_budgets(&plan);
                self.shadow.check_budgets(&scene, &plan);
                if let Err(why) = judge(&scene, &plan) {
                    panic!("{why}; plan {plan:?}");
                }
                self.keep.iter_mut().for_each(|keep| keep.push((scene.clone(), plan.clone())));
            }
            for (uid, node) in &plan.seats {
                let known = scene.pods.get_mut(uid).expect("it is a member");
                (known.role, known.node) = (Role::Placed, Some(node.clone()));
            }
            for uid in &plan.victims {
                scene.pods.get_mut(uid).expect("it was judged").role = Role::Going;
                let loser = gang(&scene.pods[uid].pod);
                scene.pairs.insert((loser, claimant.clone()));
            }
            scene.awaited.extend(&plan.victims);
            let victims: Vec<Uid> = plan.victims.into_iter().collect();
            self.note_deadline(&scene, &claimant, &victims);
            self.shadow.planned(self.now, &claimant, &victims);
        }
    }

    /// Counts the plans of stamped users, and those that take from another user of the queue.
    fn note_users(&mut self, plan: &Plan) {
        if !self.features.users {
            return;
        }
        self.tally.judged_users += 1;
        let truth = |uid: &Uid| self.pods.get(uid).map(|truth| &truth.pod);
        let leaf = |pod: &Pod| (queue_of(&pod.key.namespace), user(pod).to_owned());
        let taker = plan.seats.keys().find_map(truth).map(leaf);
        let losers = plan.victims.iter().filter_map(truth).map(leaf);
        let among = |loser: (&str, String)| {
            taker.as_ref().is_some_and(|taker| taker.0 == loser.0 && taker.1 != loser.1)
        };
        self.tally.among_users += u64::from(losers.into_iter().any(among));
    }

    /// Counts the plans of gangs that have parts, or take of such.
    fn note_parts(&mut self, scene: &Scene, plan: &Plan) {
        let parted = |uid: &Uid| {
            let task = scene.pods.get(uid).and_then(|known| known.pod.task.as_ref());
            task.is_some_and(|task| task.min > 0)
        };
        let takes = plan.victims.iter().any(parted);
        self.tally.judged_parts += u64::from(takes || plan.seats.keys().any(parted));
        self.tally.parts_taken += u64::from(takes);
        let own = |uid: &Uid| gang(&scene.pods[uid].pod) == plan.claimant;
        self.tally.own_taken += u64::from(plan.victims.iter().any(own));
    }

    /// Counts the plans in which a type of GPU counts that a queue names.
    fn note_types(&mut self, scene: &Scene, plan: &Plan) {
        let typed = |amounts: Amounts| amounts[2..].iter().any(|amount| *amount > 0);
        let seated = typed(scene.taken(&plan.seats));
        let victims = plan.victims.iter().map(|uid| &scene.pods[uid]);
        let takes = victims.filter(|known| typed(scene.charged(known))).count() > 0;
        self.tally.judged_types += u64::from(seated || takes);
        self.tally.types_taken += u64::from(seated && takes);
        let asks = plan.seats.keys().any(|uid| typed(scene.asked(&scene.pods[uid].pod)));
        let emptied = plan.victims.iter().filter_map(|uid| scene.pods[uid].node.as_deref());
        let emptied: BTreeSet<&str> = emptied.collect();
        let is_free = plan.seats.values().all(|node| !emptied.contains(&**node));
        let opened = seated && !asks && is_free;
        self.tally.types_opened += u64::from(opened);
    }

    /// What a plan does to the queues: room across queues is reclaimed, within one preempted.
    fn note_plan(&mut self, namespace: &str, victims: &[PodRef]) {
        let across = |pod: &PodRef| queue_of(&pod.key.namespace) != queue_of(namespace);
        let own = victims.iter().any(|pod| !across(pod));
        let others = victims.iter().any(across);
        self.tally.preempts += u64::from(own && !self.queues.is_empty());
        self.tally.reclaims += u64::from(others);
        self.warned.extend(victims.iter().map(|pod| pod.uid));
    }

    /// Members that join a gang that had its minimum and lost some to others.
    pub(crate) fn note_growth(&mut self, members: &[BindMember]) {
        let first = members.first().and_then(|member| self.pods.get(&member.pod.uid));
        let Some(name) = first.and_then(|truth| gang_of(&truth.pod)) else { return };
        let bound = self.bound(&name);
        let Some(gang) = self.gangs.get_mut(&name).filter(|gang| bound >= gang.min) else { return };
        let back = gang.lost.min(u32::try_from(members.len()).expect("small"));
        gang.lost -= back;
        self.tally.regrown += u64::from(back > 0);
    }

    /// Adds up what a process counted, as it ends.
    pub(crate) fn collect(&mut self) {
        let tallies = self.scheduler.tallies();
        self.tally.plans += tallies.plans;
        self.tally.seated += tallies.seated;
        self.tally.budget_stops += tallies.budget_stops;
        self.tally.drains += tallies.drains;
        self.tally.drains_seated += tallies.drains_seated;
        self.tally.drains_expired += tallies.drains_expired;
        self.tally.given_up += tallies.plans_given_up.values().sum::<u64>();
    }

    /// Whether a limit stands above a namespace: then room may rightly stay free.
    pub(crate) fn is_limited(&self, namespace: &str) -> bool {
        let limits = |queue: &QueueSpec| {
            let amounts = !queue.limit.is_empty() || !queue.user_limit.is_empty();
            let shut = queue.windows.is_some() || queue.run_limit.maximum_ms.is_some();
            amounts || queue.caps != Caps::default() || shut
        };
        let limited = |name: &str| self.queues.get(name).is_some_and(limits);
        match namespace {
            "a" => limited("vision"),
            "b" => limited("training") || limited("language"),
            "c" => limited("serving") || limited("language"),
            _ => false,
        }
    }
}
