//! The declared queues and the leaves of their users, under dense indexes.
//!
//! Declared queues come first, by breadth, so that a parent's index is below its children's and
//! siblings lie together. Leaves of users follow; their slots are reused.

use super::check::{TreeFault, arrange, is_weight};
use crate::model::QueueSpec;
use crate::model::queue::{DEFAULT_QUEUE, Ordering};
use fixedbitset::FixedBitSet;
use rustc_hash::FxHashMap;
use std::ops::Range;

/// Dense index of a queue or of a user's leaf; valid until the tree is replaced or the leaf
/// released.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Debug)]
pub struct QueueIndex(u32);

impl QueueIndex {
    /// The root: the whole cluster.
    pub const ROOT: Self = Self(0);

    /// Index into tables kept per queue.
    #[must_use]
    pub fn index(self) -> usize {
        self.0 as usize
    }

    pub(super) fn at(index: usize) -> Self {
        Self(u32::try_from(index).expect("fewer than 2^32 queues and users"))
    }
}

/// What division and order need of a queue.
#[derive(Clone, Copy, Debug)]
pub(super) struct Node {
    pub(super) parent: QueueIndex,
    depth: u32,
    /// Band of the surplus and first criterion of the order.
    pub(super) priority: i32,
    /// Divides decayed usage.
    pub(super) weight: u32,
    /// Share of the surplus.
    pub(super) surplus_weight: u32,
}

/// The users of one declared queue.
#[derive(Debug, Default)]
struct Users {
    by_name: FxHashMap<Box<str>, QueueIndex>,
    leaves: Vec<QueueIndex>,
}

/// A user's leaf.
#[derive(Debug, Default)]
struct Leaf {
    user: Box<str>,
    uses: u32,
    /// Position among the leaves of its queue.
    place: usize,
    is_live: bool,
}

#[derive(Debug)]
pub(super) struct Tree {
    /// `[queue]`, the root first
    specs: Vec<QueueSpec>,
    /// `[queue]`: weights of its children and users together
    weight_below: Vec<u64>,
    /// `[queue]`: nothing that it and all below it hold or ask for counts as demand
    shut: Vec<bool>,
    /// `[queue or leaf]`
    nodes: Vec<Node>,
    /// `[queue]`
    children: Vec<Range<usize>>,
    /// `[queue]`
    users: Vec<Users>,
    /// `[leaf - queues]`
    leaves: Vec<Leaf>,
    free: Vec<QueueIndex>,
    by_name: FxHashMap<Box<str>, QueueIndex>,
    /// queues that list a namespace, by name
    by_namespace: FxHashMap<Box<str>, Vec<QueueIndex>>,
}

/// By how much a queue shares what is left of the guarantees.
fn surplus_weight(spec: &QueueSpec) -> u32 {
    spec.over_quota_weight.unwrap_or(spec.weight)
}

impl Tree {
    /// A tree without leaves. O(queues log queues).
    pub(super) fn new(specs: &[QueueSpec]) -> Result<Self, Vec<TreeFault>> {
        let arranged = arrange(specs)?;
        let nodes = arranged.iter().map(|queue| Node {
            parent: QueueIndex::at(queue.parent),
            depth: u32::try_from(queue.depth).expect("depth is bounded"),
            priority: queue.spec.priority,
            weight: queue.spec.weight,
            surplus_weight: surplus_weight(&queue.spec),
        });
        let mut tree = Self {
            nodes: nodes.collect(),
            weight_below: arranged
                .iter()
                .map(|queue| {
                    let children = &arranged[queue.children.clone()];
                    children.iter().map(|child| u64::from(child.spec.weight)).sum()
                })
                .collect(),
            shut: vec![false; arranged.len()],
            children: arranged.iter().map(|queue| queue.children.clone()).collect(),
            users: arranged.iter().map(|_| Users::default()).collect(),
            leaves: Vec::new(),
            free: Vec::new(),
            by_name: FxHashMap::default(),
            by_namespace: FxHashMap::default(),
            specs: arranged.into_iter().map(|queue| queue.spec).collect(),
        };
        for (index, spec) in tree.specs.iter().enumerate().skip(1) {
            let queue = QueueIndex::at(index);
            tree.by_name.insert(spec.name.clone(), queue);
            for namespace in &spec.namespaces {
                tree.by_namespace.entry(namespace.clone()).or_default().push(queue);
            }
        }
        for queues in tree.by_namespace.values_mut() {
            queues.sort_unstable_by(|a, b| {
                tree.specs[a.index()].name.cmp(&tree.specs[b.index()].name)
            });
            queues.dedup();
        }
        Ok(tree)
    }

