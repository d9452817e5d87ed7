//! Makes room for a gang by evicting as little as possible.
//!
//! A *unit* of eviction is one elastic member above a gang's minimum, or a whole gang. The search
//! works node by node: what is the cheapest way to fit one more pod here? It takes the cheapest
//! step anywhere, elastic members before whole gangs, until the gang fits, and then gives back
//! every unit that can be spared, the dearest first, so that the victim set is inclusion-minimal:
//! none of it can be left out. The columns are as before when it returns.

mod bound;
mod claim;
mod cut;
mod elsewhere;
mod facts;
mod give_back;
mod narrowed;
mod on_node;
mod one_seat;
mod optimum;
mod shares;
mod singles;
mod steps;
mod tied;

use super::blocks::Within;
use super::place::members;
use super::{Demand, Rankings};
use crate::cluster::{
    Assignment, ClassId, Cluster, NodeIndex, PodIndex, ResourceId, Statement, is_gpu,
};
use crate::fairshare::{FairShare, QueueIndex};
use crate::framework::{Profile, Reads};
use crate::model::fault::{Fault, is_made};
use crate::model::narrowed::base;
pub use claim::{
    Candidate, Claim, NarrowedClaim, Rank, RoomAnswer, RoomPlan, TaskSpares, needed_of,
};
use on_node::OnNode;
use shares::{Above, Bound, Less};
pub use singles::{Paper, Single, Singles};
use smallvec::SmallVec;
use std::cell::Cell;

/// Queue priority and pod priority of a gang.
type Priority = (i32, i32);

/// Units taken, up to which others are looked for that would have to be taken before some of them.
const REORDERED_MAX: usize = 32;
/// Domains in which a claim that must be seated in one is tried.
const DOMAINS_MAX: usize = 64;
const NO_PRIORITY: Priority = (i32::MIN, i32::MIN);
const NO_RANK: Rank = (i32::MIN, i32::MIN, i16::MIN, i64::MIN, i64::MIN, 0);

/// What a step costs: the highest priority of a gang that ends, gangs ended and pods evicted per
/// pod that then fits (in thousandths), the highest rank hit, a stable hash.
type Cost = (Priority, u64, u64, Rank, u32);

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Unit {
    /// candidate, place among its pods
    Elastic(usize, usize),
    /// candidate
    Gang(usize),
}

/// A unit that was taken: pods by candidate and place.
#[derive(Clone, Debug)]
struct Taken {
    unit: Unit,
    pods: SmallVec<[(usize, usize); 1]>,
}

impl Taken {
    /// The candidate.
    fn place(&self) -> usize {
        let (Unit::Elastic(place, _) | Unit::Gang(place)) = self.unit;
        place
    }
}

struct Search<'a> {
    cluster: &'a mut Cluster,
    fair: &'a mut FairShare,
    profile: &'a Profile,
    claimant: QueueIndex,
    contested: SmallVec<[ResourceId; 2]>,
    candidates: &'a [Candidate],
    spare: Vec<u32>,
    /// the same per task group
    task_spare: Vec<Vec<u32>>,
    /// per candidate and pod: taken
    taken: Vec<Vec<bool>>,
    on_node: &'a OnNode,
    /// what these units cost that were looked at last, as long as nothing has been moved since
    costed: Option<(SmallVec<[Unit; 8]>, Cost)>,
    /// `[node]`: whether facts let the class there, as far as it was asked
    facts: Vec<Cell<Option<bool>>>,
    /// what is taken from queues on paper
    less: Less,
    above: Above,
    statement: Statement,
    class: ClassId,
    slots: Vec<u32>,
    total: u32,
    needed: u32,
    units: Vec<Taken>,
    /// the claimant's members ask for this
    extra: &'a [(ResourceId, i64)],
    at_most: &'a [(ResourceId, i64)],
    /// narrowed resources of which the claimant may have no more: on nodes that offer them nothing
    /// is seated
    closed: Vec<ResourceId>,
    /// a narrowed resource for which the claimant asks: only where it is offered is anything seated
    only: Option<ResourceId>,
    /// nothing is seated outside of this
    within: Within,
    /// the claimant's own queues must give something before it may take from others, or at all
    is_bound: bool,
    /// pods that may still be evicted of each disruption budget
    allowed: Vec<i64>,
    /// units count as taken in whatever order is admissible, not as they were found
    is_reordered: bool,
    /// that nothing is found proves that there is nothing
    is_proved: bool,
}

