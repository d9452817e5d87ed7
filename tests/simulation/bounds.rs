//! What is closed for a time and what ends in time: nodes in quarantine (N1), run limits (N2). And
//! who may be bound at all (I7).

use crate::scene::run_limits;
use crate::world::World;
use mss_scheduler::model::pod::digest;
use mss_scheduler::model::{Phase, Pod, Uid, WallTime};
use mss_scheduler::scheduler::{BindMember, NodeNews, PodRef};
use std::collections::BTreeSet;

/// No more is replaced in a world that has so many pods.
const PODS_MAX: usize = 120;
/// What a pod may run on in a world without faults: one deletion failed before they stopped.
const OVERDUE_MS: i64 = 45_000;

impl World {
    /// Pods start, some of them late; on every third node many are refused.
    pub(crate) fn step_kubelets(&mut self) {
        if !self.features.quarantine {
            return;
        }
        let starts = |pod: &Pod| {
            let bound = pod.profile.is_some() && pod.node.is_some();
            bound && !pod.started && !pod.ended() && !pod.deleting
        };
        let starting = self.pods.values().map(|truth| &truth.pod).filter(|pod| starts(pod));
        let starting: Vec<(Uid, u64)> =
            starting.filter_map(|pod| Some((pod.uid, digest(pod.node.as_deref()?)))).collect();
        for (uid, node) in starting {
            let ill = self.faults && node.is_multiple_of(3);
            match self.random.below(4) {
                0 | 1 if ill => self.refuse(uid),
                2 if self.faults => {}
                _ => self.modify(uid, |pod| pod.started = true),
            }
        }
    }

    fn refuse(&mut self, uid: Uid) {
        let now = WallTime(self.now);
        self.modify(uid, |pod| {
            pod.phase = Phase::Failed;
            pod.failed_as = Some("UnexpectedAdmissionError".into());
            pod.finished_at = Some(now);
        });
        if self.pods.len() < PODS_MAX {
            self.replace(uid);
        }
    }

    /// N1: a node is closed, beside a part of the others at most, or open again.
    pub(crate) fn note_node(&mut self, name: &str, news: NodeNews) {
        match news {
            NodeNews::GpuTopologyRefused | NodeNews::SlotsRefused => return,
            NodeNews::QuarantineEnded => {
                self.shadow.quarantined.remove(name);
                return;
            }
            NodeNews::Quarantined => self.shadow.quarantined.remove(name),
        };
        self.tally.quarantines += 1;
        let options = self.options.quarantine.expect("N1: a quarantine that nobody asked for");
        let used = self.shadow.pods.values().filter_map(|pod| pod.node.clone());
        let known: BTreeSet<Box<str>> = self.shadow.nodes.keys().cloned().chain(used).collect();
        let others = self.shadow.quarantined.len();
        let most = (known.len() * options.percent / 100).max(1);
        assert!(others < most, "N1: {others} of {} nodes were in quarantine before", known.len());
        self.shadow.quarantined.insert(name.into(), self.now);
    }

    /// N1: no quarantine is longer than the longest.
    pub(crate) fn check_quarantines(&self) {
        let Some(options) = self.options.quarantine else { return };
        for (node, since) in &self.shadow.quarantined {
            let over = since + options.for_max_ms <= self.now;
            assert!(!over, "N1: {node} is in quarantine since {since}, it is {}", self.now);
        }
    }

    /// I7, N1: who is bound waits for it, as far as is known, and its node takes new pods.
    pub(crate) fn check_binds(&self, members: &[BindMember]) {
        for member in members {
            let (uid, node) = (member.pod.uid, &*member.node);
            let waits = |pod: &Pod| {
                pod.profile.is_some() && pod.node.is_none() && !pod.deleting && !pod.ended()
            };
            let known = self.shadow.pods.get(&uid);
            assert!(known.is_some_and(waits), "I7: {uid} is bound: {known:?}");
            let closed = self.shadow.quarantined.contains_key(node);
            assert!(!closed, "N1: {uid} is bound to {node}, which is in quarantine");
        }
    }

    /// Those that are let into drained room keep the limit that they have then.
    pub(crate) fn note_promises(&mut self, bound: &[Uid]) {
        if self.options.drains.is_none() {
            return;
        }
        for uid in bound.iter().copied() {
            let limit = self.shadow.pods.get(&uid).and_then(|pod| self.limit_of(pod));
            if let Some(limit) = limit {
                let known = self.shadow.promised.entry(uid).or_insert(limit);
                *known = limit.min(*known);
            }
        }
    }

    /// How long a pod runs at most by its own word and that of its queues.
    fn limit_of(&self, pod: &Pod) -> Option<i64> {
        let (default, maximum) = run_limits(&self.shadow.in_force, &pod.key.namespace);
        let said = pod.run_limit_ms.or(default).or(maximum);
        said.into_iter().chain(maximum).min()
    }

    /// N2: nobody is ended before its time is over.
    pub(crate) fn check_ends(&mut self, pods: &[PodRef]) {
        for pod in pods.iter().filter_map(|pod| self.pods.get(&pod.uid)).map(|truth| &truth.pod) {
            let promised = self.shadow.promised.get(&pod.uid).copied();
            let limit = self.limit_of(pod).into_iter().chain(promised).min();
            let end = pod.bound_at.zip(limit).map(|(at, limit)| at.0 + limit);
            let over = end.is_some_and(|end| end <= self.now);
            assert!(over, "N2: {} is ended at {}, its time is over at {end:?}", pod.key, self.now);
        }
        self.tally.ended_by_limit += pods.len() as u64;
    }

    /// N2: when faults have stopped, everybody has been ended whose time was over.
    pub(crate) fn check_overdue(&self) {
        for pod in self.pods.values().map(|truth| &truth.pod) {
            let runs = pod.profile.is_some() && !pod.ended() && !pod.deleting;
            let end = pod.bound_at.zip(self.limit_of(pod)).filter(|_| runs);
            let over = end.is_some_and(|(at, limit)| at.0 + limit + OVERDUE_MS <= self.now);
            assert!(!over, "N2: {} runs on, its time was over: {end:?}", pod.key);
        }
    }
}
