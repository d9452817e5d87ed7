//! What others report of the GPUs of a node: drivers of dynamic resource allocation, each GPU by
//! itself, and NodeResourceTopology objects, how many there are on each NUMA node.

use super::{DEVICES_MAX, GpuTopology, Link};

/// A GPU, as far as it is reported.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct ReportedGpu {
    /// Its NUMA node.
    pub numa: Option<u8>,
    /// The PCIe host bridge it is behind.
    pub root: Option<Box<str>>,
}

/// The GPUs of a node, in the order of their indexes.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Reported {
    gpus: Vec<ReportedGpu>,
    /// NUMA nodes that are nearer to each other than others of the machine, the lower first
    near: Vec<(u8, u8)>,
    product: Option<Box<str>>,
    /// they are counted, and it is not known whether what is counted are GPUs
    counted: bool,
}

impl Reported {
    /// GPUs that a driver names, and the product they all are, if it is one. `None`: none, or too
    /// many.
    #[must_use]
    pub fn named(gpus: Vec<ReportedGpu>, product: Option<Box<str>>) -> Option<Self> {
        let said = (1..=DEVICES_MAX).contains(&gpus.len());
        said.then(|| Self { gpus, product, ..Self::default() })
    }

    /// So many GPUs on each NUMA node. That indexes follow the numbers of NUMA nodes is
    /// **assumed**. `near` has NUMA nodes that are nearer than others, the lower first. `None`:
    /// none, or too many.
    #[must_use]
    pub fn counted(counts: &[(u8, usize)], near: Vec<(u8, u8)>) -> Option<Self> {
        let total = counts.iter().try_fold(0usize, |all, (_, count)| all.checked_add(*count))?;
        if !(1..=DEVICES_MAX).contains(&total) {
            return None;
        }
        let of = |(numa, count): &(u8, usize)| {
            std::iter::repeat_n(ReportedGpu { numa: Some(*numa), root: None }, *count)
        };
        let gpus = counts.iter().flat_map(of).collect();
        Some(Self { gpus, near, counted: true, ..Self::default() })
    }

    /// How many GPUs there are.
    #[must_use]
    #[allow(clippy::len_without_is_empty)] // never empty
    pub fn len(&self) -> usize {
        self.gpus.len()
    }

    /// What all of them are.
    pub(super) fn product(&self) -> Option<&str> {
        self.product.as_deref()
    }

    /// Whether it can be of a node that says how many GPUs it has, or does not.
    pub(super) fn agrees(&self, count: Option<usize>) -> bool {
        count.map_or(!self.counted, |count| count == self.len())
    }

    /// How they are joined: by NVLink where that is `known` of the machine, else as it is reported.
    /// A host bridge that two share is on their way, or something nearer: `PHB` is the least that
    /// this says. NUMA nodes that are nearer than others count as one.
    pub(super) fn joined(&self, known: Option<GpuTopology>) -> Option<GpuTopology> {
        let all = |count: usize| 0..count;
        let reported: Option<Vec<u8>> = self.gpus.iter().map(|gpu| gpu.numa).collect();
        let rooted = self.gpus.iter().all(|gpu| gpu.root.is_some());
        if reported.is_none() && !rooted {
            return known;
        }
        let assumed = || known.as_ref().and_then(|k| all(k.len()).map(|gpu| k.numa(gpu)).collect());
        let numa = reported.or_else(assumed).unwrap_or_default();
        let link = |a: usize, b: usize| {
            let nvlink = known.as_ref().map(|known| known.link(a, b)).filter(|l| l.is_nvlink());
            nvlink.unwrap_or_else(|| match numa.get(a).zip(numa.get(b)) {
                _ if rooted && self.gpus[a].root == self.gpus[b].root => Link::Phb,
                Some((one, other)) if one == other || self.is_near(*one, *other) => Link::Node,
                _ => Link::Sys,
            })
        };
        GpuTopology::new(self.len(), numa.clone(), link).ok().or(known.clone())
    }

    fn is_near(&self, one: u8, other: u8) -> bool {
        self.near.contains(&(one.min(other), one.max(other)))
    }
}