/// Finds whom to evict so that the claim is seated. Units are taken only while every queue on their
/// path below the common ancestor with the claimant holds more than it deserves of what is
/// contested; what the claimant's own user gives is taken whatever its share.
/// O(nodes + victims x log nodes + victims x members).
///
/// Of victims on at most 24 nodes, for members of one class, the cheapest set is found: the highest
/// priority of a gang that ends, gangs ended, pods evicted, the highest rank, in this order, unless
/// the effort for it exceeds a bound. For a single pod for which the steps find nothing every set
/// of every node is looked at, within the same bound. "No" is proved then, and also where neither
/// shares nor minima of gangs tie the victims together. Where they do, and the steps find nothing,
/// all sets of units are looked at by branch and bound (`tied`), again within a bound on the
/// effort. Claims that must be seated in several domains are [cut](Claim::cut); for these "no" is
/// proved only where nothing could help one of their classes.
pub fn make_room(
    cluster: &mut Cluster,
    rankings: &mut Rankings,
    fair: &mut FairShare,
    profile: &Profile,
    claim: &Claim<'_>,
    candidates: &[Candidate],
) -> RoomAnswer {
    let demands = needed_of(cluster, claim.demands, claim.needed);
    if demands.is_empty() {
        return RoomAnswer::No;
    }
    let on_node = OnNode::new(cluster, candidates);
    let narrowed = claim.narrowed;
    let asked = [claim.extra, narrowed.only.as_slice()].concat();
    let asking = &Claim { extra: &asked, ..*claim };
    let mut answer = RoomAnswer::No;
    let everywhere = [Within::Everywhere];
    let listed: Vec<Within> =
        claim.domains.into_iter().flatten().copied().map(Within::Domain).collect();
    let domains = if claim.domains.is_some() { &listed[..] } else { &everywhere[..] };
    if domains.is_empty() || domains.len() > DOMAINS_MAX {
        answer = RoomAnswer::NotFound;
    }
    for within in domains.iter().take(DOMAINS_MAX) {
        let mut closed: Vec<ResourceId> = Vec::new();
        let found = loop {
            let mut search = Search::new(cluster, fair, profile, asking, (candidates, &on_node));
            search.closed.clone_from(&closed);
            search.only = narrowed.only.map(|(resource, _)| resource);
            search.within = *within;
            let (answer, overdrawn) = search.answer(rankings, &demands, asking);
            match overdrawn {
                Some(narrowed) if closed.contains(&narrowed) => break RoomAnswer::NotFound,
                Some(narrowed) => closed.push(narrowed),
                None => break answer,
            }
        };
        match found {
            RoomAnswer::No => {}
            RoomAnswer::NotFound => answer = RoomAnswer::NotFound,
            RoomAnswer::Placed(mut plan) => {
                let was_open = closed.is_empty() && narrowed.only.is_none();
                for other in domains {
                    let is_elsewhere = other != within;
                    if was_open && !is_elsewhere
                        || !plan.may_do_in(cluster, candidates, (claim, *other))
                    {
                        continue;
                    }
                    let mut search =
                        Search::new(cluster, fair, profile, claim, (candidates, &on_node));
                    search.within = *other;
                    if !is_elsewhere {
                        search.closed.clone_from(&closed);
                    }
                    search.spare_within(rankings, &demands, claim, &mut plan);
                }
                answer = RoomAnswer::Placed(plan);
                break;
            }
        }
    }
    answer
}

/// What shares are compared by: GPUs if any are asked for, otherwise all that is asked for.
fn contested(cluster: &Cluster, demands: &[Demand]) -> SmallVec<[ResourceId; 2]> {
    let mut all: SmallVec<[ResourceId; 2]> = SmallVec::new();
    for demand in demands {
        let asked = cluster.asked(demand.class);
        all.extend(asked.iter().filter(|(_, amount)| *amount > 0).map(|(resource, _)| *resource));
    }
    all.sort_unstable();
    all.dedup();
    let gpu = |resource: &ResourceId| is_gpu(base(cluster.resources().name(*resource)));
    let gpus: SmallVec<[ResourceId; 2]> = all.iter().copied().filter(gpu).collect();
    if gpus.is_empty() { all } else { gpus }
}

