//! How queues stand: what is shown on their objects, and when that is worth a write.
//!
//! Usage changes all the time while anything runs, so it is written together with the rate at which
//! it grows, and only when something else changed. Read back later it is what it would have been.

use super::{ApiCall, Scheduler};
use crate::cluster::ResourceId;
use crate::fairshare::{QueueIndex, Used};
use crate::model::{QueueSpec, Timestamp};
use crate::queue::Home;
use std::collections::BTreeMap;

/// Users that are named; the others are shown as one.
pub const USERS_SHOWN: usize = 500;

/// How a declared queue stands.
#[derive(Clone, Debug, PartialEq)]
pub struct Standing {
    /// Its name.
    pub queue: Box<str>,
    /// What is shown without usage.
    pub facts: Facts,
    /// Usage of the queue and all below it.
    pub used: Used,
    /// Usage of its users, by name, at most [`USERS_SHOWN`].
    pub users: Vec<(Box<str>, Used)>,
    /// Usage of all other users together.
    pub other_users: Used,
}

/// What is shown of a queue and does not change by itself.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Facts {
    /// The generation of the object that this is about.
    pub generation: i64,
    /// Resources that the queue names, or of which its gangs hold or want something, by name.
    pub amounts: Vec<(Box<str>, Amount)>,
    /// Gangs and lone pods that wait past the gang gate, of the queue and all below it.
    pub pending: u32,
    /// Gangs and lone pods that run, of the queue and all below it.
    pub running: u32,
    /// How the windows of the queue and of those above it stand; `None`: there are none.
    pub window: Option<WindowState>,
    /// Why the object is not in force; `None`: it is.
    pub fault: Option<Box<str>>,
}

/// How windows stand, the narrowest last.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum WindowState {
    /// Gangs may start and run.
    Open,
    /// None may start.
    DispatchClosed,
    /// None may start, and what runs is borrowed.
    RunClosed,
}

/// Amounts of one resource, in base units (milli-CPU, bytes, devices).
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Amount {
    /// What the queue may hold as things stand, rounded down.
    pub deserved: i64,
    /// What its gangs hold.
    pub allocated: i64,
    /// What its gangs hold and wait for.
    pub requested: i64,
}

/// Usage that was kept on a queue's object.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Remembered {
    /// The queue.
    pub queue: Box<str>,
    /// How long ago it was so.
    pub age_ms: i64,
    /// Of the queue and all below it.
    pub used: Used,
    /// Of its users.
    pub users: Vec<(Box<str>, Used)>,
}

/// What was shown last.
#[derive(Debug, Default)]
pub(super) struct Shown {
    facts: BTreeMap<Box<str>, Facts>,
    /// what the present state was named when it was looked at last
    stamp: Option<(u64, u64, u64)>,
    /// not before
    next: Timestamp,
}

impl Scheduler {
    /// Takes in that an object declares no valid queue.
    pub(super) fn queue_refused(&mut self, name: Box<str>, generation: i64, why: Box<str>) {
        self.queues_listed.insert(name.clone());
        self.refused_queues.insert(name, (generation, why));
        self.queues_changed += 1;
    }

    /// Keeps what another process stored of usage, until this one decides: from then on it is
    /// measured here.
    pub(super) fn usage_remembered(&mut self, remembered: Remembered) {
        if !self.tree_in_force {
            self.remembered.insert(remembered.queue.clone(), (self.now, remembered));
        }
    }

    /// Gives the queues of the first tree the usage that was stored.
    pub(super) fn restore_usage(&mut self) {
        self.fair.advance(self.now);
        for (name, (heard, kept)) in std::mem::take(&mut self.remembered) {
            let Some(queue) = self.fair.find(&name) else { continue };
            let age_ms = kept.age_ms.saturating_add(self.now.since_ms(heard));
            self.fair.restore_usage(queue, None, kept.used, age_ms);
            for (user, used) in kept.users {
                self.fair.restore_usage(queue, Some(&user), used, age_ms);
            }
        }
    }

    fn standing_stamp(&self) -> (u64, u64, u64) {
        (self.cluster.changes().version(), self.demands_changed, self.queues_changed)
    }

    /// When queues will be looked at next, if something changed that may show.
    pub(super) fn standings_due(&self) -> Option<Timestamp> {
        let changed = self.shown.stamp != Some(self.standing_stamp());
        let shows = self.options.queue_status_interval_ms.is_some();
        let any = !self.queue_specs.is_empty() || !self.refused_queues.is_empty();
        (changed && shows && any).then_some(self.shown.next)
    }

    /// Shows the queues whose facts changed. O(queues x resources + users), at most once in the
    /// configured interval.
    pub(super) fn show_queues(&mut self, now: Timestamp) {
        let Some(interval) = self.options.queue_status_interval_ms else { return };
        if self.standings_due().is_none_or(|due| due > now) {
            return;
        }
        self.shown.stamp = Some(self.standing_stamp());
        self.shown.next = now.plus_ms(interval);
        let mut facts = self.queue_facts();
        facts.retain(|name, facts| self.shown.facts.get(name) != Some(facts));
        if facts.is_empty() {
            return;
        }
        let mut users = self.fair.used_by_users();
        for (name, facts) in facts {
            let queue = self.fair.find(&name);
            let used = queue.map(|queue| self.fair.used(queue)).unwrap_or_default();
            let mut users = queue.and_then(|queue| users.remove(&queue)).unwrap_or_default();
            let other_users = pool(&mut users);
            self.shown.facts.insert(name.clone(), facts.clone());
            let standing = Standing { queue: name, facts, used, users, other_users };
            self.outbox.push(ApiCall::ShowQueue(Box::new(standing)));
        }
    }

