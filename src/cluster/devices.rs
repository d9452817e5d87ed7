//! Which GPUs are ours to share, and how much of each is given out.
//!
//! They are those that holder pods own: no kubelet gives them to others. A node without holders
//! has no entry here, and costs nothing.

use super::{Class, ClassId, Cluster, NodeIndex, PodIndex, ResourceId};
use crate::model::DeviceSet;
use crate::model::fault::{Fault, is_made};
use crate::model::gpu_part::{DEVICE, GPU, GPU_BYTES, GPU_MILLI};
use crate::model::gpu_request::gpu_memory;
use smallvec::SmallVec;

/// What is left of devices, in thousandths, by device.
pub type Left = SmallVec<[u16; 8]>;

/// What a pod takes of shared devices of one node.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Held {
    /// Whose it is.
    pub pod: PodIndex,
    /// Of which devices.
    pub devices: DeviceSet,
    /// Thousandths of each.
    pub milli: u16,
    /// Whether that is known; else it is counted as the most that it can be.
    pub sure: bool,
}

/// What a pod asks of the devices of one node.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct DeviceAsk {
    /// How many devices.
    pub count: usize,
    /// Thousandths of each: below [`DEVICE`] only if the count is 1.
    pub milli: u16,
}

impl DeviceAsk {
    /// Whether it is for less than a device.
    #[must_use]
    pub fn is_fraction(self) -> bool {
        self.milli < DEVICE
    }

    /// Thousandths of all devices together.
    #[must_use]
    pub fn total(self) -> i64 {
        i64::from(self.milli) * i64::try_from(self.count).unwrap_or(i64::MAX / 1000)
    }
}

/// The shared devices of one node.
#[derive(Clone, Debug, Default)]
pub struct SharedDevices {
    holders: SmallVec<[(PodIndex, DeviceSet); 1]>,
    /// those that just one holder owns
    ours: DeviceSet,
    /// bytes of each device
    memory: Option<i64>,
    /// thousandths given out, by device; above [`DEVICE`] only if pods say so that were bound
    taken: SmallVec<[u32; 8]>,
    held: SmallVec<[Held; 8]>,
}

impl SharedDevices {
    /// The devices that can be given out.
    #[must_use]
    pub fn ours(&self) -> DeviceSet {
        self.ours
    }

    /// Bytes of each device, where the node says so.
    #[must_use]
    pub fn memory(&self) -> Option<i64> {
        self.memory
    }

    /// What pods hold, in no order.
    #[must_use]
    pub fn held(&self) -> &[Held] {
        &self.held
    }

    /// Thousandths that can be given out of a device.
    #[must_use]
    pub fn left(&self, device: usize) -> u16 {
        if !self.ours.contains(device) {
            return 0;
        }
        let taken = self.taken.get(device).copied().unwrap_or(0);
        u16::try_from(u32::from(DEVICE).saturating_sub(taken)).expect("at most 1000")
    }

    /// What is left of each device of ours, ascending by device.
    pub fn lefts(&self) -> impl Iterator<Item = (usize, u16)> + '_ {
        self.ours.iter().map(|device| (device, self.left(device)))
    }

    fn set_holder(&mut self, pod: PodIndex, devices: DeviceSet) {
        self.holders.retain(|(other, _)| *other != pod);
        if !devices.is_empty() {
            self.holders.push((pod, devices));
        }
        let (mut once, mut twice) = (DeviceSet::EMPTY, DeviceSet::EMPTY);
        for (_, devices) in &self.holders {
            twice = twice.union(once.common(*devices));
            once = once.union(*devices);
        }
        self.ours = once.minus(twice);
    }

    fn count(&mut self, held: Held, sign: bool) {
        for device in held.devices.iter() {
            if self.taken.len() <= device {
                self.taken.resize(device + 1, 0);
            }
            let (taken, milli) = (&mut self.taken[device], u32::from(held.milli));
            *taken = match sign {
                true => *taken + milli,
                false => taken.checked_sub(milli).expect("D1: more comes back than was given"),
            };
        }
    }
}

#[derive(Debug, Default)]
pub(super) struct DeviceTable {
    of_node: Vec<Option<Box<SharedDevices>>>,
}

impl DeviceTable {
    pub(super) fn grow(&mut self, slots: usize) {
        self.of_node.resize_with(slots, || None);
    }

    pub(super) fn clear(&mut self, node: NodeIndex) {
        self.of_node[node.index()] = None;
    }

    fn entry(&mut self, node: NodeIndex) -> &mut SharedDevices {
        self.of_node[node.index()].get_or_insert_default()
    }
}

impl Cluster {
    /// The shared devices of a node, if there are, or were, any.
    #[must_use]
    pub fn shared_devices(&self, node: NodeIndex) -> Option<&SharedDevices> {
        self.devices.of_node[node.index()].as_deref()
    }

    /// The resource of whole devices, if some node has any.
    #[must_use]
    pub fn gpu(&self) -> Option<ResourceId> {
        self.gpu
    }

