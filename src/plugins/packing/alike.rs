//! Nodes that are alike: what is worked out for one holds for all of them.
//!
//! Nodes get numbers by what is free on them. Most nodes of a cluster are idle or full, so there
//! are few numbers. The change log says which nodes have another one.

use super::super::spec::free_cpu;
use super::stranding::Room;
use crate::cluster::{Cluster, Left, MEMORY, NodeIndex};
use rustc_hash::FxHashMap;

/// Numbers given out beyond those of all nodes before they are given out anew.
const SPARE: usize = 4096;

/// What values of a node depend on.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
struct Like {
    room: Room,
    /// whole GPUs that are free, and all
    whole: (i64, i64),
    /// what is left of shared ones, and bytes of each
    shared: Option<(Left, Option<i64>)>,
    model: u16,
}

/// The numbers of nodes.
#[derive(Debug, Default)]
pub(super) struct Alike {
    /// changes before this position are seen
    seen: u64,
    /// by node slot
    numbers: Vec<u32>,
    known: FxHashMap<Like, u32>,
}

impl Alike {
    /// That of a node; equal ones are alike.
    pub(super) fn number(&self, node: NodeIndex) -> u32 {
        self.numbers[node.index()]
    }

    /// Brings them up to date; `true`: all are new, and what was known under old ones is void.
    /// O(nodes that changed); O(nodes) at first.
    pub(super) fn follow(&mut self, cluster: &Cluster, model: impl Fn(NodeIndex) -> u16) -> bool {
        let (position, slots) = (cluster.changes().position(), cluster.node_slots());
        let grown = self.numbers.len()..slots;
        if self.seen == position && grown.is_empty() {
            return false;
        }
        let count = cluster.changes().count_since(self.seen).filter(|count| *count <= slots);
        self.seen = position;
        self.numbers.resize(slots, 0);
        let Some(count) = count.filter(|_| self.known.len() <= slots + SPARE) else {
            self.known.clear();
            (0..slots).for_each(|slot| self.set(cluster, NodeIndex::at(slot), &model));
            return true;
        };
        grown.for_each(|slot| self.set(cluster, NodeIndex::at(slot), &model));
        for (node, _) in cluster.changes().last(count) {
            self.set(cluster, node, &model);
        }
        false
    }

    fn set(&mut self, cluster: &Cluster, node: NodeIndex, model: &impl Fn(NodeIndex) -> u16) {
        let memory = cluster.allocatable(MEMORY, node) - cluster.requested(MEMORY, node);
        let whole = cluster.gpu().map_or((0, 0), |gpu| {
            let all = cluster.allocatable(gpu, node);
            (all - cluster.requested(gpu, node), all)
        });
        let shared = cluster
            .shared_devices(node)
            .map(|shared| (shared.lefts().map(|(_, left)| left).collect(), shared.memory()));
        let room = Room { cpu: free_cpu(cluster, node), memory };
        let like = Like { room, whole, shared, model: model(node) };
        let next = u32::try_from(self.known.len()).expect("fewer than 2^31 nodes");
        self.numbers[node.index()] = *self.known.entry(like).or_insert(next);
    }
}
