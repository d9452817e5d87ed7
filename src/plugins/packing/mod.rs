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
//! pods: see [`stranding`]. R is what its whole blocks of 2, 4 and 8 free GPUs are kept for: they
//! have a price on as many nodes as the pods that need such blocks take; all others may be broken
//! open. Until a pod of a size has come, the next one is taken to be: n arrivals without it say
//! that about one in n + 1 is (rule of succession). Else the first would find no node whole. W
//! is the worth of all its devices, O that of those in part: without end, a pod that leaves a gap
//! costs what the gap is worth less. When few whole free GPUs are left, gaps are filled sooner: the
//! stage is that of [`Cluster::stage`].
//!
//! What comes is learnt from arrivals. One set of parameters serves every workload; they were tuned
//! on seeds from 142 up of the FGD protocol, which no published figure uses.

mod prices;
mod stranding;

use super::spec::{device_at, free_cpu, model_of, try_devices};
use crate::cluster::{CPU, Class, Cluster, DeviceAsk, Expected, Learnt, Left, MEMORY};
use crate::cluster::{NodeIndex, Shape};
use crate::framework::{Plugin, Reads, SCORE_MAX, SCORE_PARTS, Score, Term};
use crate::model::DeviceSet;
use crate::model::gpu_part::DEVICE;
use prices::{PRICE, Prices};
use std::cell::RefCell;
use std::collections::BTreeMap;
use stranding::{Room, Stranding};

/// Sizes of blocks that pods need whole.
const BLOCKS: [usize; 3] = [2, 4, 8];
/// Which nodes are kept for each size: those whose rank, moved by this, is low.
const OFFSETS: [f64; 3] = [0.66, 0.33, 0.0];
/// Blocks are kept for so many times the demand.
const KEPT: f64 = 1.05;
/// Price of a GPU of a kept block that is broken, in GPUs.
const KEPT_PRICE: f64 = 0.36;
/// The same of a block that is not kept, by the node's rank: opens nodes one after the other.
const OPEN_PRICE: f64 = 0.03;
/// Most shapes of one block size that are told apart.
const BLOCK_SHAPES: usize = 16;
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

/// The plugin. A score is asked by reference; what is behind it is only a memo.
#[derive(Debug, Default)]
pub(super) struct Packing(RefCell<Option<State>>);

/// What is worked out once per time of learning, and a memo of pure values.
#[derive(Debug)]
struct State {
    epoch: u32,
    prices: Prices,
    stranding: Stranding,
    blocks: [Block; 3],
    /// by node slot
    nodes: Vec<Facts>,
}

/// What is known of pods that need a block of one size.
#[derive(Debug, Default)]
struct Block {
    /// nodes with a rank below this are kept for them
    kept: f64,
    /// what they ask for beside GPUs, with parts of all of the size
    shapes: Vec<(f64, Room)>,
}

#[derive(Clone, Copy, Debug)]
struct Facts {
    /// 0 to 1, spread evenly over the nodes of one kind
    rank: f64,
    /// a bit per model that learnt shapes name
    model: u16,
}

