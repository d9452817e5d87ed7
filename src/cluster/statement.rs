//! A decision in the making: assumptions on the live columns that undo themselves.

use super::{ClassId, Cluster, NodeIndex, PodIndex};

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

/// The undo log of one decision, as data. Dropping it undone or committed is an error of the
/// caller that debug builds catch.
#[derive(Debug, Default)]
pub struct Statement {
    operations: Vec<(Assignment, u64)>,
}

impl Statement {
    /// The assumptions so far, in order.
    pub fn assignments(&self) -> impl ExactSizeIterator<Item = &Assignment> {
        self.operations.iter().map(|(assignment, _)| assignment)
    }

    /// Number of assumptions.
    #[must_use]
    pub fn len(&self) -> usize {
        self.operations.len()
    }

    /// Whether nothing is assumed.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.operations.is_empty()
    }

    /// Assumes a pod on a node. O(resources).
    pub fn assume(&mut self, cluster: &mut Cluster, assignment: Assignment) {
        let version = cluster.changes.version();
        cluster.place(assignment.class, assignment.node);
        self.operations.push((assignment, version));
    }

    /// The point to return to.
    #[must_use]
    pub fn checkpoint(&self) -> Checkpoint {
        Checkpoint(self.operations.len())
    }

    /// Undoes everything since a checkpoint, last first.
    pub fn rollback(&mut self, cluster: &mut Cluster, to: Checkpoint) {
        for (assignment, version) in self.operations.drain(to.0..).rev() {
            cluster.undo_place(assignment.class, assignment.node, version);
        }
    }

    /// Makes the assumptions stand: they are now the owner's to release.
    #[must_use]
    pub fn commit(self) -> Vec<Assignment> {
        self.operations.into_iter().map(|(assignment, _)| assignment).collect()
    }
}
