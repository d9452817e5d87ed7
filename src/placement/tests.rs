//! The search for victims against all sets of victims, in small worlds.

use super::*;
use crate::cluster::{Assignment, ClassId, Cluster, NodeIndex, PodIndex, ResourceId};
use crate::fairshare::{FairShare, QueueIndex};
use crate::model::{Growth, Node, PodClass, QueueSpec};
use crate::plugins::default_profile;
use smallvec::SmallVec;

mod beyond;
mod cut;
mod mid_size;

const GPU: &str = "nvidia.com/gpu";

struct Dice(u64);

impl Dice {
    /// 0 up to, not including, `end`.
    fn below(&mut self, end: usize) -> usize {
        self.0 ^= self.0 << 13;
        self.0 ^= self.0 >> 7;
        self.0 ^= self.0 << 17;
        (self.0 % end as u64) as usize
    }
}

/// Highest priority of a gang ended, gangs ended, pods evicted, highest rank.
type Price = (Option<i32>, usize, usize, Option<Rank>);

struct World {
    cluster: Cluster,
    fair: FairShare,
    gpu: ResourceId,
    nodes: Vec<NodeIndex>,
    claimant: QueueIndex,
    demand: Demand,
    candidates: Vec<Candidate>,
}

fn class(cluster: &mut Cluster, cpu: usize, gpus: usize) -> ClassId {
    let requests = vec![("cpu".into(), cpu as i64), (GPU.into(), gpus as i64)];
    cluster.acquire_class(PodClass { requests, ..PodClass::default() })
}

fn free(cluster: &Cluster, node: NodeIndex, class: ClassId) -> u32 {
    cluster.room_for(cluster.class(class), node, 99)
}

/// A few gangs of one shape each, on nodes at random.
fn gangs(
    dice: &mut Dice,
    cluster: &mut Cluster,
    fair: &mut FairShare,
    nodes: &[NodeIndex],
    leaves: [QueueIndex; 3],
) -> Vec<Candidate> {
    let mut candidates = Vec::new();
    let mut next = 0;
    for gang in 0..2 + dice.below(4) {
        let shape = class(cluster, 1 + dice.below(2), 1 + dice.below(2));
        let given = dice.below(4) == 0;
        let leaf = if given { leaves[0] } else { leaves[1 + dice.below(2)] };
        let mut pods = Vec::new();
        for _ in 0..1 + dice.below(4) {
            let room = nodes.iter().filter(|node| free(cluster, **node, shape) > 0);
            let room: Vec<NodeIndex> = room.copied().collect();
            if room.is_empty() {
                break;
            }
            let node = room[dice.below(room.len())];
            cluster.place(shape, node);
            fair.charge(leaf, &cluster.class(shape).requests.clone(), 1);
            pods.push(Assignment { pod: PodIndex(next), class: shape, node });
            next += 1;
        }
        if pods.is_empty() {
            continue;
        }
        let spare = dice.below(pods.len()) as u32;
        let kept = dice.below(2).min(pods.len() - spare as usize);
        let rank = (0, dice.below(3) as i32, 0, 0, 0, gang as u64);
        let whole = spare == 0 || dice.below(3) > 0;
        let leaving = false;
        let (budgets, tasks) = (Vec::new(), TaskSpares::default());
        candidates.push(Candidate {
            leaf,
            given,
            leaving,
            budgets,
            spare,
            whole,
            pods,
            kept,
            tasks,
            rank,
            growth: Growth::default(),
        });
    }
    candidates
}

