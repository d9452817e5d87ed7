//! Strategic merge: lists merge by the keys that upstream's types declare, and `$` directives.

use super::super::schema::{Field, Shape, lookup};
use super::super::status::ApiError;
use serde_json::{Map, Value};

/// Merges `patch` into `target`, an object of the struct `name`.
///
/// # Errors
/// A list item without its merge key, or a directive that does not exist.
pub(crate) fn strategic_merge(
    name: &str,
    target: &mut Value,
    patch: &Value,
) -> Result<(), ApiError> {
    let Some(patch) = patch.as_object() else {
        *target = patch.clone();
        return Ok(());
    };
    match patch.get("$patch").and_then(Value::as_str) {
        Some("replace") => {
            *target = Value::Object(without_directives(patch));
            return Ok(());
        }
        Some("delete") => {
            *target = Value::Object(Map::new());
            return Ok(());
        }
        Some("merge") | None => {}
        Some(other) => {
            let message = format!("Unknown patch type found: {other}");
            return Err(ApiError::bad_request(message));
        }
    }
    if !target.is_object() {
        *target = Value::Object(Map::new());
    }
    let Some(map) = target.as_object_mut() else { return Ok(()) };
    retain_keys(map, patch);
    for (key, value) in patch.iter().filter(|(key, _)| !key.starts_with('$')) {
        if value.is_null() {
            map.remove(key);
            continue;
        }
        let field = lookup(name).and_then(|s| s.fields.get(key.as_str()));
        let slot = map.entry(key.clone()).or_insert(Value::Null);
        let order = patch.get(&format!("$setElementOrder/{key}"));
        merge_field(field, slot, value, order)?;
        if value["$patch"] == "delete" {
            map.remove(key);
        }
    }
    for (key, value) in patch {
        directive(name, map, patch, key, value);
    }
    Ok(())
}

/// Directives that stand beside a list: deletions of scalars, and an order without a change.
fn directive(
    name: &str,
    map: &mut Map<String, Value>,
    patch: &Map<String, Value>,
    key: &str,
    value: &Value,
) {
    if let Some(list) = key.strip_prefix("$deleteFromPrimitiveList/") {
        let gone = value.as_array().cloned().unwrap_or_default();
        if let Some(items) = map.get_mut(list).and_then(Value::as_array_mut) {
            items.retain(|item| !gone.contains(item));
        }
    }
    if let Some(list) = key.strip_prefix("$setElementOrder/")
        && !patch.contains_key(list)
        && let Some(items) = map.get_mut(list).and_then(Value::as_array_mut)
    {
        let field = lookup(name).and_then(|s| s.fields.get(list));
        sort(items, field.and_then(|f| f.merge_key).unwrap_or(""), value);
    }
}

fn merge_field(
    field: Option<&Field>,
    slot: &mut Value,
    value: &Value,
    order: Option<&Value>,
) -> Result<(), ApiError> {
    let inner = match field.map(|f| &f.shape) {
        Some(Shape::Struct(inner)) => *inner,
        Some(Shape::List(item)) => match **item {
            Shape::Struct(inner) => inner,
            _ => "",
        },
        _ => "",
    };
    let Some(patches) = value.as_array() else {
        return strategic_merge(inner, slot, value);
    };
    let Some(key) = field.and_then(|f| f.merge_key) else {
        *slot = Value::Array(patches.clone());
        return Ok(());
    };
    if patches.iter().any(|p| p["$patch"] == "replace") {
        let kept = patches.iter().filter(|p| p["$patch"] != "replace");
        *slot = Value::Array(kept.cloned().collect());
        return Ok(());
    }
    if !slot.is_array() {
        *slot = Value::Array(Vec::new());
    }
    let Some(items) = slot.as_array_mut() else { return Ok(()) };
    let before = items.clone();
    for patch in patches {
        merge_item(inner, key, items, patch)?;
    }
    let patched = Value::Array(patches.clone());
    *items = interleave(std::mem::take(items), &before, key, order.unwrap_or(&patched));
    Ok(())
}

fn same(key: &str, one: &Value, other: &Value) -> bool {
    if key.is_empty() { one == other } else { one[key] == other[key] }
}