    /// What the class asks of the devices of a node: shared ones, or those that the kubelet gives.
    /// `None`: of none, or of a size that no device of the node has.
    #[must_use]
    pub fn device_ask(&self, class: &Class, node: NodeIndex) -> Option<DeviceAsk> {
        if let Some(part) = class.spec.gpu_part {
            let milli = part.milli(self.shared_devices(node)?.memory)?;
            return Some(DeviceAsk { count: usize::from(part.count), milli });
        }
        let count = usize::try_from(class.request(self.gpu?)).ok().filter(|count| *count > 0)?;
        Some(DeviceAsk { count, milli: DEVICE })
    }

    /// What is left of the devices that pods of the class could get: of shared ones, by device; of
    /// others as many whole ones as are free, then those that are not.
    #[must_use]
    pub fn devices_left(&self, class: &Class, node: NodeIndex) -> Left {
        let whole = self.gpu.filter(|gpu| class.request(*gpu) > 0);
        let shared = self.shared_devices(node).filter(|shared| !shared.ours.is_empty());
        if let Some(shared) = shared.filter(|_| whole.is_none()) {
            return shared.lefts().map(|(_, left)| left).collect();
        }
        let Some(gpu) = self.gpu.filter(|_| class.spec.gpu_part.is_none()) else {
            return Left::new();
        };
        let all = self.allocatable(gpu, node).max(0);
        let free = (all - self.requested(gpu, node)).clamp(0, all);
        let count = |devices| usize::try_from(devices).expect("clamped");
        let mut left = Left::from_elem(DEVICE, count(free));
        left.resize(count(all), 0);
        left
    }

    /// How many more pods of the class fit on shared devices; beyond `most` it does not count.
    pub(super) fn device_room(&self, class: &Class, node: NodeIndex, most: u32) -> u32 {
        if class.spec.gpu_part.is_none() {
            return most;
        }
        let ask = self.device_ask(class, node);
        let Some((shared, ask)) = self.shared_devices(node).zip(ask) else { return 0 };
        let on_one = |(_, left): (usize, u16)| usize::from(left / ask.milli);
        let pods = shared.lefts().map(on_one).sum::<usize>() / ask.count;
        u32::try_from(pods).unwrap_or(most).min(most)
    }

    /// The devices that a pod of the class takes unless a score chooses others: for a fraction the
    /// fullest that has room, of free ones those that are joined best, or the first. None where
    /// too little is left.
    #[must_use]
    pub fn choose_devices(&self, class: &Class, node: NodeIndex) -> Option<DeviceSet> {
        let ask = self.device_ask(class, node)?;
        let shared = self.shared_devices(node)?;
        let with_room = shared.lefts().filter(|(_, left)| *left >= ask.milli);
        if ask.is_fraction() {
            let fullest = with_room.min_by_key(|(device, left)| (*left, *device));
            return fullest.map(|(device, _)| DeviceSet::one(device));
        }
        let free: DeviceSet = with_room.map(|(device, _)| device).collect();
        if free.len() < ask.count {
            return None;
        }
        let joined = self.node(node).node.as_ref().and_then(|node| node.gpus.as_ref());
        let known = joined.filter(|gpus| free.minus(gpus.all()).is_empty());
        let first = || free.iter().take(ask.count).collect();
        Some(known.and_then(|gpus| gpus.choose(free, ask.count)).unwrap_or_else(first))
    }

    /// Gives a pod devices for good, until [`Cluster::give_back`].
    ///
    /// # Panics
    /// If a device were given out beyond [`DEVICE`] (D1).
    pub fn give(&mut self, class: ClassId, pod: PodIndex, node: NodeIndex, devices: DeviceSet) {
        let ask = self.device_ask(self.class(class), node).expect("only what fits is given");
        let shared = self.devices.entry(node);
        let fits = devices.iter().all(|device| shared.left(device) >= ask.milli);
        assert!(fits && devices.len() == ask.count, "D1: more than a device is given out");
        let milli = if is_made(Fault::PartNotCounted) { 0 } else { ask.milli };
        self.hold(node, Held { pod, devices, milli, sure: true });
    }

    /// Takes in what a pod holds, whether or not it should.
    pub fn hold(&mut self, node: NodeIndex, held: Held) {
        let shared = self.devices.entry(node);
        shared.count(held, true);
        shared.held.push(held);
    }

    /// What a pod holds of a node's devices.
    #[must_use]
    pub fn held_by(&self, pod: PodIndex, node: NodeIndex) -> Option<Held> {
        let held = &self.shared_devices(node)?.held;
        held.iter().find(|held| held.pod == pod).copied()
    }

    /// Takes back what a pod holds, if anything.
    pub fn give_back(&mut self, pod: PodIndex, node: NodeIndex) -> Option<Held> {
        let shared = self.devices.of_node[node.index()].as_mut()?;
        let place = shared.held.iter().position(|held| held.pod == pod)?;
        let held = shared.held.swap_remove(place);
        shared.count(held, false);
        Some(held)
    }

