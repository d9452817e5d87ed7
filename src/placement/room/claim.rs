//! What a search is asked, and what it answers.

use crate::cluster::{Assignment, Cluster, DomainId, PodIndex, ResourceId};
use crate::fairshare::QueueIndex;
use crate::model::Growth;
use crate::model::fault::{Fault, is_made};
use crate::placement::{Demand, Wanted, weight};
use std::cmp::Reverse;

/// A gang that may lose members.
#[derive(Clone, Debug)]
pub struct Candidate {
    /// Where it is charged.
    pub leaf: QueueIndex,
    /// It ranks below the claimant in the claimant's own queue: it gives what the claimant asks for
    /// beyond its share, and only another user's share protects it.
    pub given: bool,
    /// Its pods are on their way out already: they cost only the wait.
    pub leaving: bool,
    /// Members above its minimum, which may go one by one.
    pub spare: u32,
    /// Whether it may go whole.
    pub whole: bool,
    /// Its members on nodes; those that go first, first.
    pub pods: Vec<Assignment>,
    /// The disruption budget of each of `pods`, as its place in [`Claim::allowed`]; empty: none has
    /// any.
    pub budgets: Vec<Option<u32>>,
    /// How many at the end of `pods` go only with the whole gang: headers, protected pods.
    pub kept: usize,
    /// What its task groups keep back.
    pub tasks: TaskSpares,
    /// Of gangs that go whole the lowest goes first.
    pub rank: Rank,
    /// How far it has grown: of gangs whose ranks agree in what comes before the work lost, the one
    /// that has grown furthest loses the next single member.
    pub growth: Growth,
}

/// Members above the minimum of each task group of a gang, and to which group each of its pods
/// belongs; both empty for a gang without.
#[derive(Clone, Debug, Default)]
pub struct TaskSpares {
    /// Per group; there is one without end for pods that belong to none.
    pub spare: Vec<u32>,
    /// Per pod.
    pub of: Vec<usize>,
}

/// Queue priority, pod priority, how dear it says it is to interrupt; then, for a single member,
/// minus how far its gang has grown; then minus when what is lost began, and a stable hash.
pub type Rank = (i32, i32, i16, i64, i64, u64);

/// The members to be seated: the demanding classes first, no more than needed, and all headers.
#[must_use]
pub fn needed_of(cluster: &Cluster, demands: &[Demand], needed: u32) -> Vec<Demand> {
    let mut demands = demands.to_vec();
    demands.sort_by_key(|demand| Reverse(weight(cluster, demand.class)));
    let mut left = needed as usize;
    let mut headers: usize = demands.iter().map(|demand| demand.headers).sum();
    for demand in &mut demands {
        headers -= demand.headers;
        demand.pods.truncate(left.saturating_sub(headers));
        demand.headers = demand.headers.min(demand.pods.len());
        left -= demand.pods.len();
    }
    demands.retain(|demand| !demand.pods.is_empty());
    demands
}

/// For whom room is made.
#[derive(Clone, Copy, Debug)]
pub struct Claim<'a> {
    /// Where it will be charged.
    pub leaf: QueueIndex,
    /// Its pending members by class.
    pub demands: &'a [Demand],
    /// Members that must be seated.
    pub needed: u32,
    /// What these members ask for in all.
    pub extra: &'a [(ResourceId, i64)],
    /// Victims of other plans, with their leaves: their room is coming free without this one.
    pub going: &'a [(QueueIndex, Assignment)],
    /// Pods that may be evicted of each disruption budget.
    pub allowed: &'a [i64],
    /// All its seats are in one of these domains, those that come first being tried first; `None`:
    /// they may be anywhere.
    pub domains: Option<&'a [DomainId]>,
    /// What it asks of the tree, if its seats must be in several domains at once. It may have
    /// members that were placed before.
    pub cut: Option<&'a Wanted>,
    /// What it takes of narrowed resources without asking for them.
    pub narrowed: NarrowedClaim<'a>,
}

/// What a claim may take of the narrowed resources of which it asks for none.
#[derive(Clone, Copy, Debug, Default)]
pub struct NarrowedClaim<'a> {
    /// What all its members could take. The caller counts it as pending at the claim's leaf.
    pub sought: &'a [(ResourceId, i64)],
    /// How much it may take; those not named are free.
    pub at_most: &'a [(ResourceId, i64)],
    /// One of those sought: it is seated where that is offered, as though it had asked for it.
    pub only: Option<(ResourceId, i64)>,
}

/// Who goes, and who is seated where once they have gone.
#[derive(Clone, Debug, Default)]
pub struct RoomPlan {
    /// Per victim gang: its place among the candidates, the members that go, and whether all do.
    pub victims: Vec<(usize, Vec<PodIndex>, bool)>,
    /// The claimant's members.
    pub seats: Vec<Assignment>,
}

/// What a search came to.
#[derive(Clone, Debug)]
pub enum RoomAnswer {
    /// These go and those are seated.
    Placed(RoomPlan),
    /// No admissible set of victims seats the claim: this is proved.
    No,
    /// None was found, and there may be one.
    NotFound,
}

impl Candidate {
    /// The rank of its next single member, once `gone` have gone: the exact reverse of the order in
    /// which gangs grow.
    #[must_use]
    pub fn single_rank(&self, gone: u32) -> Rank {
        let (queue, pod, dear, .., hash) = self.rank;
        (queue, pod, dear, -self.growth.part(gone), -self.growth.created.0, !hash)
    }

    /// What of a single member's rank is the same whichever goes first.
    pub(super) fn class_rank(&self) -> Rank {
        let (queue, pod, dear, ..) = self.rank;
        (queue, pod, dear, i64::MIN, i64::MIN, 0)
    }

    /// Whether nothing is taken of it but what is above the share of its leaf.
    #[must_use]
    pub fn is_sheltered(&self, claimant: QueueIndex) -> bool {
        let own = self.leaf == claimant || is_made(Fault::UserTaken);
        !(self.given && own)
    }

    /// Whether all its members may go one by one: then each is a unit of its own.
    pub(super) fn may_all_go_singly(&self) -> bool {
        let of = |task| self.tasks.of.iter().filter(|of| **of == task).count();
        let mut tasks = self.tasks.spare.iter().enumerate();
        self.spare as usize >= self.pods.len()
            && tasks.all(|(task, spare)| *spare as usize >= of(task))
    }

    /// Whether taking one unit of it may forbid another.
    pub(super) fn is_tied(&self, claimant: QueueIndex) -> bool {
        let single = self.pods.len() - self.kept;
        let bound = (self.spare as usize) < single || !self.tasks.of.is_empty();
        self.is_sheltered(claimant) || !self.budgets.is_empty() || !self.whole && bound
    }
}
