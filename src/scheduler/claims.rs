//! Claims of devices (dynamic resource allocation).
//!
//! A claim is counted with one pod: that which is to be given its devices, or the first for which
//! it is reserved. Which devices a claim gets is chosen when its pod is decided, and kept for it
//! from then on: while the bind is in flight because it was asked for, afterwards because the claim
//! says so. Nothing of this is remembered elsewhere: a new process reads it of the claims.

use super::plans::Plan;
use super::{CallId, ConditionReason, Scheduler};
use crate::cluster::{Freed, PodIndex};
use crate::model::claim::assign;
use crate::model::{ClaimState, DeviceName, DeviceSet, Grant, Pod, PodClaim, Uid};
use crate::queue::GroupIndex;
use rustc_hash::FxHashMap;
use smallvec::SmallVec;

/// Claims for which a bind in flight asks for devices, by call and pod.
#[derive(Debug, Default)]
pub(super) struct AskedClaims(FxHashMap<(CallId, Uid), SmallVec<[Uid; 1]>>);

impl Scheduler {
    pub(super) fn claim_seen(&mut self, state: ClaimState) {
        let freed = self.cluster.claim_seen(state);
        self.devices_freed(&freed);
    }

    pub(super) fn claim_gone(&mut self, claim: Uid) {
        let freed = self.cluster.claim_gone(claim);
        self.devices_freed(&freed);
    }

    fn devices_freed(&mut self, freed: &Freed) {
        if freed.nodes.is_empty() {
            return;
        }
        self.capacity_changed |= freed.offers;
        self.improved.extend(&freed.nodes);
        // seats wait for devices after their victims have gone
        let waiting = self.plans.iter().filter(|(_, plan)| plan.victims().next().is_none());
        let waiting: Vec<GroupIndex> = waiting.map(|(index, _)| *index).collect();
        waiting.into_iter().for_each(|index| self.mark(index));
    }

    /// Takes in which claims the object of a pod names; none once it has ended.
    pub(super) fn take_claims_of(&mut self, index: PodIndex, pod: &mut Pod) {
        let claims = std::mem::take(&mut pod.claims);
        self.take_claims(index, if pod.ended() { Vec::new() } else { claims });
    }

    /// Takes in which claims a pod names.
    pub(super) fn take_claims(&mut self, index: PodIndex, claims: Vec<PodClaim>) {
        if self.pods.get(index).claims.is_empty() && claims.is_empty() {
            return;
        }
        let before = std::mem::replace(&mut self.pods.get_mut(index).claims, claims.into());
        let claims = self.pods.get(index).claims.clone();
        let is_counted = |uid: Uid| claims.iter().any(|claim| claim.uid == uid && claim.counted);
        for claim in before.iter().filter(|claim| !is_counted(claim.uid)) {
            if self.cluster.claim_holder(claim.uid) == Some(index) {
                let freed = self.cluster.hold_claim(claim.uid, None);
                self.devices_freed(&freed);
            }
        }
        for claim in claims.iter().filter(|claim| claim.counted) {
            let freed = self.cluster.hold_claim(claim.uid, Some(index));
            self.devices_freed(&freed);
        }
    }

    /// Gives the seats of a plan devices, until they are granted; or none of them, if that cannot
    /// be done.
    pub(super) fn give_seats_devices(&mut self, seats: &[PodIndex]) -> bool {
        let gets = |(place, seat): (usize, &PodIndex)| {
            let pod = self.pods.get(*seat);
            let (class, node) = (pod.class, pod.node.expect("a nominated pod has a seat"));
            (!self.cluster.give_devices(class, *seat, node)).then_some(place)
        };
        let Some(failed) = seats.iter().enumerate().find_map(gets) else { return true };
        for seat in &seats[..failed] {
            let node = self.pods.get(*seat).node.expect("a nominated pod has a seat");
            self.cluster.take_given(*seat, node);
        }
        false
    }

    /// Whether claims that no pod has any more still keep devices of the nodes of a plan's seats.
    pub(super) fn claims_linger(&self, plan: &Plan) -> bool {
        let nodes = plan.seats().iter().filter_map(|seat| self.pods.get(*seat).node);
        nodes.into_iter().any(|node| self.cluster.has_ownerless(node))
    }

