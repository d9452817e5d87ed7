//! Sets of devices of one node.

use super::DEVICES_MAX;
use std::fmt;

/// Some devices of a node, by index. The order of sets means nothing.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct DeviceSet(u64);

impl DeviceSet {
    /// No device.
    pub const EMPTY: Self = Self(0);

    /// One device. Indexes are below [`DEVICES_MAX`].
    #[must_use]
    pub fn one(device: usize) -> Self {
        Self(1 << device)
    }

    /// The `count` lowest indexes.
    #[must_use]
    pub fn lowest(count: usize) -> Self {
        if count >= DEVICES_MAX { Self(u64::MAX) } else { Self((1 << count) - 1) }
    }

    /// The `count` lowest of the set; all of it, if it has fewer.
    #[must_use]
    pub(super) fn lowest_of(self, count: usize) -> Self {
        self.iter().take(count).collect()
    }

    /// Adds a device.
    pub fn insert(&mut self, device: usize) {
        self.0 |= 1 << device;
    }

    /// Whether a device is in it.
    #[must_use]
    pub fn contains(self, device: usize) -> bool {
        device < DEVICES_MAX && self.0 >> device & 1 == 1
    }

    /// Number of devices.
    #[must_use]
    pub fn len(self) -> usize {
        self.0.count_ones() as usize
    }

    /// Whether there is none.
    #[must_use]
    pub fn is_empty(self) -> bool {
        self.0 == 0
    }

    /// The lowest index.
    #[must_use]
    pub fn first(self) -> Option<usize> {
        self.iter().next()
    }

    /// Those of both.
    #[must_use]
    pub fn union(self, other: Self) -> Self {
        Self(self.0 | other.0)
    }

    /// Those that both have.
    #[must_use]
    pub fn common(self, other: Self) -> Self {
        Self(self.0 & other.0)
    }

    /// Those that the other has not.
    #[must_use]
    pub fn minus(self, other: Self) -> Self {
        Self(self.0 & !other.0)
    }

    /// Whether its sorted indexes come before those of another set of equal size.
    #[must_use]
    pub(super) fn is_before(self, other: Self) -> bool {
        let differ = self.0 ^ other.0;
        differ != 0 && self.0 >> differ.trailing_zeros() & 1 == 1
    }

    /// The indexes, ascending.
    pub fn iter(self) -> impl Iterator<Item = usize> {
        let mut left = self.0;
        std::iter::from_fn(move || {
            let next = (left != 0).then(|| left.trailing_zeros() as usize)?;
            left &= left - 1;
            Some(next)
        })
    }

    /// Reads what [`fmt::Display`] writes, and nothing else: ascending indexes with commas.
    #[must_use]
    pub fn parse(text: &str) -> Option<Self> {
        let indexes: Option<Vec<usize>> = text.split(',').map(index).collect();
        let indexes = indexes?;
        indexes.is_sorted_by(|a, b| a < b).then(|| indexes.into_iter().collect())
    }
}

/// Reads one index, below [`DEVICES_MAX`]: plain digits without a leading zero.
#[must_use]
pub fn device_index(text: &str) -> Option<usize> {
    index(text)
}

/// An index: below [`DEVICES_MAX`].
pub(super) fn index(text: &str) -> Option<usize> {
    number(text).filter(|index| *index < DEVICES_MAX)
}

/// Plain digits without a leading zero.
pub(super) fn number(text: &str) -> Option<usize> {
    let digits = text.bytes().all(|b| b.is_ascii_digit());
    let plain = digits && (text.len() == 1 || !text.starts_with('0'));
    text.parse().ok().filter(|_| plain)
}

impl FromIterator<usize> for DeviceSet {
    fn from_iter<T: IntoIterator<Item = usize>>(devices: T) -> Self {
        let mut set = Self::EMPTY;
        devices.into_iter().for_each(|device| set.insert(device));
        set
    }
}

impl fmt::Display for DeviceSet {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        for (place, device) in self.iter().enumerate() {
            write!(f, "{}{device}", if place == 0 { "" } else { "," })?;
        }
        Ok(())
    }
}