    /// Of every object that there is.
    fn queue_facts(&mut self) -> BTreeMap<Box<str>, Facts> {
        let gangs = self.gangs_by_queue();
        let mut found = BTreeMap::new();
        let specs: Vec<(Box<str>, i64)> =
            self.queue_specs.values().map(|spec| (spec.name.clone(), spec.generation)).collect();
        let refused = self.refused_queues.keys().map(|name| (name.clone(), 0));
        let names: BTreeMap<Box<str>, i64> = refused.chain(specs).collect();
        self.shown.facts.retain(|name, _| names.contains_key(name));
        for (name, generation) in names {
            let mut facts = Facts { generation, ..Facts::default() };
            if let Some(queue) = self.fair.find(&name) {
                facts.amounts = self.amounts(queue);
                facts.window = self.window_state(queue);
                (facts.pending, facts.running) = gangs.get(&queue).copied().unwrap_or_default();
            }
            facts.fault = self.queue_fault(&name);
            if let Some((generation, _)) = self.refused_queues.get(&name) {
                facts.generation = *generation;
            }
            found.insert(name, facts);
        }
        found
    }

    fn queue_fault(&self, name: &str) -> Option<Box<str>> {
        if let Some((_, why)) = self.refused_queues.get(name) {
            return Some(why.clone());
        }
        let own = self.tree_faults.iter().find(|fault| &*fault.queue == name);
        if let Some(fault) = own {
            return Some(fault.problem.as_str().into());
        }
        let other = self.tree_faults.first()?;
        let declared = self.queue_specs.get(name);
        let in_force = self.good_specs.iter().find(|spec| &*spec.name == name);
        (declared != in_force)
            .then(|| format!("the tree that this would be part of is refused: {other}").into())
    }

    fn amounts(&mut self, queue: QueueIndex) -> Vec<(Box<str>, Amount)> {
        let resources: Vec<ResourceId> = self.cluster.resources().iter().collect();
        let mut found = Vec::new();
        for resource in resources {
            let name = self.cluster.resources().name(resource);
            let spec = self.fair.spec(queue);
            let named = names(spec, name);
            let name: Box<str> = name.into();
            let amount = Amount {
                deserved: i64::try_from(self.fair.deserved_milli(queue, resource) / 1000)
                    .unwrap_or(i64::MAX),
                allocated: self.fair.allocated(queue, resource),
                requested: self.fair.demand(queue, resource),
            };
            if named || amount != Amount::default() {
                found.push((name, amount));
            }
        }
        found.sort_by(|a, b| a.0.cmp(&b.0));
        found
    }

    /// Pending and running groups of each queue, with those below it.
    fn gangs_by_queue(&self) -> BTreeMap<QueueIndex, (u32, u32)> {
        let mut found: BTreeMap<QueueIndex, (u32, u32)> = BTreeMap::new();
        for (_, group) in self.groups.iter() {
            let Some(leaf) = group.leaf else { continue };
            let runs = group.counts.bound >= group.min_member && group.is_whole();
            let waits = !runs && !matches!(group.home, Home::Gate | Home::Idle);
            if runs || waits {
                for queue in self.fair.path(leaf) {
                    let (pending, running) = found.entry(queue).or_default();
                    *(if runs { running } else { pending }) += 1;
                }
            }
        }
        found
    }
}

fn names(spec: &QueueSpec, resource: &str) -> bool {
    let lists = [&spec.quota, &spec.limit, &spec.lend_limit, &spec.borrow_limit];
    lists.iter().any(|list| list.iter().any(|(name, _)| &**name == resource))
}

/// Keeps the users of greatest usage, and returns what the others have together.
fn pool(users: &mut Vec<(Box<str>, Used)>) -> Used {
    if users.len() <= USERS_SHOWN {
        return Used::default();
    }
    users.sort_by(|a, b| b.1.amount.total_cmp(&a.1.amount).then_with(|| a.0.cmp(&b.0)));
    let others = users.split_off(USERS_SHOWN);
    users.sort_by(|a, b| a.0.cmp(&b.0));
    others.iter().fold(Used::default(), |sum, (_, used)| Used {
        amount: sum.amount + used.amount,
        rate: sum.rate + used.rate,
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_users_of_greatest_usage_are_named_and_the_others_pooled() {
        let named = |count: usize| -> Vec<(Box<str>, Used)> {
            let user = |at: usize| (format!("user-{at:04}").into(), used(at as f64));
            (0..count).map(user).collect()
        };
        let mut few = named(USERS_SHOWN);
        assert_eq!(pool(&mut few), Used::default());
        assert_eq!(few, named(USERS_SHOWN), "500 are all named");
        let mut many = named(USERS_SHOWN + 3);
        assert_eq!(pool(&mut many), Used { amount: 0.0 + 1.0 + 2.0, rate: 0.0 + 2.0 + 4.0 });
        assert_eq!(many, named(USERS_SHOWN + 3)[3..], "the greatest, by name");
    }

    fn used(amount: f64) -> Used {
        Used { amount, rate: 2.0 * amount }
    }
}
