//! What is to happen in a world: a seed, the steps that are made, and the faults that strike.

use crate::world::World;

/// Kinds of faults, each of which can be left out.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Fault {
    TooManyRequests,
    /// no effect
    Timeout,
    /// the effect was there
    LostReply,
    /// requests, answers and news arrive twice
    Doubled,
    Refusal,
    DisruptionBudget,
    SlowWatch,
    Relist,
    NodeLoss,
    Cordon,
    Foreign,
    QueueEdits,
    LeaderChange,
}

pub(crate) const FAULTS: [Fault; 13] = [
    Fault::TooManyRequests,
    Fault::Timeout,
    Fault::LostReply,
    Fault::Doubled,
    Fault::Refusal,
    Fault::DisruptionBudget,
    Fault::SlowWatch,
    Fault::Relist,
    Fault::NodeLoss,
    Fault::Cordon,
    Fault::Foreign,
    Fault::QueueEdits,
    Fault::LeaderChange,
];

/// All that a world depends on.
#[derive(Clone, Debug)]
pub(crate) struct History {
    pub(crate) seed: u64,
    /// numbers of the steps that are made
    pub(crate) steps: Vec<u64>,
    /// faults that do not happen
    pub(crate) without: Vec<Fault>,
    /// a fault of the code itself
    pub(crate) made: Option<mss_scheduler::model::fault::Fault>,
}

impl World {
    pub(crate) fn is_off(&self, fault: Fault) -> bool {
        self.history.without.contains(&fault)
    }

    /// Whether a fault happens now, one time in so many.
    pub(crate) fn strikes(&mut self, fault: Fault, one_in: u64) -> bool {
        let strikes = self.random.below(one_in) == 0;
        strikes && self.faults && !self.is_off(fault)
    }
}
