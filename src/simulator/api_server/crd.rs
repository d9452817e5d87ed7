//! Custom resource definitions: what they add to the served kinds.

use super::kinds::{Kind, Registry};
use super::status::FieldError;
use super::store::Store;
use serde_json::{Value, json};
use std::sync::Arc;

/// Deeper values are cut from schema work, so that a hostile body cannot exhaust the stack.
const MAX_DEPTH: usize = 64;

/// What one version of a definition says beyond names.
#[derive(Debug)]
pub(crate) struct CustomKind {
    /// `openAPIV3Schema`, `Null` when there is none.
    pub(crate) schema: Value,
    /// `additionalPrinterColumns`.
    pub(crate) columns: Vec<Value>,
    pub(crate) list_kind: String,
}

/// Serves the kinds of `definition` in place of those it served before.
pub(crate) fn install(registry: &mut Registry, store: &Store, definition: &Value) {
    let spec = &definition["spec"];
    let names = &spec["names"];
    let text = |v: &Value| v.as_str().unwrap_or("").to_owned();
    let group = text(&spec["group"]);
    let resource = text(&names["plural"]);
    let known = registry.iter().find(|k| k.is(&group, &resource)).map(|k| k.collection);
    let collection = known.unwrap_or_else(|| store.add_collection());
    registry.remove_group_resource(&group, &resource);
    let strings = |v: &Value| v.as_array().into_iter().flatten().map(text).collect::<Vec<_>>();
    let kind = text(&names["kind"]);
    for version in spec["versions"].as_array().into_iter().flatten() {
        if version["served"] != true {
            continue;
        }
        registry.add(Kind {
            group: group.clone(),
            version: text(&version["name"]),
            resource: resource.clone(),
            singular: match text(&names["singular"]) {
                empty if empty.is_empty() => kind.to_lowercase(),
                singular => singular,
            },
            kind: kind.clone(),
            namespaced: spec["scope"] == "Namespaced",
            short_names: strings(&names["shortNames"]),
            categories: strings(&names["categories"]),
            status: version["subresources"]["status"].is_object(),
            virtual_: false,
            generation: true,
            type_name: String::new(),
            custom: Some(Arc::new(CustomKind {
                schema: version["schema"]["openAPIV3Schema"].clone(),
                columns: version["additionalPrinterColumns"]
                    .as_array()
                    .cloned()
                    .unwrap_or_default(),
                list_kind: match text(&names["listKind"]) {
                    empty if empty.is_empty() => format!("{kind}List"),
                    list => list,
                },
            })),
            collection,
        });
    }
}

/// What the definition's controller upstream writes: names accepted, established.
pub(crate) fn establish(definition: &mut Value, now: &str) {
    let names = definition["spec"]["names"].clone();
    let names = default_names(names);
    definition["spec"]["names"] = names.clone();
    let stored: Vec<Value> = definition["spec"]["versions"]
        .as_array()
        .into_iter()
        .flatten()
        .filter(|v| v["storage"] == true)
        .map(|v| v["name"].clone())
        .collect();
    let condition = |kind: &str, reason: &str, message: &str| {
        json!({ "type": kind, "status": "True", "reason": reason, "message": message,
            "lastTransitionTime": now })
    };
    definition["status"] = json!({
        "acceptedNames": names,
        "storedVersions": stored,
        "conditions": [
            condition("NamesAccepted", "NoConflicts", "no conflicts found"),
            condition("Established", "InitialNamesAccepted",
                "the initial names have been accepted"),
        ],
    });
}

fn default_names(mut names: Value) -> Value {
    let kind = names["kind"].as_str().unwrap_or("").to_owned();
    if names["singular"].as_str().unwrap_or("").is_empty() {
        names["singular"] = json!(kind.to_lowercase());
    }
    if names["listKind"].as_str().unwrap_or("").is_empty() {
        names["listKind"] = json!(format!("{kind}List"));
    }
    names
}

