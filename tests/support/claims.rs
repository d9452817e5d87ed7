//! Pods that claim devices, what plays the controller of claims for them, and their story, which is
//! the same on the embedded API server and on a real one.

use super::objects::{bare_pod, bound, create_pod, delete_pod, send, unschedulable};
use http::Method;
use k8s_openapi::api::core::v1::{Node, Pod};
use kube::api::{Api, ListParams, PostParams};
use mss_scheduler::simulator::kubelet::NodeShape;
use serde_json::{Value, json};
use std::collections::{BTreeMap, BTreeSet};
use std::future::Future;
use std::time::{Duration, Instant};

const API: &str = "/apis/resource.k8s.io/v1";
const QUEUES: &str = "/apis/mss-scheduler.io/v1alpha1/queues";
const CLASS: &str = "gpu.nvidia.com";
const FINALIZER: &str = "resource.kubernetes.io/delete-protection";
/// Long enough for anything that is not about waiting on a slow machine.
const SOON: Duration = Duration::from_secs(60);
/// How long nothing may happen before it counts as never.
const QUIET: Duration = Duration::from_secs(2);

async fn post(client: &kube::Client, path: &str, body: &Value) {
    send(client, Method::POST, path, body).await.unwrap_or_else(|why| panic!("{path}: {why}"));
}

fn claims_path(namespace: &str) -> String {
    format!("{API}/namespaces/{namespace}/resourceclaims")
}

/// `spec.devices` of a claim for so many GPUs.
fn devices(count: u32) -> Value {
    let exactly =
        json!({ "deviceClassName": CLASS, "allocationMode": "ExactCount", "count": count });
    json!({ "requests": [{ "name": "gpus", "exactly": exactly }] })
}

/// Plays kube-controller-manager, as far as claims go: makes those of templates, takes reservations
/// of pods back that are gone, and devices of claims that are reserved for nobody.
async fn control(client: &kube::Client, namespace: &str) {
    let pods: Api<Pod> = Api::namespaced(client.clone(), namespace);
    loop {
        let listed = pods.list(&ListParams::default()).await;
        let claims = send(client, Method::GET, &claims_path(namespace), &Value::Null).await;
        if let (Ok(listed), Ok(claims)) = (listed, claims) {
            let claims = claims["items"].as_array().cloned().unwrap_or_default();
            for pod in &listed.items {
                make_claims(client, namespace, pod, &claims).await;
            }
            let uids: BTreeSet<&str> =
                listed.items.iter().filter_map(|pod| pod.metadata.uid.as_deref()).collect();
            for claim in claims {
                free_claim(client, namespace, claim, &uids).await;
            }
        }
        tokio::time::sleep(Duration::from_millis(50)).await;
    }
}

/// What fails is tried again.
async fn make_claims(client: &kube::Client, namespace: &str, pod: &Pod, claims: &[Value]) {
    let named = pod.spec.as_ref().and_then(|spec| spec.resource_claims.as_ref());
    let made = pod.status.as_ref().and_then(|status| status.resource_claim_statuses.as_ref());
    let templates = named.into_iter().flatten();
    let mut statuses = Vec::new();
    for claim in templates.filter(|_| made.is_none_or(Vec::is_empty)) {
        let Some(template) = &claim.resource_claim_template_name else { continue };
        let pod_name = pod.metadata.name.as_deref().unwrap_or_default();
        let name = format!("{pod_name}-{}", claim.name);
        if !claims.iter().any(|known| known["metadata"]["name"] == *name) {
            let path = format!("{API}/namespaces/{namespace}/resourceclaimtemplates/{template}");
            let Ok(template) = send(client, Method::GET, &path, &Value::Null).await else { return };
            let owner = json!({ "apiVersion": "v1", "kind": "Pod", "name": pod_name,
                "uid": pod.metadata.uid, "controller": true });
            let claim = json!({ "apiVersion": "resource.k8s.io/v1", "kind": "ResourceClaim",
                "metadata": { "name": name, "ownerReferences": [owner] },
                "spec": template["spec"]["spec"] });
            if send(client, Method::POST, &claims_path(namespace), &claim).await.is_err() {
                return;
            }
        }
        statuses.push(json!({ "name": claim.name, "resourceClaimName": name }));
    }
    if !statuses.is_empty() {
        let pod_name = pod.metadata.name.as_deref().unwrap_or_default();
        let path = format!("/api/v1/namespaces/{namespace}/pods/{pod_name}/status");
        let patch = json!({ "status": { "resourceClaimStatuses": statuses } });
        send(client, Method::PATCH, &path, &patch).await.ok();
    }
}

