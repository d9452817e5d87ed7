//! Objects of others in the file of a cluster: levels of the network, and where GPUs are.

use super::{Inputs, outcome};

const RACKS: &str = "
nodes:
- name: a
  count: 2
  allocatable: {nvidia.com/gpu: 4}
  labels: {example.com/tor: '1', nvidia.com/gpu.count: '4'}
- {name: b, count: 1, allocatable: {nvidia.com/gpu: 4}, labels: {example.com/tor: '2'}}
- name: v
  allocatable: {nvidia.com/gpu: 8}
  labels: {nvidia.com/gpu.product: Tesla-V100-SXM2-32GB, nvidia.com/gpu.count: '8'}
";

const TOPOLOGY: &str = "
---
apiVersion: kai.scheduler/v1alpha1
kind: Topology
metadata: {name: racks}
spec: {levels: [{nodeLabel: example.com/tor, alias: rack-of-ours}]}
";

const ZONES: &str = "
---
kind: List
items:
- apiVersion: topology.node.k8s.io/v1alpha2
  kind: NodeResourceTopology
  metadata: {name: a-0}
  zones:
  - {name: node-0, type: Node, resources: [{name: nvidia.com/gpu, capacity: '1'}]}
  - {name: node-1, type: Node, resources: [{name: nvidia.com/gpu, capacity: '3'}]}
";

/// A gang of six that has to be in one rack, by the name that the object gives the level.
fn gang() -> String {
    let pod = |number: u32| {
        format!(
            "---\napiVersion: v1\nkind: Pod\nmetadata:\n  name: p-{number}\n  namespace: team\n  \
             annotations:\n    mss-scheduler.io/pod-group: six\n    \
             mss-scheduler.io/min-member: '6'\n    \
             mss-scheduler.io/topology-required: rack-of-ours\n    \
             mss-scheduler.io/fake-run-seconds: '60'\nspec:\n  schedulerName: mss-scheduler\n  \
             containers:\n  - name: main\n    image: x\n    \
             resources: {{limits: {{nvidia.com/gpu: 1}}}}\n"
        )
    };
    (0..6).map(pod).collect()
}

#[test]
fn levels_and_gpus_are_those_that_objects_of_the_cluster_say() {
    let with = Inputs::from_texts(&format!("{RACKS}{TOPOLOGY}{ZONES}"), &gang(), None);
    let with = with.unwrap_or_else(|error| panic!("{error}"));
    let joined = |name: &str| {
        let node = with.cluster.nodes.iter().find(|node| &*node.name == name).expect("it is there");
        node.gpus.as_ref().map(ToString::to_string)
    };
    assert_eq!(joined("a-0").as_deref(), Some("v1 gpus=4 numa=0:0/1:1-3 NODE=1-3 else=SYS"));
    assert_eq!(joined("a-1"), None, "nothing is reported of it");
    let product = joined("v").expect("a machine that is known by its product");
    assert!(product.starts_with("v1 gpus=8 "), "{product}");
    let without = Inputs::from_texts(RACKS, &gang(), None).expect("well-formed");
    for policy in ["fair-share", "fifo"] {
        assert_eq!(outcome(&with, policy).summary.done, 1, "{policy}: four and two in rack 1");
        assert_eq!(outcome(&without, policy).summary.started, 0, "{policy}: no such level");
    }
}

#[test]
fn what_is_wrong_beside_the_cluster_is_told_with_its_place() {
    let refused = |cluster: &str| {
        let error = Inputs::from_texts(cluster, &gang(), None).expect_err("it is wrong");
        error.to_string()
    };
    let other = refused(&format!("{RACKS}---\napiVersion: v1\nkind: Node\n"));
    assert!(other.contains("apiVersion \"v1\" and kind \"Node\": expected Topology"), "{other}");
    let twice = refused(&format!("{RACKS}---{RACKS}"));
    assert!(twice.contains("2 documents without a kind: expected one"), "{twice}");
    // the line is that of the file
    let typo = refused("---\nnodes:\n- {name: a, alocatable: {}}\n");
    assert!(typo.starts_with("cluster.yaml:3: "), "{typo}");
    let none = refused(TOPOLOGY);
    assert!(none.contains("nodes"), "{none}");
}
