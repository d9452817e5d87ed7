//! Admission and validation of new pods.

use super::super::quantity::Quantity;
use super::super::status::{ApiError, FieldError};
use super::meta::check_container_name;
use super::{Context, default};
use serde_json::{Value, json};

pub(super) fn prepare_create(context: &Context<'_>, pod: &mut Value) -> Result<(), ApiError> {
    admit_priority(context, pod)?;
    default_tolerations(&mut pod["spec"]);
    let qos = qos_class(&pod["spec"]);
    let mut status = json!({ "phase": "Pending", "qosClass": qos });
    if has_gates(&pod["spec"]) {
        status["conditions"] = json!([{
            "type": "PodScheduled", "status": "False", "reason": "SchedulingGated",
            "message": "Scheduling is blocked due to non-empty scheduling gates",
            "lastProbeTime": null, "lastTransitionTime": super::super::rest::now(),
        }]);
    }
    pod["status"] = status;
    Ok(())
}

pub(crate) fn has_gates(spec: &Value) -> bool {
    spec["schedulingGates"].as_array().is_some_and(|gates| !gates.is_empty())
}

/// Upstream's Priority admission plugin: the class becomes a number.
fn admit_priority(context: &Context<'_>, pod: &mut Value) -> Result<(), ApiError> {
    let name = pod["metadata"]["name"].as_str().unwrap_or("").to_owned();
    let forbidden = |why: &str| ApiError::forbidden("", "pods", &name, why);
    let class_name = pod["spec"]["priorityClassName"].as_str().unwrap_or("").to_owned();
    let class = match class_name.as_str() {
        "" => global_default(context),
        given => match context.store.get(context.priority_classes, given) {
            Some(class) => Some(class.value.clone()),
            None => {
                return Err(forbidden(&format!("no PriorityClass with name {given} was found")));
            }
        },
    };
    let class = class.unwrap_or_else(|| json!({}));
    let value = class["value"].as_i64().unwrap_or(0);
    if let Some(asked) = pod["spec"]["priority"].as_i64()
        && asked != value
    {
        return Err(forbidden(&format!(
            "the integer value of priority ({asked}) must not be provided in pod spec; priority \
             admission controller computed {value} from the given PriorityClass name"
        )));
    }
    pod["spec"]["priority"] = json!(value);
    if let Some(name) = class["metadata"]["name"].as_str()
        && class_name.is_empty()
    {
        pod["spec"]["priorityClassName"] = json!(name);
    }
    let policy = class["preemptionPolicy"].as_str().unwrap_or("PreemptLowerPriority");
    if pod["spec"]["preemptionPolicy"].as_str().is_some_and(|given| given != policy) {
        let given = pod["spec"]["preemptionPolicy"].as_str().unwrap_or("");
        return Err(forbidden(&format!(
            "the string value of PreemptionPolicy ({given}) must not be provided in pod spec; \
             priority admission controller computed {policy} from the given PriorityClass name"
        )));
    }
    pod["spec"]["preemptionPolicy"] = json!(policy);
    Ok(())
}

fn global_default(context: &Context<'_>) -> Option<Value> {
    let page = context.store.list(context.priority_classes, &Default::default()).ok()?;
    let defaults = page.objects.iter().filter(|class| class.value["globalDefault"] == true);
    // upstream takes the least of several
    let least = defaults.min_by_key(|class| class.value["value"].as_i64())?;
    Some(least.value.clone())
}

/// Upstream's DefaultTolerationSeconds admission plugin.
fn default_tolerations(spec: &mut Value) {
    const SECONDS: i64 = 300;
    if spec["tolerations"].is_null() {
        spec["tolerations"] = json!([]);
    }
    let Some(list) = spec["tolerations"].as_array_mut() else { return };
    let given = list.clone();
    for key in ["node.kubernetes.io/not-ready", "node.kubernetes.io/unreachable"] {
        let tolerated = given.iter().any(|t| {
            let effect = t["effect"].as_str().unwrap_or("");
            let its_key = t["key"].as_str().unwrap_or("");
            (effect.is_empty() || effect == "NoExecute") && (its_key.is_empty() || its_key == key)
        });
        if !tolerated {
            list.push(json!({ "key": key, "operator": "Exists", "effect": "NoExecute",
                "tolerationSeconds": SECONDS }));
        }
    }
}

fn qos_class(spec: &Value) -> &'static str {
    let mut any = false;
    let mut guaranteed = true;
    for container in containers(spec) {
        for resource in ["cpu", "memory"] {
            let of = |kind: &str| {
                let text = container["resources"][kind][resource].as_str()?;
                Quantity::parse(text).map(Quantity::nanos).filter(|n| *n != 0)
            };
            let (request, limit) = (of("requests"), of("limits"));
            any |= request.is_some() || limit.is_some();
            guaranteed &= limit.is_some() && request == limit;
        }
    }
    match (any, guaranteed) {
        (false, _) => "BestEffort",
        (true, true) => "Guaranteed",
        (true, false) => "Burstable",
    }
}

