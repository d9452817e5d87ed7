//! Amounts of GPUs: whole ones that kubelets give, and parts of those that are shared.

use crate::cluster::is_gpu;
use crate::model::ResourceList;
use crate::model::gpu_part::{DEVICE, GPU_MILLI};
use std::iter::Sum;

/// Thousandths of a device.
pub(super) const WHOLE: i64 = DEVICE as i64;

/// Some GPUs.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord)]
pub struct Gpus {
    /// Whole ones, of nodes that do not share them.
    pub whole: i64,
    /// Thousandths of shared ones.
    pub shared_milli: i64,
}

impl Gpus {
    /// Those in a list of amounts.
    pub(super) fn of(list: &ResourceList) -> Self {
        let sum = |is: fn(&str) -> bool| {
            list.iter().filter(|(name, _)| is(name)).map(|(_, amount)| *amount).sum()
        };
        Self { whole: sum(is_gpu), shared_milli: sum(|name| name == GPU_MILLI) }
    }

    /// Thousandths of both.
    #[must_use]
    pub fn milli(self) -> i64 {
        self.whole * WHOLE + self.shared_milli
    }

    /// The part of one of so many members, rounded down.
    pub(super) fn each(self, members: u32) -> Self {
        let members = i64::from(members).max(1);
        Self { whole: self.whole / members, shared_milli: self.shared_milli / members }
    }

    /// Adds so many times as much.
    pub(super) fn add(&mut self, other: Self, times: i64) {
        self.whole += other.whole * times;
        self.shared_milli += other.shared_milli * times;
    }
}

impl Sum for Gpus {
    fn sum<I: Iterator<Item = Self>>(all: I) -> Self {
        let mut sum = Self::default();
        all.for_each(|gpus| sum.add(gpus, 1));
        sum
    }
}

/// Thousandths of GPUs as GPUs.
pub(super) fn gpus(milli: i64) -> f64 {
    milli as f64 / WHOLE as f64
}

/// Thousandths of GPUs times milliseconds as GPUs times milliseconds: of whole ones exactly as
/// these are.
pub(super) fn gpu_ms(milli_ms: i128) -> f64 {
    let (whole, rest) = (milli_ms / i128::from(WHOLE), milli_ms % i128::from(WHOLE));
    whole as f64 + rest as f64 / WHOLE as f64
}
