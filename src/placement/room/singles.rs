//! Room made by single members that go one by one, on paper.
//!
//! Where each of them makes room for a pod there is nothing to weigh: whoever is first goes first.
//! Only the nodes of those that are asked are looked at.

use super::contested;
use super::shares::{Less, is_above_in};
use crate::cluster::{
    Assignment, ClassId, Cluster, NodeIndex, PODS, PodIndex, ResourceId, Statement, is_gpu,
};
use crate::fairshare::{FairShare, QueueIndex};
use crate::framework::{Profile, Reads};
use crate::model::fault::{Fault, is_made};
use crate::placement::{Demand, Rankings};
use rustc_hash::FxHashMap;
use smallvec::SmallVec;

/// What is looked at, and written on.
pub struct Paper<'a> {
    /// Pods are taken off its nodes.
    pub cluster: &'a mut Cluster,
    /// Shares of those that give and take.
    pub fair: &'a mut FairShare,
    /// The claimant's.
    pub profile: &'a Profile,
}

/// A pod that goes, and its candidate's place.
#[derive(Clone, Copy, Debug)]
pub struct Single {
    /// Place among the candidates.
    pub place: usize,
    /// The pod.
    pub pod: Assignment,
    /// The leaf that gives it; `None`: whatever shares say.
    pub leaf: Option<QueueIndex>,
}

/// A set of victims in the making, for members of one class. What was written on paper is undone by
/// [`Self::close`].
pub struct Singles {
    class: ClassId,
    claimant: QueueIndex,
    contested: SmallVec<[ResourceId; 2]>,
    needed: u32,
    total: u32,
    /// of nodes that were looked at: how many of the class fit
    slots: FxHashMap<NodeIndex, u32>,
    less: Less,
    statement: Statement,
    taken: Vec<Single>,
}

impl Singles {
    /// Nothing is taken yet, and no node looked at.
    #[must_use]
    pub fn new(cluster: &Cluster, claimant: QueueIndex, demand: &Demand, needed: u32) -> Self {
        Self {
            class: demand.class,
            claimant,
            contested: contested(cluster, std::slice::from_ref(demand)),
            needed,
            total: 0,
            slots: FxHashMap::default(),
            less: Less::default(),
            statement: Statement::default(),
            taken: Vec::new(),
        }
    }

    /// Whether all fit.
    #[must_use]
    pub fn is_enough(&self) -> bool {
        self.total >= self.needed
    }

    /// Whether more than these fit, so that nodes can be chosen.
    #[must_use]
    pub fn has_choice(&self) -> bool {
        self.total > self.needed
    }

    /// Counts what fits already.
    pub fn count_free(&mut self, paper: &Paper<'_>, rankings: &mut Rankings) {
        let mut seen: SmallVec<[NodeIndex; 4]> = SmallVec::new();
        while let Some(node) = rankings.best(paper.cluster, paper.profile, self.class) {
            self.recount(paper, node);
            rankings.bar(self.class, node);
            seen.push(node);
            if self.is_enough() {
                break;
            }
        }
        for node in seen {
            rankings.lift_bar(paper.cluster, paper.profile, self.class, node);
        }
    }

    /// Of what the class asks for, the resource of which the least is free as a rule.
    #[must_use]
    pub fn scarcest(&self, cluster: &Cluster) -> ResourceId {
        let asked = cluster.class(self.class).requests.iter();
        let asked = asked.filter(|(_, amount)| *amount > 0).map(|(resource, _)| *resource);
        asked.max_by_key(|r| (is_gpu(cluster.resources().name(*r)), *r)).unwrap_or(PODS)
    }

    /// Whether a pod of the class could fit on a node without these pods, by what it asks for.
    #[must_use]
    pub fn may_fit(&self, paper: &Paper<'_>, node: NodeIndex, without: &[Assignment]) -> bool {
        let cluster = &*paper.cluster;
        if cluster.node(node).node.is_none() {
            return false;
        }
        // GPUs are known after CPU and memory, and scarcer
        cluster.class(self.class).requests.iter().rev().all(|(resource, amount)| {
            let held = without.iter().map(|pod| cluster.class(pod.class).request(*resource));
            let free = cluster.allocatable(*resource, node) - cluster.requested(*resource, node);
            free + held.sum::<i64>() >= *amount
        })
    }

    /// Takes all pods off a node that leave it without this, and counts what fits then.
    pub fn clear(&mut self, paper: &mut Paper<'_>, node: NodeIndex, pods: &[Assignment]) {
        // the slot of a node that is gone would be freed with its last pod
        if paper.cluster.node(node).node.is_some() {
            pods.iter().for_each(|pod| self.statement.evict(paper.cluster, *pod));
        }
        self.recount(paper, node);
    }

