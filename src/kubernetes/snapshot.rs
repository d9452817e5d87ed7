//! A cluster as it is, in one file, for `simulate --snapshot`.
//!
//! Only what scheduling looks at is kept: no images, commands, environment or volumes, and no
//! annotations but our own and those of others that are read.

use super::convert::reported::Source;
use super::convert::{Optional, levels, reports};
use crate::model::contract::GROUP;
use crate::model::foreign;
use http::Request;
use serde::{Deserialize, Serialize};
use serde_json::{Map, Value};

/// The kind of the file.
pub const KIND: &str = "Snapshot";
/// Objects of one page.
const PAGE: u32 = 500;
/// Pages of one list at most.
const PAGES_MAX: usize = 10_000;

/// The file.
#[derive(Clone, Debug, Serialize, Deserialize)]
#[serde(deny_unknown_fields, rename_all = "camelCase")]
pub struct Snapshot {
    /// As that of queues.
    pub api_version: String,
    /// [`KIND`].
    pub kind: String,
    /// When it was taken, in RFC 3339.
    pub taken: String,
    /// Nodes, trimmed.
    pub nodes: Vec<Value>,
    /// Queues.
    pub queues: Vec<Value>,
    /// Pods of all namespaces, trimmed.
    pub pods: Vec<Value>,
    /// Objects of others: Topology of Kueue and of KAI, which name levels of the network, and
    /// NodeResourceTopology objects and ResourceSlices, which report the GPUs of nodes. Trimmed.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub others: Vec<Value>,
}

/// Why there is no snapshot. The person who asked tries again, or is given the rights.
#[derive(Debug, thiserror::Error)]
pub enum SnapshotError {
    /// A list failed.
    #[error("listing {what}: {source}: check the connection and the right to list them")]
    List {
        /// The plural of a kind.
        what: &'static str,
        /// The cause.
        source: Box<kube::Error>,
    },
    /// A list never ends.
    #[error("listing {what}: more than {PAGES_MAX} pages")]
    Endless {
        /// The plural of a kind.
        what: &'static str,
    },
}

/// Fields to keep, as paths; `*` stands for every element of a list.
const NODE: &[&str] = &[
    "metadata.name",
    "metadata.uid",
    "metadata.labels",
    "spec.unschedulable",
    "spec.taints",
    "status.allocatable",
];

const POD: &[&str] = &[
    "metadata.name",
    "metadata.namespace",
    "metadata.uid",
    "metadata.creationTimestamp",
    "metadata.deletionTimestamp",
    "metadata.labels",
    "metadata.ownerReferences",
    "spec.schedulerName",
    "spec.nodeName",
    "spec.priority",
    "spec.activeDeadlineSeconds",
    "spec.terminationGracePeriodSeconds",
    "spec.schedulingGates",
    "spec.nodeSelector",
    "spec.affinity",
    "spec.tolerations",
    "spec.topologySpreadConstraints",
    "spec.overhead",
    "spec.resources",
    "spec.resourceClaims",
    "spec.containers.*.name",
    "spec.containers.*.resources",
    "spec.containers.*.ports",
    "spec.initContainers.*.name",
    "spec.initContainers.*.resources",
    "spec.initContainers.*.ports",
    "spec.initContainers.*.restartPolicy",
    "status.phase",
    "status.conditions.*.type",
    "status.conditions.*.status",
    "status.conditions.*.lastTransitionTime",
];

const QUEUE: &[&str] = &["metadata.name", "spec"];

const TOPOLOGY: &[&str] = &["metadata.name", "spec.levels"];

const ZONES: &[&str] = &[
    "metadata.name",
    "zones.*.name",
    "zones.*.type",
    "zones.*.costs",
    "zones.*.resources.*.name",
    "zones.*.resources.*.capacity",
];

const SLICE: &[&str] = &[
    "metadata.name",
    "spec.driver",
    "spec.nodeName",
    "spec.pool",
    "spec.devices.*.name",
    "spec.devices.*.attributes",
];

