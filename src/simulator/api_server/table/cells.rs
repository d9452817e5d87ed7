//! The columns of everything but pods.

use super::super::kinds::Kind;
use super::workloads;
use serde_json::{Value, json};

pub(super) fn text(value: &Value) -> &str {
    value.as_str().unwrap_or("")
}

pub(super) fn or_none(text: &str) -> &str {
    if text.is_empty() { "<none>" } else { text }
}

/// Upstream's `HumanDuration` of the time since `timestamp`.
pub(super) fn age(timestamp: &Value) -> String {
    let Ok(then) = text(timestamp).parse::<jiff::Timestamp>() else { return "<unknown>".into() };
    human((jiff::Timestamp::now().as_second() - then.as_second()).max(0))
}

pub(super) fn human(seconds: i64) -> String {
    const MINUTE: i64 = 60;
    const HOUR: i64 = 60 * MINUTE;
    const DAY: i64 = 24 * HOUR;
    const YEAR: i64 = 365 * DAY;
    // the smaller unit is told while the larger is small
    let two = |big: i64, big_name: &str, small: i64, small_name: &str| {
        let rest = seconds % big / small;
        let whole = seconds / big;
        if rest == 0 {
            format!("{whole}{big_name}")
        } else {
            format!("{whole}{big_name}{rest}{small_name}")
        }
    };
    match seconds {
        s if s < 2 * MINUTE => format!("{s}s"),
        s if s < 10 * MINUTE => two(MINUTE, "m", 1, "s"),
        s if s < 3 * HOUR => format!("{}m", s / MINUTE),
        s if s < 8 * HOUR => two(HOUR, "h", MINUTE, "m"),
        s if s < 2 * DAY => format!("{}h", s / HOUR),
        s if s < 8 * DAY => two(DAY, "d", HOUR, "h"),
        s if s < 2 * YEAR => format!("{}d", s / DAY),
        s if s < 8 * YEAR => two(YEAR, "y", DAY, "d"),
        s => format!("{}y", s / YEAR),
    }
}

pub(super) fn number(value: &Value) -> Value {
    json!(value.as_i64().unwrap_or(0))
}

/// A scalar as text; absent ones as upstream prints a nil pointer.
pub(super) fn plain(value: &Value, absent: &str) -> Value {
    match value {
        Value::Null => json!(absent),
        Value::String(text) => json!(text),
        other => json!(other.to_string()),
    }
}

pub(super) fn cells(kind: &Kind, object: &Value) -> Vec<Value> {
    match kind.group.as_str() {
        "" | "events.k8s.io" => core(kind, object),
        "apps" | "batch" => workloads::cells(kind, object),
        _ => other(kind, object),
    }
}

fn core(kind: &Kind, object: &Value) -> Vec<Value> {
    let name = object["metadata"]["name"].clone();
    let created = json!(age(&object["metadata"]["creationTimestamp"]));
    let spec = &object["spec"];
    let or = |value: &Value| json!(or_none(text(value)));
    match kind.resource.as_str() {
        "nodes" => node(object, name, created),
        "events" => event(object, name),
        "namespaces" => vec![name, object["status"]["phase"].clone(), created],
        "configmaps" => vec![name, count(&[&object["data"], &object["binaryData"]]), created],
        "secrets" => vec![name, object["type"].clone(), count(&[&object["data"]]), created],
        "services" => vec![
            name,
            spec["type"].clone(),
            or(&spec["clusterIP"]),
            json!("<none>"),
            json!(ports(&spec["ports"])),
            created,
            json!(labels(&spec["selector"])),
        ],
        "persistentvolumes" | "persistentvolumeclaims" => volume(kind, object, name, created),
        "replicationcontrollers" => workloads::cells(kind, object),
        "endpoints" => vec![name, json!("<none>"), created],
        _ => vec![name, created],
    }
}

