//! The nodes and pods that the tests create.

use http::Method;
use k8s_openapi::api::core::v1::{Namespace, Node, Pod};
use kube::api::{Api, DeleteParams, ListParams, ObjectMeta, PostParams};
use mss_scheduler::simulator::create::{PARALLEL_DEFAULT, create_all};
use mss_scheduler::simulator::kubelet::NodeShape;
use serde_json::{Value, json};
use std::time::{Duration, Instant};

/// The name that the tests' pods ask for unless they say otherwise.
pub(crate) const SCHEDULER: &str = "mss-scheduler";

/// Long enough for a pod to be bound on a slow machine.
const BOUND_WITHIN: Duration = Duration::from_secs(60);

/// A ready node with `gpus` GPUs and plenty of all else.
pub(crate) async fn create_node(client: &kube::Client, name: &str, gpus: u32) {
    let node = NodeShape { gpus, ..NodeShape::default() }.node(name);
    let nodes: Api<Node> = Api::all(client.clone());
    nodes.create(&PostParams::default(), &node).await.expect("the node can be created");
}

/// Creates a namespace if it does not exist.
pub(crate) async fn namespace(client: &kube::Client, name: &str) {
    let metadata = ObjectMeta { name: Some(name.into()), ..ObjectMeta::default() };
    let object = Namespace { metadata, ..Namespace::default() };
    let namespaces: Api<Namespace> = Api::all(client.clone());
    match namespaces.create(&PostParams::default(), &object).await {
        Err(kube::Error::Api(status)) if status.is_already_exists() => {}
        outcome => drop(outcome.expect("the namespace can be created")),
    }
}

/// Equal pods that are bound together.
#[derive(Clone, Debug)]
pub(crate) struct Gang {
    pub(crate) namespace: String,
    pub(crate) name: String,
    pub(crate) members: usize,
    pub(crate) minimum: usize,
    /// GPUs of each member.
    pub(crate) gpus: u32,
    pub(crate) scheduler: String,
}

impl Gang {
    /// A gang that needs all its members.
    pub(crate) fn new(namespace: &str, name: &str, members: usize, gpus: u32) -> Gang {
        Gang {
            namespace: namespace.into(),
            name: name.into(),
            members,
            minimum: members,
            gpus,
            scheduler: SCHEDULER.into(),
        }
    }

    /// Pods `NAME-0` and so on.
    pub(crate) fn pods(&self) -> Vec<Pod> {
        (0..self.members).map(|number| self.pod(number)).collect()
    }

    fn pod(&self, number: usize) -> Pod {
        let mut pod = bare_pod(&self.namespace, &format!("{}-{number}", self.name), self.gpus);
        pod.metadata.annotations = Some(
            [
                ("mss-scheduler.io/pod-group".to_owned(), self.name.clone()),
                ("mss-scheduler.io/min-member".to_owned(), self.minimum.to_string()),
            ]
            .into(),
        );
        let spec = pod.spec.as_mut().expect("made with a spec");
        spec.scheduler_name = Some(self.scheduler.clone());
        pod
    }
}

/// A pod of no gang that asks for one CPU, 1 GiB and `gpus` GPUs.
pub(crate) fn bare_pod(namespace: &str, name: &str, gpus: u32) -> Pod {
    let mut room = json!({"cpu": "1", "memory": "1Gi"});
    if gpus > 0 {
        room["nvidia.com/gpu"] = json!(gpus.to_string());
    }
    serde_json::from_value(json!({
        "metadata": {"namespace": namespace, "name": name},
        "spec": {
            "schedulerName": SCHEDULER,
            "terminationGracePeriodSeconds": 0,
            "containers": [{
                "name": "main",
                "image": "none",
                "resources": {"requests": room, "limits": room},
            }],
        },
    }))
    .expect("a valid pod")
}

pub(crate) async fn create_pod(client: &kube::Client, pod: &Pod) {
    let namespace = pod.metadata.namespace.as_deref().unwrap_or("default");
    let pods: Api<Pod> = Api::namespaced(client.clone(), namespace);
    pods.create(&PostParams::default(), pod).await.expect("the pod can be created");
}

/// Creates all members of all gangs, gang after gang.
pub(crate) async fn create_gangs(client: &kube::Client, gangs: &[Gang]) {
    create_pods(client, gangs.iter().flat_map(Gang::pods).collect()).await;
}

