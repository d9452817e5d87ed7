//! The shell of a run: a virtual clock, fake kubelets and job controllers around the core.
//!
//! As in the live shell, events are taken in first and then the core decides, as often as it has
//! work. A call is answered after a while; the watch shows its effect later still.

mod failures;
mod start;

pub use failures::Failures;

use super::dice::mixed;
use super::fragments::{Typical, Yardstick};
use super::gpus::WHOLE;
use super::inputs::{Inputs, Timing};
use super::outcome::{NodeMap, Outcome, Totals};
use super::policy::{Policy, Setting};
use super::samples::{Sample, Samples, Share};
use super::world::{Moment, Seat, Stage, Tally, World, pod_of, uid};
use crate::cluster::is_gpu;
use crate::config::core;
use crate::model::gpu_part::GPU_MILLI;
use crate::model::{DeviceSet, Node, Timestamp};
use crate::scheduler::{
    ApiCall, BindOutcome, CallId, DeleteOutcome, Event, EvictOutcome, Evictions, Options, Scheduler,
};
use std::cmp::Reverse;
use std::collections::{BTreeMap, BinaryHeap};

/// With nothing under way but the scheduler's own timers, a run ends after this long.
const QUIET_MS: i64 = 3_600_000;
/// A run that has not ended by then is cut off.
const RUN_MAX_MS: i64 = 100 * 366 * 86_400_000;
/// Cycles without time passing: more means that the core does not come to rest.
const CYCLES_MAX: u32 = 1_000_000;

/// What happens at some time.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
enum Happening {
    Arrives {
        gang: u32,
    },
    Binds {
        call: CallId,
        pod: u32,
        node: u32,
        devices: DeviceSet,
    },
    Evicts {
        call: CallId,
        pod: u32,
    },
    Deletes {
        call: CallId,
        pod: u32,
    },
    /// the watch shows what has become of a pod
    News {
        pod: u32,
    },
    Runs {
        pod: u32,
    },
    /// an evicted pod has stopped
    Stops {
        pod: u32,
    },
    Ends {
        gang: u32,
        forecast: u32,
    },
    CleansUp {
        pod: u32,
    },
    Recreates {
        gang: u32,
        member: u32,
    },
    /// a node is lost, for the so-manieth time
    Fails {
        node: u32,
        count: u32,
    },
    /// a lost node is back
    Returns {
        node: u32,
        count: u32,
    },
}

impl Happening {
    /// Something that goes on for ever by itself, and so keeps no run alive.
    fn is_endless(self) -> bool {
        matches!(self, Self::Fails { .. } | Self::Returns { .. })
    }
}

/// How to run.
#[derive(Clone, Copy, Debug, Default)]
pub struct RunOptions {
    /// Varies how long things take.
    pub seed: u64,
    /// Checks the scheduler's invariants after each cycle, which takes long.
    pub check: bool,
}

/// Runs the workload under a policy until everything has ended, or nothing can happen any more.
/// `tell` hears from time to time how many gangs have ended.
#[must_use]
pub fn run(inputs: &Inputs, policy: &Policy, options: RunOptions, tell: impl Fn(u64)) -> Outcome {
    watch(inputs, policy, options, |moment| tell(moment.ended))
}