impl Facts {
    /// Of a node that came since.
    fn unknown(cluster: &Cluster, node: NodeIndex) -> Self {
        let tie = f64::from(cluster.node(node).tie);
        Self { rank: tie / (f64::from(u32::MAX) + 1.0), model: 0 }
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
        let slots = (0..cluster.node_slots()).map(NodeIndex::at);
        let mut nodes: Vec<Facts> = slots.map(|node| Facts::unknown(cluster, node)).collect();
        let mut kinds: BTreeMap<(i64, &str), Vec<(&str, NodeIndex)>> = BTreeMap::new();
        let (mut all, mut in_blocks) = (0, [0; 3]);
        for (node, entry) in cluster.live_nodes() {
            let gpus = cluster.gpu().map_or(0, |gpu| cluster.allocatable(gpu, node));
            let model = model_of(cluster, node);
            nodes[node.index()].model = bit(model);
            kinds.entry((gpus, model)).or_default().push((&entry.name, node));
            all += gpus;
            for (sum, size) in in_blocks.iter_mut().zip(BLOCKS) {
                *sum += gpus / size as i64 * size as i64;
            }
        }
        for of_kind in kinds.values_mut() {
            of_kind.sort_unstable_by_key(|(name, node)| (cluster.node(*node).tie, *name));
            for (place, (_, node)) in of_kind.iter().enumerate() {
                nodes[node.index()].rank = ((place as f64 + 0.5) * 0.618_033_988_749_895).fract();
            }
        }
        let demand = |known: &Expected| known.part * f64::from(known.shape.milli);
        let gpus = |known: &Expected| demand(known) * known.shape.gpus as f64;
        let all_demand: f64 = shapes.iter().map(gpus).sum();
        let arrivals: u64 = learnt.shapes.iter().map(|known| known.count).sum();
        // what one more would be beside all parts
        let next = if arrivals > 0 { 1.0 / arrivals as f64 } else { 0.0 };
        let mut blocks: [Block; 3] = Default::default();
        for ((block, size), in_blocks) in blocks.iter_mut().zip(BLOCKS).zip(in_blocks) {
            let of_size = || shapes.iter().filter(|known| known.shape.gpus == size);
            let parts: f64 = of_size().map(|known| known.part).sum();
            let unseen = if parts == 0.0 { next * f64::from(DEVICE) * size as f64 } else { 0.0 };
            let demand = of_size().map(gpus).sum::<f64>() + unseen;
            let share = demand / (all_demand + unseen).max(f64::MIN_POSITIVE);
            let scarce = if in_blocks > 0 { all as f64 / in_blocks as f64 } else { 0.0 };
            block.kept = KEPT * share * scarce;
            let shapes = of_size().take(BLOCK_SHAPES);
            block.shapes = shapes.map(|known| (known.part / parts, Room::asked(known))).collect();
            if unseen > 0.0 {
                block.shapes.push((1.0, Room::default()));
            }
        }
        let prices = Prices::new(fractions(shapes));
        let stranding = Stranding::new(shapes, &prices, bit);
        Self { epoch: learnt.epoch, prices, stranding, blocks, nodes }
    }

    /// The price of the whole free blocks of a node, in thousandths of a GPU.
    fn kept(&self, facts: Facts, room: Room, left: &[u16]) -> f64 {
        let free = left.iter().filter(|left| **left == DEVICE).count();
        let mut price = 0.0;
        for ((block, size), offset) in self.blocks.iter().zip(BLOCKS).zip(OFFSETS) {
            if block.kept == 0.0 || free < size {
                continue;
            }
            let is_kept = (facts.rank + offset).fract() < block.kept;
            let of_one = if is_kept { KEPT_PRICE } else { 0.0 } + OPEN_PRICE * facts.rank;
            let fit = |(part, asked): &(f64, Room)| {
                part * room.times(*asked).min((free / size) as i64) as f64
            };
            let blocks: f64 = block.shapes.iter().map(fit).sum();
            price += of_one * blocks * (size * usize::from(DEVICE)) as f64;
        }
        price
    }

    /// What is expected of a node and kept on it, in thousandths of a GPU, and what its devices are
    /// worth: all, and those in part.
    fn valued(&mut self, facts: Facts, room: Room, left: &[u16]) -> (f64, [i64; 2]) {
        let worth = |left: &u16| i64::from(self.prices.worth(*left));
        let in_part = left.iter().filter(|left| **left < DEVICE).map(worth).sum();
        let worth = [left.iter().map(worth).sum(), in_part];
        let earned = self.stranding.value(&self.prices, room, facts.model, left);
        (earned + self.kept(facts, room, left), worth)
    }

