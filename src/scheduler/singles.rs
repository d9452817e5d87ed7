//! The most common way to make room: elastic members go one by one, and each makes room for a pod.
//!
//! No gang ends and no fewer pods can go, so the only question is whose turn it is, and that is
//! kept in order (see `spares`). What this does not find is left to the search that weighs.

use super::Scheduler;
use super::room::{Found, Rights, Stance};
use super::spares::Spare;
use crate::cluster::{Assignment, NodeIndex, PodIndex, ResourceId, Statement};
use crate::fairshare::QueueIndex;
use crate::placement::{Candidate, Demand, Paper, Rank, RoomPlan, Single, Singles, place_group};
use crate::queue::GroupIndex;
use smallvec::SmallVec;
use std::cmp::Reverse;
use std::collections::{BTreeMap, BinaryHeap};

/// Members that may be asked in vain before the search that weighs takes over.
const VAIN_MAX: usize = 64;
/// Nodes of a cluster in which that search finds the best of all choices.
const NODES_SMALL: usize = 8;

/// A leaf that may give, and the gang whose turn it is there.
struct Giver {
    leaf: QueueIndex,
    priority: i32,
    stance: Stance,
}

/// Who comes next.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
enum Next {
    /// a giver, and a gang of it that was not asked yet
    Gang(usize, Spare),
    /// a candidate
    Member(usize),
}

/// Gangs that were asked.
#[derive(Default)]
struct Asked {
    candidates: Vec<Candidate>,
    grace: Vec<i64>,
    /// per candidate: members that were looked at, and members that went
    at: Vec<(usize, u32)>,
    /// members that went, per task group
    of_tasks: Vec<SmallVec<[u32; 4]>>,
    /// pods that may still go of each disruption budget
    allowed: Vec<i64>,
}

impl Scheduler {
    /// Elastic members whose going seats the claimant, if that is found with little effort and
    /// nothing better is to be expected.
    pub(super) fn find_singles(
        &mut self,
        index: GroupIndex,
        rights: &Rights,
        demands: &[Demand],
    ) -> Option<Found> {
        let [demand] = demands else { return None };
        let group = self.groups.get(index);
        let (extra, needed) = (group.claim.clone(), group.needed());
        let profile = group.profile;
        if !self.are_singles_best(demand)
            || self.is_drained_for(index)
            || self.fair.limited_by(rights.leaf, &extra).is_some()
            || self.fair.withheld_by(rights.leaf, &extra, |_| &[]).is_some()
        {
            return None;
        }
        let givers = self.givers(rights, &extra)?;
        let mut singles = Singles::new(&self.cluster, rights.leaf, demand, needed);
        let mut asked = Asked { allowed: self.disruptions_allowed(), ..Asked::default() };
        let is_found = self.ask(rights, &givers, (&mut singles, &mut asked), profile);
        let mut paper = Paper {
            cluster: &mut self.cluster,
            fair: &mut self.fair,
            profile: &self.profiles[usize::from(profile)],
        };
        let mut seats = Vec::new();
        if is_found {
            singles.spare(&mut paper);
            let pods = &demand.pods[..needed as usize];
            seats = singles.seats(pods);
            if singles.has_choice() {
                let demand = Demand { pods: pods.into(), ..demand.clone() };
                let (rankings, bounds) = (&mut self.rankings, (needed, needed));
                let found =
                    place_group(paper.cluster, rankings, paper.profile, &[demand], bounds, None);
                if let Ok(mut found) = found {
                    seats = found.assumed().copied().collect();
                    found.rollback(paper.cluster, Statement::default().checkpoint());
                }
            }
        }
        let taken = singles.close(&mut self.cluster);
        is_found.then(|| asked.into_found(&taken, seats))
    }

    /// Whether single members are the cheapest victims if they suffice.
    fn are_singles_best(&self, demand: &Demand) -> bool {
        let class = self.cluster.class(demand.class);
        let is_least = || {
            self.cluster.classes().all(|other| {
                class.requests.iter().all(|(resource, n)| other.request(*resource) <= *n)
            })
        };
        self.cluster.narrowed().is_empty()
            && class.unknown.is_empty()
            && class.spec.host_ports.is_empty()
            && (self.cluster.node_count() > NODES_SMALL || is_least())
    }