/// As [`run`]; `see` is shown the world whenever something has happened and was decided upon.
#[must_use]
pub fn watch(
    inputs: &Inputs,
    policy: &Policy,
    options: RunOptions,
    see: impl FnMut(&Moment<'_>),
) -> Outcome {
    let setting = (policy.setting)(inputs);
    let configured = core::options(&inputs.configuration);
    let may_evict = setting.evictions == Evictions::Allowed;
    let core_options = Options {
        evictions: if may_evict { configured.evictions } else { setting.evictions },
        drains: configured.drains.filter(|_| setting.queued),
        // neither is simulated
        budgets_watched: false,
        queue_status_interval_ms: None,
        ..configured
    };
    let mut engine = Engine {
        world: World::new(inputs, &setting),
        scheduler: Scheduler::new(core_options, core::profiles(&inputs.configuration)),
        nodes: setting.nodes.clone(),
        typical: Typical::of(inputs),
        yardstick: None,
        maps: Vec::new(),
        timing: inputs.cluster.timing,
        options,
        has_shares: setting.queued,
        now: 0,
        heap: BinaryHeap::new(),
        under_way: 0,
        serial: 0,
        samples: Samples::default(),
        totals: Totals { last_arrival_ms: inputs.last_arrival_ms(), ..Totals::default() },
    };
    engine.start(&setting);
    engine.run(see);
    engine.finish(policy)
}

struct Engine<'a> {
    world: World<'a>,
    scheduler: Scheduler,
    /// as the scheduler hears of them
    nodes: Vec<Node>,
    typical: Typical,
    yardstick: Option<Yardstick>,
    maps: Vec<NodeMap>,
    timing: Timing,
    options: RunOptions,
    /// queues deserve something under this policy
    has_shares: bool,
    now: i64,
    heap: BinaryHeap<Reverse<(i64, u64, Happening)>>,
    /// happenings in the heap that are not endless
    under_way: usize,
    serial: u64,
    samples: Samples,
    totals: Totals,
}

