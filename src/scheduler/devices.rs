//! Which GPUs of a node its pods were given, where it is known how they are joined.
//!
//! The set is chosen when the bind is asked for, written on the pod by the bind itself, and read
//! back from there: another process that takes over knows what this one knew. A device plugin gives
//! a container the devices that it likes, so what is written is advice. Hence nothing is
//! written where it may be wrong: if a pod on the node has GPUs of which nobody said which, or the
//! node offers another number of them than are joined.
//!
//! Nothing of this is kept until a pod is bound to such a node.

use super::Scheduler;
use super::pods::PodState;
use crate::cluster::{NodeIndex, PodIndex};
use crate::model::DeviceSet;
use rustc_hash::FxHashMap;

/// The resource whose devices a topology names.
const GPU: &str = "nvidia.com/gpu";

/// The pods on each node, kept from the first choice on.
#[derive(Debug, Default)]
pub(super) struct Devices {
    on: Option<FxHashMap<NodeIndex, Vec<PodIndex>>>,
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
        let Some(set) = self.best_devices(index) else { return DeviceSet::EMPTY };
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
        let resource = self.cluster.resources().find(GPU)?;
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
        let Some(gpu) = self.cluster.resources().find(GPU) else { return 0 };
        let class = self.cluster.class(self.pods.get(index).class);
        let asked = class.requests.iter().find(|(resource, _)| *resource == gpu);
        asked.map_or(0, |(_, count)| usize::try_from(*count).unwrap_or(0))
    }
}
