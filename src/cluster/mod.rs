//! What is believed about the cluster, as columns.
//!
//! Hot node state is a struct of arrays under a dense [`NodeIndex`]. There is no snapshot copy: a
//! [`Statement`] works on the live columns and undoes itself. Everything that changes a node is
//! written to a change log, from which the rankings of `placement` catch up.

mod arrivals;
mod changes;
mod claimed;
mod classes;
mod devices;
mod domains;
mod fullness;
mod narrowed;
mod nodes;
mod resources;
mod statement;

pub use arrivals::{Expected, Learnt, Shape};
pub use changes::{Change, ChangeLog};
pub use claimed::Freed;
pub use classes::{Class, ClassId};
pub use devices::{DeviceAsk, Held, Left, SharedDevices};
pub use domains::{Domain, DomainId, Domains, HOST_LEVEL, KNOWN_LEVELS};
pub use narrowed::{Narrowed, Offer};
pub use nodes::{NodeEntry, NodeIndex, TaintId};
pub use resources::{CPU, EPHEMERAL_STORAGE, MEMORY, PODS, ResourceId, ResourceTable, is_gpu};
pub use statement::{Assignment, Checkpoint, Statement};

use crate::model::claim::by_claim;
use crate::model::{HostPort, Level, Node, PodClass, Taint};
use arrivals::Arrivals;
use claimed::ClaimTable;
use classes::ClassTable;
use devices::DeviceTable;
use fullness::Fullness;
use narrowed::NarrowedTable;
use nodes::NodeTable;
use rustc_hash::FxHashMap;

/// Dense index of a pod in the scheduler's table.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct PodIndex(pub(crate) u32);

impl PodIndex {
    /// Index into the table.
    #[must_use]
    pub fn index(self) -> usize {
        self.0 as usize
    }
}

/// Nodes, what they offer and what is requested of them.
#[derive(Debug, Default)]
pub struct Cluster {
    resources: ResourceTable,
    nodes: NodeTable,
    classes: ClassTable,
    narrowed: NarrowedTable,
    domains: Domains,
    devices: DeviceTable,
    claims: ClaimTable,
    gpu: Option<ResourceId>,
    arrivals: Arrivals,
    fullness: Fullness,
    /// `[resource][node]`
    allocatable: Vec<Vec<i64>>,
    /// `[resource][node]`, pods of all schedulers, assumed ones included
    requested: Vec<Vec<i64>>,
    /// what scoring takes as requested: [`crate::model::PodClass::non_zero`]
    scored_cpu: Vec<i64>,
    scored_memory: Vec<i64>,
    ports: FxHashMap<NodeIndex, Vec<HostPort>>,
    changes: ChangeLog,
}

/// What applying a node did that the owner of the pods must act on.
#[must_use]
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum NodeApplied {
    /// Nothing that pods could notice.
    Unchanged,
    /// The node is new or differs.
    Changed,
    /// Resources became known: requests must be counted anew (see [`Cluster::recount`]).
    NewResources,
}

impl Cluster {
    /// The resource names known, which are those that some node has offered.
    #[must_use]
    pub fn resources(&self) -> &ResourceTable {
        &self.resources
    }

    /// The change log.
    #[must_use]
    pub fn changes(&self) -> &ChangeLog {
        &self.changes
    }

    /// Says that the state is that of an earlier version: what was done since is undone.
    pub fn back_at(&mut self, version: u64) {
        self.changes.restore_version(version);
    }

    /// The tree of domains.
    #[must_use]
    pub fn domains(&self) -> &Domains {
        &self.domains
    }

    /// Has the tree these levels, the outermost first. Whether they are others than before.
    /// O(nodes x levels).
    pub fn set_levels(&mut self, levels: Vec<Level>) -> bool {
        let domains = Domains::new(levels);
        if domains.levels() == self.domains.levels() {
            return false;
        }
        self.domains = domains;
        for (index, entry) in self.nodes.live() {
            if let Some(node) = &entry.node {
                self.domains.set(index, node);
            }
        }
        self.changes.forget_all();
        true
    }

    /// Number of slots for nodes: indexes are below it, not all are in use.
    #[must_use]
    pub fn node_slots(&self) -> usize {
        self.nodes.slots()
    }

    /// Number of nodes that exist.
    #[must_use]
    pub fn node_count(&self) -> usize {
        self.nodes.live_count()
    }

    /// Nodes that exist, by index.
    pub fn live_nodes(&self) -> impl Iterator<Item = (NodeIndex, &NodeEntry)> {
        self.nodes.live()
    }

    /// A node slot; pods may be counted on a node that does not exist (yet, or any more).
    #[must_use]
    pub fn node(&self, node: NodeIndex) -> &NodeEntry {
        self.nodes.entry(node)
    }

