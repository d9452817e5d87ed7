//! Drains: room kept free for a gang that is entitled to it and would otherwise wait for ever, as
//! smaller ones take each seat that falls vacant.
//!
//! A gang of which the minimum is within what its queues deserve, and for which no room can be
//! made, gets seats after a while. They are counted as taken on their nodes, so what ends there is
//! not followed by anything else, but for pods with a run limit that are gone by the seat date. The
//! gang itself is tried as before; it does not see its own seats. At the seat date the drain ends,
//! and the next is twice as far off. LSF calls this a reservation.

use super::Scheduler;
use super::pods::{PodEntry, PodState};
use crate::cluster::{ClassId, NodeIndex, ResourceId};
use crate::model::Timestamp;
use crate::model::fault::{Fault, is_made};
use crate::queue::{Amounts, GroupIndex};
use std::collections::BTreeMap;

/// Between a pod's bind and the moment its run limit counts from, and for its end to be seen.
pub(super) const SLACK_MS: i64 = 60_000;
/// Before a gang for which no seats were found is looked at again.
const AGAIN_MS: i64 = 60_000;
/// Doublings of the wait for the next drain.
const DOUBLINGS_MAX: u32 = 6;

/// When room is drained, for how long, and how much of it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct DrainOptions {
    /// How long a gang waits before room is drained for it.
    pub after_ms: i64,
    /// How long a drain lasts at most.
    pub for_ms: i64,
    /// The part of the cluster that all drains together may keep, in percent.
    pub percent: u32,
}

/// Seats kept for one gang.
#[derive(Debug)]
pub(super) struct Drain {
    seats: Vec<(ClassId, NodeIndex)>,
    extra: Amounts,
    /// the seat date
    until: Timestamp,
}

impl Scheduler {
    pub(super) fn is_drained_for(&self, index: GroupIndex) -> bool {
        self.drains.contains_key(&index)
    }

    /// Keeps seats for a gang for which no room could be made, if it is time for that.
    pub(super) fn consider_drain(&mut self, index: GroupIndex) {
        let none = is_made(Fault::DrainForgotten);
        let Some(options) = self.options.drains.filter(|_| !none) else { return };
        let group = self.groups.get(index);
        let (leaf, extra) = (group.leaf.expect("it was tried"), group.claim.clone());
        let due = group.drain_at.unwrap_or(group.first_seen.plus_ms(options.after_ms));
        if self.is_drained_for(index) {
            return;
        }
        if due > self.now {
            return self.retry_room_at(due);
        }
        if self.is_single_gpu(&extra)
            || self.fair.too_small_for(leaf, &extra).is_some()
            || self.fair.limited_by(leaf, &extra).is_some()
            || self.too_many_run(index).is_some()
            || !self.may_drain(&extra, options)
        {
            return;
        }
        let Some((seats, until)) = self.vacancies(index, options) else {
            let again = self.now.plus_ms(AGAIN_MS);
            self.groups.get_mut(index).drain_at = Some(again);
            return self.retry_room_at(again);
        };
        let seats: Vec<(ClassId, NodeIndex)> = seats
            .into_iter()
            .map(|seat| {
                let spec = (*self.cluster.class(seat.class).spec).clone();
                (self.cluster.acquire_class(spec), seat.node)
            })
            .collect();
        seats.iter().for_each(|(class, node)| self.cluster.place(*class, *node));
        self.drains.insert(index, Drain { seats, extra, until });
        self.tallies.drains += 1;
        // some may run there until then
        for other in self.queue.unschedulable() {
            if other == index || self.run_limit(other).is_some() {
                self.mark(other);
            }
        }
    }

    /// Whether all that is claimed is one GPU with what goes with it: then nothing smaller is in
    /// the way, and the gang's turn comes with the next GPU.
    fn is_single_gpu(&self, extra: &Amounts) -> bool {
        let is_gpu = |resource: &ResourceId| self.cluster.resources().is_gpu(*resource);
        let gpus = extra.iter().filter(|(resource, _)| is_gpu(resource));
        gpus.map(|(_, amount)| *amount).sum::<i64>() == 1
    }

    /// Whether drains may keep so much more.
    fn may_drain(&self, extra: &Amounts, options: DrainOptions) -> bool {
        let is_gpu = |resource: &ResourceId| self.cluster.resources().is_gpu(*resource);
        let gpus = extra.iter().any(|(resource, _)| is_gpu(resource));
        let counted = extra.iter().filter(|(resource, _)| is_gpu(resource) || !gpus);
        let kept = |resource: ResourceId| -> i64 {
            let all = self.drains.values().flat_map(|drain| &drain.extra);
            all.filter(|(known, _)| *known == resource).map(|(_, amount)| *amount).sum()
        };
        counted.into_iter().all(|(resource, amount)| {
            let most = i128::from(self.fair.capacity(*resource)) * i128::from(options.percent);
            i128::from(kept(*resource) + amount) * 100 <= most
        })
    }

