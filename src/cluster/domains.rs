//! The tree of domains that node labels describe: zones, blocks, racks, NVLink domains.
//!
//! Levels are label keys, the outermost first. A domain is a value of a level's label within the
//! domain above it, so racks of one name in two blocks are two racks. A node that lacks the label
//! of a level is in no domain of it and hangs below the next one outwards. The innermost level is
//! the node itself, and above all is the root, which is the cluster.

use super::NodeIndex;
use crate::model::pod::digest;
use crate::model::{Level, Node};
use rustc_hash::FxHashMap;

/// The label of the innermost level, which every tree has: the node itself.
pub const HOST_LEVEL: &str = "kubernetes.io/hostname";
/// What gangs may call it.
const HOST_NAME: &str = "node";

/// Levels that are looked for unless others are configured, the outermost first: labels of clouds,
/// of NVIDIA's topograph and of its GPU feature discovery. A level of which no node has the label
/// costs nothing.
pub const KNOWN_LEVELS: &[&str] = &[
    "topology.kubernetes.io/region",
    "topology.kubernetes.io/zone",
    "network.topology.nvidia.com/datacenter",
    "network.topology.nvidia.com/core",
    "network.topology.nvidia.com/spine",
    "network.topology.nvidia.com/block",
    "network.topology.nvidia.com/leaf",
    "network.topology.nvidia.com/accelerator",
    "nvidia.com/gpu.clique",
];

/// Dense index of a domain.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct DomainId(u32);

impl DomainId {
    /// The cluster.
    pub const ROOT: Self = Self(0);

    /// Index into tables kept per domain.
    #[must_use]
    pub fn index(self) -> usize {
        self.0 as usize
    }
}

/// A domain.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Domain {
    /// How far from the root: 0 is the root, 1 the outermost level.
    pub depth: u8,
    /// The domain above; of the root the root.
    pub parent: u32,
    /// The value of its level's label.
    pub value: Box<str>,
    /// Breaks ties: a stable hash of the values from the root.
    pub tie: u64,
    /// Domains right below.
    pub children: Vec<DomainId>,
    /// Nodes right below: those that are in no smaller domain.
    pub nodes: Vec<NodeIndex>,
}

/// The tree. It is kept by node events, O(levels) each.
#[derive(Debug)]
pub struct Domains {
    levels: Vec<Level>,
    domains: Vec<Domain>,
    free: Vec<DomainId>,
    by_value: FxHashMap<(DomainId, u8, Box<str>), DomainId>,
    /// of each node slot the smallest domain, and its place among the domain's nodes, if it is
    /// there
    of_node: Vec<(DomainId, Option<u32>)>,
}

impl Default for Domains {
    fn default() -> Self {
        Self::new(Vec::new())
    }
}

impl Domains {
    /// A tree of these levels without nodes.
    ///
    /// # Panics
    /// With more than 100 levels.
    #[must_use]
    pub fn new(levels: Vec<Level>) -> Self {
        assert!(levels.len() <= 100, "levels are bounded by the configuration");
        let levels = levels.into_iter().filter(|level| *level.label != *HOST_LEVEL).collect();
        Self {
            levels,
            domains: vec![Domain::default()],
            free: Vec::new(),
            by_value: FxHashMap::default(),
            of_node: Vec::new(),
        }
    }

    /// The levels but for the node itself, the outermost first.
    pub(super) fn levels(&self) -> &[Level] {
        &self.levels
    }

