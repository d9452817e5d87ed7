//! The table of nodes and their GPUs.

use super::cluster::Cluster;
use crate::model::contract::{GPU_DEVICES, GPU_TOPOLOGY, POD_GROUP};
use crate::model::{DeviceSet, GpuTopology};
use crate::simulator::kubelet::GPU;
use k8s_openapi::api::core::v1::{Node, Pod};
use std::collections::{BTreeMap, BTreeSet};

/// Prints which gang holds which GPUs of each node, by its first letter; the islands that NVLink
/// joins stand apart.
pub(super) async fn print(cluster: &Cluster) -> anyhow::Result<()> {
    let (nodes, pods) = (cluster.nodes().await?, cluster.pods().await?);
    println!("\n   {:<10} {:<12} GANGS", "NODE", "GPUS");
    for node in nodes {
        let name = node.metadata.name.as_deref().unwrap_or_default();
        let mut gangs: BTreeMap<&str, usize> = BTreeMap::new();
        let mut held: BTreeMap<usize, char> = BTreeMap::new();
        for pod in pods.iter().filter(|pod| node_of(pod) == Some(name) && !has_ended(pod)) {
            let gang = gang_of(pod);
            *gangs.entry(gang).or_default() += gpus_of(pod);
            let letter = gang.chars().next().unwrap_or('?').to_ascii_uppercase();
            held.extend(devices_of(pod).iter().map(|device| (device, letter)));
        }
        let letter = |device| held.get(&device).copied().unwrap_or('.');
        let islands: Vec<String> =
            islands_of(&node).iter().map(|island| island.iter().map(letter).collect()).collect();
        let gangs: Vec<String> = gangs.iter().map(|(gang, n)| format!("{gang} {n}")).collect();
        println!("   {name:<10} {:<12} {}", islands.join(" "), gangs.join(", "));
    }
    println!();
    Ok(())
}

/// The sets of GPUs that NVLink joins; all together, if nothing is said.
fn islands_of(node: &Node) -> Vec<DeviceSet> {
    let text = node.metadata.annotations.as_ref().and_then(|all| all.get(GPU_TOPOLOGY));
    let joined = text.and_then(|text| GpuTopology::parse(text).ok());
    let allocatable = node.status.as_ref().and_then(|status| status.allocatable.as_ref());
    let gpus = allocatable.and_then(|all| all.get(GPU)?.0.parse().ok()).unwrap_or(0);
    joined.map_or_else(|| vec![DeviceSet::lowest(gpus)], |joined| joined.islands())
}

/// The GPUs of each member of a gang, in order.
pub(super) fn devices(pods: &[Pod], gang: &str) -> Vec<String> {
    let members = pods.iter().filter(|pod| gang_of(pod) == gang);
    let mut all: Vec<String> = members.map(|pod| devices_of(pod).to_string()).collect();
    all.sort();
    all
}

/// How many nodes a gang is on.
pub(super) fn nodes(pods: &[Pod], gang: &str) -> usize {
    let members = pods.iter().filter(|pod| gang_of(pod) == gang);
    members.filter_map(node_of).collect::<BTreeSet<&str>>().len()
}

/// The GPUs that were chosen for a pod.
fn devices_of(pod: &Pod) -> DeviceSet {
    let text = pod.metadata.annotations.as_ref().and_then(|all| all.get(GPU_DEVICES));
    text.and_then(|text| DeviceSet::parse(text)).unwrap_or(DeviceSet::EMPTY)
}

pub(super) fn node_of(pod: &Pod) -> Option<&str> {
    pod.spec.as_ref()?.node_name.as_deref()
}

pub(super) fn gang_of(pod: &Pod) -> &str {
    let annotations = pod.metadata.annotations.as_ref();
    annotations.and_then(|all| all.get(POD_GROUP)).map_or("", String::as_str)
}

fn has_ended(pod: &Pod) -> bool {
    let phase = pod.status.as_ref().and_then(|status| status.phase.as_deref());
    matches!(phase, Some("Succeeded" | "Failed"))
}

fn gpus_of(pod: &Pod) -> usize {
    let containers = pod.spec.iter().flat_map(|spec| &spec.containers);
    let limits = containers.filter_map(|c| c.resources.as_ref()?.limits.as_ref()?.get(GPU));
    limits.filter_map(|quantity| quantity.0.parse::<usize>().ok()).sum()
}
