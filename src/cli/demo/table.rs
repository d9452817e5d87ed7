//! The table of nodes and their GPUs.

use super::cluster::Cluster;
use crate::model::contract::POD_GROUP;
use crate::simulator::kubelet::GPU;
use k8s_openapi::api::core::v1::Pod;
use std::collections::BTreeMap;

/// Prints which gang holds how many GPUs on each node.
pub(super) async fn print(cluster: &Cluster) -> anyhow::Result<()> {
    let (nodes, pods) = (cluster.nodes().await?, cluster.pods().await?);
    println!("\n   {:<10} {:<10} GANGS", "NODE", "GPUS");
    for node in nodes {
        let name = node.metadata.name.unwrap_or_default();
        let allocatable = node.status.and_then(|status| status.allocatable).unwrap_or_default();
        let total: usize = allocatable.get(GPU).and_then(|q| q.0.parse().ok()).unwrap_or(0);
        let mut gangs: BTreeMap<&str, usize> = BTreeMap::new();
        for pod in pods.iter().filter(|pod| node_of(pod) == Some(&name) && !has_ended(pod)) {
            *gangs.entry(gang_of(pod)).or_default() += gpus_of(pod);
        }
        let used: usize = gangs.values().sum();
        let bar = "#".repeat(used) + &".".repeat(total.saturating_sub(used));
        let gangs: Vec<String> = gangs.iter().map(|(gang, n)| format!("{gang} {n}")).collect();
        println!("   {name:<10} {bar:<10} {}", gangs.join(", "));
    }
    println!();
    Ok(())
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