async fn free_claim(
    client: &kube::Client,
    namespace: &str,
    mut claim: Value,
    pods: &BTreeSet<&str>,
) {
    let name = claim["metadata"]["name"].as_str().unwrap_or_default().to_owned();
    let path = format!("{}/{name}", claims_path(namespace));
    let is_there = |uid: &Value| uid.as_str().is_some_and(|uid| pods.contains(uid));
    let reserved = claim["status"]["reservedFor"].as_array().cloned().unwrap_or_default();
    let kept: Vec<Value> =
        reserved.iter().filter(|consumer| is_there(&consumer["uid"])).cloned().collect();
    if kept.len() < reserved.len() {
        if let Some(status) = claim["status"].as_object_mut() {
            if kept.is_empty() {
                status.remove("allocation");
                status.remove("reservedFor");
            } else {
                status.insert("reservedFor".into(), json!(kept));
            }
        }
        send(client, Method::PUT, &format!("{path}/status"), &claim).await.ok();
        return;
    }
    let owner = &claim["metadata"]["ownerReferences"][0]["uid"];
    if owner.is_string() && !is_there(owner) && claim["metadata"]["deletionTimestamp"].is_null() {
        send(client, Method::DELETE, &path, &Value::Null).await.ok();
    }
    let is_protected = claim["metadata"]["finalizers"].as_array().is_some_and(|f| !f.is_empty());
    let has_devices = !claim["status"]["allocation"].is_null();
    if is_protected && !has_devices && !claim["metadata"]["deletionTimestamp"].is_null() {
        claim["metadata"]["finalizers"] = json!([]);
        send(client, Method::PUT, &path, &claim).await.ok();
    }
}

/// Tells a story while the controller of claims is played.
async fn with_controller(client: &kube::Client, namespace: &str, story: impl Future<Output = ()>) {
    tokio::select! {
        () = control(client, namespace) => unreachable!("it goes on for ever"),
        () = story => {}
    }
}

/// A pod that claims so many GPUs of its own.
fn claiming(namespace: &str, name: &str, count: u32) -> Pod {
    naming(namespace, name, "resourceClaimTemplateName", &format!("gpus-{count}"))
}

fn naming(namespace: &str, name: &str, how: &str, what: &str) -> Pod {
    let mut pod = serde_json::to_value(bare_pod(namespace, name, 0)).expect("a pod");
    pod["spec"]["resourceClaims"] = json!([{ "name": "gpus", how: what }]);
    pod["spec"]["containers"][0]["resources"]["claims"] = json!([{ "name": "gpus" }]);
    serde_json::from_value(pod).expect("a pod")
}

/// The same for the members of a gang.
fn gang(namespace: &str, name: &str, members: usize, count: u32) -> Vec<Pod> {
    let member = |number: usize| {
        let mut pod = claiming(namespace, &format!("{name}-{number}"), count);
        let said = [("pod-group", name.to_owned()), ("min-member", members.to_string())];
        let said = said.map(|(key, value)| (format!("mss-scheduler.io/{key}"), value));
        pod.metadata.annotations = Some(said.into());
        pod
    };
    (0..members).map(member).collect()
}

fn in_queue(mut pod: Pod, queue: &str) -> Pod {
    let said = pod.metadata.annotations.get_or_insert_default();
    said.insert("mss-scheduler.io/queue".to_owned(), queue.to_owned());
    pod
}

