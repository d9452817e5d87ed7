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
    if definition["spec"]["conversion"].is_null() {
        definition["spec"]["conversion"] = json!({ "strategy": "None" });
    }
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

/// What may not change once others rely on it.
pub(crate) fn validate_update(old: &Value, new: &Value) -> Vec<FieldError> {
    let fields = ["/spec/scope", "/spec/names/kind", "/spec/group", "/spec/names/plural"];
    let changed = fields.into_iter().filter(|field| old.pointer(field) != new.pointer(field));
    let error = |field: &str| {
        let value = new.pointer(field).unwrap_or(&Value::Null);
        FieldError::invalid(field[1..].replace('/', "."), value, "field is immutable")
    };
    changed.map(error).collect()
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

/// Checks types, required fields, enumerations, bounds and the keys of lists. Upstream's CEL rules
/// and patterns are not run.
pub(crate) fn validate_object(kind: &str, schema: &Value, object: &Value) -> Vec<FieldError> {
    let mut errors = Vec::new();
    if object["kind"] == kind {
        validate(schema, object, "", &mut errors);
    } else {
        let detail = format!("must be {kind}");
        errors.push(FieldError::invalid("kind", &object["kind"], &detail));
        list_keys(schema, object, "", &mut errors);
    }
    errors
}

fn validate(schema: &Value, value: &Value, path: &str, errors: &mut Vec<FieldError>) {
    check(schema, value, path, errors);
    list_keys(schema, value, path, errors);
}

/// Validates a status alone; as upstream, messages name fields from there.
pub(crate) fn validate_status(schema: &Value, status: &Value) -> Vec<FieldError> {
    let mut errors = Vec::new();
    validate(schema, status, "", &mut errors);
    for error in &mut errors {
        let dot = if error.field.is_empty() { "" } else { "." };
        error.field = format!("status{dot}{}", error.field);
    }
    errors
}

fn check(schema: &Value, value: &Value, path: &str, errors: &mut Vec<FieldError>) {
    if path.matches('.').count() > MAX_DEPTH || (value.is_null() && schema["nullable"] == true) {
        return;
    }
    if !type_fits(schema, value) {
        let want = schema["type"].as_str().unwrap_or("integer,string");
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
                check(property, item, &join(key), errors);
            }
        }
    }
    for (index, item) in value.as_array().into_iter().flatten().enumerate() {
        check(&schema["items"], item, &format!("{path}[{index}]"), errors);
    }
}

fn bounds(schema: &Value, value: &Value, path: &str, errors: &mut Vec<FieldError>) {
    let mut told = |limit: &str, text: String| {
        let detail = format!("{path} in body should {limit} {text}");
        errors.push(FieldError::invalid(path, value, &detail));
    };
    if let Some(number) = value.as_f64() {
        if schema["minimum"].as_f64().is_some_and(|m| number < m) {
            told("be greater than or equal to", schema["minimum"].to_string());
        }
        if schema["maximum"].as_f64().is_some_and(|m| number > m) {
            told("be less than or equal to", schema["maximum"].to_string());
        }
    }
    let length = match value {
        Value::String(text) => text.chars().count() as u64,
        Value::Array(items) => items.len() as u64,
        _ => return,
    };
    let (least, most, unit) =
        if value.is_string() { ("minLength", "maxLength", "chars long") } else { ITEMS };
    if let Some(least) = schema[least].as_u64().filter(|m| length < *m) {
        let verb = if value.is_string() { "be" } else { "have" };
        told(&format!("{verb} at least"), format!("{least} {unit}"));
    }
    if let Some(most) = schema[most].as_u64().filter(|m| length > *m) {
        let plural = if most == 1 { "" } else { "s" };
        let (reason, message) = if value.is_string() {
            ("FieldValueTooLong", format!("Too long: may not be more than {most} byte{plural}"))
        } else {
            let message = format!("Too many: {length}: must have at most {most} item{plural}");
            ("FieldValueTooMany", message)
        };
        errors.push(FieldError { reason, field: path.to_owned(), message });
    }
}

const ITEMS: (&str, &str, &str) = ("minItems", "maxItems", "items");

/// Sets have no item twice, and map lists no key.
fn list_keys(schema: &Value, value: &Value, path: &str, errors: &mut Vec<FieldError>) {
    if path.matches('.').count() > MAX_DEPTH {
        return;
    }
    let items = value.as_array().map_or(&[][..], Vec::as_slice);
    let keys: Vec<&str> = schema["x-kubernetes-list-map-keys"]
        .as_array()
        .map(|keys| keys.iter().filter_map(Value::as_str).collect())
        .unwrap_or_default();
    let identity = |item: &Value| match schema["x-kubernetes-list-type"].as_str() {
        Some("set") => Some(item.clone()),
        Some("map") => {
            let own =
                keys.iter().filter_map(|key| Some(((*key).to_owned(), item.get(key)?.clone())));
            Some(Value::Object(own.collect()))
        }
        _ => None,
    };
    let identities: Vec<_> = items.iter().map(identity).collect();
    for (index, mine) in identities.iter().enumerate() {
        if let Some(mine) = mine
            && identities[..index].iter().filter(|other| other.as_ref() == Some(mine)).count() == 1
        {
            errors.push(FieldError::duplicate(format!("{path}[{index}]"), mine));
        }
    }
    for (index, item) in items.iter().enumerate() {
        list_keys(&schema["items"], item, &format!("{path}[{index}]"), errors);
    }
    for (key, item) in value.as_object().into_iter().flatten() {
        let property = &schema["properties"][key];
        let property = if property.is_null() { &schema["additionalProperties"] } else { property };
        if property.is_object() && !(path.is_empty() && key == "metadata") {
            let path = if path.is_empty() { key.clone() } else { format!("{path}.{key}") };
            list_keys(property, item, &path, errors);
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