    /// Counts such pods as gone from their queues.
    pub fn count_gone(&mut self, paper: &Paper<'_>, leaf: QueueIndex, pod: Assignment) {
        self.less.add_pod((paper.cluster, paper.fair), leaf, pod, 1);
    }

    /// Whether it is counted what fits on a node.
    #[must_use]
    pub fn has_seen(&self, node: NodeIndex) -> bool {
        self.slots.contains_key(&node)
    }

    /// Takes a pod of a node that was counted, if its queues are above their shares and its going
    /// makes room.
    pub fn take(&mut self, paper: &mut Paper<'_>, single: Single) -> bool {
        let Paper { cluster, fair, .. } = paper;
        if cluster.node(single.pod.node).node.is_none() {
            return false;
        }
        if let Some(leaf) = single.leaf {
            let Self { claimant, contested, less, .. } = &*self;
            if !is_above_in(fair, (leaf, *claimant), contested, less) {
                return false;
            }
            self.less.add_pod((cluster, fair), leaf, single.pod, 1);
        }
        let before = self.total;
        self.statement.evict(paper.cluster, single.pod);
        self.recount(paper, single.pod.node);
        if self.total > before {
            self.taken.push(single);
            return true;
        }
        self.put_back(paper, single);
        false
    }

    fn put_back(&mut self, paper: &mut Paper<'_>, single: Single) {
        self.statement.assume(paper.cluster, single.pod);
        self.recount(paper, single.pod.node);
        if let Some(leaf) = single.leaf {
            self.less.add_pod((paper.cluster, paper.fair), leaf, single.pod, -1);
        }
    }

    /// Gives back whom the claimant can spare, the last first.
    pub fn spare(&mut self, paper: &mut Paper<'_>) {
        if is_made(Fault::NothingSpared) {
            return;
        }
        for single in std::mem::take(&mut self.taken).into_iter().rev() {
            if self.most_with(paper, single) < self.needed {
                self.taken.push(single);
                continue;
            }
            self.put_back(paper, single);
            if self.is_enough() {
                continue;
            }
            self.statement.evict(paper.cluster, single.pod);
            self.recount(paper, single.pod.node);
            if let Some(leaf) = single.leaf {
                self.less.add_pod((paper.cluster, paper.fair), leaf, single.pod, 1);
            }
            self.taken.push(single);
        }
    }

    /// At most how many fit in all once a pod is back, by what the class asks for.
    fn most_with(&self, paper: &Paper<'_>, single: Single) -> u32 {
        let cluster = &*paper.cluster;
        let (node, held) = (single.pod.node, cluster.class(single.pod.class));
        let requests = cluster.class(self.class).requests.iter();
        let fits = requests.filter(|(_, amount)| *amount > 0).map(|(r, amount)| {
            let free = cluster.allocatable(*r, node) - cluster.requested(*r, node);
            let fits = (free - held.request(*r)) / amount;
            u32::try_from(fits.clamp(0, i64::from(self.needed))).expect("clamped")
        });
        let before = self.slots.get(&node).copied().unwrap_or(0);
        self.total - before + fits.min().unwrap_or(self.needed)
    }

    /// Where the pods go: on any nodes with room, the first by index.
    #[must_use]
    pub fn seats(&self, pods: &[PodIndex]) -> Vec<Assignment> {
        let mut nodes: Vec<(NodeIndex, u32)> = self.slots.iter().map(|(n, s)| (*n, *s)).collect();
        nodes.sort_unstable();
        let slots = nodes.into_iter().flat_map(|(node, slots)| (0..slots).map(move |_| node));
        let class = self.class;
        let seats = pods.iter().zip(slots).map(|(pod, node)| Assignment { pod: *pod, class, node });
        seats.collect()
    }

    /// Puts everything as it was; who was taken.
    pub fn close(mut self, cluster: &mut Cluster) -> Vec<Single> {
        self.statement.rollback(cluster, Statement::default().checkpoint());
        self.taken
    }

    fn recount(&mut self, paper: &Paper<'_>, node: NodeIndex) {
        let Paper { cluster, profile, .. } = paper;
        let class = cluster.class(self.class);
        let room = cluster.room_for(class, node, self.needed);
        let fits = room > 0
            && cluster.node(node).node.is_some()
            && profile.passes(Reads::Usage, cluster, class, node)
            && profile.passes(Reads::Facts, cluster, class, node);
        let slots = if fits { room } else { 0 };
        let old = self.slots.insert(node, slots).unwrap_or(0);
        self.total = self.total - old + slots;
    }
}
