//! What must be true of a world, judged without the scheduler's own bookkeeping.

use crate::parts::Part;
use crate::scene::is_selected;
use crate::world::{Truth, World, is_of};
use mss_scheduler::model::{Node, Pod};

fn amount(list: &[(Box<str>, i64)], name: &str) -> i64 {
    list.iter().find(|(n, _)| &**n == name).map_or(0, |(_, amount)| *amount)
}

fn on<'a>(world: &'a World, node: &'a str) -> impl Iterator<Item = &'a Truth> {
    let there = move |truth: &&Truth| truth.pod.node.as_deref() == Some(node);
    world.pods.values().filter(there).filter(|truth| !truth.pod.ended())
}

/// After every step: no pod is bound twice, and no node holds more of ours than it has room for
/// beside nothing else (foreign pods come unasked, so they may overfill a node).
pub(crate) fn truth(world: &World) {
    for truth in world.pods.values() {
        assert!(truth.binds <= 1, "I4: {} is bound {} times", truth.pod.uid, truth.binds);
    }
    for (name, node) in &world.nodes {
        let ports = on(world, name).filter(|truth| truth.binds > 0);
        let ports = ports.filter(|truth| !truth.pod.class.host_ports.is_empty()).count();
        assert!(ports <= 1, "I1: the same host port is taken by {ports} pods of {name}");
        for (resource, allocatable) in &node.allocatable {
            let ours = on(world, name).filter(|truth| truth.binds > 0);
            let used: i64 = ours.map(|truth| request(&truth.pod, resource)).sum();
            assert!(used <= *allocatable, "I1: {name} has {used} of {allocatable} {resource}");
        }
    }
}

fn request(pod: &Pod, resource: &str) -> i64 {
    if resource == "pods" { 1 } else { amount(&pod.class.requests, resource) }
}

/// When faults have stopped: no gang is half bound, and no group that fits is left waiting.
/// How many gangs could not be judged.
pub(crate) fn settled(world: &World) -> u64 {
    for (name, gang) in &world.gangs {
        assert!(
            gang.half_since.is_none(),
            "G2: {name:?} has {} of {} bound and was never whole",
            world.bound(name),
            gang.min
        );
    }
    world.check_overdue();
    if world.scheduler.gauges().drains > 0 {
        return 0; // room is kept free then
    }
    for truth in world.pods.values() {
        let pod = &truth.pod;
        let waits = pod.profile.is_some() && pod.node.is_none() && !pod.ended();
        let waits = waits && !pod.non_preemptible;
        if waits && pod.group.is_none() && !world.is_limited(&pod.key.namespace) {
            let fits = world.nodes.values().find(|node| fits(world, node, pod));
            assert!(
                fits.is_none(),
                "G4, work conservation: {} waits though {} has room",
                pod.key,
                fits.map_or("", |node| &node.name)
            );
        }
    }
    gangs_do_not_wait_in_vain(world)
}

/// Gangs of one class: the number that fits is a sum over nodes.
fn gangs_do_not_wait_in_vain(world: &World) -> u64 {
    let mut unjudged = 0;
    for (name, gang) in &world.gangs {
        let member = |truth: &&Truth| is_of(&truth.pod, name);
        let members: Vec<&Pod> = world.pods.values().filter(member).map(|t| &t.pod).collect();
        let waiting: Vec<&&Pod> =
            members.iter().filter(|pod| pod.node.is_none() && !pod.deleting).collect();
        let Some(first) = waiting.first() else { continue };
        let alike = waiting.iter().all(|pod| pod.class == first.class);
        let bound = world.bound(name) as usize;
        if !alike
            || first.non_preemptible
            || world.is_limited(&first.key.namespace)
            || bound + waiting.len() < gang.min as usize
        {
            continue;
        }
        let room: usize = world.nodes.values().map(|node| capacity(world, node, first)).sum();
        let parts = world.parts(name);
        if parts.iter().any(|part| part.settled + part.waiting < part.min) {
            continue;
        }
        // who has ended well may belong to an earlier run, and then counts for nothing
        let doubtful = |part: &Part| part.settled + part.waiting < part.min + part.ended;
        if world.has_lost_part(name) || parts.iter().any(doubtful) {
            unjudged += 1;
            continue;
        }
        let lacking = parts
            .iter()
            .map(|part| (part.min + part.ended).saturating_sub(part.settled))
            .sum::<u32>();
        let header = usize::from(lacking > 0 && waiting.iter().any(|pod| pod.header));
        let needed = (gang.min as usize).saturating_sub(bound);
        let needed = needed.max(lacking as usize + header).max(1);
        assert!(
            room < needed,
            "G4, work conservation: {name:?} needs {needed} of {} waiting, {room} fit",
            waiting.len()
        );
    }
    unjudged
}

fn fits(world: &World, node: &Node, pod: &Pod) -> bool {
    capacity(world, node, pod) > 0
}

/// How many pods like this one the node takes.
fn capacity(world: &World, node: &Node, pod: &Pod) -> usize {
    if node.unschedulable || !node.taints.is_empty() || !is_selected(node, &pod.class) {
        return 0;
    }
    let ports = !pod.class.host_ports.is_empty();
    let taken = on(world, &node.name).any(|truth| !truth.pod.class.host_ports.is_empty());
    if ports && taken {
        return 0;
    }
    let room = node.allocatable.iter().map(|(resource, allocatable)| {
        let used: i64 = on(world, &node.name).map(|truth| request(&truth.pod, resource)).sum();
        match request(pod, resource) {
            0 => i64::MAX,
            each => ((allocatable - used) / each).max(0),
        }
    });
    let room = usize::try_from(room.min().unwrap_or(0)).unwrap_or(0);
    if ports { room.min(1) } else { room }
}