fn volume(kind: &Kind, object: &Value, name: Value, created: Value) -> Vec<Value> {
    let (spec, status) = (&object["spec"], &object["status"]);
    match kind.resource.as_str() {
        "persistentvolumes" => vec![
            name,
            plain(&spec["capacity"]["storage"], ""),
            json!(modes(&spec["accessModes"])),
            plain(&spec["persistentVolumeReclaimPolicy"], ""),
            plain(&status["phase"], ""),
            json!(claim(&spec["claimRef"])),
            plain(&spec["storageClassName"], ""),
            json!("<unset>"),
            plain(&status["reason"], ""),
            created,
            plain(&spec["volumeMode"], "<unset>"),
        ],
        _ => vec![
            name,
            plain(&status["phase"], ""),
            plain(&spec["volumeName"], ""),
            plain(&status["capacity"]["storage"], ""),
            json!(modes(&status["accessModes"])),
            plain(&spec["storageClassName"], ""),
            json!("<unset>"),
            created,
            plain(&spec["volumeMode"], "<unset>"),
        ],
    }
}

fn other(kind: &Kind, object: &Value) -> Vec<Value> {
    let name = object["metadata"]["name"].clone();
    let created = json!(age(&object["metadata"]["creationTimestamp"]));
    let (spec, status) = (&object["spec"], &object["status"]);
    let or = |value: &Value| json!(or_none(text(value)));
    match kind.resource.as_str() {
        "leases" => vec![name, plain(&spec["holderIdentity"], ""), created],
        "priorityclasses" => vec![
            name,
            number(&object["value"]),
            json!(object["globalDefault"] == true),
            created,
            plain(&object["preemptionPolicy"], ""),
        ],
        "poddisruptionbudgets" => vec![
            name,
            plain(&spec["minAvailable"], "N/A"),
            plain(&spec["maxUnavailable"], "N/A"),
            number(&status["disruptionsAllowed"]),
            created,
        ],
        "storageclasses" => vec![
            name,
            object["provisioner"].clone(),
            plain(&object["reclaimPolicy"], ""),
            plain(&object["volumeBindingMode"], ""),
            json!((object["allowVolumeExpansion"] == true).to_string()),
            created,
        ],
        "csinodes" => vec![name, count(&[&spec["drivers"]]), created],
        "resourceclaims" => {
            let reserved = status["reservedFor"].as_array().is_some_and(|r| !r.is_empty());
            let allocated = status["allocation"].is_object();
            let state = match (allocated, reserved) {
                (true, true) => "allocated,reserved",
                (true, false) => "allocated",
                _ => "pending",
            };
            vec![name, json!(state), created]
        }
        "resourceslices" => vec![
            name,
            or(&spec["nodeName"]),
            spec["driver"].clone(),
            spec["pool"]["name"].clone(),
            created,
        ],
        "runtimeclasses" => vec![name, object["handler"].clone(), created],
        "customresourcedefinitions" => {
            let versions = spec["versions"].as_array().into_iter().flatten();
            let names: Vec<_> = versions.map(|v| text(&v["name"])).collect();
            let made = object["metadata"]["creationTimestamp"].clone();
            vec![name, spec["scope"].clone(), json!(names.join(",")), made]
        }
        _ => vec![name, created],
    }
}

fn count(parts: &[&Value]) -> Value {
    let size = |v: &&Value| v.as_object().map_or(0, |m| m.len()) + v.as_array().map_or(0, Vec::len);
    json!(parts.iter().map(size).sum::<usize>())
}

pub(super) fn labels(selector: &Value) -> String {
    let pairs = selector.as_object().into_iter().flatten();
    let list: Vec<_> = pairs.map(|(key, value)| format!("{key}={}", text(value))).collect();
    or_none(&list.join(",")).to_owned()
}

fn ports(ports: &Value) -> String {
    let list = ports.as_array().into_iter().flatten();
    let list: Vec<_> = list.map(|p| format!("{}/{}", p["port"], text(&p["protocol"]))).collect();
    or_none(&list.join(",")).to_owned()
}

