//! The four kinds of patch.

mod apply;
mod strategic;

pub(crate) use apply::{Apply, Layout, apply};
pub(crate) use strategic::strategic_merge;

use super::status::{ApiError, Reason};
use serde_json::Value;

/// JSON patches longer than this are refused, as upstream refuses them.
const MAX_OPERATIONS: usize = 10_000;

/// RFC 7386.
pub(crate) fn merge(target: &mut Value, patch: &Value) {
    let Some(patch) = patch.as_object() else {
        *target = patch.clone();
        return;
    };
    if !target.is_object() {
        *target = Value::Object(serde_json::Map::new());
    }
    let Some(map) = target.as_object_mut() else { return };
    for (key, value) in patch {
        if value.is_null() {
            map.remove(key);
        } else {
            merge(map.entry(key.clone()).or_insert(Value::Null), value);
        }
    }
}

/// RFC 6902.
pub(crate) fn json_patch(target: &mut Value, patch: Value) -> Result<(), ApiError> {
    let operations: json_patch::Patch = serde_json::from_value(patch)
        .map_err(|e| ApiError::bad_request(format!("error decoding patch: {e}")))?;
    if operations.0.len() > MAX_OPERATIONS {
        let message = format!(
            "The allowed maximum operations in a JSON patch is \
            {MAX_OPERATIONS}, got {}",
            operations.0.len()
        );
        return Err(ApiError::new(Reason::RequestEntityTooLarge, message));
    }
    json_patch::patch(target, &operations).map_err(|e| {
        ApiError::new(
            Reason::Invalid,
            format!(
                "the server rejected our request due to an error \
            in our request: {e}"
            ),
        )
    })
}