/// Lists nodes, queues and pods, and objects of others where their kinds are installed and may be
/// read, a page at a time. `taken`: the time now, in RFC 3339.
///
/// # Errors
/// The first list that fails. Without the definition of queues there are none.
pub async fn take(client: &kube::Client, taken: String) -> Result<Snapshot, SnapshotError> {
    let nodes = list(client, "nodes", ("/api/v1/nodes", ""), NODE).await?;
    let path = "/apis/mss-scheduler.io/v1alpha1/queues";
    let queues = list(client, "queues", (path, ""), QUEUE).await;
    let mut queues = match queues {
        Err(error) if error.is_any_of(&[404]) => Vec::new(),
        queues => queues?,
    };
    let api_version = format!("{GROUP}/v1alpha1");
    queues.iter_mut().for_each(|queue| call(queue, &api_version, "Queue"));
    let pods = list(client, "pods", ("/api/v1/pods", ""), POD).await?;
    let mut others = topologies(client).await?;
    for source in Source::ALL {
        let selector = source.selector().map(|selector| format!("&fieldSelector={selector}"));
        let keep = if source == Source::Zones { ZONES } else { SLICE };
        let selector = selector.unwrap_or_default();
        others.extend(optional(client, source.kind(), &selector, keep).await?);
    }
    others.iter_mut().for_each(keep_read_attributes);
    Ok(Snapshot { api_version, kind: KIND.into(), taken, nodes, queues, pods, others })
}

/// The Topology objects of Kueue and of KAI, where these are installed and may be read, trimmed.
///
/// # Errors
/// The first list that fails.
pub async fn topologies(client: &kube::Client) -> Result<Vec<Value>, SnapshotError> {
    let mut found = Vec::new();
    for source in levels::SOURCES {
        found.extend(optional(client, source, "", TOPOLOGY).await?);
    }
    Ok(found)
}

/// The objects of a kind, in the first of its versions that is served; none if it is not installed
/// or may not be read, as the scheduler does without them then.
async fn optional(
    client: &kube::Client,
    of: Optional,
    selector: &str,
    keep: &[&str],
) -> Result<Vec<Value>, SnapshotError> {
    for version in of.versions {
        let version = format!("{}/{version}", of.group);
        let path = format!("/apis/{version}/{}", of.plural);
        match list(client, of.plural, (&path, selector), keep).await {
            Err(error) if error.is_any_of(&[403, 404]) => {}
            listed => {
                let mut objects = listed?;
                objects.iter_mut().for_each(|object| call(object, &version, of.kind));
                return Ok(objects);
            }
        }
    }
    Ok(Vec::new())
}

/// Objects of a list do not say what they are.
fn call(object: &mut Value, api_version: &str, kind: &str) {
    object["apiVersion"] = api_version.into();
    object["kind"] = kind.into();
}

/// Serial numbers and the like of devices are nobody's business.
fn keep_read_attributes(object: &mut Value) {
    let devices = object.pointer_mut("/spec/devices").and_then(Value::as_array_mut);
    for device in devices.into_iter().flatten() {
        if let Some(attributes) = device["attributes"].as_object_mut() {
            attributes.retain(|name, _| reports::is_read(name));
        }
    }
}

impl SnapshotError {
    /// A list was answered with one of these codes.
    fn is_any_of(&self, codes: &[u16]) -> bool {
        let Self::List { source, .. } = self else { return false };
        matches!(&**source, kube::Error::Api(status) if codes.contains(&status.code))
    }
}

/// What is read of a list.
#[derive(Debug, Deserialize)]
struct Page {
    #[serde(default)]
    metadata: PageMeta,
    #[serde(default)]
    items: Vec<Value>,
}

#[derive(Debug, Default, Deserialize)]
struct PageMeta {
    #[serde(default, rename = "continue")]
    next: Option<String>,
}