    /// Takes edited weights, if nothing else differs in these queues and they are all: the parents
    /// of those that were edited. O(queues).
    pub(super) fn reweigh(&mut self, specs: &[QueueSpec]) -> Option<Vec<QueueIndex>> {
        let mut edited = Vec::new();
        let mut known = FixedBitSet::with_capacity(self.declared());
        for spec in specs {
            let queue = self.find(&spec.name)?;
            let old = &self.specs[queue.index()];
            if known.put(queue.index()) {
                return None;
            }
            if old != spec {
                let QueueSpec { generation, weight, over_quota_weight, .. } = *spec;
                let may_be = QueueSpec { generation, weight, over_quota_weight, ..old.clone() };
                if may_be != *spec || !is_weight(weight) || !is_weight(surplus_weight(spec)) {
                    return None;
                }
                edited.push((queue, may_be));
            }
        }
        // the default queue exists without being declared
        let default = self.find(DEFAULT_QUEUE).expect("the default queue always exists");
        let is_implied = !known.put(default.index());
        if known.count_ones(..) + 1 != self.declared()
            || is_implied && self.specs[default.index()] != QueueSpec::default()
        {
            return None;
        }
        let mut parents = Vec::new();
        for (queue, spec) in edited {
            let node = &mut self.nodes[queue.index()];
            let below = &mut self.weight_below[node.parent.index()];
            *below = *below + u64::from(spec.weight) - u64::from(node.weight);
            (node.weight, node.surplus_weight) = (spec.weight, surplus_weight(&spec));
            parents.push(node.parent);
            self.specs[queue.index()] = spec;
        }
        parents.sort_unstable();
        parents.dedup();
        Some(parents)
    }

    pub(super) fn set_shut(&mut self, queue: QueueIndex, shut: bool) {
        self.shut[queue.index()] = shut;
    }

    pub(super) fn is_shut(&self, queue: QueueIndex) -> bool {
        self.shut.get(queue.index()).copied().unwrap_or(false)
    }

    pub(super) fn set_root_order(&mut self, order: Ordering) {
        self.specs[0].order = order;
    }

    /// Number of declared queues, root included: leaves have indexes from here on.
    pub(super) fn declared(&self) -> usize {
        self.specs.len()
    }

    /// Slots of queues and leaves, free ones included.
    pub(super) fn slots(&self) -> usize {
        self.nodes.len()
    }

    pub(super) fn specs(&self) -> &[QueueSpec] {
        &self.specs
    }

    pub(super) fn node(&self, queue: QueueIndex) -> &Node {
        &self.nodes[queue.index()]
    }

    pub(super) fn find(&self, name: &str) -> Option<QueueIndex> {
        self.by_name.get(name).copied()
    }

    pub(super) fn queue_for(
        &self,
        namespace: &str,
        wanted: Option<&str>,
    ) -> Result<QueueIndex, String> {
        let fallback = [self.find(DEFAULT_QUEUE).expect("the default queue always exists")];
        let usable = self.by_namespace.get(namespace).map_or(&fallback[..], Vec::as_slice);
        let Some(wanted) = wanted else { return Ok(usable[0]) };
        let found = self.find(wanted);
        if let Some(queue) = found.filter(|queue| usable.contains(queue)) {
            return Ok(queue);
        }
        let name = |queue: &QueueIndex| &*self.specs[queue.index()].name;
        let names = usable.iter().map(name).collect::<Vec<_>>().join(", ");
        let what = match found {
            Some(_) => format!("queue {wanted} does not list namespace {namespace}"),
            None => format!("there is no queue {wanted}"),
        };
        Err(format!("{what}; the namespace may use: {names}"))
    }

    /// The declared queue of a leaf; of a declared queue, itself.
    pub(super) fn queue_of(&self, queue: QueueIndex) -> QueueIndex {
        if self.is_leaf(queue) { self.node(queue).parent } else { queue }
    }

    pub(super) fn is_leaf(&self, queue: QueueIndex) -> bool {
        queue.index() >= self.declared()
    }

    pub(super) fn name(&self, queue: QueueIndex) -> String {
        let declared = &self.specs[self.queue_of(queue).index()].name;
        match self.leaf(queue) {
            Some(leaf) => format!("{declared}/{}", leaf.user),
            None => declared.to_string(),
        }
    }

    /// Names from the root down, by which usage is remembered. Unique: a queue has no slash in its
    /// name, and a user's comes after two.
    pub(super) fn key(&self, queue: QueueIndex) -> String {
        let mut names: Vec<&str> =
            self.path(self.queue_of(queue)).map(|q| &*self.specs[q.index()].name).collect();
        names.reverse();
        let path = names.join("/");
        self.leaf(queue).map_or(path.clone(), |leaf| format!("{path}//{}", leaf.user))
    }

