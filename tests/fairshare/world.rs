//! Random trees of queues, and what everybody in them deserves by a slow reference.
//!
//! The reference shares nothing with the implementation: it recurses over places, and finds each
//! level by bisection on a grid finer than any two levels at which somebody's share changes.

use mss_scheduler::cluster::CPU;
use mss_scheduler::fairshare::{FairShare, QueueIndex};
use mss_scheduler::model::QueueSpec;
use std::collections::BTreeMap;

/// A generator of numbers (xorshift64*).
pub(super) struct Dice(pub(super) u64);

impl Dice {
    pub(super) fn below(&mut self, end: i64) -> i64 {
        self.0 ^= self.0 >> 12;
        self.0 ^= self.0 << 25;
        self.0 ^= self.0 >> 27;
        let number = self.0.wrapping_mul(0x2545_f491_4f6c_dd1d) >> 33;
        i64::try_from(number).unwrap() % end.max(1)
    }

    pub(super) fn one_in(&mut self, times: i64) -> bool {
        self.below(times) == 0
    }

    pub(super) fn of<T: Copy>(&mut self, choices: &[T]) -> T {
        choices[self.below(choices.len() as i64) as usize]
    }
}

#[derive(Clone, Debug, Default)]
pub(super) struct Queue {
    pub(super) name: String,
    pub(super) parent: Option<usize>,
    pub(super) weight: u32,
    pub(super) surplus_weight: Option<u32>,
    pub(super) quota: i64,
    pub(super) limit: Option<i64>,
    pub(super) lend: Option<i64>,
    pub(super) borrow: Option<i64>,
    /// of each of its users
    pub(super) user_limit: Option<i64>,
    pub(super) priority: i32,
    /// out of its run window: it deserves nothing
    pub(super) shut: bool,
}

#[derive(Clone, Debug)]
pub(super) struct User {
    pub(super) queue: usize,
    pub(super) name: String,
    pub(super) allocated: i64,
    pub(super) pending: i64,
}

/// A tree with users, and one resource.
#[derive(Clone, Debug, Default)]
pub(super) struct World {
    pub(super) capacity: i64,
    pub(super) queues: Vec<Queue>,
    pub(super) users: Vec<User>,
}

#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Debug)]
pub(super) enum Place {
    Root,
    Queue(usize),
    User(usize),
}

pub(super) fn queue(name: &str, parent: Option<usize>, weight: u32, quota: i64) -> Queue {
    Queue { name: name.to_owned(), parent, weight, quota, ..Queue::default() }
}

impl World {
    /// Up to 9 queues on up to 3 levels, with users below them.
    pub(super) fn random(dice: &mut Dice) -> Self {
        let unit = dice.of(&[1, 7, 1_000, 1 << 20]);
        let mut world = Self { capacity: dice.below(101) * unit, ..Self::default() };
        let mut depths = Vec::new();
        let mut left = Vec::new();
        for index in 0..1 + dice.below(9) as usize {
            let above: Vec<usize> = (0..index).filter(|q| depths[*q] < 3).collect();
            let parent = (index > 0 && !dice.one_in(3) && !above.is_empty())
                .then(|| above[dice.below(above.len() as i64) as usize]);
            let most = parent.map_or(60 * unit, |parent: usize| left[parent]);
            let quota = if dice.one_in(3) { 0 } else { dice.below(most + 1) };
            parent.inspect(|parent| left[*parent] -= quota);
            depths.push(parent.map_or(1, |parent| depths[parent] + 1));
            left.push(quota);
            let mut maybe = |most: i64| dice.one_in(4).then(|| dice.below(most) * unit);
            let (limit, lend, borrow) = (maybe(50), maybe(30), maybe(40));
            world.queues.push(Queue {
                weight: dice.of(&[1, 1, 1, 2, 3, 5, 20, 60, 999_983, 1_000_000]) as u32,
                surplus_weight: dice.one_in(4).then(|| dice.of(&[1, 2, 7, 1_000_000])),
                limit: limit.map(|limit| quota + limit),
                lend,
                borrow,
                priority: dice.of(&[0, 0, 0, -1, 7]),
                ..queue(&format!("q{index}"), parent, 1, quota)
            });
        }
        for queue in 0..world.queues.len() {
            for user in 0..dice.below(4) {
                let mut some = |end| if dice.one_in(3) { 0 } else { dice.below(end) * unit };
                let (allocated, pending) = (some(20), some(60));
                let name = format!("u{user}");
                world.users.push(User { queue, name, allocated, pending });
            }
        }
        world
    }

