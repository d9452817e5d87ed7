//! Node slots: dense indexes, reused when nothing refers to a node any more.

use crate::model::pod::digest;
use crate::model::{Node, Taint};
use rustc_hash::FxHashMap;
use smallvec::SmallVec;
use std::sync::Arc;

/// Dense index of a node.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct NodeIndex(pub(crate) u32);

impl NodeIndex {
    /// Index into the columns.
    #[must_use]
    pub fn index(self) -> usize {
        self.0 as usize
    }

    /// The index of a column position.
    #[must_use]
    pub(crate) fn at(index: usize) -> Self {
        Self(u32::try_from(index).expect("fewer than 2^31 nodes"))
    }
}

/// An interned taint.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct TaintId(u32);

/// A slot.
#[derive(Debug, Default)]
pub struct NodeEntry {
    /// Name, kept while anything refers to the slot.
    pub name: Arc<str>,
    /// The node, if it exists.
    pub node: Option<Node>,
    /// Its taints, interned, in the node's order.
    pub taints: SmallVec<[TaintId; 2]>,
    /// Pods counted on it.
    pub pods: u32,
    /// Breaks ties between equal scores: a stable hash of the name.
    pub tie: u32,
}

#[derive(Debug, Default)]
pub(super) struct NodeTable {
    entries: Vec<NodeEntry>,
    by_name: FxHashMap<Arc<str>, NodeIndex>,
    free: Vec<NodeIndex>,
    live: usize,
    taints: Vec<Taint>,
    taint_ids: FxHashMap<Taint, TaintId>,
}

impl NodeTable {
    pub(super) fn slots(&self) -> usize {
        self.entries.len()
    }

    pub(super) fn live_count(&self) -> usize {
        self.live
    }

    pub(super) fn live(&self) -> impl Iterator<Item = (NodeIndex, &NodeEntry)> {
        let entries = self.entries.iter().enumerate();
        entries.filter(|(_, e)| e.node.is_some()).map(|(i, e)| (NodeIndex::at(i), e))
    }

    pub(super) fn entry(&self, node: NodeIndex) -> &NodeEntry {
        &self.entries[node.index()]
    }

    pub(super) fn entry_mut(&mut self, node: NodeIndex) -> &mut NodeEntry {
        &mut self.entries[node.index()]
    }

    pub(super) fn find(&self, name: &str) -> Option<NodeIndex> {
        self.by_name.get(name).copied()
    }

    pub(super) fn taint(&self, taint: TaintId) -> &Taint {
        &self.taints[taint.0 as usize]
    }

    pub(super) fn intern(&mut self, name: &str) -> NodeIndex {
        if let Some(index) = self.find(name) {
            return index;
        }
        let hash = digest(name);
        #[allow(clippy::cast_possible_truncation)] // folding 64 bits to 32 is the point
        let tie = (hash ^ (hash >> 32)) as u32;
        let name: Arc<str> = name.into();
        let entry = NodeEntry { name: name.clone(), tie, ..NodeEntry::default() };
        let index = match self.free.pop() {
            Some(index) => {
                self.entries[index.index()] = entry;
                index
            }
            None => {
                self.entries.push(entry);
                NodeIndex::at(self.entries.len() - 1)
            }
        };
        self.by_name.insert(name, index);
        index
    }

    pub(super) fn set(&mut self, index: NodeIndex, node: Node) {
        let taints = node.taints.iter().map(|taint| self.intern_taint(taint)).collect();
        let entry = &mut self.entries[index.index()];
        self.live += usize::from(entry.node.is_none());
        entry.taints = taints;
        entry.node = Some(node);
    }

    fn intern_taint(&mut self, taint: &Taint) -> TaintId {
        if let Some(id) = self.taint_ids.get(taint) {
            return *id;
        }
        let id = TaintId(u32::try_from(self.taints.len()).expect("fewer than 2^32 taints"));
        self.taints.push(taint.clone());
        self.taint_ids.insert(taint.clone(), id);
        id
    }

    pub(super) fn clear(&mut self, index: NodeIndex) {
        let entry = &mut self.entries[index.index()];
        self.live -= usize::from(entry.node.is_some());
        entry.node = None;
        entry.taints.clear();
    }

    /// Frees a slot that neither a node nor a pod uses.
    pub(super) fn free_if_unused(&mut self, index: NodeIndex) {
        let entry = &mut self.entries[index.index()];
        if entry.node.is_none() && entry.pods == 0 {
            let name = std::mem::take(&mut entry.name);
            self.by_name.remove(&name);
            self.free.push(index);
        }
    }
}
