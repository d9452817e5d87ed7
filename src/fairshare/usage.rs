//! Decayed usage: weighted resource-seconds, where what is long past counts little.
//!
//! A queue's usage is the integral of its allocation times the factors, decayed by half every half
//! life. Between two charges the allocation is constant and the integral has a closed form, so
//! nothing runs periodically: time passes by remembering the time. The factors are MSS's
//! `cpu_factor`, `mem_factor` and `gpu_factor`; its window of two hours is the default half life.
//! History orders claims of equal share; it never enters shares.

use super::tree::QueueIndex;
use crate::cluster::{CPU, MEMORY, ResourceId, is_gpu};
use crate::model::Timestamp;
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
    /// Per base unit and second, by resource name; goes before the three above.
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
    /// Factor per base unit.
    fn factor(&self, resource: ResourceId, name: &str) -> f64 {
        if let Some((_, factor)) = self.factors.iter().find(|(known, _)| &**known == name) {
            return *factor;
        }
        match resource {
            CPU => self.cpu_factor / 1000.0,
            MEMORY => self.memory_factor / f64::from(1 << 30),
            _ if is_gpu(name) => self.gpu_factor,
            _ => 0.0,
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

/// Usage at a time.
#[derive(Clone, Copy, Debug, Default)]
struct Past {
    amount: f64,
    at: Timestamp,
}

impl Past {
    /// Usage at `now` if `flow` weighted units were allocated since: the integral of a constant
    /// under decay.
    fn after(self, now: Timestamp, flow: f64, decay: f64) -> f64 {
        let millis = now.since_ms(self.at) as f64;
        if decay > 0.0 {
            // 1 - e^-x, exact for small x too
            let faded = -(-decay * millis).exp_m1();
            self.amount * (-decay * millis).exp() + flow * faded / decay / 1000.0
        } else {
            self.amount + flow * millis / 1000.0
        }
    }
}

#[derive(Debug, Default)]
pub(super) struct Usage {
    options: UsageOptions,
    /// fading per millisecond
    decay: f64,
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
        self.decay = options.decay.rate();
        self.options = options;
        self.factors.clear();
    }

    /// Makes a resource known, in the order of ids.
    pub(super) fn bind(&mut self, resource: ResourceId, name: &str) {
        let factor = self.options.factor(resource, name);
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

    /// Usage now of a slot to which `flow` is allocated: sum of amounts times factors.
    pub(super) fn amount(&self, slot: QueueIndex, flow: f64) -> f64 {
        self.past[slot.index()].after(self.now, flow, self.decay)
    }

    /// Brings a slot up to now, before `flow` changes.
    pub(super) fn accrue(&mut self, slot: QueueIndex, flow: f64) {
        self.past[slot.index()] = Past { amount: self.amount(slot, flow), at: self.now };
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
    pub(super) fn remember(&mut self, slot: QueueIndex, flow: f64, key: String) {
        let amount = self.amount(slot, flow);
        if amount >= NEGLIGIBLE {
            self.set_history(key, amount);
        }
    }

    /// What was so `age_ms` ago as it is now, if the rate has been the same since.
    pub(super) fn aged(&self, used: Used, age_ms: i64) -> f64 {
        let past = Past { amount: used.amount, at: Timestamp(self.now.0.saturating_sub(age_ms)) };
        past.after(self.now, used.rate, self.decay)
    }

    /// Sets the usage of a slot.
    pub(super) fn set(&mut self, slot: QueueIndex, amount: f64) {
        self.past[slot.index()] = Past { amount, at: self.now };
    }

    /// Sets what is remembered under a key.
    pub(super) fn set_history(&mut self, key: String, amount: f64) {
        self.history.insert(key, Past { amount, at: self.now });
        if self.history.len() > self.sweep_at.max(1024) {
            self.sweep();
        }
    }

    /// What is remembered now, in no order.
    pub(super) fn remembered(&self) -> impl Iterator<Item = (&str, f64)> {
        let entries = self.history.iter();
        entries.map(|(key, past)| (&**key, past.after(self.now, 0.0, self.decay)))
    }

    pub(super) fn forget_slots(&mut self) {
        self.past.clear();
    }

    /// Drops what has become negligible, and beyond [`HISTORY_MAX`] what is least. The next sweep
    /// comes when the history has doubled or is full: O(1) for each entry added.
    fn sweep(&mut self) {
        let (now, decay) = (self.now, self.decay);
        self.history.retain(|_, past| past.after(now, 0.0, decay) >= NEGLIGIBLE);
        if self.history.len() > HISTORY_MAX {
            let kept = HISTORY_MAX / 2;
            let mut amounts: Vec<(f64, &String)> =
                self.history.iter().map(|(key, p)| (p.after(now, 0.0, decay), key)).collect();
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
            usage.past = vec![Past { amount: 10.0 + index as f64, at: usage.now }];
            usage.remember(slot, 0.0, format!("user {index}"));
            assert!(usage.history.len() <= HISTORY_MAX + 1);
        }
        let last = format!("user {}", HISTORY_MAX * 2 - 1);
        assert!(usage.history.contains_key(&last) && !usage.history.contains_key("user 0"));
        // after 40 half lives nothing of it counts
        usage.advance(Timestamp(80 * 3_600_000));
        usage.past = vec![Past { amount: 10.0, at: usage.now }];
        usage.sweep();
        assert_eq!(usage.history.len(), 0);
    }

    #[test]
    fn what_is_negligible_is_not_remembered() {
        let past = vec![Past { amount: NEGLIGIBLE / 2.0, at: Timestamp(0) }];
        let mut usage = Usage { past, ..Usage::default() };
        usage.remember(QueueIndex::ROOT, 0.0, "user".to_owned());
        assert_eq!(usage.history.len(), 0);
    }
}
