//! Nodes from published lists, and their places in a network.

use super::cluster::unique;
use super::{InputError, shown};
use crate::model::Node;
use crate::simulator::kubelet::{GPU, PODS_DEFAULT};
use crate::simulator::traces::hosts::{self, Host, NETWORK_COLUMNS, SPOT_COLUMNS};
use crate::simulator::traces::objects::GPU_PRODUCT;
use crate::simulator::traces::{self, openb};
use std::path::Path;

/// Labels of a node: the switches above it, from the core to the rack, as NVIDIA's topograph
/// names them (<https://github.com/NVIDIA/topograph>, `docs/k8s.md`).
pub(super) const NETWORK: [&str; 3] = [
    "network.topology.nvidia.com/core",
    "network.topology.nvidia.com/spine",
    "network.topology.nvidia.com/leaf",
];

/// Memory for each GPU where a list does not say it, in bytes: as the default shape has it.
const MEMORY_PER_GPU: i64 = 128 << 30;

const KNOWN: &str = "a list of nodes of openb (sn,cpu_milli,memory_mib,gpu,model), of Lingjun \
     (ip,DSW,PSW,ASW) or of cluster-trace-v2026-spot-gpu (node_name,gpu_model,gpu_capacity_num,\
     cpu_num)";

/// The nodes of a list, of which kind its header tells; the first `most` of them.
pub(super) fn read(path: &Path, most: Option<u32>) -> Result<Vec<Node>, InputError> {
    let columns = traces::columns(path)?;
    let has = |all: &[&str]| all.iter().all(|name| columns.iter().any(|column| column == name));
    let most = most.map_or(usize::MAX, |most| most as usize);
    let mut nodes = Vec::new();
    if has(NETWORK_COLUMNS) {
        for (row, number) in hosts::network(path)?.take(most).zip(0..) {
            let mut node = node(&format!("host-{number}"), (96_000, 1 << 40, 8), "");
            place(&mut node, &row?);
            nodes.push(node);
        }
    } else if has(&["sn", "cpu_milli", "memory_mib", "gpu", "model"]) {
        for row in openb::nodes(path)?.take(most) {
            let row = row?;
            let amount = |value: u64| i64::try_from(value).unwrap_or(i64::MAX >> 20);
            let memory = amount(row.memory_mib).saturating_mul(1 << 20);
            let has = (amount(row.cpu_milli), memory, i64::from(row.gpus));
            nodes.push(node(&row.name, has, &row.model));
        }
    } else if has(SPOT_COLUMNS) {
        for row in hosts::spot(path)?.take(most) {
            let row = row?;
            let gpus = i64::from(row.gpus);
            let has = (i64::from(row.cores) * 1000, gpus.max(1) * MEMORY_PER_GPU, gpus);
            nodes.push(node(&row.name, has, &row.model));
        }
    } else {
        let found = columns.join(",");
        let problem = format!("{}: line 1: the columns are {found}: expected {KNOWN}", shown(path));
        return Err(InputError::Together(problem));
    }
    if nodes.is_empty() {
        let problem = format!("{}: a cluster needs at least one node", shown(path));
        return Err(InputError::Together(problem));
    }
    unique(&shown(path), &nodes)?;
    Ok(nodes)
}

/// Gives the nodes their places in a network, in the order of the list.
pub(super) fn connect(nodes: &mut [Node], path: &Path) -> Result<(), InputError> {
    let mut hosts = hosts::network(path)?;
    for (count, node) in nodes.iter_mut().enumerate() {
        let Some(host) = hosts.next() else {
            return Err(InputError::Together(format!(
                "{} has {count} hosts, and the cluster has more nodes: take fewer with --nodes",
                shown(path)
            )));
        };
        place(node, &host?);
    }
    Ok(())
}

fn place(node: &mut Node, host: &Host) {
    let switches = [&host.core, &host.aggregation, &host.rack];
    node.labels.retain(|(key, _)| !NETWORK.contains(&&**key));
    node.labels.extend(NETWORK.iter().zip(switches).map(|(key, to)| ((*key).into(), to.clone())));
    node.labels.sort();
}

fn node(name: &str, (cpu_milli, memory, gpus): (i64, i64, i64), model: &str) -> Node {
    let mut allocatable = vec![("cpu".into(), cpu_milli), ("memory".into(), memory)];
    if gpus > 0 {
        allocatable.push((GPU.into(), gpus));
    }
    allocatable.push(("pods".into(), i64::from(PODS_DEFAULT)));
    let mut labels = vec![("kubernetes.io/hostname".into(), name.into())];
    if !model.is_empty() {
        labels.push((GPU_PRODUCT.into(), model.into()));
    }
    Node { name: name.into(), labels, allocatable, ..Node::default() }
}
