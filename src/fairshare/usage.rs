//! Decayed usage: weighted resource-seconds, where what is long past counts little.
//!
//! A queue's usage is the integral of its allocation times the factors, decayed by half every half
//! life. Between two charges the allocation is constant and the integral has a closed form, so
//! nothing runs periodically: time passes by remembering the time. The factors are MSS's
//! `cpu_factor`, `mem_factor` and `gpu_factor`; its window of two hours is the default half life.
//! History orders claims of equal share; it never enters shares.

use super::lsf::HOUR;
use super::tree::QueueIndex;
use crate::cluster::{ResourceId, is_gpu};
use crate::model::Timestamp;
use crate::model::gpu_part::{DEVICE, GPU_MILLI};
use crate::model::narrowed::base;
use rustc_hash::FxHashMap;
use std::f64::consts::{LN_2, LN_10};

/// Usage below this is forgotten where nothing is charged: weighted resource-seconds.
pub(super) const NEGLIGIBLE: f64 = 1.0;

/// Queues and users whose usage is remembered while they have no slot. Beyond it the least usage is
/// forgotten.
pub const HISTORY_MAX: usize = 100_000;

/// How fast usage fades.
#[derive(Clone, Copy, Debug, PartialEq)]
pub enum Decay {
    /// By half in so many milliseconds; zero or less: [`Decay::Never`].
    HalfLife(i64),
    /// To a tenth in so many hours, as LSF's `HIST_HOURS`; zero or less: [`Decay::Never`].
    HistHours(f64),
    /// Not at all.
    Never,
}

impl Decay {
    /// Fading per millisecond: usage is multiplied by e to the minus `rate x milliseconds`.
    fn rate(self) -> f64 {
        match self {
            Self::HalfLife(millis) if millis > 0 => LN_2 / millis as f64,
            Self::HistHours(hours) if hours > 0.0 => LN_10 / (hours * 3_600_000.0),
            _ => 0.0,
        }
    }
}

/// What counts as usage.
#[derive(Clone, Debug, PartialEq)]
pub struct UsageOptions {
    /// Per core and second.
    pub cpu_factor: f64,
    /// Per GiB and second.
    pub memory_factor: f64,
    /// Per device and second, for whole GPUs and slices alike.
    pub gpu_factor: f64,
    /// Per base unit and second, by resource name; goes before the three above, and that of a
    /// narrowed resource before that of the resource itself.
    pub factors: Vec<(Box<str>, f64)>,
    /// How fast it fades.
    pub decay: Decay,
}

impl Default for UsageOptions {
    fn default() -> Self {
        Self {
            cpu_factor: 0.0,
            memory_factor: 0.0,
            gpu_factor: 4.0,
            factors: Vec::new(),
            decay: Decay::HalfLife(2 * 3_600_000),
        }
    }
}

impl UsageOptions {
    /// Factor per base unit; of a narrowed resource what it differs from the resource itself, for
    /// which it counts too.
    fn factor(&self, name: &str) -> f64 {
        let own = self.factors.iter().find(|(known, _)| &**known == name);
        let own = own.map(|(_, factor)| *factor);
        match (base(name), own) {
            (base, own) if base != name => own.map_or(0.0, |own| own - self.factor(base)),
            (_, Some(own)) => own,
            ("cpu", None) => self.cpu_factor / 1000.0,
            ("memory", None) => self.memory_factor / f64::from(1 << 30),
            (name, None) if is_gpu(name) => self.gpu_factor,
            (GPU_MILLI, None) => self.gpu_factor / f64::from(DEVICE),
            (_, None) => 0.0,
        }
    }
}

/// Decayed usage, and how fast it grows.
#[derive(Clone, Copy, Debug, Default, PartialEq)]
pub struct Used {
    /// Weighted resource-seconds.
    pub amount: f64,
    /// What is added each second, as long as what is allocated stays the same.
    pub rate: f64,
}

/// What is allocated, as usage counts it.
#[derive(Clone, Copy, Debug, Default)]
pub(super) struct Flow {
    /// Weighted units: usage per second.
    pub(super) weighted: f64,
    /// Milli-cores, where LSF's order is in use.
    pub(super) cores: i128,
}

/// LSF's decayed terms, in hours.
#[derive(Clone, Copy, Debug, Default, PartialEq)]
pub(super) struct PastHours {
    /// Of cores.
    pub(super) cpu: f64,
    /// Of pods that ended.
    pub(super) run: f64,
    /// Of GPUs of pods that ended.
    pub(super) gpu: f64,
}

/// Fading per millisecond, of usage and of LSF's terms.
#[derive(Clone, Copy, Debug, Default)]
struct Rates {
    usage: f64,
    hist: f64,
}

/// Usage at a time. LSF's terms are whole numbers, so that what ends at one time adds up to the
/// same in any order.
#[derive(Clone, Copy, Debug, Default)]
struct Past {
    amount: f64,
    /// milli-core-milliseconds
    cpu: i64,
    /// pod-milliseconds
    run: i64,
    /// GPU-milliseconds
    gpu: i64,
    at: Timestamp,
}

