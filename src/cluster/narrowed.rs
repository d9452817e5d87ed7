//! Resources narrowed by node labels: which nodes offer them, and which pods ask for them.
//!
//! Nodes and their columns know only the resource itself. What is narrowed is charged to queues
//! beside it, for pods on nodes with the label.

use super::{ClassId, Cluster, NodeIndex, ResourceId};
use crate::model::node::Node;
use crate::model::{NarrowedName, Operator, PodClass};
use smallvec::SmallVec;
use std::borrow::Cow;

/// A resource narrowed by a node label.
#[derive(Clone, Debug)]
pub struct Narrowed {
    /// Its own id.
    pub resource: ResourceId,
    /// The resource itself.
    pub base: ResourceId,
    key: Box<str>,
    value: Box<str>,
}

/// Which narrowed resources some nodes offer; the default: none. Valid until
/// [`Cluster::narrow`] is called.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Offer(u32);

#[derive(Debug, Default)]
pub(super) struct NarrowedTable {
    all: Vec<Narrowed>,
    /// `[offer - 1]`: places in `all`
    offers: Vec<SmallVec<[u16; 2]>>,
    /// `[node]`
    of_node: Vec<Offer>,
}

impl NarrowedTable {
    pub(super) fn grow(&mut self, slots: usize) {
        self.of_node.resize(slots, Offer::default());
    }

    pub(super) fn set(&mut self, node: NodeIndex, offer: Offer) {
        self.of_node[node.index()] = offer;
    }

    pub(super) fn offer(&mut self, node: &Node) -> Offer {
        let offered = |narrowed: &Narrowed| node.label(&narrowed.key) == Some(&narrowed.value);
        let all = self.all.iter().enumerate().filter(|(_, narrowed)| offered(narrowed));
        let places: SmallVec<[u16; 2]> = all.map(|(place, _)| place as u16).collect();
        if places.is_empty() {
            return Offer::default();
        }
        let found = self.offers.iter().position(|known| *known == places);
        let place = found.unwrap_or_else(|| {
            self.offers.push(places);
            self.offers.len() - 1
        });
        Offer(u32::try_from(place + 1).expect("no more than there are nodes"))
    }

    fn of(&self, offer: Offer) -> impl Iterator<Item = &Narrowed> {
        let place = (offer.0 as usize).checked_sub(1);
        let places = place.map(|place| &self.offers[place]).into_iter().flatten();
        places.map(|place| &self.all[usize::from(*place)])
    }
}

impl Narrowed {
    /// Whether pods of a class can run on no node without the label.
    fn is_forced(&self, class: &PodClass) -> bool {
        let has = |key: &str, value: &str| *key == *self.key && *value == *self.value;
        let selected = class.node_selector.iter().any(|(key, value)| has(key, value));
        let terms = class.required.as_deref().unwrap_or_default();
        let required = terms.iter().all(|term| {
            term.expressions.iter().any(|requirement| {
                requirement.operator == Operator::In
                    && matches!(&*requirement.values, [value] if has(&requirement.key, value))
            })
        });
        selected || required && !terms.is_empty()
    }
}

impl Cluster {
    /// Replaces the narrowed resources. What nodes offer of them has to be asked anew.
    /// O(nodes x names).
    pub fn narrow<'a>(&mut self, names: impl Iterator<Item = &'a str>) {
        let mut all: Vec<Narrowed> = Vec::new();
        for name in names {
            let Some(parsed) = NarrowedName::parse(name) else { continue };
            self.resources.intern(parsed.resource);
            self.resources.intern(name);
            let ids = self.resources.find(name).zip(self.resources.find(parsed.resource));
            let Some((resource, base)) = ids else { continue };
            if all.iter().all(|known| known.resource != resource) {
                let (key, value) = (parsed.key.into(), parsed.value.into());
                all.push(Narrowed { resource, base, key, value });
            }
        }
        self.narrowed = NarrowedTable { all, ..NarrowedTable::default() };
        self.grow_columns();
        for index in 0..self.node_slots() {
            if let Some(node) = &self.nodes.entry(NodeIndex::at(index)).node {
                let offer = self.narrowed.offer(node);
                self.narrowed.set(NodeIndex::at(index), offer);
            }
        }
    }

    /// All narrowed resources.
    #[must_use]
    pub fn narrowed(&self) -> &[Narrowed] {
        &self.narrowed.all
    }

    /// What a node offers of them.
    #[must_use]
    pub fn offer(&self, node: NodeIndex) -> Offer {
        self.narrowed.of_node[node.index()]
    }

    /// Whether a node is among those that offer a narrowed resource.
    #[must_use]
    pub fn offers(&self, node: NodeIndex, narrowed: ResourceId) -> bool {
        self.narrowed.of(self.offer(node)).any(|offered| offered.resource == narrowed)
    }

    /// Whether a known node, as it is shown now, offers others than before.
    #[must_use]
    pub fn changes_offer(&mut self, node: &Node) -> bool {
        let Some(index) = self.nodes.find(&node.name) else { return false };
        !self.narrowed.all.is_empty() && self.narrowed.offer(node) != self.offer(index)
    }

    /// What a pod of the class takes of narrowed resources where they are offered.
    pub fn narrowed_on(
        &self,
        class: ClassId,
        offer: Offer,
    ) -> impl Iterator<Item = (ResourceId, i64)> {
        let class = self.class(class);
        let offered = self.narrowed.of(offer);
        let taken = offered.map(|narrowed| (narrowed.resource, class.request(narrowed.base)));
        taken.filter(|(_, amount)| *amount > 0)
    }

    /// What queues are charged for a pod of the class there: requests, and what they are of
    /// narrowed resources.
    #[must_use]
    pub fn charges(&self, class: ClassId, offer: Offer) -> Cow<'_, [(ResourceId, i64)]> {
        let requests = &*self.class(class).requests;
        if offer == Offer::default() {
            return Cow::Borrowed(requests);
        }
        Cow::Owned(requests.iter().copied().chain(self.narrowed_on(class, offer)).collect())
    }

    /// What a pod of the class asks for: requests, and the narrowed resources that its constraints
    /// force it to use.
    #[must_use]
    pub fn asked(&self, class_id: ClassId) -> Cow<'_, [(ResourceId, i64)]> {
        let class = self.class(class_id);
        let all = self.narrowed.all.iter();
        let forced = all.filter(|narrowed| narrowed.is_forced(&class.spec));
        let forced: SmallVec<[(ResourceId, i64); 2]> =
            forced.map(|narrowed| (narrowed.resource, class.request(narrowed.base))).collect();
        if forced.is_empty() {
            return Cow::Borrowed(&class.requests);
        }
        let forced = forced.into_iter().filter(|(_, amount)| *amount > 0);
        Cow::Owned(class.requests.iter().copied().chain(forced).collect())
    }
}
