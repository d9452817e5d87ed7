//! What happens to an object between decoding and storing: defaults, admission, validation.

mod meta;
mod node;
mod pod;
mod pod_defaults;
mod pod_update;
mod workloads;

pub(crate) use meta::validate_meta;
pub(crate) use node::validate_update as validate_node_update;
pub(crate) use pod::{has_gates, set_condition};
pub(crate) use pod_update::validate_pod_update;

use super::kinds::Kind;
use super::status::{ApiError, FieldError};
use super::store::{CollectionId, Store};
use serde_json::{Value, json};

/// What admission looks up.
pub(crate) struct Context<'a> {
    pub(crate) store: &'a Store,
    pub(crate) priority_classes: CollectionId,
}

/// Upstream's defaulting, run on every write.
pub(crate) fn set_defaults(kind: &Kind, object: &mut Value) {
    match (kind.group.as_str(), kind.resource.as_str()) {
        ("", "pods") => pod_defaults::pod(object),
        ("", "nodes") => {
            let capacity = object["status"]["capacity"].clone();
            if object["status"]["allocatable"].is_null() && capacity.is_object() {
                object["status"]["allocatable"] = capacity;
            }
        }
        ("", "namespaces") => default_namespace(object),
        ("scheduling.k8s.io", "priorityclasses") => {
            default(object, "preemptionPolicy", json!("PreemptLowerPriority"));
        }
        ("storage.k8s.io", "storageclasses") => {
            default(object, "reclaimPolicy", json!("Delete"));
            default(object, "volumeBindingMode", json!("Immediate"));
        }
        ("", "secrets") => default(object, "type", json!("Opaque")),
        ("", "services" | "persistentvolumes" | "persistentvolumeclaims")
        | ("", "replicationcontrollers" | "podtemplates")
        | ("apps" | "batch", _) => workloads::defaults(kind, object),
        _ => {}
    }
}

/// Writes `value` where nothing is.
fn default(object: &mut Value, field: &str, value: Value) {
    if object[field].is_null() {
        object[field] = value;
    }
}

fn default_namespace(object: &mut Value) {
    let name = object["metadata"]["name"].clone();
    if name.is_string() {
        object["metadata"]["labels"]["kubernetes.io/metadata.name"] = name;
    }
}

/// Upstream's `PrepareForCreate` and mutating admission: what a new object starts with.
pub(crate) fn prepare_create(
    context: &Context<'_>,
    kind: &Kind,
    object: &mut Value,
) -> Result<(), ApiError> {
    match (kind.group.as_str(), kind.resource.as_str()) {
        ("", "pods") => return pod::prepare_create(context, object),
        // a kubelet registers its node with a status
        ("", "nodes") => {}
        ("", "namespaces") => {
            object["status"] = json!({ "phase": "Active" });
            object["spec"]["finalizers"] = json!(["kubernetes"]);
        }
        ("", "persistentvolumes" | "persistentvolumeclaims") => {
            object["status"] = json!({ "phase": "Pending" });
        }
        ("policy", _) => object["status"] = empty_budget_status(),
        ("", "services") => object["status"] = json!({ "loadBalancer": {} }),
        ("apps", "daemonsets") => {
            object["status"] = json!({ "currentNumberScheduled": 0, "numberMisscheduled": 0,
                "desiredNumberScheduled": 0, "numberReady": 0 });
        }
        ("apps", "statefulsets") => {
            object["status"] = json!({ "replicas": 0, "availableReplicas": 0 });
        }
        ("apps", "replicasets") | ("", "replicationcontrollers") => {
            object["status"] = json!({ "replicas": 0 });
        }
        _ if kind.status && kind.custom.is_none() => object["status"] = json!({}),
        _ if kind.status => {
            if let Some(map) = object.as_object_mut() {
                map.remove("status");
            }
        }
        _ => {}
    }
    Ok(())
}

fn empty_budget_status() -> Value {
    json!({ "disruptionsAllowed": 0, "currentHealthy": 0, "desiredHealthy": 0, "expectedPods": 0 })
}

/// Validates a new object beyond its metadata.
pub(crate) fn validate_create(kind: &Kind, object: &Value) -> Vec<FieldError> {
    let mut errors = validate_meta(kind, object);
    match (kind.group.as_str(), kind.resource.as_str()) {
        ("", "pods") => pod::validate(&object["spec"], "spec", &mut errors),
        ("", "nodes") => node::validate(object, &mut errors),
        ("scheduling.k8s.io", "priorityclasses") => validate_priority_class(object, &mut errors),
        _ => {}
    }
    errors
}

/// User-defined classes may not be more important than this.
const HIGHEST_USER_PRIORITY: i64 = 1_000_000_000;

fn validate_priority_class(object: &Value, errors: &mut Vec<FieldError>) {
    let value = object["value"].as_i64().unwrap_or(0);
    let name = object["metadata"]["name"].as_str().unwrap_or("");
    if value > HIGHEST_USER_PRIORITY && !name.starts_with("system-") {
        let detail = format!(
            "maximum allowed value of a user defined priority is \
            {HIGHEST_USER_PRIORITY}"
        );
        errors.push(FieldError::forbidden("value", &detail));
    }
    let policy = object["preemptionPolicy"].as_str().unwrap_or("");
    if !["PreemptLowerPriority", "Never"].contains(&policy) {
        let valid = ["Never", "PreemptLowerPriority"];
        errors.push(FieldError::not_supported("preemptionPolicy", policy, &valid));
    }
}
