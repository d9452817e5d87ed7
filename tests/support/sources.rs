//! Objects of others that say how nodes are joined, and where GPUs are within a node; and the story
//! of them, which is the same on the embedded API server and on a real one.

use super::objects::{
    Gang, bare_pod, bound, create_pod, create_pods, delete_pod, send, unschedulable,
};
use http::Method;
use k8s_openapi::api::core::v1::{Node, Pod};
use kube::api::{Api, PostParams};
use mss_scheduler::simulator::kubelet::NodeShape;
use serde_json::{Value, json};
use std::time::{Duration, Instant};

const DEFINITIONS: &str = "/apis/apiextensions.k8s.io/v1/customresourcedefinitions";
/// Long enough for anything that is not about waiting on a slow machine.
const SOON: Duration = Duration::from_secs(30);
const RACK: &str = "cloud.example.com/rack";

/// A kind of others, with whatever fields.
struct Other {
    group: &'static str,
    version: &'static str,
    kind: &'static str,
    plural: &'static str,
}

const KUEUE: Other =
    Other { group: "kueue.x-k8s.io", version: "v1beta2", kind: "Topology", plural: "topologies" };
const KAI: Other =
    Other { group: "kai.scheduler", version: "v1alpha1", kind: "Topology", plural: "topologies" };
const ZONES: Other = Other {
    group: "topology.node.k8s.io",
    version: "v1alpha2",
    kind: "NodeResourceTopology",
    plural: "noderesourcetopologies",
};
const SLICES: &str = "/apis/resource.k8s.io/v1/resourceslices";

impl Other {
    fn name(&self) -> String {
        format!("{}.{}", self.plural, self.group)
    }

    fn path(&self) -> String {
        format!("/apis/{}/{}/{}", self.group, self.version, self.plural)
    }

    fn definition(&self) -> Value {
        let schema = json!({ "type": "object", "x-kubernetes-preserve-unknown-fields": true });
        json!({ "apiVersion": "apiextensions.k8s.io/v1", "kind": "CustomResourceDefinition",
            "metadata": { "name": self.name(), "annotations": {
                // without it groups of k8s.io are not served
                "api-approved.kubernetes.io": "https://github.com/kubernetes/enhancements/pull/1870",
            } },
            "spec": { "group": self.group, "scope": "Cluster",
                "names": { "plural": self.plural, "singular": self.kind.to_lowercase(),
                    "kind": self.kind, "listKind": format!("{}List", self.kind) },
                "versions": [{ "name": self.version, "served": true, "storage": true,
                    "schema": { "openAPIV3Schema": schema } }] } })
    }

    /// Installs the kind and waits until it is served.
    async fn install(&self, client: &kube::Client) {
        send(client, Method::POST, DEFINITIONS, &self.definition()).await.expect("a definition");
        let deadline = Instant::now() + SOON;
        while send(client, Method::GET, &self.path(), &Value::Null).await.is_err() {
            assert!(Instant::now() < deadline, "{} is not served", self.name());
            tokio::time::sleep(Duration::from_millis(100)).await;
        }
    }

    /// Removes the kind and its objects, as other stories begin without.
    async fn remove(&self, client: &kube::Client) {
        let path = format!("{DEFINITIONS}/{}", self.name());
        send(client, Method::DELETE, &path, &Value::Null).await.expect("it can be removed");
    }

    fn object(&self, name: &str, rest: &Value) -> Value {
        let mut object = json!({ "apiVersion": format!("{}/{}", self.group, self.version),
            "kind": self.kind, "metadata": { "name": name } });
        let fields = rest.as_object().expect("fields").clone();
        object.as_object_mut().expect("an object").extend(fields);
        object
    }

    async fn create(&self, client: &kube::Client, name: &str, rest: &Value) {
        let object = self.object(name, rest);
        send(client, Method::POST, &self.path(), &object).await.expect("it can be created");
    }
}