    /// How long until the waiting members of a group, bound now, are gone, if that is known.
    pub(super) fn run_limit(&self, index: GroupIndex) -> Option<i64> {
        let members = self.groups.get(index).members.iter().map(|member| self.pods.get(*member));
        let waiting = members.filter(|pod| pod.state == PodState::Waiting);
        let limits: Option<Vec<i64>> = waiting.map(|pod| self.gone_after(pod)).collect();
        limits?.into_iter().max()
    }

    /// How long after its bind a pod is gone, if it runs for as long as it may.
    pub(super) fn gone_after(&self, pod: &PodEntry) -> Option<i64> {
        let limit = self.limit_of(pod)?;
        Some(limit.saturating_add(pod.termination_ms).saturating_add(SLACK_MS))
    }

    /// Drains whose seats do not hold up a group: its own, and those whose seat date comes after
    /// its pods are gone.
    pub(super) fn open_drains(&self, index: GroupIndex) -> Vec<GroupIndex> {
        if self.drains.is_empty() {
            return Vec::new();
        }
        let gone = self.run_limit(index).map(|limit| self.now.plus_ms(limit));
        let open = |(group, drain): &(&GroupIndex, &Drain)| {
            **group == index || gone.is_some_and(|gone| gone <= drain.until)
        };
        self.drains.iter().filter(open).map(|(group, _)| *group).collect()
    }

    /// Looks for room without the seats of some drains, which are put back afterwards. If nothing
    /// of what was found stands, all is as it was, and nobody else need look again.
    pub(super) fn without_drains<Found>(
        &mut self,
        drains: &[GroupIndex],
        look: impl FnOnce(&mut Self) -> Found,
    ) -> Found {
        if drains.is_empty() {
            return look(self);
        }
        let before = self.cluster.changes().version();
        let drained = drains.iter().flat_map(|group| &self.drains[group].seats);
        let seats: Vec<(ClassId, NodeIndex)> = drained.copied().collect();
        seats.iter().for_each(|(class, node)| self.cluster.unplace(*class, *node));
        let without = self.cluster.changes().version();
        let found = look(self);
        let is_same = self.cluster.changes().version() == without;
        seats.iter().for_each(|(class, node)| self.cluster.place(*class, *node));
        if is_same && !is_made(Fault::LookIsAChange) {
            self.cluster.back_at(before);
        }
        found
    }

    /// Ends the drain of a group that was seated, or is gone; whether there was one.
    pub(super) fn end_drain(&mut self, index: GroupIndex) -> bool {
        let Some(drain) = self.drains.remove(&index) else { return false };
        for (class, node) in drain.seats {
            self.cluster.unplace(class, node);
            self.cluster.release_class(class);
            self.improved.insert(node);
        }
        true
    }

    /// Ends drains whose date has come, whose group waits no longer, or of which a node is gone;
    /// has the others tried where room came free, and counts what stands idle for them.
    pub(super) fn step_drains(&mut self, now: Timestamp) {
        if self.drains.is_empty() {
            return;
        }
        let room_came = !self.improved.is_empty();
        for index in self.drains.keys().copied().collect::<Vec<_>>() {
            let drain = &self.drains[&index];
            let is_lost =
                drain.seats.iter().any(|(_, node)| self.cluster.node(*node).node.is_none());
            let group = self.groups.get(index);
            let waits = group.needed() > 0 && group.counts.waiting >= group.needed();
            if drain.until <= now {
                self.tallies.drains_expired += 1;
                let after = self.options.drains.map_or(0, |options| options.after_ms);
                let group = self.groups.get_mut(index);
                let doublings = group.drains.min(DOUBLINGS_MAX);
                group.drains += 1;
                group.drain_at = Some(now.plus_ms(after << doublings));
            }
            if drain.until <= now || is_lost || !waits {
                self.end_drain(index);
                self.mark(index);
            } else if room_came {
                self.mark(index);
            }
        }
        self.meter_drains(now);
    }

    /// When the next drain ends.
    pub(super) fn drain_deadline(&self) -> Option<Timestamp> {
        self.drains.values().map(|drain| drain.until).min()
    }

    /// Seats that are kept, for what is counted from nothing.
    pub(super) fn drained_seats(&self) -> impl Iterator<Item = (ClassId, NodeIndex)> {
        self.drains.values().flat_map(|drain| drain.seats.iter().copied())
    }

    /// Adds the GPUs that stood idle for drains since the last time.
    fn meter_drains(&mut self, now: Timestamp) {
        let since = std::mem::replace(&mut self.drains_metered, now);
        let passed = u64::try_from(now.since_ms(since)).unwrap_or(0);
        let mut kept: BTreeMap<(NodeIndex, ResourceId), i64> = BTreeMap::new();
        for (class, node) in self.drained_seats() {
            for (resource, amount) in &self.cluster.class(class).requests {
                if self.cluster.resources().is_gpu(*resource) {
                    *kept.entry((node, *resource)).or_default() += amount;
                }
            }
        }
        let idle = kept.into_iter().map(|((node, resource), kept)| {
            let taken = self.cluster.requested(resource, node) - kept;
            (self.cluster.allocatable(resource, node) - taken).clamp(0, kept)
        });
        let idle: u64 = idle.map(|gpus| u64::try_from(gpus).unwrap_or(0)).sum();
        self.tallies.drained_gpu_ms += idle * passed;
    }
}
