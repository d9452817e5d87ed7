//! Resource names as small numbers.

use crate::model::NarrowedName;
use crate::model::claim::{by_claim, by_plugin, is_way};
use crate::model::contract::SLOTS;
use rustc_hash::FxHashMap;

/// A known resource.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct ResourceId(u16);

/// `cpu`, in milli-CPU.
pub const CPU: ResourceId = ResourceId(0);
/// `memory`, in bytes.
pub const MEMORY: ResourceId = ResourceId(1);
/// `ephemeral-storage`, in bytes.
pub const EPHEMERAL_STORAGE: ResourceId = ResourceId(2);
/// `pods`: every pod takes one.
pub const PODS: ResourceId = ResourceId(3);

const FIXED: [&str; 4] = ["cpu", "memory", "ephemeral-storage", "pods"];

/// Most resource names kept. Names come from nodes and queues, never from pods, so a tenant cannot
/// fill it; a node that offers more is believed to offer none of the excess.
pub(super) const RESOURCES_MAX: usize = 512;
/// Of these, names of narrowed resources: a queue that names more is not held to the excess.
pub(super) const NARROWED_MAX: usize = 256;

/// What a node has of a resource that is bounded only where a node says so: more than pods ask for,
/// and the sum over 2^20 nodes does not overflow.
const UNBOUNDED: i64 = 1 << 40;

impl ResourceId {
    /// Index of the resource's column.
    #[must_use]
    pub fn index(self) -> usize {
        usize::from(self.0)
    }
}

/// A resource that is given by two ways: see [`crate::model::claim`].
#[derive(Clone, Copy, Debug)]
pub(super) struct Ways {
    pub(super) base: ResourceId,
    pub(super) by_claim: ResourceId,
    pub(super) by_plugin: ResourceId,
}

/// The names that nodes offer.
#[derive(Debug)]
pub struct ResourceTable {
    names: Vec<Box<str>>,
    /// `[resource]`
    gpus: Vec<bool>,
    narrowed: usize,
    ways: Vec<Ways>,
    ids: FxHashMap<Box<str>, ResourceId>,
}

impl Default for ResourceTable {
    fn default() -> Self {
        let mut table = Self {
            names: Vec::new(),
            gpus: Vec::new(),
            narrowed: 0,
            ways: Vec::new(),
            ids: FxHashMap::default(),
        };
        FIXED.iter().for_each(|name| table.intern(name));
        table
    }
}

impl ResourceTable {
    /// Makes a name known; of a resource that claims are given the three names that go with it.
    pub(super) fn intern(&mut self, name: &str) {
        let Some(base) = claimed(name) else { return self.intern_one(name) };
        let plugin = by_plugin(base);
        if self.ids.contains_key(name) || self.names.len() + 3 > RESOURCES_MAX {
            return;
        }
        [base, name, &plugin].into_iter().for_each(|name| self.intern_one(name));
        let found = [base, name, &plugin].map(|name| self.find(name));
        if let [Some(base), Some(by_claim), Some(by_plugin)] = found {
            self.ways.push(Ways { base, by_claim, by_plugin });
        }
    }

    fn intern_one(&mut self, name: &str) {
        if self.ids.contains_key(name) || self.names.len() >= RESOURCES_MAX {
            return;
        }
        let is_narrowed = NarrowedName::parse(name).is_some();
        if is_narrowed && self.narrowed >= NARROWED_MAX {
            return;
        }
        self.narrowed += usize::from(is_narrowed);
        let id = u16::try_from(self.names.len()).expect("RESOURCES_MAX fits a u16");
        self.names.push(name.into());
        self.gpus.push(is_gpu(name));
        self.ids.insert(name.into(), ResourceId(id));
    }

    /// The resources that are given by two ways.
    pub(super) fn ways(&self) -> &[Ways] {
        &self.ways
    }

    /// The id of a known name.
    #[must_use]
    pub fn find(&self, name: &str) -> Option<ResourceId> {
        self.ids.get(name).copied()
    }

    /// The name of a resource.
    #[must_use]
    pub fn name(&self, resource: ResourceId) -> &str {
        &self.names[resource.index()]
    }

    /// Whether a resource is a GPU or a slice of one, see [`is_gpu`]. O(1).
    #[must_use]
    pub fn is_gpu(&self, resource: ResourceId) -> bool {
        self.gpus[resource.index()]
    }

    /// What a node has of a resource that it does not offer: no end of slots, and nothing else.
    pub(super) fn unless_offered(&self, resource: ResourceId) -> i64 {
        if SLOTS.contains(&self.name(resource)) { UNBOUNDED } else { 0 }
    }

    /// All known resources.
    pub fn iter(&self) -> impl Iterator<Item = ResourceId> + use<> {
        (0..self.names.len())
            .map(|index| ResourceId(u16::try_from(index).expect("RESOURCES_MAX fits a u16")))
    }

    /// Number of known resources.
    #[must_use]
    #[allow(clippy::len_without_is_empty)] // never empty: four names are fixed
    pub fn len(&self) -> usize {
        self.names.len()
    }
}

/// The resource whose way by claim a name is.
fn claimed(name: &str) -> Option<&str> {
    let (base, _) = name.split_once(' ')?;
    (*by_claim(base) == *name).then_some(base)
}

/// A time-sliced device, where the device plugin renames them.
const SHARED: &str = "nvidia.com/gpu.shared";

/// Whether a resource is a GPU or a slice of one: whole devices of the common vendors, and NVIDIA's
/// MIG slices and time-sliced devices. What parts of shared GPUs are counted in is none: see
/// [`crate::model::gpu_part`].
#[must_use]
pub fn is_gpu(name: &str) -> bool {
    let devices =
        ["nvidia.com/gpu", "amd.com/gpu", "gpu.intel.com/i915", "gpu.intel.com/xe", SHARED];
    (devices.contains(&name) || name.starts_with("nvidia.com/mig-")) && !is_way(name)
}