impl<'a> Search<'a> {
    fn new(
        cluster: &'a mut Cluster,
        fair: &'a mut FairShare,
        profile: &'a Profile,
        claim: &Claim<'a>,
        (candidates, on_node): (&'a [Candidate], &'a OnNode),
    ) -> Self {
        let nodes = cluster.node_slots();
        Search {
            contested: SmallVec::new(),
            spare: candidates.iter().map(|candidate| candidate.spare).collect(),
            task_spare: candidates.iter().map(|candidate| candidate.tasks.spare.clone()).collect(),
            taken: candidates.iter().map(|candidate| vec![false; candidate.pods.len()]).collect(),
            claimant: claim.leaf,
            within: Within::Everywhere,
            slots: vec![0; nodes],
            total: 0,
            needed: 0,
            units: Vec::new(),
            less: Less::default(),
            above: Above::default(),
            statement: Statement::default(),
            class: claim.demands[0].class,
            cluster,
            fair,
            profile,
            candidates,
            on_node,
            costed: None,
            facts: vec![Cell::new(None); nodes],
            extra: claim.extra,
            at_most: claim.narrowed.at_most,
            closed: Vec::new(),
            only: None,
            is_bound: false,
            allowed: claim.allowed.to_vec(),
            is_reordered: false,
            is_proved: false,
        }
    }

    /// The answer, and the narrowed resource of which it takes more than the claimant may have.
    fn answer(
        &mut self,
        rankings: &mut Rankings,
        demands: &[Demand],
        claim: &Claim<'_>,
    ) -> (RoomAnswer, Option<ResourceId>) {
        self.contested = contested(self.cluster, demands);
        self.is_proved = demands.len() == 1
            && claim.cut.is_none()
            && self.is_open()
            && !self.candidates.iter().any(|candidate| candidate.is_tied(claim.leaf));
        self.clear_going(claim);
        let is_hopeless = demands.iter().any(|demand| self.is_hopeless(demand));
        self.is_proved |= is_hopeless && self.is_open();
        self.is_bound = !is_hopeless && self.must_give();
        let mut seats = match claim.cut {
            _ if is_hopeless => None,
            Some(wanted) => self.run_cut(rankings, demands, wanted),
            None => self.run(rankings, demands),
        };
        let is_left = seats.is_none() && !self.is_proved && claim.cut.is_none();
        if is_left && self.find_tied(demands, claim) {
            let needed = self.needed;
            seats = self.seats(rankings, demands, needed).ok();
        }
        let overdrawn = seats.as_ref().and_then(|seats| self.overdrawn(seats));
        let answer = match seats {
            Some(seats) => RoomAnswer::Placed(RoomPlan { victims: self.victims(), seats }),
            None if self.is_proved => RoomAnswer::No,
            None => RoomAnswer::NotFound,
        };
        let start = Statement::default().checkpoint();
        self.statement.rollback(self.cluster, start);
        (answer, overdrawn)
    }
}

