//! Room for slices, and for gangs on one node, against all sets of victims.

use super::*;
use crate::placement::{Slices, Wanted};
use std::collections::BTreeMap;

type Units = Vec<Vec<(usize, usize)>>;

/// What is asked: all in one place, or slices of a size, apart or not.
#[derive(Clone, Copy, Debug)]
struct Ask {
    size: u32,
    apart: bool,
    /// in racks, or on nodes
    in_racks: bool,
}

impl World {
    /// The places that may hold a slice, with how many of the claim fit without the units.
    fn slots_by_place(&mut self, units: &Units, in_racks: bool) -> BTreeMap<String, u32> {
        let pods: Vec<Assignment> =
            units.iter().flatten().map(|(place, at)| self.candidates[*place].pods[*at]).collect();
        pods.iter().for_each(|pod| self.cluster.unplace(pod.class, pod.node));
        let mut slots = BTreeMap::new();
        for node in &self.nodes {
            let place = self.place_of(*node, in_racks);
            *slots.entry(place).or_default() += free(&self.cluster, *node, self.demand.class);
        }
        pods.iter().for_each(|pod| self.cluster.place(pod.class, pod.node));
        slots
    }

    fn place_of(&self, node: NodeIndex, in_racks: bool) -> String {
        let known = self.cluster.node(node);
        let labels = &known.node.as_ref().expect("it exists").labels;
        let rack = labels.iter().find(|(key, _)| &**key == "rack").map(|(_, value)| &**value);
        if in_racks { rack.expect("each has one").to_owned() } else { known.name.to_string() }
    }

    /// Whether the claim fits without the units.
    fn holds(&mut self, units: &Units, ask: Ask) -> bool {
        let slots = self.slots_by_place(units, ask.in_racks);
        let slices = slots.values().map(|slots| match ask.apart {
            true => (slots / ask.size).min(1),
            false => slots / ask.size,
        });
        slices.sum::<u32>() * ask.size >= self.demand.pods.len() as u32
    }

    /// The least price of a set that may be taken in some order, and without which the claim fits.
    fn cheapest(&mut self, place: usize, units: &mut Units, ask: Ask) -> Option<(usize, usize)> {
        let Some(candidate) = self.candidates.get(place).cloned() else {
            let fits = self.holds(units, ask) && self.some_order(units, 0);
            return fits.then(|| self.price(units));
        };
        let found = choices(place, &candidate).into_iter().filter_map(|choice| {
            let length = units.len();
            units.extend(choice);
            let found = self.cheapest(place + 1, units, ask);
            units.truncate(length);
            found
        });
        found.min()
    }

    /// Gangs ended, and pods.
    fn price(&self, units: &Units) -> (usize, usize) {
        let whole =
            |unit: &&Vec<(usize, usize)>| unit.len() == self.candidates[unit[0].0].pods.len();
        (units.iter().filter(whole).count(), units.iter().map(Vec::len).sum())
    }

    /// Whether a plan may be made, seats whole slices where there is room, and takes no more than
    /// that needs.
    fn check(&mut self, number: usize, seats: &[Assignment], units: &Units, ask: Ask) {
        assert!(self.some_order(units, 0), "world {number}: {units:?} may not be taken");
        let mut in_place: BTreeMap<String, u32> = BTreeMap::new();
        let mut on_node: BTreeMap<NodeIndex, u32> = BTreeMap::new();
        for seat in seats {
            *in_place.entry(self.place_of(seat.node, ask.in_racks)).or_default() += 1;
            *on_node.entry(seat.node).or_default() += 1;
        }
        assert_eq!(seats.len(), self.demand.pods.len(), "world {number}");
        let whole = |seats: &u32| match ask.apart {
            true => *seats == ask.size,
            false => seats.is_multiple_of(ask.size),
        };
        assert!(in_place.values().all(whole), "world {number}: {ask:?}, {in_place:?}");
        let slots = self.slots_by_place(units, false);
        for (node, seats) in &on_node {
            let name = self.place_of(*node, false);
            assert!(*seats <= slots[&name], "world {number}: {seats} seats on {name}, {slots:?}");
        }
        for at in 0..units.len() {
            let mut fewer = units.clone();
            let spared = fewer.remove(at);
            let spares = self.holds(&fewer, ask) && self.some_order(&fewer, 0);
            assert!(!spares, "world {number}: {spared:?} of {units:?} can be spared, {ask:?}");
        }
    }

