//! Which devices of nodes are given to claims (dynamic resource allocation).
//!
//! A device is free if no claim has it: neither as the API shows the claim, nor as a bind that is
//! on its way asks for it, nor as a decision in the making. What a claim keeps after its pod has
//! gone is not free. A node whose devices nobody reports has no entry here, and costs nothing.

use super::{Change, Class, ClassId, Cluster, NodeIndex, PodIndex};
use crate::model::claim::{DeviceKind, assign};
use crate::model::fault::{Fault, is_made};
use crate::model::{ClaimState, DeviceName, DeviceSet, NodeDevices, Uid};
use rustc_hash::FxHashMap;
use smallvec::SmallVec;

/// The version of a claim that is gone, which is later than any.
const GONE: u64 = u64::MAX;

/// What a change of claims makes free.
#[must_use]
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Freed {
    /// Nodes on which a device is free that was not, or that offer another number.
    pub nodes: SmallVec<[NodeIndex; 1]>,
    /// Some offer another number.
    pub offers: bool,
}

/// What is known of a claim.
#[derive(Clone, Debug, Default)]
struct Entry {
    /// what the API shows
    seen: Vec<DeviceName>,
    /// of which version of the object that is
    version: u64,
    /// what a bind in flight asks for
    asked: Vec<DeviceName>,
    /// with which pod it is counted
    holder: Option<PodIndex>,
}

impl Entry {
    fn is_idle(&self) -> bool {
        self.seen.is_empty() && self.asked.is_empty() && self.holder.is_none()
    }
}

#[derive(Clone, Debug, Default)]
struct OnNode {
    /// devices of claims
    taken: SmallVec<[(Uid, DeviceSet); 8]>,
    /// devices given to pods by a decision that is not carried out yet
    given: SmallVec<[(PodIndex, DeviceSet); 4]>,
    /// pods that are off the node on paper
    absent: SmallVec<[PodIndex; 4]>,
}

#[derive(Debug, Default)]
pub(super) struct ClaimTable {
    entries: FxHashMap<Uid, Entry>,
    /// the node that has a device
    at: FxHashMap<DeviceName, NodeIndex>,
    /// the claims that have a device: more than one only if another allocator says so
    takers: FxHashMap<DeviceName, SmallVec<[Uid; 1]>>,
    of_node: Vec<Option<Box<OnNode>>>,
    /// on how many nodes a kind is some of the devices that count alike
    parts: FxHashMap<DeviceKind, u32>,
}

impl ClaimTable {
    /// Counts the kinds of a node's devices that are parts, or no longer.
    fn count_parts(&mut self, devices: Option<&NodeDevices>, sign: bool) {
        let Some(devices) = devices else { return };
        for (kind, set) in &devices.kinds {
            let is_part = !set.is_empty() && devices.offers.iter().all(|(_, all)| all != set);
            if !is_part {
                continue;
            }
            let count = self.parts.entry(*kind).or_default();
            *count = if sign { *count + 1 } else { *count - 1 };
            if *count == 0 {
                self.parts.remove(kind);
            }
        }
    }

    pub(super) fn grow(&mut self, slots: usize) {
        self.of_node.resize_with(slots, || None);
    }

    pub(super) fn clear(&mut self, node: NodeIndex) {
        self.of_node[node.index()] = None;
    }

    fn on(&self, node: NodeIndex) -> Option<&OnNode> {
        self.of_node[node.index()].as_deref()
    }

    /// Devices of a node that claims have, without those of pods that are absent.
    fn busy(&self, on: &OnNode) -> DeviceSet {
        let is_absent = |claim: &Uid| {
            let holder = self.entries.get(claim).and_then(|entry| entry.holder);
            !on.absent.is_empty() && holder.is_some_and(|holder| on.absent.contains(&holder))
        };
        let taken = on.taken.iter().filter(|(claim, _)| !is_absent(claim)).map(|(_, set)| *set);
        taken.chain(on.given.iter().map(|(_, set)| *set)).fold(DeviceSet::EMPTY, DeviceSet::union)
    }

