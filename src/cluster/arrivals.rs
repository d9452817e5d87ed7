//! What kinds of pods come: scores that look ahead go by what came so far.

use super::{ClassId, Cluster, MEMORY};
use crate::model::gpu_part::{DEVICE, GPU, PartAmount};
use crate::model::gpu_topology::PRODUCT_LABEL;
use crate::model::{Operator, PodClass};
use rustc_hash::FxHashMap;
use std::sync::Arc;

/// What is learnt first after so many arrivals, and again whenever they have doubled.
const FIRST: u64 = 100;
/// After so many arrivals all count half, so that what is learnt follows what comes.
const HALVED_AT: u64 = 20_000;
/// Most shapes told apart; what comes beyond them is not counted.
const SHAPES_MAX: usize = 4096;

/// What a pod asks for, as far as packing goes.
#[derive(Clone, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Shape {
    /// Milli-CPU.
    pub cpu: i64,
    /// Thousandths of each GPU; 0: it asks for none.
    pub milli: u16,
    /// GPUs.
    pub gpus: usize,
    /// Models that it may run on; empty: any.
    pub models: Vec<Box<str>>,
}

/// A shape of pod that is expected to come.
#[derive(Clone, Debug, PartialEq)]
pub struct Expected {
    /// What it asks for.
    pub shape: Shape,
    /// Bytes of memory, as the mean of those that came.
    pub memory: i64,
    /// So many came, old ones counted less.
    pub count: u64,
    /// Its part of all pods.
    pub part: f64,
}

/// What was learnt at one time.
#[derive(Debug, Default)]
pub struct Learnt {
    /// Which time that was; 0: nothing yet.
    pub epoch: u32,
    /// Shapes, the commonest first; of equally common ones the smaller.
    pub shapes: Vec<Expected>,
    /// Pods that left a node for each that came, 0 to 1: 0 while a cluster fills, about 1 where as
    /// many leave as come.
    pub turnover: f64,
}

/// Pods of one shape that came.
#[derive(Clone, Copy, Debug, Default)]
struct Came {
    count: u64,
    /// bytes of all together
    memory: u128,
}

impl Came {
    /// Bytes, as the mean.
    fn memory(&self) -> i64 {
        let mean = self.memory / u128::from(self.count.max(1));
        i64::try_from(mean).expect("it is a mean of such numbers")
    }

    /// Counts half, by pods of the mean size.
    fn halve(&mut self) {
        let mean = self.memory();
        self.count /= 2;
        self.memory = u128::from(self.count) * u128::from(mean.unsigned_abs());
    }
}

#[derive(Debug)]
pub(super) struct Arrivals {
    is_kept: bool,
    counts: FxHashMap<Shape, Came>,
    total: u64,
    /// pods that left a node, faded as those that came
    left: u64,
    next: u64,
    learnt: Arc<Learnt>,
}

impl Default for Arrivals {
    fn default() -> Self {
        Self {
            is_kept: false,
            counts: FxHashMap::default(),
            total: 0,
            left: 0,
            next: FIRST,
            learnt: Arc::default(),
        }
    }
}

impl Arrivals {
    pub(super) fn is_kept(&self) -> bool {
        self.is_kept
    }

    pub(super) fn learnt(&self) -> &Arc<Learnt> {
        &self.learnt
    }

    fn count(&mut self, shape: Shape, memory: i64) {
        if self.counts.len() >= SHAPES_MAX && !self.counts.contains_key(&shape) {
            return;
        }
        let came = self.counts.entry(shape).or_default();
        came.count += 1;
        came.memory += u128::from(memory.max(0).unsigned_abs());
        self.total += 1;
        if self.total < self.next {
            return;
        }
        let epoch = self.learnt.epoch + 1;
        let turnover = (self.left as f64 / self.total as f64).min(1.0);
        self.learnt = Arc::new(Learnt { epoch, shapes: self.shapes(), turnover });
        if self.total >= HALVED_AT {
            self.counts.retain(|_, came| {
                came.halve();
                came.count > 0
            });
            self.total /= 2;
            self.left /= 2;
        }
        self.next = (2 * self.total).min(HALVED_AT);
    }