/// Prunes unknown fields, fills in defaults and drops forbidden nulls, as a structural schema
/// says. Paths of unknown fields go to `unknown`.
pub(crate) fn prune_and_default(
    schema: &Value,
    value: &mut Value,
    path: &str,
    unknown: &mut Vec<String>,
) {
    if path.matches('.').count() > MAX_DEPTH {
        return;
    }
    if let Some(items) = value.as_array_mut() {
        for (index, item) in items.iter_mut().enumerate() {
            prune_and_default(&schema["items"], item, &format!("{path}[{index}]"), unknown);
        }
        return;
    }
    let Some(map) = value.as_object_mut() else { return };
    let join = |key: &str| if path.is_empty() { key.to_owned() } else { format!("{path}.{key}") };
    let properties = schema["properties"].as_object();
    let additional = &schema["additionalProperties"];
    let keep = schema["x-kubernetes-preserve-unknown-fields"] == true
        || additional.is_object()
        || *additional == true;
    let embedded = schema["x-kubernetes-embedded-resource"] == true || path.is_empty();
    map.retain(|key, _| {
        let known = keep
            || properties.is_some_and(|p| p.contains_key(key))
            || (embedded && ["apiVersion", "kind", "metadata"].contains(&key.as_str()));
        if !known {
            unknown.push(join(key));
        }
        known
    });
    for (key, property) in properties.into_iter().flatten() {
        if map.get(key).is_some_and(Value::is_null) && property["nullable"] != true {
            map.remove(key);
        }
        if let (None, Some(default)) = (map.get(key), property.get("default")) {
            map.insert(key.clone(), default.clone());
        }
        if path.is_empty() && key == "metadata" {
            continue;
        }
        if let Some(item) = map.get_mut(key) {
            prune_and_default(property, item, &join(key), unknown);
        }
    }
    if additional.is_object() {
        let names: Vec<_> = map.keys().cloned().collect();
        for key in names.iter().filter(|k| properties.is_none_or(|p| !p.contains_key(*k))) {
            prune_and_default(additional, &mut map[key], &join(key), unknown);
        }
    }
}

/// Checks types, required fields, enumerations and bounds. Upstream's CEL rules are not run.
pub(crate) fn validate(schema: &Value, value: &Value, path: &str, errors: &mut Vec<FieldError>) {
    if path.matches('.').count() > MAX_DEPTH || (value.is_null() && schema["nullable"] == true) {
        return;
    }
    if !type_fits(schema, value) {
        let want = schema["type"].as_str().unwrap_or("");
        let found = type_name(value);
        let detail = format!("{path} in body must be of type {want}: {found:?}");
        errors.push(FieldError {
            reason: "FieldValueTypeInvalid",
            field: path.to_owned(),
            message: format!("Invalid value: {found:?}: {detail}"),
        });
        return;
    }
    if let Some(valid) = schema["enum"].as_array()
        && !valid.contains(value)
    {
        let names: Vec<_> = valid.iter().filter_map(Value::as_str).collect();
        errors.push(FieldError::not_supported(path, value.as_str().unwrap_or(""), &names));
    }
    bounds(schema, value, path, errors);
    let join = |key: &str| if path.is_empty() { key.to_owned() } else { format!("{path}.{key}") };
    if let Some(map) = value.as_object() {
        for key in schema["required"].as_array().into_iter().flatten().filter_map(Value::as_str) {
            if !map.contains_key(key) {
                errors.push(FieldError::required(join(key), ""));
            }
        }
        for (key, item) in map {
            let property = &schema["properties"][key];
            let property =
                if property.is_null() { &schema["additionalProperties"] } else { property };
            if property.is_object() && !(path.is_empty() && key == "metadata") {
                validate(property, item, &join(key), errors);
            }
        }
    }
    for (index, item) in value.as_array().into_iter().flatten().enumerate() {
        validate(&schema["items"], item, &format!("{path}[{index}]"), errors);
    }
}

fn bounds(schema: &Value, value: &Value, path: &str, errors: &mut Vec<FieldError>) {
    let mut told = |limit: &str, text: String| {
        let detail = format!("{path} in body should be {limit} {text}");
        errors.push(FieldError::invalid(path, value, &detail));
    };
    if let Some(number) = value.as_f64() {
        if schema["minimum"].as_f64().is_some_and(|m| number < m) {
            told("greater than or equal to", schema["minimum"].to_string());
        }
        if schema["maximum"].as_f64().is_some_and(|m| number > m) {
            told("less than or equal to", schema["maximum"].to_string());
        }
    }
    if let Some(text) = value.as_str() {
        let length = text.chars().count() as u64;
        if schema["minLength"].as_u64().is_some_and(|m| length < m) {
            told("at least", format!("{} chars long", schema["minLength"]));
        }
        if schema["maxLength"].as_u64().is_some_and(|m| length > m) {
            told("at most", format!("{} chars long", schema["maxLength"]));
        }
    }
}

fn type_fits(schema: &Value, value: &Value) -> bool {
    if schema["x-kubernetes-int-or-string"] == true {
        return value.is_string() || value.is_i64();
    }
    match schema["type"].as_str() {
        Some("object") => value.is_object(),
        Some("array") => value.is_array(),
        Some("string") => value.is_string(),
        Some("integer") => value.is_i64() || value.is_u64(),
        Some("number") => value.is_number(),
        Some("boolean") => value.is_boolean(),
        _ => true,
    }
}

fn type_name(value: &Value) -> &'static str {
    match value {
        Value::Null => "null",
        Value::Bool(_) => "boolean",
        Value::Number(n) if n.is_f64() => "number",
        Value::Number(_) => "integer",
        Value::String(_) => "string",
        Value::Array(_) => "array",
        Value::Object(_) => "object",
    }
}
