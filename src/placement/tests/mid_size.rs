//! How far from the cheapest victims the search ends in worlds of 9 to 24 nodes, where it does not
//! look at every set. The cheapest are found by branch and bound over plain numbers.

use super::*;
use std::collections::BTreeMap;

const WORLDS: usize = 300;
const LARGE_WORLDS: usize = 100;
const GPUS: i64 = 8;
/// Steps of the branch and bound, after which a world is left out.
const STEPS_MAX: u64 = 3_000_000;

/// Highest priority of a gang ended, gangs ended, pods evicted.
type Cost = (Option<i32>, usize, usize);

/// Nodes with GPUs free, and gangs on them.
struct Plain {
    free: Vec<i64>,
    /// GPUs of a seat
    size: i64,
    needed: i64,
    gangs: Vec<PlainGang>,
    /// by queue below the common ancestor with the claimant, thousandths of GPUs above its share
    excess: BTreeMap<QueueIndex, i128>,
}

struct PlainGang {
    queues: Vec<QueueIndex>,
    priority: i32,
    gpus: i64,
    /// node of each member
    nodes: Vec<usize>,
    spare: usize,
    single: usize,
    whole: bool,
}

struct Branch<'a> {
    plain: &'a Plain,
    free: Vec<i64>,
    ended: Vec<usize>,
    /// single members taken, by gang
    gone: Vec<usize>,
    best: Option<usize>,
    steps: u64,
}

