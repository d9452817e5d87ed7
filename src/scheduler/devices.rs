//! Which GPUs of a node its pods were given, where it is known how they are joined.
//!
//! The set is chosen when the bind is asked for, written on the pod by the bind itself, and read
//! back from there: another process that takes over knows what this one knew. A device plugin gives
//! a container the devices that it likes, so what is written is advice. Hence nothing is
//! written where it may be wrong: if a pod on the node has GPUs of which nobody said which, or the
//! node offers another number of them than are joined.
//!
//! Nothing of this is kept until a pod is bound to such a node.
//!
//! Parts of GPUs are another matter: of the devices that holder pods own, [`crate::cluster`] keeps
//! how much is given out; what is written is not advice then, and what was chosen stands.

use super::pods::PodState;
use super::{ApiCall, PodRef, Scheduler};
use crate::cluster::{Held, NodeIndex, PodIndex};
use crate::model::contract::GPU_DEVICES;
use crate::model::gpu_part::DEVICE;
use crate::model::gpu_topology::DEVICES_MAX;
use crate::model::{DeviceSet, Pod};
use crate::placement::{Demand, Place};
use crate::queue::GroupIndex;
use rustc_hash::FxHashMap;

/// The pods on each node, kept from the first choice on.
#[derive(Debug, Default)]
pub(super) struct Devices {
    on: Option<FxHashMap<NodeIndex, Vec<PodIndex>>>,
    /// what holders were told of why they are not believed
    told: FxHashMap<PodIndex, Box<str>>,
}

impl Devices {
    /// Takes in that a pod moved.
    pub(super) fn moved(&mut self, pod: PodIndex, from: Option<NodeIndex>, to: Option<NodeIndex>) {
        let Some(on) = &mut self.on else { return };
        if let Some(pods) = from.and_then(|node| on.get_mut(&node)) {
            pods.retain(|other| *other != pod);
        }
        if let Some(node) = to {
            on.entry(node).or_default().push(pod);
        }
    }
}

impl Scheduler {
    /// Chooses the devices of a pod whose bind is about to be asked for; empty: none, or unknown.
    /// O(pods on the node) beside the choice, and O(1) where nothing is known of the node's GPUs.
    pub(super) fn give_devices(&mut self, index: PodIndex) -> DeviceSet {
        let set = if self.is_part(index) { self.part_of(index) } else { self.best_devices(index) };
        let Some(set) = set else { return DeviceSet::EMPTY };
        self.pods.get_mut(index).devices = set;
        set
    }

    fn best_devices(&mut self, index: PodIndex) -> Option<DeviceSet> {
        let node = self.pods.get(index).node?;
        self.cluster.node(node).node.as_ref()?.gpus.as_ref()?;
        let count = self.gpus_asked(index);
        if count == 0 {
            return None;
        }
        self.begin_to_keep();
        let gpus = self.cluster.node(node).node.as_ref()?.gpus.as_ref()?;
        let resource = self.cluster.gpu()?;
        if usize::try_from(self.cluster.allocatable(resource, node)) != Ok(gpus.len()) {
            return None;
        }
        let here = self.devices.on.as_ref().and_then(|on| on.get(&node));
        let mut held = DeviceSet::EMPTY;
        for other in here.into_iter().flatten().filter(|other| **other != index) {
            let (pod, asked) = (self.pods.get(*other), self.gpus_asked(*other));
            // it has a seat, and will choose when that is free
            if asked == 0 || pod.state == PodState::Nominated {
                continue;
            }
            let unknown = pod.devices.len() != asked
                || !pod.devices.common(held).is_empty()
                || !pod.devices.minus(gpus.all()).is_empty();
            if unknown {
                return None;
            }
            held = held.union(pod.devices);
        }
        gpus.choose(gpus.all().minus(held), count)
    }

    /// Notes the pods on all nodes, once.
    fn begin_to_keep(&mut self) {
        if self.devices.on.is_some() {
            return;
        }
        let mut on: FxHashMap<NodeIndex, Vec<PodIndex>> = FxHashMap::default();
        for (index, pod) in self.pods.iter() {
            if let Some(node) = pod.node {
                on.entry(node).or_default().push(index);
            }
        }
        self.devices.on = Some(on);
    }

    fn gpus_asked(&self, index: PodIndex) -> usize {
        let Some(gpu) = self.cluster.gpu() else { return 0 };
        let class = self.cluster.class(self.pods.get(index).class);
        usize::try_from(class.request(gpu)).unwrap_or(0)
    }

    fn is_part(&self, index: PodIndex) -> bool {
        self.cluster.class(self.pods.get(index).class).spec.gpu_part.is_some()
    }

    fn part_of(&self, index: PodIndex) -> Option<DeviceSet> {
        let node = self.pods.get(index).node?;
        let held = self.cluster.held_by(index, node);
        Some(held.expect("D1: a part of a GPU is bound without a device").devices)
    }

    /// Whether a member of the group asks for a part of a GPU: nobody is evicted for it, and no
    /// seats are kept, as what is free in sum need not be on one device.
    pub(super) fn asks_part(&self, index: GroupIndex) -> bool {
        self.groups.get(index).members.iter().any(|member| self.is_part(*member))
    }