    /// The least cost of a pod, and for a fraction the device that has it, by its place.
    fn least(
        &mut self,
        facts: Facts,
        stage: u8,
        (room, asked): (Room, Room),
        mut left: Left,
        ask: Option<DeviceAsk>,
    ) -> (f64, Option<usize>) {
        let price = ask.map_or(0, |ask| i64::from(self.prices.of(ask.milli, ask.count)));
        let filling = FILLING[usize::from(stage)];
        let (before, [all_before, part_before]) = self.valued(facts, room, &left);
        let room = room.without(asked);
        let mut least = (f64::INFINITY, None);
        try_devices(&mut left, ask, |left, device| {
            let (after, [all, in_part]) = self.valued(facts, room, left);
            let lost = LOSS * (all_before - all - price);
            let opened = filling * (in_part - part_before);
            let worth = (10 * lost + opened) as f64 * f64::from(DEVICE) / f64::from(10 * PRICE);
            let rest = LEFT * device.map_or(0.0, |device| f64::from(left[device]));
            let cost = before - after + worth + rest;
            if cost < least.0 {
                least = (cost, device);
            }
        });
        least
    }
}

impl Packing {
    fn least(&self, cluster: &Cluster, class: &Class, node: NodeIndex) -> (f64, Option<usize>) {
        let left = cluster.devices_left(class, node);
        if left.is_empty() {
            return (0.0, None);
        }
        let memory = cluster.allocatable(MEMORY, node) - cluster.requested(MEMORY, node);
        let free = Room { cpu: free_cpu(cluster, node), memory };
        let asked = Room { cpu: class.request(CPU), memory: class.request(MEMORY) };
        let ask = cluster.device_ask(class, node);
        let learnt = cluster.learnt();
        let mut state = self.0.borrow_mut();
        let state = match &mut *state {
            Some(state) if state.epoch == learnt.epoch => state,
            state => state.insert(State::new(cluster, learnt)),
        };
        let facts = state.nodes.get(node.index()).copied();
        let facts = facts.unwrap_or_else(|| Facts::unknown(cluster, node));
        state.least(facts, cluster.stage(), (free, asked), left, ask)
    }
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

    #[allow(clippy::cast_possible_truncation)] // clamped
    fn fine_score(&self, cluster: &Cluster, class: &Class, node: NodeIndex, _: &[Term]) -> i64 {
        let (cost, _) = self.least(cluster, class, node);
        (((COST_MAX - cost) * LEVELS) as i64).clamp(0, SCORE_MAX * SCORE_PARTS)
    }

    fn devices(&self, cluster: &Cluster, class: &Class, node: NodeIndex) -> Option<DeviceSet> {
        let place = self.least(cluster, class, node).1?;
        device_at(cluster, node, place)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::model::Node;
    use crate::model::gpu_part::GPU;

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
        let state = |shapes| State::new(&cluster, &Learnt { epoch: 1, shapes });
        let kept = |shapes| state(shapes).blocks.map(|block| (block.kept * 1e4).round());
        // of 91 GPUs and the next pod's 2, 4 or 8
        let next = [2.0 / 93.0, 4.0 / 95.0, 8.0 / 99.0_f64];
        let expected = next.map(|part| (KEPT * part * 1e4).round());
        assert_eq!(kept(vec![known(1, 91, 1.0)]), expected);
        let seen = kept(vec![known(1, 92, 0.92), known(8, 8, 0.08)])[2];
        assert_eq!(seen, (KEPT * 64.0 / 156.0 * 1e4).round(), "what has come counts as it is");
        assert_eq!(kept(Vec::new()), [0.0; 3], "nothing is known");
        let facts = Facts { rank: 0.0, model: 0 };
        let mut ones = state(vec![known(1, 91, 1.0)]);
        ones.blocks[0].kept = 0.0;
        ones.blocks[1].kept = 0.0;
        let of = |left: &[u16]| ones.kept(facts, Room::default(), left);
        assert_eq!(of(&[DEVICE; 8]), KEPT_PRICE * 8000.0, "whatever it asks for beside GPUs");
        assert_eq!(of(&[DEVICE; 7]), 0.0);
    }
}