    /// Leaves from which the claimant may take single members; `None`: both its own and others
    /// would have to give.
    fn givers(&mut self, rights: &Rights, extra: &[(ResourceId, i64)]) -> Option<Vec<Giver>> {
        let asked: SmallVec<[ResourceId; 5]> =
            extra.iter().map(|(resource, _)| *resource).collect();
        let reach = match rights.own_only {
            // what its own give may entitle it to what others hold
            true => self.fair.path(rights.leaf).collect(),
            false => self.reach(rights, extra),
        };
        let leaves: SmallVec<[QueueIndex; 16]> = self.spares.leaves().collect();
        let mut givers = Vec::new();
        for leaf in leaves {
            let stance = self.stance(rights, leaf, &asked, &reach);
            if rights.own_only && stance.is_open {
                return None;
            }
            if stance.may_give || stance.is_open {
                let priority = self.fair.spec(leaf).priority;
                givers.push(Giver { leaf, priority, stance });
            }
        }
        Some(givers)
    }

    /// Asks one member after the other until the claimant is seated on paper.
    fn ask(
        &mut self,
        rights: &Rights,
        givers: &[Giver],
        (singles, asked): (&mut Singles, &mut Asked),
        profile: u8,
    ) -> bool {
        self.count_going(rights, singles, profile);
        if singles.is_enough() || self.could_await(rights, singles, profile) {
            return false;
        }
        let mut heap: BinaryHeap<Reverse<(Rank, Next)>> = BinaryHeap::new();
        for (at, giver) in givers.iter().enumerate() {
            heap.extend(self.next_gang(at, giver, None));
        }
        let mut vain = 0;
        while let Some(Reverse((_, next))) = heap.pop() {
            let place = match next {
                Next::Gang(at, spare) => {
                    let giver = &givers[at];
                    heap.extend(self.next_gang(at, giver, Some(spare)));
                    if let Some(candidate) = self.candidate_for(rights, giver.stance, spare.1) {
                        let place = asked.add(candidate, giver.stance.grace_ms);
                        heap.extend(asked.turn(place));
                    } else {
                        vain += 1;
                    }
                    continue;
                }
                Next::Member(place) => place,
            };
            let Some(single) = asked.next(place, rights.leaf) else { continue };
            let node = single.pod.node;
            let going = (!singles.has_seen(node)).then(|| self.going_on(node));
            let mut paper = Paper {
                cluster: &mut self.cluster,
                fair: &mut self.fair,
                profile: &self.profiles[usize::from(profile)],
            };
            if let Some(pods) = going {
                singles.clear(&mut paper, node, &pods);
            }
            if singles.take(&mut paper, single) {
                asked.went(place);
            } else {
                vain += 1;
            }
            if singles.is_enough() {
                return true;
            }
            if vain > VAIN_MAX {
                return false;
            }
            heap.extend(asked.turn(place));
        }
        false
    }

    fn next_gang(
        &self,
        at: usize,
        giver: &Giver,
        after: Option<Spare>,
    ) -> Option<Reverse<(Rank, Next)>> {
        let spare = self.spares.next(giver.leaf, after)?;
        let (priority, dear, grown, created, hash) = spare.0;
        let rank = (giver.priority, priority, dear, grown, created, hash);
        Some(Reverse((rank, Next::Gang(at, spare))))
    }

    /// Counts what fits already, or will once the victims of other plans have gone.
    fn count_going(&mut self, rights: &Rights, singles: &mut Singles, profile: u8) {
        let going = if rights.own_only { Vec::new() } else { self.going() };
        let scarce = singles.scarcest(&self.cluster);
        let class_of = |pod| self.pods.get(pod).class;
        let open = self.vacating.open(&self.cluster, scarce, class_of);
        let open: Vec<_> = open.into_iter().map(|node| (node, self.going_on(node))).collect();
        let mut paper = Paper {
            cluster: &mut self.cluster,
            fair: &mut self.fair,
            profile: &self.profiles[usize::from(profile)],
        };
        singles.count_free(&paper, &mut self.rankings);
        for (leaf, pod) in going {
            singles.count_gone(&paper, leaf, pod);
        }
        for (node, here) in open {
            if singles.may_fit(&paper, node, &here) {
                singles.clear(&mut paper, node, &here);
            }
        }
    }