impl World {
    fn random(dice: &mut Dice) -> Self {
        let mut cluster = Cluster::default();
        let mut nodes = Vec::new();
        let count = 1 + dice.below(4);
        for index in 0..count {
            let gpus = 2 + dice.below(5) as i64;
            let allocatable = vec![
                ("cpu".into(), 4 + dice.below(6) as i64),
                (GPU.into(), gpus),
                ("pods".into(), 99),
            ];
            let node = Node { name: format!("n{index}").into(), allocatable, ..Node::default() };
            let _ = cluster.apply_node(node);
            nodes.push(cluster.find_node(&format!("n{index}")).expect("it was applied"));
        }
        let gpu = cluster.resources().find(GPU).expect("nodes offer it");
        let queue = |name: &str, parent: Option<&str>, weight: usize| QueueSpec {
            name: name.into(),
            parent: parent.map(Into::into),
            weight: weight as u32,
            ..QueueSpec::default()
        };
        let mut fair = FairShare::default();
        let above = [None, Some("team")][dice.below(2)];
        let mut specs = vec![queue("team", None, 1 + dice.below(3))];
        specs.extend(
            ["a", "b", "c"]
                .map(|name| queue(name, above.filter(|_| name != "a"), 1 + dice.below(3))),
        );
        fair.replace(&specs).expect("a good tree");
        fair.bind_resources(cluster.resources());
        let offered = nodes.iter().map(|node| cluster.allocatable(gpu, *node)).sum();
        fair.set_capacity(gpu, offered);
        let leaves = ["a", "b", "c"].map(|name| {
            let queue = fair.find(name).expect("declared");
            fair.acquire_leaf(queue, "user")
        });
        let candidates = gangs(dice, &mut cluster, &mut fair, &nodes, leaves);
        let wanted = class(&mut cluster, 1 + dice.below(3), 1 + dice.below(4));
        let pods: SmallVec<[PodIndex; 4]> =
            (0..1 + dice.below(4)).map(|at| PodIndex(1000 + at as u32)).collect();
        let requests = cluster.class(wanted).requests.clone();
        pods.iter().for_each(|_| fair.pend(leaves[0], &requests, 1));
        let demand = Demand { class: wanted, headers: 0, pods };
        Self { cluster, fair, gpu, nodes, claimant: leaves[0], demand, candidates }
    }

    /// Whether the units may be taken in some order, and whether the claim fits then.
    fn seats(&mut self, units: &[Vec<(usize, usize)>]) -> bool {
        let pods: Vec<(usize, usize)> = units.iter().flatten().copied().collect();
        let at = |world: &Self, (place, at): (usize, usize)| world.candidates[place].pods[at];
        for pod in &pods {
            let pod = at(self, *pod);
            self.cluster.unplace(pod.class, pod.node);
        }
        let slots: u32 =
            self.nodes.iter().map(|node| free(&self.cluster, *node, self.demand.class)).sum();
        for pod in &pods {
            let pod = at(self, *pod);
            self.cluster.place(pod.class, pod.node);
        }
        slots as usize >= self.demand.pods.len() && self.some_order(units, 0)
    }

    /// `gone`: a bit for each unit that is taken already.
    fn some_order(&mut self, units: &[Vec<(usize, usize)>], gone: u32) -> bool {
        if gone.count_ones() as usize == units.len() {
            return true;
        }
        let left: Vec<usize> = (0..units.len()).filter(|unit| gone & (1 << unit) == 0).collect();
        left.into_iter().any(|unit| {
            self.is_takeable(units, gone, unit) && self.some_order(units, gone | 1 << unit)
        })
    }

    fn is_takeable(&mut self, units: &[Vec<(usize, usize)>], gone: u32, unit: usize) -> bool {
        let (place, _) = units[unit][0];
        if self.candidates[place].given {
            return true;
        }
        let leaf = self.candidates[place].leaf;
        let ancestor = self.fair.common_ancestor(leaf, self.claimant);
        let path: Vec<QueueIndex> = self.fair.path(leaf).take_while(|q| *q != ancestor).collect();
        path.into_iter().all(|queue| {
            let mut held = i128::from(self.fair.allocated(queue, self.gpu));
            for (other, pods) in units.iter().enumerate().filter(|(u, _)| gone & (1 << u) > 0) {
                debug_assert_ne!(other, unit);
                for (place, at) in pods {
                    let candidate = &self.candidates[*place];
                    if self.fair.path(candidate.leaf).any(|above| above == queue) {
                        let class = self.cluster.class(candidate.pods[*at].class);
                        held -= i128::from(class.request(self.gpu));
                    }
                }
            }
            held * 1000 > self.fair.deserved_milli(queue, self.gpu)
        })
    }

    /// The least price over all sets of units.
    fn best(&mut self) -> Option<Price> {
        let mut best = None;
        let mut units = Vec::new();
        self.try_all(0, &mut units, &mut best);
        best
    }