/// Creates pods, several at a time, in their order.
pub(crate) async fn create_pods(client: &kube::Client, pods: Vec<Pod>) {
    create_all(client, pods, PARALLEL_DEFAULT, || ()).await.expect("the pods can be created");
}

/// Removes a pod at once, without its kubelet.
pub(crate) async fn delete_pod(client: &kube::Client, namespace: &str, name: &str) {
    let pods: Api<Pod> = Api::namespaced(client.clone(), namespace);
    let at_once = DeleteParams::default().grace_period(0);
    pods.delete(name, &at_once).await.expect("the pod can be deleted");
}

/// Removes all pods of a namespace at once, without their kubelets.
pub(crate) async fn delete_pods(client: &kube::Client, namespace: &str) {
    let pods: Api<Pod> = Api::namespaced(client.clone(), namespace);
    let (at_once, all) = (DeleteParams::default().grace_period(0), ListParams::default());
    pods.delete_collection(&at_once, &all).await.expect("pods can be deleted");
}

/// Waits until `count` pods of the namespace are told that they cannot be scheduled, and returns
/// the messages.
pub(crate) async fn unschedulable(
    client: &kube::Client,
    namespace: &str,
    count: usize,
    within: Duration,
) -> Vec<String> {
    let pods: Api<Pod> = Api::namespaced(client.clone(), namespace);
    let deadline = Instant::now() + within;
    loop {
        let all = pods.list(&ListParams::default()).await.expect("pods can be listed");
        let told: Vec<String> = all.iter().filter_map(refusal).collect();
        if told.len() == count {
            return told;
        }
        let seen = told.len();
        assert!(Instant::now() < deadline, "{seen} of {count} pods were told within {within:?}");
        tokio::time::sleep(Duration::from_millis(100)).await;
    }
}

fn refusal(pod: &Pod) -> Option<String> {
    let conditions = pod.status.as_ref()?.conditions.as_ref()?;
    let condition = conditions.iter().find(|condition| condition.type_ == "PodScheduled")?;
    let refused =
        condition.status == "False" && condition.reason.as_deref() == Some("Unschedulable");
    refused.then(|| condition.message.clone().unwrap_or_default())
}

/// What a scheduler does to put a pod on a node.
pub(crate) async fn bind(
    client: &kube::Client,
    namespace: &str,
    pod: &str,
    node: &str,
) -> Result<(), kube::Error> {
    let binding = json!({
        "apiVersion": "v1", "kind": "Binding", "metadata": {"name": pod, "namespace": namespace},
        "target": {"apiVersion": "v1", "kind": "Node", "name": node},
    });
    let request = http::Request::post(format!("/api/v1/namespaces/{namespace}/pods/{pod}/binding"))
        .header(http::header::CONTENT_TYPE, "application/json")
        .body(binding.to_string().into_bytes())
        .expect("a valid request");
    client.request_text(request).await.map(drop)
}

/// What the API answers to a request. Patches are merged; no body if that is null.
pub(crate) async fn send(
    client: &kube::Client,
    method: Method,
    path: &str,
    body: &Value,
) -> Result<Value, kube::Error> {
    let kind = match method {
        Method::PATCH => "application/merge-patch+json",
        _ => "application/json",
    };
    let body = if body.is_null() { Vec::new() } else { body.to_string().into_bytes() };
    let request = http::Request::builder()
        .method(method)
        .uri(path)
        .header(http::header::CONTENT_TYPE, kind)
        .body(body)
        .expect("a valid request");
    client.request(request).await
}

/// The node of a pod once it is bound, and the devices that its annotation names.
pub(crate) async fn bound(
    client: &kube::Client,
    namespace: &str,
    name: &str,
) -> (String, Option<String>) {
    let pods: Api<Pod> = Api::namespaced(client.clone(), namespace);
    let deadline = Instant::now() + BOUND_WITHIN;
    loop {
        let pod = pods.get(name).await.expect("the pod exists");
        if let Some(node) = pod.spec.as_ref().and_then(|spec| spec.node_name.clone()) {
            let said = pod.metadata.annotations.unwrap_or_default();
            return (node, said.get("mss-scheduler.io/gpu-devices").cloned());
        }
        let status = pod.status;
        assert!(Instant::now() < deadline, "{name} is not bound: {status:?}");
        tokio::time::sleep(Duration::from_millis(50)).await;
    }
}
