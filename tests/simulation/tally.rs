//! What happened in the worlds, and how much of it there must be.

/// How often each thing of interest happened.
#[derive(Debug, Default)]
pub(crate) struct Tally {
    pub(crate) gangs: u64,
    pub(crate) namesakes: u64,
    pub(crate) binds: u64,
    pub(crate) refused: u64,
    pub(crate) rollbacks: u64,
    pub(crate) restarts: u64,
    pub(crate) restarts_in_commit: u64,
    pub(crate) half_bound_at_restart: u64,
    pub(crate) relists: u64,
    pub(crate) nodes_lost: u64,
    pub(crate) told: u64,
    pub(crate) warned: u64,
    pub(crate) evicted: u64,
    pub(crate) protected: u64,
    pub(crate) plans: u64,
    pub(crate) seated: u64,
    pub(crate) given_up: u64,
    pub(crate) shrunk: u64,
    pub(crate) ended_whole: u64,
    pub(crate) queue_edits: u64,
    pub(crate) shown: u64,
    pub(crate) firm_bound: u64,
    pub(crate) firm_evicted: u64,
    pub(crate) budget_stops: u64,
    pub(crate) drains: u64,
    pub(crate) drains_expired: u64,
}

impl Tally {
    pub(crate) fn add(&mut self, other: &Self) {
        self.gangs += other.gangs;
        self.namesakes += other.namesakes;
        self.binds += other.binds;
        self.refused += other.refused;
        self.rollbacks += other.rollbacks;
        self.restarts += other.restarts;
        self.restarts_in_commit += other.restarts_in_commit;
        self.half_bound_at_restart += other.half_bound_at_restart;
        self.relists += other.relists;
        self.nodes_lost += other.nodes_lost;
        self.told += other.told;
        self.warned += other.warned;
        self.evicted += other.evicted;
        self.protected += other.protected;
        self.plans += other.plans;
        self.seated += other.seated;
        self.given_up += other.given_up;
        self.shrunk += other.shrunk;
        self.ended_whole += other.ended_whole;
        self.queue_edits += other.queue_edits;
        self.shown += other.shown;
        self.firm_bound += other.firm_bound;
        self.firm_evicted += other.firm_evicted;
        self.budget_stops += other.budget_stops;
        self.drains += other.drains;
        self.drains_expired += other.drains_expired;
    }

    /// The run means something only if it went where the trouble is.
    pub(crate) fn assert_reached(&self) {
        let floors = [
            ("gangs", self.gangs, 1000),
            ("gangs that share their name", self.namesakes, 500),
            ("binds", self.binds, 10_000),
            ("refused binds", self.refused, 500),
            ("rollbacks", self.rollbacks, 50),
            ("restarts in mid-commit", self.restarts_in_commit, 500),
            ("gangs half bound at a restart", self.half_bound_at_restart, 200),
            ("relists", self.relists, 500),
            ("nodes lost", self.nodes_lost, 200),
            ("plans", self.plans, 1000),
            ("plans seated", self.seated, 1000),
            ("plans given up", self.given_up, 100),
            ("pods evicted", self.evicted, 1000),
            ("evictions refused by a budget", self.protected, 100),
            ("gangs shrunk", self.shrunk, 200),
            ("gangs evicted whole", self.ended_whole, 200),
            ("edits of queues", self.queue_edits, 200),
            ("standings of queues", self.shown, 1000),
            ("binds of gangs that must never be evicted", self.firm_bound, 100),
            ("plans stopped by a budget", self.budget_stops, 10),
            ("drains", self.drains, 500),
            ("drains that expired", self.drains_expired, 50),
        ];
        for (what, reached, floor) in floors {
            assert!(reached >= floor, "only {reached} {what}: at least {floor} are wanted");
        }
    }
}
