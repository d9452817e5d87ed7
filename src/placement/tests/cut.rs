//! Room for slices, for gangs on one node, and for task groups with places of their own, against
//! all sets of victims: with and without members that were placed before.

use super::*;
use crate::placement::{Part, Slices, Wanted, settled_domain};
use std::collections::{BTreeMap, BTreeSet};

type Units = Vec<Vec<(usize, usize)>>;

/// What a gang, or a task group, asks: all in one place, or slices of a size, apart or not.
#[derive(Clone, Debug)]
struct Wish {
    /// in racks, or on nodes
    in_racks: bool,
    size: Option<u32>,
    apart: bool,
    /// where members were placed before
    settled: Vec<NodeIndex>,
    /// members to be seated
    count: u32,
}

/// What is asked in all.
#[derive(Clone, Debug)]
struct Ask {
    /// everything is in one rack
    in_one_rack: bool,
    wishes: Vec<Wish>,
    /// members that may be anywhere
    rest: u32,
}

/// Members that go to one of these places together.
struct Chunk {
    count: u32,
    places: Vec<String>,
    /// no other chunk of the same wish goes there
    apart_of: Option<usize>,
}

impl Ask {
    fn count(&self) -> u32 {
        self.wishes.iter().map(|wish| wish.count).sum::<u32>() + self.rest
    }
}

impl World {
    fn rack_of(&self, node: NodeIndex) -> String {
        let labels = &self.cluster.node(node).node.as_ref().expect("it exists").labels;
        let rack = labels.iter().find(|(key, _)| &**key == "rack").map(|(_, value)| &**value);
        rack.expect("each has one").to_owned()
    }

    fn place_of(&self, node: NodeIndex, in_racks: bool) -> String {
        if in_racks { self.rack_of(node) } else { self.cluster.node(node).name.to_string() }
    }

    /// How many of the claim fit on each node without the units.
    fn slots(&mut self, units: &Units) -> Vec<(NodeIndex, u32)> {
        let pods: Vec<Assignment> =
            units.iter().flatten().map(|(place, at)| self.candidates[*place].pods[*at]).collect();
        pods.iter().for_each(|pod| self.cluster.unplace(pod.class, pod.node));
        let fits = |node: &NodeIndex| (*node, free(&self.cluster, *node, self.demand.class));
        let slots = self.nodes.iter().map(fits).collect();
        pods.iter().for_each(|pod| self.cluster.place(pod.class, pod.node));
        slots
    }

    /// Members of a wish that were placed before, by place.
    fn settled_by(&self, wish: &Wish) -> BTreeMap<String, u32> {
        let mut found = BTreeMap::new();
        for node in &wish.settled {
            *found.entry(self.place_of(*node, wish.in_racks)).or_default() += 1;
        }
        found
    }

    /// What is seated together; `None`: slices are left over.
    fn chunks(&self, ask: &Ask) -> Option<Vec<Chunk>> {
        let mut chunks = Vec::new();
        for (number, wish) in ask.wishes.iter().enumerate() {
            let settled = self.settled_by(wish);
            let all: BTreeSet<String> =
                self.nodes.iter().map(|node| self.place_of(*node, wish.in_racks)).collect();
            let Some(size) = wish.size else {
                let own = settled.into_keys().collect::<Vec<_>>();
                let places = if own.is_empty() { all.into_iter().collect() } else { own };
                chunks.push(Chunk { count: wish.count, places, apart_of: None });
                continue;
            };
            let mut left = wish.count;
            for (place, members) in &settled {
                let count = (size - members % size) % size;
                left = left.checked_sub(count)?;
                chunks.push(Chunk { count, places: vec![place.clone()], apart_of: None });
            }
            let free = |place: &String| !(wish.apart && settled.contains_key(place));
            let places: Vec<String> = all.into_iter().filter(free).collect();
            for _ in 0..left / size {
                let apart_of = wish.apart.then_some(number);
                chunks.push(Chunk { count: size, places: places.clone(), apart_of });
            }
            if !left.is_multiple_of(size) {
                return None;
            }
        }
        Some(chunks)
    }

