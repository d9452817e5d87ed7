//! What each queue deserves and holds: the tree, the ledger, decayed usage, and the order.
//!
//! Shares are computed for each accounted resource on its own, exactly, in thousandths of the base
//! unit: guarantees first, then the surplus by weight and band, from the root down, and never more
//! than what is asked for below. Users of a queue are leaves beside its declared children.
//! A charge costs O(depth); shares are brought up to date when somebody asks, where they changed.

mod charges;
mod check;
mod column;
mod deal;
mod fair_tree;
mod lsf;
mod questions;
mod tree;
mod usage;
#[cfg(test)]
mod tests;

pub use check::{ROOT, TreeFault};
pub use lsf::{LsfOptions, Run};
pub use tree::QueueIndex;
pub use usage::{Decay, HISTORY_MAX, UsageOptions, Used};

use crate::cluster::{ResourceId, ResourceTable};
use crate::model::QueueSpec;
use crate::model::claim::is_way;
use crate::model::contract::SLOTS;
use crate::model::narrowed::base;
use crate::model::queue::Ordering;
use column::{Buffers, Column};
use lsf::Lsf;
use tree::Tree;
use usage::{Flow, Usage};

/// The tree of queues, what they hold and ask for, and what follows.
#[derive(Debug)]
pub struct FairShare {
    tree: Tree,
    /// the resources that are bound, in the order of ids
    bound: Vec<(ResourceId, Box<str>)>,
    /// `[resource]`, base units
    capacity: Vec<i64>,
    /// `[resource]`: made when a queue names the resource, or somebody is charged for it
    columns: Vec<Option<Box<Column>>>,
    usage: Usage,
    lsf: Lsf,
    buffers: Buffers,
}

impl Default for FairShare {
    /// The root and the default queue.
    fn default() -> Self {
        let tree = Tree::new(&[]).expect("a tree without declared queues has no fault");
        let mut share = Self {
            tree,
            bound: Vec::new(),
            capacity: Vec::new(),
            columns: Vec::new(),
            usage: Usage::default(),
            lsf: Lsf::default(),
            buffers: Buffers::default(),
        };
        share.recall_queues();
        share.set_usage_options(UsageOptions::default());
        share.set_lsf_options(LsfOptions::default());
        share.bind_resources(&ResourceTable::default());
        share
    }
}

/// Whether queues share a resource: all that nodes offer, except pods, ephemeral storage,
/// huge pages and attachable volumes, and but for the ways by which devices are given. Narrowed by
/// a node label it is shared if it is without.
#[must_use]
pub fn accounts(resource: &str) -> bool {
    let resource = base(resource);
    !(matches!(resource, "pods" | "ephemeral-storage")
        || SLOTS.contains(&resource)
        || is_way(resource)
        || resource.starts_with("hugepages-")
        || resource.starts_with("attachable-"))
}

impl FairShare {
    /// Replaces the declared tree. O(queues x resources).
    ///
    /// The caller charges everything again: allocations, pending demand, users' leaves and all
    /// indexes are forgotten. Usage is kept by the path of a queue and the name of a user.
    ///
    /// # Errors
    /// What is wrong and what to do about it, by queue; then the old tree stays in force.
    pub fn replace(&mut self, specs: &[QueueSpec]) -> Result<(), Vec<TreeFault>> {
        let mut tree = Tree::new(specs)?;
        tree.set_root_order(self.spec(QueueIndex::ROOT).order);
        let queues: Vec<QueueIndex> = self.tree.shape().collect();
        for queue in queues {
            let flow = self.flow(queue);
            self.usage.remember(queue, flow, self.tree.key(queue));
        }
        self.usage.forget_slots();
        self.tree = tree;
        let in_use = self.tree.specs().iter().any(|spec| spec.order == Ordering::Lsf);
        self.lsf.clear(in_use, self.tree.slots());
        self.columns.clear();
        for index in 0..self.bound.len() {
            self.bind_column(index);
        }
        self.recall_queues();
        Ok(())
    }

    /// Takes edited weights, if the tree in force differs from these queues in nothing else;
    /// whether that is so. Nothing is forgotten then. O(queues).
    pub fn reweigh(&mut self, specs: &[QueueSpec]) -> bool {
        let Some(parents) = self.tree.reweigh(specs) else { return false };
        for column in self.columns.iter_mut().flatten() {
            parents.iter().for_each(|parent| column.mark(*parent));
        }
        true
    }

    /// The order of the queues at the top, of this tree and of those that replace it. Called before
    /// anything is charged.
    pub fn set_root_order(&mut self, order: Ordering) {
        self.tree.set_root_order(order);
        self.lsf.clear(order == Ordering::Lsf, self.tree.slots());
    }

    /// Resolves the names of resources in quotas, limits and factors. Called whenever names became
    /// known; until then a name has capacity 0. O(slots x new names).
    pub fn bind_resources(&mut self, table: &ResourceTable) {
        if table.len() > self.bound.len() {
            self.accrue_all();
        }
        for resource in table.iter().skip(self.bound.len()) {
            let name = table.name(resource);
            self.bound.push((resource, name.into()));
            if accounts(name) {
                self.usage.bind(resource, name);
            }
            self.bind_column(resource.index());
        }
        debug_assert_eq!(self.bound.len(), table.len(), "the table only grows");
    }