/// An amount and a constant flow after `millis`, under decay.
fn faded(amount: f64, flow: f64, millis: f64, rate: f64) -> f64 {
    if rate > 0.0 {
        // 1 - e^-x, exact for small x too
        amount * (-rate * millis).exp() + flow * -(-rate * millis).exp_m1() / rate
    } else {
        amount + flow * millis
    }
}

impl Past {
    /// Usage at `now` if so much was allocated since: the integral of a constant under decay.
    fn after(self, now: Timestamp, flow: Flow, rates: Rates) -> Self {
        let millis = now.since_ms(self.at) as f64;
        if millis == 0.0 {
            return self;
        }
        #[allow(clippy::cast_possible_truncation)] // it saturates
        let term =
            |past: i64, flow: f64| faded(past as f64, flow, millis, rates.hist).round() as i64;
        Self {
            amount: faded(self.amount, flow.weighted / 1000.0, millis, rates.usage),
            cpu: term(self.cpu, flow.cores as f64),
            run: term(self.run, 0.0),
            gpu: term(self.gpu, 0.0),
            at: now,
        }
    }

    /// Whether forgetting it makes no difference.
    fn is_negligible(self) -> bool {
        self.amount < NEGLIGIBLE && [self.cpu, self.run, self.gpu].iter().all(|t| *t < 1000)
    }
}

#[derive(Debug, Default)]
pub(super) struct Usage {
    options: UsageOptions,
    rates: Rates,
    now: Timestamp,
    /// resources that count, per base unit, by id
    factors: Vec<(ResourceId, f64)>,
    /// `[slot]`
    past: Vec<Past>,
    /// of queues and users without a slot
    history: FxHashMap<String, Past>,
    /// size of the history at which it is looked through
    sweep_at: usize,
}

impl Usage {
    pub(super) fn set_options(&mut self, options: UsageOptions) {
        self.rates.usage = options.decay.rate();
        self.options = options;
        self.factors.clear();
    }

    pub(super) fn set_hist_hours(&mut self, hours: f64) {
        self.rates.hist = Decay::HistHours(hours).rate();
    }

    /// Makes a resource known, in the order of ids.
    pub(super) fn bind(&mut self, resource: ResourceId, name: &str) {
        let factor = self.options.factor(name);
        if factor != 0.0 {
            self.factors.push((resource, factor));
        }
    }

    pub(super) fn factors(&self) -> &[(ResourceId, f64)] {
        &self.factors
    }

    pub(super) fn advance(&mut self, now: Timestamp) {
        self.now = self.now.max(now);
    }

    fn now(&self, slot: QueueIndex, flow: Flow) -> Past {
        self.past[slot.index()].after(self.now, flow, self.rates)
    }

    /// Usage now of a slot to which `flow` is allocated: sum of amounts times factors.
    pub(super) fn amount(&self, slot: QueueIndex, flow: Flow) -> f64 {
        self.now(slot, flow).amount
    }

    /// LSF's terms now.
    pub(super) fn past_hours(&self, slot: QueueIndex, flow: Flow) -> PastHours {
        let past = self.now(slot, flow);
        let hours = |millis: i64| millis as f64 / HOUR;
        PastHours { cpu: hours(past.cpu) / 1000.0, run: hours(past.run), gpu: hours(past.gpu) }
    }

    /// Adds the CPU time of a pod that has requested so many milli-cores for a time until now.
    pub(super) fn add_past_cpu(&mut self, slot: QueueIndex, cores: i64, millis: i64) {
        #[allow(clippy::cast_possible_truncation)] // it saturates
        let used = faded(0.0, cores as f64, millis as f64, self.rates.hist).round() as i64;
        let past = &mut self.past[slot.index()];
        past.cpu = past.cpu.saturating_add(used);
    }

    /// Takes back what so much, allocated for a time until now, has added.
    pub(super) fn take_back(&mut self, slot: QueueIndex, weighted: f64, millis: i64) {
        let added = faded(0.0, weighted / 1000.0, millis as f64, self.rates.usage);
        let past = &mut self.past[slot.index()];
        past.amount = (past.amount - added).max(0.0);
    }

    /// Adds what a pod that ends now has run, in pod- and in GPU-milliseconds.
    pub(super) fn add_ended(&mut self, slot: QueueIndex, run: i64, gpu: i64) {
        let past = &mut self.past[slot.index()];
        past.run = past.run.saturating_add(run);
        past.gpu = past.gpu.saturating_add(gpu);
    }

    /// Brings a slot up to now, before `flow` changes.
    pub(super) fn accrue(&mut self, slot: QueueIndex, flow: Flow) {
        self.past[slot.index()] = Past { at: self.now, ..self.now(slot, flow) };
    }

