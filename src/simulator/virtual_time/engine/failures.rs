//! Nodes that are lost and come back.

use super::start::{stands, stands_as};
use super::{Engine, Happening};
use crate::model::Pod;
use crate::scheduler::Event;
use crate::simulator::virtual_time::dice::Dice;
use crate::simulator::virtual_time::world::Stage;

/// How often nodes are lost, in the mean. Times are distributed exponentially, each node's drawn
/// from the seed by itself, so that they are the same under every policy.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Failures {
    /// Between a node's coming and its loss, in milliseconds.
    pub mtbf_ms: i64,
    /// Between its loss and its return, in milliseconds.
    pub repair_ms: i64,
}

/// Purposes of what is drawn.
const UNTIL_LOSS: u64 = 1 << 61;
const UNTIL_RETURN: u64 = 1 << 62;

impl<'a> Engine<'a> {
    pub(super) fn foresee_failures(&mut self) {
        let nodes = u32::try_from(self.nodes.len()).expect("fewer than 2^32 nodes");
        (0..nodes).for_each(|node| self.foresee_failure(node, 0));
    }

    fn foresee_failure(&mut self, node: u32, count: u32) {
        if let Some(failures) = self.world.inputs.cluster.failures {
            let after = self.drawn(failures.mtbf_ms, UNTIL_LOSS, (node, count));
            self.after(after, Happening::Fails { node, count });
        }
    }

    fn drawn(&self, mean_ms: i64, purpose: u64, (node, count): (u32, u32)) -> i64 {
        let which = u64::from(node) << 24 ^ u64::from(count);
        let mut dice = Dice::new(self.options.seed, purpose ^ which);
        (dice.exponential(mean_ms as f64) as i64).max(1)
    }

    /// A node is lost, and with it the pods on it: they fail at once, and others are made.
    pub(super) fn fail(&mut self, node: u32, count: u32) {
        self.totals.failed_nodes += 1;
        self.world.set_lost(node, true);
        let name = self.nodes[node as usize].name.clone();
        let standing = self.standing_on(&name);
        self.hear(Event::NodeDeleted(name));
        for (number, _) in standing {
            self.hear(Event::PodDeleted(stands_as(number, count)));
        }
        for pod in self.world.pods_on(node).to_vec() {
            self.totals.failed_pods += 1;
            let runs = self.world.pod(pod).stage == Stage::Running;
            self.lose(pod);
            if runs {
                self.runs_no_more(pod);
            }
        }
        if let Some(failures) = self.world.inputs.cluster.failures {
            let after = self.drawn(failures.repair_ms, UNTIL_RETURN, (node, count));
            self.after(after, Happening::Returns { node, count });
        }
    }

    /// Pods that go and come with a node, by number.
    fn standing_on(&self, node: &str) -> Vec<(u32, &'a Pod)> {
        let standing = (0..).zip(&self.world.inputs.cluster.standing);
        standing.filter(|(_, pod)| pod.node.as_deref() == Some(node)).collect()
    }

    pub(super) fn bring_back(&mut self, node: u32, count: u32) {
        self.world.set_lost(node, false);
        let object = self.nodes[node as usize].clone();
        let standing = self.standing_on(&object.name);
        self.hear(Event::NodeApplied(Box::new(object)));
        for (number, pod) in standing {
            self.hear(stands(pod, number, count + 1));
        }
        self.foresee_failure(node, count + 1);
    }
}