impl Engine<'_> {
    fn hear(&mut self, event: Event) {
        self.scheduler.handle(Timestamp(self.now), event);
    }

    fn at(&mut self, time: i64, happening: Happening) {
        self.serial += 1;
        self.under_way += usize::from(!happening.is_endless());
        self.heap.push(Reverse((time, self.serial, happening)));
    }

    fn after(&mut self, millis: i64, happening: Happening) {
        self.at(self.now.saturating_add(millis), happening);
    }

    /// A time around `millis`, the same for the same pod and purpose under every policy.
    fn about(&self, millis: i64, pod: u32, purpose: u64) -> i64 {
        let truth = self.world.pod(pod);
        let who = (u64::from(truth.gang) << 24) ^ u64::from(truth.member) ^ (purpose << 60);
        let drawn = mixed(self.options.seed ^ mixed(who));
        let width = u64::try_from(millis / 2 + 1).expect("times are positive");
        millis - millis / 4 + i64::try_from(drawn % width).expect("below the width")
    }

    fn run(&mut self, mut see: impl FnMut(&Moment<'_>)) {
        let mut last = 0;
        if self.world.has_pods() {
            // what waits from the start has nothing else to wait for
            self.decide();
        }
        loop {
            let next = self.heap.peek().map(|Reverse((at, ..))| *at);
            let timer = self.scheduler.next_deadline().map(|at| at.0.max(self.now + 1));
            let soonest = next.into_iter().chain(timer).min();
            let all_ended = self.totals.ended == self.world.gangs.len() as u64;
            let idle = self.under_way == 0 && (all_ended || self.nothing_comes(next, timer, last));
            let Some(at) = soonest.filter(|_| !idle) else { break };
            if at > RUN_MAX_MS {
                break;
            }
            self.pass_time(at);
            while let Some(Reverse((at, ..))) = self.heap.peek()
                && *at <= self.now
            {
                let Reverse((_, _, happening)) = self.heap.pop().expect("it was just seen");
                if !happening.is_endless() {
                    self.under_way -= 1;
                    last = self.now;
                }
                self.happen(happening);
            }
            self.decide();
            let (now_ms, ended) = (self.now, self.totals.ended);
            see(&Moment { now_ms, ended, world: &self.world });
        }
    }

    /// With nothing under way but timers and what goes on for ever, nothing happens any more.
    fn nothing_comes(&self, next: Option<i64>, timer: Option<i64>, last: i64) -> bool {
        let patience = match self.world.inputs.cluster.failures {
            // a gang may wait for nodes that are lost
            Some(failures) => QUIET_MS.saturating_add(failures.repair_ms.saturating_mul(100)),
            None => QUIET_MS,
        };
        next.into_iter().chain(timer).min().is_none_or(|at| at > last + patience)
    }

    fn pass_time(&mut self, to: i64) {
        while self.samples.next_at() < to {
            let row = self.sample();
            self.samples.add(row);
        }
        let chosen = &self.world.inputs.map_at_ms;
        while let Some(at) = chosen.get(self.maps.len()).filter(|at| **at < to) {
            self.maps.push(NodeMap { at_ms: *at, nodes: self.world.map() });
        }
        let passed = i128::from(to - self.now);
        let held = i128::from(self.world.held_milli);
        self.totals.held_milli_ms += held * passed;
        self.totals.worked_milli_ms += i128::from(self.world.at_work_milli) * passed;
        let arrived = self.totals.last_arrival_ms.clamp(self.now, to) - self.now;
        self.totals.held_while_arriving_milli_ms += held * i128::from(arrived);
        self.now = to;
    }

    fn sample(&mut self) -> Sample {
        let resources = self.scheduler.cluster().resources();
        let inputs = self.world.inputs;
        let yardstick = self.yardstick.get_or_insert_with(|| Yardstick::new(inputs, resources));
        Sample {
            unfairness: yardstick.unfairness(&self.world.tallies),
            shares: self.shares(),
            at_work_milli: self.world.at_work_milli,
            waiting: self.world.tallies.iter().map(|tally| tally.waiting).sum(),
            fragments: self.world.fragments(&self.typical),
        }
    }

    fn shares(&mut self) -> Vec<Share> {
        let mut deserved: BTreeMap<String, i128> = BTreeMap::new();
        let known = if self.has_shares { self.scheduler.shares() } else { Vec::new() };
        for share in known {
            // thousandths of devices, or of thousandths of them
            let milli = match &*share.resource {
                name if is_gpu(name) => share.deserved_milli,
                GPU_MILLI => share.deserved_milli / i128::from(WHOLE),
                _ => continue,
            };
            *deserved.entry(share.queue).or_default() += milli;
        }
        let names = self.world.inputs.tenants.iter().map(|name| &**name).zip(&self.world.tallies);
        let share = |(name, tally): (&str, &Tally)| Share {
            allocated_milli: tally.held.milli(),
            pending_milli: tally.pending.milli(),
            deserved_milli: deserved
                .get(name)
                .map(|milli| i64::try_from(*milli).unwrap_or(i64::MAX)),
        };
        names.map(share).collect()
    }

    fn decide(&mut self) {
        let now = Timestamp(self.now);
        if !self.scheduler.has_work() && self.scheduler.next_deadline().is_none_or(|at| at > now) {
            return;
        }
        for _ in 0..CYCLES_MAX {
            let report = self.scheduler.cycle(now);
            self.totals.cycles += 1;
            self.totals.attempts += report.attempts.len() as u64;
            if self.options.check {
                self.scheduler.check_invariants();
            }
            report.calls.into_iter().for_each(|call| self.carry_out(call));
            if !self.scheduler.has_work() {
                return;
            }
        }
        panic!("the scheduler does not come to rest at {} ms", self.now);
    }

    /// What is asked for happens after a while; notices and conditions change nothing here.
    fn carry_out(&mut self, call: ApiCall) {
        let api = self.timing.api_ms;
        match call {
            ApiCall::Bind { call, members, .. } => {
                for member in members {
                    let (pod, node) = (pod_of(member.pod.uid), self.world.node(&member.node));
                    let (time, devices) = (self.about(api, pod, 1), member.devices);
                    self.after(time, Happening::Binds { call, pod, node, devices });
                }
            }
            ApiCall::Evict { call, victims } => {
                for pod in victims.iter().map(|victim| pod_of(victim.pod.uid)) {
                    let time = self.about(api, pod, 2);
                    self.after(time, Happening::Evicts { call, pod });
                }
            }
            ApiCall::Delete { call, pods, .. } | ApiCall::End { call, pods, .. } => {
                self.totals.rollbacks += 1;
                for pod in pods.iter().map(|pod| pod_of(pod.uid)) {
                    let time = self.about(api, pod, 3);
                    self.after(time, Happening::Deletes { call, pod });
                }
            }
            // all left at once
            ApiCall::Withdraw { .. }
            | ApiCall::Warn { .. }
            | ApiCall::Spare { .. }
            | ApiCall::Report { .. }
            | ApiCall::Tell { .. }
            | ApiCall::NoteIgnored { .. }
            | ApiCall::TellHolder { .. }
            | ApiCall::TellNode { .. }
            | ApiCall::ShowQueue(_) => {}
        }
    }

    fn happen(&mut self, happening: Happening) {
        match happening {
            Happening::Arrives { gang } => {
                (0..self.world.spec(gang).members).for_each(|member| self.create(gang, member));
            }
            Happening::Recreates { gang, member } => {
                if self.world.gang(gang).ended_ms.is_none() {
                    self.create(gang, member);
                }
            }
            Happening::Binds { call, pod, node, devices } => self.bind(call, pod, (node, devices)),
            Happening::Evicts { call, pod } => {
                if self.stop(pod) {
                    let gang = self.world.pod(pod).gang;
                    self.world.gang(gang).evicted_pods += 1;
                    self.totals.evicted_pods += 1;
                }
                let (pod, outcome) = (uid(pod), EvictOutcome::Evicted);
                self.hear(Event::EvictFinished { call, pod, outcome });
            }
            Happening::Deletes { call, pod } => {
                self.stop(pod);
                let (pod, outcome) = (uid(pod), DeleteOutcome::Deleted);
                self.hear(Event::DeleteFinished { call, pod, outcome });
            }
            Happening::News { pod } => self.show(pod),
            Happening::Runs { pod } => self.begin(pod),
            Happening::Stops { pod } => self.stopped(pod),
            Happening::Ends { gang, forecast } => {
                if self.world.gang(gang).forecast == forecast {
                    self.end(gang);
                }
            }
            Happening::CleansUp { pod } => {
                if self.world.pod(pod).stage == Stage::Succeeded {
                    self.world.advance(self.now, pod, Stage::Gone, None);
                    self.news(pod);
                }
            }
            Happening::Fails { node, count } => self.fail(node, count),
            Happening::Returns { node, count } => self.bring_back(node, count),
        }
    }

    fn news(&mut self, pod: u32) {
        self.after(self.timing.watch_ms, Happening::News { pod });
    }

    /// The scheduler hears what is true now.
    fn show(&mut self, pod: u32) {
        let event = match self.world.pod(pod).stage {
            Stage::Gone => Event::PodDeleted(uid(pod)),
            _ => Event::PodApplied(Box::new(self.world.object(pod))),
        };
        self.hear(event);
    }

    fn create(&mut self, gang: u32, member: u32) {
        let pod = self.world.create(self.now, gang, member);
        self.news(pod);
    }

    fn bind(&mut self, call: CallId, pod: u32, (node, devices): Seat) {
        let waits = self.world.pod(pod).stage == Stage::Waiting;
        if waits && self.world.is_lost(node) {
            self.lose(pod);
            return self.hear(Event::BindFinished {
                call,
                pod: uid(pod),
                outcome: BindOutcome::Gone,
            });
        }
        let outcome = if waits { BindOutcome::Bound } else { BindOutcome::Gone };
        if waits {
            self.totals.binds += 1;
            self.world.check_given(pod, devices);
            self.world.advance(self.now, pod, Stage::Bound, Some((node, devices)));
            self.news(pod);
            let time = self.about(self.timing.start_ms, pod, 4);
            self.after(time, Happening::Runs { pod });
        }
        self.hear(Event::BindFinished { call, pod: uid(pod), outcome });
    }

    fn begin(&mut self, pod: u32) {
        if self.world.pod(pod).stage != Stage::Bound {
            return;
        }
        self.world.advance(self.now, pod, Stage::Running, None);
        self.news(pod);
        let (now, gang) = (self.now, self.world.pod(pod).gang);
        self.world.change(now, gang, 1);
        let entry = self.world.gang(gang);
        if entry.progress.runs() {
            entry.started_ms.get_or_insert(now);
        }
        self.foresee(gang);
    }

    /// Foresees the end of a gang anew; what was foreseen before is void.
    fn foresee(&mut self, gang: u32) {
        let entry = self.world.gang(gang);
        entry.forecast += 1;
        let forecast = entry.forecast;
        if let Some(at) = entry.progress.ends_at() {
            self.at(at, Happening::Ends { gang, forecast });
        }
    }

    /// A pod gets its deletion timestamp and begins to stop. Whether there was anything to stop.
    fn stop(&mut self, pod: u32) -> bool {
        let stage = self.world.pod(pod).stage;
        if !matches!(stage, Stage::Bound | Stage::Running) {
            return false;
        }
        self.world.advance(self.now, pod, Stage::Stopping, None);
        self.news(pod);
        let time = self.about(self.timing.stop_ms, pod, 5);
        self.after(time, Happening::Stops { pod });
        if stage == Stage::Running {
            self.runs_no_more(pod);
        }
        true
    }

    /// A member that ran does so no more; its gang may fall below its minimum by that.
    fn runs_no_more(&mut self, pod: u32) {
        let (now, gang) = (self.now, self.world.pod(pod).gang);
        let spec = self.world.spec(gang);
        let ran = self.world.gang(gang).progress.runs();
        let lost = self.world.change(now, gang, -1);
        let entry = self.world.gang(gang);
        if ran && !entry.progress.runs() {
            entry.restarts += 1;
            entry.lost_milli_ms += i128::from(spec.gpus().milli()) * i128::from(lost);
        }
        self.foresee(gang);
    }

    fn stopped(&mut self, pod: u32) {
        if self.world.pod(pod).stage == Stage::Stopping {
            self.lose(pod);
        }
    }

    /// A pod is gone, and its controller makes another.
    fn lose(&mut self, pod: u32) {
        self.world.advance(self.now, pod, Stage::Gone, None);
        self.news(pod);
        let (gang, member) = (self.world.pod(pod).gang, self.world.pod(pod).member);
        let time = self.about(self.timing.recreate_ms, pod, 6);
        self.after(time, Happening::Recreates { gang, member });
    }

    /// All that runs succeeds; what does not run yet is not needed any more.
    fn end(&mut self, gang: u32) {
        self.totals.ended += 1;
        self.totals.end_ms = self.now;
        let now = self.now;
        self.world.rest(gang);
        self.world.gang(gang).ended_ms = Some(now);
        let pods = self.world.gang(gang).pods.clone();
        for pod in &pods {
            if matches!(self.world.pod(*pod).stage, Stage::Waiting | Stage::Bound) {
                self.world.advance(now, *pod, Stage::Gone, None);
                self.news(*pod);
            }
        }
        for pod in pods {
            if self.world.pod(pod).stage == Stage::Running {
                self.world.advance(now, pod, Stage::Succeeded, None);
                self.news(pod);
                let time = self.about(self.timing.cleanup_ms, pod, 7);
                self.after(time, Happening::CleansUp { pod });
            }
        }
    }

    fn finish(self, policy: &Policy) -> Outcome {
        let tallies = self.scheduler.tallies();
        let totals = Totals {
            plans: tallies.plans,
            seated: tallies.seated,
            given_up: tallies.plans_given_up,
            ..self.totals
        };
        Outcome::new(policy, &self.world, (self.samples, self.maps), totals)
    }
}
