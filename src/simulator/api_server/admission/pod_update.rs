//! What may change in a pod once it exists (upstream's `ValidatePodUpdate`).

use super::super::status::FieldError;
use super::pod::has_gates;
use serde_json::Value;

const ONLY: &str = "pod updates may not change fields other than \
    `spec.containers[*].image`,`spec.initContainers[*].image`,`spec.activeDeadlineSeconds`,\
    `spec.tolerations` (only additions to existing tolerations),\
    `spec.terminationGracePeriodSeconds` (allow it to be set to 1 if it was previously negative)";

/// Checks an update of a pod's main resource.
pub(crate) fn validate_pod_update(old: &Value, new: &Value) -> Vec<FieldError> {
    let mut errors = Vec::new();
    let (old, new) = (&old["spec"], &new["spec"]);
    let count = |spec: &Value, list: &str| spec[list].as_array().map_or(0, Vec::len);
    for list in ["containers", "initContainers"] {
        if count(old, list) != count(new, list) {
            let detail = "pod updates may not add or remove containers";
            errors.push(FieldError::forbidden(format!("spec.{list}"), detail));
            return errors;
        }
    }
    tolerations(old, new, &mut errors);
    gates(old, new, &mut errors);
    let mut allowed = new.clone();
    for list in ["containers", "initContainers"] {
        let olds = old[list].as_array().into_iter().flatten();
        for (mine, theirs) in allowed[list].as_array_mut().into_iter().flatten().zip(olds) {
            mine["image"] = theirs["image"].clone();
        }
    }
    let mut fields = vec!["activeDeadlineSeconds", "tolerations", "schedulingGates"];
    if old["terminationGracePeriodSeconds"].as_i64().is_some_and(|s| s < 0) {
        fields.push("terminationGracePeriodSeconds");
    }
    if has_gates(old) {
        // a gated pod may still be steered
        fields.extend(["nodeSelector", "affinity"]);
    }
    for field in fields {
        allowed[field] = old[field].clone();
    }
    if without_nulls(&allowed) != without_nulls(old) {
        errors.push(FieldError::forbidden("spec", ONLY));
    }
    errors
}

fn without_nulls(value: &Value) -> Value {
    let mut value = value.clone();
    if let Some(map) = value.as_object_mut() {
        map.retain(|_, item| !item.is_null());
    }
    value
}

fn tolerations(old: &Value, new: &Value, errors: &mut Vec<FieldError>) {
    let list = |spec: &Value| spec["tolerations"].as_array().cloned().unwrap_or_default();
    let news = list(new);
    let kept = list(old).iter().all(|toleration| {
        news.iter().any(|other| {
            let mut other = other.clone();
            // how long a taint is tolerated may change
            other["tolerationSeconds"] = toleration["tolerationSeconds"].clone();
            without_nulls(&other) == *toleration
        })
    });
    if !kept {
        let detail = "existing toleration can not be modified except its tolerationSeconds";
        errors.push(FieldError::forbidden("spec.tolerations", detail));
    }
}

fn gates(old: &Value, new: &Value, errors: &mut Vec<FieldError>) {
    let list = |spec: &Value| spec["schedulingGates"].as_array().cloned().unwrap_or_default();
    let olds = list(old);
    for (index, gate) in list(new).iter().enumerate() {
        let name = gate["name"].as_str().unwrap_or("");
        if !olds.contains(gate) {
            let detail =
                format!("only deletion is allowed, but found new scheduling gate '{name}'");
            let field = format!("spec.schedulingGates[{index}].name");
            errors.push(FieldError::forbidden(field, &detail));
        }
    }
}
