//! What the scheduler was told, and what follows from it for a plan: recomputed from nothing.

use crate::features::{PRODUCT, TYPES};
use crate::parts::Run;
use crate::reference;
use crate::tenants::queue_of;
use crate::world::{GPU, gang_of};
use mss_scheduler::model::windows::Opening;
use mss_scheduler::model::{Node, Phase, Pod, PodClass, QueueSpec, Uid, WallTime};
use reference::Place;
use std::collections::{BTreeMap, BTreeSet};

/// Resources that queues share.
pub(crate) const SHARED: [&str; 4] = [
    "cpu",
    GPU,
    "nvidia.com/gpu@nvidia.com/gpu.product=A100",
    "nvidia.com/gpu@nvidia.com/gpu.product=H100",
];

/// As which host ports count among resources.
pub(crate) const PORTS: &str = "ports";

/// Room that is drained, by node and resource.
pub(crate) type Kept = BTreeMap<(Box<str>, Box<str>), i64>;

/// Whose room is taken to be free: victims of plans in force, these, and those that leave anyway.
pub(crate) struct Gone<'a> {
    pub(crate) kept: &'a Kept,
    pub(crate) victims: &'a BTreeSet<Uid>,
    pub(crate) leaving: bool,
}

/// CPU, GPUs, and these by type.
pub(crate) type Amounts = [i64; SHARED.len()];

pub(crate) const NONE: Amounts = [0; SHARED.len()];

/// A gang by namespace and name, or a bare pod by namespace and the name of the pod.
pub(crate) type Gang = (Box<str>, Box<str>);

/// What a pod is just now.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Role {
    Foreign,
    Waiting,
    /// on its way to a node: being bound, or seated by a plan
    Placed,
    Bound,
    /// bound, and going: deleted, evicted or about to be
    Going,
    Ended,
}

#[derive(Clone, Debug)]
pub(crate) struct Known {
    pub(crate) pod: Pod,
    pub(crate) role: Role,
    /// whose room it takes
    pub(crate) node: Option<Box<str>>,
    /// not evicted before
    pub(crate) protected_until: i64,
}

impl Known {
    /// Whether it is, or may come to be, a member that runs.
    pub(crate) fn is_live(&self) -> bool {
        !matches!(self.role, Role::Ended | Role::Going) && !self.pod.deleting
    }
}

/// All that a plan is judged by.
#[derive(Clone, Debug, Default)]
pub(crate) struct Scene {
    pub(crate) now: i64,
    /// what there is to share
    pub(crate) capacity: Amounts,
    /// which of the shared resources there are
    pub(crate) named: [bool; SHARED.len()],
    /// the types of GPUs of nodes
    pub(crate) types: BTreeMap<Box<str>, usize>,
    /// the tree in force, with the default queue
    pub(crate) queues: Vec<QueueSpec>,
    pub(crate) nodes: BTreeMap<Box<str>, Node>,
    /// nodes in quarantine
    pub(crate) closed: BTreeSet<Box<str>>,
    pub(crate) pods: BTreeMap<Uid, Known>,
    /// the pods of ours by gang
    pub(crate) of_gang: BTreeMap<Gang, Vec<Uid>>,
    /// gangs whose waiting members count as demand
    pub(crate) counted: BTreeSet<Gang>,
    /// room that was drained all through the cycle, and at its beginning or end
    pub(crate) kept: [Kept; 2],
    /// asked for by users whose pods were evicted and may come again
    pub(crate) replaced: BTreeMap<Leaf, Amounts>,
    /// victims of plans in force
    pub(crate) awaited: BTreeSet<Uid>,
    /// of gangs that had room after the last cycle
    pub(crate) remembered: BTreeMap<Gang, Run>,
    /// who took from whom within ten minutes: victim, taker
    pub(crate) pairs: BTreeSet<(Gang, Gang)>,
}

/// A user of a queue, by the names of both.
pub(crate) type Leaf = (Box<str>, Box<str>);

/// Who stands behind a pod; its namespace, if nobody is stamped.
pub(crate) fn user(pod: &Pod) -> &str {
    pod.user.as_deref().unwrap_or(&pod.key.namespace)
}

