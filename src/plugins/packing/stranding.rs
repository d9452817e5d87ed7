//! What the GPUs of a node are expected to earn.
//!
//! Streams of the pods that were learnt are thrown at the node alone, and each pod that is placed
//! pays its price: see [`super::prices`]. A fraction goes where the device loses least worth beyond
//! the price, and nowhere if it would lose more than [`LOSS_MAX`] of a device: better ones will
//! come. A whole free device takes it always. What is paid, on average over the streams, is the
//! value; a placement strands what it lowers the value by. Cores and memory run out too: pods take
//! them by the mean of their shape. A stream is finite and the longer the
//! more is idle: an endless one would fill every gap with the one rare pod that fits it. The
//! streams are the same for every state, so that states differ by what they are and not by chance.

use super::prices::{PRICE, Prices};
use crate::cluster::Expected;
use crate::model::gpu_part::DEVICE;
use crate::model::pod::draw;
use rustc_hash::FxHashMap;

const STREAMS: usize = 32;
/// Pods of the longest stream.
const LENGTH_MAX: usize = 1024;
/// Pods of a stream: so many, and so many more per idle GPU.
const LENGTH: u32 = 64;
const LENGTH_PER_GPU: u32 = 24;
/// Most of its worth that a device in part may lose to a pod of a stream: 0.3 of a whole device.
const LOSS_MAX: i32 = PRICE * 3 / 10;
/// Shapes that are told apart; one bit each.
const SHAPES_MAX: usize = 64;
/// Devices of a node that are looked at: the first that are worth something.
const DEVICES: usize = 16;
/// Free CPU is cut to multiples of so many milli-CPU per idle GPU.
const CPU_STEP: i64 = 200;
/// Free memory is cut to multiples of so many bytes, and per idle GPU from one on.
const MEMORY_STEP: i64 = 4 << 30;
/// Values kept; beyond it all are worked out again, which changes none.
const MEMO_MAX: usize = 1 << 18;

/// What is free of a node beside its GPUs, or asked.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash)]
pub(super) struct Room {
    /// milli-CPU
    pub(super) cpu: i64,
    /// bytes
    pub(super) memory: i64,
}

impl Room {
    /// What a pod of a shape asks for.
    pub(super) fn asked(known: &Expected) -> Self {
        Self { cpu: known.shape.cpu, memory: known.memory }
    }

    fn has(self, asked: Self) -> bool {
        self.cpu >= asked.cpu && self.memory >= asked.memory
    }

    /// How often what is asked fits; what is not asked for is no bound.
    pub(super) fn times(self, asked: Self) -> i64 {
        let of = |free: i64, asked: i64| if asked > 0 { (free / asked).max(0) } else { i64::MAX };
        of(self.cpu, asked.cpu).min(of(self.memory, asked.memory))
    }

    /// The larger of each.
    pub(super) fn max(self, other: Self) -> Self {
        Self { cpu: self.cpu.max(other.cpu), memory: self.memory.max(other.memory) }
    }

    /// Whether what is asked, if it is not negative, fits so often.
    pub(super) fn holds(self, asked: Self, times: i64) -> bool {
        self.cpu >= asked.cpu.saturating_mul(times)
            && self.memory >= asked.memory.saturating_mul(times)
    }

    pub(super) fn without(self, asked: Self) -> Self {
        Self { cpu: self.cpu - asked.cpu, memory: self.memory - asked.memory }
    }

    /// Cut to what is told apart with so many whole GPUs idle.
    fn cut(self, gpus: i64) -> Self {
        let cut = |amount: i64, step: i64| match step {
            0 => amount,
            step => amount - amount.rem_euclid(step),
        };
        Self {
            cpu: cut(self.cpu, CPU_STEP * gpus),
            memory: cut(self.memory, MEMORY_STEP * gpus.max(1)),
        }
    }
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
struct Key {
    room: Room,
    model: u16,
    /// descending
    left: [u16; DEVICES],
}

#[derive(Clone, Copy, Debug)]
struct Item {
    asked: Room,
    milli: u16,
    gpus: usize,
    /// 0: any
    models: u16,
    price: i32,
}

/// Values of node states under one learnt workload.
#[derive(Debug)]
pub(super) struct Stranding {
    items: Vec<Item>,
    streams: Streams,
    /// a bit per item that pays
    paying: u64,
    /// whether some item is choosy
    models: bool,
    /// what all streams pay together
    memo: FxHashMap<Key, i32>,
}

/// Streams drawn by the parts of items, as far as they were asked for. At each position the draws
/// of all streams are spread evenly over the distribution.
#[derive(Debug)]
struct Streams {
    /// where the part of each item ends, of 2^53
    bounds: Vec<u64>,
    /// items by place
    items: Vec<[u8; LENGTH_MAX]>,
    /// positions that are drawn
    drawn: usize,
    seed: u64,
}

impl Streams {
    #[allow(clippy::cast_possible_truncation, clippy::cast_sign_loss)] // parts of 2^53
    fn new(parts: &[f64]) -> Self {
        let all: f64 = parts.iter().sum();
        let mut sum = 0.0;
        let bounds = parts.iter().map(|part| {
            sum += part;
            (sum / all * (1u64 << 53) as f64) as u64
        });
        let bounds = bounds.collect();
        Self { bounds, items: vec![[0; LENGTH_MAX]; STREAMS], drawn: 0, seed: 12_345 }
    }

