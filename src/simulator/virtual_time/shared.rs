//! The truth about the shared GPUs of a node: which pod has how much of which.

use super::gpus::WHOLE;
use crate::model::DeviceSet;

/// What is given out of shared GPUs, to owners by whatever name.
#[derive(Clone, Debug, Default)]
pub(super) struct Shared<Owner> {
    devices: DeviceSet,
    /// thousandths of a device, in the order in which they were given
    given: Vec<(usize, Owner, i64)>,
}

impl<Owner: Copy + PartialEq> Shared<Owner> {
    pub(super) fn of(devices: DeviceSet) -> Self {
        Self { devices, given: Vec::new() }
    }

    /// Whether the node has any.
    pub(super) fn is_empty(&self) -> bool {
        self.devices.is_empty()
    }

    /// Thousandths that are left of each device.
    pub(super) fn left(&self) -> impl Iterator<Item = i64> + '_ {
        self.devices.iter().map(|device| WHOLE - self.taken(device))
    }

    fn taken(&self, device: usize) -> i64 {
        let of = self.given.iter().filter(|(known, ..)| *known == device);
        of.map(|(.., milli)| milli).sum()
    }

    /// Who has what of each device, by device and then in the order in which it was given.
    pub(super) fn given(&self) -> impl Iterator<Item = (usize, Owner, i64)> + '_ {
        let of = |device: usize| self.given.iter().filter(move |(known, ..)| *known == device);
        self.devices.iter().flat_map(move |device| of(device).copied())
    }

    /// Gives so many thousandths of each of some devices; the first that is not shared or has too
    /// little left, if one has, and then nothing is given.
    pub(super) fn give(&mut self, to: Owner, set: DeviceSet, milli: i64) -> Result<(), usize> {
        let fits =
            |device: &usize| self.devices.contains(*device) && self.taken(*device) + milli <= WHOLE;
        if let Some(device) = set.iter().find(|device| !fits(device)) {
            return Err(device);
        }
        self.given.extend(set.iter().map(|device| (device, to, milli)));
        Ok(())
    }

    /// Takes back all that somebody has.
    pub(super) fn take_back(&mut self, from: Owner) {
        self.given.retain(|(_, owner, _)| *owner != from);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn no_device_is_given_beyond_a_whole_one() {
        let mut shared = Shared::of(DeviceSet::lowest(2));
        let one = DeviceSet::one;
        assert_eq!(shared.give(1, one(0), 600), Ok(()));
        assert_eq!(shared.give(2, one(0), 401), Err(0), "1001 of a device");
        assert_eq!(shared.give(2, one(0), 400), Ok(()));
        assert_eq!(shared.give(3, DeviceSet::lowest(2), 1000), Err(0));
        assert_eq!(shared.left().collect::<Vec<_>>(), [0, 1000], "all or nothing");
        assert_eq!(shared.give(3, one(2), 1), Err(2), "it is not shared");
        assert_eq!(shared.given().collect::<Vec<_>>(), [(0, 1, 600), (0, 2, 400)]);
        shared.take_back(1);
        assert_eq!(shared.left().collect::<Vec<_>>(), [600, 1000]);
    }
}