    /// Devices of claims that are counted with no pod.
    fn ownerless(&self, node: NodeIndex) -> DeviceSet {
        let Some(on) = self.on(node) else { return DeviceSet::EMPTY };
        let is_held = |claim: &Uid| self.entries.get(claim).is_some_and(|e| e.holder.is_some());
        let loose = on.taken.iter().filter(|(claim, _)| !is_held(claim)).map(|(_, set)| *set);
        loose.fold(DeviceSet::EMPTY, DeviceSet::union)
    }

    /// Changes what is known of a claim; the nodes on which that is another now.
    fn change(&mut self, claim: Uid, change: impl FnOnce(&mut Entry)) -> SmallVec<[NodeIndex; 1]> {
        let entry = self.entries.entry(claim).or_default();
        let names = |entry: &Entry| -> Vec<DeviceName> {
            entry.seen.iter().chain(&entry.asked).cloned().collect()
        };
        let before = names(entry);
        change(entry);
        let after = names(entry);
        if entry.is_idle() && matches!(entry.version, 0 | GONE) {
            self.entries.remove(&claim);
        }
        for name in &before {
            if let Some(takers) = self.takers.get_mut(name) {
                takers.retain(|other| *other != claim);
                if takers.is_empty() {
                    self.takers.remove(name);
                }
            }
        }
        for name in &after {
            let takers = self.takers.entry(name.clone()).or_default();
            if !takers.contains(&claim) {
                takers.push(claim);
            }
        }
        let devices = before.iter().chain(&after);
        let mut nodes: SmallVec<[NodeIndex; 1]> =
            devices.filter_map(|name| self.at.get(name).copied()).collect();
        nodes.sort_unstable();
        nodes.dedup();
        nodes
    }
}

impl Cluster {
    /// Takes in a claim as the API shows it; what is older than what is known is not believed.
    /// O(devices of the nodes).
    pub fn claim_seen(&mut self, state: ClaimState) -> Freed {
        let ClaimState { uid, version, devices } = state;
        let nodes = self.claims.change(uid, |entry| {
            if version == 0 || version >= entry.version {
                (entry.seen, entry.version) = (devices, version);
            }
        });
        self.reread_claims(&nodes)
    }

    /// Takes in that a claim is gone. A bind that asks for devices for it holds them until it has
    /// its answer.
    pub fn claim_gone(&mut self, claim: Uid) -> Freed {
        let nodes = self.claims.change(claim, |entry| {
            // what was written before it went may be heard of later
            let version = if entry.asked.is_empty() { 0 } else { GONE };
            (entry.seen, entry.version) = (Vec::new(), version);
        });
        self.reread_claims(&nodes)
    }

    /// The claims of which anything is known.
    pub fn known_claims(&self) -> impl Iterator<Item = Uid> {
        self.claims.entries.keys().copied()
    }

    /// Counts a claim with a pod, or with none any more: then its devices are nobody's room.
    pub fn hold_claim(&mut self, claim: Uid, holder: Option<PodIndex>) -> Freed {
        let known = self.claims.entries.get(&claim).and_then(|entry| entry.holder);
        if known == holder {
            return Freed::default();
        }
        let nodes = self.claims.change(claim, |entry| entry.holder = holder);
        self.reread_claims(&nodes)
    }

    /// With which pod a claim is counted.
    #[must_use]
    pub fn claim_holder(&self, claim: Uid) -> Option<PodIndex> {
        self.claims.entries.get(&claim)?.holder
    }

    /// Keeps devices for a claim while a bind asks for them; none: it has its answer.
    ///
    /// # Panics
    /// If another claim has one of them (D2).
    pub fn ask_for_claim(&mut self, claim: Uid, devices: Vec<DeviceName>) -> Freed {
        let other = |name: &DeviceName| {
            let takers = self.claims.takers.get(name);
            takers.is_some_and(|takers| takers.iter().any(|taker| *taker != claim))
        };
        let twice = devices.iter().any(other) && !is_made(Fault::ClaimNotCounted);
        assert!(!twice, "D2: a device is given to two claims");
        let nodes = self.claims.change(claim, |entry| entry.asked = devices);
        self.reread_claims(&nodes)
    }

