//! PUT and PATCH: new versions of objects.

use super::super::kinds::Kind;
use super::super::patch::{self, Apply, Layout};
use super::super::status::{ApiError, FieldError, Reason};
use super::super::store::{Object, StoreError};
use super::super::{admission, crd};
use super::decode::decode;
use super::query::FieldValidation;
use super::{Api, MAX_RETRIES, Query, Target, Written, modified, now, served};
use serde_json::{Value, json};

/// Kinds that PUT creates when they are absent.
fn creates_on_update(kind: &Kind) -> bool {
    kind.is("coordination.k8s.io", "leases")
        || kind.resource == "events"
        || kind.is("node.k8s.io", "runtimeclasses")
}

impl Api {
    pub(crate) fn update(
        &self,
        target: &Target,
        body: Value,
        query: &Query,
    ) -> Result<Written, ApiError> {
        let kind = &target.kind;
        let (object, warnings) = decode(kind, body, query.field_validation)?;
        check_place(target, &object)?;
        let key = kind.key(&target.namespace, &target.name);
        if creates_on_update(kind) && self.store.get(kind.collection, &key).is_none() {
            let body = served(kind, &object);
            return self.create(&Target { name: String::new(), ..target.clone() }, body, query);
        }
        let mut written = self.replace(target, query, |_| Ok(object.clone()))?;
        written.warnings = warnings;
        Ok(written)
    }

    pub(crate) fn patch(
        &self,
        target: &Target,
        content_type: &str,
        body: &[u8],
        query: &Query,
    ) -> Result<Written, ApiError> {
        if content_type == "application/apply-patch+yaml" {
            return self.apply(target, body, query);
        }
        let kind = &target.kind;
        let strategic = content_type == "application/strategic-merge-patch+json";
        let plain = ["application/merge-patch+json", "application/json-patch+json"];
        if !plain.contains(&content_type) && (kind.custom.is_some() || !strategic) {
            return Err(unsupported(kind));
        }
        let patch: Value = serde_json::from_slice(body)
            .map_err(|e| ApiError::bad_request(format!("error decoding patch: {e}")))?;
        let mut warnings = Vec::new();
        let mut written = self.replace(target, query, |old| {
            let mut object = served(kind, &old.value);
            match content_type {
                "application/merge-patch+json" => patch::merge(&mut object, &patch),
                "application/json-patch+json" => patch::json_patch(&mut object, patch.clone())?,
                _ => patch::strategic_merge(&kind.type_name, &mut object, &patch)?,
            }
            let (object, told) = decode(kind, object, query.field_validation)?;
            warnings = told;
            check_place(target, &object)?;
            Ok(object)
        })?;
        written.warnings = warnings;
        Ok(written)
    }

    fn apply(&self, target: &Target, body: &[u8], query: &Query) -> Result<Written, ApiError> {
        let kind = &target.kind;
        let text = std::str::from_utf8(body)
            .map_err(|e| ApiError::bad_request(format!("error decoding YAML: {e}")))?;
        let config: Value = serde_saphyr::from_str(text)
            .map_err(|e| ApiError::bad_request(format!("error decoding YAML: {e}")))?;
        if query.field_manager.is_empty() {
            let error = FieldError::required("fieldManager", "is required for apply patch");
            return Err(ApiError::invalid("meta.k8s.io", "PatchOptions", "", &[error]));
        }
        let stamp = now();
        let version = kind.api_version();
        let how = Apply {
            layout: match &kind.custom {
                Some(custom) => Layout::Schema(&custom.schema, true),
                None => Layout::Struct(&kind.type_name),
            },
            api_version: &version,
            manager: &query.field_manager,
            force: query.force,
            now: &stamp,
        };
        check_applied(target, &config)?;
        let (_, warnings) = decode(kind, config.clone(), query.field_validation)?;
        let key = kind.key(&target.namespace, &target.name);
        if self.store.get(kind.collection, &key).is_none() && target.subresource.is_empty() {
            let mut fresh = config.clone();
            fresh["metadata"]["name"] = json!(target.name);
            patch::apply(&how, &mut fresh, &config)?;
            check_place(target, &fresh)?;
            // a version of nothing is no condition
            set_or_remove(&mut fresh["metadata"], "resourceVersion", Value::Null);
            let collection = Target { name: String::new(), ..target.clone() };
            return self.create(&collection, fresh, query);
        }
        let mut written = self.replace(target, query, |old| {
            let mut object = served(kind, &old.value);
            patch::apply(&how, &mut object, &config)?;
            let version = &config["metadata"]["resourceVersion"];
            if version.is_string() {
                object["metadata"]["resourceVersion"] = version.clone();
            }
            let (object, _) = decode(kind, object, FieldValidation::Ignore)?;
            check_place(target, &object)?;
            Ok(object)
        })?;
        written.warnings = warnings;
        Ok(written)
    }

