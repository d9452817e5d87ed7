//! What is expected to stay idle of a node's GPUs.
//!
//! Streams of the pods that were learnt are thrown at the node alone: each pod that fits is placed,
//! a fraction on the fullest device that has room. What is idle in the end, on average over the
//! streams, is the value. A stream is finite and the longer the more is idle: an endless one would
//! fill every gap with the one rare pod that fits it. The streams are the same for every state, so
//! that states differ by what they are and not by chance.

use crate::cluster::Expected;
use crate::model::gpu_part::DEVICE;
use crate::model::pod::mixed;
use rustc_hash::FxHashMap;

const STREAMS: usize = 16;
/// Pods of the longest stream.
const LENGTH_MAX: usize = 256;
/// Pods of a stream: so many, and so many more per idle GPU.
const LENGTH: u32 = 16;
const LENGTH_PER_GPU: u32 = 8;
/// Shapes that are told apart; one bit each.
const SHAPES_MAX: usize = 64;
/// Devices of a node that are looked at: those with most left.
const DEVICES: usize = 16;
/// Free CPU is cut to multiples of so many milli-CPU per idle GPU.
const CPU_STEP: i64 = 200;
/// Values kept; beyond it all are worked out again, which changes none.
const MEMO_MAX: usize = 1 << 18;

#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
struct Key {
    cpu: i64,
    model: u16,
    /// descending
    left: [u16; DEVICES],
}

#[derive(Clone, Copy, Debug)]
struct Item {
    cpu: i64,
    milli: u16,
    gpus: usize,
    /// 0: any
    models: u16,
}

/// Values of node states under one learnt workload.
#[derive(Debug)]
pub(super) struct Stranding {
    items: Vec<Item>,
    /// items by place
    streams: Vec<[u8; LENGTH_MAX]>,
    /// the smallest part that is known: what is smaller is lost at once
    least: u16,
    /// whether some item is choosy
    models: bool,
    memo: FxHashMap<Key, f32>,
}

/// The next number of a stream of them.
fn draw(state: &mut u64) -> u64 {
    let drawn = mixed(*state);
    *state = state.wrapping_add(0x9e37_79b9_7f4a_7c15);
    drawn
}

/// Streams drawn by the parts of items. At each position the draws of all streams are spread evenly
/// over the distribution.
#[allow(clippy::cast_possible_truncation, clippy::cast_sign_loss)] // parts of 2^53, below 64
fn streams(parts: &[f64]) -> Vec<[u8; LENGTH_MAX]> {
    let all: f64 = parts.iter().sum();
    let mut sum = 0.0;
    let bounds: Vec<u64> = parts
        .iter()
        .map(|part| {
            sum += part;
            (sum / all * (1u64 << 53) as f64) as u64
        })
        .collect();
    let mut streams = vec![[0u8; LENGTH_MAX]; STREAMS];
    let mut seed = 12_345;
    for position in 0..LENGTH_MAX {
        let mut order: Vec<usize> = (0..STREAMS).collect();
        for place in (1..STREAMS).rev() {
            order.swap(place, (draw(&mut seed) % (place as u64 + 1)) as usize);
        }
        for (stream, place) in streams.iter_mut().zip(order) {
            let point = (((place as u64) << 53) + (draw(&mut seed) >> 11)) / STREAMS as u64;
            let item = bounds.partition_point(|bound| *bound <= point).min(parts.len() - 1);
            stream[position] = item as u8;
        }
    }
    streams
}

impl Stranding {
    /// `bit` is that of a model.
    pub(super) fn new(shapes: &[Expected], bit: impl Fn(&str) -> u16) -> Self {
        let shapes = &shapes[..shapes.len().min(SHAPES_MAX)];
        let item = |known: &Expected| Item {
            cpu: known.shape.cpu,
            milli: known.shape.milli,
            gpus: known.shape.gpus,
            models: known.shape.models.iter().map(|model| bit(model)).fold(0, |all, bit| all | bit),
        };
        let items: Vec<Item> = shapes.iter().map(item).collect();
        let parts: Vec<f64> = shapes.iter().map(|known| known.part).collect();
        let smallest = items.iter().filter(|item| item.milli > 0).map(|item| item.milli).min();
        Self {
            streams: streams(&parts),
            least: smallest.unwrap_or(1),
            models: items.iter().any(|item| item.models != 0),
            items,
            memo: FxHashMap::default(),
        }
    }

