//! Defaults of kinds that are stored for others to read: workloads, services, volumes.

use super::super::kinds::Kind;
use super::{default, pod_defaults};
use serde_json::{Value, json};

pub(super) fn defaults(kind: &Kind, object: &mut Value) {
    if object["spec"]["template"]["spec"].is_object() {
        pod_defaults::pod_spec(&mut object["spec"]["template"]["spec"]);
    }
    let template_labels = object["spec"]["template"]["metadata"]["labels"].clone();
    let spec = &mut object["spec"];
    match kind.resource.as_str() {
        "deployments" => {
            default(spec, "replicas", json!(1));
            default(spec, "revisionHistoryLimit", json!(10));
            default(spec, "progressDeadlineSeconds", json!(600));
            default(&mut spec["strategy"], "type", json!("RollingUpdate"));
            if spec["strategy"]["type"] == "RollingUpdate" {
                let update = &mut spec["strategy"]["rollingUpdate"];
                default(update, "maxSurge", json!("25%"));
                default(update, "maxUnavailable", json!("25%"));
            }
        }
        "replicasets" => default(spec, "replicas", json!(1)),
        "replicationcontrollers" => {
            default(spec, "replicas", json!(1));
            if template_labels.is_object() {
                default(spec, "selector", template_labels);
            }
        }
        "statefulsets" => {
            default(spec, "replicas", json!(1));
            default(spec, "revisionHistoryLimit", json!(10));
            default(spec, "podManagementPolicy", json!("OrderedReady"));
            default(&mut spec["updateStrategy"], "type", json!("RollingUpdate"));
            let retention = &mut spec["persistentVolumeClaimRetentionPolicy"];
            default(retention, "whenDeleted", json!("Retain"));
            default(retention, "whenScaled", json!("Retain"));
        }
        "daemonsets" => {
            default(spec, "revisionHistoryLimit", json!(10));
            default(&mut spec["updateStrategy"], "type", json!("RollingUpdate"));
        }
        "jobs" => job(object),
        "services" => service(spec),
        "persistentvolumes" => {
            default(spec, "persistentVolumeReclaimPolicy", json!("Retain"));
            default(spec, "volumeMode", json!("Filesystem"));
        }
        "persistentvolumeclaims" => default(spec, "volumeMode", json!("Filesystem")),
        _ => {}
    }
}

fn job(object: &mut Value) {
    let uid = object["metadata"]["uid"].clone();
    let name = object["metadata"]["name"].clone();
    let spec = &mut object["spec"];
    if spec["completions"].is_null() && spec["parallelism"].is_null() {
        spec["completions"] = json!(1);
    }
    default(spec, "parallelism", json!(1));
    default(spec, "backoffLimit", json!(6));
    default(spec, "completionMode", json!("NonIndexed"));
    default(spec, "suspend", json!(false));
    default(spec, "manualSelector", json!(false));
    default(spec, "podReplacementPolicy", json!("TerminatingOrFailed"));
    // the selector is made from the identity of the job, once it has one
    if uid.is_string() && spec["manualSelector"] != true && spec["selector"].is_null() {
        spec["selector"] = json!({ "matchLabels": { "batch.kubernetes.io/controller-uid": uid } });
        let labels = &mut spec["template"]["metadata"]["labels"];
        for prefix in ["", "batch.kubernetes.io/"] {
            labels[format!("{prefix}controller-uid")] = uid.clone();
            labels[format!("{prefix}job-name")] = name.clone();
        }
    }
    if let Some(map) = spec.as_object_mut() {
        map.retain(|_, item| !item.is_null());
    }
    let labels = spec["template"]["metadata"]["labels"].clone();
    if labels.is_object() {
        default(&mut object["metadata"], "labels", labels);
    }
}

fn service(spec: &mut Value) {
    default(spec, "type", json!("ClusterIP"));
    default(spec, "sessionAffinity", json!("None"));
    default(spec, "internalTrafficPolicy", json!("Cluster"));
    for port in spec["ports"].as_array_mut().into_iter().flatten() {
        default(port, "protocol", json!("TCP"));
        let number = port["port"].clone();
        default(port, "targetPort", number);
    }
}