    fn replace(
        &self,
        target: &Target,
        query: &Query,
        mut make: impl FnMut(&Object) -> Result<Value, ApiError>,
    ) -> Result<Written, ApiError> {
        let kind = &target.kind;
        if query.dry_run {
            let old = self.get(target)?;
            let next = self.next(target, &old, make(&old)?)?;
            return Ok(Written { code: 200, body: served(kind, &next), warnings: Vec::new() });
        }
        let key = kind.key(&target.namespace, &target.name);
        for _ in 0..MAX_RETRIES {
            let old = self.get(target)?;
            let next = self.next(target, &old, make(&old)?)?;
            // what loses its last finalizer goes at once, as it was
            let released = is_released(&next);
            let done = match released {
                true => self.store.delete(kind.collection, &key, &old, old.value.clone()),
                false => self.store.update(kind.collection, &key, &old, next.clone()),
            };
            match done {
                Err(StoreError::Changed) => continue,
                Err(_) => {
                    return Err(ApiError::not_found(&kind.group, &kind.resource, &target.name));
                }
                Ok(stored) => {
                    let object = if released { &next } else { &stored.value };
                    if released {
                        self.deleted(target, &next);
                    }
                    self.written(target, if released { &Value::Null } else { object });
                    let body = served(kind, object);
                    return Ok(Written { code: 200, body, warnings: Vec::new() });
                }
            }
        }
        Err(modified(target))
    }

    /// The value to store for an update from `old` to what the client sent.
    fn next(&self, target: &Target, old: &Object, mut new: Value) -> Result<Value, ApiError> {
        let kind = &target.kind;
        check_preconditions(target, old, &new)?;
        let old_value = &old.value;
        if target.subresource == "status" {
            let status = new["status"].take();
            let metadata = new["metadata"].take();
            new = old_value.clone();
            set_or_remove(&mut new, "status", status);
            if kind.custom.is_none() && !metadata.is_null() {
                let owners = old_value["metadata"]["ownerReferences"].clone();
                new["metadata"] = metadata;
                set_or_remove(&mut new["metadata"], "ownerReferences", owners);
            }
        } else if kind.status {
            set_or_remove(&mut new, "status", old_value["status"].clone());
        }
        keep_metadata(kind, old_value, &mut new);
        if kind.is_pod() && target.subresource.is_empty() {
            let errors = admission::validate_pod_update(old_value, &new);
            if !errors.is_empty() {
                return Err(ApiError::invalid("", "Pod", &target.name, &errors));
            }
        }
        let mut errors = admission::validate_meta(kind, &new);
        if kind.is("", "nodes") {
            errors.extend(admission::validate_node_update(old_value, &new));
        }
        if kind.is("apiextensions.k8s.io", "customresourcedefinitions") {
            errors.extend(crd::validate_update(old_value, &new));
        }
        if let Some(custom) = &kind.custom {
            if target.subresource == "status" {
                let schema = &custom.schema["properties"]["status"];
                if let Some(status) = new.get("status") {
                    errors.extend(crd::validate_status(schema, status));
                }
            } else {
                errors.extend(crd::validate_object(&kind.kind, &custom.schema, &new));
            }
        }
        if !errors.is_empty() {
            let told = new["kind"].as_str().unwrap_or(&kind.kind);
            return Err(ApiError::invalid(&kind.group, told, &target.name, &errors));
        }
        if kind.is("apiextensions.k8s.io", "customresourcedefinitions") {
            crd::establish(&mut new, &now());
        }
        Ok(new)
    }
}

fn unsupported(kind: &Kind) -> ApiError {
    let strategic = match kind.custom {
        Some(_) => "",
        None => " application/strategic-merge-patch+json,",
    };
    let message = format!(
        "the body of the request was in an unknown format - accepted media types include: \
        application/json-patch+json, application/merge-patch+json,{strategic} \
        application/apply-patch+yaml"
    );
    ApiError::new(Reason::UnsupportedMediaType, message)
}

