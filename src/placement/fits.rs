//! How many pods of a class fit, by node and by domain, kept up to date beside its ranking.

use crate::cluster::{ClassId, Cluster, DomainId, Domains, NodeIndex};

/// Most pods of one node that are counted, so that no sum over 2^20 nodes overflows. A kubelet runs
/// 110 unless told otherwise.
const ON_NODE_MAX: u32 = 4095;

/// Numbers of pods. As pods of one class take the same room, those of a domain are exact: so many
/// fit there together.
#[derive(Clone, Debug)]
pub(super) struct Fits {
    pub(super) on_node: Vec<u32>,
    pub(super) in_domain: Vec<u32>,
    /// no node was seen to have room for more
    pub(super) most_on_node: u32,
}

impl Fits {
    /// Counts all nodes. O(nodes x levels).
    pub(super) fn of(domains: &Domains, slots: usize, room: impl Fn(NodeIndex) -> u32) -> Self {
        let in_domain = vec![0; domains.slots()];
        let mut fits = Self { on_node: vec![0; slots], in_domain, most_on_node: 0 };
        for node in domains.nodes_in(DomainId::ROOT) {
            fits.set(domains, node, room(node));
        }
        fits
    }

    pub(super) fn bytes(&self) -> usize {
        4 * (self.on_node.len() + self.in_domain.len())
    }

    /// Sets how many fit on a node. O(levels).
    pub(super) fn set(&mut self, domains: &Domains, node: NodeIndex, room: u32) {
        let room = room.min(ON_NODE_MAX);
        let old = std::mem::replace(&mut self.on_node[node.index()], room);
        if old == room {
            return;
        }
        self.most_on_node = self.most_on_node.max(room);
        for domain in domains.upwards(domains.of(node)) {
            let sum = &mut self.in_domain[domain.index()];
            *sum = *sum - old + room;
        }
    }
}

/// How many pods of a class fit on a node that takes one.
pub(super) fn room_on(cluster: &Cluster, class: ClassId, node: NodeIndex) -> u32 {
    let class = cluster.class(class);
    let most = if class.spec.host_ports.is_empty() { ON_NODE_MAX } else { 1 };
    cluster.room_for(class, node, most)
}