    /// Whether the claim fits without the units: each way to choose places is looked at.
    fn holds(&mut self, units: &Units, ask: &Ask) -> bool {
        let slots = self.slots(units);
        let Some(chunks) = self.chunks(ask) else { return false };
        let settled = ask.wishes.iter().flat_map(|wish| &wish.settled).next();
        let racks: Vec<Option<String>> = match (ask.in_one_rack, settled) {
            (false, _) => vec![None],
            (true, Some(node)) => vec![Some(self.rack_of(*node))],
            (true, None) => ["one", "two"].map(|rack| Some(rack.into())).into(),
        };
        racks.into_iter().any(|rack| {
            // a node lies in its rack; all lies in the cluster, which has no name
            let mut room: BTreeMap<String, (u32, String)> = BTreeMap::new();
            for (node, fit) in &slots {
                let own = self.rack_of(*node);
                let fit = if rack.as_ref().is_some_and(|rack| own != *rack) { 0 } else { *fit };
                room.entry(String::new()).or_default().0 += fit;
                room.entry(own.clone()).or_default().0 += fit;
                room.insert(self.place_of(*node, false), (fit, own));
            }
            fits(&chunks, &mut room, &mut BTreeSet::new(), ask.rest)
        })
    }

    /// The least price of a set that may be taken in some order, and without which the claim fits.
    fn cheapest(&mut self, place: usize, units: &mut Units, ask: &Ask) -> Option<(usize, usize)> {
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

    /// Whether a plan may be made, and seats all as it is asked where there is room.
    fn check(&mut self, number: usize, seats: &[Assignment], units: &Units, ask: &Ask) {
        assert!(self.some_order(units, 0), "world {number}: {units:?} may not be taken");
        let mut on_node: BTreeMap<NodeIndex, u32> = BTreeMap::new();
        seats.iter().for_each(|seat| *on_node.entry(seat.node).or_default() += 1);
        assert_eq!(seats.len() as u32, ask.count(), "world {number}");
        let mut first = 1000;
        for wish in &ask.wishes {
            let mut in_place = self.settled_by(wish);
            let own = seats.iter().filter(|seat| (first..first + wish.count).contains(&seat.pod.0));
            for seat in own {
                *in_place.entry(self.place_of(seat.node, wish.in_racks)).or_default() += 1;
            }
            first += wish.count;
            let whole = match (wish.size, wish.apart) {
                (None, _) => in_place.len() == 1,
                (Some(size), true) => in_place.values().all(|members| *members == size),
                (Some(size), false) => in_place.values().all(|m| m.is_multiple_of(size)),
            };
            assert!(whole, "world {number}: {wish:?}, {in_place:?}");
        }
        let settled = ask.wishes.iter().flat_map(|wish| wish.settled.iter().copied());
        let racks = seats.iter().map(|seat| seat.node).chain(settled);
        let racks: BTreeSet<String> = racks.map(|node| self.rack_of(node)).collect();
        assert!(!ask.in_one_rack || racks.len() == 1, "world {number}: {racks:?}");
        for (node, slots) in self.slots(units) {
            let seats = on_node.get(&node).copied().unwrap_or(0);
            assert!(seats <= slots, "world {number}: {seats} seats on {node:?}, {slots}");
        }
    }

    /// Units of which one can be spared.
    fn spared(&mut self, units: &Units, ask: &Ask) -> usize {
        let spared = (0..units.len()).filter(|at| {
            let mut fewer = units.clone();
            fewer.remove(*at);
            self.holds(&fewer, ask) && self.some_order(&fewer, 0)
        });
        spared.count()
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

    /// A random world with a rack for each node.
    fn with_racks(dice: &mut Dice) -> Self {
        let mut world = Self::random(dice);
        world.cluster.set_levels(vec!["rack".into()]);
        for node in world.nodes.clone() {
            let mut known = world.cluster.node(node).node.clone().expect("it exists");
            known.labels = vec![("rack".into(), ["one", "two"][dice.below(2)].into())];
            let _ = world.cluster.apply_node(known);
        }
        world
    }

    /// A claim of whole slices.
    fn new_slices(&self, dice: &mut Dice) -> Ask {
        let count = self.demand.pods.len() as u32;
        let sizes: Vec<u32> = (1..=count).filter(|size| count.is_multiple_of(*size)).collect();
        let size = sizes[dice.below(sizes.len())];
        let apart = dice.below(3) == 0 && size < count;
        let in_racks = dice.below(2) == 0;
        let wish = Wish { in_racks, size: Some(size), apart, settled: Vec::new(), count };
        let in_one_rack = !(in_racks && apart) && dice.below(4) == 0;
        Ask { in_one_rack, wishes: vec![wish], rest: 0 }
    }

    /// A wish, of which some members are placed where there is room; the others are lost.
    fn placed_wish(&mut self, dice: &mut Dice, within: Option<&str>) -> Wish {
        let in_racks = dice.below(2) == 0;
        let size = (dice.below(3) > 0).then(|| 1 + dice.below(3) as u32);
        let apart = size.is_some() && dice.below(3) == 0;
        let mut wish = Wish { in_racks, size, apart, settled: Vec::new(), count: 0 };
        let slices = if size.is_some() { 1 + dice.below(3) } else { 1 };
        for _ in 0..slices {
            let members = size.unwrap_or(1 + dice.below(4) as u32);
            wish.count += members;
            let nodes = self.nodes.clone();
            let at = self.place_of(nodes[dice.below(nodes.len())], in_racks);
            if dice.below(3) == 0 || apart && self.settled_by(&wish).contains_key(&at) {
                continue; // lost whole
            }
            for _ in 0..1 + dice.below(members as usize) {
                let node = nodes[dice.below(nodes.len())];
                let is_there = self.place_of(node, in_racks) == at
                    && within.is_none_or(|rack| self.rack_of(node) == rack);
                if is_there && free(&self.cluster, node, self.demand.class) > 0 {
                    self.cluster.place(self.demand.class, node);
                    let requests = self.cluster.class(self.demand.class).requests.clone();
                    self.fair.charge(self.claimant, &requests, 1);
                    wish.settled.push(node);
                    wish.count -= 1;
                }
            }
        }
        wish
    }

    /// A gang, or one with two task groups, that has lost some members.
    fn with_placed(dice: &mut Dice, parts: usize) -> (Self, Ask) {
        loop {
            let mut world = Self::with_racks(dice);
            let in_one_rack = dice.below(4) == 0;
            let rack = ["one", "two"][dice.below(2)];
            let within = in_one_rack.then_some(rack);
            let wishes: Vec<Wish> = (0..parts).map(|_| world.placed_wish(dice, within)).collect();
            let rest = if parts > 1 { dice.below(2) as u32 } else { 0 };
            let apart = wishes.iter().any(|wish| wish.apart && wish.in_racks);
            let placed = wishes.iter().any(|wish| !wish.settled.is_empty());
            let ask = Ask { in_one_rack, wishes, rest };
            if placed && (1..=5).contains(&ask.count()) && !(in_one_rack && apart) {
                let pods = (0..ask.count()).map(|at| PodIndex(1000 + at));
                world.demand.pods = pods.collect();
                return (world, ask);
            }
        }
    }

    fn wanted(&self, ask: &Ask) -> Wanted {
        let rack = self.cluster.domains().depth_of("rack").expect("a level");
        let host = self.cluster.domains().host_depth();
        let wanted = |wish: &Wish| {
            let depth = if wish.in_racks { rack } else { host };
            let required = wish.size.is_none().then_some(depth);
            let slices = wish.size.map(|size| Slices { size, depth, apart: wish.apart });
            let settled = wish.settled.clone();
            Wanted { required, slices: slices.into_iter().collect(), settled, ..Wanted::default() }
        };
        if let [wish] = &ask.wishes[..] {
            let mut wanted = wanted(wish);
            let outer = ask.in_one_rack.then_some(rack);
            wanted.required = wanted.required.or(outer);
            return wanted;
        }
        let mut first = 1000;
        let parts = ask.wishes.iter().map(|wish| {
            let pods = (first..first + wish.count).map(PodIndex).collect();
            first += wish.count;
            Part { name: "part".into(), wanted: wanted(wish), pods }
        });
        let parts: Vec<Part> = parts.collect();
        let required = ask.in_one_rack.then_some(rack);
        let settled = ask.wishes.iter().flat_map(|wish| wish.settled.clone()).collect();
        Wanted { required, settled, parts, ..Wanted::default() }
    }
}

/// Whether chunks fit in places of so much room, which lie in others.
fn fits(
    chunks: &[Chunk],
    room: &mut BTreeMap<String, (u32, String)>,
    used: &mut BTreeSet<(usize, String)>,
    rest: u32,
) -> bool {
    let Some((chunk, others)) = chunks.split_first() else { return room[""].0 >= rest };
    chunk.places.iter().any(|place| {
        let key = chunk.apart_of.map(|wish| (wish, place.clone()));
        let above = room[place].1.clone();
        let mut path = vec![place.clone(), above, String::new()];
        path.dedup();
        if key.as_ref().is_some_and(|key| used.contains(key))
            || path.iter().any(|place| room[place].0 < chunk.count)
        {
            return false;
        }
        let mut change = |sign: bool| {
            for place in &path {
                let left = &mut room.get_mut(place).expect("it is known").0;
                *left = if sign { *left - chunk.count } else { *left + chunk.count };
            }
        };
        change(true);
        used.extend(key.clone());
        let found = fits(others, room, used, rest);
        let mut change = |sign: bool| {
            for place in &path {
                let left = &mut room.get_mut(place).expect("it is known").0;
                *left = if sign { *left - chunk.count } else { *left + chunk.count };
            }
        };
        change(false);
        key.iter().for_each(|key| {
            used.remove(key);
        });
        found
    })
}

/// What came of many worlds.
#[derive(Debug, Default)]
struct Seen {
    placed: usize,
    evicting: usize,
    none: usize,
    missed: usize,
    dearer: usize,
    spared: usize,
}

impl Seen {
    fn note(&mut self, number: usize, world: &mut World, ask: &Ask) {
        let profile = default_profile("mss-scheduler");
        if ask.in_one_rack && world.holds(&Vec::new(), ask) {
            return; // it is placed without a search, which takes racks one by one
        }
        let best = world.cheapest(0, &mut Vec::new(), ask);
        let demands = [world.demand.clone()];
        let wanted = world.wanted(ask);
        let host = world.cluster.domains().host_depth();
        let domains = wanted.required.filter(|depth| *depth < host).map(|depth| {
            let domains = world.cluster.domains();
            match wanted.settled.is_empty() {
                true => domains.at_depth(depth).collect::<Vec<_>>(),
                false => settled_domain(domains, &wanted.settled, depth).into_iter().collect(),
            }
        });
        let claim = Claim {
            leaf: world.claimant,
            demands: &demands,
            needed: world.demand.pods.len() as u32,
            extra: &[],
            going: &[],
            allowed: &[],
            domains: domains.as_deref(),
            cut: Some(&wanted),
            narrowed: NarrowedClaim::default(),
        };
        let World { cluster, fair, candidates, .. } = world;
        let mut rankings = Rankings::default();
        let answer = make_room(cluster, &mut rankings, fair, &profile, &claim, candidates);
        let plan = match answer {
            RoomAnswer::Placed(plan) => plan,
            RoomAnswer::No => {
                assert_eq!(best, None, "world {number}: \"no\" is proved, {ask:?}");
                self.none += 1;
                return;
            }
            RoomAnswer::NotFound => {
                self.none += usize::from(best.is_none());
                self.missed += usize::from(best.is_some());
                return;
            }
        };
        self.placed += 1;
        let units = world.units_of(&plan);
        self.evicting += usize::from(!units.is_empty());
        world.check(number, &plan.seats, &units, ask);
        self.spared += usize::from(world.spared(&units, ask) > 0);
        let price = world.price(&units);
        assert!(best.is_some_and(|best| best <= price), "world {number}: {best:?}, {price:?}");
        self.dearer += usize::from(best.is_some_and(|best| best < price));
    }
}

/// Makes room in many worlds. More than `evicting` claims need victims, or it shows too little.
fn seen_in_worlds(seed: u64, evicting: usize, mut draw: impl FnMut(&mut Dice) -> (World, Ask)) {
    let mut dice = Dice(seed);
    let mut seen = Seen::default();
    for number in 0..3_000 {
        let (mut world, ask) = draw(&mut dice);
        seen.note(number, &mut world, &ask);
    }
    println!("{seen:?}");
    assert!(seen.evicting > evicting && seen.none > 300 && seen.spared == 0, "{seen:?}");
    assert!(seen.missed * 50 < seen.placed, "{seen:?}");
}

#[test]
fn slices_are_seated_whole_and_no_victim_can_be_spared() {
    seen_in_worlds(0x5eed_0011, 500, |dice| {
        let world = World::with_racks(dice);
        let ask = world.new_slices(dice);
        (world, ask)
    });
}

#[test]
fn what_slices_have_lost_is_seated_where_the_rest_of_them_is() {
    seen_in_worlds(0x5eed_0012, 500, |dice| World::with_placed(dice, 1));
}

#[test]
fn what_task_groups_have_lost_is_seated_where_the_rest_of_them_is() {
    seen_in_worlds(0x5eed_0013, 300, |dice| World::with_placed(dice, 2));
}