/// What upstream asks of an applied configuration before it looks at the object.
fn check_applied(target: &Target, config: &Value) -> Result<(), ApiError> {
    let kind = &target.kind;
    let text = |value: &Value| value.as_str().unwrap_or("").to_owned();
    let given = text(&config["kind"]);
    if given != kind.kind {
        let identity = format!("{}/{}, Kind={given}", kind.group, kind.version);
        return Err(ApiError::bad_request(format!("invalid object type: {identity}")));
    }
    let name = text(&config["metadata"]["name"]);
    // the schema of an applied object is strict
    let (_, unknown) = decode(kind, config.clone(), FieldValidation::Warn)?;
    let fields = unknown.iter().filter_map(|w| w.strip_prefix("unknown field \""));
    let fields: Vec<_> = fields
        .map(|f| format!(".{}: field not declared in schema", f.trim_end_matches('"')))
        .collect();
    let why = match &fields[..] {
        [] => return Ok(()),
        [one] => one.clone(),
        many => format!("errors:\n  {}", many.join("\n  ")),
    };
    let namespace = text(&config["metadata"]["namespace"]);
    Err(ApiError::internal(format!(
        "failed to create typed patch object ({namespace}/{name}; {}/{}, Kind={given}): {why}",
        kind.group, kind.version
    )))
}

fn set_or_remove(object: &mut Value, field: &str, value: Value) {
    let Some(map) = object.as_object_mut() else { return };
    if value.is_null() {
        map.remove(field);
    } else {
        map.insert(field.to_owned(), value);
    }
}

fn check_place(target: &Target, object: &Value) -> Result<(), ApiError> {
    let namespace = object["metadata"]["namespace"].as_str().unwrap_or("");
    if !namespace.is_empty() && target.kind.namespaced && namespace != target.namespace {
        return Err(ApiError::bad_request(
            "the namespace of the provided object does not match the namespace sent on the request",
        ));
    }
    let name = object["metadata"]["name"].as_str().unwrap_or("");
    if name != target.name {
        let asked = &target.name;
        return Err(ApiError::bad_request(match name {
            "" => format!(
                "the name of the object ({asked} based on URL) was undeterminable: name must be \
                 provided"
            ),
            _ => format!(
                "the name of the object ({name}) does not match the name on the URL ({asked})"
            ),
        }));
    }
    Ok(())
}

fn check_preconditions(target: &Target, old: &Object, new: &Value) -> Result<(), ApiError> {
    let kind = &target.kind;
    let uid = new["metadata"]["uid"].as_str().unwrap_or("");
    if !uid.is_empty() && uid != old.meta("uid") {
        let why = format!(
            "Precondition failed: UID in precondition: {uid}, UID in object meta: {}",
            old.meta("uid")
        );
        return Err(ApiError::conflict(&kind.group, &kind.resource, &target.name, &why));
    }
    let conditional = kind.custom.is_some() || needs_version(kind);
    match new["metadata"]["resourceVersion"].as_str().unwrap_or("") {
        "" if conditional => {
            let detail = "must be specified for an update";
            let error = FieldError::invalid("metadata.resourceVersion", &json!(0), detail);
            Err(ApiError::invalid(&kind.group, &kind.resource, &target.name, &[error]))
        }
        "" => Ok(()),
        version if version == old.meta("resourceVersion") => Ok(()),
        _ => Err(modified(target)),
    }
}

/// Fields of `metadata` that clients do not write, and the generation that counts their changes.
fn keep_metadata(kind: &Kind, old: &Value, new: &mut Value) {
    let before = &old["metadata"];
    for field in [
        "uid",
        "creationTimestamp",
        "deletionTimestamp",
        "deletionGracePeriodSeconds",
        "generation",
        "namespace",
        "resourceVersion",
        "generateName",
    ] {
        set_or_remove(&mut new["metadata"], field, before[field].clone());
    }
    let specification = |value: &Value| -> Vec<(String, Value)> {
        let fields = value.as_object().into_iter().flatten();
        let own = fields.filter(|(key, _)| !["metadata", "status"].contains(&key.as_str()));
        own.map(|(key, value)| (key.clone(), value.clone())).collect()
    };
    if kind.generation && specification(old) != specification(new) {
        let generation = before["generation"].as_i64().unwrap_or(0);
        new["metadata"]["generation"] = json!(generation + 1);
    }
}

/// Whether an object being deleted has lost its last finalizer and its grace.
fn is_released(object: &Value) -> bool {
    let metadata = &object["metadata"];
    metadata["deletionTimestamp"].is_string()
        && metadata["deletionGracePeriodSeconds"].as_i64().unwrap_or(0) == 0
        && metadata["finalizers"].as_array().is_none_or(Vec::is_empty)
}

/// Kinds whose updates must name the version that they replace, as upstream's strategies say.
fn needs_version(kind: &Kind) -> bool {
    matches!(
        kind.resource.as_str(),
        "leases"
            | "runtimeclasses"
            | "poddisruptionbudgets"
            | "csidrivers"
            | "csinodes"
            | "csistoragecapacities"
            | "volumeattachments"
    ) && kind.custom.is_none()
}
