//! The plugins a profile may name: those that [`crate::plugins`] registers.

pub(super) use crate::plugins::MORE_SCORES;
use crate::plugins::{FILTERS, SCORES};

/// Filters that cannot be turned off, and what would happen without them.
pub(super) const REQUIRED_FILTERS: &[(&str, &str)] = &[
    ("NodeName", REFUSED),
    ("NodeResourcesFit", REFUSED),
    ("GpuSharing", "parts of GPUs would be given out where there are none"),
    ("DynamicResources", "claims would be given devices that others have"),
];
const REFUSED: &str = "pods would be bound where the kubelet refuses them";

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
    let scores = SCORES.iter().map(|(name, _)| *name).chain(MORE_SCORES.iter().copied());
    FILTERS.iter().copied().chain(scores.filter(|name| !FILTERS.contains(name))).collect()
}