    /// The devices of a node that no claim has.
    #[must_use]
    pub fn unclaimed(&self, node: NodeIndex) -> DeviceSet {
        let devices = self.node(node).node.as_ref().and_then(|node| node.devices.as_ref());
        let Some(devices) = devices else { return DeviceSet::EMPTY };
        let busy = self.claims.on(node).map_or(DeviceSet::EMPTY, |on| self.claims.busy(on));
        let busy = if is_made(Fault::ClaimNotCounted) { DeviceSet::EMPTY } else { busy };
        DeviceSet::lowest(devices.names.len()).minus(busy)
    }

    /// What the class asks of devices of the node, as sets to choose from.
    fn wants(&self, class: &Class, node: NodeIndex) -> SmallVec<[(DeviceSet, u32); 2]> {
        let devices = self.node(node).node.as_ref().and_then(|node| node.devices.as_ref());
        let of = |kind| devices.map_or(DeviceSet::EMPTY, |devices| devices.of(kind));
        class.spec.devices.iter().map(|(kind, count)| (of(*kind), *count)).collect()
    }

    /// Whether the node has the devices at all that a pod of the class asks for.
    #[must_use]
    pub fn has_devices(&self, class: &Class, node: NodeIndex) -> bool {
        let all = DeviceSet::lowest(crate::model::claim::NODE_DEVICES_MAX);
        assign(all, &self.wants(class, node)).is_some()
    }

    /// The devices that a pod of the class gets: of one kind those that are joined best, if that is
    /// known of the node, else the first. `None`: too few are free.
    #[must_use]
    pub fn choose_claimed(&self, class: &Class, node: NodeIndex) -> Option<DeviceSet> {
        let free = self.unclaimed(node);
        let wants = self.wants(class, node);
        if let [(kind, count)] = &wants[..] {
            let (free, count) = (free.common(*kind), *count as usize);
            if free.len() < count {
                return None;
            }
            let entry = self.node(node).node.as_ref()?;
            let gpus = entry.devices.as_ref().map_or(0, |devices| devices.gpus);
            let joined = entry.gpus.as_ref().filter(|joined| joined.len() == gpus);
            let known = joined.filter(|joined| free.minus(joined.all()).is_empty());
            let first = || free.iter().take(count).collect();
            return Some(known.and_then(|joined| joined.choose(free, count)).unwrap_or_else(first));
        }
        let given = assign(free, &wants)?;
        Some(given.into_iter().fold(DeviceSet::EMPTY, DeviceSet::union))
    }

    /// Whether one more pod of the class gets devices.
    #[must_use]
    pub fn has_claim_room(&self, class: &Class, node: NodeIndex) -> bool {
        self.claim_room(class, node, 1) > 0
    }

    /// How many more pods of the class get devices; beyond `most` it does not count.
    pub(super) fn claim_room(&self, class: &Class, node: NodeIndex, most: u32) -> u32 {
        if class.spec.devices.is_empty() || most == 0 {
            return most;
        }
        let free = self.unclaimed(node);
        let wants = self.wants(class, node);
        if let [(kind, count)] = &wants[..] {
            let pods = free.common(*kind).len() / (*count).max(1) as usize;
            return u32::try_from(pods).unwrap_or(most).min(most);
        }
        let fits = |pods: &u32| {
            let wants: SmallVec<[(DeviceSet, u32); 4]> =
                wants.iter().map(|(set, count)| (*set, count.saturating_mul(*pods))).collect();
            assign(free, &wants).is_some()
        };
        (1..=most).take_while(fits).last().unwrap_or(0)
    }

    /// Gives a pod that is assumed devices, if it asks for any, until they are taken back.
    pub(super) fn give_claimed(&mut self, class: ClassId, pod: PodIndex, node: NodeIndex) {
        let class = self.class(class);
        if class.spec.devices.is_empty() {
            return;
        }
        if let Some(devices) = self.choose_claimed(class, node) {
            self.put_given(pod, node, devices);
        }
    }

    /// The same; whether it has all that it asks for.
    pub fn give_devices(&mut self, class: ClassId, pod: PodIndex, node: NodeIndex) -> bool {
        self.give_claimed(class, pod, node);
        let given =
            self.claims.on(node).is_some_and(|on| on.given.iter().any(|(to, _)| *to == pod));
        given || self.class(class).spec.devices.is_empty()
    }

