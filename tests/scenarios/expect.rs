//! Compares what is with what a step expects; each difference is a line for people.

use crate::format::{Expect, expand, millis, names};
use crate::objects::resource;
use crate::world::World;
use mss_scheduler::queue::HomeCounts;
use std::collections::BTreeMap;
use std::fmt::Debug;

/// The differences, as text.
pub(crate) fn differences(world: &mut World, expect: &Expect) -> Vec<String> {
    let mut found = Differences(Vec::new());
    let nodes = nodes(world);
    for (name, node) in expect.placed.iter().flatten() {
        for name in expand(name) {
            let is = nodes.get(&name).map_or("pending", |node| node);
            found.compare(&format!("node of {name}"), node.as_str(), is);
        }
    }
    devices(world, expect, &mut found);
    let mut per_node: BTreeMap<String, usize> = BTreeMap::new();
    nodes.values().for_each(|node| *per_node.entry(node.clone()).or_default() += 1);
    found.given("pods per node", expect.per_node.as_ref(), &per_node);
    let mut spread: Vec<usize> = per_node.into_values().collect();
    spread.sort_unstable_by(|a, b| b.cmp(a));
    found.given("spread over nodes", expect.spread.as_ref(), &spread);
    let ours = world.pods.iter().filter(|(_, truth)| truth.pod.profile.is_some());
    let live = ours.filter(|(_, truth)| !truth.pod.ended());
    let waits = live.filter(|(name, truth)| truth.pod.node.is_none() && !nodes.contains_key(*name));
    let pending: Vec<String> = waits.map(|(name, _)| name.clone()).collect();
    found.given("pending", expect.pending.as_ref().map(sorted).as_ref(), &pending);
    let assumed = world.pods.iter().filter(|(_, truth)| world.scheduler.is_assumed(truth.pod.uid));
    let assumed: Vec<String> = assumed.map(|(name, _)| name.clone()).collect();
    found.given("assumed", expect.assumed.as_ref().map(sorted).as_ref(), &assumed);
    for (name, text) in expect.told.iter().flatten() {
        for name in expand(name) {
            let truth = world.pods.get(&name).unwrap_or_else(|| panic!("no pod {name}"));
            let told = truth.told.as_deref().unwrap_or("nothing");
            found.compare(&format!("told to {name}"), text.as_str(), told);
        }
    }
    counted(world, expect, &mut found);
    victims(world, expect, &mut found);
    shares(world, expect, &mut found);
    found.0
}

/// The GPUs that are written on pods, or about to be.
fn devices(world: &World, expect: &Expect, found: &mut Differences) {
    for (name, text) in expect.devices.iter().flatten() {
        let held = world.held.iter().find(|held| held.name == *name);
        let truth = world.pods.get(name).unwrap_or_else(|| panic!("no pod {name}"));
        let devices = held.map_or(truth.pod.devices, |held| held.member.devices);
        let shown = if devices.is_empty() { "none".to_owned() } else { devices.to_string() };
        found.compare(&format!("GPUs of {name}"), text.as_str(), &shown);
    }
}

/// What was done, and what waits.
fn counted(world: &World, expect: &Expect, found: &mut Differences) {
    let done = &world.done;
    let calls = |calls: &Vec<Vec<String>>| calls.iter().map(names).collect::<Vec<_>>();
    found.given("binds", expect.binds.as_ref().map(calls).as_ref(), &done.binds);
    found.given("deletes", expect.deletes.as_ref().map(calls).as_ref(), &done.deletes);
    let quarantined: Vec<String> = world.scheduler.quarantined_nodes().map(Into::into).collect();
    let nodes = expect.quarantined.as_ref().map(sorted);
    found.given("quarantined", nodes.as_ref(), &sorted(&quarantined));
    found.given("node events", expect.node_events.as_ref(), &done.node_events);
    found.given("ignored", expect.ignored.as_ref(), &done.ignored);
    found.given("notes", expect.notes.as_ref(), &done.notes);
    found.given("attempts", expect.attempts.as_ref(), &done.attempts);
    found.given("tells", expect.tells.as_ref(), &done.tells);
    let homes = homes(world.scheduler.gauges().groups);
    found.given("homes", expect.homes.as_ref(), &homes);
    if let Some(timer) = &expect.timer {
        let next = world.scheduler.next_deadline().map(|next| next.0 - world.now);
        let shown = |time: Option<i64>| time.map_or("none".to_owned(), |time| format!("{time}ms"));
        let expected = (timer != "none").then(|| millis(timer));
        found.compare("timer", &shown(expected), &shown(next));
    }
}

