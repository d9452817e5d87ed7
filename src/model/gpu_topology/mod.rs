//! How the GPUs of one node are joined, and which of them belong together.
//!
//! Devices have the indexes of `nvidia-smi`, which are in the order of the PCI bus. Of every two of
//! them the best link is known, as `nvidia-smi topo -m` prints it, and of each, perhaps, the NUMA
//! node. [`GpuTopology::choose`] says which devices a pod is best given.

mod choose;
mod known;
mod reported;
mod set;
mod smi;
mod text;

#[cfg(test)]
mod tests;

pub use known::{COUNT_LABEL, PRODUCT_LABEL, of_node};
pub use reported::{Reported, ReportedGpu};
pub use set::{DeviceSet, device_index};

use std::fmt;

/// Most devices of a node. The largest machines have sixteen.
pub const DEVICES_MAX: usize = 64;
/// Most ways to take some of each kind of device, which bounds the search for the best set. Sixteen
/// devices of which no two are alike have 65,536, and four NUMA nodes of sixteen alike 83,521.
const CHOICES_MAX: u64 = 100_000;

/// What joins two devices, weakest first. Words and meanings are those of `nvidia-smi topo -m`.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Link {
    /// PCIe and the link between sockets. `SOC` in old drivers.
    Sys,
    /// PCIe and the link between host bridges of one NUMA node.
    Node,
    /// PCIe through a host bridge.
    Phb,
    /// Several PCIe bridges, no host bridge.
    Pxb,
    /// One PCIe bridge at most.
    Pix,
    /// One PCIe bridge on the board of both.
    Psb,
    /// That many NVLinks, bonded.
    Nv(u8),
}

impl Link {
    /// How much a pair that is joined so counts: the score that NVIDIA's own allocator gives it
    /// (go-gpuallocator, `calculateGPUPairScore`), so that both agree on which set is better. Links
    /// of equal weight do not exist, and a stronger link weighs more.
    #[must_use]
    pub fn weight(self) -> u32 {
        match self {
            Self::Sys => 10,
            Self::Node => 20,
            Self::Phb => 30,
            Self::Pxb => 40,
            Self::Pix => 50,
            Self::Psb => 60,
            Self::Nv(links) => 100 * u32::from(links),
        }
    }

    /// Reads a word of `nvidia-smi topo -m`.
    #[must_use]
    pub fn parse(word: &str) -> Option<Self> {
        Some(match word {
            "SYS" | "SOC" => Self::Sys,
            "NODE" => Self::Node,
            "PHB" => Self::Phb,
            "PXB" => Self::Pxb,
            "PIX" => Self::Pix,
            "PSB" => Self::Psb,
            word => {
                let digits = word.strip_prefix("NV")?;
                let plain = digits.starts_with(|first: char| ('1'..='9').contains(&first));
                Self::Nv(digits.parse().ok().filter(|_| plain)?)
            }
        })
    }

    /// Whether it is NVLink.
    #[must_use]
    pub fn is_nvlink(self) -> bool {
        matches!(self, Self::Nv(_))
    }
}

impl fmt::Display for Link {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Sys => "SYS",
            Self::Node => "NODE",
            Self::Phb => "PHB",
            Self::Pxb => "PXB",
            Self::Pix => "PIX",
            Self::Psb => "PSB",
            Self::Nv(links) => return write!(f, "NV{links}"),
        })
    }
}

/// Why a text says no topology. Whoever wrote the text must mend it; nothing is retried.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct TopologyError(Box<str>);

impl fmt::Display for TopologyError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

impl std::error::Error for TopologyError {}

fn wrong(problem: impl Into<Box<str>>) -> TopologyError {
    TopologyError(problem.into())
}

/// Devices that are joined alike to all others, and to each other: any of them is as good.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
struct Kind {
    members: DeviceSet,
    /// of the links between its members; meaningless of a single one
    within: u32,
    /// dense number of its NUMA node
    numa: u8,
}

/// How the GPUs of a node are joined.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct GpuTopology {
    gpus: usize,
    /// row by row, whole; the diagonal is not looked at
    links: Vec<Link>,
    /// by device; empty: unknown
    numa: Vec<u8>,
    kinds: Vec<Kind>,
    /// weights between kinds, row by row
    between: Vec<u32>,
}

