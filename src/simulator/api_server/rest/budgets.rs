//! Disruption budgets, kept up to date as upstream's controller would.

use super::super::selector::LabelSelector;
use super::super::store::{Object, Range, StoreError};
use super::{Api, MAX_RETRIES, now};
use jiff::{SignedDuration, Timestamp};
use serde_json::{Map, Value, json};
use std::sync::Arc;

impl Api {
    /// Brings the status of all budgets of a namespace in line with its pods. Costs one look when
    /// there are no budgets, which is the usual case; O(pods of the namespace) otherwise.
    pub(super) fn update_budgets(&self, namespace: &str) {
        let budgets = self.builtin("policy", "v1", "poddisruptionbudgets");
        if self.store.len(budgets.collection) == 0 {
            return;
        }
        let prefix = format!("{namespace}/");
        let range = Range { prefix: &prefix, ..Range::default() };
        for _ in 0..MAX_RETRIES {
            // the budgets are read before the pods: an eviction notes its pod in the budget before
            // it deletes it, so it is seen in one of the two, or spoils the write below
            let Ok(page) = self.store.list(budgets.collection, &range) else { return };
            let pods = self.pods_of(namespace);
            let mut settled = true;
            for budget in page.objects {
                let mut value = budget.value.clone();
                value["status"] = status(&budget.value, &pods);
                let key = budgets.key(namespace, budget.meta("name"));
                let done = self.store.update(budgets.collection, &key, &budget, value);
                settled &= !matches!(done, Err(StoreError::Changed));
            }
            if settled {
                return;
            }
        }
    }

    fn pods_of(&self, namespace: &str) -> Vec<Arc<Object>> {
        let pods = self.builtin("", "v1", "pods");
        let prefix = format!("{namespace}/");
        let range = Range { prefix: &prefix, ..Range::default() };
        self.store.list(pods.collection, &range).map(|page| page.objects).unwrap_or_default()
    }
}

/// Whether a budget's selector matches a pod; an empty selector matches all.
pub(super) fn covers(budget: &Value, pod: &Value) -> bool {
    let selector = LabelSelector::from_object(&budget["spec"]["selector"]);
    selector.is_some_and(|selector| selector.matches(pod))
}

pub(super) fn is_ready(pod: &Value) -> bool {
    let conditions = pod["status"]["conditions"].as_array().into_iter().flatten();
    let mut ready = conditions.filter(|c| c["type"] == "Ready");
    ready.any(|c| c["status"] == "True")
}

fn is_terminal(pod: &Value) -> bool {
    ["Succeeded", "Failed"].contains(&pod["status"]["phase"].as_str().unwrap_or(""))
}

/// Evicted pods that are still not being deleted after so long count as healthy again.
const DELETION_TIMEOUT: SignedDuration = SignedDuration::from_secs(120);

/// The notes of `disruptedPods` that still count: of pods that are to leave and do not yet.
fn awaited(budget: &Value, covered: &[&Value]) -> Map<String, Value> {
    let noted = budget["status"]["disruptedPods"].as_object().into_iter().flatten();
    let still = noted.filter(|(name, since)| {
        let since = since.as_str().and_then(|t| t.parse::<Timestamp>().ok()).unwrap_or_default();
        let in_time = since > Timestamp::now() - DELETION_TIMEOUT;
        in_time && covered.iter().any(|p| p["metadata"]["name"] == **name && !is_leaving(p))
    });
    still.map(|(name, since)| (name.clone(), since.clone())).collect()
}

fn is_leaving(pod: &Value) -> bool {
    pod["metadata"]["deletionTimestamp"].is_string()
}

fn status(budget: &Value, pods: &[Arc<Object>]) -> Value {
    let covered: Vec<&Value> =
        pods.iter().map(|p| &p.value).filter(|p| covers(budget, p)).collect();
    let live: Vec<&&Value> = covered.iter().filter(|p| !is_terminal(p)).collect();
    let expected = i64::try_from(live.len()).unwrap_or(i64::MAX);
    let disrupted = awaited(budget, &covered);
    let is_noted =
        |p: &Value| p["metadata"]["name"].as_str().is_some_and(|n| disrupted.contains_key(n));
    let healthy = live.iter().filter(|p| is_ready(p) && !is_leaving(p) && !is_noted(p)).count();
    let healthy = i64::try_from(healthy).unwrap_or(i64::MAX);
    let spec = &budget["spec"];
    let desired = if spec["maxUnavailable"].is_null() {
        scaled(&spec["minAvailable"], expected)
    } else {
        (expected - scaled(&spec["maxUnavailable"], expected)).max(0)
    };
    let allowed = if expected == 0 { 0 } else { (healthy - desired).max(0) };
    let generation = budget["metadata"]["generation"].as_i64().unwrap_or(0);
    let mut status = json!({
        "currentHealthy": healthy, "desiredHealthy": desired, "expectedPods": expected,
        "disruptionsAllowed": allowed, "observedGeneration": generation,
        "conditions": [allowed_condition(&budget["status"], allowed, generation)],
    });
    if !disrupted.is_empty() {
        status["disruptedPods"] = Value::Object(disrupted);
    }
    status
}

/// The `DisruptionAllowed` condition; `before` says since when it has held.
pub(super) fn allowed_condition(before: &Value, allowed: i64, generation: i64) -> Value {
    let (state, reason) =
        if allowed > 0 { ("True", "SufficientPods") } else { ("False", "InsufficientPods") };
    let mut conditions = before["conditions"].as_array().into_iter().flatten();
    let kept = conditions.find(|c| c["type"] == "DisruptionAllowed" && c["status"] == state);
    let since = kept.map_or_else(|| json!(now()), |c| c["lastTransitionTime"].clone());
    json!({ "type": "DisruptionAllowed", "status": state, "reason": reason, "message": "",
        "observedGeneration": generation, "lastTransitionTime": since })
}

/// A number, or a percentage of `total` rounded up.
fn scaled(value: &Value, total: i64) -> i64 {
    match value.as_str().and_then(|t| t.strip_suffix('%')).and_then(|t| t.parse::<i64>().ok()) {
        Some(percent) => (percent * total + 99) / 100,
        None => value.as_i64().unwrap_or(0),
    }
}
