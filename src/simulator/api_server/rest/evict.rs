//! `POST pods/NAME/eviction`: a deletion that asks the disruption budgets first.
//!
//! As upstream: an eviction takes one of `disruptionsAllowed` and notes the pod in
//! `disruptedPods` in one write of the budget, and deletes the pod after it. So of many evictions
//! at once no more succeed than the budget allows. The note keeps the pod from being counted as
//! healthy until it is seen to leave.

use super::super::admission;
use super::super::status::{ApiError, Reason};
use super::super::store::Range;
use super::budgets::{allowed_condition, covers, is_ready};
use super::delete::DeleteOptions;
use super::{Api, MAX_RETRIES, Query, Target, Written, binding, modified, now};
use serde_json::{Value, json};

impl Api {
    pub(crate) fn evict(
        &self,
        target: &Target,
        eviction: &Value,
        query: &Query,
    ) -> Result<Written, ApiError> {
        if eviction["metadata"]["name"].as_str() != Some(&target.name) {
            return Err(ApiError::bad_request(
                "name in URL does not match name in Eviction object",
            ));
        }
        let options = DeleteOptions::parse(&eviction["deleteOptions"], query);
        for _ in 0..MAX_RETRIES {
            let pod = self.get(target)?;
            let phase = pod.value["status"]["phase"].as_str().unwrap_or("");
            let leaving = pod.value["metadata"]["deletionTimestamp"].is_string();
            let harmless = leaving || ["Pending", "Succeeded", "Failed"].contains(&phase);
            let mut unguarded = None;
            if !harmless {
                unguarded = self.ask_budgets(target, &pod.value, options.dry_run)?;
            }
            // what was judged by the pod's state holds for this state only
            let judged = unguarded.is_some() || (phase == "Pending" && !leaving);
            let pinned = judged && options.resource_version.is_none();
            let mut checked = options.clone();
            if pinned {
                checked.resource_version = Some(pod.meta("resourceVersion").to_owned());
            }
            if !options.dry_run
                && let Err(error) = self.tell_disruption(target, &checked)
            {
                match unguarded {
                    _ if !pinned || error.reason != Reason::Conflict => return Err(error),
                    Some(budget) => return Err(unobserved(&budget)),
                    None => continue,
                }
            }
            // the condition above is a write of our own, so a version precondition is spent by now
            self.delete(target, &DeleteOptions { resource_version: None, ..options })?;
            return Ok(Written { code: 201, body: binding::success(), warnings: Vec::new() });
        }
        Err(modified(target))
    }

    fn tell_disruption(&self, target: &Target, options: &DeleteOptions) -> Result<(), ApiError> {
        let stamp = now();
        let told = self.guaranteed_update(target, |old| {
            let conflict = |why: String| Err(ApiError::conflict("", "Pod", &target.name, &why));
            if let Some(uid) = options.uid.as_ref().filter(|uid| *uid != old.meta("uid")) {
                return conflict(format!(
                    "the UID in the precondition ({uid}) does not match the UID in record ({}). \
                     The object might have been deleted and then recreated",
                    old.meta("uid")
                ));
            }
            let version = old.meta("resourceVersion");
            if let Some(asked) = options.resource_version.as_ref().filter(|v| *v != version) {
                return conflict(format!(
                    "the ResourceVersion in the precondition ({asked}) does not match the \
                     ResourceVersion in record ({version}). The object might have been modified"
                ));
            }
            let mut pod = old.value.clone();
            let condition = [
                ("type", "DisruptionTarget"),
                ("status", "True"),
                ("reason", "EvictionByEvictionAPI"),
                ("message", "Eviction API: evicting"),
            ];
            admission::set_condition(&mut pod, &condition, &stamp);
            Ok(pod)
        });
        told.map(drop)
    }

    /// Takes one of what the budget allows. Answers the name of a budget that lets the pod go for
    /// not being ready, which costs nothing of it.
    fn ask_budgets(
        &self,
        target: &Target,
        pod: &Value,
        dry_run: bool,
    ) -> Result<Option<String>, ApiError> {
        self.update_budgets(&target.namespace);
        let kind = self.builtin("policy", "v1", "poddisruptionbudgets");
        let prefix = format!("{}/", target.namespace);
        let range = Range { prefix: &prefix, ..Range::default() };
        let page = self
            .store
            .list(kind.collection, &range)
            .map_err(|e| ApiError::internal(e.to_string()))?;
        let mut covering = page.objects.iter().filter(|b| covers(&b.value, pod));
        let Some(budget) = covering.next() else { return Ok(None) };
        if covering.next().is_some() {
            return Err(ApiError::new(
                Reason::Unknown(500),
                "This pod has more than one PodDisruptionBudget, which the eviction subresource \
                 does not support.",
            ));
        }
        if !is_ready(pod) {
            let status = &budget.value["status"];
            let number = |field: &str| status[field].as_i64().unwrap_or(0);
            let always = budget.value["spec"]["unhealthyPodEvictionPolicy"] == "AlwaysAllow";
            let desired = number("desiredHealthy");
            if always || (number("currentHealthy") >= desired && desired > 0) {
                return Ok(Some(budget.meta("name").to_owned()));
            }
        }
        if dry_run {
            return take_one(&budget.value, &target.name).map(|_| None);
        }
        let name = budget.meta("name").to_owned();
        let subresource = String::new();
        let of_budget = Target { kind, namespace: target.namespace.clone(), name, subresource };
        self.guaranteed_update(&of_budget, |budget| take_one(&budget.value, &target.name))?;
        Ok(None)
    }
}

/// The budget after one eviction more; an error when it allows none.
fn take_one(budget: &Value, pod: &str) -> Result<Value, ApiError> {
    let mut budget = budget.clone();
    let name = budget["metadata"]["name"].as_str().unwrap_or("").to_owned();
    let generation = budget["metadata"]["generation"].as_i64().unwrap_or(0);
    let status = &mut budget["status"];
    let number = |status: &Value, field: &str| status[field].as_i64().unwrap_or(0);
    if number(status, "observedGeneration") < generation {
        return Err(unobserved(&name));
    }
    let allowed = number(status, "disruptionsAllowed");
    if allowed <= 0 {
        let (healthy, desired) =
            (number(status, "currentHealthy"), number(status, "desiredHealthy"));
        return Err(refusal(&name, healthy, desired));
    }
    status["disruptionsAllowed"] = json!(allowed - 1);
    if allowed == 1 {
        status["conditions"] = json!([allowed_condition(status, 0, generation)]);
    }
    status["disruptedPods"][pod] = json!(now());
    Ok(budget)
}

const VIOLATION: &str = "Cannot evict pod as it would violate the pod's disruption budget.";
/// Seconds after which to ask again about a budget that nobody has counted yet.
const RETRY: u64 = 10;

fn unobserved(budget: &str) -> ApiError {
    let mut error = ApiError::too_many_requests(VIOLATION, RETRY);
    let message = format!("The disruption budget {budget} is still being processed by the server.");
    error.details["causes"] = json!([{ "reason": "DisruptionBudget", "message": message }]);
    error
}

fn refusal(budget: &str, healthy: i64, desired: i64) -> ApiError {
    let mut error = ApiError::too_many_requests(VIOLATION, 0);
    let message = if healthy <= desired {
        format!(
            "The disruption budget {budget} needs {desired} healthy pods and has {healthy} \
            currently"
        )
    } else {
        format!("The disruption budget {budget} does not allow evicting pods currently")
    };
    error.details["causes"] = json!([{ "reason": "DisruptionBudget", "message": message }]);
    error
}
