//! Gangs whose members form parts with minima of their own (I2, I6).

use crate::scene::{Gang, Known, Role, Scene, gang};
use crate::world::{GangKey, World, is_of, names_of};
use mss_scheduler::model::{Phase, Pod, Uid, WallTime};
use std::collections::{BTreeMap, BTreeSet};

/// The minima of the parts of a gang.
type Minima = BTreeMap<Box<str>, u32>;

/// What is kept in mind of a gang as long as something of it has room.
#[derive(Clone, Debug)]
pub(crate) struct Run {
    /// the creation of the oldest member that was live meanwhile
    pub(crate) since: WallTime,
    minima: Minima,
}

/// A part of a gang, as it stands.
#[derive(Clone, Copy, Debug, Default)]
pub(crate) struct Part {
    pub(crate) min: u32,
    /// members that count towards it
    pub(crate) settled: u32,
    pub(crate) waiting: u32,
    /// of a gang as it truly is: those that count if they belong to its present run
    pub(crate) ended: u32,
    /// of those that wait
    headers: u32,
}

impl Part {
    pub(crate) fn has_minimum(&self) -> bool {
        self.settled >= self.min
    }

    fn needed(&self) -> u32 {
        self.min.saturating_sub(self.settled)
    }
}

fn part_of(pod: &Pod) -> Option<(Box<str>, u32)> {
    pod.task.as_ref().map(|task| (task.name.clone(), task.min))
}

impl Scene {
    /// The parts of a gang: those of its members, and those that are remembered as long as
    /// something of it has room.
    pub(crate) fn parts(&self, of: &Gang) -> BTreeMap<Box<str>, Part> {
        let mut parts: BTreeMap<Box<str>, Part> = BTreeMap::new();
        let counting = self.counting(of);
        for known in &counting {
            if let Some((name, min)) = part_of(&known.pod) {
                let part = parts.entry(name).or_default();
                (part.min, part.settled) = (min, part.settled + 1);
            }
        }
        for pod in self.waiting(of) {
            if let Some((name, min)) = part_of(pod) {
                let part = parts.entry(name).or_default();
                (part.min, part.waiting) = (min, part.waiting + 1);
                part.headers += u32::from(pod.header);
            }
        }
        if self.has_room(of) {
            for (name, min) in self.remembered.get(of).iter().flat_map(|run| &run.minima) {
                parts.entry(name.clone()).or_default().min = *min;
            }
        }
        parts
    }

    /// Whether something of a gang has room, or is on its way to it, or is a victim that stays if
    /// its plan is given up.
    fn has_room(&self, of: &Gang) -> bool {
        let may_stay =
            |(uid, known): (&Uid, &Known)| self.awaited.contains(uid) && !known.pod.deleting;
        self.counting(of).iter().any(|known| known.role != Role::Ended)
            || self.members(of).any(may_stay)
    }

    /// Members that must be placed yet: for the minimum, or for those of the parts, with a header
    /// that waits beside them.
    pub(crate) fn needed(&self, of: &Gang) -> u32 {
        let parts = self.parts(of);
        let lacking: u32 = parts.values().map(Part::needed).sum();
        let headers = self.waiting(of).filter(|pod| pod.header).count();
        let placed: u32 = parts.values().map(|part| part.headers.min(part.needed())).sum();
        let beside = u32::try_from(headers).expect("small") - placed;
        let of_parts = if lacking > 0 { lacking + beside } else { 0 };
        self.min(of).saturating_sub(self.settled(of)).max(of_parts)
    }

    /// Whether the parts of a gang could have their minima with those that wait.
    pub(crate) fn parts_are_there(&self, of: &Gang) -> bool {
        self.parts(of).values().all(|part| part.settled + part.waiting >= part.min)
    }

    /// I6: the parts keep their minima without some members, as far as they lose any.
    pub(crate) fn parts_keep(&self, of: &Gang, pods: &BTreeSet<Uid>) -> bool {
        self.parts(of).iter().all(|(name, part)| {
            let taken = self.count(pods, name);
            taken == 0 || part.settled >= part.min + taken
        })
    }

    /// I6: the parts have their minima with some members, and without others.
    pub(crate) fn parts_have(
        &self,
        of: &Gang,
        seated: &BTreeSet<Uid>,
        lost: &BTreeSet<Uid>,
    ) -> bool {
        self.parts(of).iter().all(|(name, part)| {
            let (more, less) = (self.count(seated, name), self.count(lost, name));
            part.settled + more >= part.min + less
        })
    }

    /// How many of some members belong to a part.
    fn count(&self, pods: &BTreeSet<Uid>, part: &str) -> u32 {
        let own =
            |uid: &&Uid| part_of(&self.pods[*uid].pod).is_some_and(|(known, _)| *known == *part);
        u32::try_from(pods.iter().filter(own).count()).expect("small")
    }

    /// Whether a part of a gang has less than its minimum.
    pub(crate) fn lacks_part(&self, of: &Gang) -> bool {
        self.parts(of).values().any(|part| !part.has_minimum())
    }
}

impl World {
    /// Whether nobody is left of a part of a gang that runs: then it need not grow.
    pub(crate) fn has_lost_part(&self, of: &GangKey) -> bool {
        let known = self.parts(of).len();
        self.bound(of) > 0 && self.gangs.get(of).is_some_and(|gang| known < gang.parts)
    }