    /// Whether claims that are counted with no pod have devices of the node.
    #[must_use]
    pub fn has_ownerless(&self, node: NodeIndex) -> bool {
        !self.claims.ownerless(node).is_empty()
    }

    /// The devices of a node that a claim has.
    #[must_use]
    pub fn devices_of_claim(&self, claim: Uid, node: NodeIndex) -> DeviceSet {
        let taken = self.claims.on(node).map_or(&[][..], |on| &on.taken);
        let found = taken.iter().find(|(other, _)| *other == claim);
        found.map_or(DeviceSet::EMPTY, |(_, devices)| *devices)
    }

    /// Whether the devices of a kind are, on some node, some of those that count alike, and not
    /// all: then sums do not tell whether one is free.
    #[must_use]
    pub fn is_part_of_nodes(&self, kind: DeviceKind) -> bool {
        self.claims.parts.contains_key(&kind)
    }

    pub(super) fn put_given(&mut self, pod: PodIndex, node: NodeIndex, devices: DeviceSet) {
        if !devices.is_empty() {
            let on = self.claims.of_node[node.index()].get_or_insert_default();
            on.given.push((pod, devices));
        }
    }

    /// Takes back what a decision gave a pod, if anything.
    pub fn take_given(&mut self, pod: PodIndex, node: NodeIndex) -> Option<DeviceSet> {
        let on = self.claims.of_node[node.index()].as_mut()?;
        let place = on.given.iter().position(|(other, _)| *other == pod)?;
        Some(on.given.swap_remove(place).1)
    }

    /// Counts the devices of a pod's claims as free on paper, or no longer. Whether they were.
    pub(super) fn set_absent(&mut self, pod: PodIndex, node: NodeIndex, absent: bool) -> bool {
        let Some(on) = self.claims.of_node[node.index()].as_mut() else { return false };
        let place = on.absent.iter().position(|other| *other == pod);
        match (place, absent) {
            (None, true) => on.absent.push(pod),
            (Some(place), false) => drop(on.absent.swap_remove(place)),
            _ => {}
        }
        place.is_some()
    }

    /// The devices of a node were listed, or others: who has them is found out anew.
    pub(super) fn set_devices(&mut self, index: NodeIndex, before: Option<&NodeDevices>) {
        let devices = self.node(index).node.as_ref().and_then(|node| node.devices.clone());
        if before == devices.as_deref() {
            return;
        }
        self.claims.count_parts(before, false);
        self.claims.count_parts(devices.as_deref(), true);
        for name in before.iter().flat_map(|devices| &devices.names) {
            if self.claims.at.get(name) == Some(&index) {
                self.claims.at.remove(name);
            }
        }
        for name in devices.iter().flat_map(|devices| &devices.names) {
            self.claims.at.insert(name.clone(), index);
        }
        self.read_taken(index);
    }

    fn read_taken(&mut self, index: NodeIndex) {
        let node = self.nodes.entry(index).node.as_ref();
        let devices = node.and_then(|node| node.devices.as_ref());
        let mut taken: SmallVec<[(Uid, DeviceSet); 8]> = SmallVec::new();
        for (device, name) in devices.iter().flat_map(|devices| devices.names.iter().enumerate()) {
            for claim in self.claims.takers.get(name).into_iter().flatten() {
                match taken.iter_mut().find(|(known, _)| known == claim) {
                    Some((_, set)) => set.insert(device),
                    None => taken.push((*claim, DeviceSet::one(device))),
                }
            }
        }
        let slot = &mut self.claims.of_node[index.index()];
        if !taken.is_empty() || slot.is_some() {
            slot.get_or_insert_default().taken = taken;
        }
    }