/// Upstream's order: items of the patch in its order, the others between them where they stood
/// before, and new items as early as the patch allows.
fn interleave(mut items: Vec<Value>, before: &[Value], key: &str, order: &Value) -> Vec<Value> {
    sort(&mut items, key, order);
    let order = order.as_array().map_or(&[][..], Vec::as_slice);
    let named = |item: &Value| order.iter().any(|wanted| same(key, wanted, item));
    let place = |item: &Value| before.iter().position(|old| same(key, old, item));
    let (patched, others): (Vec<_>, Vec<_>) = items.into_iter().partition(|item| named(item));
    let mut others = others.into_iter().peekable();
    let mut merged = Vec::new();
    for item in patched {
        if let Some(at) = place(&item) {
            while let Some(other) = others.next_if(|other| place(other) < Some(at)) {
                merged.push(other);
            }
        }
        merged.push(item);
    }
    merged.extend(others);
    merged
}

fn merge_item(
    inner: &str,
    key: &str,
    items: &mut Vec<Value>,
    patch: &Value,
) -> Result<(), ApiError> {
    if key.is_empty() {
        if !items.contains(patch) {
            items.push(patch.clone());
        }
        return Ok(());
    }
    let identity = &patch[key];
    if identity.is_null() {
        let message = format!("map: {patch} does not contain declared merge key: {key}");
        return Err(ApiError::internal(message));
    }
    let found = items.iter().position(|item| item[key] == *identity);
    match (patch["$patch"].as_str(), found) {
        (Some("delete"), _) => items.retain(|item| item[key] != *identity),
        (_, Some(index)) => strategic_merge(inner, &mut items[index], patch)?,
        (_, None) => {
            let mut fresh = Value::Null;
            strategic_merge(inner, &mut fresh, patch)?;
            items.push(fresh);
        }
    }
    Ok(())
}

/// Items named in `order` come in that order; the others keep their place behind them.
fn sort(items: &mut [Value], key: &str, order: &Value) {
    let order = order.as_array().map_or(&[][..], Vec::as_slice);
    items.sort_by_key(|item| {
        let place = order.iter().position(|wanted| match key {
            "" => wanted == item,
            key => wanted[key] == item[key],
        });
        place.unwrap_or(usize::MAX)
    });
}

fn retain_keys(map: &mut Map<String, Value>, patch: &Map<String, Value>) {
    if let Some(keep) = patch.get("$retainKeys").and_then(Value::as_array) {
        map.retain(|key, _| keep.iter().any(|k| k == key));
    }
}

fn without_directives(map: &Map<String, Value>) -> Map<String, Value> {
    let kept = map.iter().filter(|(key, _)| !key.starts_with('$'));
    kept.map(|(key, value)| (key.clone(), value.clone())).collect()
}

#[cfg(test)]
mod tests {
    use super::strategic_merge;
    use serde_json::json;

    #[test]
    fn lists_merge_by_their_keys() {
        let cases = [
            (
                json!({ "containers": [{ "name": "a", "image": "1" }, { "name": "b" }] }),
                json!({ "containers": [{ "name": "a", "image": "2" }, { "name": "c" }] }),
                json!({ "containers":
                    [{ "name": "a", "image": "2" }, { "name": "c" }, { "name": "b" }] }),
            ),
            (
                json!({ "containers": [{ "name": "a" }, { "name": "b" }] }),
                json!({ "containers": [{ "name": "a", "$patch": "delete" }] }),
                json!({ "containers": [{ "name": "b" }] }),
            ),
            (
                json!({ "tolerations": [{ "key": "a" }] }),
                json!({ "tolerations": [{ "key": "b" }] }),
                json!({ "tolerations": [{ "key": "b" }] }),
            ),
            (
                json!({ "volumes": [{ "name": "v", "emptyDir": {} }] }),
                json!({ "volumes":
                    [{ "name": "v", "$retainKeys": ["name", "hostPath"], "hostPath": {} }] }),
                json!({ "volumes": [{ "name": "v", "hostPath": {} }] }),
            ),
            (
                json!({ "containers": [{ "name": "a" }, { "name": "b" }] }),
                json!({ "$setElementOrder/containers": [{ "name": "b" }, { "name": "a" }],
                    "containers": [{ "name": "b", "tty": true }] }),
                json!({ "containers": [{ "name": "b", "tty": true }, { "name": "a" }] }),
            ),
        ];
        for (mut target, patch, expected) in cases {
            strategic_merge("core.PodSpec", &mut target, &patch).expect("valid");
            assert_eq!(target, expected);
        }
    }
}
