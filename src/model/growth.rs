//! The order in which gangs grow, and shrink.

use super::WallTime;

/// How far a gang has grown above its minimum.
#[derive(Clone, Copy, Debug, Default)]
pub struct Growth {
    /// When the gang was created: of equals the oldest grows first, the youngest shrinks first.
    pub created: WallTime,
    /// Members above the minimum.
    pub grown: u32,
    /// As many could be.
    pub range: u32,
}

impl Growth {
    /// The part of its range in millionths, with `gone` members less.
    #[must_use]
    pub fn part(self, gone: u32) -> i64 {
        let grown = i64::from(self.grown.saturating_sub(gone));
        grown * 1_000_000 / i64::from(self.range.clamp(1, 1 << 20))
    }
}
