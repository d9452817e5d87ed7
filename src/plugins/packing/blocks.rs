//! What whole blocks of free GPUs are kept for.
//!
//! They have a price on as many nodes as the pods that need such blocks take; all others may be
//! broken open, one after the other. Until a pod of a size has come, the next one is taken to be: n
//! arrivals without it say that about one in n + 1 is (rule of succession). Else the first would
//! find no node whole.
//!
//! Where pods leave as well, a block in part may be whole again before long, and sooner the less of
//! it is taken. So one that lacks m GPUs is worth PATIENCE^m of a whole one, on every node: pods go
//! where most is taken. That is for the largest blocks that a node has, as smaller ones come and go
//! with it. The prices rise with the rank of nodes, so that small pods keep together on some of
//! them. How far all this counts is learnt: by the pods that leave for each that comes.

use super::stranding::Room;
use crate::cluster::{Expected, Learnt};
use crate::model::gpu_part::DEVICE;

/// Sizes of blocks that pods need whole.
const SIZES: [usize; 3] = [2, 4, 8];
/// Which nodes are kept for each size: those whose rank, moved by this, is low.
const OFFSETS: [f64; 3] = [0.66, 0.33, 0.0];
/// Blocks are kept for so many times the demand.
pub(super) const KEPT: f64 = 1.05;
/// Price of a GPU of a kept block that is broken, in GPUs.
pub(super) const KEPT_PRICE: f64 = 0.36;
/// The same of a block that is not kept, by the node's rank: opens nodes one after the other.
const OPEN_PRICE: f64 = 0.03;
/// The least price of a GPU of a block where as many pods leave as come, and how much of it comes
/// with the node's rank.
const CHURN_PRICE: (f64, f64) = (0.3, 0.4);
/// What a block that lacks a GPU is worth of a whole one there.
const PATIENCE: f64 = 0.7;
/// Most shapes of one block size that are told apart.
const SHAPES_MAX: usize = 16;
/// Blocks of one node whose number is looked up.
const FULL_MAX: usize = 8;

/// One number for each size of block.
pub(super) type BySize = [f64; 3];

/// What is known of pods that need a block of one size.
#[derive(Debug, Default)]
pub(super) struct Block {
    /// nodes with a rank below this are kept for them
    pub(super) kept: f64,
    /// what they ask for beside GPUs, with parts of all of the size
    shapes: Vec<(f64, Room)>,
    /// the most that any asks for
    most: Room,
    /// of so many blocks all are of use where there is ample room
    full: [f64; FULL_MAX + 1],
}

impl Block {
    fn set(&mut self, shapes: Vec<(f64, Room)>) {
        self.shapes = shapes;
        self.most = self.shapes.iter().fold(Room::default(), |most, (_, asked)| most.max(*asked));
        for blocks in 0..=FULL_MAX {
            self.full[blocks] = self.shapes.iter().map(|(part, _)| part * blocks as f64).sum();
        }
    }

    /// How many of so many whole blocks are of use with this room, on average over the shapes.
    fn usable(&self, room: Room, blocks: usize) -> f64 {
        if blocks <= FULL_MAX && room.holds(self.most, blocks as i64) {
            return self.full[blocks];
        }
        let fit = |(part, asked): &(f64, Room)| part * room.times(*asked).min(blocks as i64) as f64;
        self.shapes.iter().map(fit).sum()
    }
}

/// The blocks of all sizes.
#[derive(Debug)]
pub(super) struct Blocks {
    pub(super) by_size: [Block; 3],
    /// pods that leave for each that comes, 0 to 1
    turnover: f64,
}

/// The GPUs of all nodes, and those of them that make whole blocks of each size.
#[derive(Clone, Copy, Debug, Default)]
pub(super) struct Gpus {
    all: i64,
    in_blocks: [i64; 3],
}

impl Gpus {
    /// Counts those of a node.
    pub(super) fn add(&mut self, gpus: i64) {
        self.all += gpus;
        for (sum, size) in self.in_blocks.iter_mut().zip(SIZES) {
            *sum += gpus / size as i64 * size as i64;
        }
    }
}

