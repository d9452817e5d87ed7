//! Server-side apply, simplified: fields are owned by the managers that applied them.
//!
//! Owned fields are kept in `metadata.managedFields` in upstream's form, for `Apply` managers
//! only; other writes are not tracked. So a conflict arises between two appliers, never between
//! an applier and an updater, and what an updater changed an applier takes back silently.

use super::super::schema::{Field, Shape, lookup};
use super::super::status::{ApiError, Reason};
use serde_json::{Map, Value, json};
use std::collections::BTreeMap;

/// What is known of a value's lists.
#[derive(Clone, Copy)]
pub(crate) enum Layout<'a> {
    /// A Go struct.
    Struct(&'a str),
    /// The schema of a custom kind; `true` for the whole object.
    Schema(&'a Value, bool),
    Unknown,
}

/// How the items of a list are told apart.
enum Merging<'a> {
    ByKeys(Vec<&'a str>, Layout<'a>),
    Set,
    Atomic,
}

impl<'a> Layout<'a> {
    fn is_object_root(self) -> bool {
        matches!(self, Layout::Schema(_, true))
    }

    fn property(self, key: &str) -> &'a Value {
        const NONE: &Value = &Value::Null;
        let Layout::Schema(schema, _) = self else { return NONE };
        let found = schema["properties"].get(key).or_else(|| schema.get("additionalProperties"));
        found.unwrap_or(NONE)
    }

    fn list(self, key: &str) -> Merging<'a> {
        if let Layout::Struct(name) = self {
            let Some(field) = lookup(name).and_then(|s| s.fields.get(key)) else {
                return Merging::Atomic;
            };
            return match (&field.list_keys, &field.shape) {
                (Some(keys), Shape::List(_)) if keys.is_empty() => Merging::Set,
                (Some(keys), Shape::List(item)) => match **item {
                    Shape::Struct(name) => Merging::ByKeys(keys.clone(), Layout::Struct(name)),
                    _ => Merging::Atomic,
                },
                _ => Merging::Atomic,
            };
        }
        let property = self.property(key);
        match property["x-kubernetes-list-type"].as_str() {
            Some("set") => Merging::Set,
            Some("map") => {
                let keys = property["x-kubernetes-list-map-keys"].as_array().into_iter().flatten();
                let keys = keys.filter_map(Value::as_str).collect();
                Merging::ByKeys(keys, Layout::Schema(&property["items"], false))
            }
            _ => Merging::Atomic,
        }
    }

    fn inner(self, key: &str) -> Layout<'a> {
        match self {
            Layout::Struct(name) => match lookup(name).and_then(|s| s.fields.get(key)) {
                Some(Field { shape: Shape::Struct(name), .. }) => Layout::Struct(name),
                _ => Layout::Unknown,
            },
            Layout::Schema(_, true) if key == "metadata" => Layout::Struct("meta.ObjectMeta"),
            Layout::Schema(..) => Layout::Schema(self.property(key), false),
            Layout::Unknown => Layout::Unknown,
        }
    }
}

/// Who applies, and how.
pub(crate) struct Apply<'a> {
    pub(crate) layout: Layout<'a>,
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
    let fields = field_set(how.layout, &config);
    let mut managers = live["metadata"]["managedFields"].as_array().cloned().unwrap_or_default();
    let mine = |m: &Value| m["manager"] == how.manager && m["operation"] == "Apply";
    let before = managers.iter().find(|m| mine(m)).map(|m| m["fieldsV1"].clone());
    let mut conflicts = BTreeMap::new();
    for other in managers.iter().filter(|m| !mine(m)) {
        let mut shared = Vec::new();
        differing(&fields, &other["fieldsV1"], live, &config, "", &mut shared);
        if !shared.is_empty() {
            conflicts.insert(other["manager"].as_str().unwrap_or("").to_owned(), shared);
        }
    }
    if !conflicts.is_empty() && !how.force {
        return Err(conflict(&conflicts));
    }
    for other in managers.iter_mut().filter(|m| !mine(m)) {
        subtract(&mut other["fieldsV1"], &fields, live, &config);
    }
    managers.retain(|m| m["fieldsV1"].as_object().is_some_and(|f| !f.is_empty()));
    if let Some(before) = before {
        let others: Vec<&Value> =
            managers.iter().filter(|m| !mine(m)).map(|m| &m["fieldsV1"]).collect();
        drop_abandoned(live, &before, &fields, &others);
    }
    merge_typed(how.layout, live, &config);
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