    fn shapes(&self) -> Vec<Expected> {
        let mut counts: Vec<_> = self.counts.iter().collect();
        counts.sort_by(|(a, of_a), (b, of_b)| (of_b.count, *a).cmp(&(of_a.count, *b)));
        let all: u64 = self.counts.values().map(|came| came.count).sum();
        let expected = |(shape, came): (&Shape, &Came)| Expected {
            shape: shape.clone(),
            memory: came.memory(),
            count: came.count,
            part: came.count as f64 / all as f64,
        };
        counts.into_iter().map(expected).collect()
    }
}

impl Shape {
    /// That of a class. A part by memory counts as half a device: its size depends on the node.
    #[must_use]
    pub fn of(class: &PodClass) -> Self {
        let request = |name: &str| {
            let found = class.requests.iter().find(|(n, _)| &**n == name);
            found.map_or(0, |(_, amount)| *amount)
        };
        let whole = usize::try_from(request(GPU)).unwrap_or(0);
        let (gpus, milli) = match class.gpu_part {
            None => (whole, if whole > 0 { DEVICE } else { 0 }),
            Some(part) => match part.amount {
                PartAmount::Milli(milli) => (usize::from(part.count), milli),
                PartAmount::Bytes(_) => (1, DEVICE / 2),
            },
        };
        Self { cpu: request("cpu"), milli, gpus, models: models(class) }
    }
}

/// The models that a class names: by its node selector, or by its one required term.
fn models(class: &PodClass) -> Vec<Box<str>> {
    let selected = class.node_selector.iter().find(|(key, _)| &**key == PRODUCT_LABEL);
    if let Some((_, model)) = selected {
        return vec![model.clone()];
    }
    let Some([term]) = class.required.as_deref() else { return Vec::new() };
    let named = term.expressions.iter().find(|requirement| {
        &*requirement.key == PRODUCT_LABEL && requirement.operator == Operator::In
    });
    named.map_or(Vec::new(), |requirement| requirement.values.clone())
}

impl Cluster {
    /// Has arrivals counted: a score learns from them.
    pub fn keep_arrivals(&mut self) {
        self.arrivals.is_kept = true;
    }

    /// Counts a pod that came to be placed.
    pub fn arrived(&mut self, class: ClassId) {
        if self.arrivals.is_kept {
            let class = self.classes.get(class);
            let (shape, memory) = (Shape::of(&class.spec), class.request(MEMORY));
            self.arrivals.count(shape, memory);
        }
    }

    /// Counts a pod that left its node.
    pub fn departed(&mut self) {
        self.arrivals.left += 1;
    }

    /// What was learnt of the pods that come.
    #[must_use]
    pub fn learnt(&self) -> &Arc<Learnt> {
        &self.arrivals.learnt
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_comes_is_learnt_at_doublings_and_old_arrivals_fade() {
        let mut arrivals = Arrivals::default();
        let shape = |cpu| Shape { cpu, ..Shape::default() };
        let mut epochs = Vec::new();
        for number in 0..60_000u64 {
            // another workload after the first 20,000
            let cpu = if number < 20_000 { 1 } else { 2 + i64::from(number % 4 == 0) };
            arrivals.count(shape(cpu), cpu << 30);
            if arrivals.learnt.epoch as usize > epochs.len() {
                epochs.push(number + 1);
            }
        }
        let doublings = [100, 200, 400, 800, 1600, 3200, 6400, 12_800, 20_000];
        assert_eq!(epochs[..9], doublings);
        assert_eq!(epochs[9..], [30_000, 40_000, 50_000, 60_000]);
        let parts: Vec<(i64, u64)> = arrivals
            .learnt
            .shapes
            .iter()
            .map(|known| (known.shape.cpu, (known.part * 100.0).round() as u64))
            .collect();
        assert_eq!(parts, [(2, 70), (3, 23), (1, 6)]);
        let memory = |known: &Expected| known.memory == known.shape.cpu << 30;
        assert!(arrivals.learnt.shapes.iter().all(memory), "means do not fade");
    }

    #[test]
    fn memory_is_a_mean_and_equally_common_shapes_come_by_size() {
        let mut arrivals = Arrivals::default();
        for number in 0..100 {
            let shape = Shape { cpu: 8 - number % 4, ..Shape::default() };
            arrivals.count(shape, if number < 48 { 10 } else { 30 + (number % 4) * 4 });
        }
        let known: Vec<(i64, i64)> =
            arrivals.learnt.shapes.iter().map(|known| (known.shape.cpu, known.memory)).collect();
        assert_eq!(known, [(5, 26), (6, 24), (7, 22), (8, 20)]);
    }
}