    fn reread_claims(&mut self, nodes: &[NodeIndex]) -> Freed {
        let mut freed = Freed::default();
        for node in nodes.iter().copied() {
            let (free, offered) = (self.unclaimed(node), self.claimable(node));
            self.read_taken(node);
            self.offer_claimed(node);
            let is_other = self.claimable(node) != offered;
            freed.offers |= is_other;
            if is_other || !self.unclaimed(node).minus(free).is_empty() {
                freed.nodes.push(node);
            }
            self.changes.record(node, if is_other { Change::Facts } else { Change::Usage });
        }
        freed
    }

    /// What a node offers to claims.
    fn claimable(&self, node: NodeIndex) -> SmallVec<[i64; 4]> {
        let ways = self.resources.ways().iter();
        ways.map(|way| self.allocatable(way.by_claim, node)).collect()
    }

    /// Has a node offer what its devices count as, beside what device plugins offer. What claims
    /// have that are counted with no pod is not offered.
    pub(super) fn offer_claimed(&mut self, index: NodeIndex) {
        let node = self.nodes.entry(index).node.as_ref();
        let ownerless = self.claims.ownerless(index);
        for way in self.resources.ways() {
            let name = self.resources.name(way.base);
            let mut named = node.iter().flat_map(|node| &node.allocatable);
            let of_plugin = named.find(|(key, _)| **key == *name).map_or(0, |(_, amount)| *amount);
            let devices = node.and_then(|node| node.devices.as_ref());
            let mut offers = devices.iter().flat_map(|devices| &devices.offers);
            let offer = offers.find(|(offered, _)| **offered == *name);
            let devices = offer.map_or(DeviceSet::EMPTY, |(_, devices)| devices.minus(ownerless));
            let claimable = i64::try_from(devices.len()).expect("at most 64");
            let amounts = [
                (way.base, of_plugin + claimable),
                (way.by_claim, claimable),
                (way.by_plugin, of_plugin),
            ];
            for (resource, amount) in amounts {
                self.allocatable[resource.index()][index.index()] = amount;
            }
        }
    }

    /// D2: what claims of this process's making have is on nodes once.
    ///
    /// # Panics
    /// If a decision in the making was left behind.
    pub fn check_claimed(&self) {
        for on in self.claims.of_node.iter().flatten() {
            assert!(on.absent.is_empty(), "D2: a pod is off its node on paper after a decision");
            assert!(on.given.is_empty(), "D2: devices are given by no decision");
        }
    }
}

#[cfg(test)]
mod tests {
    use super::super::Statement;
    use super::*;
    use crate::cluster::Assignment;
    use crate::model::claim::{by_claim, by_plugin};
    use crate::model::{Node, PodClass};
    use std::sync::Arc;

    const GPU: &str = "nvidia.com/gpu";
    const KIND: DeviceKind = DeviceKind(1);

    fn name(place: usize) -> DeviceName {
        format!("d/n/{place}").into()
    }

    fn cluster() -> (Cluster, NodeIndex, NodeIndex) {
        let mut cluster = Cluster::default();
        let all = DeviceSet::lowest(3);
        let devices = NodeDevices {
            names: (0..3).map(name).collect(),
            kinds: vec![(KIND, all)],
            offers: vec![(GPU.into(), all)],
            gpus: 3,
        };
        let plugin = vec![(GPU.into(), 2), ("pods".into(), 9)];
        let _ =
            cluster.apply_node(Node { name: "p".into(), allocatable: plugin, ..Node::default() });
        let pods = vec![("pods".into(), 9)];
        let node = Node {
            name: "n".into(),
            allocatable: pods,
            devices: Some(Arc::new(devices)),
            ..Node::default()
        };
        assert_eq!(cluster.apply_node(node), crate::cluster::NodeApplied::NewResources);
        let find = |name| cluster.find_node(name).expect("it was applied");
        let (claimed, plugged) = (find("n"), find("p"));
        (cluster, claimed, plugged)
    }

    fn claiming(count: u32) -> PodClass {
        let mut class = PodClass { devices: vec![(KIND, count)], ..PodClass::default() };
        class.count_claimed(GPU, count);
        class
    }

    fn offered(cluster: &Cluster, node: NodeIndex) -> [i64; 3] {
        let names = [GPU.into(), by_claim(GPU), by_plugin(GPU)];
        names.map(|name| {
            let resource = cluster.resources().find(&name).expect("it is known");
            cluster.allocatable(resource, node)
        })
    }

