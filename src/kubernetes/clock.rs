//! The two clocks of the shell.

use crate::model::{Timestamp, WallTime};
use std::time::{Duration, Instant};

/// Monotonic time since the process began, and wall time.
#[derive(Clone, Copy, Debug)]
pub struct Clock {
    start: Instant,
}

impl Default for Clock {
    fn default() -> Self {
        Self { start: Instant::now() }
    }
}

impl Clock {
    /// Monotonic time, for deadlines.
    #[must_use]
    pub fn now(&self) -> Timestamp {
        Timestamp(i64::try_from(self.start.elapsed().as_millis()).unwrap_or(i64::MAX))
    }

    /// The instant of a monotonic time.
    #[must_use]
    pub fn instant(&self, at: Timestamp) -> Instant {
        self.start + Duration::from_millis(u64::try_from(at.0).unwrap_or(0))
    }

    /// Wall time, for what is shown and stored.
    #[must_use]
    pub fn wall() -> WallTime {
        WallTime(jiff::Timestamp::now().as_millisecond())
    }
}
