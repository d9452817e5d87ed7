//! Which GPUs are ours to share, and how much of each is given out.
//!
//! They are those that holder pods own: no kubelet gives them to others. A node without holders
//! has no entry here, and costs nothing.

use super::{Class, ClassId, Cluster, NodeIndex, PodIndex, ResourceId};
use crate::model::fault::{Fault, is_made};
use crate::model::gpu_part::{DEVICE, GPU, GPU_BYTES, GPU_MILLI};
use crate::model::gpu_request::gpu_memory;
use crate::model::gpu_topology::COUNT_LABEL;
use crate::model::holder::{claimed, unknown};
use crate::model::{DeviceSet, HolderFault, HolderRefusal, Node};
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

/// What a holder says that it owns.
#[derive(Clone, Debug)]
struct Holder {
    pod: PodIndex,
    devices: DeviceSet,
    /// of what it says, and then of what the node is
    refused: [Option<Box<HolderRefusal>>; 2],
}

impl Holder {
    fn refusal(&self) -> Option<&HolderRefusal> {
        self.refused.iter().flatten().map(|refusal| &**refusal).next()
    }
}

/// The shared devices of one node.
#[derive(Clone, Debug, Default)]
pub struct SharedDevices {
    holders: SmallVec<[Holder; 1]>,
    /// those that just one holder owns
    ours: DeviceSet,
    /// those that several say they own
    claimed: DeviceSet,
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

    /// Why a holder of the node is not believed, if one is not.
    #[must_use]
    pub fn fault(&self) -> Option<HolderFault> {
        let refused = self.holders.iter().find_map(Holder::refusal).map(|refusal| refusal.fault);
        refused.or_else(|| (!self.claimed.is_empty()).then_some(HolderFault::Claimed))
    }

