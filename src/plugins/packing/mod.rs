//! Packing: where a pod costs least of what the pods to come could pay for the GPUs.
//!
//! Sizes of fractions have prices, and what is left of a device has a worth under them; a whole GPU
//! costs as much as it is worth: see [`prices`]. The cost of placing a pod, in thousandths of a
//! GPU, is
//!
//! ```text
//!   V(before) - V(after)
//! + R(before) - R(after)
//! + LOSS (W(before) - W(after) - the pod's price)
//! + FILLING[stage] (O(after) - O(before))
//! + LEFT (what is left of the device), for a fraction
//! ```
//!
//! V is what the node is expected to earn yet, with its cores, its memory and finite streams of
//! pods: see [`stranding`]. R is what its whole blocks of 2, 4 and 8 free GPUs are kept for: see
//! [`blocks`]. W is the worth of all its devices, O that of those in part: without end, a pod that
//! leaves a gap costs what the gap is worth less. When few whole free GPUs are left, gaps are
//! filled sooner: the stage is that of [`Cluster::stage`].
//!
//! Nodes that are [`alike`] are worked out once. Of one only the rank is its own, by which nodes
//! are opened one after the other.
//!
//! What comes is learnt from arrivals. One set of parameters serves every workload; they were tuned
//! on seeds from 142 up of the FGD protocol, which no published figure uses.

mod alike;
mod blocks;
mod prices;
mod stranding;

use super::gpu_packing::GpuPacking;
use super::spec::{device_at, free_cpu, model_of, try_devices};
use crate::cluster::{CPU, Class, Cluster, DeviceAsk, Expected, Learnt, Left, MEMORY};
use crate::cluster::{NodeIndex, Shape};
use crate::framework::{Plugin, Reads, SCORE_MAX, SCORE_PARTS, Score, Scored, Term, Terms};
use crate::model::gpu_part::DEVICE;
use crate::model::{DeviceSet, GpuPart};
use alike::Alike;
use blocks::{Blocks, BySize, Gpus};
use prices::{PRICE, Prices};
use std::cell::{RefCell, RefMut};
use std::collections::BTreeMap;
use stranding::{Room, Stranding};

/// What worth that is lost for good counts, on top of what the streams see of it.
const LOSS: i64 = 8;
/// What worth of devices in part counts, in tenths, by stage: above none, gaps are filled sooner.
const FILLING: [i64; 3] = [0, 3, 10];
/// Price of what is left of the device that a fraction takes.
const LEFT: f64 = 0.01;
/// Costs are in thousandths of a GPU; hardly any is above this, nor below it by more than
/// [`SCORE_MAX`] can tell apart.
const COST_MAX: f64 = 24_600.0;
/// Levels of the score per thousandth of a GPU.
const LEVELS: f64 = 4.0;
/// What a point of [`GpuPacking`] counts where it is asked instead.
const OTHER: f64 = 25.0;
/// What such a node costs less when its cores and memory are full.
const FULL: f64 = 500.0;
/// Costs and values that are remembered: of so many hashes of questions the last of each.
const KNOWN_MAX: usize = 512;

/// The plugin. A score is asked by reference; what is behind it is only a memo.
#[derive(Debug, Default)]
pub(super) struct Packing(RefCell<Option<State>>);

/// What is worked out once per time of learning, and memos of pure values.
#[derive(Debug)]
struct State {
    epoch: u32,
    prices: Prices,
    stranding: Stranding,
    blocks: Blocks,
    /// by node slot
    nodes: Vec<Facts>,
    alike: Alike,
    /// values of nodes by their number, and whether their devices are shared ones
    values: Vec<Option<((u32, bool), Valued)>>,
    costs: Vec<Option<(Question, Costs)>>,
}

#[derive(Clone, Copy, Debug)]
struct Facts {
    /// a bit per model that learnt shapes name
    model: u16,
    /// what a GPU of a whole block costs here
    prices: BySize,
}

/// What costs depend on, but for the rank of a node.
#[derive(Clone, Copy, Debug, PartialEq)]
struct Question {
    /// the number of the node: see [`alike`]
    number: u32,
    asked: Asked,
}

/// What a class asks for.
#[derive(Clone, Copy, Debug, PartialEq)]
struct Asked {
    room: Room,
    gpus: i64,
    part: Option<GpuPart>,
    stage: u8,
    /// GPUs under another name
    is_other: bool,
}

