//! What a gang may use of narrowed resources, of which it asks for none: on the nodes where they
//! are offered it takes them all the same, and no more than limits, guarantees of others and, if
//! it must never be evicted, its own guarantee allow.

use super::Scheduler;
use super::held_fast::{HeldFast, beyond_guarantee};
use crate::cluster::{ClassId, Cluster, NodeIndex, ResourceId};
use crate::fairshare::{FairShare, QueueIndex};
use crate::placement::Gate;
use crate::queue::Amounts;
use smallvec::SmallVec;

/// Keeps a gang off nodes whose narrowed resources its queue may not have more of.
pub(super) struct NarrowedGate<'a> {
    pub(super) fair: &'a mut FairShare,
    pub(super) leaf: QueueIndex,
    /// what such pods hold, for a gang that must never be evicted
    pub(super) held_fast: Option<&'a HeldFast>,
    /// by the members placed in this attempt
    pub(super) taken: Amounts,
    /// what was refused first
    pub(super) refused: Option<ResourceId>,
}

impl NarrowedGate<'_> {
    fn may_take(&mut self, cluster: &Cluster, amount: (ResourceId, i64)) -> bool {
        let amounts = [amount];
        let fast = self.held_fast;
        self.fair.limited_by(self.leaf, &amounts).is_none()
            && self.fair.withheld_by(self.leaf, &amounts, |_| &[]).is_none()
            && fast.is_none_or(|held| {
                beyond_guarantee(self.fair, cluster.resources(), held, self.leaf, &amounts)
                    .is_none()
            })
    }
}

impl Gate for NarrowedGate<'_> {
    fn begin(&mut self) {
        self.taken.clear();
    }

    fn admits(&mut self, cluster: &Cluster, class: ClassId, node: NodeIndex) -> bool {
        let amounts: Amounts = cluster.narrowed_on(class, cluster.offer(node)).collect();
        for (resource, amount) in &amounts {
            let taken = self.taken.iter().find(|(known, _)| known == resource);
            let sum = taken.map_or(0, |(_, sum)| *sum) + amount;
            if !self.may_take(cluster, (*resource, sum)) {
                self.refused = self.refused.or(Some(*resource));
                return false;
            }
        }
        super::queues::add(&mut self.taken, &amounts);
        true
    }
}

impl Scheduler {
    /// What a claim takes of narrowed resources of which it asks for none, if all its members run
    /// where they are offered. O(narrowed resources).
    pub(super) fn sought(&self, extra: &[(ResourceId, i64)]) -> Amounts {
        let asked = |resource: ResourceId| {
            let found = extra.iter().find(|(known, _)| *known == resource);
            found.map_or(0, |(_, amount)| *amount)
        };
        let all = self.cluster.narrowed().iter();
        let sought = all.filter(|narrowed| asked(narrowed.resource) == 0);
        let sought = sought.map(|narrowed| (narrowed.resource, asked(narrowed.base)));
        sought.filter(|(_, amount)| *amount > 0).collect()
    }

    /// Those of which a claim may not have so much as things stand. O(narrowed resources x depth).
    pub(super) fn in_the_way(
        &mut self,
        leaf: QueueIndex,
        sought: &[(ResourceId, i64)],
    ) -> impl Iterator<Item = (ResourceId, i64)> + use<> {
        let path: SmallVec<[QueueIndex; 8]> = self.fair.path(leaf).collect();
        let is_in_the_way = |amount: &&(ResourceId, i64)| {
            let amounts = [**amount];
            path.iter().any(|queue| !self.fair.is_entitled(*queue, &amounts))
                || self.fair.withheld_by(leaf, &amounts, |_| &[]).is_some()
        };
        sought.iter().filter(is_in_the_way).copied().collect::<Amounts>().into_iter()
    }
}
