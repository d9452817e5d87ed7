//! `POST pods/NAME/eviction`: a deletion that asks the disruption budgets first.

use super::super::admission;
use super::super::status::{ApiError, Reason};
use super::super::store::Range;
use super::budgets::{covers, is_ready};
use super::delete::DeleteOptions;
use super::{Api, Query, Target, Written, binding, now};
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
        let pod = self.get(target)?;
        let phase = pod.value["status"]["phase"].as_str().unwrap_or("");
        let harmless = ["Pending", "Succeeded", "Failed"].contains(&phase)
            || pod.value["metadata"]["deletionTimestamp"].is_string();
        if !harmless {
            self.ask_budgets(target, &pod.value)?;
        }
        if !options.dry_run {
            self.tell_disruption(target, &options)?;
        }
        // the condition above is a write of our own, so a version precondition is spent by now
        let options = DeleteOptions { resource_version: None, ..options };
        self.delete(target, &options)?;
        Ok(Written { code: 201, body: binding::success(), warnings: Vec::new() })
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

    fn ask_budgets(&self, target: &Target, pod: &Value) -> Result<(), ApiError> {
        self.update_budgets(&target.namespace);
        let kind = self.builtin("policy", "v1", "poddisruptionbudgets");
        let prefix = format!("{}/", target.namespace);
        let range = Range { prefix: &prefix, ..Range::default() };
        let page = self
            .store
            .list(kind.collection, &range)
            .map_err(|e| ApiError::internal(e.to_string()))?;
        let mut covering = page.objects.iter().filter(|b| covers(&b.value, pod));
        let Some(budget) = covering.next() else { return Ok(()) };
        if covering.next().is_some() {
            return Err(ApiError::new(
                Reason::Unknown(500),
                "This pod has more than one PodDisruptionBudget, which the eviction subresource \
                 does not support.",
            ));
        }
        let status = &budget.value["status"];
        let number = |field: &str| status[field].as_i64().unwrap_or(0);
        let (healthy, desired) = (number("currentHealthy"), number("desiredHealthy"));
        if !is_ready(pod) {
            let always = budget.value["spec"]["unhealthyPodEvictionPolicy"] == "AlwaysAllow";
            if always || (healthy >= desired && desired > 0) {
                return Ok(());
            }
        }
        if number("disruptionsAllowed") > 0 {
            // the deletion that follows lowers the healthy count, and with it what is allowed
            return Ok(());
        }
        Err(refusal(budget.meta("name"), healthy, desired))
    }
}

fn refusal(budget: &str, healthy: i64, desired: i64) -> ApiError {
    let mut error = ApiError::too_many_requests(
        "Cannot evict pod as it would violate the pod's disruption budget.",
        0,
    );
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
