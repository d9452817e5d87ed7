//! What is read of a Job.

use super::or_default;
use super::{Condition, Meta};
use serde::Deserialize;

/// A batch/v1 Job, trimmed.
#[derive(Clone, Debug, Default, Deserialize)]
pub struct JobObject {
    /// Metadata.
    #[serde(default, rename = "metadata")]
    pub meta: Meta,
    /// `spec`.
    #[serde(default, deserialize_with = "or_default")]
    pub spec: JobSpec,
    /// `status`.
    #[serde(default, deserialize_with = "or_default")]
    pub status: JobStatus,
}

/// `spec` of a Job.
#[derive(Clone, Debug, Default, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct JobSpec {
    /// What its pods are made from.
    #[serde(default, deserialize_with = "or_default")]
    pub template: Template,
    /// What counts as a failure.
    #[serde(default, deserialize_with = "or_default")]
    pub pod_failure_policy: FailurePolicy,
}

/// A pod template.
#[derive(Clone, Debug, Default, Deserialize)]
pub struct Template {
    /// Metadata.
    #[serde(default, rename = "metadata")]
    pub meta: Meta,
    /// `spec`.
    #[serde(default, deserialize_with = "or_default")]
    pub spec: TemplateSpec,
}

/// `spec` of a pod template.
#[derive(Clone, Debug, Default, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct TemplateSpec {
    /// Who schedules the pods.
    #[serde(default, deserialize_with = "or_default")]
    pub scheduler_name: String,
}

/// `podFailurePolicy`.
#[derive(Clone, Debug, Default, Deserialize)]
pub struct FailurePolicy {
    /// The first that matches decides.
    #[serde(default, deserialize_with = "or_default")]
    pub rules: Vec<FailureRule>,
}

/// A rule of it.
#[derive(Clone, Debug, Default, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct FailureRule {
    /// What follows.
    #[serde(default, deserialize_with = "or_default")]
    pub action: String,
    /// It matches a pod with one of these conditions.
    #[serde(default, deserialize_with = "or_default")]
    pub on_pod_conditions: Vec<FailureCondition>,
}

/// A condition that a rule looks for.
#[derive(Clone, Debug, Default, Deserialize)]
pub struct FailureCondition {
    /// Its type.
    #[serde(default, rename = "type", deserialize_with = "or_default")]
    pub kind: String,
}

/// `status` of a Job.
#[derive(Clone, Debug, Default, Deserialize)]
pub struct JobStatus {
    /// Conditions.
    #[serde(default, deserialize_with = "or_default")]
    pub conditions: Vec<Condition>,
}

impl JobObject {
    /// Whether a pod that is evicted counts as a failure of the Job.
    #[must_use]
    pub fn counts_evictions(&self) -> bool {
        let ignores = |rule: &FailureRule| {
            rule.action == "Ignore"
                && rule.on_pod_conditions.iter().any(|on| on.kind == "DisruptionTarget")
        };
        !self.spec.pod_failure_policy.rules.iter().any(ignores)
    }

    /// Whether it makes no more pods.
    #[must_use]
    pub fn is_over(&self) -> bool {
        let over = ["Complete", "Failed", "FailureTarget", "SuccessCriteriaMet"];
        let mut conditions = self.status.conditions.iter();
        self.meta.deleting
            || conditions.any(|known| over.contains(&&*known.kind) && &*known.status == "True")
    }
}
