//! How far a gang has come.
//!
//! Work is counted in milliseconds times speed. A rigid gang runs for its duration once its minimum
//! runs. An elastic gang has the work of its duration with all the members it may have; its speed
//! is that of its [`Curve`] or, without one, its running members; below the minimum nothing is
//! done. A gang that falls below its minimum goes on from its last checkpoint.

use super::curve::Curve;
use super::inputs::GangSpec;
use std::sync::Arc;

/// The work of one gang.
#[derive(Clone, Debug)]
pub(super) struct Progress {
    work: i64,
    members: i64,
    min_member: i64,
    elastic: bool,
    curve: Option<Arc<Curve>>,
    checkpoint_ms: Option<i64>,
    done: i64,
    saved: i64,
    /// running time since the gang last fell below its minimum
    clock: i64,
    running: i64,
    settled_at: i64,
}

impl Progress {
    pub(super) fn new(gang: &GangSpec) -> Self {
        let members = i64::from(gang.max_member);
        let curve = gang.curve.clone();
        let full = curve.as_ref().map_or(members, |curve| curve.rate(members));
        let work = gang.run_ms.saturating_mul(full);
        let past = |millis: i64| millis.saturating_mul(full).min(work);
        Self {
            work,
            members,
            min_member: gang.min_member.into(),
            elastic: gang.is_elastic(),
            curve,
            checkpoint_ms: gang.checkpoint_ms,
            done: past(gang.ran_ms),
            saved: past(gang.saved_ms.min(gang.ran_ms)),
            clock: 0,
            running: 0,
            settled_at: 0,
        }
    }

    /// Work per millisecond.
    fn rate(&self) -> i64 {
        match self.running {
            running if running < self.min_member => 0,
            running if self.elastic => self.speed(running.min(self.members)),
            _ => self.speed(self.members),
        }
    }

    fn speed(&self, members: i64) -> i64 {
        self.curve.as_ref().map_or(members, |curve| curve.rate(members))
    }

    /// Running members that do work.
    pub(super) fn at_work(&self) -> i64 {
        if self.runs() { self.running.min(self.members) } else { 0 }
    }

    /// Whether the minimum runs.
    pub(super) fn runs(&self) -> bool {
        self.running >= self.min_member
    }

    /// One member more or less runs from now on. Returns what is lost by it, in milliseconds of
    /// all the members that it may have: more than 0 only if the gang falls below its minimum.
    pub(super) fn change(&mut self, now: i64, by: i64) -> i64 {
        self.settle(now);
        let ran = self.runs();
        self.running += by;
        assert!(self.running >= 0, "fewer than no members run");
        if !ran || self.runs() {
            return 0;
        }
        let lost = self.done - self.saved;
        (self.done, self.clock) = (self.saved, 0);
        lost / self.speed(self.members).max(1)
    }

    fn settle(&mut self, now: i64) {
        let (passed, rate) = (now - self.settled_at, self.rate());
        self.settled_at = now;
        if rate == 0 {
            return;
        }
        if let Some(every) = self.checkpoint_ms {
            let last = (self.clock + passed) / every * every;
            if last > self.clock {
                self.saved = (self.done + rate * (last - self.clock)).min(self.work);
            }
        }
        self.clock += passed;
        self.done = (self.done + rate * passed).min(self.work);
    }

    /// When it ends if nothing changes; `None`: it does not run.
    pub(super) fn ends_at(&self) -> Option<i64> {
        let rate = self.rate();
        let left = self.work - self.done;
        (rate > 0).then(|| self.settled_at + (left + rate - 1) / rate)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn progress(min: u32, max: u32, run_ms: i64, checkpoint_ms: Option<i64>) -> Progress {
        Progress::new(&gang(min, max, run_ms, checkpoint_ms))
    }

    fn gang(min: u32, max: u32, run_ms: i64, checkpoint_ms: Option<i64>) -> GangSpec {
        let (members, min_member, max_member) = (max, min, max);
        GangSpec { run_ms, members, min_member, max_member, checkpoint_ms, ..GangSpec::default() }
    }

    #[test]
    fn a_measured_gang_works_at_the_speed_that_was_measured() {
        let curve = Curve::from_speeds(&[1.0, 1.5, 1.8]).map(Arc::new);
        let mut gang = Progress::new(&GangSpec { curve, ..gang(1, 3, 1_000, None) });
        gang.change(0, 1);
        assert_eq!(gang.ends_at(), Some(1_800));
        gang.change(900, 1);
        assert_eq!(gang.ends_at(), Some(1_500), "900000 are left at 1500 a millisecond");
    }

    #[test]
    fn a_gang_that_ran_before_has_that_behind_it_and_can_lose_it() {
        let before = |ran_ms, saved_ms| {
            let mut gang = Progress::new(&GangSpec { ran_ms, saved_ms, ..gang(1, 2, 1_000, None) });
            gang.change(0, 1);
            gang.change(0, 1);
            gang
        };
        assert_eq!(before(600, 0).ends_at(), Some(400));
        assert_eq!(before(5_000, 0).ends_at(), Some(0), "it has run longer than it was to");
        let mut gang = before(600, 500);
        assert_eq!(gang.change(100, -1), 0);
        assert_eq!(gang.change(100, -1), 200, "700 done, 500 saved");
    }

    #[test]
    fn a_rigid_gang_runs_for_its_duration_from_when_all_run() {
        let mut gang = progress(2, 2, 1_000, None);
        gang.change(100, 1);
        assert_eq!(gang.ends_at(), None);
        gang.change(300, 1);
        assert_eq!(gang.ends_at(), Some(1_300));
    }

    #[test]
    fn an_elastic_gang_runs_longer_with_fewer_members() {
        let mut gang = progress(1, 4, 1_000, None);
        gang.change(0, 1);
        assert_eq!(gang.ends_at(), Some(4_000));
        gang.change(1_000, 1);
        assert_eq!(gang.ends_at(), Some(2_500), "3000 are left for two");
        assert_eq!(gang.change(2_000, -1), 0, "shrinking costs nothing that was done");
        assert_eq!(gang.ends_at(), Some(3_000));
    }

    #[test]
    fn work_since_the_last_checkpoint_is_lost_when_the_gang_ends_early() {
        let mut gang = progress(1, 1, 1_000, Some(300));
        gang.change(0, 1);
        assert_eq!(gang.change(700, -1), 100);
        gang.change(1_000, 1);
        assert_eq!(gang.ends_at(), Some(1_400));
        assert_eq!(gang.change(1_299, -1), 299, "the clock of checkpoints starts anew");
        let mut gang = progress(1, 1, 1_000, None);
        gang.change(0, 1);
        assert_eq!(gang.change(999, -1), 999);
    }
}