    /// The parts of a gang as they truly stand; those of which nobody is left do not count.
    pub(crate) fn parts(&self, of: &GangKey) -> Vec<Part> {
        let mut parts: BTreeMap<Box<str>, Part> = BTreeMap::new();
        let members = self.pods.values().map(|truth| &truth.pod);
        for pod in members.filter(|pod| is_of(pod, of)) {
            let Some((name, min)) = part_of(pod) else { continue };
            let runs = pod.node.is_some() && !pod.deleting && pod.phase == Phase::Live;
            let waits = pod.node.is_none() && !pod.deleting && pod.phase == Phase::Live;
            let settled = runs || pod.phase == Phase::Succeeded;
            if settled || waits {
                let part = parts.entry(name).or_default();
                part.min = min;
                part.settled += u32::from(settled);
                part.waiting += u32::from(waits);
                part.ended += u32::from(pod.phase == Phase::Succeeded);
                part.headers += u32::from(waits && pod.header);
            }
        }
        parts.into_values().collect()
    }

    /// Keeps in mind since when gangs run, and which parts they have, as long as something of them
    /// has room, or may have it again: a victim whose plan may be given up. Before a cycle bound
    /// some, and `begun` was seated, if `bound` names them.
    fn remember(&mut self, bound: &[Uid], begun: &BTreeSet<Gang>) {
        // before that nothing is looked at
        if !self.shadow.leads || !self.scheduler.is_synced() {
            return;
        }
        let going: BTreeSet<Uid> = self.shadow.plans.values().flatten().copied().collect();
        let mut oldest: BTreeMap<(&str, &str), (WallTime, bool)> = BTreeMap::new();
        let mut may_stay: BTreeSet<Gang> = BTreeSet::new();
        let lives = |pod: &Pod| pod.profile.is_some() && !pod.deleting && !pod.ended();
        for (uid, pod) in self.shadow.pods.iter().filter(|(_, pod)| lives(pod)) {
            let role = match self.role(*uid, pod, begun) {
                Role::Placed | Role::Bound if bound.contains(uid) => Role::Waiting,
                Role::Foreign | Role::Ended | Role::Going => continue,
                _ if going.contains(uid) && self.scheduler.node_of(*uid).is_some() => {
                    may_stay.insert(gang(pod));
                    continue;
                }
                role => role,
            };
            let (namespace, name) = names_of(pod).unwrap_or((&pod.key.namespace, &pod.key.name));
            let entry = oldest.entry((namespace, name)).or_insert((pod.created, false));
            entry.0 = entry.0.min(pod.created);
            entry.1 |= role != Role::Waiting;
        }
        let with_room = oldest.into_iter().filter(|(_, (_, has_room))| *has_room);
        let mut with_room: BTreeMap<Gang, WallTime> = with_room
            .map(|((namespace, name), (oldest, _))| ((namespace.into(), name.into()), oldest))
            .collect();
        for of in may_stay {
            let known = self.shadow.runs.get(&of).map(|known| known.since);
            known.into_iter().for_each(|since| _ = with_room.entry(of.clone()).or_insert(since));
        }
        let mut scene = None;
        let mut runs = BTreeMap::new();
        for (of, oldest) in with_room {
            let known = self.shadow.runs.get(&of);
            let since = known.map_or(oldest, |known| known.since.min(oldest));
            let minima = if self.features.tasks {
                let scene = scene.get_or_insert_with(|| self.scene_before(bound, begun));
                scene.parts(&of).into_iter().map(|(name, part)| (name, part.min)).collect()
            } else {
                Minima::new()
            };
            runs.insert(of, Run { since, minima });
        }
        self.shadow.runs = runs;
    }

    /// The scene before a cycle bound some, and `begun` was seated.
    fn scene_before(&mut self, bound: &[Uid], begun: &BTreeSet<Gang>) -> Scene {
        let mut scene = self.scene(begun);
        for uid in bound {
            scene.pods.entry(*uid).and_modify(|known| known.role = Role::Waiting);
        }
        scene
    }

    /// The same before a cycle: the runs of gangs of which nothing had room are over.
    pub(crate) fn note_runs(&mut self, bound: &[Uid], seated_before: &BTreeSet<Gang>) {
        let begun = self.seated.difference(seated_before).cloned().collect();
        // whoever had a seat has had room all along
        let seated = seated_before.iter();
        let runs: Vec<(Gang, Run)> =
            seated.filter_map(|of| Some((of.clone(), self.shadow.runs.get(of)?.clone()))).collect();
        self.remember(bound, &begun);
        for (of, run) in runs {
            self.shadow.runs.entry(of).or_insert(run);
        }
    }

    /// I2: with what is bound, each part of a gang has its minimum.
    pub(crate) fn check_parts(&mut self, bound: &[Uid]) {
        if !self.features.tasks {
            return self.remember(&[], &BTreeSet::new());
        }
        let scene = self.scene(&BTreeSet::new());
        self.remember(&[], &BTreeSet::new());
        let bound = bound.iter().filter_map(|uid| scene.pods.get(uid));
        let gangs: BTreeSet<Gang> = bound.map(|known| gang(&known.pod)).collect();
        for of in gangs {
            let parts = scene.parts(&of);
            let whole = parts.values().all(Part::has_minimum);
            self.tally.parts_bound += u64::from(parts.values().any(|part| part.min > 0));
            assert!(whole, "I2: {of:?} is bound without the minima of its parts: {parts:?}");
        }
    }
}
