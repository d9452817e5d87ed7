//! The candidates' pods by node.

use super::Candidate;
use crate::cluster::{Cluster, NodeIndex};

/// The candidates' pods, by candidate and place, on each node; those of one candidate together.
pub(super) struct OnNode {
    /// where those of each node begin, and where the last ones end
    starts: Vec<u32>,
    pods: Vec<(usize, usize)>,
    /// nodes that have some, by index
    nodes: Vec<NodeIndex>,
}

impl OnNode {
    /// O(nodes + candidates' pods).
    pub(super) fn new(cluster: &Cluster, candidates: &[Candidate]) -> Self {
        let there = |node: NodeIndex| cluster.node(node).node.is_some();
        let mut starts = vec![0; cluster.node_slots() + 1];
        for pod in candidates.iter().flat_map(|candidate| &candidate.pods) {
            starts[pod.node.index() + 1] += u32::from(there(pod.node));
        }
        let counts = starts.iter().enumerate().skip(1).filter(|(_, count)| **count > 0);
        let nodes = counts.map(|(at, _)| NodeIndex::at(at - 1)).collect();
        let mut sum = 0;
        for start in &mut starts {
            sum += *start;
            *start = sum;
        }
        let mut pods = vec![(0, 0); sum as usize];
        let mut next = starts.clone();
        for (place, candidate) in candidates.iter().enumerate() {
            for (at, pod) in candidate.pods.iter().enumerate() {
                if there(pod.node) {
                    let next = &mut next[pod.node.index()];
                    pods[*next as usize] = (place, at);
                    *next += 1;
                }
            }
        }
        Self { starts, pods, nodes }
    }

    /// Those on a node.
    pub(super) fn of(&self, node: NodeIndex) -> &[(usize, usize)] {
        let at = node.index();
        &self.pods[self.starts[at] as usize..self.starts[at + 1] as usize]
    }

    /// Nodes that have some, by index.
    pub(super) fn nodes(&self) -> &[NodeIndex] {
        &self.nodes
    }
}