impl Branch<'_> {
    fn slots(&self, node: usize) -> i64 {
        self.free[node] / self.plain.size
    }

    fn total(&self) -> i64 {
        (0..self.free.len()).map(|node| self.slots(node)).sum()
    }

    fn pods(&self) -> usize {
        let ended = self.ended.iter().map(|gang| self.plain.gangs[*gang].nodes.len());
        ended.sum::<usize>() + self.gone.iter().sum::<usize>()
    }

    /// Whether the units can be taken in some order, each while its queues are above their shares:
    /// with the greatest last.
    fn is_admissible(&self) -> bool {
        let mut taken: BTreeMap<QueueIndex, (i64, i64)> = BTreeMap::new();
        let ended = self.ended.iter().map(|at| (*at, self.plain.gangs[*at].nodes.len() as i64, 1));
        let gone = self.gone.iter().enumerate().map(|(at, times)| (at, 1, *times as i64));
        for (at, members, times) in ended.chain(gone.filter(|(_, _, times)| *times > 0)) {
            let gang = &self.plain.gangs[at];
            let unit = gang.gpus * members;
            for queue in &gang.queues {
                let (sum, greatest) = taken.entry(*queue).or_default();
                *sum += unit * times;
                *greatest = unit.max(*greatest);
            }
        }
        taken.iter().all(|(queue, (sum, greatest))| {
            i128::from(sum - greatest) * 1000 < self.plain.excess[queue]
        })
    }

    fn end(&mut self, gang: usize) {
        for node in &self.plain.gangs[gang].nodes {
            self.free[*node] += self.plain.gangs[gang].gpus;
        }
        self.ended.push(gang);
    }

    fn undo(&mut self) {
        let gang = self.ended.pop().expect("it was ended");
        for node in &self.plain.gangs[gang].nodes {
            self.free[*node] -= self.plain.gangs[gang].gpus;
        }
    }

    /// Ends `left` more of the gangs from one on, in every way.
    fn try_gangs(&mut self, open: &[usize], left: usize) -> Option<()> {
        self.steps += 1;
        if self.steps > STEPS_MAX {
            return None;
        }
        if self.best.is_some_and(|best| self.pods() + left >= best) {
            return Some(());
        }
        if left == 0 {
            return self.try_singles();
        }
        if self.most(open) < self.plain.needed {
            return Some(());
        }
        for (at, gang) in open.iter().enumerate() {
            self.end(*gang);
            let result = if self.is_admissible() {
                self.try_gangs(&open[at + 1..], left - 1)
            } else {
                Some(())
            };
            self.undo();
            result?;
        }
        Some(())
    }

    /// Seats with all single members gone and all of these gangs.
    fn most(&self, open: &[usize]) -> i64 {
        let mut free = self.free.clone();
        for (at, gang) in self.plain.gangs.iter().enumerate() {
            let all = if open.contains(&at) { gang.nodes.len() } else { gang.single };
            if !self.ended.contains(&at) && (open.contains(&at) || gang.spare > 0) {
                gang.nodes[..all].iter().for_each(|node| free[*node] += gang.gpus);
            }
        }
        free.iter().map(|free| free / self.plain.size).sum()
    }

    /// Single members by gang that may go on a node.
    fn singles_on(&self, node: usize) -> Vec<(usize, usize)> {
        let gangs = self.plain.gangs.iter().enumerate();
        let left = gangs.filter(|(at, _)| !self.ended.contains(at)).map(|(at, gang)| {
            let here = gang.nodes[..gang.single].iter().filter(|other| **other == node).count();
            (at, here.min(gang.spare))
        });
        left.filter(|(_, most)| *most > 0).collect()
    }

    fn try_singles(&mut self) -> Option<()> {
        let wanted = (self.plain.needed - self.total()).max(0) as usize;
        let nodes = self.free.len();
        let singles: Vec<Vec<(usize, usize)>> = (0..nodes).map(|n| self.singles_on(n)).collect();
        // at least so many go for so many seats on a node and those after it, were they not tied
        let mut least = vec![vec![usize::MAX; wanted + 1]; nodes + 1];
        least[nodes][0] = 0;
        for node in (0..nodes).rev() {
            let mut sizes: Vec<i64> = singles[node]
                .iter()
                .flat_map(|(gang, most)| vec![self.plain.gangs[*gang].gpus; *most])
                .collect();
            sizes.sort_unstable_by_key(|gpus| std::cmp::Reverse(*gpus));
            for seats in 0..=wanted {
                let mut free = self.free[node];
                let mut cost = least[node + 1][seats];
                for (gone, gpus) in sizes.iter().enumerate() {
                    free += gpus;
                    let gained = (free / self.plain.size - self.slots(node)) as usize;
                    let after = least[node + 1][seats.saturating_sub(gained)];
                    cost = cost.min(after.saturating_add(gone + 1));
                }
                least[node][seats] = cost;
            }
        }
        self.choose(0, &singles, &least)
    }

    fn choose(
        &mut self,
        node: usize,
        singles: &[Vec<(usize, usize)>],
        least: &[Vec<usize>],
    ) -> Option<()> {
        self.steps += 1;
        if self.steps > STEPS_MAX {
            return None;
        }
        let wanted = (self.plain.needed - self.total()).max(0) as usize;
        let pods = self.pods();
        let bound = pods.saturating_add(least[node][wanted]);
        if least[node][wanted] == usize::MAX || self.best.is_some_and(|best| bound >= best) {
            return Some(());
        }
        if wanted == 0 {
            self.best = Some(pods);
            return Some(());
        }
        if node == singles.len() {
            return Some(());
        }
        self.choose_on(node, 0, singles, least)
    }

    fn choose_on(
        &mut self,
        node: usize,
        from: usize,
        singles: &[Vec<(usize, usize)>],
        least: &[Vec<usize>],
    ) -> Option<()> {
        let Some((gang, most)) = singles[node].get(from).copied() else {
            return self.choose(node + 1, singles, least);
        };
        let (gpus, spare) = (self.plain.gangs[gang].gpus, self.plain.gangs[gang].spare);
        let before = self.gone[gang];
        let mut result = Some(());
        for more in 0..=most.min(spare - before) {
            self.gone[gang] = before + more;
            self.free[node] += gpus * more as i64;
            let is_admissible = self.is_admissible();
            if is_admissible {
                result = self.choose_on(node, from + 1, singles, least);
            }
            self.free[node] -= gpus * more as i64;
            if !is_admissible || result.is_none() {
                break;
            }
        }
        self.gone[gang] = before;
        result
    }
}