    /// The node of a name, if it was ever heard of and something still refers to it.
    #[must_use]
    pub fn find_node(&self, name: &str) -> Option<NodeIndex> {
        self.nodes.find(name)
    }

    /// The text of an interned taint.
    #[must_use]
    pub fn taint(&self, taint: TaintId) -> &Taint {
        self.nodes.taint(taint)
    }

    /// A class.
    #[must_use]
    pub fn class(&self, class: ClassId) -> &Class {
        self.classes.get(class)
    }

    /// Interns a class and counts one user of it.
    pub fn acquire_class(&mut self, class: PodClass) -> ClassId {
        self.classes.acquire(class, &self.resources)
    }

    /// Gives one use of a class back; the last one frees it.
    pub fn release_class(&mut self, class: ClassId) {
        self.classes.release(class);
    }

    /// All classes in use.
    pub fn classes(&self) -> impl Iterator<Item = &Class> {
        self.classes.in_use()
    }

    /// How many more pods of a class fit by resources alone; beyond `most` it does not count.
    #[must_use]
    pub fn room_for(&self, class: &Class, node: NodeIndex, most: u32) -> u32 {
        if !class.unknown.is_empty() {
            return 0;
        }
        let mut fits = most;
        // GPUs are known after CPU and memory, and scarcer
        for (r, amount) in class.requests.iter().rev().filter(|(_, amount)| *amount > 0) {
            let free = self.allocatable(*r, node) - self.requested(*r, node);
            fits = u32::try_from((free / amount).clamp(0, i64::from(fits))).expect("clamped");
            if fits == 0 {
                return 0;
            }
        }
        let fits = self.device_room(class, node, fits);
        self.claim_room(class, node, fits)
    }

    /// Allocatable amount of a resource on a node.
    #[must_use]
    pub fn allocatable(&self, resource: ResourceId, node: NodeIndex) -> i64 {
        self.allocatable[resource.index()][node.index()]
    }

    /// Requested amount of a resource on a node.
    #[must_use]
    pub fn requested(&self, resource: ResourceId, node: NodeIndex) -> i64 {
        self.requested[resource.index()][node.index()]
    }

    /// What scoring takes as requested: CPU and memory count
    /// [`crate::model::PodClass::non_zero`].
    #[must_use]
    pub fn scored(&self, resource: ResourceId, node: NodeIndex) -> i64 {
        match resource {
            CPU => self.scored_cpu[node.index()],
            MEMORY => self.scored_memory[node.index()],
            other => self.requested(other, node),
        }
    }

    /// Host ports taken on a node.
    #[must_use]
    pub fn ports(&self, node: NodeIndex) -> &[HostPort] {
        self.ports.get(&node).map_or(&[], Vec::as_slice)
    }

    /// Sum over live nodes of `(allocatable, requested)`. O(nodes).
    #[must_use]
    pub fn totals(&self, resource: ResourceId) -> (i64, i64) {
        self.live_nodes().fold((0, 0), |(allocatable, requested), (node, _)| {
            let more = (self.allocatable(resource, node), self.requested(resource, node));
            (allocatable + more.0, requested + more.1)
        })
    }

    /// What is requested of a resource on all nodes, those that are gone included. O(nodes).
    #[must_use]
    pub fn requested_anywhere(&self, resource: ResourceId) -> i64 {
        self.requested.get(resource.index()).map_or(0, |column| column.iter().sum())
    }

    /// Takes in a node as the API server shows it.
    pub fn apply_node(&mut self, node: Node) -> NodeApplied {
        let index = self.intern_node(&node.name);
        if self.nodes.entry(index).node.as_ref() == Some(&node) {
            return NodeApplied::Unchanged;
        }
        let before = self.nodes.entry(index).node.as_ref().and_then(|node| node.devices.clone());
        let offers = node.devices.iter().flat_map(|devices| &devices.offers);
        let ways: Vec<Box<str>> = offers.map(|(name, _)| by_claim(name)).collect();
        let named = node.allocatable.iter().map(|(name, _)| &**name);
        let grown = self.know_resources(named.chain(ways.iter().map(|name| &**name)));
        for (resource, column) in self.resources.iter().zip(&mut self.allocatable) {
            column[index.index()] = self.resources.unless_offered(resource);
        }
        for (name, amount) in &node.allocatable {
            if let Some(resource) = self.resources.find(name) {
                self.allocatable[resource.index()][index.index()] = *amount;
            }
        }
        let offer = self.narrowed.offer(&node);
        self.narrowed.set(index, offer);
        self.domains.set(index, &node);
        self.nodes.set(index, node);
        self.set_devices(index, before.as_deref());
        self.offer_shared(index);
        self.offer_claimed(index);
        self.changes.record(index, Change::Facts);
        if grown { NodeApplied::NewResources } else { NodeApplied::Changed }
    }