/// Waits until so many pods are told that they are refused, or that they wait for a claim, and
/// returns the messages.
async fn told(client: &kube::Client, namespace: &str, reason: &str, count: usize) -> Vec<String> {
    let pods: Api<Pod> = Api::namespaced(client.clone(), namespace);
    let deadline = Instant::now() + SOON;
    loop {
        let listed = pods.list(&ListParams::default()).await.expect("pods can be listed");
        let conditions = listed.items.into_iter().filter_map(|pod| pod.status?.conditions);
        let refusals = conditions.flatten().filter(|condition| {
            condition.status == "False" && condition.reason.as_deref() == Some(reason)
        });
        let messages: Vec<String> = refusals.filter_map(|condition| condition.message).collect();
        if messages.len() == count {
            return messages;
        }
        assert!(Instant::now() < deadline, "told are {messages:?}, not {count}");
        tokio::time::sleep(Duration::from_millis(50)).await;
    }
}

/// Names of the pods that are bound.
async fn all_bound(client: &kube::Client, namespace: &str) -> BTreeSet<String> {
    let pods: Api<Pod> = Api::namespaced(client.clone(), namespace);
    let listed = pods.list(&ListParams::default()).await.expect("pods can be listed");
    let is_bound = |pod: &Pod| pod.spec.as_ref().is_some_and(|spec| spec.node_name.is_some());
    listed.items.into_iter().filter(is_bound).filter_map(|pod| pod.metadata.name).collect()
}

/// Waits until just these pods are bound.
async fn until_bound(client: &kube::Client, namespace: &str, names: &[&str]) {
    let wanted: BTreeSet<String> = names.iter().map(|name| (*name).to_owned()).collect();
    let deadline = Instant::now() + SOON;
    loop {
        let found = all_bound(client, namespace).await;
        if found == wanted {
            return;
        }
        assert!(Instant::now() < deadline, "bound are {found:?}, not {wanted:?}");
        tokio::time::sleep(Duration::from_millis(50)).await;
    }
}

/// Which claim has each device. No device has two.
async fn taken(client: &kube::Client, namespace: &str) -> BTreeMap<String, String> {
    let claims = send(client, Method::GET, &claims_path(namespace), &Value::Null).await;
    let claims = claims.expect("claims can be listed");
    let mut taken = BTreeMap::new();
    for claim in claims["items"].as_array().expect("a list") {
        let name = claim["metadata"]["name"].as_str().expect("a name");
        let results = claim["status"]["allocation"]["devices"]["results"].as_array();
        for result in results.into_iter().flatten() {
            let device = format!("{}/{}", result["pool"], result["device"]).replace('"', "");
            let other = taken.insert(device.clone(), name.to_owned());
            assert_eq!(other, None, "{device} is given to {name} as well");
        }
    }
    taken
}

/// A class of GPUs, templates of claims for 1, 2 and 4 of them, and nodes: `by-claim-a` and
/// `by-claim-b` of 4 GPUs that claims are given, and `by-plugin` of 4 that a device plugin gives.
pub(crate) async fn install(client: &kube::Client, namespace: &str) {
    let selector = "device.driver == \"gpu.nvidia.com\" && \
                    device.attributes[\"gpu.nvidia.com\"].type == \"gpu\"";
    let class = json!({ "apiVersion": "resource.k8s.io/v1", "kind": "DeviceClass",
        "metadata": { "name": CLASS },
        "spec": { "selectors": [{ "cel": { "expression": selector } }] } });
    post(client, &format!("{API}/deviceclasses"), &class).await;
    for count in [1, 2, 4] {
        let template = json!({ "apiVersion": "resource.k8s.io/v1", "kind": "ResourceClaimTemplate",
            "metadata": { "name": format!("gpus-{count}") },
            "spec": { "spec": { "devices": devices(count) } } });
        let path = format!("{API}/namespaces/{namespace}/resourceclaimtemplates");
        post(client, &path, &template).await;
    }
    let nodes: Api<Node> = Api::all(client.clone());
    for (name, gpus) in [("by-claim-a", 0), ("by-claim-b", 0), ("by-plugin", 4)] {
        let shape = NodeShape { gpus, ..NodeShape::default() };
        nodes.create(&PostParams::default(), &shape.node(name)).await.expect("a node");
    }
    for node in ["by-claim-a", "by-claim-b"] {
        let device = |index: usize| {
            let root = format!("pci0000:{}0", index % 2 + 1);
            json!({ "name": format!("gpu-{index}"), "attributes": {
                "type": { "string": "gpu" },
                "resource.kubernetes.io/pciBusID": { "string": format!("0000:0{index}:00.0") },
                "resource.kubernetes.io/pcieRoot": { "string": root } } })
        };
        let devices: Vec<Value> = (0..4).map(device).collect();
        let slice = json!({ "apiVersion": "resource.k8s.io/v1", "kind": "ResourceSlice",
            "metadata": { "name": node },
            "spec": { "driver": "gpu.nvidia.com", "nodeName": node, "devices": devices,
                "pool": { "name": node, "generation": 1, "resourceSliceCount": 1 } } });
        post(client, &format!("{API}/resourceslices"), &slice).await;
    }
}

