//! Durations as the file has them.

pub(crate) use crate::model::duration::{format, parse};

use serde::Serializer;
use std::time::Duration;

/// For `#[serde(serialize_with)]` on durations.
pub(super) fn serialize<S: Serializer>(value: &Duration, serializer: S) -> Result<S::Ok, S::Error> {
    serializer.serialize_str(&format(*value))
}
