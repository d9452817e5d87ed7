//! Judges a plan by the scene in which it was made: who may be taken, how, and whether it is worth
//! it. Everything is recomputed, the slow way.

use crate::reference::Place;
use crate::scene::{
    Amounts, Gang, Gone, Known, NONE, Role, SHARED, Scene, Shares, gang, plus, type_of,
};
use mss_scheduler::model::Uid;
use std::collections::{BTreeMap, BTreeSet};

/// For whom, who goes, and who is seated where.
#[derive(Clone, Debug)]
pub(crate) struct Plan {
    pub(crate) claimant: Gang,
    pub(crate) victims: BTreeSet<Uid>,
    pub(crate) seats: BTreeMap<Uid, Box<str>>,
}

/// An elastic member, or a whole gang.
struct Unit {
    gang: Gang,
    /// the user behind it
    user: usize,
    whole: bool,
    pods: BTreeSet<Uid>,
    /// its own queue has to give: shares do not protect it
    given: bool,
}

/// What is known of the claimant.
struct Claim {
    namespace: Box<str>,
    user: usize,
    priority: i32,
    extra: Amounts,
    /// the same as if it asked for the types on which it is seated
    as_if: Amounts,
    contested: Vec<usize>,
}

struct Judge<'a> {
    scene: &'a Scene,
    shares: Shares,
    plan: &'a Plan,
    claim: Claim,
}

/// What is wrong with a plan, with the number of the invariant.
pub(crate) fn judge(scene: &Scene, plan: &Plan) -> Result<(), String> {
    let seated = |uid: &Uid| scene.pods.get(uid).map(|known| &known.pod);
    let seats: Vec<_> = plan.seats.keys().filter_map(seated).collect();
    let Some(first) = seats.first() else { return Err("E1: nobody is seated".into()) };
    let extra = seats.iter().map(|pod| scene.asked(pod)).fold(NONE, plus);
    let contested = if extra[1] > 0 {
        (1..SHARED.len()).filter(|at| extra[*at] > 0).collect()
    } else {
        vec![0]
    };
    // of a type for which it does not ask it is due what it were if it did
    let sought = |at: usize| if at > 1 && extra[at] == 0 && scene.named[at] { extra[1] } else { 0 };
    let shares = scene.shares(Some((first.uid, std::array::from_fn(sought))));
    let on_seats = scene.taken(&plan.seats);
    let taken = std::array::from_fn(|at| extra[at].max(on_seats[at]));
    let sought_there = |at: usize| if on_seats[at] > 0 { sought(at) } else { 0 };
    let as_if = std::array::from_fn(|at| extra[at].max(sought_there(at)));
    let claim = Claim {
        namespace: first.key.namespace.clone(),
        user: shares.owner(&first.uid),
        priority: first.priority,
        extra,
        as_if,
        contested,
    };
    let judge = Judge { scene, shares, plan, claim };
    judge.seats()?;
    let units = judge.units()?;
    judge.protection()?;
    let firm = first.non_preemptible;
    check(!firm || judge.firm_is_guaranteed(judge.claim.user, taken), || {
        "E7: it takes room that is not guaranteed, for ever".into()
    })?;
    judge.rights(&units, &plan.victims, true, taken)?;
    judge.minimal(&units)
}

fn check(holds: bool, problem: impl FnOnce() -> String) -> Result<(), String> {
    if holds { Ok(()) } else { Err(problem()) }
}