    /// The first so many of each, at most [`LENGTH_MAX`].
    fn first(&mut self, length: usize) -> impl Iterator<Item = &[u8]> {
        let length = length.min(LENGTH_MAX);
        for position in self.drawn..length {
            self.draw(position);
        }
        self.drawn = self.drawn.max(length);
        self.items.iter().map(move |stream| &stream[..length])
    }

    #[allow(clippy::cast_possible_truncation)] // below 64
    fn draw(&mut self, position: usize) {
        let seed = &mut self.seed;
        let mut order: [usize; STREAMS] = std::array::from_fn(|place| place);
        for place in (1..STREAMS).rev() {
            order.swap(place, (draw(seed) % (place as u64 + 1)) as usize);
        }
        for (stream, place) in self.items.iter_mut().zip(order) {
            let point = (((place as u64) << 53) + (draw(seed) >> 11)) / STREAMS as u64;
            let item = self.bounds.partition_point(|bound| *bound <= point);
            stream[position] = item.min(self.bounds.len() - 1) as u8;
        }
    }
}

impl Stranding {
    /// `bit` is that of a model.
    pub(super) fn new(shapes: &[Expected], prices: &Prices, bit: impl Fn(&str) -> u16) -> Self {
        let shapes = &shapes[..shapes.len().min(SHAPES_MAX)];
        let item = |known: &Expected| Item {
            asked: Room::asked(known),
            milli: known.shape.milli,
            gpus: known.shape.gpus,
            models: known.shape.models.iter().map(|model| bit(model)).fold(0, |all, bit| all | bit),
            price: prices.of(known.shape.milli, known.shape.gpus),
        };
        let items: Vec<Item> = shapes.iter().map(item).collect();
        let parts: Vec<f64> = shapes.iter().map(|known| known.part).collect();
        let pays = |(place, item): (usize, &Item)| u64::from(item.price > 0) << place;
        Self {
            streams: Streams::new(&parts),
            paying: items.iter().enumerate().map(pays).sum(),
            models: items.iter().any(|item| item.models != 0),
            items,
            memo: FxHashMap::default(),
        }
    }

    /// What is expected to be paid, in thousandths of a device's price.
    pub(super) fn value(&mut self, prices: &Prices, room: Room, model: u16, left: &[u16]) -> f64 {
        let mut key = Key { room, model: if self.models { model } else { 0 }, left: [0; DEVICES] };
        let (mut used, mut idle) = (0, 0u32);
        for left in left.iter().filter(|left| prices.worth(**left) > 0).take(DEVICES) {
            key.left[used] = *left;
            used += 1;
            idle += u32::from(*left);
        }
        if used == 0 {
            return 0.0;
        }
        if !key.left[..used].is_sorted_by(|a, b| a >= b) {
            key.left[..used].sort_unstable_by(|a, b| b.cmp(a));
        }
        key.room = room.cut(i64::from(idle / u32::from(DEVICE)));
        let paid = self.known(prices, &key, used, idle);
        f64::from(paid) * f64::from(DEVICE) / (f64::from(PRICE) * STREAMS as f64)
    }

    fn known(&mut self, prices: &Prices, key: &Key, used: usize, idle: u32) -> i32 {
        if let Some(paid) = self.memo.get(key) {
            return *paid;
        }
        let length = (LENGTH + LENGTH_PER_GPU * idle / u32::from(DEVICE)) as usize;
        let free = key.left.iter().filter(|left| **left == DEVICE).count();
        let mut alive = 0u64;
        for (place, item) in self.items.iter().enumerate() {
            let meets = item.models == 0 || item.models & key.model != 0;
            let fits = match item.milli {
                0 => true,
                DEVICE => meets && free >= item.gpus,
                milli => meets && key.left[0] >= milli,
            };
            alive |= u64::from(fits && key.room.has(item.asked)) << place;
        }
        let mut thrown = Thrown {
            items: &self.items,
            prices,
            paying: self.paying,
            alive,
            free,
            room: key.room,
            parts: [0; DEVICES],
            used: 0,
            paid: 0,
        };
        for left in key.left[..used].iter().filter(|left| **left < DEVICE) {
            thrown.parts[thrown.used] = *left;
            thrown.used += 1;
        }
        let streams = self.streams.first(length);
        let paid = streams.map(|stream| thrown.clone().through(stream)).sum();
        if self.memo.len() >= MEMO_MAX {
            self.memo.clear();
        }
        self.memo.insert(*key, paid);
        paid
    }
}

/// A node under one stream.
#[derive(Clone)]
struct Thrown<'a> {
    items: &'a [Item],
    prices: &'a Prices,
    paying: u64,
    /// items that may fit: one for which there is no room never fits again
    alive: u64,
    /// whole free devices
    free: usize,
    room: Room,
    /// what is left of devices in part
    parts: [u16; DEVICES],
    used: usize,
    paid: i32,
}