    /// Whether sums tell whether a member of the group gets devices: its claims are for all devices
    /// of a node that are counted alike, or for none.
    pub(super) fn claims_part_of_nodes(&self, index: GroupIndex) -> bool {
        let members = self.groups.get(index).members.iter();
        let mut classes = members.map(|member| self.cluster.class(self.pods.get(*member).class));
        classes.any(|class| {
            class.spec.devices.iter().any(|(kind, _)| self.cluster.is_part_of_nodes(*kind))
        })
    }

    /// The devices of a pod whose bind is about to be asked for, of those that have an index, and
    /// what its claims are to be given.
    pub(super) fn grant(&mut self, index: PodIndex, call: CallId) -> (DeviceSet, Box<[Grant]>) {
        let pod = self.pods.get(index);
        if pod.claims.is_empty() {
            return (self.give_devices(index), Box::default());
        }
        let (uid, class) = (pod.uid, pod.class);
        let node = pod.node.expect("it is about to be bound");
        let claims = pod.claims.clone();
        let given = self.cluster.take_given(index, node);
        let given = given.or_else(|| self.cluster.choose_claimed(self.cluster.class(class), node));
        let given = given.expect("D2: a pod is bound without the devices that it claims");
        let devices = self.cluster.node(node).node.as_ref().and_then(|node| node.devices.clone());
        let devices = devices.unwrap_or_default();
        let open = || claims.iter().filter(|claim| !claim.allocated);
        let requests = open().flat_map(|claim| &claim.requests);
        let wants: Vec<_> = requests.map(|ask| (devices.of(ask.kind), ask.count)).collect();
        let sets = assign(given, &wants).expect("D2: the devices are those that were asked for");
        let mut sets = sets.into_iter();
        let mut asked = SmallVec::new();
        let mut grants = Vec::with_capacity(claims.len());
        for claim in &claims {
            let mut grant = Grant { claim: claim.uid, name: claim.name.clone(), devices: vec![] };
            if !claim.allocated {
                for request in &claim.requests {
                    let set = sets.next().expect("one for each request");
                    let names = set.iter().map(|device| devices.names[device].clone());
                    grant.devices.extend(names.map(|name| (request.name.clone(), name)));
                }
                let names: Vec<DeviceName> =
                    grant.devices.iter().map(|(_, name)| name.clone()).collect();
                let freed = self.cluster.ask_for_claim(claim.uid, names);
                self.devices_freed(&freed);
                asked.push(claim.uid);
            }
            grants.push(grant);
        }
        self.asked_claims.0.insert((call, uid), asked);
        let sets = claims.iter().map(|claim| self.cluster.devices_of_claim(claim.uid, node));
        let all = sets.fold(DeviceSet::EMPTY, DeviceSet::union);
        let set = all.common(DeviceSet::lowest(devices.gpus));
        self.pods.get_mut(index).devices = set;
        (set, grants.into())
    }

    /// A bind has its answer: what it asked for is what its claims say from now on.
    pub(super) fn claims_answered(&mut self, call: CallId, pod: Uid) {
        for claim in self.asked_claims.0.remove(&(call, pod)).into_iter().flatten() {
            let freed = self.cluster.ask_for_claim(claim, Vec::new());
            self.devices_freed(&freed);
        }
    }

    /// Says on a pod that it waits for a claim.
    pub(super) fn tell_claim_awaited(&mut self, index: PodIndex, what: &str) {
        let message = format!("{what}.").into();
        self.tell(&[index], ConditionReason::WaitingForClaim, &message);
    }

    /// D2: claims are counted with pods that are there.
    pub(super) fn check_claims(&self) {
        self.cluster.check_claimed();
        for claim in self.cluster.known_claims() {
            if let Some(holder) = self.cluster.claim_holder(claim) {
                let names = self.pods.get(holder).claims.iter();
                let mut names = names.filter(|named| named.counted);
                let is_named = names.any(|named| named.uid == claim);
                assert!(is_named, "D2: a claim is counted with a pod that does not name it");
            }
        }
    }
}