fn field_set(layout: Layout<'_>, value: &Value) -> Value {
    let mut set = Map::new();
    for (key, item) in value.as_object().into_iter().flatten() {
        let entry = match (item, layout.list(key)) {
            (Value::Array(items), Merging::ByKeys(keys, inner)) => {
                let entries = items.iter().map(|item| {
                    let mut fields = field_set(inner, item);
                    fields["."] = json!({});
                    (item_key(&keys, item), fields)
                });
                Value::Object(entries.collect())
            }
            (Value::Array(items), Merging::Set) => {
                Value::Object(items.iter().map(|i| (format!("v:{i}"), json!({}))).collect())
            }
            (Value::Object(_), _) => field_set(layout.inner(key), item),
            _ => json!({}),
        };
        let root = ["apiVersion", "kind"].contains(&key.as_str())
            && (value["metadata"].is_object() || layout.is_object_root());
        let name = ["name", "namespace"].contains(&key.as_str())
            && matches!(layout, Layout::Struct("meta.ObjectMeta"));
        // identity is not owned, nor is what holds nothing else
        let bare = entry.as_object().is_some_and(Map::is_empty)
            && item.as_object().is_some_and(|i| !i.is_empty());
        if !root && !name && !bare {
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
    if let Some(item) = key.strip_prefix("v:") {
        let item: Value = serde_json::from_str(item).ok()?;
        return value.as_array()?.iter().find(|i| **i == item);
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
            None => format!("{path}[{}]", told(key)),
        };
        if fields.as_object().is_some_and(|f| !f.is_empty()) {
            differing(fields, other, have, want, &step, found);
        } else if have != want {
            found.push(step);
        }
    }
}

/// An item's key as upstream writes it in paths: `name="a"`.
fn told(key: &str) -> String {
    let Some(identity) = key.strip_prefix("k:") else { return key.replacen("v:", "=", 1) };
    let identity: Map<String, Value> = serde_json::from_str(identity).unwrap_or_default();
    let pairs: Vec<_> = identity.iter().map(|(key, value)| format!("{key}={value}")).collect();
    pairs.join(",")
}

fn conflict(conflicts: &BTreeMap<String, Vec<String>>) -> ApiError {
    let count: usize = conflicts.values().map(Vec::len).sum();
    let all =
        || conflicts.iter().flat_map(|(manager, fields)| fields.iter().map(move |f| (manager, f)));
    let message = match all().next() {
        Some((manager, field)) if count == 1 => {
            format!("Apply failed with 1 conflict: conflict with {manager:?}: {field}")
        }
        _ => {
            let of = |(manager, fields): (&String, &Vec<String>)| {
                format!("conflicts with {manager:?}:\n- {}", fields.join("\n- "))
            };
            let list: Vec<_> = conflicts.iter().map(of).collect();
            format!("Apply failed with {count} conflicts: {}", list.join("\n"))
        }
    };
    let causes: Vec<_> = all()
        .map(|(manager, field)| {
            json!({ "reason": "FieldManagerConflict", "field": field,
                "message": format!("conflict with {manager:?}") })
        })
        .collect();
    ApiError { details: json!({ "causes": causes }), ..ApiError::new(Reason::Conflict, message) }
}

/// Takes from another manager the fields of `set` whose values change.
fn subtract(from: &mut Value, set: &Value, have: &Value, want: &Value) {
    let Some(map) = from.as_object_mut() else { return };
    map.retain(|key, fields| {
        let (Some(inner), Some(have), Some(want)) =
            (set.get(key), child(have, key), child(want, key))
        else {
            return true;
        };
        if inner.as_object().is_some_and(|i| !i.is_empty()) {
            subtract(fields, inner, have, want);
            return fields.as_object().is_some_and(|f| !f.is_empty());
        }
        have == want
    });
}

/// Removes from `live` what was applied before, is not applied now, and is owned by nobody else.
fn drop_abandoned(live: &mut Value, before: &Value, now: &Value, others: &[&Value]) {
    for (key, fields) in before.as_object().into_iter().flatten().filter(|(key, _)| *key != ".") {
        let theirs: Vec<&Value> = others.iter().filter_map(|o| o.get(key)).collect();
        let kept = now.get(key).is_some() || !theirs.is_empty();
        let whole = fields.as_object().is_none_or(|f| f.is_empty() || f.contains_key("."));
        if whole && !kept {
            remove(live, key);
            continue;
        }
        let inner = now.get(key).unwrap_or(&Value::Null);
        if let Some(next) = child_mut(live, key) {
            let was_empty = is_empty(next);
            drop_abandoned(next, fields, inner, &theirs);
            if !was_empty && is_empty(next) {
                *next = Value::Null;
            }
        }
    }
}

fn is_empty(value: &Value) -> bool {
    value.as_object().is_some_and(Map::is_empty) || value.as_array().is_some_and(Vec::is_empty)
}

fn child_mut<'a>(value: &'a mut Value, key: &str) -> Option<&'a mut Value> {
    if let Some(name) = key.strip_prefix("f:") {
        return value.get_mut(name);
    }
    let identity: Value = serde_json::from_str(key.strip_prefix("k:")?).ok()?;
    value.as_array_mut()?.iter_mut().find(|item| is_item(item, &identity))
}

