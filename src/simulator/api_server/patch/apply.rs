//! Server-side apply, simplified: fields are owned by the managers that applied them.
//!
//! Owned fields are kept in `metadata.managedFields` in upstream's form, for `Apply` managers
//! only; other writes are not tracked. So a conflict arises between two appliers, never between
//! an applier and an updater, and what an updater changed an applier takes back silently.

use super::super::schema::{Shape, lookup};
use super::super::status::{ApiError, Reason};
use serde_json::{Map, Value, json};

/// Who applies, and how.
pub(crate) struct Apply<'a> {
    /// The Go struct of the object, empty for custom kinds.
    pub(crate) type_name: &'a str,
    pub(crate) api_version: &'a str,
    pub(crate) manager: &'a str,
    /// Takes fields from other managers instead of failing.
    pub(crate) force: bool,
    pub(crate) now: &'a str,
}

/// Applies `config` to `live` in place.
///
/// # Errors
/// 409 when another manager applied a different value to a field, unless forced.
pub(crate) fn apply(how: &Apply<'_>, live: &mut Value, config: &Value) -> Result<(), ApiError> {
    let mut config = config.clone();
    strip(&mut config);
    let fields = field_set(how.type_name, &config);
    let mut managers = live["metadata"]["managedFields"].as_array().cloned().unwrap_or_default();
    let mine = |m: &Value| m["manager"] == how.manager && m["operation"] == "Apply";
    let before = managers.iter().find(|m| mine(m)).map(|m| m["fieldsV1"].clone());
    for other in managers.iter_mut().filter(|m| !mine(m)) {
        let mut shared = Vec::new();
        differing(&fields, &other["fieldsV1"], live, &config, "", &mut shared);
        if shared.is_empty() {
            continue;
        }
        if !how.force {
            return Err(conflict(other["manager"].as_str().unwrap_or(""), &shared));
        }
        subtract(&mut other["fieldsV1"], &fields);
    }
    if let Some(before) = before {
        let others: Vec<&Value> =
            managers.iter().filter(|m| !mine(m)).map(|m| &m["fieldsV1"]).collect();
        drop_abandoned(live, &before, &fields, &others);
    }
    merge_typed(how.type_name, live, &config);
    managers.retain(|m| !mine(m));
    managers.push(json!({
        "manager": how.manager, "operation": "Apply", "apiVersion": how.api_version,
        "time": how.now, "fieldsType": "FieldsV1", "fieldsV1": fields,
    }));
    live["metadata"]["managedFields"] = Value::Array(managers);
    Ok(())
}

/// Removes what nobody owns: identity, and what the server writes.
fn strip(config: &mut Value) {
    if let Some(map) = config["metadata"].as_object_mut() {
        map.retain(|key, value| {
            !["managedFields", "uid", "creationTimestamp", "resourceVersion", "generation"]
                .contains(&key.as_str())
                && !value.is_null()
        });
    }
}

fn item_key(keys: &[&str], item: &Value) -> String {
    let mut identity = Map::new();
    for key in keys {
        let value = match &item[*key] {
            Value::Null if *key == "protocol" => json!("TCP"),
            value => value.clone(),
        };
        identity.insert((*key).to_owned(), value);
    }
    format!("k:{}", Value::Object(identity))
}

/// The keys and the item type of a field that is a list map.
fn list_map(type_name: &str, key: &str) -> Option<(Vec<&'static str>, &'static str)> {
    let field = lookup(type_name)?.fields.get(key)?;
    let keys = field.list_keys.clone().filter(|k| !k.is_empty())?;
    match &field.shape {
        Shape::List(item) => match **item {
            Shape::Struct(name) => Some((keys, name)),
            _ => None,
        },
        _ => None,
    }
}

fn inner_type(type_name: &str, key: &str) -> Option<&'static str> {
    match lookup(type_name)?.fields.get(key)?.shape {
        Shape::Struct(name) => Some(name),
        _ => None,
    }
}

fn field_set(type_name: &str, value: &Value) -> Value {
    let mut set = Map::new();
    for (key, item) in value.as_object().into_iter().flatten() {
        if type_name.is_empty() && ["apiVersion", "kind"].contains(&key.as_str()) {
            continue;
        }
        let entry = match (list_map(type_name, key), item) {
            (Some((keys, inner)), Value::Array(items)) => {
                let mut entries = Map::new();
                for item in items {
                    let mut fields = field_set(inner, item);
                    fields["."] = json!({});
                    entries.insert(item_key(&keys, item), fields);
                }
                Value::Object(entries)
            }
            (None, Value::Object(_)) => field_set(inner_type(type_name, key).unwrap_or("-"), item),
            _ => json!({}),
        };
        let root = ["apiVersion", "kind"].contains(&key.as_str()) && value["metadata"].is_object();
        let name = ["name", "namespace"].contains(&key.as_str()) && type_name == "meta.ObjectMeta";
        if !root && !name {
            set.insert(format!("f:{key}"), entry);
        }
    }
    Value::Object(set)
}

