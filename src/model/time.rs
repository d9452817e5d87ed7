//! Two clocks that must not be mixed.

/// Monotonic time in milliseconds since an arbitrary start. All deadlines are of this kind, so a
/// step of the wall clock moves none of them.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Timestamp(pub i64);

impl Timestamp {
    /// This time plus `millis`.
    #[must_use]
    pub fn plus_ms(self, millis: i64) -> Self {
        Self(self.0.saturating_add(millis))
    }

    /// Milliseconds since `earlier`, zero if `earlier` is later.
    #[must_use]
    pub fn since_ms(self, earlier: Self) -> i64 {
        (self.0 - earlier.0).max(0)
    }
}

/// Wall time in milliseconds since 1970, as API objects carry it. Used to order by age and to judge
/// how old a bind is after a takeover, never for a deadline.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct WallTime(pub i64);
