//! Queues as an API server sends them, and as it never would.

use super::{queue, remembered};
use crate::fairshare::Used;
use crate::kubernetes::objects::QueueObject;
use crate::model::queue::{Ageing, Ordering, Preemption};
use crate::model::windows::{Week, zone};
use crate::model::{Caps, EvictionBudget, QueueSpec, Windows};
use crate::scheduler::Remembered;
use serde_json::{Value, json};

fn read(name: &str, spec: &Value) -> Result<QueueSpec, String> {
    let value = json!({ "metadata": { "name": name, "uid": "u" }, "spec": spec, "status": 3 });
    let object: QueueObject = serde_json::from_str(&value.to_string()).expect("an object");
    queue(&object).map_err(|error| error.to_string())
}

#[test]
fn an_empty_spec_is_the_default_and_null_is_absent() {
    let empty = QueueSpec { name: "a".into(), ..QueueSpec::default() };
    let nulls = json!({
        "parent": null, "weight": null, "quota": null, "namespaces": null, "preemption": null,
    });
    for spec in [json!(null), json!({}), nulls, json!({ "preemption": {} })] {
        assert_eq!(read("a", &spec), Ok(empty.clone()), "{spec}");
    }
}

#[test]
fn every_field_is_read_in_the_units_of_pods() {
    let spec = json!({
        "parent": "root-1", "weight": 1_000_000, "overQuotaWeight": 1, "priority": -5,
        "quota": { "nvidia.com/gpu": "8", "cpu": "1500m", "memory": "1Gi", "amd.com/gpu": 0 },
        "limit": { "cpu": 2, "hugepages-2Mi": "4Mi", "amd.com/gpu": "0" },
        "lendLimit": { "cpu": "0.0001" }, "borrowLimit": { "ephemeral-storage": "1k" },
        "ordering": "Priority", "namespaces": ["b", "a", "b"], "open": false, "later": true,
        "preemption": {
            "reclaimable": false, "preemptible": false, "mayEvict": false, "minRuntime": "1h30m",
            "grace": "100us", "evictionBudget": { "pods": 3, "window": "10m" },
        },
        "userLimit": { "cpu": "250m", "cpu@example.com/zone=": "1" }, "ageing": { "points": 10, "every": "1h" },
        "windows": {
            "timeZone": "Asia/Tokyo", "run": ["20:00-6:00"], "dispatch": ["1:8:00-5:18:00", "9-10"],
        },
        "caps": {
            "runningGangs": 1, "runningGangsPerUser": 2, "pendingGangs": 3, "gangGpus": 4,
        },
    });
    let list = |pairs: &[(&str, i64)]| pairs.iter().map(|(n, v)| ((*n).into(), *v)).collect();
    let expected = QueueSpec {
        name: "team.a-1".into(),
        generation: 0,
        parent: Some("root-1".into()),
        weight: 1_000_000,
        over_quota_weight: Some(1),
        quota: list(&[("cpu", 1500), ("memory", 1 << 30), ("nvidia.com/gpu", 8)]),
        limit: list(&[("amd.com/gpu", 0), ("cpu", 2000), ("hugepages-2Mi", 4 << 20)]),
        lend_limit: list(&[("cpu", 1)]),
        borrow_limit: list(&[("ephemeral-storage", 1000)]),
        user_limit: list(&[("cpu", 250), ("cpu@example.com/zone=", 1000)]),
        caps: Caps {
            running_gangs: Some(1),
            running_gangs_per_user: Some(2),
            pending_gangs: Some(3),
            gang_gpus: Some(4),
        },
        priority: -5,
        order: Ordering::Priority,
        ageing: Some(Ageing { points: 10, every_ms: 3_600_000 }),
        namespaces: vec!["b".into(), "a".into()],
        open: false,
        windows: Some(Box::new(Windows::new(
            zone("Asia/Tokyo").expect("a zone"),
            Week::parse(&["20:00-6:00"]).ok(),
            Week::parse(&["1:8:00-5:18:00", "9-10"]).ok(),
        ))),
        preemption: Preemption {
            reclaimable: false,
            preemptible: false,
            may_evict: false,
            min_runtime_ms: 5_400_000,
            grace_ms: 1,
            budget: Some(EvictionBudget { pods: 3, window_ms: 600_000 }),
        },
    };
    assert_eq!(read("team.a-1", &spec), Ok(expected));
}