/// Takes back what [`install`] made beside nodes and pods.
pub(crate) async fn remove(client: &kube::Client) {
    for path in ["resourceslices/by-claim-a", "resourceslices/by-claim-b", "deviceclasses"] {
        let path = match path {
            "deviceclasses" => format!("{API}/deviceclasses/{CLASS}"),
            path => format!("{API}/{path}"),
        };
        send(client, Method::DELETE, &path, &Value::Null).await.expect("it can be removed");
    }
}

/// Claims get devices of their own before their pods are bound, the best-connected ones, until none
/// is left; what is given back is given again. Pods that ask a device plugin go elsewhere.
pub(crate) async fn no_device_is_given_twice(client: &kube::Client, namespace: &str) {
    with_controller(client, namespace, async {
        create_pod(client, &claiming(namespace, "first", 2)).await;
        let (node, said) = bound(client, namespace, "first").await;
        assert!(node.starts_with("by-claim"), "{node}");
        let said = said.expect("which GPUs it has");
        assert!(["0,2", "1,3"].contains(&&*said), "two behind one bridge, not {said}");
        let path = format!("{}/first-gpus", claims_path(namespace));
        let claim = send(client, Method::GET, &path, &Value::Null).await.expect("it exists");
        let uid = &claim["status"]["reservedFor"][0]["uid"];
        let pods: Api<Pod> = Api::namespaced(client.clone(), namespace);
        let pod = pods.get("first").await.expect("it exists");
        assert_eq!(uid.as_str(), pod.metadata.uid.as_deref(), "{claim}");
        let terms = &claim["status"]["allocation"]["nodeSelector"]["nodeSelectorTerms"];
        assert_eq!(terms[0]["matchFields"][0]["values"], json!([node]), "{claim}");
        assert_eq!(claim["metadata"]["finalizers"], json!([FINALIZER]), "{claim}");
        let devices: Vec<String> = taken(client, namespace).await.into_keys().collect();
        let told = said.split(',').map(|index| format!("{node}/gpu-{index}"));
        assert_eq!(devices, told.collect::<Vec<_>>(), "the annotation and the claim agree");

        for name in ["second", "third", "fourth", "fifth"] {
            create_pod(client, &claiming(namespace, name, 2)).await;
        }
        let told = unschedulable(client, namespace, 1, SOON).await;
        assert!(told[0].contains("3 cannot allocate all claims"), "{told:?}");
        assert_eq!(taken(client, namespace).await.len(), 8, "all devices are given");
        // a device plugin's GPUs are for those who ask it, and they get no others
        create_pod(client, &bare_pod(namespace, "plugged", 4)).await;
        assert_eq!(bound(client, namespace, "plugged").await.0, "by-plugin");
        create_pod(client, &bare_pod(namespace, "more", 1)).await;
        let told = unschedulable(client, namespace, 2, SOON).await;
        assert!(told.iter().any(|text| text.contains("by device plugin")), "{told:?}");

        delete_pod(client, namespace, "first").await;
        let names = ["second", "third", "fourth", "fifth"];
        for name in names {
            bound(client, namespace, name).await;
        }
        assert_eq!(taken(client, namespace).await.len(), 8, "all devices are given");
        for name in names.into_iter().chain(["plugged", "more"]) {
            delete_pod(client, namespace, name).await;
        }
        until_free(client, namespace).await;
    })
    .await;
}

