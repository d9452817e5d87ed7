//! Both forms of Event: stored as `v1`, served as `events.k8s.io/v1` too.

use serde_json::{Map, Value};

/// Field names, `v1` then `events.k8s.io/v1`.
const NAMES: [(&str, &str); 7] = [
    ("involvedObject", "regarding"),
    ("message", "note"),
    ("reportingComponent", "reportingController"),
    ("source", "deprecatedSource"),
    ("firstTimestamp", "deprecatedFirstTimestamp"),
    ("lastTimestamp", "deprecatedLastTimestamp"),
    ("count", "deprecatedCount"),
];

/// The stored form of an `events.k8s.io/v1` Event.
pub(crate) fn to_stored(event: &mut Value) {
    rename(event, |name| NAMES.iter().find(|(_, new)| *new == name).map(|(old, _)| *old));
    event["apiVersion"] = Value::from("v1");
}

/// The `events.k8s.io/v1` form of a stored Event.
pub(crate) fn from_stored(event: &mut Value) {
    rename(event, |name| NAMES.iter().find(|(old, _)| *old == name).map(|(_, new)| *new));
    event["apiVersion"] = Value::from("events.k8s.io/v1");
    // mandatory in one form, optional in the other
    if let Some(map) = event.as_object_mut() {
        for field in ["reportingController", "reportingInstance"] {
            if map.get(field).is_some_and(|value| value == "") {
                map.remove(field);
            }
        }
    }
}

fn rename(event: &mut Value, name: impl Fn(&str) -> Option<&'static str>) {
    let Some(map) = event.as_object_mut() else { return };
    let renamed: Map<String, Value> = std::mem::take(map)
        .into_iter()
        .map(|(key, value)| (name(&key).map_or(key, str::to_owned), value))
        .collect();
    *map = renamed;
}