pub(crate) fn gang(pod: &Pod) -> Gang {
    gang_of(pod).unwrap_or_else(|| (pod.key.namespace.clone(), pod.key.name.clone()))
}

pub(crate) fn min_member(pod: &Pod) -> u32 {
    pod.group.as_ref().and_then(|group| group.as_ref().ok()).map_or(1, |spec| spec.min_member)
}

pub(crate) fn amount(list: &[(Box<str>, i64)], name: &str) -> Option<i64> {
    list.iter().find(|(known, _)| &**known == name).map(|(_, amount)| *amount)
}

/// The nearest default above a namespace, and the smallest maximum.
pub(crate) fn run_limits(queues: &[QueueSpec], namespace: &str) -> (Option<i64>, Option<i64>) {
    let named = |name: &str| queues.iter().find(|spec| &*spec.name == name);
    let lowest = named(queue_of(namespace)).or_else(|| named("default"));
    let path = std::iter::successors(lowest, |spec| named(spec.parent.as_deref()?));
    let limits: Vec<_> = path.map(|spec| spec.run_limit).collect();
    let default = limits.iter().find_map(|limit| limit.default_ms);
    (default, limits.iter().filter_map(|limit| limit.maximum_ms).min())
}

/// What a list says of resources that are not narrowed.
pub(crate) fn base(list: &[(Box<str>, i64)]) -> Amounts {
    SHARED.map(|name| amount(list, name).unwrap_or(0))
}

pub(crate) fn requests(pod: &Pod) -> Amounts {
    base(&pod.class.requests)
}

/// The place of a type of GPU among what is shared.
fn place_of(product: &str) -> Option<usize> {
    TYPES.iter().position(|known| *known == product).map(|at| at + 2)
}

/// Which type of GPU a node has.
pub(crate) fn type_of(node: &Node) -> Option<usize> {
    let label = node.labels.iter().find(|(key, _)| &**key == PRODUCT);
    label.and_then(|(_, product)| place_of(product))
}

/// Amounts on a node with GPUs of a type.
pub(crate) fn typed(mut amounts: Amounts, at: Option<usize>) -> Amounts {
    at.into_iter().for_each(|at| amounts[at] = amounts[1]);
    amounts
}

/// What a pod asks for: of a type of GPU, if it runs on no other.
pub(crate) fn asked(pod: &Pod) -> Amounts {
    let selected = pod.class.node_selector.iter().find(|(key, _)| &**key == PRODUCT);
    typed(requests(pod), selected.and_then(|(_, product)| place_of(product)))
}

/// Amounts of the resources that there are.
pub(crate) fn only(named: &[bool; SHARED.len()], amounts: Amounts) -> Amounts {
    std::array::from_fn(|at| if named[at] { amounts[at] } else { 0 })
}

/// Whether a node has the labels that a pod asks for.
pub(crate) fn is_selected(node: &Node, class: &PodClass) -> bool {
    class.node_selector.iter().all(|label| node.labels.contains(label))
}

pub(crate) fn plus(a: Amounts, b: Amounts) -> Amounts {
    std::array::from_fn(|at| a[at] + b[at])
}

/// What queues and users hold and deserve.
pub(crate) struct Shares {
    world: reference::World,
    users: BTreeMap<Leaf, usize>,
    /// whose each pod is
    owners: BTreeMap<Uid, usize>,
    /// by resource, thousandths
    deserved: Vec<BTreeMap<Place, i128>>,
}

