//! `POST pods/NAME/binding`: a pod gets its node, once.

use super::super::admission;
use super::super::status::ApiError;
use super::{Api, Query, Target, Written, now};
use serde_json::{Value, json};

impl Api {
    pub(crate) fn bind(
        &self,
        target: &Target,
        binding: &Value,
        query: &Query,
    ) -> Result<Written, ApiError> {
        let metadata = &binding["metadata"];
        let name = metadata["name"].as_str().unwrap_or("");
        // `POST bindings` names the pod in the body alone
        let target = if target.name.is_empty() {
            target.named(&target.namespace, name)
        } else {
            target.clone()
        };
        if name != target.name {
            let message = match name {
                "" => "name must be provided",
                _ => "name in URL does not match name in Binding object",
            };
            return Err(ApiError::bad_request(message));
        }
        let given = metadata["namespace"].as_str().unwrap_or("");
        if !given.is_empty() && given != target.namespace {
            return Err(ApiError::bad_request(
                "the namespace of the provided object does not \
                match the namespace sent on the request",
            ));
        }
        let node = check_target(&binding["target"])?;
        let stamp = now();
        let change = |old: &super::Object| {
            check(&target, old, metadata)?;
            let mut pod = old.value.clone();
            pod["spec"]["nodeName"] = json!(node);
            if let Some(status) = pod["status"].as_object_mut() {
                status.remove("nominatedNodeName");
            }
            for field in ["annotations", "labels"] {
                for (key, value) in metadata[field].as_object().into_iter().flatten() {
                    pod["metadata"][field][key] = value.clone();
                }
            }
            let condition = [("type", "PodScheduled"), ("status", "True")];
            admission::set_condition(&mut pod, &condition, &stamp);
            Ok(pod)
        };
        if query.dry_run {
            change(&*self.get(&target)?)?;
        } else {
            self.guaranteed_update(&target, change)?;
        }
        Ok(Written { code: 201, body: success(), warnings: Vec::new() })
    }
}

pub(super) fn success() -> Value {
    json!({ "kind": "Status", "apiVersion": "v1", "metadata": {}, "status": "Success",
        "code": 201 })
}

fn check_target(target: &Value) -> Result<&str, ApiError> {
    // upstream answers these as errors that it did not expect: 500 without a reason
    let kind = target["kind"].as_str().unwrap_or("");
    if !["", "Node"].contains(&kind) {
        let message = format!(
            "target.kind: Unsupported value: {kind:?}: supported values: \
            \"Node\", \"<empty>\""
        );
        return Err(ApiError::internal(message));
    }
    match target["name"].as_str().unwrap_or("") {
        "" => Err(ApiError::internal("target.name: Required value")),
        name => Ok(name),
    }
}

/// The checks of upstream's `setPodNodeAndMetadata`, in its order.
fn check(target: &Target, old: &super::Object, metadata: &Value) -> Result<(), ApiError> {
    let name = &target.name;
    for (field, label) in [("uid", "UID"), ("resourceVersion", "ResourceVersion")] {
        let wanted = metadata[field].as_str().unwrap_or("");
        if !wanted.is_empty() && wanted != old.meta(field) {
            let why = format!(
                "StorageError: invalid object, Code: 4, Key: /registry/pods/{}/{name}, \
                 ResourceVersion: 0, AdditionalErrorMsg: Precondition failed: {label} in \
                 precondition: {wanted}, {label} in object meta: {}",
                target.namespace,
                old.meta(field)
            );
            return Err(ApiError::conflict("", "pods", name, &why));
        }
    }
    let refused = |why: String| Err(ApiError::conflict("", "pods/binding", name, &why));
    if old.value["metadata"]["deletionTimestamp"].is_string() {
        return refused(format!("pod {name} is being deleted, cannot be assigned to a host"));
    }
    if let Some(node) = old.value["spec"]["nodeName"].as_str().filter(|n| !n.is_empty()) {
        return refused(format!("pod {name} is already assigned to node {node:?}"));
    }
    if admission::has_gates(&old.value["spec"]) {
        return refused(format!("pod {name} has non-empty .spec.schedulingGates"));
    }
    Ok(())
}