fn containers(spec: &Value) -> impl Iterator<Item = &Value> {
    let lists = ["containers", "initContainers"];
    lists.into_iter().flat_map(|list| spec[list].as_array().into_iter().flatten())
}

/// The part of upstream's `ValidatePodSpec` that scheduling tests meet.
pub(super) fn validate(spec: &Value, path: &str, errors: &mut Vec<FieldError>) {
    if spec["containers"].as_array().is_none_or(Vec::is_empty) {
        errors.push(FieldError::required(format!("{path}.containers"), ""));
    }
    for list in ["containers", "initContainers"] {
        let mut names = Vec::new();
        for (index, container) in spec[list].as_array().into_iter().flatten().enumerate() {
            let at = format!("{path}.{list}[{index}]");
            let name = container["name"].as_str().unwrap_or("");
            check_container_name(name, &format!("{at}.name"), errors);
            if names.contains(&name) {
                errors.push(FieldError::duplicate(format!("{at}.name"), &json!(name)));
            }
            names.push(name);
            if container["image"].as_str().unwrap_or("").is_empty() {
                errors.push(FieldError::required(format!("{at}.image"), ""));
            }
            resources(&container["resources"], &format!("{at}.resources"), errors);
        }
    }
    let policy = spec["restartPolicy"].as_str().unwrap_or("");
    let valid = ["Always", "OnFailure", "Never"];
    if !valid.contains(&policy) {
        errors.push(FieldError::not_supported(format!("{path}.restartPolicy"), policy, &valid));
    }
    if has_gates(spec) && spec["nodeName"].is_string() {
        let detail = "cannot be set until all schedulingGates have been cleared";
        errors.push(FieldError::forbidden(format!("{path}.nodeName"), detail));
    }
}

fn resources(resources: &Value, path: &str, errors: &mut Vec<FieldError>) {
    for kind in ["limits", "requests"] {
        for (name, value) in resources[kind].as_object().into_iter().flatten() {
            let at = format!("{path}.{kind}[{name}]");
            negative(value, &at, errors);
            whole(name, value, &at, errors);
            if kind == "requests" {
                request(name, value, &resources["limits"][name], path, errors);
            }
        }
    }
}

fn request(name: &str, asked: &Value, limit: &Value, path: &str, errors: &mut Vec<FieldError>) {
    if limit.is_null() {
        if is_extended(name) {
            let detail = "Limit must be set for non overcommitable resources";
            errors.push(FieldError::required(format!("{path}.limits"), detail));
        }
        return;
    }
    let nanos = |v: &Value| v.as_str().and_then(Quantity::parse).map(Quantity::nanos);
    let relation = match nanos(asked).cmp(&nanos(limit)) {
        std::cmp::Ordering::Equal => return,
        _ if is_extended(name) => "equal to",
        std::cmp::Ordering::Greater => "less than or equal to",
        std::cmp::Ordering::Less => return,
    };
    let detail = format!("must be {relation} {name} limit of {}", plain(limit));
    errors.push(FieldError::invalid(format!("{path}.requests"), asked, &detail));
}

fn plain(value: &Value) -> &str {
    value.as_str().unwrap_or("")
}

fn negative(value: &Value, path: &str, errors: &mut Vec<FieldError>) {
    if plain(value).starts_with('-') {
        errors.push(FieldError::invalid(path, value, "must be greater than or equal to 0"));
    }
}

fn whole(name: &str, value: &Value, path: &str, errors: &mut Vec<FieldError>) {
    const NANO: i128 = 1_000_000_000;
    let nanos = Quantity::parse(plain(value)).map_or(0, Quantity::nanos);
    if is_extended(name) && nanos % NANO != 0 {
        errors.push(FieldError::invalid(path, value, "must be an integer"));
    }
}

/// Extended resources have a domain that is not Kubernetes' own; hugepages count alike.
fn is_extended(name: &str) -> bool {
    name.starts_with("hugepages-") || (name.contains('/') && !name.contains("kubernetes.io/"))
}

/// Adds or replaces a condition as upstream's `UpdatePodCondition`.
pub(crate) fn set_condition(pod: &mut Value, condition: &[(&str, &str)], now: &str) {
    let kind = condition.iter().find(|(k, _)| *k == "type").map_or("", |(_, v)| v);
    let mut fresh = json!({ "lastProbeTime": null, "lastTransitionTime": now });
    for (key, value) in condition {
        fresh[*key] = json!(value);
    }
    default(&mut pod["status"], "conditions", json!([]));
    let Some(list) = pod["status"]["conditions"].as_array_mut() else { return };
    match list.iter_mut().find(|c| c["type"] == *kind) {
        Some(old) => {
            if old["status"] == fresh["status"] {
                fresh["lastTransitionTime"] = old["lastTransitionTime"].clone();
            }
            *old = fresh;
        }
        None => list.push(fresh),
    }
}