impl Blocks {
    /// From what is expected; of what was learnt so many pods came in truth.
    pub(super) fn new(shapes: &[Expected], learnt: &Learnt, nodes: Gpus) -> Self {
        let arrivals: u64 = learnt.shapes.iter().map(|known| known.count).sum();
        let demand = |known: &Expected| known.part * f64::from(known.shape.milli);
        let gpus = |known: &Expected| demand(known) * known.shape.gpus as f64;
        let all_demand: f64 = shapes.iter().map(gpus).sum();
        // what one more would be beside all parts
        let next = if arrivals > 0 { 1.0 / arrivals as f64 } else { 0.0 };
        let mut blocks: [Block; 3] = Default::default();
        for ((block, size), in_blocks) in blocks.iter_mut().zip(SIZES).zip(nodes.in_blocks) {
            let of_size = || shapes.iter().filter(|known| known.shape.gpus == size);
            let parts: f64 = of_size().map(|known| known.part).sum();
            let unseen = if parts == 0.0 { next * f64::from(DEVICE) * size as f64 } else { 0.0 };
            let demand = of_size().map(gpus).sum::<f64>() + unseen;
            let share = demand / (all_demand + unseen).max(f64::MIN_POSITIVE);
            let scarce = if in_blocks > 0 { nodes.all as f64 / in_blocks as f64 } else { 0.0 };
            block.kept = KEPT * share * scarce;
            let shapes = of_size().take(SHAPES_MAX);
            let mut shapes: Vec<_> =
                shapes.map(|known| (known.part / parts, Room::asked(known))).collect();
            if unseen > 0.0 {
                shapes.push((1.0, Room::default()));
            }
            block.set(shapes);
        }
        Self { by_size: blocks, turnover: learnt.turnover }
    }

    /// What a GPU of a block of each size costs on a node of this rank.
    pub(super) fn prices(&self, rank: f64) -> BySize {
        let mut prices = [0.0; 3];
        for ((price, block), offset) in prices.iter_mut().zip(&self.by_size).zip(OFFSETS) {
            let is_kept = (rank + offset).fract() < block.kept;
            let kept = if is_kept { KEPT_PRICE } else { 0.0 };
            *price = kept.max(self.turnover * (CHURN_PRICE.0 + CHURN_PRICE.1 * rank))
                + OPEN_PRICE * rank;
        }
        prices
    }

    /// The blocks of use among what is left of devices: whole ones, and those that may become so.
    pub(super) fn usable(&self, room: Room, left: &[u16]) -> BySize {
        let free = left.iter().filter(|left| **left == DEVICE).count();
        let largest = SIZES.iter().rposition(|size| *size <= left.len());
        let mut usable = [0.0; 3];
        for (place, (block, size)) in self.by_size.iter().zip(SIZES).enumerate() {
            if block.kept == 0.0 || left.len() < size {
                continue;
            }
            let whole = if free >= size { block.usable(room, free / size) } else { 0.0 };
            usable[place] = if Some(place) == largest {
                whole + self.in_part(size, free, left.len())
            } else {
                whole * (1.0 - self.turnover)
            };
        }
        usable
    }

    /// What blocks in part are worth, in whole ones.
    fn in_part(&self, size: usize, free: usize, all: usize) -> f64 {
        if self.turnover == 0.0 {
            return 0.0;
        }
        let lacks = (free / size + 1..=all / size).map(|blocks| blocks * size - free);
        lacks.map(|lacking| (PATIENCE * self.turnover).powi(lacking as i32)).sum()
    }
}

/// The price of blocks at such prices of one GPU, in thousandths of a GPU.
pub(super) fn worth(prices: &BySize, blocks: &BySize) -> f64 {
    let mut sum = 0.0;
    for ((price, blocks), size) in prices.iter().zip(blocks).zip(SIZES) {
        sum += price * blocks * (size * usize::from(DEVICE)) as f64;
    }
    sum
}
