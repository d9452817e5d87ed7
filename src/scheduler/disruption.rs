//! Disruption budgets as the search for room sees them: each is a capacity of pods, less what plans
//! in force will still take of it.
//!
//! The API server has the last word: it refuses an eviction that a budget forbids. What is known
//! here is a little old, and says nothing of which pods are healthy; it only keeps plans from being
//! made that would be refused.

use super::Scheduler;
use super::plans::Plan;
use super::pods::PodEntry;
use crate::cluster::PodIndex;
use crate::model::Budget;
use rustc_hash::FxHashSet;
use std::collections::BTreeMap;

/// Of a pod that more than one budget protects: the API server evicts none such.
const NEVER: u32 = 0;

/// Budgets by namespace; each has a place in the capacities of a search.
#[derive(Debug, Default)]
pub(super) struct Disruption {
    by_namespace: BTreeMap<Box<str>, Vec<(u32, Budget)>>,
    /// those that the list which is being taken has named
    listed: FxHashSet<(Box<str>, Box<str>)>,
    /// places given so far, that of [`NEVER`] left out
    places: u32,
    free: Vec<u32>,
}

impl Disruption {
    /// Whether the new state allows more than the old one may have.
    fn apply(&mut self, budget: Budget) -> bool {
        self.listed.insert((budget.namespace.clone(), budget.name.clone()));
        let here = self.by_namespace.entry(budget.namespace.clone()).or_default();
        if let Some((_, known)) = here.iter_mut().find(|(_, known)| known.name == budget.name) {
            let more = budget.allowed > known.allowed || budget.selector != known.selector;
            *known = budget;
            return more;
        }
        let place = self.free.pop().unwrap_or_else(|| {
            self.places += 1;
            self.places
        });
        here.push((place, budget));
        false
    }

    fn delete(&mut self, namespace: &str, name: &str) -> bool {
        let Some(here) = self.by_namespace.get_mut(namespace) else { return false };
        let known = here.len();
        here.retain(|(place, budget)| {
            let stays = &*budget.name != name;
            self.free.extend((!stays).then_some(*place));
            stays
        });
        let gone = here.len() < known;
        if here.is_empty() {
            self.by_namespace.remove(namespace);
        }
        gone
    }

    /// Counts a pod that is leaving as evicted, until its budget is heard of again.
    fn take(&mut self, pod: &PodEntry) {
        let Some(here) = self.by_namespace.get_mut(&*pod.namespace) else { return };
        for (_, budget) in here.iter_mut().filter(|(_, budget)| budget.protects(&pod.labels)) {
            budget.allowed = budget.allowed.saturating_sub(1);
        }
    }

    pub(super) fn list_started(&mut self) {
        self.listed.clear();
    }

    /// Forgets what the list lacked; whether there was any.
    fn list_ended(&mut self) -> bool {
        let listed = std::mem::take(&mut self.listed);
        let known = self.by_namespace.values().flatten();
        let known = known.map(|(_, budget)| (budget.namespace.clone(), budget.name.clone()));
        let gone: Vec<(Box<str>, Box<str>)> =
            known.filter(|budget| !listed.contains(budget)).collect();
        gone.iter().for_each(|(namespace, name)| _ = self.delete(namespace, name));
        !gone.is_empty()
    }

    /// Where a pod counts: the place of its budget, or [`NEVER`]; `None`: nowhere.
    fn place(&self, pod: &PodEntry) -> Option<u32> {
        let mut places = self.protecting(pod);
        let place = places.next()?;
        Some(if places.next().is_some() { NEVER } else { place })
    }

    /// The places of all budgets that protect a pod.
    fn protecting<'a>(&'a self, pod: &'a PodEntry) -> impl Iterator<Item = u32> + 'a {
        let here = self.by_namespace.get(&*pod.namespace).into_iter().flatten();
        here.filter(|(_, budget)| budget.protects(&pod.labels)).map(|(place, _)| *place)
    }
}

impl Scheduler {
    pub(super) fn budget_applied(&mut self, budget: Budget) {
        let more = self.disruption.apply(budget);
        self.note_disruption(more);
    }

    pub(super) fn budget_deleted(&mut self, namespace: &str, name: &str) {
        let more = self.disruption.delete(namespace, name);
        self.note_disruption(more);
    }

    pub(super) fn budgets_listed(&mut self) {
        let more = self.disruption.list_ended();
        self.note_disruption(more);
    }

    /// A pod is leaving or gone; if it was evicted, its budget allows one less.
    pub(super) fn note_disrupted(&mut self, pod: PodIndex) {
        let entry = self.pods.get(pod);
        if entry.evicted_by.is_some() {
            self.disruption.take(entry);
        }
    }

    /// More may be allowed now than when room was last looked for.
    fn note_disruption(&mut self, more: bool) {
        self.demands_changed += u64::from(more);
    }

    /// Where pods count; empty: nowhere.
    pub(super) fn disruption_places(&self, pods: &[PodIndex]) -> Vec<Option<u32>> {
        if self.disruption.by_namespace.is_empty() {
            return Vec::new();
        }
        let pods = pods.iter().map(|pod| self.disruption.place(self.pods.get(*pod)));
        let places: Vec<Option<u32>> = pods.collect();
        if places.iter().all(Option::is_none) { Vec::new() } else { places }
    }

    /// How many pods of each place may be evicted, beside those that plans in force will evict.
    pub(super) fn disruptions_allowed(&self) -> Vec<i64> {
        let mut allowed = vec![0; self.disruption.places as usize + 1];
        for (place, budget) in self.disruption.by_namespace.values().flatten() {
            allowed[*place as usize] = i64::from(budget.allowed);
        }
        if self.disruption.by_namespace.is_empty() {
            return allowed;
        }
        for victim in self.plans.values().flat_map(Plan::victims) {
            let pod = self.pods.get(victim);
            for place in self.disruption.protecting(pod).filter(|_| !pod.deleting) {
                allowed[place as usize] = (allowed[place as usize] - 1).max(0);
            }
        }
        allowed
    }
}