impl GpuTopology {
    /// A topology of `gpus` devices. `link` is asked once for each pair, the lower index first.
    /// `numa` has the NUMA node of each device, or is empty if they are unknown. O(gpus^2 kinds).
    ///
    /// # Errors
    /// If there are no devices or too many, or too many of them differ to find the best set.
    pub fn new(
        gpus: usize,
        numa: Vec<u8>,
        mut link: impl FnMut(usize, usize) -> Link,
    ) -> Result<Self, TopologyError> {
        if !(1..=DEVICES_MAX).contains(&gpus) {
            return Err(wrong(format!("{gpus} devices: expected 1 to {DEVICES_MAX}")));
        }
        assert!(numa.is_empty() || numa.len() == gpus, "a NUMA node for each device, or none");
        let mut links = vec![Link::Sys; gpus * gpus];
        for (low, high) in pairs(gpus) {
            links[low * gpus + high] = link(low, high);
            links[high * gpus + low] = links[low * gpus + high];
        }
        let mut topology = Self { gpus, links, numa, kinds: Vec::new(), between: Vec::new() };
        topology.sort_out();
        let ways = |kind: &Kind| kind.members.len() as u64 + 1;
        let choices = topology.kinds.iter().try_fold(1u64, |all, kind| all.checked_mul(ways(kind)));
        if choices.is_none_or(|choices| choices > CHOICES_MAX) {
            return Err(wrong(format!(
                "{gpus} devices of {} kinds: the best set cannot be found; at most 16 devices may \
                 all differ in how they are joined",
                topology.kinds.len()
            )));
        }
        Ok(topology)
    }

    /// Finds the kinds.
    fn sort_out(&mut self) {
        for device in 0..self.gpus {
            let twin =
                |kind: &Kind| self.alike(kind.members.first().expect("no kind is empty"), device);
            match self.kinds.iter().position(twin) {
                Some(kind) => {
                    let first = self.kinds[kind].members.first().expect("no kind is empty");
                    self.kinds[kind].within = self.link(first, device).weight();
                    self.kinds[kind].members.insert(device);
                }
                None => {
                    let numa = self.numa_number(device);
                    let members = DeviceSet::one(device);
                    self.kinds.push(Kind { members, within: 0, numa });
                }
            }
        }
        let firsts: Vec<usize> =
            self.kinds.iter().filter_map(|kind| kind.members.first()).collect();
        let weight = |a: usize, b: usize| if a == b { 0 } else { self.link(a, b).weight() };
        let rows = firsts.iter().flat_map(|a| firsts.iter().map(move |b| weight(*a, *b)));
        self.between = rows.collect();
    }

    fn alike(&self, a: usize, b: usize) -> bool {
        let others = (0..self.gpus).filter(|other| *other != a && *other != b);
        self.numa(a) == self.numa(b)
            && others.into_iter().all(|other| self.link(a, other) == self.link(b, other))
    }

    /// Place of the device's NUMA node among all; 0 if they are unknown.
    fn numa_number(&self, device: usize) -> u8 {
        let Some(numa) = self.numa(device) else { return 0 };
        let lower: std::collections::BTreeSet<u8> =
            self.numa.iter().copied().filter(|other| *other < numa).collect();
        u8::try_from(lower.len()).expect("fewer NUMA nodes than devices")
    }

    /// Number of devices.
    #[must_use]
    #[allow(clippy::len_without_is_empty)] // never empty
    pub fn len(&self) -> usize {
        self.gpus
    }

    /// All devices.
    #[must_use]
    pub fn all(&self) -> DeviceSet {
        DeviceSet::lowest(self.gpus)
    }

    /// What joins two different devices.
    #[must_use]
    pub fn link(&self, a: usize, b: usize) -> Link {
        self.links[a * self.gpus + b]
    }

    /// NUMA node of a device, if it is known.
    #[must_use]
    pub fn numa(&self, device: usize) -> Option<u8> {
        self.numa.get(device).copied()
    }

    /// The weakest link within a set; `None` if it has no two devices.
    #[must_use]
    pub fn weakest(&self, set: DeviceSet) -> Option<Link> {
        let devices: Vec<usize> = set.iter().filter(|device| *device < self.gpus).collect();
        let links = pairs(devices.len()).map(|(a, b)| self.link(devices[a], devices[b]));
        links.min()
    }

    /// Whether NVLink joins each device to each: then it joins any that are taken.
    #[must_use]
    pub fn is_one_island(&self) -> bool {
        self.weakest(self.all()).is_none_or(Link::is_nvlink)
    }

    /// The sets that NVLink holds together, those of one device included, by lowest index.
    #[must_use]
    pub fn islands(&self) -> Vec<DeviceSet> {
        let mut left = self.all();
        let mut islands = Vec::new();
        while let Some(first) = left.first() {
            let mut island = DeviceSet::one(first);
            let joined = |device: usize, island: DeviceSet| {
                island.iter().any(|other| other != device && self.link(device, other).is_nvlink())
            };
            while let Some(next) = left.minus(island).iter().find(|next| joined(*next, island)) {
                island.insert(next);
            }
            left = left.minus(island);
            islands.push(island);
        }
        islands
    }
}

/// All pairs of indexes below `count`, the lower first.
fn pairs(count: usize) -> impl Iterator<Item = (usize, usize)> {
    (0..count).flat_map(move |low| (low + 1..count).map(move |high| (low, high)))
}