/// Values of a node, whatever its rank.
#[derive(Clone, Copy, Debug)]
struct Valued {
    /// what it is expected to earn, in thousandths of a GPU
    earned: f64,
    /// whole blocks that are of use
    blocks: BySize,
    /// what all its devices are worth, and those in part
    worth: [i64; 2],
}

/// A pod on a node, with a device for a fraction.
#[derive(Clone, Copy, Debug)]
struct After {
    device: Option<usize>,
    earned: f64,
    blocks: BySize,
    /// what is lost or opened, and what is left of the device, in thousandths of a GPU
    worth: f64,
    rest: f64,
}

/// The least costs of a pod on a node: without breaking a whole device for a fraction, and with.
/// Between these two the rank decides.
#[derive(Clone, Copy, Debug)]
struct Costs {
    earned: f64,
    blocks: BySize,
    after: [Option<After>; 2],
}

impl Facts {
    fn new(blocks: &Blocks, rank: f64, model: u16) -> Self {
        Self { model, prices: blocks.prices(rank) }
    }

    /// Of a node that came since.
    fn unknown(blocks: &Blocks, cluster: &Cluster, node: NodeIndex) -> Self {
        let tie = f64::from(cluster.node(node).tie);
        Self::new(blocks, tie / (f64::from(u32::MAX) + 1.0), 0)
    }
}

impl Asked {
    /// `terms` are those of [`GpuPacking`].
    fn new(cluster: &Cluster, class: &Class, terms: &[Term]) -> Self {
        let is_other = |term: &Term| term.asked > 0 && Some(term.resource) != cluster.gpu();
        Self {
            room: Room { cpu: class.request(CPU), memory: class.request(MEMORY) },
            gpus: cluster.gpu().map_or(0, |gpu| class.request(gpu)),
            part: class.spec.gpu_part,
            stage: cluster.stage(),
            is_other: terms.iter().any(is_other),
        }
    }
}

impl Question {
    fn slot(&self) -> usize {
        let Self { number, asked: Asked { room, gpus, part, stage, .. } } = self;
        let part = part.map_or(0, |part| part.request().1.cast_unsigned());
        let words = [room.cpu.cast_unsigned(), room.memory.cast_unsigned(), part];
        let rest = (gpus.cast_unsigned() << 2 | u64::from(*stage)).rotate_left(16);
        slot(words.into_iter().fold(u64::from(*number) ^ rest, mixed))
    }
}

fn mixed(sum: u64, word: u64) -> u64 {
    (sum.rotate_left(5) ^ word).wrapping_mul(0x9e37_79b9_7f4a_7c15)
}

fn slot(hash: u64) -> usize {
    usize::try_from(hash >> 48).expect("16 bits") % KNOWN_MAX
}

impl Costs {
    /// The least cost on a node, and for a fraction the device that has it, by its place.
    fn least(&self, facts: &Facts) -> (f64, Option<usize>) {
        let before = self.earned + blocks::worth(&facts.prices, &self.blocks);
        let mut least = (f64::INFINITY, None);
        for after in self.after.iter().flatten() {
            let value = after.earned + blocks::worth(&facts.prices, &after.blocks);
            let cost = before - value + after.worth + after.rest;
            if cost < least.0 || cost == least.0 && after.device < least.1 {
                least = (cost, after.device);
            }
        }
        least
    }
}

impl Plugin for Packing {
    fn name(&self) -> &'static str {
        "Packing"
    }
}

/// The fractions of one GPU among shapes: how many came of each size.
fn fractions(shapes: &[Expected]) -> Vec<(u16, u64)> {
    let mut counts: BTreeMap<u16, u64> = BTreeMap::new();
    for known in shapes.iter().filter(|known| known.shape.gpus == 1) {
        *counts.entry(known.shape.milli).or_default() += known.count;
    }
    counts.into_iter().collect()
}

/// Until something is known: half a GPU, and a whole one with 8 cores.
fn prior() -> Vec<Expected> {
    let shape = |cpu, milli| Shape { cpu, milli, gpus: 1, models: Vec::new() };
    [shape(8000, 1000), shape(4000, 500)]
        .map(|shape| Expected { shape, memory: 0, count: 1, part: 0.5 })
        .into()
}

