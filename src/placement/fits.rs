//! How many pods of a class fit, by node and by domain, kept up to date beside its ranking.

use super::ranking::node_of;
use crate::cluster::{ClassId, Cluster, DomainId, Domains, NodeIndex};
use rustc_hash::FxHashMap;
use std::cmp::Reverse;
use std::collections::BTreeSet;

/// Most pods of one node that are counted, so that no sum over 2^20 nodes overflows. A kubelet runs
/// 110 unless told otherwise.
const ON_NODE_MAX: u32 = 4095;
/// With more nodes right below it a domain keeps them in order: a zone without racks has thousands.
const CROWD_MIN: usize = 256;

/// Numbers of pods. As pods of one class take the same room, those of a domain are exact: so many
/// fit there together.
#[derive(Clone, Debug)]
pub(super) struct Fits {
    pub(super) on_node: Vec<u32>,
    pub(super) in_domain: Vec<u32>,
    /// no node was seen to have room for more
    pub(super) most_on_node: u32,
    pub(super) crowds: Crowds,
    /// the key of each node, as its crowd has it; empty without crowds
    keys: Vec<u64>,
}

/// The nodes right below domains that have many.
pub(super) type Crowds = FxHashMap<DomainId, Crowd>;

/// Nodes on which pods fit: the tightest first, of equals that with the better key.
#[derive(Clone, Debug, Default)]
pub(super) struct Crowd(BTreeSet<(u32, Reverse<u64>)>);

impl Crowd {
    /// Nodes that hold so many, the tightest first.
    pub(super) fn holding(&self, count: u32) -> impl Iterator<Item = NodeIndex> {
        self.0.range((count, Reverse(u64::MAX))..).map(|(_, Reverse(key))| node_of(*key))
    }

    /// So many nodes at most, the roomiest first. O(result x log nodes).
    pub(super) fn roomiest(&self, most: usize) -> Vec<NodeIndex> {
        let mut found = Vec::with_capacity(most.min(self.0.len()));
        let mut above = u32::MAX;
        while found.len() < most {
            let Some((count, _)) = self.0.range(..(above, Reverse(u64::MAX))).next_back() else {
                break;
            };
            let equal = self.0.range((*count, Reverse(u64::MAX))..=(*count, Reverse(0)));
            let equal = equal.take(most - found.len());
            found.extend(equal.map(|(_, Reverse(key))| node_of(*key)));
            above = *count;
        }
        found
    }
}

impl Fits {
    /// Counts all nodes, of which these are the keys. O(nodes x (levels + log nodes)).
    pub(super) fn of(domains: &Domains, keys: &[u64], room: impl Fn(NodeIndex) -> u32) -> Self {
        let in_domain = vec![0; domains.slots()];
        let mut fits = Self {
            on_node: vec![0; keys.len()],
            in_domain,
            most_on_node: 0,
            crowds: Crowds::default(),
            keys: Vec::new(),
        };
        for node in domains.nodes_in(DomainId::ROOT) {
            fits.set(domains, node, room(node), keys[node.index()]);
        }
        for domain in domains.all() {
            let nodes = &domains.get(domain).nodes;
            if nodes.len() <= CROWD_MIN {
                continue;
            }
            let listed = nodes.iter().map(|node| (fits.on_node[node.index()], keys[node.index()]));
            let listed = listed.filter(|(count, _)| *count > 0);
            let crowd = listed.map(|(count, key)| (count, Reverse(key))).collect();
            fits.crowds.insert(domain, Crowd(crowd));
        }
        if !fits.crowds.is_empty() {
            fits.keys = keys.to_vec();
        }
        fits
    }

    pub(super) fn bytes(&self) -> usize {
        // a crowd has each node once, in a tree that is two thirds full
        4 * (self.on_node.len() + self.in_domain.len()) + (8 + 24) * self.keys.len()
    }

    /// Sets how many fit on a node, and its key. O(levels), and O(log nodes) in a crowd.
    pub(super) fn set(&mut self, domains: &Domains, node: NodeIndex, room: u32, key: u64) {
        let room = room.min(ON_NODE_MAX);
        let old = std::mem::replace(&mut self.on_node[node.index()], room);
        if let Some(known) = self.keys.get_mut(node.index()) {
            let known = std::mem::replace(known, key);
            if (old, known) != (room, key)
                && let Some(Crowd(crowd)) = self.crowds.get_mut(&domains.of(node))
            {
                crowd.remove(&(old, Reverse(known)));
                if room > 0 {
                    crowd.insert((room, Reverse(key)));
                }
            }
        }
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