/// Waits until no claim has a device.
async fn until_free(client: &kube::Client, namespace: &str) {
    let deadline = Instant::now() + SOON;
    while !taken(client, namespace).await.is_empty() {
        assert!(Instant::now() < deadline, "claims keep devices");
        tokio::time::sleep(Duration::from_millis(50)).await;
    }
}

/// A pod waits for a claim that it names; two pods share one, on the node where it is.
pub(crate) async fn a_shared_claim_is_given_once(client: &kube::Client, namespace: &str) {
    with_controller(client, namespace, async {
        for name in ["one", "two"] {
            let pod = naming(namespace, name, "resourceClaimName", "shared");
            create_pod(client, &pod).await;
        }
        let told = told(client, namespace, "WaitingForClaim", 2).await;
        let waits = "waits for the claim shared, which does not exist";
        assert!(told.iter().all(|text| text.contains(waits)), "{told:?}");
        let claim = json!({ "apiVersion": "resource.k8s.io/v1", "kind": "ResourceClaim",
            "metadata": { "name": "shared" }, "spec": { "devices": devices(4) } });
        post(client, &claims_path(namespace), &claim).await;
        let (one, _) = bound(client, namespace, "one").await;
        let (two, _) = bound(client, namespace, "two").await;
        assert_eq!(one, two, "a claim is on one node");
        assert_eq!(taken(client, namespace).await.len(), 4, "it is given once");
        // it is counted once: the other node's devices are all free
        create_pod(client, &claiming(namespace, "other", 4)).await;
        let (other, _) = bound(client, namespace, "other").await;
        assert_ne!(other, one);
        delete_pod(client, namespace, "one").await;
        tokio::time::sleep(QUIET).await;
        assert_eq!(taken(client, namespace).await.len(), 8, "its last pod has not gone");
        for name in ["two", "other"] {
            delete_pod(client, namespace, name).await;
        }
        until_free(client, namespace).await;
        let path = format!("{}/shared", claims_path(namespace));
        send(client, Method::DELETE, &path, &Value::Null).await.expect("it can be removed");
    })
    .await;
}

/// All members of a gang get devices, or none does.
pub(crate) async fn gangs_get_all_their_devices(client: &kube::Client, namespace: &str) {
    with_controller(client, namespace, async {
        for pod in gang(namespace, "wide", 5, 2) {
            create_pod(client, &pod).await;
        }
        let told = unschedulable(client, namespace, 5, SOON).await;
        assert!(told.iter().all(|text| text.contains("need 5")), "{told:?}");
        assert_eq!(taken(client, namespace).await.len(), 0, "nothing is given to a part of it");
        for pod in gang(namespace, "whole", 4, 2) {
            create_pod(client, &pod).await;
        }
        until_bound(client, namespace, &["whole-0", "whole-1", "whole-2", "whole-3"]).await;
        assert_eq!(taken(client, namespace).await.len(), 8);
        for (name, members) in [("wide", 5), ("whole", 4)] {
            for member in 0..members {
                delete_pod(client, namespace, &format!("{name}-{member}")).await;
            }
        }
        until_free(client, namespace).await;
    })
    .await;
}

