//! What is reported of the GPUs of nodes, kept by node while the objects that say it come and go.

use super::Optional;
use super::reports::{DRIVER, Slice, of_slices, slice, zones};
use crate::model::gpu_topology::Reported;
use rustc_hash::FxHashMap;
use serde_json::Value;
use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;

/// What reports.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Source {
    /// NodeResourceTopology objects.
    Zones,
    /// The ResourceSlices of [`DRIVER`].
    Slices,
}

impl Source {
    /// All there are.
    pub const ALL: [Self; 2] = [Self::Zones, Self::Slices];

    /// The kind of its objects.
    #[must_use]
    pub fn kind(self) -> Optional {
        match self {
            Self::Zones => Optional {
                group: "topology.node.k8s.io",
                versions: &["v1alpha2"],
                kind: "NodeResourceTopology",
                plural: "noderesourcetopologies",
            },
            Self::Slices => Optional {
                group: "resource.k8s.io",
                versions: &["v1", "v1beta2"],
                kind: "ResourceSlice",
                plural: "resourceslices",
            },
        }
    }

    /// The field selector of the objects that are read; `None`: all.
    #[must_use]
    pub fn selector(self) -> Option<String> {
        (self == Self::Slices).then(|| format!("spec.driver={DRIVER}"))
    }
}

/// What is reported, by node.
#[derive(Debug, Default)]
pub struct Table {
    zones: FxHashMap<Box<str>, Arc<Reported>>,
    /// by node and name
    slices: FxHashMap<Box<str>, BTreeMap<Box<str>, Slice>>,
    /// the node of each slice
    nodes: FxHashMap<Box<str>, Box<str>>,
    /// what the slices of a node say
    named: FxHashMap<Box<str>, Arc<Reported>>,
    /// nodes of which another is reported than before
    changed: BTreeSet<Box<str>>,
}

impl Table {
    /// What objects report that have their `apiVersion`, as those of a file; others are left out.
    #[must_use]
    pub fn of_objects(objects: &[Value]) -> Self {
        let mut table = Self::default();
        for object in objects {
            let name = object["metadata"]["name"].as_str().unwrap_or_default();
            if let Some(source) = Source::ALL.into_iter().find(|of| of.kind().is_of(object)) {
                table.put(source, name, Some(object));
            }
        }
        table
    }

    /// Whether anything is reported of any node.
    #[must_use]
    pub fn any(&self) -> bool {
        !self.zones.is_empty() || !self.named.is_empty()
    }

    /// Has nodes named as those of which another is reported.
    pub fn note_changed(&mut self, nodes: impl IntoIterator<Item = Box<str>>) {
        self.changed.extend(nodes);
    }

    /// The nodes of which another is reported than when this was asked last.
    pub fn take_changed(&mut self) -> BTreeSet<Box<str>> {
        std::mem::take(&mut self.changed)
    }

    /// What is reported of a node: drivers name GPUs one by one, so they come first.
    #[must_use]
    pub fn of(&self, node: &str) -> Option<Arc<Reported>> {
        self.named.get(node).or_else(|| self.zones.get(node)).cloned()
    }

    /// An object as it is now; `None`: it is gone.
    pub fn put(&mut self, source: Source, name: &str, object: Option<&Value>) {
        match source {
            Source::Zones => {
                let reported = object.and_then(zones).map(Arc::new);
                self.change(name, |state| set(&mut state.zones, name, reported));
            }
            Source::Slices => {
                let new = object.and_then(slice);
                let before = self.nodes.remove(name);
                if let Some(before) = &before {
                    let of_node = self.slices.entry(before.clone()).or_default();
                    of_node.remove(name);
                }
                if let Some(new) = new.clone() {
                    self.nodes.insert(name.into(), new.node.clone());
                    self.slices.entry(new.node.clone()).or_default().insert(name.into(), new);
                }
                let nodes: BTreeSet<Box<str>> =
                    before.into_iter().chain(new.map(|new| new.node)).collect();
                nodes.iter().for_each(|node| self.read_slices(node));
            }
        }
    }

    fn read_slices(&mut self, node: &str) {
        let Some(slices) = self.slices.get(node) else { return };
        // while a pool is replaced what it said before holds
        if let Some(reported) = of_slices(slices.values()) {
            self.change(node, |state| set(&mut state.named, node, reported.map(Arc::new)));
        }
        if self.slices.get(node).is_some_and(BTreeMap::is_empty) {
            self.slices.remove(node);
        }
    }

    /// Drops what a list lacked.
    pub fn retain(&mut self, source: Source, listed: &BTreeSet<Box<str>>) {
        let known: Vec<Box<str>> = match source {
            Source::Zones => self.zones.keys().cloned().collect(),
            Source::Slices => self.nodes.keys().cloned().collect(),
        };
        for name in known.iter().filter(|name| !listed.contains(*name)) {
            self.put(source, name, None);
        }
    }

    fn change(&mut self, node: &str, change: impl FnOnce(&mut Self)) {
        let before = self.of(node);
        change(self);
        if self.of(node) != before {
            self.changed.insert(node.into());
        }
    }
}

fn set<T>(map: &mut FxHashMap<Box<str>, T>, key: &str, value: Option<T>) {
    match value {
        Some(value) => drop(map.insert(key.into(), value)),
        None => drop(map.remove(key)),
    }
}