fn remove(live: &mut Value, key: &str) {
    if let Some(name) = key.strip_prefix("f:") {
        if let Some(map) = live.as_object_mut() {
            map.remove(name);
        }
    } else if let Some(item) = key.strip_prefix("v:")
        && let Ok(item) = serde_json::from_str::<Value>(item)
        && let Some(items) = live.as_array_mut()
    {
        items.retain(|i| *i != item);
    } else if let Some(identity) = key.strip_prefix("k:")
        && let Ok(identity) = serde_json::from_str(identity)
        && let Some(items) = live.as_array_mut()
    {
        items.retain(|item| !is_item(item, &identity));
    }
}

fn merge_typed(layout: Layout<'_>, live: &mut Value, config: &Value) {
    let Some(config) = config.as_object() else {
        *live = config.clone();
        return;
    };
    if !live.is_object() {
        *live = json!({});
    }
    for (key, value) in config {
        let merging = layout.list(key);
        match (value, merging) {
            (Value::Array(items), Merging::ByKeys(keys, inner)) => {
                let list = list_of(&mut live[key]);
                for item in items {
                    let identity = item_key(&keys, item);
                    match list.iter_mut().find(|l| item_key(&keys, l) == identity) {
                        Some(old) => merge_typed(inner, old, item),
                        None => list.push(item.clone()),
                    }
                }
            }
            (Value::Array(items), Merging::Set) => {
                let list = list_of(&mut live[key]);
                for item in items {
                    if !list.contains(item) {
                        list.push(item.clone());
                    }
                }
            }
            (Value::Object(_), _) => merge_typed(layout.inner(key), &mut live[key], value),
            _ => live[key] = value.clone(),
        }
    }
}

fn list_of(value: &mut Value) -> &mut Vec<Value> {
    if !value.is_array() {
        *value = json!([]);
    }
    value.as_array_mut().expect("made an array above")
}