/// Levels of Kueue and of KAI, and a NodeResourceTopology kind. Before the scheduler starts, as it
/// looks for kinds that are not installed only now and then.
pub(crate) async fn install(client: &kube::Client) {
    for kind in [KUEUE, KAI, ZONES] {
        kind.install(client).await;
    }
    let levels = |labels: &[&str]| -> Value {
        let levels: Vec<Value> = labels.iter().map(|label| json!({ "nodeLabel": label })).collect();
        json!({ "spec": { "levels": levels } })
    };
    KUEUE.create(client, "kueue", &levels(&["cloud.example.com/block", RACK])).await;
    KAI.create(client, "kai", &levels(&["cloud.example.com/hall"])).await;
}

/// Takes back what [`install`] and the stories made beside nodes and pods.
pub(crate) async fn remove(client: &kube::Client) {
    for kind in [KUEUE, KAI, ZONES] {
        kind.remove(client).await;
    }
    let slice = format!("{SLICES}/named");
    send(client, Method::DELETE, &slice, &Value::Null).await.expect("it can be removed");
}

async fn create_node(client: &kube::Client, name: &str, labels: &[(&str, &str)]) {
    let labels = labels.iter().map(|(key, value)| ((*key).to_owned(), (*value).to_owned()));
    let shape = NodeShape { gpus: 4, labels: labels.collect(), ..NodeShape::default() };
    let nodes: Api<Node> = Api::all(client.clone());
    nodes.create(&PostParams::default(), &shape.node(name)).await.expect("a node");
}

/// A gang that asks by Kueue's annotation for a level of a Topology object goes to the one domain
/// that holds it, and so does one that asks by KAI's; what asks for a level that no object names
/// waits. The nodes are `rack-1`, and `rack-2a` and `rack-2b`, of 4 GPUs each.
pub(crate) async fn gangs_go_where_levels_of_objects_say(client: &kube::Client, namespace: &str) {
    for (name, hall, rack) in
        [("rack-1", "west", "1"), ("rack-2a", "east", "2"), ("rack-2b", "east", "2")]
    {
        create_node(client, name, &[("cloud.example.com/hall", hall), (RACK, rack)]).await;
    }
    let create = async |name: &str, members: usize, key: &str, level: &str| {
        let mut pods = Gang::new(namespace, name, members, 1).pods();
        for pod in &mut pods {
            let annotations = pod.metadata.annotations.as_mut().expect("a gang's");
            annotations.insert(key.to_owned(), level.to_owned());
        }
        create_pods(client, pods).await;
    };
    let (kueue, kai) =
        ("kueue.x-k8s.io/podset-required-topology", "kai.scheduler/topology-required-placement");
    create("unknown", 2, kueue, "cloud.example.com/row").await;
    create("wide", 6, kueue, RACK).await;
    let mut counts = [0, 0];
    for member in 0..6 {
        let (node, _) = bound(client, namespace, &format!("wide-{member}")).await;
        counts[usize::from(node == "rack-2b")] += 1;
        assert!(node.starts_with("rack-2"), "{node} is in another rack");
    }
    assert_eq!(counts.iter().sum::<u32>(), 6, "{counts:?}");
    // four fit only in the west: two GPUs are left in the east
    create("hall", 4, kai, "hall").await;
    for member in 0..4 {
        let (node, _) = bound(client, namespace, &format!("hall-{member}")).await;
        assert_eq!(node, "rack-1", "hall-{member}");
    }
    let pods: Api<Pod> = Api::namespaced(client.clone(), namespace);
    let waits = pods.get("unknown-0").await.expect("the pod exists").spec.expect("a spec");
    assert_eq!(waits.node_name, None, "no object names the level");
    for (name, members) in [("unknown", 2), ("wide", 6), ("hall", 4)] {
        for member in 0..members {
            delete_pod(client, namespace, &format!("{name}-{member}")).await;
        }
    }
}