    /// The units of a plan.
    fn units_of(&self, plan: &RoomPlan) -> Units {
        let mut units: Units = Vec::new();
        for (place, pods, whole) in &plan.victims {
            let at = |pod: &PodIndex| {
                let known = self.candidates[*place].pods.iter();
                (*place, known.clone().position(|known| known.pod == *pod).expect("its pod"))
            };
            let pods: Vec<(usize, usize)> = pods.iter().map(at).collect();
            // all members of one of which each may go alone are units of their own
            let spare = self.candidates[*place].spare as usize;
            match *whole && spare < pods.len() {
                true => units.push(pods),
                false => units.extend(pods.into_iter().map(|pod| vec![pod])),
            }
        }
        units
    }

    /// The same world with a rack for each node, and a claim of whole slices.
    fn with_racks(dice: &mut Dice) -> (Self, Ask) {
        let mut world = Self::random(dice);
        world.cluster.set_levels(vec!["rack".into()]);
        for node in world.nodes.clone() {
            let mut known = world.cluster.node(node).node.clone().expect("it exists");
            known.labels = vec![("rack".into(), ["one", "two"][dice.below(2)].into())];
            let _ = world.cluster.apply_node(known);
        }
        let members = world.demand.pods.len();
        let sizes = (1..=members).filter(|size| members.is_multiple_of(*size));
        let sizes: Vec<usize> = sizes.collect();
        let size = sizes[dice.below(sizes.len())] as u32;
        let all = size as usize == members;
        (world, Ask { size, apart: dice.below(3) == 0 && !all, in_racks: dice.below(2) == 0 })
    }
}

fn wanted(cluster: &Cluster, ask: Ask) -> Wanted {
    let host = cluster.domains().host_depth();
    let depth =
        if ask.in_racks { cluster.domains().depth_of("rack").expect("a level") } else { host };
    let slices = vec![Slices { size: ask.size, depth, apart: ask.apart }];
    Wanted { slices, ..Wanted::default() }
}

#[test]
fn slices_are_seated_whole_and_no_victim_can_be_spared() {
    let mut dice = Dice(0x5eed_0011);
    let profile = default_profile("mss-scheduler");
    let (mut placed, mut evicting, mut none, mut missed, mut dearer) = (0, 0, 0, 0, 0);
    for number in 0..3_000 {
        let (mut world, ask) = World::with_racks(&mut dice);
        let best = world.cheapest(0, &mut Vec::new(), ask);
        let demands = [world.demand.clone()];
        let wanted = wanted(&world.cluster, ask);
        let claim = Claim {
            leaf: world.claimant,
            demands: &demands,
            needed: world.demand.pods.len() as u32,
            extra: &[],
            going: &[],
            allowed: &[],
            domains: None,
            cut: Some(&wanted),
            at_most: &[],
        };
        let World { cluster, fair, candidates, .. } = &mut world;
        let mut rankings = Rankings::default();
        let answer = make_room(cluster, &mut rankings, fair, &profile, &claim, candidates);
        let plan = match answer {
            RoomAnswer::Placed(plan) => plan,
            RoomAnswer::No => {
                assert_eq!(best, None, "world {number}: \"no\" is proved, {ask:?}");
                none += 1;
                continue;
            }
            RoomAnswer::NotFound => {
                none += u32::from(best.is_none());
                missed += u32::from(best.is_some());
                continue;
            }
        };
        placed += 1;
        let units = world.units_of(&plan);
        evicting += u32::from(!units.is_empty());
        world.check(number, &plan.seats, &units, ask);
        let price = world.price(&units);
        assert!(best.is_some_and(|best| best <= price), "world {number}: {best:?}, {price:?}");
        dearer += u32::from(best.is_some_and(|best| best < price));
    }
    println!("{placed} placed, {evicting} evict, {none} none, {missed} missed, {dearer} dearer");
    assert!(evicting > 500 && none > 300, "{evicting} evict, {none} have no plan");
    assert!(missed * 50 < placed, "{missed} of {placed} plans are missed");
}