impl Scene {
    pub(crate) fn members<'a>(
        &'a self,
        of: &'a Gang,
    ) -> impl Iterator<Item = (&'a Uid, &'a Known)> + Clone {
        let uids = self.of_gang.get(of).into_iter().flatten();
        uids.map(|uid| (uid, &self.pods[uid]))
    }

    /// How many members count towards the minimum.
    pub(crate) fn settled(&self, of: &Gang) -> u32 {
        u32::try_from(self.counting(of).len()).expect("small")
    }

    /// Members that count towards the minimum.
    pub(crate) fn counting<'a>(&'a self, of: &'a Gang) -> Vec<&'a Known> {
        let alive = self.members(of).filter(|(_, known)| known.is_live());
        let has_room =
            |(_, known): (&Uid, &Known)| matches!(known.role, Role::Placed | Role::Bound);
        let run = self.remembered.get(of).filter(|_| alive.clone().any(has_room));
        let oldest = alive.clone().map(|(_, known)| known.pod.created).min();
        let oldest = oldest.map(|oldest| run.map_or(oldest, |run| oldest.min(run.since)));
        let controllers: BTreeSet<Uid> =
            alive.filter_map(|(_, known)| known.pod.controller).collect();
        let counts = |known: &Known| match known.role {
            Role::Placed | Role::Bound => true,
            Role::Ended => {
                let ended = known.pod.finished_at.zip(oldest);
                let same = known.pod.controller.is_some_and(|own| controllers.contains(&own));
                known.pod.phase == Phase::Succeeded
                    && (same || ended.is_some_and(|(at, oldest)| at >= oldest))
            }
            _ => false,
        };
        self.members(of).map(|(_, known)| known).filter(|known| counts(known)).collect()
    }

    pub(crate) fn min(&self, of: &Gang) -> u32 {
        self.members(of).next().map_or(1, |(_, known)| min_member(&known.pod))
    }

    pub(crate) fn waiting<'a>(&'a self, of: &'a Gang) -> impl Iterator<Item = &'a Pod> {
        let waits = self.members(of).filter(|(_, known)| known.role == Role::Waiting);
        waits.map(|(_, known)| &known.pod)
    }

    /// Whether a gang is past its gate.
    pub(crate) fn passes_gate(&self, of: &Gang) -> bool {
        let waiting = self.waiting(of).count();
        let settled = self.settled(of) as usize;
        let min = self.min(of) as usize;
        let losing = self.members(of).any(|(uid, _)| self.awaited.contains(uid));
        let needed = self.needed(of);
        let completes = settled > 0 && needed > 0;
        waiting > 0
            && settled + waiting >= min
            && self.parts_are_there(of)
            && !(losing && needed > 0)
            && !self.runs_too_long(of)
            && (completes || self.is_in_window(&of.0))
    }

    /// Whether a waiting member may run for longer than its queues allow.
    fn runs_too_long(&self, of: &Gang) -> bool {
        let longest = self.waiting(of).filter_map(|pod| pod.run_limit_ms).max();
        longest.zip(run_limits(&self.queues, &of.0).1).is_some_and(|(own, most)| own > most)
    }

    fn window(&self, spec: &QueueSpec) -> Option<Opening> {
        spec.windows.as_ref().map(|windows| windows.at(WallTime(self.now)))
    }

    /// Whether the queue of a namespace and all above it may start gangs now.
    fn is_in_window(&self, namespace: &str) -> bool {
        let open = |spec: &QueueSpec| self.window(spec).is_none_or(|w| w.runs && w.dispatches);
        let above = |spec: &&QueueSpec| {
            let parent = spec.parent.as_deref()?;
            self.queues.iter().find(|other| &*other.name == parent)
        };
        std::iter::successors(Some(self.spec(namespace)), above).all(open)
    }

    /// The queue of a namespace; the default one if that is not in force.
    pub(crate) fn spec(&self, namespace: &str) -> &QueueSpec {
        &self.queues[self.queue(namespace)]
    }

    fn queue(&self, namespace: &str) -> usize {
        let own = self.place(queue_of(namespace));
        own.or_else(|| self.place("default")).expect("the default queue is there")
    }

    fn place(&self, queue: &str) -> Option<usize> {
        self.queues.iter().position(|spec| &*spec.name == queue)
    }

    /// To whom a pod is charged.
    fn leaf(&self, pod: &Pod) -> Leaf {
        (self.spec(&pod.key.namespace).name.clone(), user(pod).into())
    }

    /// Room of a node that is free once some have gone, but for what is promised.
    pub(crate) fn free(&self, node: &Node, gone: &Gone<'_>, resource: &str) -> i64 {
        let stays = |(uid, known): &(&Uid, &Known)| {
            known.node.as_ref() == Some(&node.name)
                && known.role != Role::Ended
                && !gone.victims.contains(uid)
                && !self.awaited.contains(uid)
                && !(known.pod.deleting && gone.leaving)
        };
        let used = self.pods.iter().filter(stays).map(|(_, known)| match resource {
            "pods" => 1,
            _ => amount(&known.pod.class.requests, resource).unwrap_or(0),
        });
        let kept = gone.kept.get(&(node.name.clone(), resource.into())).copied().unwrap_or(0);
        amount(&node.allocatable, resource).unwrap_or(0) - used.sum::<i64>() - kept
    }

    /// How many pods like this one a node takes once all of ours have gone.
    pub(crate) fn slots_of_empty(&self, node: &Node, pod: &Pod) -> u32 {
        let ours = self.pods.iter().filter(|(_, known)| known.role != Role::Foreign);
        let victims = ours.map(|(uid, _)| *uid).collect();
        self.slots(node, pod, &Gone { kept: &Kept::new(), victims: &victims, leaving: false })
    }

    /// How many pods like this one a node takes once some have gone.
    pub(crate) fn slots(&self, node: &Node, pod: &Pod, gone: &Gone<'_>) -> u32 {
        let open = is_selected(node, &pod.class) && !self.closed.contains(&node.name);
        if node.unschedulable || !node.taints.is_empty() || !open {
            return 0;
        }
        let room = node.allocatable.iter().map(|(resource, _)| {
            let each = match &**resource {
                "pods" => 1,
                _ => amount(&pod.class.requests, resource).unwrap_or(0),
            };
            if each == 0 { i64::MAX } else { self.free(node, gone, resource).max(0) / each }
        });
        let room = u32::try_from(room.min().unwrap_or(0)).unwrap_or(u32::MAX);
        if pod.class.host_ports.is_empty() {
            return room;
        }
        let port = |(uid, known): (&Uid, &Known)| {
            let leaves = known.pod.deleting && gone.leaving;
            let goes = leaves || gone.victims.contains(uid) || self.awaited.contains(uid);
            known.node.as_ref() == Some(&node.name)
                && known.role != Role::Ended
                && !known.pod.class.host_ports.is_empty()
                && !goes
        };
        let kept = gone.kept.contains_key(&(node.name.clone(), PORTS.into()));
        if kept || self.pods.iter().any(port) { 0 } else { room.min(1) }
    }

    /// What a pod asks for of what there is.
    pub(crate) fn asked(&self, pod: &Pod) -> Amounts {
        only(&self.named, asked(pod))
    }

    /// What a pod is charged for.
    pub(crate) fn charged(&self, known: &Known) -> Amounts {
        let node = known.node.as_ref();
        let at = node.and_then(|node| self.types.get(node).copied());
        only(&self.named, typed(requests(&known.pod), at))
    }

    /// What seats take.
    pub(crate) fn taken(&self, seats: &BTreeMap<Uid, Box<str>>) -> Amounts {
        let taken = seats.iter().map(|(uid, node)| {
            let amounts = requests(&self.pods[uid].pod);
            only(&self.named, typed(amounts, self.types.get(node).copied()))
        });
        taken.fold(NONE, plus)
    }

    /// Everybody's share, by the slow reference; as if the user of a pod asked for more.
    pub(crate) fn shares(&self, more: Option<(Uid, Amounts)>) -> Shares {
        let mut shares = Shares {
            world: reference::World::default(),
            users: BTreeMap::new(),
            owners: BTreeMap::new(),
            deserved: Vec::new(),
        };
        let ours = self.pods.iter().filter(|(_, known)| known.role != Role::Foreign);
        let leaves = ours.map(|(uid, known)| (Some(*uid), self.leaf(&known.pod)));
        for (uid, leaf) in leaves.chain(self.replaced.keys().map(|leaf| (None, leaf.clone()))) {
            let next = shares.users.len();
            let user = *shares.users.entry(leaf).or_insert(next);
            uid.into_iter().for_each(|uid| _ = shares.owners.insert(uid, user));
        }
        for (at, resource) in SHARED.iter().enumerate() {
            if !self.named[at] {
                shares.deserved.push(BTreeMap::new());
                continue;
            }
            let mut world = self.reference(at, resource, &shares);
            if let Some((uid, amounts)) = more {
                world.users[shares.owners[&uid]].pending += amounts[at];
            }
            shares.deserved.push(world.reference());
            shares.world = world;
        }
        shares
    }

    fn reference(&self, at: usize, resource: &str, shares: &Shares) -> reference::World {
        let queue = |spec: &QueueSpec| reference::Queue {
            name: (*spec.name).to_owned(),
            parent: spec.parent.as_ref().map(|parent| {
                let above = self.queues.iter().position(|other| other.name == *parent);
                above.expect("the tree in force has no fault")
            }),
            weight: spec.weight,
            surplus_weight: spec.over_quota_weight,
            quota: amount(&spec.quota, resource).unwrap_or(0),
            limit: amount(&spec.limit, resource),
            lend: amount(&spec.lend_limit, resource),
            borrow: amount(&spec.borrow_limit, resource),
            user_limit: amount(&spec.user_limit, resource),
            priority: spec.priority,
            shut: self.window(spec).is_some_and(|window| !window.runs),
        };
        let mut world = reference::World {
            capacity: self.capacity[at],
            queues: self.queues.iter().map(queue).collect(),
            users: Vec::new(),
        };
        let mut leaves: Vec<(&Leaf, &usize)> = shares.users.iter().collect();
        leaves.sort_unstable_by_key(|(_, place)| **place);
        for (leaf, _) in leaves {
            world.users.push(reference::User {
                queue: self.place(&leaf.0).expect("it is the queue of a pod"),
                name: (*leaf.1).to_owned(),
                allocated: 0,
                pending: self.replaced.get(leaf).map_or(0, |amounts| amounts[at]),
            });
        }
        for (uid, known) in self.pods.iter().filter(|(_, known)| known.role != Role::Foreign) {
            let user = shares.owners[uid];
            match known.role {
                Role::Placed | Role::Bound | Role::Going if known.node.is_some() => {
                    world.users[user].allocated += self.charged(known)[at];
                }
                Role::Waiting if self.counted.contains(&gang(&known.pod)) => {
                    world.users[user].pending += self.asked(&known.pod)[at];
                }
                _ => {}
            }
        }
        world
    }

    /// What is held below a place, as far as `counts` says.
    pub(crate) fn held(
        &self,
        place: Place,
        shares: &Shares,
        counts: impl Fn(&Uid) -> bool,
    ) -> Amounts {
        let holds = self.pods.iter().filter(|(uid, known)| {
            known.role != Role::Foreign
                && known.role != Role::Ended
                && known.node.is_some()
                && counts(uid)
                && shares.is_below(shares.owners[*uid], place)
        });
        holds.map(|(_, known)| self.charged(known)).fold(NONE, plus)
    }
}

