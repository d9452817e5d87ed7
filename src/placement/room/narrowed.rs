//! Narrowed resources: a claim that does not ask for one of them takes it all the same where it is
//! seated on nodes that offer it, and victims there hold it.
//!
//! A search first seats the claim anywhere. If that takes more of a narrowed resource than the
//! claimant may have, had it asked for it, the nodes that offer it are closed and the search is
//! made again; or it is made as though the claim asked for that resource. What is taken then may
//! entitle the claimant to what closed nodes offer, and seats there may need fewer victims: that is
//! asked last, as it is of other domains (`elsewhere`).

use super::{Demand, Search, Taken, Within};
use crate::cluster::{Assignment, ClassId, Cluster, DomainId, NodeIndex, ResourceId, Statement};
use crate::fairshare::QueueIndex;
use crate::model::fault::{Fault, is_made};
use crate::placement::{Failure, Gate, Rankings, Rules, Wanted, place_in_tree};
use smallvec::SmallVec;
use std::collections::BTreeMap;

/// Keeps the claim off nodes that are closed, or do not offer what it asks for, or are outside of
/// where its seats are to be.
struct Closed<'a> {
    closed: &'a [ResourceId],
    only: Option<ResourceId>,
    within: Within,
}

impl Closed<'_> {
    fn contains(&self, cluster: &Cluster, node: NodeIndex) -> bool {
        self.closed.iter().any(|narrowed| cluster.offers(node, *narrowed))
            || self.only.is_some_and(|narrowed| !cluster.offers(node, narrowed))
            || !self.within.contains(cluster.domains(), node)
    }
}

impl Gate for Closed<'_> {
    fn begin(&mut self) {}

    fn admits(&mut self, cluster: &Cluster, _class: ClassId, node: NodeIndex) -> bool {
        !self.contains(cluster, node)
    }
}

impl Search<'_> {
    pub(super) fn is_closed(&self, node: NodeIndex) -> bool {
        let Self { closed, only, within, .. } = self;
        Closed { closed, only: *only, within: *within }.contains(self.cluster, node)
    }

    /// Whether no node is closed for what it offers.
    pub(super) fn is_open(&self) -> bool {
        self.closed.is_empty() && self.only.is_none()
    }

    /// Of the narrowed resources that all members could take, closes those of which the claimant
    /// may not have as much as things stand on paper, and no others.
    pub(super) fn close_overdrawn(&mut self, sought: &[(ResourceId, i64)]) {
        self.closed.retain(|closed| !sought.iter().any(|(resource, _)| resource == closed));
        let overdrawn = self.overdrawn_of(sought.iter().copied());
        self.closed.extend(overdrawn);
    }

    /// Where the claimant is seated as things stand on paper.
    pub(super) fn seats(
        &mut self,
        rankings: &mut Rankings,
        demands: &[Demand],
        needed: u32,
    ) -> Result<Vec<Assignment>, Failure> {
        self.seats_by(rankings, demands, needed, None)
    }

    /// The same as the tree allows it.
    pub(super) fn seats_by(
        &mut self,
        rankings: &mut Rankings,
        demands: &[Demand],
        needed: u32,
        wanted: Option<&Wanted>,
    ) -> Result<Vec<Assignment>, Failure> {
        let bounds = (needed, needed);
        let is_open = self.is_open() && self.within == Within::Everywhere;
        let mut gate = Closed { closed: &self.closed, only: self.only, within: self.within };
        let gate: Option<&mut dyn Gate> = if is_open { None } else { Some(&mut gate) };
        let inside = match self.within {
            Within::Domain(domain) => domain,
            _ => DomainId::ROOT,
        };
        let rules = Rules { gate, wanted, inside };
        let mut seated =
            place_in_tree(self.cluster, rankings, self.profile, demands, bounds, rules)?;
        let seats = seated.assumed().copied().collect();
        seated.rollback(self.cluster, Statement::default().checkpoint());
        Ok(seats)
    }

    /// Whether the queues of a unit are above their shares in each narrowed resource it holds.
    pub(super) fn is_due_narrowed(&mut self, taken: &Taken) -> bool {
        if is_made(Fault::NarrowedNotAsked) {
            return true;
        }
        let pods = taken.pods.iter().map(|(place, at)| self.candidates[*place].pods[*at]);
        let held = self.narrowed_of(pods);
        let leaf = self.candidates[taken.place()].leaf;
        held.into_keys().all(|resource| self.is_above_in(leaf, &[resource]))
    }

    /// A narrowed resource of which the seats take more than the claimant may have: a limit is
    /// exceeded, others keep it, the claim allows no more, or it is not due to the claimant and
    /// others give something.
    pub(super) fn overdrawn(&mut self, seats: &[Assignment]) -> Option<ResourceId> {
        let held = self.narrowed_of(seats.iter().copied());
        self.overdrawn_of(held).first().copied()
    }

    /// Of which of these the claimant may not have as much.
    fn overdrawn_of(
        &mut self,
        amounts: impl IntoIterator<Item = (ResourceId, i64)>,
    ) -> SmallVec<[ResourceId; 2]> {
        if is_made(Fault::NarrowedOverdrawn) {
            return SmallVec::new();
        }
        let givers: Vec<QueueIndex> = self.givers().collect();
        let Self { fair, less, at_most, .. } = self;
        let less = |queue| less.of(queue);
        let path: Vec<QueueIndex> = fair.path(self.claimant).collect();
        let mut may_have = |(resource, most): (ResourceId, i64)| {
            let amount = [(resource, most)];
            let at_most = at_most.iter().find(|(known, _)| *known == resource);
            let fast = at_most.is_none_or(|(_, allowed)| most <= *allowed);
            let mut queues = path.iter().copied();
            let within = queues.all(|queue| fair.is_within_ceiling(queue, &amount, less(queue)));
            let lent = fair.withheld_by(self.claimant, &amount, less).is_none();
            let due = givers.iter().all(|leaf| {
                let ancestor = fair.common_ancestor(*leaf, self.claimant);
                let mut below = path.iter().copied().take_while(|queue| *queue != ancestor);
                below.all(|queue| fair.is_entitled_less(queue, &amount, less(queue)))
            });
            fast && within && lent && due
        };
        let amounts = amounts.into_iter().filter(|amount| !may_have(*amount));
        amounts.map(|(resource, _)| resource).collect()
    }

    fn narrowed_of(&self, pods: impl Iterator<Item = Assignment>) -> BTreeMap<ResourceId, i64> {
        let mut sums = BTreeMap::new();
        if self.cluster.narrowed().is_empty() {
            return sums;
        }
        for pod in pods {
            let offer = self.cluster.offer(pod.node);
            for (resource, amount) in self.cluster.narrowed_on(pod.class, offer) {
                *sums.entry(resource).or_default() += amount;
            }
        }
        sums
    }
}
