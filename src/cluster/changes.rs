//! Which nodes changed since when.

use super::NodeIndex;

/// Entries kept at least; readers that are further behind start afresh, which costs them one scan
/// of the nodes. Two megabytes at four bytes each.
const ENTRIES_MAX: usize = 1 << 19;

/// How a node changed.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Change {
    /// Pods came or went.
    Usage,
    /// Labels, taints, cordon, allocatable, or its existence.
    Facts,
}

/// An append-only log with a sliding start, and a version that names the state.
#[derive(Debug, Default)]
pub struct ChangeLog {
    entries: Vec<u32>,
    /// position of `entries[0]`
    base: u64,
    version: u64,
    versions_used: u64,
}

const FACTS: u32 = 1 << 31;

impl ChangeLog {
    pub(super) fn record(&mut self, node: NodeIndex, change: Change) {
        if self.entries.len() >= 2 * ENTRIES_MAX {
            self.entries.drain(..ENTRIES_MAX);
            self.base += ENTRIES_MAX as u64;
        }
        let flag = if change == Change::Facts { FACTS } else { 0 };
        self.entries.push(node.0 | flag);
        self.versions_used += 1;
        self.version = self.versions_used;
    }

    /// Makes every reader start afresh.
    pub(super) fn forget_all(&mut self) {
        self.base = self.position() + 1;
        self.entries.clear();
        self.versions_used += 1;
        self.version = self.versions_used;
    }

    pub(super) fn restore_version(&mut self, version: u64) {
        self.version = version;
    }

    /// Names the state of the columns: equal versions mean equal state. A statement that is rolled
    /// back restores the version it began with.
    #[must_use]
    pub fn version(&self) -> u64 {
        self.version
    }

    /// Position after the last entry.
    #[must_use]
    pub fn position(&self) -> u64 {
        self.base + self.entries.len() as u64
    }

    /// How many entries follow `position`; `None` if they are no longer all kept.
    #[must_use]
    pub fn count_since(&self, position: u64) -> Option<usize> {
        let from = position.checked_sub(self.base)?;
        self.entries.len().checked_sub(usize::try_from(from).ok()?)
    }

    /// The last `count` entries, oldest first.
    pub fn last(&self, count: usize) -> impl Iterator<Item = (NodeIndex, Change)> {
        self.entries[self.entries.len() - count..].iter().map(|entry| {
            let change = if entry & FACTS == 0 { Change::Usage } else { Change::Facts };
            (NodeIndex(entry & !FACTS), change)
        })
    }
}