/// Finds the child of `value` that a field set's key names.
fn child<'a>(value: &'a Value, key: &str) -> Option<&'a Value> {
    if let Some(name) = key.strip_prefix("f:") {
        return value.get(name);
    }
    let identity: Value = serde_json::from_str(key.strip_prefix("k:")?).ok()?;
    value.as_array()?.iter().find(|item| is_item(item, &identity))
}

fn is_item(item: &Value, identity: &Value) -> bool {
    identity
        .as_object()
        .into_iter()
        .flatten()
        .all(|(key, value)| item[key] == *value || (item[key].is_null() && *value == "TCP"))
}

fn differing(
    mine: &Value,
    theirs: &Value,
    live: &Value,
    config: &Value,
    path: &str,
    found: &mut Vec<String>,
) {
    for (key, fields) in mine.as_object().into_iter().flatten() {
        let Some(other) = theirs.get(key) else { continue };
        let (Some(have), Some(want)) = (child(live, key), child(config, key)) else { continue };
        let step = match key.strip_prefix("f:") {
            Some(name) => format!("{path}.{name}"),
            None => format!("{path}[{}]", key.trim_start_matches("k:")),
        };
        if fields.as_object().is_some_and(|f| !f.is_empty()) {
            differing(fields, other, have, want, &step, found);
        } else if have != want {
            found.push(step);
        }
    }
}

fn conflict(manager: &str, fields: &[String]) -> ApiError {
    let count = fields.len();
    let (noun, list) = match fields {
        [one] => ("conflict", format!(": {one}")),
        many => ("conflicts", format!(":\n- {}", many.join("\n- "))),
    };
    let message = format!("Apply failed with {count} {noun}: {noun} with {manager:?}{list}");
    let causes: Vec<_> = fields
        .iter()
        .map(|field| {
            json!({ "reason": "FieldManagerConflict", "field": field,
                "message": format!("conflict with {manager:?}") })
        })
        .collect();
    ApiError { details: json!({ "causes": causes }), ..ApiError::new(Reason::Conflict, message) }
}

fn subtract(from: &mut Value, set: &Value) {
    let Some(map) = from.as_object_mut() else { return };
    map.retain(|key, fields| match set.get(key) {
        None => true,
        Some(inner) if inner.as_object().is_some_and(|i| !i.is_empty()) => {
            subtract(fields, inner);
            fields.as_object().is_some_and(|f| !f.is_empty())
        }
        Some(_) => false,
    });
}

/// Removes from `live` what was applied before, is not applied now, and is owned by nobody else.
fn drop_abandoned(live: &mut Value, before: &Value, now: &Value, others: &[&Value]) {
    for (key, fields) in before.as_object().into_iter().flatten().filter(|(key, _)| *key != ".") {
        let theirs: Vec<&Value> = others.iter().filter_map(|o| o.get(key)).collect();
        if let Some(inner) = now.get(key) {
            if let Some(name) = key.strip_prefix("f:")
                && let Some(next) = live.get_mut(name)
            {
                drop_abandoned(next, fields, inner, &theirs);
            } else if let Some(identity) = key.strip_prefix("k:")
                && let Ok(identity) = serde_json::from_str(identity)
                && let Some(items) = live.as_array_mut()
                && let Some(item) = items.iter_mut().find(|i| is_item(i, &identity))
            {
                drop_abandoned(item, fields, inner, &theirs);
            }
        } else if theirs.is_empty() {
            remove(live, key);
        }
    }
}

fn remove(live: &mut Value, key: &str) {
    if let Some(name) = key.strip_prefix("f:") {
        if let Some(map) = live.as_object_mut() {
            map.remove(name);
        }
    } else if let Some(identity) = key.strip_prefix("k:")
        && let Ok(identity) = serde_json::from_str(identity)
        && let Some(items) = live.as_array_mut()
    {
        items.retain(|item| !is_item(item, &identity));
    }
}

fn merge_typed(type_name: &str, live: &mut Value, config: &Value) {
    let Some(config) = config.as_object() else {
        *live = config.clone();
        return;
    };
    if !live.is_object() {
        *live = json!({});
    }
    for (key, value) in config {
        match (list_map(type_name, key), value) {
            (Some((keys, inner)), Value::Array(items)) => {
                if !live[key].is_array() {
                    live[key] = json!([]);
                }
                let Some(list) = live[key].as_array_mut() else { continue };
                for item in items {
                    let identity = item_key(&keys, item);
                    match list.iter_mut().find(|l| item_key(&keys, l) == identity) {
                        Some(old) => merge_typed(inner, old, item),
                        None => list.push(item.clone()),
                    }
                }
            }
            (None, Value::Object(_)) => {
                merge_typed(inner_type(type_name, key).unwrap_or("-"), &mut live[key], value);
            }
            _ => live[key] = value.clone(),
        }
    }
}