/// Queues `first` and `second` are due 6 GPUs each of 12, of which claims may be given 8. What is
/// claimed counts as much as what a device plugin gives, and is taken back like it.
pub(crate) async fn queues_count_both_kinds(client: &kube::Client, namespace: &str) {
    for (name, limit) in [("first", Value::Null), ("second", Value::Null), ("capped", json!(5))] {
        let gpus = |amount: Value| json!({ "nvidia.com/gpu": amount });
        let mut spec = match limit {
            Value::Null => json!({ "quota": gpus(json!(6)) }),
            limit => json!({ "quota": gpus(json!(0)), "limit": gpus(limit) }),
        };
        spec["namespaces"] = json!([namespace]);
        let queue = json!({ "apiVersion": "mss-scheduler.io/v1alpha1", "kind": "Queue",
            "metadata": { "name": name }, "spec": spec });
        post(client, QUEUES, &queue).await;
    }
    with_controller(client, namespace, async {
        // a limit of 5: one claim of 4 and one GPU of the plugin
        create_pod(client, &in_queue(claiming(namespace, "claim", 4), "capped")).await;
        bound(client, namespace, "claim").await;
        create_pod(client, &in_queue(bare_pod(namespace, "plug-2", 2), "capped")).await;
        tokio::time::sleep(QUIET).await;
        let names = all_bound(client, namespace).await;
        assert_eq!(
            names.into_iter().collect::<Vec<_>>(),
            ["claim"],
            "two more are beyond the limit"
        );
        create_pod(client, &in_queue(bare_pod(namespace, "plug-1", 1), "capped")).await;
        bound(client, namespace, "plug-1").await;
        for name in ["claim", "plug-1", "plug-2"] {
            delete_pod(client, namespace, name).await;
        }
        until_free(client, namespace).await;

        // the first takes all, by both ways; the second is due what it asks for
        for number in 0..4 {
            let pod = claiming(namespace, &format!("first-{number}"), 2);
            create_pod(client, &in_queue(pod, "first")).await;
            bound(client, namespace, &format!("first-{number}")).await;
        }
        create_pod(client, &in_queue(bare_pod(namespace, "first-plug", 4), "first")).await;
        bound(client, namespace, "first-plug").await;
        for number in 0..3 {
            let pod = claiming(namespace, &format!("second-{number}"), 2);
            create_pod(client, &in_queue(pod, "second")).await;
            bound(client, namespace, &format!("second-{number}")).await;
            taken(client, namespace).await;
        }
        // of 12 the first has 6 left: what a device plugin gave it, and one claim
        let left = all_bound(client, namespace).await;
        assert!(
            left.contains("first-plug"),
            "its going would free nothing that is claimed: {left:?}"
        );
        assert_eq!(left.len(), 5, "{left:?}");
        // both are at their share: nobody else need go
        create_pod(client, &in_queue(claiming(namespace, "second-3", 2), "second")).await;
        tokio::time::sleep(QUIET).await;
        assert_eq!(all_bound(client, namespace).await, left);
        for name in left.iter().map(String::as_str).chain(["second-3"]) {
            delete_pod(client, namespace, name).await;
        }
        until_free(client, namespace).await;
    })
    .await;
    for name in ["first", "second", "capped"] {
        let path = format!("{QUEUES}/{name}");
        send(client, Method::DELETE, &path, &Value::Null).await.expect("it can be removed");
    }
}

/// What is not honoured is refused, and says why.
pub(crate) async fn what_is_not_honoured_is_told(client: &kube::Client, namespace: &str) {
    let exactly = json!({ "deviceClassName": CLASS, "allocationMode": "All" });
    let spec = json!({ "devices": { "requests": [{ "name": "gpus", "exactly": exactly }] } });
    let claim = json!({ "apiVersion": "resource.k8s.io/v1", "kind": "ResourceClaim",
        "metadata": { "name": "all" }, "spec": spec });
    post(client, &claims_path(namespace), &claim).await;
    create_pod(client, &naming(namespace, "greedy", "resourceClaimName", "all")).await;
    let told = told(client, namespace, "SchedulerError", 1).await;
    let why = "claim all: request gpus: allocationMode is not ExactCount";
    assert!(told[0].contains(why), "{told:?}");
    delete_pod(client, namespace, "greedy").await;
    let path = format!("{}/all", claims_path(namespace));
    send(client, Method::DELETE, &path, &Value::Null).await.expect("it can be removed");
}