impl Judge<'_> {
    fn known(&self, uid: &Uid) -> Result<&Known, String> {
        self.scene.pods.get(uid).ok_or_else(|| format!("I6: {uid} is not known"))
    }

    /// E1: all that the gang lacks is seated where it fits once the victims are gone.
    fn seats(&self) -> Result<(), String> {
        let claimant = &self.plan.claimant;
        let seated = u32::try_from(self.plan.seats.len()).expect("small");
        let own = |uid: &&Uid| gang(&self.scene.pods[*uid].pod) == *claimant;
        let own: BTreeSet<Uid> = self.plan.victims.iter().filter(own).copied().collect();
        let settled = self.scene.settled(claimant) - u32::try_from(own.len()).expect("small");
        check(settled + seated >= self.scene.min(claimant), || {
            format!("I6, E1: {seated} seats for {claimant:?}, {settled} run")
        })?;
        let seats: BTreeSet<Uid> = self.plan.seats.keys().copied().collect();
        check(self.scene.parts_have(claimant, &seats, &own), || {
            format!("I6, E1: {claimant:?} is seated without the minima of its parts")
        })?;
        let mut nodes: BTreeMap<&str, Vec<&Uid>> = BTreeMap::new();
        for (uid, node) in &self.plan.seats {
            nodes.entry(node).or_default().push(uid);
        }
        let kept = &self.scene.kept[0];
        let gone = Gone { kept, victims: &self.plan.victims, leaving: true };
        for (name, uids) in nodes {
            let node = self.scene.nodes.get(name).ok_or(format!("E1: {name} is no node"))?;
            for (resource, _) in &node.allocatable {
                let asked = |uid: &&Uid| match &**resource {
                    "pods" => 1,
                    _ => {
                        let requests = &self.scene.pods[*uid].pod.class.requests;
                        crate::scene::amount(requests, resource).unwrap_or(0)
                    }
                };
                let asked: i64 = uids.iter().map(asked).sum();
                let free = self.scene.free(node, &gone, resource);
                check(asked <= free, || {
                    format!("E1, E6: {name} will have {free} {resource}, seats ask for {asked}")
                })?;
            }
            for uid in uids {
                let slots = self.scene.slots(node, &self.scene.pods[uid].pod, &gone);
                check(slots > 0, || format!("E1: {uid} does not fit {name}"))?;
            }
        }
        Ok(())
    }

    /// E3: gangs go whole, or keep their minimum; headers go with the last.
    fn units(&self) -> Result<Vec<Unit>, String> {
        let mut gangs: BTreeMap<Gang, BTreeSet<Uid>> = BTreeMap::new();
        for uid in &self.plan.victims {
            let known = self.known(uid)?;
            check(known.role == Role::Bound, || format!("I6: {uid} is {:?}", known.role))?;
            gangs.entry(gang(&known.pod)).or_default().insert(*uid);
        }
        let mut units = Vec::new();
        for (gang, pods) in gangs {
            let members = || self.scene.members(&gang);
            let user = self.shares.owner(pods.first().expect("a gang that loses some"));
            let bound = members().filter(|(_, known)| known.role == Role::Bound).count();
            let settled = self.scene.settled(&gang) as usize;
            let whole = bound == pods.len();
            let keeps = settled >= self.scene.min(&gang) as usize + pods.len()
                && self.scene.parts_keep(&gang, &pods);
            check(whole || keeps, || {
                format!("I6, E3: {gang:?} loses {} of {settled} members", pods.len())
            })?;
            // what it has above its minima may make room for a part of it that lacks some
            let own = gang == self.plan.claimant;
            check(!own || keeps && self.scene.lacks_part(&gang), || {
                format!("E2: {gang:?} takes its own")
            })?;
            let header = members().any(|(uid, known)| known.pod.header && pods.contains(uid));
            check(whole || !header, || format!("E3: {gang:?} loses its header first"))?;
            // all that run of a gang whose other members make its minimum may go either way
            let equal = self.is_given(&gang, false) && !self.is_given(&gang, true);
            let single = keeps && (!whole || equal);
            let pieces: Vec<BTreeSet<Uid>> = match single {
                true => pods.iter().map(|uid| BTreeSet::from([*uid])).collect(),
                false => vec![pods],
            };
            for pods in pieces {
                let given = self.is_given(&gang, !single);
                units.push(Unit { gang: gang.clone(), user, whole: !single, pods, given });
            }
        }
        Ok(units)
    }

    fn first(&self, of: &Gang) -> &Known {
        let (uid, _) = self.scene.members(of).next().expect("a gang has members");
        &self.scene.pods[uid]
    }

    /// Whether the claimant, beyond its share, may take this of its own queue.
    fn is_given(&self, of: &Gang, whole: bool) -> bool {
        let claim = &self.claim;
        let (pod, spec) = (&self.first(of).pod, self.scene.spec(&of.0));
        let priority = pod.priority;
        let own = spec.name == self.scene.spec(&claim.namespace).name;
        let user = self.shares.owner(&pod.uid);
        let equal = priority == claim.priority && user == claim.user && !whole;
        let leaf = Place::User(claim.user);
        own && spec.preemption.preemptible
            && (priority < claim.priority || equal)
            && !self.is_entitled(leaf, &BTreeSet::new(), claim.as_if)
    }

    fn is_entitled(&self, place: Place, gone: &BTreeSet<Uid>, wanted: Amounts) -> bool {
        let held = self.scene.held(place, &self.shares, |uid| !gone.contains(uid));
        (0..SHARED.len()).all(|at| {
            let sum = i128::from(held[at] + wanted[at]) * 1000;
            wanted[at] == 0 || sum <= self.shares.deserved(place, at)
        })
    }

    /// E7: nobody who must not be taken.
    fn protection(&self) -> Result<(), String> {
        let scene = self.scene;
        for uid in &self.plan.victims {
            let known = self.known(uid)?;
            let preemption = &scene.spec(&known.pod.key.namespace).preemption;
            let since = known.pod.bound_at.map_or(i64::MIN, |at| at.0);
            check(since + preemption.min_runtime_ms <= scene.now, || {
                format!("E7: {uid} has not run for long enough")
            })?;
            check(known.protected_until <= scene.now, || {
                format!("E7: a disruption budget protected {uid} lately")
            })?;
            let firm = known.pod.non_preemptible;
            check(!(firm && self.firm_is_guaranteed(self.shares.owner(uid), NONE)), || {
                format!("E7: {uid} must never be evicted")
            })?;
            let pair = (self.plan.claimant.clone(), gang(&known.pod));
            let restrained = scene.pairs.contains(&pair) && !self.stays_guaranteed();
            check(!restrained, || format!("E7: pair rule: {:?} took of {:?}", pair.1, pair.0))?;
        }
        Ok(())
    }

    /// Whether what must never be evicted is within the guarantees above a user.
    fn firm_is_guaranteed(&self, user: usize, extra: Amounts) -> bool {
        let firm = |uid: &Uid| self.scene.pods[uid].pod.non_preemptible;
        self.is_guaranteed(user, |place| plus(self.scene.held(place, &self.shares, firm), extra))
    }

    fn is_guaranteed(&self, user: usize, held: impl Fn(Place) -> Amounts) -> bool {
        self.shares.path(user).into_iter().skip(1).all(|place| {
            let Place::Queue(queue) = place else { return true };
            let (held, spec) = (held(place), &self.scene.queues[queue]);
            SHARED
                .iter()
                .zip(held)
                .all(|(name, held)| held <= crate::scene::amount(&spec.quota, name).unwrap_or(0))
        })
    }

    fn stays_guaranteed(&self) -> bool {
        let extra = self.claim.extra;
        self.is_guaranteed(self.claim.user, |place| {
            let held = self.scene.held(place, &self.shares, |_| true);
            std::array::from_fn(|at| if extra[at] == 0 { 0 } else { held[at] + extra[at] })
        })
    }

    /// E2: the claimant is entitled to what it takes from others, and they hold more than theirs.
    fn rights(
        &self,
        units: &[Unit],
        victims: &BTreeSet<Uid>,
        leaving: bool,
        wanted: Amounts,
    ) -> Result<(), String> {
        let (scene, claim) = (self.scene, &self.claim);
        check(scene.spec(&claim.namespace).preemption.may_evict, || "E2: it may not evict".into())?;
        // what leaves anyway may or may not be counted: the plan has the benefit
        let leaves = |uid: &Uid| {
            let leaves = leaving && scene.pods[uid].pod.deleting;
            scene.awaited.contains(uid) || leaves || victims.contains(uid)
        };
        let left: BTreeSet<Uid> = scene.pods.keys().copied().filter(leaves).collect();
        for place in self.shares.path(claim.user) {
            let held = scene.held(place, &self.shares, |uid| !left.contains(uid));
            self.within_ceiling(place, held, wanted)?;
        }
        let others: Vec<&Unit> = units.iter().filter(|unit| !unit.given).collect();
        for unit in &others {
            let spec = scene.spec(&unit.gang.0);
            check(spec.preemption.reclaimable, || format!("E2: {} gives nothing", spec.name))?;
            check(unit.user != claim.user, || {
                format!("I6, E2: {:?} ends, and is its equal in its own queue", unit.gang)
            })?;
            for place in self.shares.below_common(claim.user, unit.user) {
                check(self.is_entitled(place, &left, wanted), || {
                    let held = scene.held(place, &self.shares, |uid| !left.contains(uid));
                    let deserved = [0, 1, 2, 3].map(|at| self.shares.deserved(place, at));
                    let name = self.shares.name(place);
                    format!("E2: {name} holds {held:?} of {deserved:?}, wants {wanted:?}")
                })?;
            }
        }
        // what another user of its queue gives is above that user's share as well
        let users = |unit: &&Unit| !unit.given || unit.user != claim.user;
        let sheltered: Vec<&Unit> = units.iter().filter(users).collect();
        check(self.order_exists(&sheltered), || {
            let from: Vec<&Gang> = sheltered.iter().map(|unit| &unit.gang).collect();
            format!("E2: of {from:?} one holds no more than its share when it is taken")
        })
    }

    fn within_ceiling(&self, place: Place, held: Amounts, wanted: Amounts) -> Result<(), String> {
        let claim = &self.claim;
        let limits = |at: usize| -> Option<i64> {
            let find = |list: &[(Box<str>, i64)]| crate::scene::amount(list, SHARED[at]);
            match place {
                Place::Root => None,
                Place::User(_) => find(&self.scene.spec(&claim.namespace).user_limit),
                Place::Queue(queue) => {
                    let spec = &self.scene.queues[queue];
                    let quota = find(&spec.quota).unwrap_or(0);
                    let borrowed = find(&spec.borrow_limit).map(|borrow| quota + borrow);
                    find(&spec.limit).into_iter().chain(borrowed).min()
                }
            }
        };
        for (at, (held, extra)) in held.iter().zip(&wanted).enumerate() {
            let wanted = held + extra;
            let fits = *extra == 0 || limits(at).is_none_or(|limit| wanted <= limit);
            check(fits, || format!("F2: {} will hold {wanted}", self.shares.name(place)))?;
        }
        Ok(())
    }

    /// Whether the units of others can be taken one after the other so that every queue on their
    /// path holds more than its share each time. What its own queue gives may go after them.
    fn order_exists(&self, others: &[&Unit]) -> bool {
        let claim = &self.claim;
        let paths: Vec<Vec<Place>> =
            others.iter().map(|unit| self.shares.below_common(unit.user, claim.user)).collect();
        let places: BTreeSet<Place> = paths.iter().flatten().copied().collect();
        let held: BTreeMap<Place, Amounts> = places
            .iter()
            .map(|place| {
                let counts = |uid: &Uid| !self.scene.awaited.contains(uid);
                (*place, self.scene.held(*place, &self.shares, counts))
            })
            .collect();
        let size = |unit: &Unit| {
            unit.pods.iter().map(|uid| self.scene.charged(&self.scene.pods[uid])).fold(NONE, plus)
        };
        let sizes: Vec<Amounts> = others.iter().map(|unit| size(unit)).collect();
        let may_take = |unit: usize, before: &dyn Fn(usize) -> bool| {
            paths[unit].iter().all(|place| {
                let is_above = |at: &usize| {
                    let taken = (0..others.len())
                        .filter(|other| before(*other) && paths[*other].contains(place))
                        .map(|other| sizes[other][*at]);
                    let left = held[place][*at] - taken.sum::<i64>();
                    i128::from(left) * 1000 > self.shares.deserved(*place, *at)
                };
                // of others it is taken only what is above their share of its type as well
                let mut types = (2..SHARED.len()).filter(|at| sizes[unit][*at] > 0);
                claim.contested.iter().any(is_above)
                    && (others[unit].given || types.all(|at| is_above(&at)))
            })
        };
        if others.len() > 12 {
            // too many for every order: the small ones first
            let mut order: Vec<usize> = (0..others.len()).collect();
            order.sort_by_key(|unit| sizes[*unit][1]);
            return (0..order.len())
                .all(|at| may_take(order[at], &|other| order[..at].contains(&other)));
        }
        let mut reached = vec![false; 1 << others.len()];
        reached[0] = true;
        for set in 0..reached.len() {
            for unit in 0..others.len() {
                let more = reached[set] && set & (1 << unit) == 0;
                if more && may_take(unit, &|other| set & (1 << other) != 0) {
                    reached[set | 1 << unit] = true;
                }
            }
        }
        reached[reached.len() - 1]
    }

    /// E1: without any one of the units the gang is not seated, or not by right. Gangs of several
    /// classes are not judged: whether they fit is a puzzle of its own. That one would do with
    /// the room of pods that leave anyway is not asked: it is not known which of them may be stuck.
    fn minimal(&self, units: &[Unit]) -> Result<(), String> {
        let mut classes = self.plan.seats.keys().map(|uid| &self.scene.pods[uid].pod);
        let first = classes.next().expect("somebody is seated");
        if classes.any(|pod| pod.class != first.class) {
            return Ok(());
        }
        let needed = u32::try_from(self.plan.seats.len()).expect("small");
        for (at, unit) in units.iter().enumerate() {
            let fewer: BTreeSet<Uid> = self.plan.victims.difference(&unit.pods).copied().collect();
            let gone = Gone { kept: &self.scene.kept[1], victims: &fewer, leaving: false };
            let without = |(other, _): &(usize, &Unit)| *other != at;
            let rest = units.iter().enumerate().filter(without).map(|(_, unit)| Unit {
                gang: unit.gang.clone(),
                pods: unit.pods.clone(),
                ..*unit
            });
            let rest: Vec<Unit> = rest.collect();
            let may_take = |amounts| self.rights(&rest, &fewer, false, amounts).is_ok();
            let nodes = self.scene.nodes.values();
            // nodes of a type count only if all seats could be there
            let nodes =
                nodes.filter(|node| match type_of(node).filter(|at| self.scene.named[*at]) {
                    None => true,
                    Some(at) => {
                        let mut all = self.claim.extra;
                        all[at] = all[1];
                        let firm = first.non_preemptible;
                        may_take(all) && (!firm || self.firm_is_guaranteed(self.claim.user, all))
                    }
                });
            let slots: u32 =
                nodes.map(|node| self.scene.slots(node, first, &gone).min(needed)).sum();
            let spared = slots >= needed && may_take(self.claim.extra);
            check(!spared, || {
                let what = if unit.whole { "all" } else { "a member" };
                format!("E1: {what} of {:?} could be spared", unit.gang)
            })?;
        }
        Ok(())
    }
}
