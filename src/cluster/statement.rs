//! A decision in the making: assumptions on the live columns that undo themselves.

use super::{ClassId, Cluster, Held, NodeIndex, PodIndex};
use crate::model::DeviceSet;

/// A pod on a node.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Assignment {
    /// The pod.
    pub pod: PodIndex,
    /// Its class.
    pub class: ClassId,
    /// Where it goes.
    pub node: NodeIndex,
}

/// A point to roll back to.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Checkpoint(usize);

/// One step of a decision.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Operation {
    /// whether it was taken off the node before
    Assume(bool),
    /// with what it held of shared devices, and the devices that a decision had given it
    Evict(Option<Held>, DeviceSet),
}

impl Operation {
    fn is_assume(self) -> bool {
        matches!(self, Self::Assume(_))
    }
}

/// The undo log of one decision, as data: what is not committed must be rolled back.
#[derive(Debug, Default)]
pub struct Statement {
    operations: Vec<(Operation, Assignment, u64)>,
}

impl Statement {
    /// The assumptions so far, in order.
    pub fn assumed(&self) -> impl Iterator<Item = &Assignment> {
        let assumed = self.operations.iter().filter(|(o, _, _)| o.is_assume());
        assumed.map(|(_, assignment, _)| assignment)
    }

    /// Number of steps.
    #[must_use]
    pub fn len(&self) -> usize {
        self.operations.len()
    }

    /// Whether nothing was done.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.operations.is_empty()
    }

    /// Assumes a pod on a node; one that asks for a part of a GPU on what the cluster chooses.
    /// O(resources).
    pub fn assume(&mut self, cluster: &mut Cluster, assignment: Assignment) {
        let class = cluster.class(assignment.class);
        let asks = class.spec.gpu_part.is_some();
        let devices = if asks { cluster.choose_devices(class, assignment.node) } else { None };
        self.assume_on(cluster, assignment, devices.unwrap_or_default());
    }

    /// The same on these shared devices, which must have room.
    pub fn assume_on(&mut self, cluster: &mut Cluster, assignment: Assignment, devices: DeviceSet) {
        let version = cluster.changes.version();
        let Assignment { pod, class, node } = assignment;
        if !devices.is_empty() {
            cluster.give(class, pod, node, devices);
        }
        let was_absent = cluster.set_absent(pod, node, false);
        cluster.give_claimed(class, pod, node);
        cluster.place(class, node);
        self.operations.push((Operation::Assume(was_absent), assignment, version));
    }

    /// Takes a pod off its node on paper, to see what its room is good for. O(resources).
    pub fn evict(&mut self, cluster: &mut Cluster, victim: Assignment) {
        let version = cluster.changes.version();
        let held = cluster.give_back(victim.pod, victim.node);
        let given = cluster.take_given(victim.pod, victim.node).unwrap_or_default();
        cluster.set_absent(victim.pod, victim.node, true);
        cluster.unplace(victim.class, victim.node);
        self.operations.push((Operation::Evict(held, given), victim, version));
    }

    /// The point to return to.
    #[must_use]
    pub fn checkpoint(&self) -> Checkpoint {
        Checkpoint(self.operations.len())
    }

    /// Undoes everything since a checkpoint, last first.
    pub fn rollback(&mut self, cluster: &mut Cluster, to: Checkpoint) {
        for (operation, pod, version) in self.operations.drain(to.0..).rev() {
            match operation {
                Operation::Assume(was_absent) => {
                    cluster.give_back(pod.pod, pod.node);
                    cluster.take_given(pod.pod, pod.node);
                    cluster.set_absent(pod.pod, pod.node, was_absent);
                    cluster.unplace(pod.class, pod.node);
                }
                Operation::Evict(held, given) => {
                    cluster.put_given(pod.pod, pod.node, given);
                    cluster.set_absent(pod.pod, pod.node, false);
                    cluster.place(pod.class, pod.node);
                    held.into_iter().for_each(|held| cluster.hold(pod.node, held));
                }
            }
            cluster.changes.restore_version(version);
        }
    }

    /// Makes the assumptions stand: they are now the owner's to release.
    #[must_use]
    pub fn commit(self) -> Vec<Assignment> {
        let assumed = self.operations.into_iter().filter(|(o, _, _)| o.is_assume());
        assumed.map(|(_, assignment, _)| assignment).collect()
    }
}
