//! What is read of a PodDisruptionBudget.

use super::meta::Meta;
use super::or_default;
use super::pod::SelectorRequirement;
use serde::Deserialize;
use std::collections::BTreeMap;

/// A policy/v1 PodDisruptionBudget, trimmed.
#[derive(Clone, Debug, Default, Deserialize)]
pub struct BudgetObject {
    /// Metadata.
    #[serde(default, rename = "metadata")]
    pub meta: Meta,
    /// `spec`.
    #[serde(default, deserialize_with = "or_default")]
    pub spec: BudgetSpec,
    /// `status`.
    #[serde(default, deserialize_with = "or_default")]
    pub status: BudgetStatus,
}

/// `spec` of a budget.
#[derive(Clone, Debug, Default, Deserialize)]
pub struct BudgetSpec {
    /// What it protects.
    pub selector: Option<LabelSelector>,
}

/// All of it must hold.
#[derive(Clone, Debug, Default, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct LabelSelector {
    /// Labels with these values.
    #[serde(default, deserialize_with = "or_default")]
    pub match_labels: BTreeMap<Box<str>, Box<str>>,
    /// Requirements.
    #[serde(default, deserialize_with = "or_default")]
    pub match_expressions: Vec<SelectorRequirement>,
}

/// `status` of a budget.
#[derive(Clone, Debug, Default, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct BudgetStatus {
    /// Pods that may be evicted now.
    #[serde(default, deserialize_with = "or_default")]
    pub disruptions_allowed: i64,
    /// The generation for which that was found.
    pub observed_generation: Option<i64>,
}