#[test]
fn what_is_wrong_is_named() {
    let many: serde_json::Map<String, Value> =
        (0..65).map(|number| (format!("example.com/r{number}"), json!(1))).collect();
    let weights = "a whole number from 1 to 1000000";
    let name = "a name of lower-case letters, digits, '-' and '.'";
    let quantity = "a quantity between 0 and 2^52";
    let offered = "an amount of cpu, memory or another resource that nodes offer";
    let narrowed = "a resource and a label of nodes, as resource@key=value";
    let duration = "a duration such as 90s, 10m or 1h30m, at most ten years";
    let cases = [
        (json!(7), "spec is 7", "an object"),
        (json!({ "weight": 0 }), "spec.weight is 0", weights),
        (json!({ "weight": 1.5 }), "spec.weight is 1.5", weights),
        (json!({ "weight": u64::MAX }), "spec.weight is 18446744073709551615", weights),
        (json!({ "overQuotaWeight": 1_000_001 }), "spec.overQuotaWeight is 1000001", weights),
        (json!({ "parent": "a" }), "spec.parent is \"a\"", "another queue than itself"),
        (json!({ "parent": "" }), "spec.parent is \"\"", name),
        (json!({ "parent": ["b"] }), "spec.parent is [\"b\"]", name),
        (json!({ "quota": { "cpu": "-1" } }), "spec.quota[cpu] is \"-1\"", quantity),
        (json!({ "quota": { "cpu": -1 } }), "spec.quota[cpu] is -1", quantity),
        (json!({ "quota": { "cpu": null } }), "spec.quota[cpu] is missing", quantity),
        (json!({ "limit": { "memory": "4097Ti" } }), "spec.limit[memory] is \"4097Ti\"", quantity),
        (json!({ "lendLimit": { "cpu": {} } }), "spec.lendLimit[cpu] is {}", quantity),
        (json!({ "borrowLimit": { "gpu": 1 } }), "spec.borrowLimit[gpu] is 1", offered),
        (json!({ "limit": { "pods": 1 } }), "spec.limit[pods] is 1", offered),
        (json!({ "limit": { "pods@a=b": 1 } }), "spec.limit[pods@a=b] is 1", offered),
        (json!({ "quota": { "cpu@a": 1 } }), "spec.quota[cpu@a] is \"cpu@a\"", narrowed),
        (json!({ "quota": { "cpu@-=b": 1 } }), "spec.quota[cpu@-=b] is \"cpu@-=b\"", narrowed),
        (
            json!({ "quota": { "cpu@a=b=c": 1 } }),
            "spec.quota[cpu@a=b=c] is \"cpu@a=b=c\"",
            narrowed,
        ),
        (json!({ "limit": [] }), "spec.limit is []", "amounts of at most 64 resources"),
        (
            json!({ "quota": { "cpu": "2500m" }, "limit": { "cpu": 2 } }),
            "spec.limit[cpu] is 2",
            "at least the quota, \"2500m\"",
        ),
        (
            json!({ "priority": 2_147_483_648_i64 }),
            "spec.priority is 2147483648",
            "a whole number from -2147483648 to 2147483647",
        ),
        (
            json!({ "namespaces": "a" }),
            "spec.namespaces is \"a\"",
            "a list of at most 1000 namespaces",
        ),
        (json!({ "namespaces": ["a", 1] }), "spec.namespaces[1] is 1", name),
        (json!({ "open": 1 }), "spec.open is 1", "true or false"),
        (json!({ "preemption": [] }), "spec.preemption is []", "an object"),
        (
            json!({ "preemption": { "mayEvict": "no" } }),
            "spec.preemption.mayEvict is \"no\"",
            "true or false",
        ),
        (json!({ "preemption": { "grace": "10" } }), "spec.preemption.grace is \"10\"", duration),
        (
            json!({ "preemption": { "minRuntime": "90000h" } }),
            "spec.preemption.minRuntime is \"90000h\"",
            duration,
        ),
    ];
    for (spec, found, expected) in cases {
        let text = format!("queue a: {found}: expected {expected}");
        assert_eq!(read("a", &spec), Err(text), "{spec}");
    }
    let error = read("a", &json!({ "quota": many })).expect_err("too many");
    assert!(error.starts_with("queue a: spec.quota is {"), "{error}");
    assert!(error.ends_with("expected amounts of at most 64 resources"), "{error}");
    let error = read("No Name", &json!({})).expect_err("no name");
    assert!(error.starts_with("queue No Name: metadata.name is \"No Name\": "), "{error}");
}