    pub(super) fn specs(&self) -> Vec<QueueSpec> {
        let cpu = |amount: Option<i64>| amount.map(|amount| ("cpu".into(), amount));
        let spec = |queue: &Queue| QueueSpec {
            name: queue.name.as_str().into(),
            parent: queue.parent.map(|parent| self.queues[parent].name.as_str().into()),
            weight: queue.weight,
            over_quota_weight: queue.surplus_weight,
            quota: cpu((queue.quota > 0).then_some(queue.quota)).into_iter().collect(),
            limit: cpu(queue.limit).into_iter().collect(),
            lend_limit: cpu(queue.lend).into_iter().collect(),
            borrow_limit: cpu(queue.borrow).into_iter().collect(),
            user_limit: cpu(queue.user_limit).into_iter().collect(),
            priority: queue.priority,
            ..QueueSpec::default()
        };
        self.queues.iter().map(spec).collect()
    }

    pub(super) fn build(&self) -> (FairShare, BTreeMap<Place, QueueIndex>) {
        let order: Vec<usize> = (0..self.users.len()).collect();
        self.build_in_order(&self.specs(), &order)
    }

    pub(super) fn build_in_order(
        &self,
        specs: &[QueueSpec],
        order: &[usize],
    ) -> (FairShare, BTreeMap<Place, QueueIndex>) {
        let mut share = FairShare::default();
        share.replace(specs).unwrap_or_else(|faults| panic!("{faults:?}"));
        share.set_capacity(CPU, self.capacity);
        let mut places = BTreeMap::from([(Place::Root, QueueIndex::ROOT)]);
        for (index, queue) in self.queues.iter().enumerate() {
            places.insert(Place::Queue(index), share.find(&queue.name).unwrap());
        }
        for index in order {
            let user = &self.users[*index];
            let leaf = share.acquire_leaf(places[&Place::Queue(user.queue)], &user.name);
            share.charge(leaf, &[(CPU, user.allocated)], 1);
            share.pend(leaf, &[(CPU, user.pending)], 1);
            places.insert(Place::User(*index), leaf);
        }
        (share, places)
    }

    /// What everybody deserves, by the implementation.
    pub(super) fn deserved(&self) -> BTreeMap<Place, i128> {
        let (mut share, places) = self.build();
        ask(&mut share, &places)
    }

    /// Deserved of a queue by name, in thousandths.
    pub(super) fn of(&self, name: &str) -> i128 {
        let index = self.queues.iter().position(|queue| queue.name == name).unwrap();
        self.deserved()[&Place::Queue(index)]
    }

    pub(super) fn children(&self, place: Place) -> Vec<Place> {
        let above = |parent: Option<usize>| parent.map_or(Place::Root, Place::Queue);
        let queues = (0..self.queues.len()).filter(|q| above(self.queues[*q].parent) == place);
        let users = (0..self.users.len()).filter(|u| Place::Queue(self.users[*u].queue) == place);
        queues.map(Place::Queue).chain(users.map(Place::User)).collect()
    }

    /// The declared terms; a user has those of a queue that says nothing.
    pub(super) fn terms(&self, place: Place) -> Queue {
        match place {
            Place::Queue(queue) => self.queues[queue].clone(),
            Place::User(user) => {
                let limit = self.queues[self.users[user].queue].user_limit;
                Queue { limit, ..queue("", None, 1, 0) }
            }
            Place::Root => queue("", None, 1, 0),
        }
    }

    pub(super) fn demand(&self, place: Place) -> i128 {
        match place {
            Place::User(u) => i128::from(self.users[u].allocated + self.users[u].pending) * 1000,
            _ => self.children(place).into_iter().map(|child| self.demand(child)).sum(),
        }
    }