impl State {
    fn new(cluster: &Cluster, learnt: &Learnt) -> Self {
        let prior = prior();
        let shapes = if learnt.shapes.is_empty() { &prior } else { &learnt.shapes };
        let mut models: Vec<&str> =
            shapes.iter().flat_map(|known| &known.shape.models).map(|model| &**model).collect();
        models.sort_unstable();
        models.dedup();
        models.truncate(16);
        let bit = |model: &str| models.binary_search(&model).map_or(0, |place| 1u16 << place);
        let mut kinds: BTreeMap<(i64, &str), Vec<(&str, NodeIndex)>> = BTreeMap::new();
        let mut all = Gpus::default();
        for (node, entry) in cluster.live_nodes() {
            let gpus = cluster.gpu().map_or(0, |gpu| cluster.allocatable(gpu, node));
            kinds.entry((gpus, model_of(cluster, node))).or_default().push((&entry.name, node));
            all.add(gpus);
        }
        let blocks = Blocks::new(shapes, learnt, all);
        let slots = (0..cluster.node_slots()).map(NodeIndex::at);
        let mut nodes: Vec<Facts> =
            slots.map(|node| Facts::unknown(&blocks, cluster, node)).collect();
        for ((_, model), of_kind) in &mut kinds {
            of_kind.sort_unstable_by_key(|(name, node)| (cluster.node(*node).tie, *name));
            for (place, (_, node)) in of_kind.iter().enumerate() {
                let rank = ((place as f64 + 0.5) * 0.618_033_988_749_895).fract();
                nodes[node.index()] = Facts::new(&blocks, rank, bit(model));
            }
        }
        let prices = Prices::new(fractions(shapes));
        let stranding = Stranding::new(shapes, &prices, bit);
        let alike = Alike::default();
        let (values, costs) = (vec![None; KNOWN_MAX], vec![None; KNOWN_MAX]);
        Self { epoch: learnt.epoch, prices, stranding, blocks, nodes, alike, values, costs }
    }

    fn valued(&mut self, model: u16, room: Room, left: &[u16]) -> Valued {
        let worth = |left: &u16| i64::from(self.prices.worth(*left));
        let in_part = left.iter().filter(|left| **left < DEVICE).map(worth).sum();
        let worth = [left.iter().map(worth).sum(), in_part];
        let earned = self.stranding.value(&self.prices, room, model, left);
        Valued { earned, blocks: self.blocks.usable(room, left), worth }
    }

    /// What a node is worth before a pod comes.
    fn before(&mut self, key: (u32, bool), model: u16, room: Room, left: &[u16]) -> Valued {
        let slot = slot(mixed(u64::from(key.1), u64::from(key.0)));
        if let Some((known, valued)) = &self.values[slot]
            && *known == key
        {
            return *valued;
        }
        let valued = self.valued(model, room, left);
        self.values[slot] = Some((key, valued));
        valued
    }

    fn costs(
        &mut self,
        (before, model): (Valued, u16),
        stage: u8,
        room: Room,
        mut left: Left,
        ask: Option<DeviceAsk>,
    ) -> Costs {
        let price = ask.map_or(0, |ask| i64::from(self.prices.of(ask.milli, ask.count)));
        let filling = FILLING[usize::from(stage)];
        let [all_before, part_before] = before.worth;
        let mut least = [(f64::INFINITY, None); 2];
        try_devices(&mut left, ask, |left, device| {
            let Valued { earned, blocks, worth: [all, in_part] } = self.valued(model, room, left);
            let lost = LOSS * (all_before - all - price);
            let opened = filling * (in_part - part_before);
            let worth = (10 * lost + opened) as f64 * f64::from(DEVICE) / f64::from(10 * PRICE);
            let rest = LEFT * device.map_or(0.0, |device| f64::from(left[device]));
            let breaks = device.zip(ask).is_some_and(|(d, ask)| left[d] + ask.milli == DEVICE);
            let least = &mut least[usize::from(breaks)];
            let cost = worth + rest - earned;
            if cost < least.0 {
                *least = (cost, Some(After { device, earned, blocks, worth, rest }));
            }
        });
        Costs { earned: before.earned, blocks: before.blocks, after: least.map(|(_, after)| after) }
    }

    fn facts(&self, cluster: &Cluster, node: NodeIndex) -> Facts {
        let known = self.nodes.get(node.index()).copied();
        known.unwrap_or_else(|| Facts::unknown(&self.blocks, cluster, node))
    }