    /// Whether the members of a group share one device.
    pub(super) fn is_pack(&self, demands: &[Demand]) -> bool {
        let first = demands.first().map(|demand| self.cluster.class(demand.class));
        first.and_then(|class| class.spec.gpu_part).is_some_and(|part| part.packed)
    }

    /// The device that members of a pack have already.
    pub(super) fn place_of_pack(&self, index: GroupIndex) -> Option<Place> {
        let members = self.groups.get(index).members.iter();
        let mut places = members.filter_map(|member| {
            let node = self.pods.get(*member).node?;
            Some((node, self.cluster.held_by(*member, node)?.devices.first()?))
        });
        places.next()
    }

    /// Takes in what the object of a pod says of the devices that it has. What was given out here
    /// stands: the object is the users' to edit.
    pub(super) fn read_devices(&mut self, index: PodIndex, pod: &Pod) {
        let Some(node) = self.pods.get(index).node else { return };
        let refused = pod.holder_refused.as_deref();
        if self.cluster.set_holder(index, node, pod.holds, refused) {
            self.count_anew();
        }
        self.tell_holders(node);
        if !self.is_part(index) {
            self.pods.get_mut(index).devices = pod.devices;
            if !pod.holds.is_empty() || pod.holder_refused.is_some() {
                self.reread_devices(node);
                self.capacity_changed = true;
                self.improved.insert(node);
            }
        } else if self.cluster.held_by(index, node).is_none_or(|held| !held.sure) {
            self.pods.get_mut(index).devices = pod.devices;
            self.hold_as_told(index, node);
        }
    }

    /// Counts what a pod was given before this process began, or by another. Whatever is not known
    /// counts as the most that it can be: of all devices, or the whole device.
    fn hold_as_told(&mut self, index: PodIndex, node: NodeIndex) {
        self.cluster.give_back(index, node);
        let pod = self.pods.get(index);
        let class = self.cluster.class(pod.class);
        let Some(part) = class.spec.gpu_part else { return };
        let milli = self.cluster.device_ask(class, node).map(|ask| ask.milli);
        let is_told = pod.devices.len() == usize::from(part.count);
        let devices = if is_told { pod.devices } else { DeviceSet::lowest(DEVICES_MAX) };
        let sure = is_told && milli.is_some();
        let held = Held { pod: index, devices, milli: milli.unwrap_or(DEVICE), sure };
        self.cluster.hold(node, held);
    }

    /// Counts again what was not known, as something of the node came to be known.
    pub(super) fn reread_devices(&mut self, node: NodeIndex) {
        let Some(shared) = self.cluster.shared_devices(node) else { return };
        let unsure = shared.held().iter().filter(|held| !held.sure).map(|held| held.pod);
        let unsure: Vec<PodIndex> = unsure.collect();
        unsure.into_iter().for_each(|pod| self.hold_as_told(pod, node));
    }

    /// A pod leaves a node: what it had of devices is free, and what it owned is not ours any more.
    pub(super) fn let_go(&mut self, index: PodIndex, node: NodeIndex) {
        self.cluster.give_back(index, node);
        self.cluster.set_holder(index, node, DeviceSet::EMPTY, None);
        self.devices.told.remove(&index);
        self.tell_holders(node);
    }

    /// Says on each holder of a node why it is not believed, once for each reason.
    pub(super) fn tell_holders(&mut self, node: NodeIndex) {
        let Some(shared) = self.cluster.shared_devices(node) else { return };
        if shared.fault().is_none() && self.devices.told.is_empty() {
            return;
        }
        let holders: Vec<_> = shared.holders().collect();
        for (holder, refusal) in holders {
            let Some(refusal) = refusal else {
                self.devices.told.remove(&holder);
                continue;
            };
            let told = self.devices.told.insert(holder, refusal.why.clone());
            if told.as_ref() == Some(&refusal.why) {
                continue;
            }
            let pod = self.pods.get(holder);
            let pod = PodRef { key: pod.key(), uid: pod.uid };
            let note = format!(
                "no parts of its GPUs are given out, as {GPU_DEVICES} is not believed: {}",
                refusal.why
            );
            self.outbox.push(ApiCall::TellHolder { pod, note: note.into() });
        }
    }

    /// D1: devices are given out to the pods on their nodes, and none beyond a whole one.
    pub(super) fn check_devices(&self) {
        for (index, pod) in self.pods.iter() {
            let node = pod.node.filter(|_| self.is_part(index));
            let held = node.is_none_or(|node| self.cluster.held_by(index, node).is_some());
            assert!(held, "D1: a part of a GPU without a device");
        }
        for slot in 0..self.cluster.node_slots() {
            let node = NodeIndex::at(slot);
            let Some(shared) = self.cluster.shared_devices(node) else { continue };
            let mut taken = [0u32; DEVICES_MAX];
            for held in shared.held() {
                let on = self.pods.get(held.pod).node;
                assert_eq!(on, Some(node), "D1: a device is given to a pod that is elsewhere");
                let sure = if held.sure { u32::from(held.milli) } else { 0 };
                held.devices.iter().for_each(|device| taken[device] += sure);
            }
            let most = taken.into_iter().max().unwrap_or(0);
            assert!(most <= u32::from(DEVICE), "D1: a device is given out beyond a whole one");
        }
    }
}