    /// Whether no node is in any domain below the root: then there is nothing to choose.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.by_value.is_empty()
    }

    /// Slots for domains: indexes are below it.
    #[must_use]
    pub fn slots(&self) -> usize {
        self.domains.len()
    }

    /// The depth of nodes, which is the largest.
    #[must_use]
    pub fn host_depth(&self) -> u8 {
        u8::try_from(self.levels.len() + 1).expect("levels are bounded")
    }

    /// The depth of a level, by its label or else its name; `None`: there is no such level. Of two
    /// levels of one name it is the outer one.
    #[must_use]
    pub fn depth_of(&self, level: &str) -> Option<u8> {
        if level == HOST_LEVEL {
            return Some(self.host_depth());
        }
        let by_label = self.levels.iter().position(|known| *known.label == *level);
        let by_name = || self.levels.iter().position(|known| *known.name == *level);
        match by_label.or_else(by_name) {
            Some(place) => u8::try_from(place + 1).ok(),
            None => (level == HOST_NAME).then(|| self.host_depth()),
        }
    }

    /// The label of a depth's level.
    #[must_use]
    pub fn level(&self, depth: u8) -> &str {
        match usize::from(depth).checked_sub(1) {
            None => "cluster",
            Some(place) => self.levels.get(place).map_or(HOST_LEVEL, |level| &level.label),
        }
    }

    /// A domain.
    #[must_use]
    pub fn get(&self, domain: DomainId) -> &Domain {
        &self.domains[domain.index()]
    }

    /// The domain above.
    #[must_use]
    pub fn parent(&self, domain: DomainId) -> Option<DomainId> {
        (domain != DomainId::ROOT).then(|| DomainId(self.get(domain).parent))
    }

    /// The smallest domain of a node; the root for one that is in no other.
    #[must_use]
    pub fn of(&self, node: NodeIndex) -> DomainId {
        self.of_node.get(node.index()).map_or(DomainId::ROOT, |(domain, _)| *domain)
    }

    /// A domain and those above it, the root last.
    pub fn upwards(&self, from: DomainId) -> impl Iterator<Item = DomainId> {
        std::iter::successors(Some(from), |domain| self.parent(*domain))
    }

    /// Whether a node is in a domain.
    #[must_use]
    pub fn contains(&self, domain: DomainId, node: NodeIndex) -> bool {
        self.upwards(self.of(node)).any(|above| above == domain)
    }

    /// The domain at this depth of which a node is part; `None`: it lacks that label.
    #[must_use]
    pub fn above(&self, node: NodeIndex, depth: u8) -> Option<DomainId> {
        self.upwards(self.of(node)).find(|domain| self.get(*domain).depth == depth)
    }

    /// All domains, the root first. O(domains).
    pub fn all(&self) -> impl Iterator<Item = DomainId> {
        let mut stack = vec![DomainId::ROOT];
        std::iter::from_fn(move || {
            let domain = stack.pop()?;
            stack.extend(&self.get(domain).children);
            Some(domain)
        })
    }

    /// All domains of a depth. O(domains).
    pub fn at_depth(&self, depth: u8) -> impl Iterator<Item = DomainId> {
        let mut stack = vec![DomainId::ROOT];
        std::iter::from_fn(move || {
            while let Some(domain) = stack.pop() {
                let found = self.get(domain);
                if found.depth == depth {
                    return Some(domain);
                }
                let children = found.children.iter().copied();
                stack.extend(children.filter(|child| self.get(*child).depth <= depth));
            }
            None
        })
    }

    /// Nodes anywhere in a domain. O(what is in it).
    pub fn nodes_in(&self, domain: DomainId) -> impl Iterator<Item = NodeIndex> {
        let mut stack = vec![domain];
        let all = std::iter::from_fn(move || {
            let found = self.get(stack.pop()?);
            stack.extend(&found.children);
            Some(&found.nodes)
        });
        all.flatten().copied()
    }

    /// Takes in a node as it is now.
    pub(super) fn set(&mut self, index: NodeIndex, node: &Node) {
        self.take_out(index);
        let mut at = DomainId::ROOT;
        for place in 0..self.levels.len() {
            if let Some(value) = node.label(&self.levels[place].label) {
                at = self.intern(at, u8::try_from(place + 1).expect("bounded"), value);
            }
        }
        if self.of_node.len() <= index.index() {
            self.of_node.resize(index.index() + 1, (DomainId::ROOT, None));
        }
        let nodes = &mut self.domains[at.index()].nodes;
        let place = u32::try_from(nodes.len()).expect("fewer than 2^32 nodes");
        nodes.push(index);
        self.of_node[index.index()] = (at, Some(place));
    }

    /// Takes in that a node is gone.
    pub(super) fn clear(&mut self, index: NodeIndex) {
        self.take_out(index);
    }

    fn take_out(&mut self, index: NodeIndex) {
        let entry = self.of_node.get_mut(index.index()).map(std::mem::take);
        let Some((at, Some(place))) = entry else { return };
        let nodes = &mut self.domains[at.index()].nodes;
        nodes.swap_remove(place as usize);
        if let Some(moved) = nodes.get(place as usize) {
            self.of_node[moved.index()].1 = Some(place);
        }
        self.prune(at);
    }

    fn intern(&mut self, parent: DomainId, depth: u8, value: &str) -> DomainId {
        let key = (parent, depth, Box::from(value));
        if let Some(found) = self.by_value.get(&key) {
            return *found;
        }
        let above = self.get(parent).tie;
        let domain = Domain {
            depth,
            parent: parent.0,
            value: value.into(),
            tie: digest(value) ^ above.rotate_left(17),
            ..Domain::default()
        };
        let id = self.free.pop().unwrap_or_else(|| {
            self.domains.push(Domain::default());
            DomainId(u32::try_from(self.domains.len() - 1).expect("fewer domains than labels"))
        });
        self.domains[id.index()] = domain;
        self.domains[parent.index()].children.push(id);
        self.by_value.insert(key, id);
        id
    }

    /// Ends a domain in which nothing is left, and those above that are then empty.
    fn prune(&mut self, mut at: DomainId) {
        while at != DomainId::ROOT {
            let found = self.get(at);
            if !found.nodes.is_empty() || !found.children.is_empty() {
                return;
            }
            let ended = std::mem::take(&mut self.domains[at.index()]);
            let parent = DomainId(ended.parent);
            self.by_value.remove(&(parent, ended.depth, ended.value));
            self.domains[parent.index()].children.retain(|child| *child != at);
            self.free.push(at);
            at = parent;
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn node(labels: &[(&str, &str)]) -> Node {
        let labels = labels.iter().map(|(key, value)| ((*key).into(), (*value).into())).collect();
        Node { labels, ..Node::default() }
    }

    #[test]
    fn racks_of_one_name_in_two_blocks_are_two_and_what_is_empty_ends() {
        let mut tree = Domains::new(vec!["example.com/block".into(), "rack".into()]);
        assert!(tree.is_empty());
        let at = NodeIndex::at;
        tree.set(at(3), &node(&[]));
        assert!(tree.is_empty(), "a node without labels makes no domain");
        tree.set(at(0), &node(&[("example.com/block", "a"), ("rack", "1")]));
        tree.set(at(1), &node(&[("example.com/block", "b"), ("rack", "1")]));
        tree.set(at(2), &node(&[("rack", "1")]));
        let racks: Vec<_> = tree.at_depth(2).collect();
        assert_eq!(racks.len(), 3);
        assert_ne!(tree.of(at(0)), tree.of(at(1)));
        assert_eq!(tree.above(at(2), 1), None);
        assert_eq!(tree.nodes_in(DomainId::ROOT).count(), 4);
        for (level, depth) in
            [(HOST_LEVEL, 3), ("node", 3), ("example.com/block", 1), ("block", 1), ("rack", 2)]
        {
            assert_eq!(tree.depth_of(level), Some(depth), "{level}");
        }
        assert_eq!(tree.depth_of("spine"), None);
        // it moves, and the rack that it leaves ends
        tree.set(at(0), &node(&[("example.com/block", "b"), ("rack", "1")]));
        assert_eq!(tree.of(at(0)), tree.of(at(1)));
        assert_eq!((tree.at_depth(1).count(), tree.at_depth(2).count()), (1, 2));
        for gone in 0..4 {
            tree.clear(at(gone));
        }
        assert!(tree.is_empty());
        assert_eq!(tree.nodes_in(DomainId::ROOT).count(), 0);
    }
}
