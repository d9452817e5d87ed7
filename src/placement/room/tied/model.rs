//! The question in plain numbers: nodes with room, pods on them, which go singly or with their
//! gangs, and queues of which no more than so much may go before the last unit.
//!
//! What it leaves out only makes more possible, so that a "no" here is a "no" there.

use smallvec::SmallVec;

/// Amounts, one for each resource that the claimant's class asks for.
pub(super) type Amounts = SmallVec<[i64; 4]>;

/// See the module.
#[derive(Default)]
pub(super) struct Model {
    /// What a seat takes.
    pub(super) ask: Amounts,
    /// Which of these shares are compared by.
    pub(super) contested: usize,
    /// Seats to be found.
    pub(super) needed: u32,
    pub(super) nodes: Vec<Place>,
    pub(super) pods: Vec<Pod>,
    pub(super) gangs: Vec<Gang>,
    pub(super) queues: Vec<Tie>,
    /// Pods that may go of each disruption budget.
    pub(super) budgets: Vec<i64>,
}

/// A node.
#[derive(Default)]
pub(super) struct Place {
    pub(super) free: Amounts,
    /// Seats that it can have at most, whoever goes.
    pub(super) most: u32,
    pub(super) pods: SmallVec<[u32; 8]>,
}

/// A pod that may go.
pub(super) struct Pod {
    pub(super) node: u32,
    pub(super) gang: u32,
    pub(super) held: Amounts,
    /// The same number for pods of one gang of which one is as good as another.
    pub(super) kind: u32,
    pub(super) budget: Option<u32>,
    /// Place among its gang's parts.
    pub(super) part: Option<u32>,
}

/// A gang that may lose some.
pub(super) struct Gang {
    /// All its pods, those that may go singly first.
    pub(super) first: u32,
    pub(super) pods: u32,
    pub(super) single: u32,
    /// How many may go singly, of all and of each part.
    pub(super) spare: u32,
    pub(super) parts: Vec<u32>,
    /// It may end.
    pub(super) whole: bool,
    /// It ends only after all others below.
    pub(super) level: u32,
    /// What all its pods hold of what is contested.
    pub(super) size: i64,
    /// Queues whose shares protect it, from its leaf up.
    pub(super) queues: SmallVec<[u32; 4]>,
}

/// A queue that must not give more before the last of its units.
pub(super) struct Tie {
    /// Of what is contested.
    pub(super) room: i64,
}

impl Gang {
    pub(super) fn all(&self) -> std::ops::Range<usize> {
        self.first as usize..(self.first + self.pods) as usize
    }

    pub(super) fn singles(&self) -> std::ops::Range<usize> {
        self.first as usize..(self.first + self.single) as usize
    }
}

impl Model {
    /// Seats on a node with so much free.
    pub(super) fn seats(&self, free: &[i64], most: u32) -> u32 {
        let asked = self.ask.iter().zip(free).filter(|(amount, _)| **amount > 0);
        let fits = asked.map(|(amount, free)| (free / amount).max(0));
        let fits = fits.min().unwrap_or(i64::from(most)).min(i64::from(most));
        u32::try_from(fits).expect("no more than most")
    }
}
