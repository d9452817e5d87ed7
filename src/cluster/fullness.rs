//! How full the GPUs are: scores that look ahead do otherwise when whole ones run out.
//!
//! Whole free devices are a share of all. At 1/20 and at 1/40 of them the next stage begins; one
//! goes back to the stage before only when there are more than 1.5 times as many.

use super::{ChangeLog, Cluster, NodeIndex};
use crate::model::gpu_part::DEVICE;

/// A stage begins when at most one device in so many is whole and free.
const STAGES: [u64; 2] = [20, 40];

/// The stage, and what it goes by.
#[derive(Debug, Default)]
pub(super) struct Fullness {
    /// changes before this position are counted
    seen: u64,
    /// by node slot: devices that are whole and free, and all
    nodes: Vec<(u32, u32)>,
    free: u64,
    devices: u64,
    stage: u8,
}

impl Fullness {
    fn set(&mut self, node: NodeIndex, now: (u32, u32)) {
        let before = std::mem::replace(&mut self.nodes[node.index()], now);
        self.free = self.free + u64::from(now.0) - u64::from(before.0);
        self.devices = self.devices + u64::from(now.1) - u64::from(before.1);
    }

    /// O(1).
    fn turn(&mut self) {
        let reached = STAGES.iter().filter(|part| self.free * **part <= self.devices).count();
        let held = STAGES.iter().filter(|part| 2 * self.free * **part <= 3 * self.devices).count();
        let held = held.min(usize::from(self.stage));
        let stage = if self.devices == 0 { 0 } else { reached.max(held) };
        self.stage = u8::try_from(stage).expect("there are few stages");
    }

    /// Nodes that changed since it was last up to date; `None`: they are not known.
    fn changed(&self, changes: &ChangeLog) -> Option<Vec<NodeIndex>> {
        let count = changes.count_since(self.seen)?;
        let mut nodes: Vec<_> = changes.last(count).map(|(node, _)| node).collect();
        nodes.sort_unstable();
        nodes.dedup();
        Some(nodes)
    }
}

impl Cluster {
    /// Brings the stage up to date where a score learns from arrivals. It holds until the next
    /// call, so that scores in between are of one kind. O(nodes that changed).
    pub fn turn_stage(&mut self) {
        if !self.arrivals.is_kept() || self.fullness.seen == self.changes.position() {
            return;
        }
        let changed = self.fullness.changed(&self.changes);
        self.fullness.nodes.resize(self.node_slots(), (0, 0));
        let all = || (0..self.node_slots()).map(NodeIndex::at).collect();
        for node in changed.unwrap_or_else(all) {
            let devices = self.whole_devices(node);
            self.fullness.set(node, devices);
        }
        self.fullness.seen = self.changes.position();
        self.fullness.turn();
    }

    /// How far whole free devices have run out: 0 to 2.
    #[must_use]
    pub fn stage(&self) -> u8 {
        self.fullness.stage
    }

    /// What scores that look ahead go by beside the nodes: what of arrivals was learnt, and the
    /// stage. Scores kept under another outlook are void.
    #[must_use]
    pub fn outlook(&self) -> (u32, u8) {
        (self.arrivals.learnt().epoch, self.fullness.stage)
    }

    /// The devices of a node that are whole and free, and all.
    fn whole_devices(&self, node: NodeIndex) -> (u32, u32) {
        let count = |number: usize| u32::try_from(number).expect("a node has few devices");
        if self.node(node).node.is_none() {
            return (0, 0);
        }
        if let Some(shared) = self.shared_devices(node).filter(|shared| !shared.ours().is_empty()) {
            let free = shared.lefts().filter(|(_, left)| *left == DEVICE).count();
            return (count(free), count(shared.ours().len()));
        }
        let Some(gpu) = self.gpu else { return (0, 0) };
        let all = self.allocatable(gpu, node).max(0);
        let free = (all - self.requested(gpu, node)).max(0);
        let bounded = |number: i64| u32::try_from(number).unwrap_or(u32::MAX);
        (bounded(free), bounded(all))
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::model::gpu_part::GPU;
    use crate::model::{Node, PodClass};

    #[test]
    fn a_stage_begins_at_its_bound_and_ends_at_half_as_much_again() {
        let mut fullness = Fullness { devices: 1000, ..Fullness::default() };
        let mut stage = |free| {
            fullness.free = free;
            fullness.turn();
            fullness.stage
        };
        assert_eq!([51, 50, 75, 76].map(&mut stage), [0, 1, 1, 0]);
        assert_eq!([25, 37, 38, 75, 76].map(&mut stage), [2, 2, 1, 1, 0]);
        assert_eq!([20, 38, 20, 100].map(&mut stage), [2, 1, 2, 0], "stages may be skipped");
        fullness.devices = 0;
        fullness.turn();
        assert_eq!(fullness.stage, 0, "there is nothing to run out");
    }

    #[test]
    fn it_follows_nodes_and_pods_where_arrivals_are_kept() {
        let mut cluster = Cluster::default();
        cluster.turn_stage();
        cluster.keep_arrivals();
        let node = |name: &str| Node {
            name: name.into(),
            allocatable: vec![(GPU.into(), 8), ("pods".into(), 9)],
            ..Node::default()
        };
        let _ = (cluster.apply_node(node("a")), cluster.apply_node(node("b")));
        let requests = vec![(GPU.into(), 8)];
        let class = cluster.acquire_class(PodClass { requests, ..PodClass::default() });
        let [a, b] = ["a", "b"].map(|name| cluster.find_node(name).expect("it was applied"));
        cluster.turn_stage();
        assert_eq!((cluster.fullness.free, cluster.fullness.devices), (16, 16));
        cluster.place(class, a);
        cluster.place(class, b);
        assert_eq!(cluster.stage(), 0, "not turned yet");
        cluster.turn_stage();
        assert_eq!((cluster.stage(), cluster.fullness.free), (2, 0));
        cluster.unplace(class, b);
        cluster.delete_node("a");
        cluster.turn_stage();
        assert_eq!((cluster.fullness.free, cluster.fullness.devices), (8, 8));
        assert_eq!(cluster.outlook(), (0, 0));
    }
}