    #[test]
    fn neither_way_takes_the_others_room() {
        let (mut cluster, node, plugged) = cluster();
        assert_eq!(offered(&cluster, node), [3, 3, 0]);
        assert_eq!(offered(&cluster, plugged), [2, 0, 2], "also of nodes that were there before");
        let requests = vec![(GPU.into(), 1)];
        let asks_plugin = cluster.acquire_class(PodClass { requests, ..PodClass::default() });
        let claims = cluster.acquire_class(claiming(2));
        for (class, rooms) in [(asks_plugin, [0, 2]), (claims, [1, 0])] {
            let room = |node| cluster.room_for(cluster.class(class), node, 9);
            assert_eq!([node, plugged].map(room), rooms);
        }
        let _ = cluster.delete_node("n");
        assert_eq!(cluster.room_for(cluster.class(claims), node, 9), 0);
    }

    #[test]
    fn what_a_claim_has_is_not_free_and_is_nobodys_room_without_a_pod() {
        let (mut cluster, node, _) = cluster();
        let class = cluster.acquire_class(claiming(2));
        let seen = |version, devices: &[usize]| ClaimState {
            uid: Uid(7),
            version,
            devices: devices.iter().copied().map(name).collect(),
        };
        let freed = cluster.claim_seen(seen(5, &[1, 2]));
        assert_eq!((&*freed.nodes, freed.offers), (&[node][..], true), "it offers fewer");
        assert_eq!(cluster.unclaimed(node), DeviceSet::one(0));
        assert_eq!(offered(&cluster, node), [1, 1, 0], "no pod is counted with it");
        let pod = PodIndex(3);
        assert!(cluster.hold_claim(Uid(7), Some(pod)).offers);
        assert_eq!(offered(&cluster, node), [3, 3, 0]);
        assert_eq!(
            cluster.room_for(cluster.class(class), node, 9),
            0,
            "they are taken all the same"
        );
        let _ = cluster.claim_seen(seen(4, &[]));
        assert_eq!(cluster.unclaimed(node).len(), 1, "what is older is not believed");

        // off its node on paper, its devices are free on paper
        cluster.place(class, node);
        let victim = Assignment { pod, class, node };
        let mut paper = Statement::default();
        let start = paper.checkpoint();
        paper.evict(&mut cluster, victim);
        assert_eq!(cluster.room_for(cluster.class(class), node, 9), 1);
        paper.assume(&mut cluster, Assignment { pod: PodIndex(4), ..victim });
        assert_eq!(cluster.room_for(cluster.class(class), node, 9), 0);
        paper.rollback(&mut cluster, start);
        cluster.check_claimed();
        assert_eq!(cluster.unclaimed(node), DeviceSet::one(0));

        cluster.unplace(class, node);
        let _ = cluster.hold_claim(Uid(7), None);
        let _ = cluster.claim_gone(Uid(7));
        assert_eq!(offered(&cluster, node), [3, 3, 0]);
        assert_eq!(cluster.known_claims().count(), 0);
    }

    #[test]
    fn a_bind_in_flight_keeps_devices_though_the_claim_goes() {
        let (mut cluster, node, _) = cluster();
        let _ = cluster.ask_for_claim(Uid(7), vec![name(0)]);
        let _ = cluster.claim_gone(Uid(7));
        assert_eq!(cluster.unclaimed(node).len(), 2);
        // heard late: it was written before the claim went
        let _ = cluster.claim_seen(ClaimState { uid: Uid(7), version: 9, devices: vec![name(0)] });
        let _ = cluster.ask_for_claim(Uid(7), vec![]);
        assert_eq!(cluster.unclaimed(node).len(), 3);
        assert_eq!(cluster.known_claims().count(), 0);
    }

    #[test]
    #[should_panic(expected = "D2: a device is given to two claims")]
    fn no_device_is_asked_for_twice() {
        let (mut cluster, ..) = cluster();
        let _ = cluster.ask_for_claim(Uid(7), vec![name(0)]);
        let _ = cluster.ask_for_claim(Uid(8), vec![name(0)]);
    }
}
