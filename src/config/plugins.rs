//! The plugins a profile may name: those that [`crate::plugins`] registers.

use crate::plugins::{FILTERS, SCORES};

/// Filters that cannot be turned off: without them a pod is bound where the kubelet refuses it.
pub(super) const REQUIRED_FILTERS: &[&str] = &["NodeName", "NodeResourcesFit"];

/// The filters that run unless a profile says otherwise; they have no weights.
pub(super) fn filters() -> Vec<(&'static str, u32)> {
    FILTERS.iter().map(|name| (*name, 0)).collect()
}

/// The scores that run unless a profile says otherwise, with their weights.
pub(super) fn scores() -> Vec<(&'static str, u32)> {
    let weight = |weight| u32::try_from(weight).expect("default weights are 1 to 100");
    SCORES.iter().map(|(name, value)| (*name, weight(*value))).collect()
}

/// Every plugin name once: filters, then the scores that are no filters.
pub(super) fn names() -> Vec<&'static str> {
    let scores = SCORES.iter().map(|(name, _)| *name);
    FILTERS.iter().copied().chain(scores.filter(|name| !FILTERS.contains(name))).collect()
}