    fn try_all(
        &mut self,
        place: usize,
        units: &mut Vec<Vec<(usize, usize)>>,
        best: &mut Option<Price>,
    ) {
        let Some(candidate) = self.candidates.get(place).cloned() else {
            let is_gang =
                |unit: &&Vec<(usize, usize)>| unit.len() == self.candidates[unit[0].0].pods.len();
            let gangs = units.iter().filter(is_gang).count();
            let ended = units.iter().filter(is_gang).map(|unit| self.candidates[unit[0].0].rank.1);
            let priority = ended.max();
            let pods = units.iter().map(Vec::len).sum();
            let rank =
                |unit: &Vec<(usize, usize)>| rank_of(&self.candidates[unit[0].0], is_gang(&unit));
            let rank = units.iter().map(rank).max();
            let price = (priority, gangs, pods, rank);
            if best.as_ref().is_none_or(|best| price < *best) && self.seats(units) {
                *best = Some(price);
            }
            return;
        };
        for choice in choices(place, &candidate) {
            let length = units.len();
            units.extend(choice);
            self.try_all(place + 1, units, best);
            units.truncate(length);
        }
    }
}

/// All sets of units of one gang: of its single members, and the whole of it.
fn choices(place: usize, candidate: &Candidate) -> Vec<Vec<Vec<(usize, usize)>>> {
    let single = candidate.pods.len() - candidate.kept;
    let sets = (0u32..1 << single).filter(|set| set.count_ones() <= candidate.spare);
    let units = sets.map(|set| {
        let chosen = (0..single).filter(|at| set & (1 << at) > 0);
        chosen.map(|at| vec![(place, at)]).collect()
    });
    let whole = (0..candidate.pods.len()).map(|at| (place, at)).collect();
    units.chain(candidate.whole.then(|| vec![whole])).collect()
}

/// Of single members only the priorities count.
fn rank_of(candidate: &Candidate, whole: bool) -> Rank {
    let (queue, pod, ..) = candidate.rank;
    if whole { candidate.rank } else { (queue, pod, 0, i64::MIN, i64::MIN, 0) }
}

#[test]
fn the_victims_are_the_best_of_all_sets_in_small_worlds() {
    let mut dice = Dice(0x5eed_0004);
    let profile = default_profile("mss-scheduler");
    let mut seen = [0; 3];
    for number in 0..3_000 {
        let mut world = World::random(&mut dice);
        let best = world.best();
        let needed = world.demand.pods.len() as u32;
        let demands = [world.demand.clone()];
        // asking for nothing in all, it is entitled everywhere
        let leaf = world.claimant;
        let (extra, going, allowed) = (&[][..], &[][..], &[][..]);
        let claim = Claim {
            leaf,
            demands: &demands,
            needed,
            extra,
            going,
            allowed,
            domains: None,
            cut: None,
            narrowed: NarrowedClaim::default(),
        };
        let World { cluster, fair, candidates, .. } = &mut world;
        let mut rankings = Rankings::default();
        let answer = make_room(cluster, &mut rankings, fair, &profile, &claim, candidates);
        match answer {
            RoomAnswer::Placed(plan) => {
                let ended = plan.victims.iter().filter(|(_, _, whole)| *whole);
                let priorities = ended.clone().map(|(place, _, _)| candidates[*place].rank.1);
                let (priority, gangs) = (priorities.max(), ended.count());
                let pods = plan.victims.iter().map(|(_, pods, _)| pods.len()).sum();
                let victims = plan.victims.iter();
                let rank = victims.map(|(place, _, whole)| rank_of(&candidates[*place], *whole));
                let rank = rank.max();
                let price = (priority, gangs, pods, rank);
                assert_eq!(Some(price), best, "world {number}: {candidates:?}");
                seen[usize::from(pods > 0) + usize::from(gangs > 0)] += 1;
            }
            RoomAnswer::No => assert_eq!(None, best, "world {number}: {candidates:?}"),
            RoomAnswer::NotFound => panic!("world {number} is small enough"),
        }
    }
    assert!(seen.iter().all(|times| *times > 200), "too few of a kind: {seen:?}");
}
