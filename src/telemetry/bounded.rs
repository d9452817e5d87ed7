//! Labelled families whose label values come from objects, kept within a bound.

use parking_lot::Mutex;
use prometheus::{IntCounter, IntCounterVec, IntGauge, IntGaugeVec};
use std::collections::BTreeMap;

/// Most values of one such label. A cluster has a handful of GPU kinds and reasons; whoever writes
/// more of them gets the value `other`.
const VALUES_MAX: usize = 32;
const OTHER: &str = "other";

/// A gauge with one bounded label.
#[derive(Debug)]
pub struct BoundedGauges {
    vec: IntGaugeVec,
    known: Mutex<BTreeMap<String, IntGauge>>,
}

impl BoundedGauges {
    pub(super) fn new(vec: IntGaugeVec) -> Self {
        BoundedGauges { vec, known: Mutex::default() }
    }

    /// Sets all values at once; a value not named falls to zero. Values beyond the bound are
    /// added up under `other`.
    pub fn set_all<'a>(&self, values: impl IntoIterator<Item = (&'a str, i64)>) {
        let mut known = self.known.lock();
        let mut sums: BTreeMap<String, i64> = known.keys().map(|name| (name.clone(), 0)).collect();
        for (name, value) in values {
            let name =
                if sums.contains_key(name) || sums.len() < VALUES_MAX { name } else { OTHER };
            *sums.entry(name.to_owned()).or_default() += value;
        }
        for (name, sum) in sums {
            let resolve = || self.vec.with_label_values(&[&name]);
            known.entry(name.clone()).or_insert_with(resolve).set(sum);
        }
    }
}

/// A counter with one bounded label.
#[derive(Debug)]
pub struct BoundedCounters {
    vec: IntCounterVec,
    known: Mutex<BTreeMap<String, IntCounter>>,
}

impl BoundedCounters {
    pub(super) fn new(vec: IntCounterVec) -> Self {
        BoundedCounters { vec, known: Mutex::default() }
    }

    /// The counter of a label value. Keep the handle where it is used often.
    #[must_use]
    pub fn of(&self, value: &str) -> IntCounter {
        let mut known = self.known.lock();
        let full = known.len() >= VALUES_MAX;
        let value = if known.contains_key(value) || !full { value } else { OTHER };
        let resolve = || self.vec.with_label_values(&[value]);
        known.entry(value.to_owned()).or_insert_with(resolve).clone()
    }
}