impl Search<'_> {
    /// Takes the victims of other plans off their nodes on paper.
    fn clear_going(&mut self, claim: &Claim<'_>) {
        for (leaf, pod) in claim.going {
            self.move_off(*pod, true);
            self.less_by(*leaf, *pod, 1);
        }
    }

    fn run(&mut self, rankings: &mut Rankings, demands: &[Demand]) -> Option<Vec<Assignment>> {
        self.give_to(Bound::Ceiling)?;
        if let [demand] = demands {
            let gave_back = self.seat_class(demand).is_some();
            self.is_proved = self.is_proved && (gave_back || !self.lacks_other());
            if gave_back {
                self.give_back();
            }
            let is_found = gave_back && self.is_settled();
            // its own queues may have more to give than seats ask for
            self.is_proved &= is_found || !gave_back;
            let is_small = !self.is_bound && self.is_small();
            let is_one = self.needed == 1 && (is_small || !is_found);
            if is_one {
                self.is_proved |= self.improve_seat();
            } else if is_small {
                self.is_proved |= self.improve();
            }
            // one that was kept for what its queues must give may be spared now
            if !gave_back || is_small || self.is_bound {
                self.give_back();
            }
            if self.total < self.needed || !self.is_settled() {
                return None;
            }
            let needed = self.needed;
            return self.seats(rankings, demands, needed).ok();
        }
        let mut seats: Vec<Assignment> = Vec::new();
        let mut units: Vec<Taken> = Vec::new();
        let nodes = self.within.nodes(self.cluster);
        for demand in demands {
            self.seat_class(demand)?;
            self.give_back();
            self.seat_members(demand, &nodes, &mut seats);
            // what seats a class stays taken while the next is seated
            units.append(&mut self.units);
        }
        seats.iter().for_each(|seat| self.statement.evict(self.cluster, *seat));
        self.units = units;
        let seats = self.spare_over_classes(rankings, demands).unwrap_or(seats);
        self.is_settled().then_some(seats)
    }

    /// Gives back what one class no longer needs, as victims for a later class made room for it
    /// too; the seats then. `None`: the seats are none that placing finds, so they stand.
    fn spare_over_classes(
        &mut self,
        rankings: &mut Rankings,
        demands: &[Demand],
    ) -> Option<Vec<Assignment>> {
        let needed = members(demands);
        let mut seats = self.seats(rankings, demands, needed).ok()?;
        let enough = |search: &mut Self| match search.seats(rankings, demands, needed) {
            Err(_) => false,
            Ok(found) => {
                seats = found;
                true
            }
        };
        self.give_back_while(enough);
        Some(seats)
    }

    /// Counts what fits of a class as things stand.
    fn count_class(&mut self, demand: &Demand) {
        self.turn_to(demand.class);
        self.needed = u32::try_from(demand.pods.len()).expect("groups are bounded");
        self.costed = None;
        self.slots = vec![0; self.cluster.node_slots()];
        self.total = 0;
        self.within.nodes(self.cluster).into_iter().for_each(|node| self.recount(node));
    }

    /// Takes units until all members of the class fit.
    fn seat_class(&mut self, demand: &Demand) -> Option<()> {
        self.count_class(demand);
        self.take_all_steps();
        if self.total < self.needed && self.is_bound {
            // once the claimant's own have given what is beyond its share, others may give too
            self.give_to(Bound::Deserved)?;
            self.take_all_steps();
        }
        (self.total >= self.needed).then_some(())
    }

    fn take_all_steps(&mut self) {
        let is_elastic = self.spare.iter().any(|spare| *spare > 0);
        for gangs in [false, true] {
            if self.total < self.needed && (gangs || is_elastic) {
                self.take_steps(gangs);
            }
        }
        if self.total < self.needed && self.units.len() <= REORDERED_MAX {
            // of a queue that is down to its share another may still go if a greater one was last
            self.is_reordered = true;
            self.take_steps(true);
            self.is_reordered = false;
        }
    }

    /// Single members of a candidate that are taken.
    fn gone(&self, place: usize) -> u32 {
        self.candidates[place].spare - self.spare[place]
    }

    fn priority(&self, place: usize) -> Priority {
        let (queue, pod, ..) = self.candidates[place].rank;
        (queue, pod)
    }

    /// Whether a unit may be taken now.
    fn is_legal(&mut self, unit: Unit) -> bool {
        let (Unit::Elastic(place, _) | Unit::Gang(place)) = unit;
        let candidate = &self.candidates[place];
        let there = match unit {
            Unit::Elastic(_, at) => self.left(place, at) > 0 && !self.taken[place][at],
            Unit::Gang(_) => candidate.whole && self.taken[place].contains(&false),
        };
        let (leaf, given) = (candidate.leaf, candidate.given);
        let narrowed = !self.cluster.narrowed().is_empty();
        there
            && self.is_allowed(unit)
            && (!candidate.is_sheltered(self.claimant)
                || (self.is_above(leaf) || self.is_reordered && self.is_due_in_some_order(unit))
                    && (given
                        || self.may_reach(leaf)
                            && (!narrowed || self.is_due_narrowed(&self.would_take(unit)))))
    }

    /// Whether disruption budgets let a unit go.
    fn is_allowed(&mut self, unit: Unit) -> bool {
        let (Unit::Elastic(place, _) | Unit::Gang(place)) = unit;
        let candidate = &self.candidates[place];
        if candidate.leaving || candidate.budgets.is_empty() {
            return true;
        }
        let pods = self.would_take(unit).pods;
        let budgets: SmallVec<[u32; 8]> =
            pods.iter().filter_map(|(_, at)| candidate.budgets[*at]).collect();
        budgets.iter().for_each(|budget| self.allowed[*budget as usize] -= 1);
        let is_allowed = self.keeps_budgets();
        budgets.iter().for_each(|budget| self.allowed[*budget as usize] += 1);
        is_allowed
    }

    /// Whether no more is taken on paper than disruption budgets allow.
    fn keeps_budgets(&self) -> bool {
        let least = if is_made(Fault::DisruptionByOne) { -1 } else { 0 };
        self.allowed.iter().all(|left| *left >= least)
    }

    /// The pods that go with a unit.
    fn would_take(&self, unit: Unit) -> Taken {
        let mut pods = SmallVec::new();
        match unit {
            Unit::Elastic(place, at) => pods.push((place, at)),
            Unit::Gang(place) => {
                let left = self.taken[place].iter().enumerate().filter(|(_, taken)| !**taken);
                pods.extend(left.map(|(at, _)| (place, at)));
            }
        }
        Taken { unit, pods }
    }

    fn take(&mut self, unit: Unit) -> Taken {
        let taken = self.take_off(unit);
        self.recount_of(&taken);
        taken
    }

    /// Takes a unit; what fits on its nodes is to be counted yet.
    fn take_off(&mut self, unit: Unit) -> Taken {
        let taken = self.would_take(unit);
        if let Unit::Elastic(place, at) = unit {
            self.spare[place] -= 1;
            if let Some(spare) = self.task_spare_of(place, at) {
                *spare -= 1;
            }
        }
        self.move_pods(&taken, true);
        taken
    }

    fn put_back(&mut self, taken: &Taken) {
        if let Unit::Elastic(place, at) = taken.unit {
            self.spare[place] += 1;
            if let Some(spare) = self.task_spare_of(place, at) {
                *spare += 1;
            }
        }
        self.move_pods(taken, false);
        self.recount_of(taken);
    }

    fn task_spare_of(&mut self, place: usize, at: usize) -> Option<&mut u32> {
        let task = self.candidates[place].tasks.of.get(at)?;
        Some(&mut self.task_spare[place][*task])
    }

    /// How many members like this one may still go singly.
    fn left(&self, place: usize, at: usize) -> u32 {
        let task = self.candidates[place].tasks.of.get(at);
        let of_task = task.map_or(u32::MAX, |task| self.task_spare[place][*task]);
        self.spare[place].min(of_task)
    }

    fn move_pods(&mut self, taken: &Taken, off: bool) {
        self.costed = None;
        let sign = if off { 1 } else { -1 };
        let candidate = &self.candidates[taken.place()];
        // pods that hold the same are counted at once
        let mut alike: Option<(Assignment, i64)> = None;
        for (place, at) in taken.pods.iter().copied() {
            let pod = candidate.pods[at];
            self.taken[place][at] = off;
            self.move_off(pod, off);
            // those that leave anyway are charged as long as they are there
            if candidate.leaving {
                continue;
            }
            if let Some(Some(budget)) = candidate.budgets.get(at) {
                self.allowed[*budget as usize] -= sign;
            }
            let offer = |pod: &Assignment| self.cluster.offer(pod.node);
            match &mut alike {
                Some((first, pods)) if first.class == pod.class && offer(first) == offer(&pod) => {
                    *pods += sign;
                }
                _ => {
                    let before = alike.replace((pod, sign));
                    before.into_iter().for_each(|(pod, n)| self.less_by(candidate.leaf, pod, n));
                }
            }
        }
        alike.into_iter().for_each(|(pod, times)| self.less_by(candidate.leaf, pod, times));
    }

    /// Counts what fits on the nodes of a unit.
    fn recount_of(&mut self, taken: &Taken) {
        let candidate = &self.candidates[taken.place()];
        let mut nodes = taken.pods.iter().map(|(_, at)| candidate.pods[*at].node).peekable();
        while let Some(node) = nodes.next() {
            // one count for neighbours on one node
            if nodes.peek() != Some(&node) {
                self.recount(node);
            }
        }
    }

    /// Takes a pod off its node on paper, or puts it back.
    fn move_off(&mut self, pod: Assignment, off: bool) {
        // the slot of a node that is gone would be freed with its last pod
        let there = self.cluster.node(pod.node).node.is_some();
        match off {
            true if there => self.statement.evict(self.cluster, pod),
            false if there => self.statement.assume(self.cluster, pod),
            _ => {}
        }
    }

    /// Counts how many pods of the class fit on a node now.
    fn recount(&mut self, node: NodeIndex) {
        let class = self.cluster.class(self.class);
        let most = if class.spec.host_ports.is_empty() { self.needed } else { 1 };
        let room = self.cluster.room_for(class, node, most);
        let fits = room > 0
            && self.cluster.node(node).node.is_some()
            && !self.is_closed(node)
            && self.profile.passes(Reads::Usage, self.cluster, class, node)
            && self.suits(node);
        let slots = if fits { room } else { 0 };
        let old = std::mem::replace(&mut self.slots[node.index()], slots);
        self.total = self.total - old + slots;
    }

    fn victims(&self) -> Vec<(usize, Vec<PodIndex>, bool)> {
        let mut victims = Vec::new();
        for (place, candidate) in self.candidates.iter().enumerate() {
            let taken = candidate.pods.iter().zip(&self.taken[place]);
            let pods: Vec<PodIndex> = taken.filter(|(_, t)| **t).map(|(pod, _)| pod.pod).collect();
            if !pods.is_empty() {
                let whole = pods.len() == candidate.pods.len();
                victims.push((place, pods, whole));
            }
        }
        victims
    }
}