#[test]
fn what_is_wrong_with_orders_and_windows_is_named() {
    let orderings = "FairShare, Lsf, FairTree, Priority, Fifo";
    let every = "a duration of at least 1s";
    let points = "a whole number from 1 to 1000000000";
    let cases = [
        (json!({ "ordering": "fifo" }), "spec.ordering is \"fifo\"", orderings),
        (json!({ "ageing": { "points": 1 } }), "spec.ageing.every is missing", every),
        (json!({ "ageing": { "points": 0, "every": "1h" } }), "spec.ageing.points is 0", points),
        (
            json!({ "windows": { "timeZone": "Mars/Olympus" } }),
            "spec.windows.timeZone is \"Mars/Olympus\"",
            "a time zone of the tz database, such as Europe/Berlin",
        ),
        (
            json!({ "windows": { "run": [] } }),
            "spec.windows.run is []",
            "a list of 1 to 64 windows",
        ),
        (
            json!({ "windows": { "dispatch": ["8-9", "8:00"] } }),
            "spec.windows.dispatch[1] is \"8:00\"",
            "a window such as 20:00-8:30 or 5:18:30-1:8:30",
        ),
    ];
    for (spec, found, expected) in cases {
        let text = format!("queue a: {found}: expected {expected}");
        assert_eq!(read("a", &spec), Err(text), "{spec}");
    }
}

#[test]
fn no_spec_panics() {
    let odd = [
        json!(true),
        json!(-1),
        json!(1e300),
        json!(u64::MAX),
        json!(""),
        json!("\u{0}é".repeat(100)),
        json!("99999999999999999999E"),
        json!([null]),
        json!({ "cpu": "1e999" }),
        json!({ "é".repeat(100): "9".repeat(5000) }),
        json!({ "grace": "99999999999999999999h", "minRuntime": "." }),
    ];
    let fields = [
        "parent",
        "weight",
        "overQuotaWeight",
        "quota",
        "limit",
        "lendLimit",
        "borrowLimit",
        "priority",
        "ordering",
        "ageing",
        "namespaces",
        "open",
        "windows",
        "preemption",
    ];
    let mut refused = 0;
    for value in &odd {
        for field in fields {
            refused += usize::from(read("a", &json!({ field: value })).is_err());
        }
    }
    // true may be told of being open, -1 of priority; of preemption two say nothing that is known,
    // of windows three
    assert_eq!(refused, odd.len() * fields.len() - 7);
}

#[test]
fn usage_is_read_from_the_status_and_what_cannot_be_is_none() {
    let now: jiff::Timestamp = "2026-01-02T03:04:10Z".parse().expect("a time");
    let object = |status: &Value| {
        let value = json!({ "metadata": { "name": "a" }, "spec": {}, "status": status });
        serde_json::from_str::<QueueObject>(&value.to_string()).expect("an object")
    };
    let status = json!({ "usage": {
        "asOf": "2026-01-02T03:04:05.500Z", "amount": 10, "rate": 2.5,
        "users": [
            { "name": "u", "amount": 10, "rate": 2.5 },
            { "name": "v", "amount": "10", "rate": 2.5 },
        ],
    } });
    let used = Used { amount: 10.0, rate: 2.5 };
    let users = vec![("u".into(), used)];
    let expected = Remembered { queue: "a".into(), age_ms: 4500, used, users };
    assert_eq!(remembered(&object(&status), now), Some(expected));
    let ahead: jiff::Timestamp = "2026-01-02T03:04:00Z".parse().expect("a time");
    assert_eq!(remembered(&object(&status), ahead).map(|r| r.age_ms), Some(0));
    for pointer in ["/usage", "/usage/asOf", "/usage/amount", "/usage/rate"] {
        for wrong in [json!(null), json!("soon"), json!(-1), json!([])] {
            let mut status = status.clone();
            *status.pointer_mut(pointer).expect("a field") = wrong;
            assert_eq!(remembered(&object(&status), now), None, "{status}");
        }
    }
}

#[test]
fn what_is_wrong_with_caps_and_budgets_is_named() {
    let weights = "a whole number from 1 to 1000000";
    let offered = "an amount of cpu, memory or another resource that nodes offer";
    let cases = [
        (json!({ "userLimit": { "gpu": 1 } }), "spec.userLimit[gpu] is 1", offered),
        (json!({ "caps": { "runningGangs": 0 } }), "spec.caps.runningGangs is 0", weights),
        (json!({ "caps": 3 }), "spec.caps is 3", "an object"),
        (
            json!({ "preemption": { "evictionBudget": { "window": "1m" } } }),
            "spec.preemption.evictionBudget.pods is missing",
            "a number of pods",
        ),
        (
            json!({ "preemption": { "evictionBudget": { "pods": 1, "window": "999ms" } } }),
            "spec.preemption.evictionBudget.window is \"999ms\"",
            "a duration of at least 1s",
        ),
    ];
    for (spec, found, expected) in cases {
        let text = format!("queue a: {found}: expected {expected}");
        assert_eq!(read("a", &spec), Err(text), "{spec}");
    }
}
