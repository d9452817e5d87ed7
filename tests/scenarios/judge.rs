//! What must be true of every call, judged by the world and not by the scheduler's bookkeeping.

use crate::objects::GPU;
use crate::world::{Truth, World, shown};
use mss_scheduler::model::gpu_part::PartAmount;
use mss_scheduler::model::{DeviceSet, Phase, Pod};
use mss_scheduler::scheduler::{BindMember, PodRef};
use std::collections::BTreeMap;

/// Room, minimum, identity and state of the pods that are to be bound. What the scheduler has not
/// been shown it cannot know, so only uids are judged while news are missed.
pub(crate) fn bind(world: &World, members: &[BindMember]) {
    for member in members {
        let name = shown(&member.pod);
        let in_flight = world.held.iter().any(|held| held.member.pod.uid == member.pod.uid);
        assert!(!in_flight, "I4, S4: {name} is asked for while its bind is in flight");
    }
    if !world.watching {
        return;
    }
    for member in members {
        let pod = pod(world, &member.pod);
        let may = pod.profile.is_some() && !pod.gated && !pod.deleting && !pod.ended();
        assert!(may && pod.group.as_ref().is_none_or(Result::is_ok), "I7: {} is bound", pod.key);
        assert!(pod.node.is_none(), "S4: {} is bound already", pod.key);
    }
    minimum(world, members);
    room(world, members);
    devices(world, members);
    parts(world, members);
}

/// Thousandths of each device that a pod takes, by what its object and its node say.
fn milli(world: &World, node: &str, pod: &Pod) -> Option<i64> {
    match pod.class.gpu_part?.amount {
        PartAmount::Milli(milli) => Some(i64::from(milli)),
        PartAmount::Bytes(bytes) => {
            let label = world.nodes.get(node)?.label("nvidia.com/gpu.memory")?;
            let memory = label.parse::<i64>().ok()? << 20;
            Some((bytes * 1000).div_euclid(memory) + i64::from(bytes * 1000 % memory > 0))
        }
    }
}

/// Parts come of devices that a holder owns, and no device is given out beyond a whole one.
fn parts(world: &World, members: &[BindMember]) {
    let mut taken: BTreeMap<(&str, usize), i64> = BTreeMap::new();
    let pods = world.pods.values().map(|truth| &truth.pod).filter(|pod| !pod.ended());
    let bound = pods.filter_map(|pod| Some((pod.node.as_deref()?, pod, pod.devices)));
    let flying = world.held.iter().map(|held| &held.member).chain(members);
    let flying = flying.filter_map(|member| {
        let pod = &world.pods.get(&shown(&member.pod))?.pod;
        let unbound = pod.uid == member.pod.uid && pod.node.is_none();
        unbound.then_some((&*member.node, pod, member.devices))
    });
    for (node, pod, devices) in bound.chain(flying) {
        let milli = milli(world, node, pod).unwrap_or(0);
        devices.iter().for_each(|device| *taken.entry((node, device)).or_default() += milli);
    }
    for member in members {
        let Some(part) = pod(world, &member.pod).class.gpu_part else { continue };
        let name = &member.pod.key;
        assert_eq!(member.devices.len(), usize::from(part.count), "D1: devices of {name}");
        let holders = world.pods.values().map(|truth| &truth.pod).filter(|pod| {
            pod.node.as_deref() == Some(&*member.node) && !pod.ended() && !pod.deleting
        });
        let ours = holders.fold(DeviceSet::EMPTY, |all, pod| all.union(pod.holds));
        let foreign = member.devices.minus(ours);
        assert!(foreign.is_empty(), "D1: {name} is given {foreign}, which no holder owns");
        for device in member.devices.iter() {
            let taken = taken[&(&*member.node, device)];
            assert!(taken <= 1000, "D1: {taken} of device {device} of {}", member.node);
        }
    }
}

/// GPUs that are named are as many as are asked for, exist, and no other pod there has them.
fn devices(world: &World, members: &[BindMember]) {
    for (place, member) in members.iter().enumerate().filter(|(_, m)| !m.devices.is_empty()) {
        let (name, devices) = (&member.pod.key, member.devices);
        let pod = pod(world, &member.pod);
        if pod.class.gpu_part.is_some() {
            continue;
        }
        let asked = pod.class.requests.iter().find(|(resource, _)| &**resource == GPU);
        assert_eq!(asked.map(|(_, count)| *count), i64::try_from(devices.len()).ok(), "{name}");
        let node = &world.nodes[&*member.node];
        let known = node.gpus.as_ref().unwrap_or_else(|| panic!("{name}: {devices} of what?"));
        assert!(devices.minus(known.all()).is_empty(), "{name}: {devices} do not all exist");
        let here = |truth: &&Truth| truth.pod.node.as_deref() == Some(&*member.node);
        let others = world.pods.values().filter(here).filter(|truth| !truth.pod.ended());
        let flying = world.held.iter().map(|held| &held.member).chain(&members[..place]);
        let flying = flying.filter(|other| other.node == member.node).map(|other| other.devices);
        for other in others.map(|truth| truth.pod.devices).chain(flying) {
            let both = other.common(devices);
            assert!(both.is_empty(), "{name}: {both} are another's");
        }
    }
}

fn pod<'a>(world: &'a World, reference: &PodRef) -> &'a Pod {
    let found = world.pods.get(&shown(reference)).map(|truth| &truth.pod);
    let found = found.filter(|pod| pod.uid == reference.uid);
    found.unwrap_or_else(|| panic!("I7: {} is bound and does not exist", reference.key))
}

/// Namespace, name and minimum of a pod's gang.
pub(crate) fn gang(pod: &Pod) -> Option<(&str, &str, u32)> {
    let group = pod.group.as_ref()?.as_ref().ok()?;
    Some((&pod.key.namespace, &group.name, group.min_member))
}