    /// The queue and the user of a key, if the queue is declared at that place.
    pub(super) fn user_of_key<'a>(&self, key: &'a str) -> Option<(QueueIndex, &'a str)> {
        let (path, user) = key.split_once("//")?;
        let queue = self.find(path.rsplit('/').next()?)?;
        (self.key(queue) == path).then_some((queue, user))
    }

    /// The leaf of a user, if it has one. O(1).
    pub(super) fn leaf_of(&self, queue: QueueIndex, user: &str) -> Option<QueueIndex> {
        self.users[queue.index()].by_name.get(user).copied()
    }

    /// The users of a declared queue that have a leaf.
    pub(super) fn users(&self, queue: QueueIndex) -> impl Iterator<Item = (&str, QueueIndex)> {
        let users = self.users[queue.index()].by_name.iter();
        users.map(|(user, leaf)| (&**user, *leaf))
    }

    fn leaf(&self, queue: QueueIndex) -> Option<&Leaf> {
        let place = queue.index().checked_sub(self.declared())?;
        Some(&self.leaves[place])
    }

    /// The slot of a user's leaf, and whether it was made just now; counts one use. O(1).
    pub(super) fn acquire(&mut self, queue: QueueIndex, user: &str) -> (QueueIndex, bool) {
        let queue = self.queue_of(queue);
        let declared = self.declared();
        let users = &mut self.users[queue.index()];
        if let Some(leaf) = users.by_name.get(user).copied() {
            self.leaves[leaf.index() - declared].uses += 1;
            return (leaf, false);
        }
        let depth = self.nodes[queue.index()].depth + 1;
        let node = Node { parent: queue, depth, priority: 0, weight: 1, surplus_weight: 1 };
        let place = users.leaves.len();
        let leaf = Leaf { user: user.into(), uses: 1, place, is_live: true };
        let index = match self.free.pop() {
            Some(index) => {
                self.nodes[index.index()] = node;
                self.leaves[index.index() - declared] = leaf;
                index
            }
            None => {
                self.nodes.push(node);
                self.leaves.push(leaf);
                QueueIndex::at(self.nodes.len() - 1)
            }
        };
        self.weight_below[queue.index()] += u64::from(node.weight);
        users.by_name.insert(user.into(), index);
        users.leaves.push(index);
        (index, true)
    }

    /// Gives one use of a leaf back; whether it was the last.
    pub(super) fn release(&mut self, leaf: QueueIndex) -> bool {
        let place = leaf.index().checked_sub(self.declared()).expect("only leaves are released");
        let leaf = &mut self.leaves[place];
        leaf.uses = leaf.uses.checked_sub(1).expect("a leaf is released once per use");
        leaf.uses == 0
    }

    /// Whether a live leaf has no use left.
    pub(super) fn is_unused(&self, queue: QueueIndex) -> bool {
        self.leaf(queue).is_some_and(|leaf| leaf.is_live && leaf.uses == 0)
    }

    pub(super) fn is_live(&self, queue: QueueIndex) -> bool {
        self.leaf(queue).is_none_or(|leaf| leaf.is_live)
    }

    /// Frees the slot of a leaf.
    pub(super) fn free(&mut self, index: QueueIndex) {
        let declared = self.declared();
        let leaf = std::mem::take(&mut self.leaves[index.index() - declared]);
        let Node { parent, weight, .. } = self.nodes[index.index()];
        self.weight_below[parent.index()] -= u64::from(weight);
        let users = &mut self.users[parent.index()];
        users.by_name.remove(&leaf.user);
        users.leaves.swap_remove(leaf.place);
        if let Some(moved) = users.leaves.get(leaf.place) {
            self.leaves[moved.index() - declared].place = leaf.place;
        }
        self.free.push(index);
    }

    /// Declared children, then users.
    pub(super) fn children(&self, queue: QueueIndex) -> impl Iterator<Item = QueueIndex> {
        let declared = self.children[queue.index()].clone().map(QueueIndex::at);
        declared.chain(self.users[queue.index()].leaves.iter().copied())
    }

    /// Weights of the declared children and the users of a declared queue together.
    pub(super) fn weight_below(&self, queue: QueueIndex) -> u64 {
        self.weight_below[queue.index()]
    }

    /// Whether anything lies below.
    pub(super) fn has_children(&self, queue: QueueIndex) -> bool {
        let index = queue.index();
        index < self.declared()
            && (!self.children[index].is_empty() || !self.users[index].leaves.is_empty())
    }

    pub(super) fn parent(&self, queue: QueueIndex) -> Option<QueueIndex> {
        (queue != QueueIndex::ROOT).then(|| self.nodes[queue.index()].parent)
    }

    pub(super) fn path(&self, queue: QueueIndex) -> impl Iterator<Item = QueueIndex> {
        std::iter::successors(Some(queue), |queue| self.parent(*queue))
    }

    pub(super) fn common_ancestor(&self, a: QueueIndex, b: QueueIndex) -> QueueIndex {
        let (mut a, mut b) = (a, b);
        while a != b {
            // the deeper one climbs; of two on one level both do, one after the other
            if self.node(a).depth >= self.node(b).depth {
                a = self.node(a).parent;
            } else {
                b = self.node(b).parent;
            }
        }
        a
    }

    /// Queues and live leaves, parents first.
    pub(super) fn shape(&self) -> impl Iterator<Item = QueueIndex> {
        (0..self.slots()).map(QueueIndex::at).filter(|queue| self.is_live(*queue))
    }
}
