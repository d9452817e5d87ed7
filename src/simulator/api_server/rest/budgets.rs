//! Disruption budgets, kept up to date as upstream's controller would.

use super::super::selector::LabelSelector;
use super::super::store::{Object, Range};
use super::{Api, now};
use serde_json::{Value, json};
use std::sync::Arc;

impl Api {
    /// Brings the status of all budgets of a namespace in line with its pods. Costs one look when
    /// there are no budgets, which is the usual case; O(pods of the namespace) otherwise.
    pub(super) fn update_budgets(&self, namespace: &str) {
        let budgets = self.builtin("policy", "v1", "poddisruptionbudgets");
        if self.store.len(budgets.collection) == 0 {
            return;
        }
        let pods = self.pods_of(namespace);
        let prefix = format!("{namespace}/");
        let range = Range { prefix: &prefix, ..Range::default() };
        let Ok(page) = self.store.list(budgets.collection, &range) else { return };
        for budget in page.objects {
            let mut value = budget.value.clone();
            value["status"] = status(&budget.value, &pods);
            let key = budgets.key(namespace, budget.meta("name"));
            // a concurrent write runs the same calculation after itself
            self.store.update(budgets.collection, &key, &budget, value).ok();
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

fn status(budget: &Value, pods: &[Arc<Object>]) -> Value {
    let covered: Vec<&Value> =
        pods.iter().map(|p| &p.value).filter(|p| covers(budget, p)).collect();
    let live: Vec<&&Value> = covered.iter().filter(|p| !is_terminal(p)).collect();
    let expected = i64::try_from(live.len()).unwrap_or(i64::MAX);
    let leaving = |p: &Value| p["metadata"]["deletionTimestamp"].is_string();
    let healthy = live.iter().filter(|p| is_ready(p) && !leaving(p)).count();
    let healthy = i64::try_from(healthy).unwrap_or(i64::MAX);
    let spec = &budget["spec"];
    let desired = if spec["maxUnavailable"].is_null() {
        scaled(&spec["minAvailable"], expected)
    } else {
        (expected - scaled(&spec["maxUnavailable"], expected)).max(0)
    };
    let allowed = if expected == 0 { 0 } else { (healthy - desired).max(0) };
    let (state, reason) =
        if allowed > 0 { ("True", "SufficientPods") } else { ("False", "InsufficientPods") };
    let generation = budget["metadata"]["generation"].as_i64().unwrap_or(0);
    let before = budget["status"]["conditions"].as_array().into_iter().flatten();
    let kept = before.clone().find(|c| c["type"] == "DisruptionAllowed" && c["status"] == state);
    let since = kept.map_or_else(|| json!(now()), |c| c["lastTransitionTime"].clone());
    json!({
        "currentHealthy": healthy, "desiredHealthy": desired, "expectedPods": expected,
        "disruptionsAllowed": allowed, "observedGeneration": generation,
        "conditions": [{ "type": "DisruptionAllowed", "status": state, "reason": reason,
            "message": "", "observedGeneration": generation, "lastTransitionTime": since }],
    })
}

/// A number, or a percentage of `total` rounded up.
fn scaled(value: &Value, total: i64) -> i64 {
    match value.as_str().and_then(|t| t.strip_suffix('%')).and_then(|t| t.parse::<i64>().ok()) {
        Some(percent) => (percent * total + 99) / 100,
        None => value.as_i64().unwrap_or(0),
    }
}