    /// Gives a known resource its column if it needs one, and none if it is not accounted.
    fn bind_column(&mut self, index: usize) {
        if self.columns.len() <= index {
            self.columns.resize_with(index + 1, || None);
        }
        let name = &*self.bound[index].1;
        let is_named = |spec: &QueueSpec| {
            let limits = [&spec.limit, &spec.lend_limit, &spec.borrow_limit, &spec.user_limit];
            limits.iter().chain([&&spec.quota]).any(|list| check::amount(list, name).is_some())
        };
        if !accounts(name) {
            self.columns[index] = None;
        } else if let Some(column) = &mut self.columns[index] {
            column.set_terms(&self.tree, name);
        } else if self.tree.specs().iter().any(is_named) {
            let capacity = self.capacity.get(index).copied().unwrap_or(0);
            let column = Column::new(&self.tree, Some(name), capacity);
            self.columns[index] = Some(Box::new(column));
        }
    }

    /// Gives the declared queues the usage that is remembered of them.
    fn recall_queues(&mut self) {
        for index in 0..self.tree.declared() {
            let queue = QueueIndex::at(index);
            self.usage.recall(queue, &self.tree.key(queue));
        }
    }

    /// The declared queue that a pod of the namespace belongs to. `wanted`: the queue it names.
    /// Without it, of the queues that list the namespace the first by name; if none does, the
    /// default queue, which only such namespaces may name. O(queues that list the namespace).
    ///
    /// # Errors
    /// Why it may not use the queue, and which ones it may.
    pub fn queue_for(&self, namespace: &str, wanted: Option<&str>) -> Result<QueueIndex, String> {
        self.tree.queue_for(namespace, wanted)
    }

    /// The declared queue of a name; the root has none. O(1).
    #[must_use]
    pub fn find(&self, name: &str) -> Option<QueueIndex> {
        self.tree.find(name)
    }

    /// What is declared of a queue; of a user's leaf, what is declared of its queue. O(1).
    #[must_use]
    pub fn spec(&self, queue: QueueIndex) -> &QueueSpec {
        &self.tree.specs()[self.tree.queue_of(queue).index()]
    }

    /// "nlp" for a queue, "nlp/alice" for the leaf of its user alice.
    #[must_use]
    pub fn name(&self, queue: QueueIndex) -> String {
        self.tree.name(queue)
    }

    /// The leaf of a user inside a declared queue; counts one use. A new one has weight 1,
    /// priority 0, no guarantee and no limit. O(1), and O(resources) for a new one.
    pub fn acquire_leaf(&mut self, queue: QueueIndex, user: &str) -> QueueIndex {
        let (leaf, is_new) = self.tree.acquire(queue, user);
        if is_new {
            let slots = self.tree.slots();
            self.columns.iter_mut().flatten().for_each(|column| column.grow(slots));
            self.lsf.grow(slots);
            self.usage.recall(leaf, &self.tree.key(leaf));
        }
        leaf
    }

    /// Gives one use of a leaf back. With the last use gone and nothing charged, its slot is freed
    /// and its usage remembered by name. O(1), and O(resources x depth) for the last use.
    ///
    /// # Panics
    /// If it was not acquired as often, or is a declared queue.
    pub fn release_leaf(&mut self, leaf: QueueIndex) {
        if self.tree.release(leaf) {
            self.free_unused(leaf);
        }
    }

    /// Frees a leaf that is neither used nor charged.
    fn free_unused(&mut self, leaf: QueueIndex) {
        let mut columns = self.columns.iter().flatten();
        if !self.tree.is_unused(leaf) || columns.any(|column| column.is_charged(leaf)) {
            return;
        }
        self.usage.remember(leaf, Flow::default(), self.tree.key(leaf));
        for column in self.columns.iter_mut().flatten() {
            column.clear(&self.tree, leaf);
        }
        self.tree.free(leaf);
    }

    /// Whether what a declared queue, and all below it, hold and ask for is no demand: out of its
    /// run window it deserves nothing. Forgotten with the tree. O(depth x resources).
    pub fn set_shut(&mut self, queue: QueueIndex, shut: bool) {
        self.tree.set_shut(queue, shut);
        for column in self.columns.iter_mut().flatten() {
            column.settle(&self.tree, queue);
        }
    }

    /// Declared queues, the root included, parents first.
    pub fn declared(&self) -> impl Iterator<Item = QueueIndex> + use<> {
        (0..self.tree.declared()).map(QueueIndex::at)
    }

    /// The queue above; `None`: it is the root. O(1).
    #[must_use]
    pub fn parent(&self, queue: QueueIndex) -> Option<QueueIndex> {
        self.tree.parent(queue)
    }

    /// From a leaf up to and including the root.
    pub fn path(&self, leaf: QueueIndex) -> impl Iterator<Item = QueueIndex> {
        self.tree.path(leaf)
    }

    /// The lowest queue on both paths. O(depth).
    #[must_use]
    pub fn common_ancestor(&self, a: QueueIndex, b: QueueIndex) -> QueueIndex {
        self.tree.common_ancestor(a, b)
    }

    /// All queues and leaves, the root included, parents first. O(slots).
    pub fn shape(&self) -> impl Iterator<Item = QueueIndex> {
        self.tree.shape()
    }

    /// Capacity of a resource in base units (milli-CPU, bytes, devices). O(1).
    pub fn set_capacity(&mut self, resource: ResourceId, amount: i64) {
        if self.capacity.len() <= resource.index() {
            self.capacity.resize(resource.index() + 1, 0);
        }
        self.capacity[resource.index()] = amount;
        if let Some(Some(column)) = self.columns.get_mut(resource.index()) {
            column.set_capacity(amount);
        }
    }
}