    /// Makes names of resources known; whether one was not.
    fn know_resources<'a>(&mut self, names: impl Iterator<Item = &'a str>) -> bool {
        let (known, ways) = (self.resources.len(), self.resources.ways().len());
        names.for_each(|name| self.resources.intern(name));
        let grown = self.resources.len() > known;
        if grown {
            let anew = self.resources.ways().len() > ways;
            self.grow_columns();
            self.classes.resolve(&self.resources, anew);
            self.find_gpu();
            if anew {
                (0..self.node_slots()).for_each(|slot| self.offer_claimed(NodeIndex::at(slot)));
            }
        }
        grown
    }

    /// Takes in that a node is gone. Pods counted on it stay counted until they go.
    pub fn delete_node(&mut self, name: &str) -> Option<NodeIndex> {
        let index = self.nodes.find(name)?;
        let devices = self.nodes.entry(index).node.as_ref()?.devices.clone();
        for column in &mut self.allocatable {
            column[index.index()] = 0;
        }
        self.nodes.clear(index);
        self.set_devices(index, devices.as_deref());
        self.domains.clear(index);
        self.changes.record(index, Change::Facts);
        self.nodes.free_if_unused(index);
        Some(index)
    }

    /// Has a node take no new pods, or take them again.
    pub fn set_quarantined(&mut self, index: NodeIndex, quarantined: bool) {
        self.nodes.entry_mut(index).quarantined = quarantined;
        self.changes.record(index, Change::Facts);
    }

    /// The index of a node name, made if it is new: a pod may name a node before it is seen.
    pub fn intern_node(&mut self, name: &str) -> NodeIndex {
        if let Some(index) = self.nodes.find(name) {
            return index;
        }
        let index = self.nodes.intern(name);
        self.grow_columns();
        // the slot may have been another's
        self.narrowed.set(index, Offer::default());
        self.devices.clear(index);
        self.claims.clear(index);
        index
    }

    fn grow_columns(&mut self) {
        let slots = self.nodes.slots();
        let known = self.allocatable.len();
        for columns in [&mut self.allocatable, &mut self.requested] {
            columns.resize_with(self.resources.len(), Vec::new);
            columns.iter_mut().for_each(|column| column.resize(slots, 0));
        }
        for resource in self.resources.iter().skip(known) {
            let amount = self.resources.unless_offered(resource);
            for (node, _) in self.nodes.live() {
                self.allocatable[resource.index()][node.index()] = amount;
            }
        }
        self.narrowed.grow(slots);
        self.devices.grow(slots);
        self.claims.grow(slots);
        self.scored_cpu.resize(slots, 0);
        self.scored_memory.resize(slots, 0);
    }

    /// Counts a pod of a class on a node. O(resources of the class).
    pub fn place(&mut self, class: ClassId, node: NodeIndex) {
        self.count(class, node, 1);
        self.nodes.entry_mut(node).pods += 1;
        let class = self.classes.get(class);
        if !class.spec.host_ports.is_empty() {
            self.ports.entry(node).or_default().extend_from_slice(&class.spec.host_ports);
        }
        self.changes.record(node, Change::Usage);
    }

    /// Takes a pod of a class off a node.
    ///
    /// # Panics
    /// If no pod is counted on the node: a count would go below zero (I5).
    pub fn unplace(&mut self, class: ClassId, node: NodeIndex) {
        self.count(class, node, -1);
        let entry = self.nodes.entry_mut(node);
        assert!(entry.pods > 0, "I5: a pod is taken off a node that has none");
        entry.pods -= 1;
        let taken = &self.classes.get(class).spec.host_ports;
        if !taken.is_empty() {
            let ports = self.ports.get_mut(&node).expect("its host ports were counted");
            for port in taken {
                let found = ports.iter().position(|other| other == port);
                ports.swap_remove(found.expect("each host port was counted"));
            }
            if ports.is_empty() {
                self.ports.remove(&node);
            }
        }
        self.changes.record(node, Change::Usage);
        self.nodes.free_if_unused(node);
    }

    fn count(&mut self, class: ClassId, node: NodeIndex, sign: i64) {
        let class = self.classes.get(class);
        let at = node.index();
        for (resource, amount) in &class.requests {
            let requested = &mut self.requested[resource.index()][at];
            *requested += sign * amount;
            assert!(*requested >= 0, "I5: a node's requests go below zero");
        }
        self.scored_cpu[at] += sign * class.scored_cpu;
        self.scored_memory[at] += sign * class.scored_memory;
    }

    /// Counts requests anew after resources became known. O(placed pods).
    pub fn recount(&mut self, placed: impl Iterator<Item = (ClassId, NodeIndex)>) {
        for column in &mut self.requested {
            column.fill(0);
        }
        self.scored_cpu.fill(0);
        self.scored_memory.fill(0);
        for (class, node) in placed {
            self.count(class, node, 1);
        }
        self.changes.forget_all();
    }
}
