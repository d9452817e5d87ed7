//! Devices that pods claim (dynamic resource allocation, `resource.k8s.io`).
//!
//! A device of a node is given to claims as a whole. What a claim takes is counted twice: as the
//! resource that its device class stands for, by which queues are charged, and as that resource *by
//! claim*, of which a node has as many as devices. What a device plugin gives is counted as the
//! resource and as that resource *by device plugin*. So neither takes the other's room, and a quota
//! counts both.

use super::{DeviceSet, Uid};
use std::sync::Arc;

/// Most devices of a node that are known; a [`DeviceSet`] holds no more.
pub const NODE_DEVICES_MAX: usize = super::gpu_topology::DEVICES_MAX;

const BY_CLAIM: &str = " by claim";
const BY_PLUGIN: &str = " by device plugin";

/// What nodes give of a resource to claims. No resource of Kubernetes has such a name.
#[must_use]
pub fn by_claim(resource: &str) -> Box<str> {
    format!("{resource}{BY_CLAIM}").into()
}

/// What device plugins of nodes give of a resource that claims take as well.
#[must_use]
pub fn by_plugin(resource: &str) -> Box<str> {
    format!("{resource}{BY_PLUGIN}").into()
}

/// Whether a resource only says by which way another is given: queues do not share it.
#[must_use]
pub fn is_way(resource: &str) -> bool {
    resource.ends_with(BY_CLAIM) || resource.ends_with(BY_PLUGIN)
}

/// `driver/pool/device`: the identity of a device in the whole cluster.
pub type DeviceName = Arc<str>;

/// Devices that satisfy the same selectors: a digest of these.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct DeviceKind(pub u64);

/// The devices of a node that may be given to claims; their places are those in `names`.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct NodeDevices {
    /// Their names; at most [`NODE_DEVICES_MAX`].
    pub names: Vec<DeviceName>,
    /// Which are of a kind that some claim asks for, sorted by kind.
    pub kinds: Vec<(DeviceKind, DeviceSet)>,
    /// As which resources they count; a device may count as several.
    pub offers: Vec<(Box<str>, DeviceSet)>,
    /// So many of the first are the GPUs, in the order of the PCI bus; 0: that is not known.
    pub gpus: usize,
}

impl NodeDevices {
    /// The devices of a kind.
    #[must_use]
    pub fn of(&self, kind: DeviceKind) -> DeviceSet {
        let place = self.kinds.binary_search_by_key(&kind, |(kind, _)| *kind);
        place.map_or(DeviceSet::EMPTY, |place| self.kinds[place].1)
    }
}

/// What a pod that is to be placed asks of devices: how many of each kind, sorted by kind.
pub type DeviceAsks = Vec<(DeviceKind, u32)>;

/// A claim that a pod names and that exists.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct PodClaim {
    /// Identity.
    pub uid: Uid,
    /// Its name; it is in the namespace of the pod.
    pub name: Box<str>,
    /// It has devices already.
    pub allocated: bool,
    /// It is counted with this pod, and with no other.
    pub counted: bool,
    /// What it asks for.
    pub requests: Vec<ClaimRequest>,
}

/// A request of a claim for devices of one kind.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ClaimRequest {
    /// Its name in the claim.
    pub name: Box<str>,
    /// Of which kind.
    pub kind: DeviceKind,
    /// How many.
    pub count: u32,
}

/// Devices for one claim, chosen on one node.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Grant {
    /// The claim.
    pub claim: Uid,
    /// Its name; it is in the namespace of the pod.
    pub name: Box<str>,
    /// A device of each request, by the name of the request; none: it has its devices.
    pub devices: Vec<(Box<str>, DeviceName)>,
}

/// A claim as the API shows it, as far as devices go.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct ClaimState {
    /// Identity.
    pub uid: Uid,
    /// `metadata.resourceVersion` as a number, so that what is older can be told; 0: unknown.
    pub version: u64,
    /// What it has been given.
    pub devices: Vec<DeviceName>,
}

/// Gives each of these wants devices of its own, so many of such; `None`: that cannot be done.
/// Exact: it looks for augmenting paths. O(devices x sum of counts).
#[must_use]
pub fn assign(free: DeviceSet, wants: &[(DeviceSet, u32)]) -> Option<Vec<DeviceSet>> {
    let units: Vec<usize> = wants
        .iter()
        .enumerate()
        .flat_map(|(place, (_, count))| std::iter::repeat_n(place, *count as usize))
        .collect();
    if units.len() > free.len() {
        return None;
    }
    let mut owner: [Option<usize>; NODE_DEVICES_MAX] = [None; NODE_DEVICES_MAX];
    for unit in 0..units.len() {
        let mut seen = DeviceSet::EMPTY;
        if !augment(unit, free, (wants, &units), &mut owner, &mut seen) {
            return None;
        }
    }
    let mut given = vec![DeviceSet::EMPTY; wants.len()];
    for (device, unit) in owner.iter().enumerate() {
        if let Some(unit) = unit {
            given[units[*unit]].insert(device);
        }
    }
    Some(given)
}

fn augment(
    unit: usize,
    free: DeviceSet,
    asked: (&[(DeviceSet, u32)], &[usize]),
    owner: &mut [Option<usize>; NODE_DEVICES_MAX],
    seen: &mut DeviceSet,
) -> bool {
    let (wants, units) = asked;
    for device in free.common(wants[units[unit]].0).iter() {
        if seen.contains(device) {
            continue;
        }
        seen.insert(device);
        let can_move = match owner[device] {
            None => true,
            Some(other) => augment(other, free, asked, owner, seen),
        };
        if can_move {
            owner[device] = Some(unit);
            return true;
        }
    }
    false
}

#[cfg(test)]
mod tests {
    use super::*;

    fn set(devices: &[usize]) -> DeviceSet {
        devices.iter().copied().collect()
    }

    #[test]
    fn each_want_gets_devices_of_its_own_if_that_can_be() {
        let free = DeviceSet::lowest(4);
        // the first would take 0 and 1, which the second cannot do without
        let wants = [(set(&[0, 1, 2, 3]), 2), (set(&[0, 1]), 2)];
        assert_eq!(assign(free, &wants), Some(vec![set(&[2, 3]), set(&[0, 1])]));
        assert_eq!(assign(free, &[(set(&[0]), 1), (set(&[0]), 1)]), None);
        assert_eq!(assign(set(&[1]), &[(set(&[0, 1]), 2)]), None);
        assert_eq!(assign(free, &[]), Some(vec![]));
    }

    #[test]
    fn ways_are_no_resources_of_their_own() {
        assert!(is_way(&by_claim("nvidia.com/gpu")) && is_way(&by_plugin("nvidia.com/gpu")));
        assert!(!is_way("nvidia.com/gpu"));
    }
}