    /// Follows what changed on nodes.
    fn follow(&mut self, cluster: &Cluster) {
        let nodes = &self.nodes;
        let model = |node: NodeIndex| nodes.get(node.index()).map_or(0, |facts| facts.model);
        if self.alike.follow(cluster, model) {
            self.values.fill(None);
            self.costs.fill(None);
        }
    }

    /// The least costs of a pod; `None`: they are a matter of other devices, of none, or of whole
    /// ones for pods of which nothing is known. It has to [`State::follow`] the cluster.
    fn asked(
        &mut self,
        cluster: &Cluster,
        class: &Class,
        node: NodeIndex,
        asked: &Asked,
    ) -> Option<Costs> {
        let question = Question { number: self.alike.number(node), asked: *asked };
        let slot = question.slot();
        if let Some((known, costs)) = &self.costs[slot]
            && *known == question
        {
            return Some(*costs);
        }
        let left = cluster.devices_left(class, node);
        let is_new = self.epoch == 0 && cluster.shared_devices(node).is_none();
        if left.is_empty() || asked.is_other || is_new {
            return None;
        }
        let memory = cluster.allocatable(MEMORY, node) - cluster.requested(MEMORY, node);
        let room = Room { cpu: free_cpu(cluster, node), memory };
        let ask = cluster.device_ask(class, node);
        let is_shared = asked.gpus == 0;
        let model = self.facts(cluster, node).model;
        let before = self.before((question.number, is_shared), model, room, &left);
        let after = room.without(asked.room);
        let costs = self.costs((before, model), asked.stage, after, left, ask);
        self.costs[slot] = Some((question, costs));
        Some(costs)
    }
}

impl Packing {
    /// What is known, up to date.
    fn state(&self, cluster: &Cluster) -> RefMut<'_, State> {
        let learnt = cluster.learnt();
        let mut known = self.0.borrow_mut();
        if known.as_ref().is_none_or(|state| state.epoch != learnt.epoch) {
            *known = Some(State::new(cluster, learnt));
        }
        let mut state = RefMut::map(known, |known| known.as_mut().expect("it was made"));
        state.follow(cluster);
        state
    }
}

/// What a node costs where nothing is expected of its devices, in thousandths of a GPU: GPUs of
/// other names are packed by node, as all are until something is learnt; nodes without any are for
/// pods that ask for none, and fill one after the other.
fn elsewhere(cluster: &Cluster, class: &Class, node: NodeIndex, terms: &[Term]) -> f64 {
    let packed = GpuPacking.score(cluster, class, node, terms);
    let share = |resource| {
        let all = cluster.allocatable(resource, node).max(1);
        let used = cluster.scored(resource, node) + class.asked(resource);
        used.clamp(0, all) as f64 / all as f64
    };
    OTHER * (SCORE_MAX - packed) as f64 - FULL * (share(CPU) + share(MEMORY)) / 2.0
}

#[allow(clippy::cast_possible_truncation)] // clamped
fn score(cost: f64) -> i64 {
    (((COST_MAX - cost) * LEVELS) as i64).clamp(0, SCORE_MAX * SCORE_PARTS)
}

impl Score for Packing {
    fn reads(&self) -> Reads {
        Reads::Usage
    }

    fn learns(&self) -> bool {
        true
    }

    fn is_fine(&self) -> bool {
        true
    }

    fn score(&self, cluster: &Cluster, class: &Class, node: NodeIndex, terms: &[Term]) -> i64 {
        self.fine_score(cluster, class, node, terms) / SCORE_PARTS
    }

    /// Those of [`GpuPacking`].
    fn terms(&self, cluster: &Cluster, class: &Class) -> Terms {
        GpuPacking.terms(cluster, class)
    }

    fn fine_score(&self, cluster: &Cluster, class: &Class, node: NodeIndex, terms: &[Term]) -> i64 {
        let mut sum = [0];
        let nodes = &[node];
        self.add_scores(
            &Scored { cluster, class, nodes, terms, is_fine: true, weight: 1 },
            &mut sum,
        );
        sum[0]
    }

