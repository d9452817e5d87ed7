//! Deliberate faults, by which tests show that their checks would see such a one. A release build
//! has none: the question is a constant there.

/// Where the code can be made to go wrong.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Fault {
    /// Who holds just its share counts as above it.
    AboveOrEqual,
    /// Who would hold one unit more than its share counts as entitled.
    EntitledByOne,
    /// Only the lowest queue of a victim is asked whether it is above its share.
    SkippedAncestor,
    /// Pods of other schedulers come and go, and the capacity stays what it was.
    StaleCapacity,
    /// A gang claims what its first members ask for, not those that are seated.
    ClaimOfTheFirst,
    /// A gang is bound with one member too few.
    OneTooFew,
    /// A gang loses members below its minimum.
    MinimumIgnored,
    /// The header of a gang is as good a victim as any member.
    HeaderFirst,
    /// Pods are evicted that have not run for long enough.
    YoungTaken,
    /// Pods are evicted that must never be.
    FirmTaken,
    /// What a disruption budget protected is chosen again at once.
    ProtectionForgotten,
    /// A gang of equal priority is taken whole.
    EqualTaken,
    /// Victims stay in the plan that turned out not to be needed.
    NothingSpared,
    /// Priority takes from another user of the queue what is within that user's share.
    UserTaken,
    /// Evictions are not counted against the budget.
    BudgetNotCharged,
    /// The seats of a plan are free for all until they are taken.
    SeatNotEarmarked,
    /// Two gangs may evict each other by turns.
    PairsForgotten,
    /// After a takeover pods that are bound look as if they were not.
    BindForgotten,
    /// What a list lacks stays known.
    ListForgetsNothing,
    /// Who would hold one unit more than its limit stays within it.
    LimitByOne,
    /// Pods are placed on nodes in quarantine.
    QuarantineIgnored,
    /// Nodes stay in quarantine when its time is over.
    QuarantineForEver,
    /// Pods are ended a second before their queue's run limit.
    EndedEarly,
    /// Pods run on when their queue's run limit is over.
    RunsOn,
    /// A gang below its minimum keeps what is bound of it.
    PartialKept,
    /// Nobody who waits is told that room has come free.
    NobodyWoken,
    /// Pods that are being deleted wait like others.
    DeletionOverlooked,
    /// Host ports that are taken are given out again.
    PortsOverlooked,
    /// What a user holds and deserves is counted with the others of his namespace.
    UserOverlooked,
    /// A part of a gang loses members below its own minimum.
    TaskMinimumIgnored,
    /// A gang is bound without the minima of its parts.
    TaskLeftOut,
    /// A pod is taken whose queue is within its share of what is narrowed there.
    NarrowedNotAsked,
    /// Seats take more of what is narrowed there than is due.
    NarrowedOverdrawn,
    /// A disruption budget is overrun by one.
    DisruptionByOne,
    /// Victims count as stuck while they still have time to go.
    StuckAtOnce,
    /// What a plan that is given up had still to evict is evicted.
    EvictedAfterAll,
    /// Evictions that have not left when their plan is given up still go out.
    NotWithdrawn,
    /// No room is drained for anybody.
    DrainForgotten,
    /// Having looked for room without drains counts as a change, though all is as it was.
    LookIsAChange,
    /// A part of a GPU is given and not counted.
    PartNotCounted,
    /// What claims have of devices is not counted.
    ClaimNotCounted,
}

#[cfg(debug_assertions)]
thread_local! {
    static ACTIVE: std::cell::Cell<Option<Fault>> = const { std::cell::Cell::new(None) };
}

/// Makes one of them on this thread, or none.
#[cfg(debug_assertions)]
pub fn make(fault: Option<Fault>) {
    ACTIVE.set(fault);
}

/// Whether a fault is made.
#[cfg(debug_assertions)]
pub(crate) fn is_made(fault: Fault) -> bool {
    ACTIVE.get() == Some(fault)
}

/// Whether a fault is made.
#[cfg(not(debug_assertions))]
pub(crate) const fn is_made(_: Fault) -> bool {
    false
}