/// The GPUs that a pod of two is given on a node, which it leaves at once.
async fn placed(
    client: &kube::Client,
    namespace: &str,
    node: &str,
    attempt: usize,
) -> Option<String> {
    let name = format!("{node}-{attempt}");
    let mut pod = bare_pod(namespace, &name, 2);
    let selector = [("kubernetes.io/hostname".to_owned(), node.to_owned())];
    pod.spec.as_mut().expect("made with a spec").node_selector = Some(selector.into());
    create_pod(client, &pod).await;
    let (found, devices) = bound(client, namespace, &name).await;
    assert_eq!(found, node);
    delete_pod(client, namespace, &name).await;
    devices
}

/// After both of the stories, with `topology.fromObjects: false`: the level is not known, and
/// nothing of GPUs.
pub(crate) async fn nothing_is_read_of_objects(client: &kube::Client, namespace: &str) {
    let mut pods = Gang::new(namespace, "racks", 2, 1).pods();
    for pod in &mut pods {
        let annotations = pod.metadata.annotations.as_mut().expect("a gang's");
        annotations.insert("kueue.x-k8s.io/podset-required-topology".to_owned(), RACK.to_owned());
    }
    create_pods(client, pods).await;
    let told = unschedulable(client, namespace, 2, SOON).await;
    assert!(told.iter().all(|text| text.contains(RACK)), "{told:?}");
    for node in ["named", "counted"] {
        assert_eq!(placed(client, namespace, node, 0).await, None, "{node}");
    }
}

/// GPUs are chosen by what NodeResourceTopology objects and ResourceSlices say of nodes, also if
/// they come after the node.
pub(crate) async fn gpus_are_chosen_by_what_is_reported(client: &kube::Client, namespace: &str) {
    let count = ("nvidia.com/gpu.count", "4");
    let device = |index: usize, (bus, root): (&str, &str)| {
        json!({ "name": format!("gpu-{index}"), "attributes": {
            "type": { "string": "gpu" }, "uuid": { "string": format!("GPU-{bus}") },
            "productName": { "string": "NVIDIA GeForce RTX 4090" },
            "resource.kubernetes.io/pciBusID": { "string": format!("0000:{bus}:00.0") },
            "resource.kubernetes.io/pcieRoot": { "string": root } } })
    };
    // on the bus: a, b, c, b
    let gpus =
        [("e1", "pci0000:b0"), ("0f", "pci0000:a0"), ("a1", "pci0000:c0"), ("1f", "pci0000:b0")];
    let devices: Vec<Value> =
        gpus.into_iter().enumerate().map(|(at, gpu)| device(at, gpu)).collect();
    let slice = json!({ "apiVersion": "resource.k8s.io/v1", "kind": "ResourceSlice",
        "metadata": { "name": "named" },
        "spec": { "driver": "gpu.nvidia.com", "nodeName": "named", "devices": devices,
            "pool": { "name": "named", "generation": 1, "resourceSliceCount": 1 } } });
    send(client, Method::POST, SLICES, &slice).await.expect("it can be created");
    for name in ["named", "counted", "plain"] {
        create_node(client, name, &[count]).await;
    }
    let placed = async |node: &str, attempt: usize| placed(client, namespace, node, attempt).await;
    // tries until what was created is known
    let chosen = async |node: &str| {
        let deadline = Instant::now() + SOON;
        let mut attempt = 1;
        loop {
            if let Some(devices) = placed(node, attempt).await {
                return devices;
            }
            assert!(Instant::now() < deadline, "no GPUs are chosen on {node}");
            attempt += 1;
        }
    };
    assert_eq!(chosen("named").await, "1,3", "two behind one bridge");
    assert_eq!(placed("counted", 0).await, None, "nothing is reported yet");
    let zone = |number: u8, gpus: &str| {
        json!({ "name": format!("node-{number}"), "type": "Node", "resources": [
            { "name": "nvidia.com/gpu", "capacity": gpus, "allocatable": gpus, "available": gpus } ] })
    };
    let zones = json!({ "topologyPolicies": ["None"], "zones": [zone(0, "1"), zone(1, "3")] });
    ZONES.create(client, "counted", &zones).await;
    assert_eq!(chosen("counted").await, "1,2", "two on one NUMA node");
    assert_eq!(placed("plain", 0).await, None, "nothing is reported");
}