fn modes(modes: &Value) -> String {
    let short = |mode: &Value| match text(mode) {
        "ReadWriteOnce" => "RWO",
        "ReadOnlyMany" => "ROX",
        "ReadWriteMany" => "RWX",
        "ReadWriteOncePod" => "RWOP",
        _ => "",
    };
    modes.as_array().into_iter().flatten().map(short).collect::<Vec<_>>().join(",")
}

fn claim(reference: &Value) -> String {
    match text(&reference["name"]) {
        "" => String::new(),
        name => format!("{}/{name}", text(&reference["namespace"])),
    }
}

fn node(object: &Value, name: Value, created: Value) -> Vec<Value> {
    let status = &object["status"];
    let conditions = status["conditions"].as_array().into_iter().flatten();
    let ready = conditions.clone().find(|c| c["type"] == "Ready").map(|c| c["status"] == "True");
    let mut words = vec![match ready {
        Some(true) => "Ready",
        Some(false) => "NotReady",
        None => "Unknown",
    }];
    if object["spec"]["unschedulable"] == true {
        words.push("SchedulingDisabled");
    }
    let labels = object["metadata"]["labels"].as_object().into_iter().flatten();
    let roles: Vec<_> = labels
        .filter_map(|(key, _)| key.strip_prefix("node-role.kubernetes.io/"))
        .filter(|role| !role.is_empty())
        .collect();
    let address = |kind: &str| {
        let addresses = status["addresses"].as_array().into_iter().flatten();
        let mut found = addresses.filter(|a| a["type"] == kind).map(|a| text(&a["address"]));
        json!(or_none(found.next().unwrap_or("")))
    };
    let info = &status["nodeInfo"];
    let known = |field: &str| match text(&info[field]) {
        "" => json!("<unknown>"),
        value => json!(value),
    };
    vec![
        name,
        json!(words.join(",")),
        json!(or_none(&roles.join(","))),
        created,
        json!(text(&info["kubeletVersion"])),
        address("InternalIP"),
        address("ExternalIP"),
        known("osImage"),
        known("kernelVersion"),
        known("containerRuntimeVersion"),
    ]
}

fn event(object: &Value, name: Value) -> Vec<Value> {
    let either = |old: &str, new: &str| match &object[old] {
        Value::Null => object[new].clone(),
        value => value.clone(),
    };
    let about = either("involvedObject", "regarding");
    let source = either("source", "deprecatedSource");
    let first = either("firstTimestamp", "deprecatedFirstTimestamp");
    let last = either("lastTimestamp", "deprecatedLastTimestamp");
    let or_time =
        |stamp: &Value| if stamp.is_null() { &object["eventTime"] } else { stamp }.clone();
    let series = &object["series"]["lastObservedTime"];
    let last = if series.is_string() { series.clone() } else { or_time(&last) };
    let count = object["series"]["count"].as_i64();
    let count = count.or(either("count", "deprecatedCount").as_i64()).unwrap_or(1);
    let component = match text(&source["component"]) {
        "" => text(&object["reportingComponent"]),
        component => component,
    };
    let host = text(&source["host"]);
    let component =
        if host.is_empty() { component.to_owned() } else { format!("{component}, {host}") };
    let message = either("message", "note");
    let target = format!("{}/{}", text(&about["kind"]).to_lowercase(), text(&about["name"]));
    vec![
        json!(age(&last)),
        object["type"].clone(),
        object["reason"].clone(),
        json!(target),
        json!(text(&about["fieldPath"])),
        json!(component),
        json!(text(&message).trim()),
        json!(age(&or_time(&first))),
        json!(count.to_string()),
        name,
    ]
}

#[cfg(test)]
mod tests {
    use super::human;

    #[test]
    fn durations_read_as_upstreams() {
        for (seconds, expected) in [
            (0, "0s"),
            (119, "119s"),
            (120, "2m"),
            (125, "2m5s"),
            (600, "10m"),
            (10_800, "3h"),
            (11_000, "3h3m"),
            (90_000, "25h"),
            (200_000, "2d7h"),
            (172_800, "2d"),
            (3_000_000, "34d"),
        ] {
            assert_eq!(human(seconds), expected);
        }
    }
}