/// Who got notice, and who had to go.
fn victims(world: &World, expect: &Expect, found: &mut Differences) {
    let done = &world.done;
    let evicted: Vec<String> = done.evictions.concat();
    found.given("evicted", expect.evicted.as_ref().map(sorted).as_ref(), &sorted(&evicted));
    let calls = |calls: &Vec<Vec<String>>| calls.iter().map(names).collect::<Vec<_>>();
    found.given("evictions", expect.evictions.as_ref().map(calls).as_ref(), &done.evictions);
    found.given("warned", expect.warned.as_ref().map(sorted).as_ref(), &sorted(&done.warned));
    found.given(
        "withdrawn",
        expect.withdrawn.as_ref().map(sorted).as_ref(),
        &sorted(&done.withdrawn),
    );
    found.given("spared", expect.spared.as_ref().map(sorted).as_ref(), &sorted(&done.spared));
    found.given("reported", expect.reported.as_ref(), &done.reported);
    for (name, text) in expect.notice.iter().flatten() {
        for name in expand(name) {
            let notice = world.victims.notices.get(&name).map_or("nothing", |n| &n.text);
            found.compare(&format!("notice of {name}"), text.as_str(), notice);
        }
    }
    let tallies = world.scheduler.tallies();
    let mut plans: BTreeMap<String, u64> =
        tallies.plans_given_up.iter().map(|(why, count)| ((*why).to_owned(), *count)).collect();
    plans.insert("reported".to_owned(), tallies.plans_reported);
    plans.insert("drains".to_owned(), tallies.drains);
    plans.insert("drains-expired".to_owned(), tallies.drains_expired);
    plans.retain(|_, count| *count > 0);
    found.given("plans", expect.plans.as_ref(), &plans);
}

/// What queues deserve and hold.
fn shares(world: &mut World, expect: &Expect, found: &mut Differences) {
    if expect.deserved.is_none() && expect.allocated.is_none() && expect.tree_faults.is_none() {
        return;
    }
    let shares = world.scheduler.shares();
    let share = |name: &str| {
        let (queue, name) = name.split_once(' ').unwrap_or((name, "gpu"));
        let share = shares.iter().find(|s| s.queue == queue && s.resource == resource(name));
        let unit = if name == "cpu" { 1000_i64 } else { 1 };
        // a queue that is not there deserves and holds nothing
        share.map_or((0, 0), |s| (s.deserved_milli / i128::from(unit), s.allocated / unit))
    };
    for (name, amount) in expect.deserved.iter().flatten() {
        let is = share(name).0 as f64 / 1000.0;
        found.compare(&format!("deserved by {name}"), amount, &is);
    }
    for (name, amount) in expect.allocated.iter().flatten() {
        found.compare(&format!("allocated to {name}"), amount, &share(name).1);
    }
    let faults: Vec<String> =
        world.scheduler.tree_faults().iter().map(ToString::to_string).collect();
    found.given("tree faults", expect.tree_faults.as_ref(), &faults);
}

/// The node of every pod of ours that runs, is bound or about to be.
fn nodes(world: &World) -> BTreeMap<String, String> {
    let ours = world.pods.iter().filter(|(_, truth)| truth.pod.profile.is_some());
    let live = ours.filter(|(_, truth)| !truth.pod.ended());
    let node = |(name, truth): (&String, &crate::world::Truth)| {
        let bound = truth.pod.node.as_deref();
        let node = bound.or_else(|| world.scheduler.node_of(truth.pod.uid))?;
        Some((name.clone(), node.to_owned()))
    };
    live.filter_map(node).collect()
}

fn homes(counts: HomeCounts) -> BTreeMap<String, usize> {
    let homes = [
        ("gate", counts.gate),
        ("active", counts.active),
        ("backoff", counts.backoff),
        ("unschedulable", counts.unschedulable),
        ("committing", counts.committing),
    ];
    let some = homes.into_iter().filter(|(_, count)| *count > 0);
    some.map(|(name, count)| (name.to_owned(), count)).collect()
}

fn sorted(list: &Vec<String>) -> Vec<String> {
    let mut list = names(list);
    list.sort();
    list
}

struct Differences(Vec<String>);

impl Differences {
    fn given<T: Debug + PartialEq>(&mut self, what: &str, expected: Option<&T>, found: &T) {
        if let Some(expected) = expected {
            self.compare(what, expected, found);
        }
    }

    fn compare<T: Debug + PartialEq + ?Sized>(&mut self, what: &str, expected: &T, found: &T) {
        if expected != found {
            let text = format!("{what}\n      expected {expected:?}\n      found    {found:?}");
            self.0.push(text);
        }
    }
}