impl Thrown<'_> {
    /// What is paid in the end.
    fn through(mut self, stream: &[u8]) -> i32 {
        for place in stream {
            if self.alive & self.paying == 0 {
                break;
            }
            if self.alive >> place & 1 == 1 && !self.has_room(self.items[usize::from(*place)]) {
                self.alive &= !(1 << place);
            }
        }
        self.paid
    }

    /// Whether there is room for a pod; it is taken unless it spoils a device.
    fn has_room(&mut self, item: Item) -> bool {
        if !self.room.has(item.asked) {
            return false;
        }
        match item.milli {
            0 => {}
            DEVICE if self.free < item.gpus => return false,
            DEVICE => self.free -= item.gpus,
            milli => match self.best_part(milli, item.price) {
                (Some(place), _) => self.parts[place] -= milli,
                (None, _) if self.free > 0 => {
                    self.free -= 1;
                    self.parts[self.used] = DEVICE - milli;
                    self.used += 1;
                }
                (None, has_room) => return has_room,
            },
        }
        self.room = self.room.without(item.asked);
        self.paid += item.price;
        true
    }

    /// The device in part that loses least to a fraction, of equal ones the fullest, if that is
    /// little; and whether any has room.
    fn best_part(&self, milli: u16, price: i32) -> (Option<usize>, bool) {
        let (mut best, mut least, mut has_room) = (None, (LOSS_MAX, DEVICE), false);
        for (place, left) in self.parts[..self.used].iter().enumerate() {
            let Some(rest) = left.checked_sub(milli) else { continue };
            has_room = true;
            let loss = (self.prices.worth(*left) - self.prices.worth(rest) - price, *left);
            if loss < least {
                (best, least) = (Some(place), loss);
            }
        }
        (best, has_room)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::cluster::Shape;

    const MIB: i64 = 1 << 20;
    /// Room for all.
    const AMPLE: Room = Room { cpu: 1 << 40, memory: 1 << 60 };

    fn expected(shapes: &[(i64, u16, usize, u64)]) -> Vec<Expected> {
        let all: u64 = shapes.iter().map(|(.., count)| count).sum();
        let expected = |(cpu, milli, gpus, count): &(i64, u16, usize, u64)| Expected {
            shape: Shape { cpu: *cpu, milli: *milli, gpus: *gpus, models: Vec::new() },
            memory: *cpu * MIB,
            count: *count,
            part: *count as f64 / all as f64,
        };
        shapes.iter().map(expected).collect()
    }

    fn made(shapes: &[(i64, u16, usize, u64)]) -> (Prices, Stranding) {
        let fractions = shapes.iter().filter(|(_, _, gpus, _)| *gpus == 1);
        let prices = Prices::new(fractions.map(|(_, milli, _, count)| (*milli, *count)).collect());
        let stranding = Stranding::new(&expected(shapes), &prices, |_| 0);
        (prices, stranding)
    }

    #[test]
    fn a_node_earns_what_fits_on_its_devices_and_cores() {
        let (prices, mut stranding) = made(&[(4000, 500, 1, 50), (4000, 1000, 1, 50)]);
        let mut of = |room, left: &[u16]| stranding.value(&prices, room, 0, left);
        let memory = Room { memory: 4000 * MIB, ..AMPLE };
        let few = Room { memory: 4096 * MIB, ..AMPLE };
        assert_eq!(of(few, &[500, 500]), 500.0, "memory for one");
        assert_eq!(of(memory, &[1000]), 0.0, "it is cut to multiples");
        let mut value = |cpu, left: &[u16]| of(Room { cpu, ..AMPLE }, left);
        assert_eq!([value(64_000, &[]), value(64_000, &[0, 400])], [0.0; 2], "too little is left");
        assert_eq!(value(64_000, &[500]), 500.0);
        assert_eq!(value(64_000, &[1000, 500, 499]), 1500.0);
        assert_eq!(value(4000, &[500, 500]), 500.0, "cores for one");
        assert_eq!(value(3999, &[1000]), 0.0);
        assert_eq!(value(64_000, &[500, 1000]), value(64_000, &[1000, 500]));
    }

    #[test]
    fn a_stream_leaves_a_device_to_a_pod_that_uses_it_better() {
        let (prices, mut stranding) = made(&[(0, 500, 1, 40), (0, 300, 1, 30), (0, 700, 1, 30)]);
        let worth = |left| f64::from(prices.worth(left)) * 1000.0 / f64::from(PRICE);
        assert!(worth(700) - worth(200) > 800.0, "a 500 would spoil what a 700 fills");
        let value = stranding.value(&prices, AMPLE, 0, &[700]);
        assert!((value - worth(700)).abs() < 1e-6, "{value}, {}", worth(700));
    }
}