    fn wish(&self, place: Place) -> i128 {
        let asked = match place {
            Place::User(_) => self.demand(place),
            _ => self.children(place).into_iter().map(|child| self.wish(child)).sum(),
        };
        let terms = self.terms(place);
        let borrowed = terms.borrow.map(|borrow| terms.quota + borrow);
        if terms.shut {
            return 0;
        }
        [terms.limit, borrowed].into_iter().flatten().fold(asked, |e, cap| e.min(milli(cap)))
    }

    /// What everybody deserves, by the reference.
    pub(super) fn reference(&self) -> BTreeMap<Place, i128> {
        let mut deserved = BTreeMap::from([(Place::Root, milli(self.capacity))]);
        self.divide(Place::Root, &mut deserved);
        deserved
    }

    fn divide(&self, place: Place, deserved: &mut BTreeMap<Place, i128>) {
        let room = deserved[&place];
        let children = self.children(place);
        let quota = |child: &Place| milli(self.terms(*child).quota);
        let first = |child: &Place| quota(child).min(self.wish(*child));
        let guaranteed: i128 = children.iter().map(first).sum();
        if guaranteed > room {
            let parts = children.iter().map(|child| (first(child), quota(child) / 1000));
            deserved.extend(children.iter().copied().zip(level(room, &parts.collect::<Vec<_>>())));
        } else {
            let idle = |child: &Place| {
                let lent = self.terms(*child).lend.map_or(i128::MAX / 2, milli);
                (quota(child) - first(child) - lent).max(0)
            };
            let mut rest = room - guaranteed;
            rest -= rest.min(children.iter().map(idle).sum());
            let mut bands: Vec<i32> = children.iter().map(|c| self.terms(*c).priority).collect();
            bands.sort_unstable();
            bands.dedup();
            for band in bands.into_iter().rev() {
                let members = children.iter().filter(|child| self.terms(**child).priority == band);
                let members: Vec<Place> = members.copied().collect();
                let part = |child: &Place| {
                    let terms = self.terms(*child);
                    let weight = terms.surplus_weight.unwrap_or(terms.weight);
                    (self.wish(*child) - first(child), i128::from(weight))
                };
                let parts: Vec<(i128, i128)> = members.iter().map(part).collect();
                for (child, more) in members.iter().zip(level(rest, &parts)) {
                    deserved.insert(*child, first(child) + more);
                }
                let caps: i128 = parts.iter().map(|(cap, _)| cap).sum();
                rest = (rest - caps).max(0);
            }
        }
        children.into_iter().for_each(|child| self.divide(child, deserved));
    }
}

pub(super) fn milli(amount: i64) -> i128 {
    i128::from(amount) * 1000
}

/// min(cap, floor(l x weight)) for the largest l whose sum is at most `room`. Levels at which a
/// part changes are fractions with a weight below, so two of them differ by more than the grid.
fn level(room: i128, parts: &[(i128, i128)]) -> Vec<i128> {
    let widest = parts.iter().map(|(_, weight)| *weight).max().unwrap_or(1).max(1);
    let bits = 2 * (128 - widest.leading_zeros()) + 1;
    let at = |l: i128| -> Vec<i128> {
        parts.iter().map(|(cap, weight)| (*cap).min((l * weight) >> bits)).collect()
    };
    let fits = |l: i128| at(l).iter().sum::<i128>() <= room;
    let highest = parts.iter().map(|(cap, _)| cap + 1).max().unwrap_or(1) << bits;
    let (mut low, mut high) = (0, highest);
    if fits(high) {
        return at(high);
    }
    while high - low > 1 {
        let middle = low + (high - low) / 2;
        if fits(middle) { low = middle } else { high = middle }
    }
    at(low)
}

pub(super) fn ask(
    share: &mut FairShare,
    places: &BTreeMap<Place, QueueIndex>,
) -> BTreeMap<Place, i128> {
    places.iter().map(|(place, queue)| (*place, share.deserved_milli(*queue, CPU))).collect()
}

/// Queues below the root with one user each, who asks for so much.
pub(super) fn flat(capacity: i64, queues: Vec<(Queue, i64)>) -> World {
    let user = |(queue, (_, pending)): (usize, &(Queue, i64))| User {
        queue,
        name: "user".to_owned(),
        allocated: 0,
        pending: *pending,
    };
    let users = queues.iter().enumerate().map(user).collect();
    World { capacity, users, queues: queues.into_iter().map(|(queue, _)| queue).collect() }
}
