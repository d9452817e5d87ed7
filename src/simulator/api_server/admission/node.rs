//! Nodes: taints, and what may not change once it is set.

use super::super::status::FieldError;
use super::meta::{check_label_value, check_qualified};
use serde_json::Value;

const EFFECTS: [&str; 3] = ["NoSchedule", "PreferNoSchedule", "NoExecute"];

/// Upstream's `ValidateNode`.
pub(super) fn validate(node: &Value, errors: &mut Vec<FieldError>) {
    let taints = node["spec"]["taints"].as_array().map_or(&[][..], Vec::as_slice);
    for (index, taint) in taints.iter().enumerate() {
        // upstream says metadata
        let field = format!("metadata.taints[{index}]");
        let text = |name: &str| taint[name].as_str().unwrap_or("");
        check_qualified(text("key"), &format!("{field}.key"), errors);
        check_label_value(text("value"), &format!("{field}.value"), errors);
        let effect = text("effect");
        if effect.is_empty() {
            errors.push(FieldError::required(format!("{field}.effect"), ""));
        } else if !EFFECTS.contains(&effect) {
            errors.push(FieldError::not_supported(format!("{field}.effect"), effect, &EFFECTS));
        }
        let same = |other: &&Value| other["key"] == taint["key"] && other["effect"] == effect;
        if taints[..index].iter().any(|other| same(&other)) {
            let mut error = FieldError::duplicate(field, &Value::Null);
            let (key, value) = (text("key"), text("value"));
            error.message = format!(
                "Duplicate value: {{\"Key\":{key:?},\"Value\":{value:?},\"Effect\":{effect:?},\
                 \"TimeAdded\":null}}: taints must be unique by key and effect pair"
            );
            errors.push(error);
        }
    }
}

/// Upstream's `ValidateNodeUpdate`.
pub(crate) fn validate_update(old: &Value, new: &Value) -> Vec<FieldError> {
    let mut errors = Vec::new();
    validate(new, &mut errors);
    let addresses = new["status"]["addresses"].as_array().map_or(&[][..], Vec::as_slice);
    for (index, address) in addresses.iter().enumerate() {
        if addresses[..index].contains(address) {
            let field = format!("status.addresses[{index}]");
            errors.push(FieldError::duplicate(field, address));
        }
    }
    let (old, fresh) = (&old["spec"], &new["spec"]);
    if old["podCIDRs"].as_array().is_some_and(|c| !c.is_empty())
        && old["podCIDRs"] != fresh["podCIDRs"]
    {
        let detail = "node updates may not change podCIDR except from \"\" to valid";
        errors.push(FieldError::forbidden("spec.podCIDRs", detail));
    }
    let provider = |spec: &Value| spec["providerID"].as_str().unwrap_or("").to_owned();
    if !provider(old).is_empty() && provider(old) != provider(fresh) {
        let how = if provider(fresh).is_empty() { "cleared" } else { "modified" };
        let detail = format!("field cannot be {how} once set");
        errors.push(FieldError::invalid("spec.providerID", &Value::Null, &detail));
    }
    errors
}