    /// Thousandths of GPUs that are expected to stay idle.
    pub(super) fn value(&mut self, cpu: i64, model: u16, left: &[u16]) -> f64 {
        let mut key = Key { cpu, model: if self.models { model } else { 0 }, left: [0; DEVICES] };
        let (mut used, mut lost, mut idle) = (0, 0u32, 0u32);
        for left in left {
            if *left < self.least || used == DEVICES {
                lost += u32::from(*left);
            } else {
                key.left[used] = *left;
                used += 1;
                idle += u32::from(*left);
            }
        }
        if used == 0 {
            return f64::from(lost);
        }
        key.left[..used].sort_unstable_by(|a, b| b.cmp(a));
        let step = CPU_STEP * i64::from(idle / u32::from(DEVICE));
        if step > 0 {
            key.cpu -= key.cpu.rem_euclid(step);
        }
        f64::from(lost) + f64::from(self.known(&key, used, idle))
    }

    fn known(&mut self, key: &Key, used: usize, idle: u32) -> f32 {
        if let Some(value) = self.memo.get(key) {
            return *value;
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
            alive |= u64::from(fits && item.cpu <= key.cpu) << place;
        }
        let end = |stream: &[u8; LENGTH_MAX]| {
            let stream = &stream[..length.min(LENGTH_MAX)];
            Thrown {
                items: &self.items,
                alive,
                free,
                idle,
                cpu: key.cpu,
                parts: [0; DEVICES],
                used: 0,
            }
            .through(&key.left[..used], stream)
        };
        let sum: u32 = self.streams.iter().map(end).sum();
        #[allow(clippy::cast_possible_truncation)] // a sum of thousandths
        let value = (f64::from(sum) / STREAMS as f64) as f32;
        if self.memo.len() >= MEMO_MAX {
            self.memo.clear();
        }
        self.memo.insert(*key, value);
        value
    }
}

/// A node under one stream.
struct Thrown<'a> {
    items: &'a [Item],
    /// items that may fit: one that failed never fits again
    alive: u64,
    /// whole free devices
    free: usize,
    idle: u32,
    cpu: i64,
    /// what is left of devices in part
    parts: [u16; DEVICES],
    used: usize,
}

impl Thrown<'_> {
    /// Thousandths that are idle in the end.
    fn through(mut self, left: &[u16], stream: &[u8]) -> u32 {
        for left in left.iter().filter(|left| **left < DEVICE) {
            self.parts[self.used] = *left;
            self.used += 1;
        }
        for place in stream {
            if self.alive == 0 || self.idle == 0 {
                break;
            }
            if self.alive >> place & 1 == 1 && !self.take(self.items[usize::from(*place)]) {
                self.alive &= !(1 << place);
            }
        }
        self.idle
    }

    fn take(&mut self, item: Item) -> bool {
        if self.cpu < item.cpu {
            return false;
        }
        match item.milli {
            0 => {}
            DEVICE if self.free < item.gpus => return false,
            DEVICE => self.free -= item.gpus,
            milli => {
                let parts = self.parts[..self.used].iter_mut().filter(|left| **left >= milli);
                match parts.min_by_key(|left| **left) {
                    Some(left) => *left -= milli,
                    None if self.free > 0 => {
                        self.free -= 1;
                        self.parts[self.used] = DEVICE - milli;
                        self.used += 1;
                    }
                    None => return false,
                }
            }
        }
        self.cpu -= item.cpu;
        self.idle -= u32::from(item.milli) * item.gpus as u32;
        true
    }
}