impl Plain {
    fn of(world: &World) -> Self {
        let World { cluster, fair, gpu, nodes, claimant, demand, candidates } = world;
        let gpus = |class: ClassId| cluster.class(class).request(*gpu);
        let free =
            |node: &NodeIndex| cluster.allocatable(*gpu, *node) - cluster.requested(*gpu, *node);
        let mut excess = BTreeMap::new();
        let gangs = candidates.iter().map(|candidate| {
            let ancestor = fair.common_ancestor(candidate.leaf, *claimant);
            let queues: Vec<QueueIndex> =
                fair.path(candidate.leaf).take_while(|queue| *queue != ancestor).collect();
            PlainGang {
                queues,
                priority: candidate.rank.1,
                gpus: gpus(candidate.pods[0].class),
                nodes: candidate
                    .pods
                    .iter()
                    .map(|pod| nodes.iter().position(|node| *node == pod.node).expect("known"))
                    .collect(),
                spare: candidate.spare as usize,
                single: candidate.pods.len() - candidate.kept,
                whole: candidate.whole,
            }
        });
        let gangs: Vec<PlainGang> = gangs.collect();
        for queue in gangs.iter().flat_map(|gang| &gang.queues) {
            excess.insert(*queue, 0);
        }
        Self {
            free: nodes.iter().map(free).collect(),
            size: gpus(demand.class),
            needed: demand.pods.len() as i64,
            gangs,
            excess,
        }
    }

    fn above_shares(world: &mut World) -> Self {
        let mut plain = Self::of(world);
        for (queue, excess) in &mut plain.excess {
            let held = i128::from(world.fair.allocated(*queue, world.gpu)) * 1000;
            *excess = held - world.fair.deserved_milli(*queue, world.gpu);
        }
        plain
    }

    /// The least cost of all sets of units; `Err`: it took too long.
    fn best(&self) -> Result<Option<Cost>, ()> {
        let mut branch = Branch {
            plain: self,
            free: self.free.clone(),
            ended: Vec::new(),
            gone: vec![0; self.gangs.len()],
            best: None,
            steps: 0,
        };
        branch.try_gangs(&[], 0).ok_or(())?;
        if let Some(pods) = branch.best {
            return Ok(Some((None, 0, pods)));
        }
        let mut found: Option<Cost> = None;
        for level in 0..2 {
            let open: Vec<usize> = (0..self.gangs.len())
                .filter(|at| self.gangs[*at].whole && self.gangs[*at].priority <= level)
                .filter(|at| self.gangs[*at].queues.iter().all(|q| self.excess[q] > 0))
                .collect();
            for ended in 1..=open.len() {
                branch.try_gangs(&open, ended).ok_or(())?;
                if let Some(pods) = branch.best {
                    found = Some((Some(level), ended, pods));
                    break;
                }
            }
            if found.is_some() {
                break;
            }
        }
        Ok(found)
    }
}