    /// The holders, each with what is wrong with what it says.
    pub fn holders(&self) -> impl Iterator<Item = (PodIndex, Option<HolderRefusal>)> + '_ {
        self.holders.iter().map(|holder| {
            let both = holder.devices.common(self.claimed);
            let claimed = || (!both.is_empty()).then(|| claimed(both));
            (holder.pod, holder.refusal().cloned().or_else(claimed))
        })
    }

    fn set_holder(&mut self, pod: PodIndex, devices: DeviceSet, refused: Option<&HolderRefusal>) {
        self.holders.retain(|other| other.pod != pod);
        if !devices.is_empty() || refused.is_some() {
            let refused = [refused.cloned().map(Box::new), None];
            self.holders.push(Holder { pod, devices, refused });
        }
    }

    /// Finds what is ours, on a node with so many devices; 0: that is not known. Holders run there,
    /// so it has as many as they have, though one may be broken since.
    fn find_ours(&mut self, has: usize) {
        let held: usize = self.holders.iter().map(|holder| holder.devices.len()).sum();
        let has = if has > 0 { has.max(held) } else { 0 };
        let (mut once, mut twice) = (DeviceSet::EMPTY, DeviceSet::EMPTY);
        for holder in &mut self.holders {
            let beyond = holder.devices.minus(DeviceSet::lowest(has));
            let is_known = has == 0 || beyond.is_empty();
            holder.refused[1] = (!is_known).then(|| Box::new(unknown(beyond, has)));
            if holder.refusal().is_none() {
                twice = twice.union(once.common(holder.devices));
                once = once.union(holder.devices);
            }
        }
        (self.ours, self.claimed) = (once.minus(twice), twice);
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

    /// Takes in which devices of its node a holder owns, or why what it says is not believed; none
    /// of either: it is no holder any more. `true`: resources became known, so requests are to be
    /// counted anew.
    pub fn set_holder(
        &mut self,
        pod: PodIndex,
        node: NodeIndex,
        devices: DeviceSet,
        refused: Option<&HolderRefusal>,
    ) -> bool {
        let known = self.shared_devices(node).and_then(|shared| {
            let known = shared.holders.iter().find(|holder| holder.pod == pod)?;
            Some((known.devices, known.refused[0].as_deref()))
        });
        if known.unwrap_or_default() == (devices, refused) {
            return false;
        }
        self.devices.entry(node).set_holder(pod, devices, refused);
        let grown = self.know_resources([GPU_MILLI, GPU_BYTES].into_iter());
        self.offer_shared(node);
        self.changes.record(node, super::Change::Facts);
        grown
    }

    /// Has a node offer what its shared devices are, and nothing else under these names.
    pub(super) fn offer_shared(&mut self, node: NodeIndex) {
        let object = self.nodes.entry(node).node.as_ref();
        let has = object.map_or(0, devices_of);
        let memory = object.and_then(gpu_memory).map(|mib| mib.saturating_mul(1 << 20));
        let exists = object.is_some();
        let shared = self.devices.of_node[node.index()].as_mut();
        let count = shared.map_or(0, |shared| {
            shared.memory = memory;
            shared.find_ours(has);
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

/// How many devices a node has, by what it offers, its label and how they are joined: the most of
/// these, as one that is broken is not offered. 0: it is not known.
fn devices_of(node: &Node) -> usize {
    let offered = node.allocatable.iter().find(|(name, _)| &**name == GPU);
    let offered = offered.and_then(|(_, count)| usize::try_from(*count).ok()).unwrap_or(0);
    let label = node.label(COUNT_LABEL).and_then(|count| count.parse().ok()).unwrap_or(0);
    offered.max(label).max(node.gpus.as_ref().map_or(0, |gpus| gpus.len()))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::model::gpu_part::PartAmount;
    use crate::model::{GpuPart, PodClass};

    fn world() -> (Cluster, NodeIndex) {
        let mut cluster = Cluster::default();
        let allocatable = vec![(GPU.into(), 2), ("pods".into(), 110)];
        let labels = vec![("nvidia.com/gpu.memory".into(), "16384".into())];
        let node = Node { name: "n".into(), labels, allocatable, ..Node::default() };
        let _ = cluster.apply_node(node);
        let node = cluster.find_node("n").expect("it was applied");
        assert!(cluster.set_holder(PodIndex(9), node, DeviceSet::lowest(2), None));
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

    /// A node of three devices, of which the holder that is pod 9 owns the first two.
    fn three() -> (Cluster, NodeIndex) {
        let (mut cluster, node) = world();
        let allocatable = vec![(GPU.into(), 3), ("pods".into(), 110)];
        let _ = cluster.apply_node(Node { name: "n".into(), allocatable, ..Node::default() });
        (cluster, node)
    }

    #[test]
    fn what_two_holders_own_is_nobodys() {
        let (mut cluster, node) = three();
        cluster.set_holder(PodIndex(8), node, [1, 2].into_iter().collect(), None);
        let shared = |cluster: &Cluster| cluster.shared_devices(node).expect("some").clone();
        assert_eq!(shared(&cluster).ours(), [0, 2].into_iter().collect());
        assert_eq!(shared(&cluster).fault(), Some(HolderFault::Claimed));
        let told = shared(&cluster).holders().filter_map(|(_, refusal)| refusal).count();
        assert_eq!(told, 2, "both are told");
        cluster.set_holder(PodIndex(9), node, DeviceSet::EMPTY, None);
        assert_eq!(shared(&cluster).ours(), [1, 2].into_iter().collect());
        assert_eq!(shared(&cluster).fault(), None);
    }

    #[test]
    fn a_holder_that_is_not_believed_owns_nothing() {
        let (mut cluster, node) = three();
        let shared = |cluster: &Cluster| cluster.shared_devices(node).expect("some").clone();
        // one of the first two is broken since
        let allocatable = vec![(GPU.into(), 1), ("pods".into(), 110)];
        let _ = cluster.apply_node(Node { name: "n".into(), allocatable, ..Node::default() });
        assert_eq!(
            (shared(&cluster).ours(), shared(&cluster).fault()),
            (DeviceSet::lowest(2), None)
        );
        let (mut cluster, node) = three();
        // beyond the three
        cluster.set_holder(PodIndex(8), node, [4, 5].into_iter().collect(), None);
        assert_eq!(shared(&cluster).ours(), DeviceSet::lowest(2));
        assert_eq!(shared(&cluster).fault(), Some(HolderFault::Unknown));
        // the node turns out to have six, of which some are not offered
        let labels = vec![(COUNT_LABEL.into(), "6".into())];
        let allocatable = vec![(GPU.into(), 3), ("pods".into(), 110)];
        let _ =
            cluster.apply_node(Node { name: "n".into(), labels, allocatable, ..Node::default() });
        assert_eq!(shared(&cluster).ours(), [0, 1, 4, 5].into_iter().collect());
        assert_eq!(shared(&cluster).fault(), None);
        let refusal = crate::model::holder::read("GPU-1", 1).expect_err("a UUID");
        cluster.set_holder(PodIndex(8), node, DeviceSet::EMPTY, Some(&refusal));
        assert_eq!(shared(&cluster).ours(), DeviceSet::lowest(2), "the other's");
        assert_eq!(shared(&cluster).fault(), Some(HolderFault::Unreadable));
    }
}