async fn list(
    client: &kube::Client,
    what: &'static str,
    (path, selector): (&str, &str),
    keep: &[&str],
) -> Result<Vec<Value>, SnapshotError> {
    let failed = |source| SnapshotError::List { what, source: Box::new(source) };
    let mut objects = Vec::new();
    let mut next = String::new();
    for _ in 0..PAGES_MAX {
        let after = if next.is_empty() { String::new() } else { format!("&continue={next}") };
        let uri = format!("{path}?limit={PAGE}{selector}{after}");
        let request = Request::get(uri).body(Vec::new());
        let request = request.map_err(|error| failed(kube::Error::HttpError(error)))?;
        let page: Page = client.request(request).await.map_err(failed)?;
        objects.extend(page.items.iter().map(|object| trimmed(object, keep)));
        next = page.metadata.next.unwrap_or_default();
        if next.is_empty() {
            return Ok(objects);
        }
    }
    Err(SnapshotError::Endless { what })
}

/// The object with the fields to keep, and the annotations that are read.
fn trimmed(object: &Value, keep: &[&str]) -> Value {
    let mut kept = Value::Object(Map::new());
    for path in keep {
        let path: Vec<&str> = path.split('.').collect();
        copy(object, &mut kept, &path);
    }
    let annotations = object["metadata"]["annotations"].as_object().into_iter().flatten();
    let is_own = |key: &str| key.strip_prefix(GROUP).is_some_and(|rest| rest.starts_with('/'));
    let own: Map<String, Value> = annotations
        .filter(|(key, _)| is_own(key) || foreign::is_read(key))
        .map(|(key, value)| (key.clone(), value.clone()))
        .collect();
    if !own.is_empty() {
        kept["metadata"]["annotations"] = Value::Object(own);
    }
    kept
}

/// Copies what is at a path, if it is there.
fn copy(from: &Value, to: &mut Value, path: &[&str]) {
    match (path, from) {
        ([], _) => *to = from.clone(),
        (["*", rest @ ..], Value::Array(items)) => {
            if !to.is_array() {
                *to = Value::Array(vec![Value::Object(Map::new()); items.len()]);
            }
            for (item, slot) in items.iter().zip(to.as_array_mut().into_iter().flatten()) {
                copy(item, slot, rest);
            }
        }
        ([field, rest @ ..], Value::Object(fields)) => {
            let Some(value) = fields.get(*field) else { return };
            let Some(map) = to.as_object_mut() else { return };
            let slot = map.entry(*field).or_insert_with(|| Value::Object(Map::new()));
            copy(value, slot, rest);
        }
        _ => {}
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    #[test]
    fn only_what_scheduling_looks_at_is_kept() {
        let pod = json!({
            "metadata": { "name": "a", "managedFields": [1], "annotations": {
                "mss-scheduler.io/pod-group": "g", "secret": "x",
                "kai.scheduler/topology-required-placement": "rack" } },
            "spec": { "nodeName": "n", "volumes": [], "containers": [
                { "name": "main", "image": "i", "env": [{}], "resources": { "limits": {} } },
                { "name": "side", "command": ["x"] } ] },
            "status": { "phase": "Running", "podIP": "10.0.0.1" } });
        let kept = json!({
            "metadata": { "name": "a", "annotations": {
                "kai.scheduler/topology-required-placement": "rack",
                "mss-scheduler.io/pod-group": "g" } },
            "spec": { "nodeName": "n", "containers": [
                { "name": "main", "resources": { "limits": {} } }, { "name": "side" } ] },
            "status": { "phase": "Running" } });
        assert_eq!(trimmed(&pod, POD), kept);
        let mut slice = json!({ "spec": { "devices": [
            { "name": "gpu-0", "attributes": { "uuid": { "string": "GPU-1" },
                "resource.kubernetes.io/pcieRoot": { "string": "pci0000:a0" } } },
            { "name": "gpu-1" } ] } });
        keep_read_attributes(&mut slice);
        let attributes = json!({ "resource.kubernetes.io/pcieRoot": { "string": "pci0000:a0" } });
        assert_eq!(slice["spec"]["devices"][0]["attributes"], attributes);
    }
}