/// Members that run, ended well or are bound with this call, of the same namespace.
fn minimum(world: &World, members: &[BindMember]) {
    let Some((namespace, name, min)) = gang(pod(world, &members[0].pod)) else {
        assert_eq!(members.len(), 1, "I2: bare pods are bound one by one");
        return;
    };
    let of_it = |pod: &Pod| gang(pod).is_some_and(|(n, g, _)| (n, g) == (namespace, name));
    for member in members {
        assert!(of_it(pod(world, &member.pod)), "G5: {} is of another gang", member.pod.key);
    }
    let counts = |truth: &&Truth| {
        let pod = &truth.pod;
        let runs = pod.node.is_some() && !pod.deleting && !pod.ended();
        of_it(pod) && (runs || pod.phase == Phase::Succeeded)
    };
    let mut placed: Vec<&Pod> = world.pods.values().filter(counts).map(|t| &t.pod).collect();
    placed.extend(members.iter().map(|member| pod(world, &member.pod)));
    let count = placed.len();
    assert!(count >= min as usize, "I2, G1: {name} is bound with {count} of {min}");
    let live =
        world.pods.values().map(|truth| &truth.pod).filter(|pod| of_it(pod) && !pod.deleting);
    for task in live.filter(|pod| !pod.ended()).filter_map(|pod| pod.task.as_ref()) {
        let count = placed.iter().filter(|pod| pod.task.as_ref() == Some(task)).count();
        let (part, min) = (&task.name, task.min);
        assert!(count >= min as usize, "I2, G1: {part} of {name} is bound with {count} of {min}");
    }
}

/// Only pods of ours that run are ended, each when its time is over.
pub(crate) fn end(world: &World, pods: &[PodRef]) {
    for reference in pods.iter().filter(|_| world.watching) {
        let pod = pod(world, reference);
        assert!(pod.profile.is_some() && pod.node.is_some(), "S6: {} is ended", pod.key);
        let ran = world.now - pod.bound_at.expect("what runs was bound").0;
        let least = world.shortest_run_limit().expect("N2: a pod is ended, and no queue limits it");
        assert!(ran >= least, "N2: {} is ended after {ran} ms", pod.key);
    }
}

/// Every node that is asked for has room beside all that is on it or in flight to it.
fn room(world: &World, members: &[BindMember]) {
    let mut used: BTreeMap<(&str, &str), i64> = BTreeMap::new();
    let bound = world.pods.values().map(|truth| &truth.pod).filter(|pod| !pod.ended());
    for (node, pod) in bound.filter_map(|pod| Some((pod.node.as_deref()?, pod))) {
        charge(&mut used, node, pod);
    }
    // what is in flight takes room too, unless it is carried out already and counted above
    let in_flight = world.held.iter().map(|held| &held.member).chain(members);
    for member in in_flight {
        let truth = world.pods.get(&shown(&member.pod)).map(|truth| &truth.pod);
        let unbound = |pod: &&Pod| pod.uid == member.pod.uid && pod.node.is_none();
        if let Some(pod) = truth.filter(unbound) {
            charge(&mut used, &member.node, pod);
        }
    }
    for node in members.iter().map(|member| &*member.node) {
        let found = world.nodes.get(node).unwrap_or_else(|| panic!("I1: {node} is no node"));
        let here = used.iter().filter(|((name, _), _)| *name == node);
        // what shared devices are is judged by device
        for ((_, resource), used) in here.filter(|((_, name), _)| !name.starts_with("mss-sched")) {
            let has = found.allocatable.iter().find(|(name, _)| **name == **resource);
            let has = has.map_or(0, |(_, amount)| *amount);
            assert!(*used <= has, "I1, S2: {node} has {used} of {has} {resource} requested");
        }
    }
}

fn charge<'a>(used: &mut BTreeMap<(&'a str, &'a str), i64>, node: &'a str, pod: &'a Pod) {
    *used.entry((node, "pods")).or_default() += 1;
    for (resource, amount) in &pod.class.requests {
        *used.entry((node, resource)).or_default() += amount;
    }
}

/// Only bound pods of ours are deleted, each of a gang that lacks its minimum.
pub(crate) fn delete(world: &World, pods: &[PodRef]) {
    for reference in pods.iter().filter(|_| world.watching) {
        let pod = pod(world, reference);
        assert!(pod.profile.is_some() && pod.node.is_some(), "S6: {} is deleted", pod.key);
        let (namespace, name, min) = gang(pod).expect("S6: a bare pod is deleted");
        let bound = |truth: &&Truth| {
            let pod = &truth.pod;
            let here = gang(pod).is_some_and(|(n, g, _)| (n, g) == (namespace, name));
            here && pod.node.is_some() && !pod.deleting && !pod.ended()
        };
        let bound = world.pods.values().filter(bound).count();
        assert!(bound < min as usize, "G2: {name} has {bound} of {min} bound and is deleted");
    }
}

/// Only pods of ours that run get notice or are evicted. What the scheduler has not been shown it
/// cannot know.
pub(crate) fn victim(world: &World, reference: &PodRef) {
    let name = shown(reference);
    let truth = world.pods.get(&name).map(|truth| &truth.pod);
    let pod = truth.filter(|pod| pod.uid == reference.uid);
    if world.watching {
        let pod = pod.unwrap_or_else(|| panic!("I6: {name} is a victim and does not exist"));
        assert!(pod.profile.is_some(), "I6, S6: {name} is a victim and not ours");
        assert!(pod.node.is_some(), "I6: {name} is a victim and not bound");
        assert!(!pod.ended(), "I6: {name} is a victim and has ended");
    }
}