/// Gangs on the nodes until hardly any fits.
fn filled(
    dice: &mut Dice,
    cluster: &mut Cluster,
    fair: &mut FairShare,
    nodes: &[NodeIndex],
    leaves: [QueueIndex; 4],
) -> Vec<Candidate> {
    let is_packed = dice.below(2) == 0;
    let mut candidates = Vec::new();
    let mut next = 0;
    let mut failed = 0;
    while failed < 4 {
        let shape = class(cluster, 1, [1, 1, 2, 4, 8][dice.below(5)]);
        let leaf = leaves[1 + dice.below(3)];
        let mut pods = Vec::new();
        for _ in 0..1 + dice.below(6) {
            let room = nodes.iter().filter(|node| free(cluster, **node, shape) > 0);
            let room: Vec<NodeIndex> = room.copied().collect();
            if room.is_empty() {
                break;
            }
            let node = room[if is_packed { 0 } else { dice.below(room.len()) }];
            cluster.place(shape, node);
            fair.charge(leaf, &cluster.class(shape).requests.clone(), 1);
            pods.push(Assignment { pod: PodIndex(next), class: shape, node });
            next += 1;
        }
        if pods.is_empty() {
            failed += 1;
            continue;
        }
        let spare = if dice.below(2) == 0 { 0 } else { dice.below(pods.len()) as u32 };
        let rank = (0, dice.below(2) as i32, 0, 0, 0, next as u64);
        candidates.push(Candidate {
            leaf,
            given: false,
            leaving: false,
            budgets: Vec::new(),
            spare,
            whole: spare == 0 || dice.below(4) > 0,
            pods,
            kept: 0,
            tasks: TaskSpares::default(),
            rank,
            growth: Growth::default(),
        });
    }
    candidates
}

/// Gangs fill nearly all of a cluster, packed or scattered.
fn mid_size(dice: &mut Dice, least: usize) -> World {
    let mut cluster = Cluster::default();
    let mut nodes = Vec::new();
    for index in 0..least + dice.below(16) {
        let allocatable = vec![("cpu".into(), 1_000), (GPU.into(), GPUS), ("pods".into(), 99)];
        let node = Node { name: format!("n{index}").into(), allocatable, ..Node::default() };
        let _ = cluster.apply_node(node);
        nodes.push(cluster.find_node(&format!("n{index}")).expect("it was applied"));
    }
    let gpu = cluster.resources().find(GPU).expect("nodes offer it");
    let mut fair = FairShare::default();
    let specs =
        [("team", None), ("a", None), ("b", Some("team")), ("c", Some("team")), ("d", None)];
    let specs = specs.map(|(name, parent): (&str, Option<&str>)| QueueSpec {
        name: name.into(),
        parent: parent.map(Into::into),
        weight: 1 + dice.below(4) as u32,
        ..QueueSpec::default()
    });
    fair.replace(&specs).expect("a good tree");
    fair.bind_resources(cluster.resources());
    fair.set_capacity(gpu, nodes.len() as i64 * GPUS);
    let leaves = ["a", "b", "c", "d"].map(|name| {
        let queue = fair.find(name).expect("declared");
        fair.acquire_leaf(queue, "user")
    });
    let candidates = filled(dice, &mut cluster, &mut fair, &nodes, leaves);
    let wanted = class(&mut cluster, 1, [1, 2, 4, 8][dice.below(4)]);
    let pods: SmallVec<[PodIndex; 4]> =
        (0..1 + dice.below(6)).map(|at| PodIndex(1_000 + at as u32)).collect();
    let requests = cluster.class(wanted).requests.clone();
    pods.iter().for_each(|_| fair.pend(leaves[0], &requests, 1));
    let demand = Demand { class: wanted, headers: 0, pods };
    World { cluster, fair, gpu, nodes, claimant: leaves[0], demand, candidates }
}

fn claim_of(leaf: QueueIndex, demands: &[Demand], needed: u32) -> Claim<'_> {
    Claim {
        leaf,
        demands,
        needed,
        extra: &[],
        going: &[],
        allowed: &[],
        narrowed: NarrowedClaim::default(),
        domains: None,
        cut: None,
    }
}

