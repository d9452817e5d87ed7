//! Defaults of pods and of pod templates (upstream's `SetDefaults_PodSpec` and its family).

use super::default;
use serde_json::{Value, json};

pub(super) fn pod(object: &mut Value) {
    pod_spec(&mut object["spec"]);
    default(&mut object["spec"], "enableServiceLinks", json!(true));
    if object["status"]["phase"].as_str().unwrap_or("").is_empty() {
        object["status"]["phase"] = json!("Pending");
    }
    let host_network = object["spec"]["hostNetwork"] == true;
    for list in ["containers", "initContainers"] {
        for container in object["spec"][list].as_array_mut().into_iter().flatten() {
            requests_from_limits(&mut container["resources"]);
            if host_network {
                host_ports(container);
            }
        }
    }
    drop_nulls(&mut object["spec"]);
}

/// Defaults that pods and templates share.
pub(super) fn pod_spec(spec: &mut Value) {
    if !spec.is_object() {
        return;
    }
    default(spec, "restartPolicy", json!("Always"));
    default(spec, "dnsPolicy", json!("ClusterFirst"));
    default(spec, "terminationGracePeriodSeconds", json!(30));
    default(spec, "schedulerName", json!("default-scheduler"));
    default(spec, "securityContext", json!({}));
    let account = spec["serviceAccountName"].clone();
    match (account.is_string(), spec["serviceAccount"].is_string()) {
        (true, _) => spec["serviceAccount"] = account,
        (false, true) => spec["serviceAccountName"] = spec["serviceAccount"].clone(),
        (false, false) => {}
    }
    for list in ["containers", "initContainers"] {
        for item in spec[list].as_array_mut().into_iter().flatten() {
            container(item);
        }
    }
    for item in spec["volumes"].as_array_mut().into_iter().flatten() {
        volume(item);
    }
    drop_nulls(spec);
}

fn container(container: &mut Value) {
    let image = container["image"].as_str().unwrap_or("");
    let policy = if is_latest(image) { "Always" } else { "IfNotPresent" };
    default(container, "imagePullPolicy", json!(policy));
    default(container, "terminationMessagePath", json!("/dev/termination-log"));
    default(container, "terminationMessagePolicy", json!("File"));
    for port in container["ports"].as_array_mut().into_iter().flatten() {
        default(port, "protocol", json!("TCP"));
    }
    for name in ["livenessProbe", "readinessProbe", "startupProbe"] {
        if container[name].is_object() {
            probe(&mut container[name]);
        }
    }
    for variable in container["env"].as_array_mut().into_iter().flatten() {
        let field = &mut variable["valueFrom"]["fieldRef"];
        if field.is_object() {
            default(field, "apiVersion", json!("v1"));
        }
        drop_nulls(variable);
    }
    drop_nulls(container);
}

/// Reading a missing field through a mutable index leaves a null behind.
fn drop_nulls(value: &mut Value) {
    if let Some(map) = value.as_object_mut() {
        for item in map.values_mut() {
            if item.is_object() && item.as_object().is_some_and(|m| m.values().any(Value::is_null))
            {
                drop_nulls(item);
                if item.as_object().is_some_and(serde_json::Map::is_empty) {
                    *item = Value::Null;
                }
            }
        }
        map.retain(|_, item| !item.is_null());
    }
}

fn probe(probe: &mut Value) {
    for (field, value) in [
        ("timeoutSeconds", 1),
        ("periodSeconds", 10),
        ("successThreshold", 1),
        ("failureThreshold", 3),
    ] {
        default(probe, field, json!(value));
    }
    if probe["httpGet"].is_object() {
        default(&mut probe["httpGet"], "path", json!("/"));
        default(&mut probe["httpGet"], "scheme", json!("HTTP"));
    }
    drop_nulls(probe);
}

/// Whether an image name has no tag and no digest, or the tag `latest`.
fn is_latest(image: &str) -> bool {
    if image.contains('@') {
        return false;
    }
    let last = image.rsplit('/').next().unwrap_or(image);
    last.split_once(':').is_none_or(|(_, tag)| tag == "latest")
}

const DEFAULT_MODE: i64 = 0o644;

fn volume(volume: &mut Value) {
    let sources = volume.as_object().map_or(0, |m| m.len());
    if sources <= 1 {
        volume["emptyDir"] = json!({});
    }
    for source in ["configMap", "secret", "downwardAPI", "projected"] {
        if volume[source].is_object() {
            default(&mut volume[source], "defaultMode", json!(DEFAULT_MODE));
        }
    }
    if volume["hostPath"].is_object() {
        default(&mut volume["hostPath"], "type", json!(""));
    }
    drop_nulls(volume);
}

fn requests_from_limits(resources: &mut Value) {
    let Some(limits) = resources["limits"].as_object().cloned() else {
        drop_nulls(resources);
        return;
    };
    for (name, limit) in limits {
        if resources["requests"][&name].is_null() {
            resources["requests"][&name] = limit;
        }
    }
}

fn host_ports(container: &mut Value) {
    for port in container["ports"].as_array_mut().into_iter().flatten() {
        let number = port["containerPort"].clone();
        default(port, "hostPort", number);
    }
    drop_nulls(container);
}