    fn add_scores(&self, scored: &Scored<'_>, sums: &mut [i64]) {
        let Scored { cluster, class, nodes, terms, weight, .. } = *scored;
        if nodes.is_empty() {
            return; // nothing is worked out anew for none
        }
        let mut state = self.state(cluster);
        let asked = Asked::new(cluster, class, terms);
        // neighbours are mostly alike
        let mut last: Option<(u32, Costs)> = None;
        for (node, sum) in nodes.iter().zip(sums) {
            let number = state.alike.number(*node);
            if last.is_none_or(|(of, _)| of != number) {
                last = state.asked(cluster, class, *node, &asked).map(|costs| (number, costs));
            }
            let cost = match &last {
                Some((_, costs)) => costs.least(&state.facts(cluster, *node)).0,
                None => elsewhere(cluster, class, *node, terms),
            };
            *sum += weight * score(cost);
        }
    }

    fn devices(&self, cluster: &Cluster, class: &Class, node: NodeIndex) -> Option<DeviceSet> {
        let asked = Asked::new(cluster, class, &[]);
        let mut state = self.state(cluster);
        let place =
            state.asked(cluster, class, node, &asked)?.least(&state.facts(cluster, node)).1?;
        device_at(cluster, node, place)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::cluster::{ClassId, PodIndex};
    use crate::model::gpu_part::{GPU, PartAmount};
    use crate::model::pod::draw;
    use crate::model::{Node, PodClass};
    use blocks::{KEPT, KEPT_PRICE};

    #[test]
    fn a_size_that_has_not_come_is_kept_for_as_if_it_came_next() {
        let mut cluster = Cluster::default();
        let allocatable = vec![(GPU.into(), 8)];
        let _ = cluster.apply_node(Node { name: "a".into(), allocatable, ..Node::default() });
        let known = |gpus, count, part| Expected {
            shape: Shape { cpu: 1000, milli: DEVICE, gpus, models: Vec::new() },
            memory: 1 << 30,
            count,
            part,
        };
        let state = |shapes| State::new(&cluster, &Learnt { epoch: 1, shapes, turnover: 0.0 });
        let kept = |shapes| state(shapes).blocks.by_size.map(|block| (block.kept * 1e4).round());
        // of 91 GPUs and the next pod's 2, 4 or 8
        let next = [2.0 / 93.0, 4.0 / 95.0, 8.0 / 99.0_f64];
        let expected = next.map(|part| (KEPT * part * 1e4).round());
        assert_eq!(kept(vec![known(1, 91, 1.0)]), expected);
        let seen = kept(vec![known(1, 92, 0.92), known(8, 8, 0.08)])[2];
        assert_eq!(seen, (KEPT * 64.0 / 156.0 * 1e4).round(), "what has come counts as it is");
        assert_eq!(kept(Vec::new()), [0.0; 3], "nothing is known");
        let mut blocks = state(vec![known(1, 91, 1.0)]).blocks;
        let prices = blocks.prices(0.0);
        blocks.by_size[0].kept = 0.0;
        blocks.by_size[1].kept = 0.0;
        let of = |left: &[u16]| blocks::worth(&prices, &blocks.usable(Room::default(), left));
        assert_eq!(of(&[DEVICE; 8]), KEPT_PRICE * 8000.0, "whatever it asks for beside GPUs");
        assert_eq!(of(&[DEVICE; 7]), 0.0);
    }

    fn node(name: &str, gpu: &str, gpus: i64) -> Node {
        let allocatable = vec![
            ("cpu".into(), 64_000),
            ("memory".into(), 1 << 38),
            ("pods".into(), 110),
            (gpu.into(), gpus),
        ];
        Node { name: name.into(), allocatable, ..Node::default() }
    }

    fn class(cpu: i64, gpu: &str, gpus: i64) -> PodClass {
        let mut requests: Vec<(Box<str>, i64)> =
            vec![("cpu".into(), cpu), ("memory".into(), cpu << 20)];
        if gpus > 0 {
            requests.push((gpu.into(), gpus));
        }
        let asked = [cpu, cpu << 20];
        PodClass { requests, non_zero: asked, non_zero_asked: asked, ..PodClass::default() }
    }

    fn part(cpu: i64, milli: u16) -> PodClass {
        let mut class = class(cpu, GPU, 0);
        let amount = PartAmount::Milli(milli);
        class.set_gpu_part(Some(GpuPart { count: 1, amount, packed: false }));
        class
    }

    fn scored(packing: &Packing, cluster: &Cluster, class: ClassId, node: &str) -> i64 {
        let class = cluster.class(class);
        let node = cluster.find_node(node).expect("it was applied");
        packing.fine_score(cluster, class, node, &packing.terms(cluster, class))
    }

    #[test]
    fn what_is_remembered_changes_no_score() {
        let mut cluster = Cluster::default();
        cluster.keep_arrivals();
        let names: Vec<String> = (0..12).map(|number| format!("n{number}")).collect();
        for (number, name) in (0..).zip(&names) {
            let gpus = if number % 5 == 4 { 0 } else { 8 };
            let _ = cluster.apply_node(node(name, GPU, gpus));
            let slot = cluster.find_node(name).expect("it was applied");
            if number % 2 == 0 && gpus > 0 {
                cluster.set_holder(PodIndex(1000 + number), slot, DeviceSet::lowest(8), None);
            }
        }
        let of = |number: usize| match number {
            0..4 => class(2000 * number as i64, GPU, 1 << number),
            4..8 => part(1500 * number as i64, 90 * number as u16),
            _ => class(1000 * number as i64, GPU, 0),
        };
        let classes: Vec<ClassId> =
            (0..12).map(|number| cluster.acquire_class(of(number))).collect();
        let kept = Packing::default();
        let (mut seed, mut placed, mut compared) = (5, Vec::new(), 0);
        for round in 0..700_u32 {
            let class = classes[(draw(&mut seed) % 12) as usize];
            let slot = cluster.find_node(&names[(draw(&mut seed) % 12) as usize]);
            let slot = slot.expect("it was applied");
            cluster.arrived(class);
            cluster.turn_stage();
            if draw(&mut seed).is_multiple_of(3) && !placed.is_empty() {
                let (class, slot, pod) =
                    placed.swap_remove(draw(&mut seed) as usize % placed.len());
                cluster.unplace(class, slot);
                cluster.give_back(pod, slot);
            } else if cluster.room_for(cluster.class(class), slot, 1) > 0 {
                let pod = PodIndex(round);
                let known = cluster.class(class);
                let is_part = known.spec.gpu_part.is_some();
                let first = || cluster.choose_devices(known, slot).expect("there is room");
                let chosen = is_part.then(|| kept.devices(&cluster, known, slot));
                let chosen = chosen.map(|chosen| chosen.unwrap_or_else(first));
                cluster.place(class, slot);
                chosen.into_iter().for_each(|devices| cluster.give(class, pod, slot, devices));
                placed.push((class, slot, pod));
            }
            if round % 50 == 49 {
                let afresh = Packing::default();
                for (class, name) in classes.iter().flat_map(|c| names.iter().map(move |n| (*c, n)))
                {
                    let scores = [&kept, &afresh].map(|of| scored(of, &cluster, class, name));
                    assert_eq!(scores[0], scores[1], "round {round}, {name}");
                    compared += 1;
                }
            }
        }
        assert_eq!((compared, cluster.learnt().epoch), (14 * 144, 3));
    }

    #[test]
    fn where_there_are_no_devices_of_ours_nodes_fill_one_after_the_other() {
        let mut cluster = Cluster::default();
        let nodes = [("amd", "amd.com/gpu", 8), ("amd-used", "amd.com/gpu", 8), ("nvidia", GPU, 8)];
        let nodes = nodes.into_iter().chain([("bare", GPU, 0), ("bare-used", GPU, 0)]);
        for (name, gpu, gpus) in nodes {
            let _ = cluster.apply_node(node(name, gpu, gpus));
        }
        let [none, amd] =
            [0, 2].map(|gpus| cluster.acquire_class(class(4000, "amd.com/gpu", gpus)));
        let [used, bare] = ["amd-used", "bare-used"].map(|name| cluster.find_node(name));
        cluster.place(amd, used.expect("it was applied"));
        cluster.place(none, bare.expect("it was applied"));
        let packing = Packing::default();
        let of = |class, name| scored(&packing, &cluster, class, name);
        assert!(of(amd, "amd-used") > of(amd, "amd"));
        assert!(of(none, "bare-used") > of(none, "bare"), "the fuller one");
        assert!(of(none, "bare") > of(none, "nvidia"), "its GPUs would lose cores");
        assert!(of(none, "bare") > of(none, "amd-used"), "its GPUs would lose cores");
    }
}
