//! Nodes that a gang may not use though there is room on them.

use super::Rankings;
use crate::cluster::{ClassId, Cluster, NodeIndex};
use crate::framework::Profile;

/// Says where the pods of one gang may go, beside what filters say of any pod of their class.
pub trait Gate {
    /// An attempt begins, with nothing placed.
    fn begin(&mut self);

    /// Whether one more pod of the class may go on a node. What is refused stays so for the class
    /// until the next attempt; what is not is placed there.
    fn admits(&mut self, cluster: &Cluster, class: ClassId, node: NodeIndex) -> bool;
}

/// Nodes that are out of their class's ranking for the time of an attempt.
#[derive(Debug, Default)]
pub(super) struct Barred(Vec<(ClassId, NodeIndex)>);

impl Barred {
    pub(super) fn is_empty(&self) -> bool {
        self.0.is_empty()
    }

    /// The best node for one more pod that the gate admits.
    pub(super) fn best(
        &mut self,
        cluster: &Cluster,
        rankings: &mut Rankings,
        profile: &Profile,
        class: ClassId,
        gate: &mut Option<&mut dyn Gate>,
    ) -> Option<NodeIndex> {
        loop {
            let node = rankings.best(cluster, profile, class)?;
            if gate.as_mut().is_none_or(|gate| gate.admits(cluster, class, node)) {
                return Some(node);
            }
            rankings.bar(class, node);
            self.0.push((class, node));
        }
    }

    /// Puts the nodes back.
    pub(super) fn lift(self, cluster: &Cluster, rankings: &mut Rankings, profile: &Profile) {
        for (class, node) in self.0 {
            rankings.lift_bar(cluster, profile, class, node);
        }
    }
}
