//! The best set of some devices.
//!
//! What is best, in this order:
//!
//! 1. The weakest link within the set is as strong as can be. A ring, a tree and an exchange of
//!    all with all run at the pace of the slowest link that they cannot avoid (NCCL searches rings
//!    by the least bandwidth along them, `ncclTopoCompute`), and which pairs a program joins is not
//!    known beforehand: the ranks of tensor parallelism are numbered by the program.
//! 2. The sum over its pairs is greatest.
//! 3. Most of its pairs lie on one NUMA node, which is near to the same CPUs and, commonly, the
//!    same network adapters. Where all pairs are alike, as behind NVSwitch, this decides.
//! 4. The sum over the pairs of the free devices that remain is greatest: what is whole stays so.
//! 5. Most of those pairs lie on one NUMA node.
//! 6. The lowest indexes, so that the answer is one.
//!
//! The search is exact. Devices that are joined alike are interchangeable, so that it only counts
//! how many of each kind are taken: 25 ways for two islands of four, at most 12,870 for sixteen
//! devices of which no two are alike. Branches whose weakest link is too weak already are left out.

use super::{DEVICES_MAX, DeviceSet, GpuTopology};

/// How good a set is: greater is better, in the order of the fields.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
struct Worth {
    weakest: u32,
    sum: u32,
    near: u32,
    rest: u32,
    rest_near: u32,
}

/// What has been taken of the kinds looked at so far.
#[derive(Clone, Copy, Debug)]
struct Taken {
    weakest: u32,
    sum: u32,
    near: u32,
    /// over the devices taken, of the links of each to all that are free
    degrees: u32,
    devices: DeviceSet,
}

struct Search<'a> {
    topology: &'a GpuTopology,
    /// free devices of each kind
    free: Vec<DeviceSet>,
    /// free devices of the kind and those after it
    beyond: Vec<usize>,
    /// sum of the links of one device of the kind to all that are free
    degree: Vec<u32>,
    /// over all pairs of free devices
    total: u32,
    /// taken of each kind so far
    counts: Vec<u32>,
    /// free, and taken so far, of each NUMA node
    numa: [(u32, u32); DEVICES_MAX],
    best: Option<(Worth, DeviceSet)>,
}

impl GpuTopology {
    /// The best `count` of the free devices; `None` if fewer are free. O(ways to take them of the
    /// kinds), which is bounded where the topology is made.
    #[must_use]
    pub fn choose(&self, free: DeviceSet, count: usize) -> Option<DeviceSet> {
        let free = free.common(self.all());
        if count == 0 || count >= free.len() {
            let all = if count == 0 { DeviceSet::EMPTY } else { free };
            return (count <= free.len()).then_some(all);
        }
        let mut search = Search::new(self, free);
        let (weakest, devices) = (u32::MAX, DeviceSet::EMPTY);
        search.take(0, count, Taken { weakest, sum: 0, near: 0, degrees: 0, devices });
        search.best.map(|(_, set)| set)
    }
}

/// Pairs among some.
fn pairs(of: u32) -> u32 {
    of * of.saturating_sub(1) / 2
}

fn number(count: usize) -> u32 {
    u32::try_from(count).expect("at most DEVICES_MAX")
}

impl<'a> Search<'a> {
    fn new(topology: &'a GpuTopology, free: DeviceSet) -> Self {
        let kinds = &topology.kinds;
        let of_kind: Vec<DeviceSet> = kinds.iter().map(|kind| kind.members.common(free)).collect();
        let mut beyond = vec![0; kinds.len() + 1];
        let mut degree = vec![0; kinds.len()];
        let mut numa = [(0, 0); DEVICES_MAX];
        for (index, kind) in kinds.iter().enumerate().rev() {
            let here = number(of_kind[index].len());
            beyond[index] = beyond[index + 1] + of_kind[index].len();
            numa[usize::from(kind.numa)].0 += here;
            let others = of_kind.iter().enumerate().map(|(other, free)| {
                let between = topology.between[index * kinds.len() + other];
                between * number(free.len())
            });
            degree[index] = kind.within * here.saturating_sub(1) + others.sum::<u32>();
        }
        let ends = of_kind.iter().zip(&degree).map(|(free, degree)| number(free.len()) * degree);
        let total = ends.sum::<u32>() / 2;
        let counts = vec![0; kinds.len()];
        Self { topology, free: of_kind, beyond, degree, total, counts, numa, best: None }
    }

    /// Takes `left` more devices of the kinds from `at` on.
    fn take(&mut self, at: usize, left: usize, taken: Taken) {
        if self.best.is_some_and(|(best, _)| taken.weakest < best.weakest) {
            return;
        }
        if left == 0 {
            return self.weigh(taken);
        }
        let free = self.free[at];
        let most = free.len().min(left);
        let least = left.saturating_sub(self.beyond[at + 1]);
        for count in (least..=most).rev() {
            let more = self.with(at, number(count), taken);
            let numa = usize::from(self.topology.kinds[at].numa);
            self.counts[at] = number(count);
            self.numa[numa].1 += number(count);
            self.take(at + 1, left - count, more);
            self.numa[numa].1 -= number(count);
        }
        self.counts[at] = 0;
    }

    /// `taken` with so many of a kind.
    fn with(&self, at: usize, count: u32, taken: Taken) -> Taken {
        if count == 0 {
            return taken;
        }
        let (kinds, kind) = (self.topology.kinds.len(), self.topology.kinds[at]);
        let mut more = taken;
        if count > 1 {
            more.weakest = more.weakest.min(kind.within);
            more.sum += pairs(count) * kind.within;
        }
        for other in (0..at).filter(|other| self.counts[*other] > 0) {
            let between = self.topology.between[at * kinds + other];
            more.weakest = more.weakest.min(between);
            more.sum += count * self.counts[other] * between;
        }
        more.near += pairs(count) + count * self.numa[usize::from(kind.numa)].1;
        more.degrees += count * self.degree[at];
        more.devices = more.devices.union(self.free[at].lowest_of(count as usize));
        more
    }

    fn weigh(&mut self, taken: Taken) {
        let worth = Worth {
            weakest: taken.weakest,
            sum: taken.sum,
            near: taken.near,
            // the links of those taken, inner ones counted twice, are gone
            rest: self.total + taken.sum - taken.degrees,
            rest_near: self.numa.iter().map(|(free, taken)| pairs(free - taken)).sum(),
        };
        let better = self.best.is_none_or(|(best, set)| {
            worth > best || worth == best && taken.devices.is_before(set)
        });
        if better {
            self.best = Some((worth, taken.devices));
        }
    }
}