#[test]
fn the_victims_are_nearly_the_best_in_worlds_of_middle_size() {
    let mut dice = Dice(0x5eed_0009);
    let profile = default_profile("mss-scheduler");
    let (mut same, mut dearer, mut left_out, mut none, mut missed) = (0, 0, 0, 0, 0);
    let mut sums = [(0, 0); 2];
    let mut by_more: BTreeMap<i64, u32> = BTreeMap::new();
    for number in 0..WORLDS {
        let mut world = mid_size(&mut dice, 9);
        let plain = Plain::above_shares(&mut world);
        let best = plain.best();
        let needed = world.demand.pods.len() as u32;
        let demands = [world.demand.clone()];
        let leaf = world.claimant;
        let claim = claim_of(leaf, &demands, needed);
        let World { cluster, fair, candidates, .. } = &mut world;
        let mut rankings = Rankings::default();
        let answer = make_room(cluster, &mut rankings, fair, &profile, &claim, candidates);
        let cost = match &answer {
            RoomAnswer::Placed(plan) => {
                let ended = plan.victims.iter().filter(|(_, _, whole)| *whole);
                let priority = ended.clone().map(|(place, _, _)| candidates[*place].rank.1).max();
                let pods = plan.victims.iter().map(|(_, pods, _)| pods.len()).sum();
                Some((priority, ended.count(), pods))
            }
            RoomAnswer::No | RoomAnswer::NotFound => None,
        };
        let Ok(best) = best else {
            left_out += 1;
            continue;
        };
        if matches!(answer, RoomAnswer::No) {
            assert_eq!(best, None, "world {number}: \"no\" is proved");
        }
        let (Some(best), Some(cost)) = (best, cost) else {
            assert!(cost.is_none(), "world {number}: {cost:?} where there is nothing");
            none += u32::from(best.is_none());
            missed += u32::from(best.is_some());
            continue;
        };
        assert!(cost >= best, "world {number}: {cost:?} is less than the least, {best:?}");
        if cost == best {
            same += 1;
        } else {
            dearer += 1;
            println!("world {number}: {} nodes, {cost:?}, best {best:?}", plain.free.len());
        }
        *by_more.entry(cost.2 as i64 - best.2 as i64).or_default() += 1;
        sums[0] = (sums[0].0 + cost.1, sums[0].1 + best.1);
        sums[1] = (sums[1].0 + cost.2, sums[1].1 + best.2);
    }
    println!(
        "{same} the best, {dearer} dearer, {missed} missed, {none} without any, {left_out} left \
         out; gangs ended and least, pods evicted and least: {sums:?}; pods more: {by_more:?}"
    );
    let [gangs, pods] = sums;
    assert!(same + dearer > WORLDS / 2, "too few were compared");
    assert!(pods.0 * 100 <= pods.1 * 105 && gangs.0 * 100 <= gangs.1 * 105, "{sums:?}");
    assert_eq!(missed, 0);
}

#[test]
fn no_plan_is_missed_in_worlds_of_more_than_24_nodes() {
    let mut dice = Dice(0x5eed_000a);
    let profile = default_profile("mss-scheduler");
    let (mut placed, mut proved, mut unproved, mut left_out) = (0, 0, 0, 0);
    for number in 0..LARGE_WORLDS {
        let mut world = mid_size(&mut dice, 25);
        let best = Plain::above_shares(&mut world).best();
        let needed = world.demand.pods.len() as u32;
        let demands = [world.demand.clone()];
        let claim = claim_of(world.claimant, &demands, needed);
        let World { cluster, fair, candidates, .. } = &mut world;
        let mut rankings = Rankings::default();
        let answer = make_room(cluster, &mut rankings, fair, &profile, &claim, candidates);
        let Ok(best) = best else {
            left_out += 1;
            continue;
        };
        match answer {
            RoomAnswer::Placed(_) => {
                assert!(best.is_some(), "world {number}: a plan where there is none");
                placed += 1;
            }
            RoomAnswer::No => {
                assert_eq!(best, None, "world {number}: \"no\" is proved");
                proved += 1;
            }
            RoomAnswer::NotFound => {
                assert_eq!(best, None, "world {number}: a plan is missed");
                unproved += 1;
            }
        }
    }
    println!("{placed} placed, {proved} proved, {unproved} unproved, {left_out} left out");
    assert!(placed > 60 && proved > 8, "{placed} placed, {proved} proved");
    assert!(unproved * 100 <= LARGE_WORLDS, "{unproved} of them end without a proof");
}
