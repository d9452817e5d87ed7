//! What a cycle did, for the shell to carry out, count and log.

use super::ApiCall;
use crate::framework::Reason;

/// The outcome of a cycle.
#[derive(Debug, Default)]
pub struct Report {
    /// What is to be done, in order.
    pub calls: Vec<ApiCall>,
    /// Groups that were tried.
    pub attempts: Vec<Attempt>,
}

/// One try of a group.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Attempt {
    /// Index of the profile.
    pub profile: u8,
    /// A gang, not a bare pod.
    pub gang: bool,
    /// Members placed, or pending if none was.
    pub members: u32,
    /// Tries so far, this one included.
    pub attempts: u32,
    /// Time since the group was first seen, in milliseconds.
    pub waited_ms: i64,
    /// How it ended.
    pub result: AttemptResult,
}

/// How a try ended.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum AttemptResult {
    /// Placed; binds are on their way.
    Scheduled,
    /// Not placed; the reason most nodes gave.
    Unschedulable(Option<Reason>),
}
