//! What happened in the worlds, and how much of it there must be.

macro_rules! tally {
    ($($field:ident)*) => {
        /// How often each thing of interest happened.
        #[derive(Debug, Default)]
        pub(crate) struct Tally {
            /// simulated time
            pub(crate) millis: i64,
            $(pub(crate) $field: u64,)*
        }

        impl Tally {
            pub(crate) fn add(&mut self, other: &Self) {
                self.millis += other.millis;
                $(self.$field += other.$field;)*
            }
        }
    };
}

tally! {
    gangs namesakes binds refused rollbacks restarts restarts_in_commit half_bound_at_restart
    relists nodes_lost told warned evicted plans seated given_up shrunk ended_whole queue_edits
    shown firm_bound firm_evicted budget_stops reclaims preempts regrown pdb_refusals
    restarts_in_plan too_many_requests timeouts lost_replies doubled slow_watches dropped_news
    drains drains_seated drains_expired quarantines ended_by_limit
    events judged unjudged shares_checked judged_users among_users
    judged_parts parts_taken parts_bound own_taken
    judged_types types_taken types_opened stayed judged_budgets parts_lost withdrawn
}

impl Tally {
    pub(crate) fn cluster_hours(&self) -> u64 {
        u64::try_from(self.millis / 3_600_000).expect("time goes on")
    }

    pub(crate) fn events_per_hour(&self) -> u64 {
        self.events / self.cluster_hours().max(1)
    }

    /// What happened, and how much of it there must be in a full run.
    fn floors(&self) -> Vec<(&'static str, u64, u64)> {
        vec![
            ("cluster-hours", self.cluster_hours(), 500),
            ("events an hour", self.events_per_hour(), 4_000),
            ("reclaims", self.reclaims, 1_000),
            ("preemptions in a queue", self.preempts, 1_000),
            ("gangs shrunk", self.shrunk, 1_000),
            ("gangs regrown", self.regrown, 1_000),
            ("evictions refused by a disruption budget", self.pdb_refusals, 1_000),
            ("plans stopped by a budget", self.budget_stops, 1_000),
            ("leader changes in mid-commit", self.restarts_in_commit, 1_000),
            ("leader changes in a plan", self.restarts_in_plan, 1_000),
            ("requests refused as too many", self.too_many_requests, 1_000),
            ("requests that timed out", self.timeouts, 1_000),
            ("replies lost", self.lost_replies, 1_000),
            ("requests, answers and news that came twice", self.doubled, 1_000),
            ("watches that were slow", self.slow_watches, 1_000),
            ("news that was never heard", self.dropped_news, 1_000),
            ("drains seated", self.drains_seated, 1_000),
            ("drains that expired", self.drains_expired, 1_000),
            ("nodes put in quarantine", self.quarantines, 500),
            ("pods ended by a run limit", self.ended_by_limit, 1_000),
            ("edits of queues", self.queue_edits, 1_000),
            ("nodes lost", self.nodes_lost, 1_000),
            ("relists", self.relists, 1_000),
            ("gangs", self.gangs, 10_000),
            ("gangs that share their name", self.namesakes, 1_000),
            ("binds", self.binds, 30_000),
            ("refused binds", self.refused, 1_000),
            ("rollbacks", self.rollbacks, 500),
            ("gangs half bound at a restart", self.half_bound_at_restart, 1_000),
            ("plans", self.plans, 5_000),
            ("times that all shares were recomputed", self.shares_checked, 50_000),
            ("plans judged", self.judged, 5_000),
            ("plans judged whose users are stamped", self.judged_users, 1_000),
            ("plans that take from another user of the queue", self.among_users, 100),
            ("plans judged in which a type of GPU counts", self.judged_types, 500),
            ("plans that take GPUs of a type for such", self.types_taken, 300),
            ("plans whose victims let a gang have what was free of a type", self.types_opened, 5),
            ("plans given up as their victims stayed", self.stayed, 50),
            ("plans that take what a known disruption budget protects", self.judged_budgets, 300),
            ("plans seated", self.seated, 2_000),
            ("plans given up", self.given_up, 1_000),
            ("evictions withdrawn", self.withdrawn, 300),
            ("pods evicted", self.evicted, 5_000),
            ("gangs evicted whole", self.ended_whole, 1_000),
            ("standings of queues", self.shown, 10_000),
            ("binds of gangs that must never be evicted", self.firm_bound, 500),
            ("plans judged of gangs with parts, or that take of such", self.judged_parts, 500),
            ("plans that take of gangs with parts", self.parts_taken, 300),
            ("plans for a part of a gang that take of another", self.own_taken, 5),
            ("times that gangs with parts were bound", self.parts_bound, 500),
        ]
    }

    pub(crate) fn print(&self) {
        for (what, reached, floor) in self.floors() {
            eprintln!("simulation: {reached} {what} (at least {floor} in a full run)");
        }
        eprintln!("simulation: {} plans were not judged", self.unjudged);
        eprintln!(
            "simulation: {} waiting gangs were not, of a lost or doubtful part",
            self.parts_lost
        );
    }

    /// The run means something only if it went where the trouble is.
    pub(crate) fn assert_reached(&self) {
        self.print();
        for (what, reached, floor) in self.floors() {
            assert!(reached >= floor, "only {reached} {what}: at least {floor} are wanted");
        }
    }
}
