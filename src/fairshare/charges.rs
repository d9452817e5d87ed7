//! What is charged and pending, and the time that passes between.

use super::column::Column;
use super::tree::{QueueIndex, Tree};
use super::usage::{NEGLIGIBLE, UsageOptions, Used};
use super::{FairShare, accounts};
use crate::cluster::{CPU, EPHEMERAL_STORAGE, PODS, ResourceId};
use crate::model::Timestamp;
use std::collections::BTreeMap;

impl FairShare {
    /// Counts (`sign` 1) or uncounts (-1) room taken by a pod, at the leaf and above. `requests`
    /// are those of its class; what is not accounted is left out. O(depth x resources).
    pub fn charge(&mut self, leaf: QueueIndex, requests: &[(ResourceId, i64)], sign: i64) {
        let factors = self.usage.factors();
        let counts = |resource: &ResourceId| factors.iter().any(|(id, _)| id == resource);
        if self.lsf.in_use || requests.iter().any(|(resource, _)| counts(resource)) {
            let mut queue = Some(leaf);
            while let Some(slot) = queue {
                self.usage.accrue(slot, self.flow(slot));
                queue = self.tree.parent(slot);
            }
        }
        self.for_each_column(leaf, requests, sign, Column::charge);
    }

    /// Takes back what room of these requests, charged for the last `millis`, has added to usage at
    /// the leaf and above: it came to nothing. While it is still charged. O(depth x resources).
    pub fn refund(&mut self, leaf: QueueIndex, requests: &[(ResourceId, i64)], millis: i64) {
        let factors = self.usage.factors();
        let factor = |resource: &ResourceId| {
            factors.iter().find(|(id, _)| id == resource).map_or(0.0, |(_, factor)| *factor)
        };
        let weighted = requests.iter().map(|(resource, n)| *n as f64 * factor(resource)).sum();
        let cores = requests.iter().filter(|(resource, _)| *resource == CPU && self.lsf.in_use);
        let cores: i64 = cores.map(|(_, amount)| amount).sum();
        if millis <= 0 || (weighted == 0.0 && cores == 0) {
            return;
        }
        let queues: Vec<QueueIndex> = self.tree.path(leaf).collect();
        for queue in queues {
            self.usage.accrue(queue, self.flow(queue));
            self.usage.take_back(queue, weighted, millis);
            self.usage.add_past_cpu(queue, -cores, millis);
        }
    }

    /// Counts (`sign` 1) or uncounts (-1) pending countable demand, as [`Self::charge`] does.
    pub fn pend(&mut self, leaf: QueueIndex, requests: &[(ResourceId, i64)], sign: i64) {
        self.for_each_column(leaf, requests, sign, Column::pend);
    }

    fn for_each_column(
        &mut self,
        leaf: QueueIndex,
        requests: &[(ResourceId, i64)],
        sign: i64,
        count: fn(&mut Column, &Tree, QueueIndex, i128),
    ) {
        debug_assert!(self.tree.is_live(leaf), "the leaf is acquired");
        for (resource, amount) in requests {
            self.add_column(*resource);
            if let Some(Some(column)) = self.columns.get_mut(resource.index()) {
                count(column, &self.tree, leaf, i128::from(*amount) * i128::from(sign));
            }
        }
        if sign < 0 {
            self.free_unused(leaf);
        }
    }

    /// Whether queues share a resource. One that is not bound yet counts as shared until it is.
    pub(super) fn is_accounted(&self, resource: ResourceId) -> bool {
        match self.bound.get(resource.index()) {
            Some((_, name)) => accounts(name),
            None => resource != PODS && resource != EPHEMERAL_STORAGE,
        }
    }

    /// Makes the column of a resource that is charged for the first time.
    fn add_column(&mut self, resource: ResourceId) {
        let index = resource.index();
        if self.columns.get(index).is_some_and(Option::is_some) {
            return;
        }
        if self.is_accounted(resource) {
            if self.columns.len() <= index {
                self.columns.resize_with(index + 1, || None);
            }
            let capacity = self.capacity.get(index).copied().unwrap_or(0);
            self.columns[index] = Some(Box::new(Column::new(&self.tree, None, capacity)));
        }
    }

    /// Forgets all that is charged and pending, and keeps the leaves: for when resources became
    /// known and classes ask for more than was charged. Leaves without a use are freed.
    /// O(slots x resources).
    pub fn forget_charges(&mut self) {
        self.accrue_all();
        for column in self.columns.iter_mut().flatten() {
            column.forget();
        }
        for index in self.tree.declared()..self.tree.slots() {
            self.free_unused(QueueIndex::at(index));
        }
    }

    /// What counts as usage, and how fast it fades, from now on. O(slots).
    pub fn set_usage_options(&mut self, options: UsageOptions) {
        self.accrue_all();
        self.usage.set_options(options);
        for (resource, name) in self.bound.iter().filter(|(_, name)| accounts(name)) {
            self.usage.bind(*resource, name);
        }
    }

    /// Brings all usage up to now, before what counts as usage changes.
    pub(super) fn accrue_all(&mut self) {
        for index in 0..self.tree.slots() {
            self.usage.accrue(QueueIndex::at(index), self.flow(QueueIndex::at(index)));
        }
    }

    /// Time passes. O(1).
    pub fn advance(&mut self, now: Timestamp) {
        self.usage.advance(now);
    }

    /// Usage of a queue and all below it. O(resources with a factor).
    #[must_use]
    pub fn used(&self, queue: QueueIndex) -> Used {
        let flow = self.flow(queue);
        Used { amount: self.usage.amount(queue, flow), rate: flow.weighted }
    }

    /// Usage of the users of all declared queues, with a leaf or only remembered, each list by
    /// name. O(users).
    #[must_use]
    pub fn used_by_users(&self) -> BTreeMap<QueueIndex, Vec<(Box<str>, Used)>> {
        let mut found: BTreeMap<QueueIndex, Vec<(Box<str>, Used)>> = BTreeMap::new();
        for queue in (0..self.tree.declared()).map(QueueIndex::at) {
            for (user, leaf) in self.tree.users(queue) {
                found.entry(queue).or_default().push((user.into(), self.used(leaf)));
            }
        }
        for (key, amount) in self.usage.remembered() {
            if let Some((queue, user)) = self.tree.user_of_key(key) {
                let used = Used { amount, rate: 0.0 };
                found.entry(queue).or_default().push((user.into(), used));
            }
        }
        for users in found.values_mut() {
            users.retain(|(_, used)| used.amount >= NEGLIGIBLE || used.rate > 0.0);
            users.sort_by(|a, b| a.0.cmp(&b.0));
        }
        found
    }

    /// Takes over usage that was kept elsewhere: what was so `age_ms` ago, if the rate has been the
    /// same since. It replaces what is known. `user`: none for the queue itself.
    pub fn restore_usage(
        &mut self,
        queue: QueueIndex,
        user: Option<&str>,
        used: Used,
        age_ms: i64,
    ) {
        let amount = self.usage.aged(used, age_ms);
        let slot = match user {
            None => Some(queue),
            Some(user) => self.tree.leaf_of(queue, user),
        };
        match (slot, user) {
            (Some(slot), _) => self.usage.set(slot, amount),
            (None, Some(user)) => {
                let key = format!("{}//{user}", self.tree.key(queue));
                self.usage.set_history(key, amount);
            }
            (None, None) => {}
        }
    }
}