impl Shares {
    /// The user behind a pod.
    pub(crate) fn owner(&self, pod: &Uid) -> usize {
        self.owners[pod]
    }

    fn is_below(&self, user: usize, place: Place) -> bool {
        let above = |queue: &usize| self.world.queues[*queue].parent;
        match place {
            Place::Root => true,
            Place::User(other) => user == other,
            Place::Queue(queue) => {
                let own = Some(self.world.users[user].queue);
                std::iter::successors(own, above).any(|above| above == queue)
            }
        }
    }

    /// From the leaf of a user up to below the root.
    pub(crate) fn path(&self, user: usize) -> Vec<Place> {
        let mut path = vec![Place::User(user)];
        let mut queue = Some(self.world.users[user].queue);
        while let Some(at) = queue {
            path.push(Place::Queue(at));
            queue = self.world.queues[at].parent;
        }
        path
    }

    /// The part of a path that is not shared with another.
    pub(crate) fn below_common(&self, user: usize, other: usize) -> Vec<Place> {
        let other = self.path(other);
        self.path(user).into_iter().filter(|place| !other.contains(place)).collect()
    }

    pub(crate) fn deserved(&self, place: Place, at: usize) -> i128 {
        self.deserved[at].get(&place).copied().unwrap_or(0)
    }

    /// The name of a place as the scheduler gives it.
    pub(crate) fn name(&self, place: Place) -> String {
        match place {
            Place::Root => "root".to_owned(),
            Place::Queue(queue) => self.world.queues[queue].name.clone(),
            Place::User(user) => {
                let user = &self.world.users[user];
                format!("{}/{}", self.world.queues[user.queue].name, user.name)
            }
        }
    }

    pub(crate) fn places(&self) -> impl Iterator<Item = Place> {
        self.deserved[0].keys().copied()
    }
}