    /// Gives a slot the usage remembered under a key.
    pub(super) fn recall(&mut self, slot: QueueIndex, key: &str) {
        if self.past.len() <= slot.index() {
            self.past.resize(slot.index() + 1, Past::default());
        }
        let past = self.history.remove(key).unwrap_or_default();
        self.past[slot.index()] = past;
    }

    /// Remembers the usage of a slot, which ends, under a key.
    pub(super) fn remember(&mut self, slot: QueueIndex, flow: Flow, key: String) {
        let past = self.now(slot, flow);
        if !past.is_negligible() {
            self.keep(key, past);
        }
    }

    /// What was so `age_ms` ago as it is now, if the rate has been the same since.
    pub(super) fn aged(&self, used: Used, age_ms: i64) -> f64 {
        let at = Timestamp(self.now.0.saturating_sub(age_ms));
        let flow = Flow { weighted: used.rate, cores: 0 };
        Past { amount: used.amount, at, ..Past::default() }.after(self.now, flow, self.rates).amount
    }

    /// Sets the usage of a slot.
    pub(super) fn set(&mut self, slot: QueueIndex, amount: f64) {
        self.past[slot.index()] = Past { amount, at: self.now, ..Past::default() };
    }

    /// Sets what is remembered under a key.
    pub(super) fn set_history(&mut self, key: String, amount: f64) {
        self.keep(key, Past { amount, at: self.now, ..Past::default() });
    }

    fn keep(&mut self, key: String, past: Past) {
        self.history.insert(key, past);
        if self.history.len() > self.sweep_at.max(1024) {
            self.sweep();
        }
    }

    fn faded(&self, past: Past) -> Past {
        past.after(self.now, Flow::default(), self.rates)
    }

    /// What is remembered now, in no order.
    pub(super) fn remembered(&self) -> impl Iterator<Item = (&str, f64)> {
        let entries = self.history.iter();
        entries.map(|(key, past)| (&**key, self.faded(*past).amount))
    }

    pub(super) fn forget_slots(&mut self) {
        self.past.clear();
    }

    /// Drops what has become negligible, and beyond [`HISTORY_MAX`] what is least. The next sweep
    /// comes when the history has doubled or is full: O(1) for each entry added.
    fn sweep(&mut self) {
        let (now, rates) = (self.now, self.rates);
        let faded = |past: &Past| past.after(now, Flow::default(), rates);
        self.history.retain(|_, past| !faded(past).is_negligible());
        if self.history.len() > HISTORY_MAX {
            let kept = HISTORY_MAX / 2;
            let mut amounts: Vec<(f64, &String)> =
                self.history.iter().map(|(key, past)| (faded(past).amount, key)).collect();
            amounts.select_nth_unstable_by(kept, |a, b| b.0.total_cmp(&a.0).then(a.1.cmp(b.1)));
            let dropped: Vec<String> = amounts[kept..].iter().map(|(_, k)| (*k).clone()).collect();
            for key in dropped {
                self.history.remove(&key);
            }
        }
        self.sweep_at = (self.history.len() * 2).min(HISTORY_MAX);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_history_is_bounded_and_keeps_the_most() {
        let mut usage = Usage::default();
        usage.set_options(UsageOptions::default());
        let slot = QueueIndex::ROOT;
        for index in 0..HISTORY_MAX * 2 {
            usage.past =
                vec![Past { amount: 10.0 + index as f64, at: usage.now, ..Past::default() }];
            usage.remember(slot, Flow::default(), format!("user {index}"));
            assert!(usage.history.len() <= HISTORY_MAX + 1);
        }
        let last = format!("user {}", HISTORY_MAX * 2 - 1);
        assert!(usage.history.contains_key(&last) && !usage.history.contains_key("user 0"));
        // after 40 half lives nothing of it counts
        usage.advance(Timestamp(80 * 3_600_000));
        usage.past = vec![Past { amount: 10.0, at: usage.now, ..Past::default() }];
        usage.sweep();
        assert_eq!(usage.history.len(), 0);
    }

    #[test]
    fn a_type_counts_as_what_it_is_and_not_twice() {
        let factors = vec![("nvidia.com/gpu@type=fast".into(), 10.0), ("cpu".into(), 0.5)];
        let options = UsageOptions { factors, gpu_factor: 4.0, ..UsageOptions::default() };
        let factor = |name| options.factor(name);
        assert_eq!((factor("nvidia.com/gpu"), factor("cpu")), (4.0, 0.5));
        // charged beside the resource itself
        assert_eq!(factor("nvidia.com/gpu@type=fast"), 6.0);
        assert_eq!((factor("nvidia.com/gpu@type=slow"), factor("cpu@type=fast")), (0.0, 0.0));
    }

    #[test]
    fn what_is_negligible_is_not_remembered() {
        let past = vec![Past { amount: NEGLIGIBLE / 2.0, ..Past::default() }];
        let mut usage = Usage { past, ..Usage::default() };
        usage.remember(QueueIndex::ROOT, Flow::default(), "user".to_owned());
        assert_eq!(usage.history.len(), 0);
    }
}