    /// Victims of other plans on a node.
    fn going_on(&self, node: NodeIndex) -> SmallVec<[Assignment; 8]> {
        self.vacating
            .on(node)
            .map(|pod| Assignment { pod, class: self.pods.get(pod).class, node })
            .collect()
    }

    /// Whether a pod that leaves by itself makes room that could be awaited instead.
    fn could_await(&mut self, rights: &Rights, singles: &Singles, profile: u8) -> bool {
        let Some(leaving) = self.leaving_candidate(rights.leaf) else { return false };
        let mut by_node: BTreeMap<NodeIndex, SmallVec<[Assignment; 8]>> = BTreeMap::new();
        for pod in leaving.pods {
            by_node.entry(pod.node).or_insert_with(|| self.going_on(pod.node)).push(pod);
        }
        let paper = Paper {
            cluster: &mut self.cluster,
            fair: &mut self.fair,
            profile: &self.profiles[usize::from(profile)],
        };
        by_node.iter().any(|(node, pods)| singles.may_fit(&paper, *node, pods))
    }
}

impl Asked {
    fn add(&mut self, candidate: Candidate, grace: i64) -> usize {
        self.of_tasks.push(SmallVec::from_elem(0, candidate.tasks.spare.len()));
        self.candidates.push(candidate);
        self.grace.push(grace);
        self.at.push((0, 0));
        self.at.len() - 1
    }

    /// When a candidate's next member has its turn; `None`: it has no more.
    fn turn(&self, place: usize) -> Option<Reverse<(Rank, Next)>> {
        let candidate = &self.candidates[place];
        let (at, gone) = self.at[place];
        let is_left = gone < candidate.spare && at + candidate.kept < candidate.pods.len();
        is_left.then(|| Reverse((candidate.single_rank(gone), Next::Member(place))))
    }

    /// The next member that neither its task group nor its disruption budget keeps.
    fn next(&mut self, place: usize, claimant: QueueIndex) -> Option<Single> {
        let candidate = &self.candidates[place];
        while self.at[place].0 + candidate.kept < candidate.pods.len() {
            let at = self.at[place].0;
            self.at[place].0 += 1;
            let task = candidate.tasks.of.get(at);
            let is_kept = task
                .is_some_and(|task| self.of_tasks[place][*task] >= candidate.tasks.spare[*task]);
            let budget = candidate.budgets.get(at).copied().flatten();
            if !is_kept && budget.is_none_or(|budget| self.allowed[budget as usize] > 0) {
                let is_sheltered = candidate.is_sheltered(claimant);
                let leaf = is_sheltered.then_some(candidate.leaf);
                return Some(Single { place, pod: candidate.pods[at], leaf });
            }
        }
        None
    }

    /// The member that was named last goes.
    fn went(&mut self, place: usize) {
        let candidate = &self.candidates[place];
        let (after, gone) = &mut self.at[place];
        *gone += 1;
        let at = *after - 1;
        if let Some(task) = candidate.tasks.of.get(at) {
            self.of_tasks[place][*task] += 1;
        }
        if let Some(budget) = candidate.budgets.get(at).copied().flatten() {
            self.allowed[budget as usize] -= 1;
        }
    }

    fn into_found(self, taken: &[Single], seats: Vec<Assignment>) -> Found {
        let mut victims: Vec<(usize, Vec<PodIndex>, bool)> = Vec::new();
        for single in taken {
            match victims.iter_mut().find(|(place, ..)| *place == single.place) {
                Some((_, pods, _)) => pods.push(single.pod.pod),
                None => victims.push((single.place, vec![single.pod.pod], false)),
            }
        }
        for (place, pods, whole) in &mut victims {
            *whole = pods.len() == self.candidates[*place].pods.len();
        }
        let plan = RoomPlan { victims, seats };
        Found { plan, candidates: self.candidates, grace: self.grace }
    }
}
