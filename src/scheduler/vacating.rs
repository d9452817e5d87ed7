//! Victims of plans by their nodes, and which of these nodes have room once they have gone.
//!
//! A seat takes the room that it was made for, so next to none of them have: who looks for room
//! need not look at the others. What changed since it was looked last is read in the change log.

use crate::cluster::{ClassId, Cluster, NodeIndex, PodIndex, ResourceId};
use std::collections::BTreeSet;

/// Changes per victim beyond which all are looked at instead.
const CHANGES_MAX: usize = 4;

/// See the module.
#[derive(Debug, Default)]
pub(super) struct Vacating {
    pods: BTreeSet<(NodeIndex, PodIndex)>,
    /// of each resource that was asked about
    open: Vec<(ResourceId, Open)>,
}

/// Nodes of victims on which some of a resource is free without them.
#[derive(Debug, Default)]
struct Open {
    /// place in the change log up to which it is told; `None`: nothing is known
    seen: Option<u64>,
    nodes: BTreeSet<NodeIndex>,
    /// nodes whose victims are others since
    touched: Vec<NodeIndex>,
}

impl Vacating {
    pub(super) fn all(&self) -> &BTreeSet<(NodeIndex, PodIndex)> {
        &self.pods
    }

    /// Those on a node.
    pub(super) fn on(&self, node: NodeIndex) -> impl Iterator<Item = PodIndex> {
        let here = (node, PodIndex(0))..=(node, PodIndex(u32::MAX));
        self.pods.range(here).map(|(_, pod)| *pod)
    }

    /// Victims come to be.
    pub(super) fn add(&mut self, victims: Vec<(NodeIndex, PodIndex)>) {
        victims.iter().for_each(|(node, _)| self.touch(*node));
        let mut victims: BTreeSet<(NodeIndex, PodIndex)> = victims.into_iter().collect();
        if self.pods.is_empty() {
            self.pods = victims;
        } else if victims.len() > self.pods.len() / 8 {
            self.pods.append(&mut victims);
        } else {
            self.pods.extend(victims);
        }
    }

    /// A pod is none any more.
    pub(super) fn remove(&mut self, node: NodeIndex, pod: PodIndex) {
        if self.pods.remove(&(node, pod)) {
            self.touch(node);
        }
    }

    fn touch(&mut self, node: NodeIndex) {
        let most = self.pods.len() + 64;
        for (_, open) in &mut self.open {
            open.touched.push(node);
            if open.touched.len() > most {
                open.touched.clear();
                open.seen = None;
            }
        }
    }

    /// Nodes of victims on which some of a resource is free without them, by index.
    /// O((changes + nodes) x log victims).
    pub(super) fn open(
        &mut self,
        cluster: &Cluster,
        resource: ResourceId,
        class_of: impl Fn(PodIndex) -> ClassId,
    ) -> Vec<NodeIndex> {
        if !self.open.iter().any(|(known, _)| *known == resource) {
            self.open.push((resource, Open::default()));
        }
        let place = self.open.iter().position(|(known, _)| *known == resource);
        let (_, mut open) = self.open.swap_remove(place.expect("it was put there"));
        let count = open.seen.and_then(|seen| cluster.changes().count_since(seen));
        let is_open = |node| {
            let mut held = None;
            for pod in self.on(node) {
                *held.get_or_insert(0) += cluster.class(class_of(pod)).request(resource);
            }
            let free = cluster.allocatable(resource, node) - cluster.requested(resource, node);
            held.is_some_and(|held| free + held > 0)
        };
        match count.filter(|count| *count <= CHANGES_MAX * self.pods.len() + 64) {
            Some(count) => {
                let mut changed = std::mem::take(&mut open.touched);
                changed.extend(cluster.changes().last(count).map(|(node, _)| node));
                changed.sort_unstable();
                changed.dedup();
                for node in changed {
                    match is_open(node) {
                        true => open.nodes.insert(node),
                        false => open.nodes.remove(&node),
                    };
                }
            }
            None => {
                let mut nodes: Vec<NodeIndex> = self.pods.iter().map(|(node, _)| *node).collect();
                nodes.dedup();
                open.nodes = nodes.into_iter().filter(|node| is_open(*node)).collect();
                open.touched.clear();
            }
        }
        debug_assert!(
            self.pods.iter().all(|(node, _)| open.nodes.contains(node) == is_open(*node))
                && open.nodes.iter().all(|node| is_open(*node)),
            "what is known of nodes is what they are"
        );
        open.seen = Some(cluster.changes().position());
        let nodes = open.nodes.iter().copied().collect();
        self.open.push((resource, open));
        nodes
    }
}