    /// Takes in which devices of its node a holder owns; none: it is no holder any more.
    /// `true`: resources became known, so that requests must be counted anew.
    pub fn set_holder(&mut self, pod: PodIndex, node: NodeIndex, devices: DeviceSet) -> bool {
        let known = self.shared_devices(node).and_then(|shared| {
            shared.holders.iter().find(|(holder, _)| *holder == pod).map(|(_, devices)| *devices)
        });
        if known.unwrap_or_default() == devices {
            return false;
        }
        self.devices.entry(node).set_holder(pod, devices);
        let grown = self.know_resources([GPU_MILLI, GPU_BYTES].into_iter());
        self.offer_shared(node);
        self.changes.record(node, super::Change::Facts);
        grown
    }

    /// Has a node offer what its shared devices are, and nothing else under these names.
    pub(super) fn offer_shared(&mut self, node: NodeIndex) {
        let object = self.nodes.entry(node).node.as_ref();
        let memory = object.and_then(gpu_memory).map(|mib| mib.saturating_mul(1 << 20));
        let exists = object.is_some();
        let shared = self.devices.of_node[node.index()].as_mut();
        let count = shared.map_or(0, |shared| {
            shared.memory = memory;
            if exists { i64::try_from(shared.ours.len()).expect("at most 64") } else { 0 }
        });
        let offers = [
            (GPU_MILLI, count * i64::from(DEVICE)),
            (GPU_BYTES, count.saturating_mul(memory.unwrap_or(0))),
        ];
        for (name, amount) in offers {
            if let Some(resource) = self.resources.find(name) {
                self.allocatable[resource.index()][node.index()] = amount;
            }
        }
    }

    /// Notes which resource whole devices are.
    pub(super) fn find_gpu(&mut self) {
        self.gpu = self.resources.find(GPU);
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::model::gpu_part::PartAmount;
    use crate::model::{GpuPart, Node, PodClass};

    fn world() -> (Cluster, NodeIndex) {
        let mut cluster = Cluster::default();
        let allocatable = vec![(GPU.into(), 2), ("pods".into(), 110)];
        let labels = vec![("nvidia.com/gpu.memory".into(), "16384".into())];
        let node = Node { name: "n".into(), labels, allocatable, ..Node::default() };
        let _ = cluster.apply_node(node);
        let node = cluster.find_node("n").expect("it was applied");
        assert!(cluster.set_holder(PodIndex(9), node, DeviceSet::lowest(2)));
        (cluster, node)
    }

    fn class(cluster: &mut Cluster, count: u8, amount: PartAmount) -> ClassId {
        let mut class = PodClass::default();
        class.set_gpu_part(Some(GpuPart { count, amount, packed: false }));
        cluster.acquire_class(class)
    }

    fn take(cluster: &mut Cluster, pod: u32, class: ClassId, node: NodeIndex) -> Option<DeviceSet> {
        let devices = cluster.choose_devices(cluster.class(class), node)?;
        cluster.give(class, PodIndex(pod), node, devices);
        Some(devices)
    }

    #[test]
    fn a_part_goes_to_the_fullest_device_with_room() {
        let (mut cluster, node) = world();
        for (pod, milli, device) in [(0, 600, 0), (1, 500, 1), (2, 400, 0)] {
            let class = class(&mut cluster, 1, PartAmount::Milli(milli));
            let devices = take(&mut cluster, pod, class, node);
            assert_eq!(devices, Some(DeviceSet::one(device)), "a part of {milli}");
        }
        let half = class(&mut cluster, 1, PartAmount::Bytes(8 << 30));
        let more = class(&mut cluster, 1, PartAmount::Bytes((8 << 30) + 1));
        let whole = class(&mut cluster, 1, PartAmount::Milli(1000));
        assert_eq!(cluster.room_for(cluster.class(half), node, 10), 1);
        assert_eq!(cluster.room_for(cluster.class(more), node, 10), 0);
        assert_eq!(cluster.room_for(cluster.class(whole), node, 10), 0);
        cluster.give_back(PodIndex(1), node).expect("it held some");
        assert_eq!(take(&mut cluster, 3, whole, node), Some(DeviceSet::one(1)));
        assert_eq!(take(&mut cluster, 4, half, node), None);
    }

    #[test]
    #[should_panic(expected = "D1: more than a device is given out")]
    fn no_device_is_given_out_twice() {
        let (mut cluster, node) = world();
        let class = class(&mut cluster, 1, PartAmount::Milli(600));
        for pod in 0..2 {
            cluster.give(class, PodIndex(pod), node, DeviceSet::one(0));
        }
    }

    #[test]
    fn what_two_holders_own_is_nobodys() {
        let (mut cluster, node) = world();
        cluster.set_holder(PodIndex(8), node, [1, 2].into_iter().collect());
        let ours = |cluster: &Cluster| cluster.shared_devices(node).expect("some").ours();
        assert_eq!(ours(&cluster), [0, 2].into_iter().collect());
        cluster.set_holder(PodIndex(9), node, DeviceSet::EMPTY);
        assert_eq!(ours(&cluster), [1, 2].into_iter().collect());
    }
}
