//! Plans have their time: victims go before others are taken in their place (E6), nobody is evicted
//! for a plan that was given up (I6), who finds no room gets a drain (L2), and decisions come to an
//! end (L5).

use crate::scene::{Gang, Role, Scene, asked, gang};
use crate::world::World;
use mss_scheduler::model::Uid;
use std::collections::BTreeSet;

/// A gang for which no seats were found is looked at again within this time, beside that after
/// which it gets a drain.
const AGAIN_MS: i64 = 80_000;
/// Cycles after which nothing is left to decide: more than there are gangs that look for room.
const CYCLES_MAX: u32 = 500;

impl World {
    /// E6: a plan is given up for victims that stayed only when they have had their time. Notes
    /// until when those have that were made in this cycle.
    pub(crate) fn check_patience(&mut self, before: &BTreeSet<Gang>) {
        let counted = self.scheduler.tallies().plans_given_up.get("VictimsStayed").copied();
        let counted = counted.unwrap_or(0);
        let stayed = counted - std::mem::replace(&mut self.shadow.stayed, counted);
        let ended = before.difference(&self.seated);
        let due = ended.filter_map(|gang| self.shadow.deadlines.get(gang));
        let over = due.filter(|due| **due <= self.now).count() as u64;
        assert!(
            stayed <= over,
            "E6: {stayed} plans are given up as their victims stay, {over} had their time"
        );
        self.tally.stayed += stayed;
        let (seated, now) = (&self.seated, self.now);
        self.shadow.deadlines.retain(|gang, _| seated.contains(gang));
        let vacate = self.options.vacate_deadline_ms;
        for gang in self.seated.difference(before) {
            // longer, if victims get notice
            self.shadow.deadlines.insert(gang.clone(), now + vacate);
        }
    }

    /// Until when the victims of a plan have time to go.
    pub(crate) fn note_deadline(&mut self, scene: &Scene, claimant: &Gang, victims: &[Uid]) {
        let times = victims.iter().map(|uid| {
            let pod = &scene.pods[uid].pod;
            let since = *self.shadow.noticed.entry(*uid).or_insert(self.now);
            let grace = scene.spec(&pod.key.namespace).preemption.grace_ms;
            (since + grace - self.now).max(0) + pod.termination_ms
        });
        let longest = times.max().unwrap_or(0);
        let due = self.now + longest + self.options.vacate_deadline_ms;
        self.shadow.deadlines.insert(claimant.clone(), due);
    }

    /// L5: without news, and with no time passing, decisions end.
    pub(crate) fn come_to_rest(&mut self) {
        let mut cycles = 0;
        while self.scheduler.has_work() {
            assert!(cycles < CYCLES_MAX, "L5: {cycles} cycles decide, and nothing has happened");
            cycles += 1;
            self.decide();
            self.check();
        }
    }

    /// I6: whoever is evicted makes room for a plan that is in force.
    pub(crate) fn check_evictions(&self, evicted: &[Uid]) {
        for uid in evicted {
            let mut victims = self.shadow.plans.values();
            let victim = victims.any(|victims| victims.contains(uid));
            assert!(victim, "I6: {uid} is evicted for no plan that is in force");
        }
        let runs = |uid: &Uid| {
            let pod = self.pods.get(uid).map(|truth| &truth.pod);
            pod.is_some_and(|pod| !pod.deleting && !pod.ended())
        };
        for uid in self.to_evict().filter(runs) {
            let victim = self.shadow.plans.values().any(|victims| victims.contains(&uid));
            assert!(victim, "I6: the eviction of {uid} is not withdrawn, and its plan is given up");
        }
    }

    /// L2: once faults have stopped, a gang within its share that would have room if all others
    /// left gets a drain. Asked only where there has been none at all: later ones come after a
    /// while that is doubled each time.
    pub(crate) fn check_drains(&mut self) {
        let Some(options) = self.options.drains else { return };
        let none = self.scheduler.tallies().drains == 0 && self.seated.is_empty();
        if !none || self.is_vague() || self.features.run_limits || self.features.types {
            return;
        }
        let scene = self.scene(&BTreeSet::new());
        let limited = scene.pods.values().any(|known| known.pod.run_limit_ms.is_some());
        let shares = scene.shares(None);
        let long_ago = self.now - options.after_ms - AGAIN_MS;
        let waiting = scene.pods.values().filter(|known| known.role == Role::Waiting);
        let gangs: BTreeSet<Gang> = waiting.map(|known| gang(&known.pod)).collect();
        for of in gangs.iter().filter(|of| !limited && scene.passes_gate(of)) {
            let needed = scene.needed(of);
            let pods: Vec<_> = scene.waiting(of).collect();
            let first = pods[0];
            let plain = pods.iter().all(|pod| pod.class == first.class && pod.created.0 < long_ago);
            let claim = asked(first).map(|amount| amount * i64::from(needed));
            let single = claim[1] == 1;
            if needed == 0 || !plain || single || self.is_limited(&of.0) || first.non_preemptible {
                continue;
            }
            let path = shares.path(shares.owner(&first.uid));
            let deserves = |place: &_| {
                (0..2).all(|at| i128::from(claim[at]) * 1000 <= shares.deserved(*place, at))
            };
            let few = claim[1] * 100 <= scene.capacity[1] * i64::from(options.percent);
            let room: u32 =
                scene.nodes.values().map(|node| scene.slots_of_empty(node, first)).sum();
            let due = path.iter().all(deserves) && few && room >= needed;
            assert!(!due, "L2: {of:?} waits within its share, and no room is drained for it");
        }
    }
}
