//! Which domain is the smallest that holds so many, and how they lie in it.

use crate::cluster::{DomainId, Domains, NodeIndex};
use crate::placement::fits::{Crowd, Crowds};
use smallvec::SmallVec;
use std::cmp::Ordering;

/// A domain or, the smallest one, a node.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub(in crate::placement) enum Place {
    Domain(DomainId),
    Node(NodeIndex),
}

impl Place {
    pub(super) fn depth(self, domains: &Domains) -> u8 {
        match self {
            Self::Domain(domain) => domains.get(domain).depth,
            Self::Node(_) => domains.host_depth(),
        }
    }

    pub(super) fn parent(self, domains: &Domains) -> Option<DomainId> {
        match self {
            Self::Domain(domain) => domains.parent(domain),
            Self::Node(node) => Some(domains.of(node)),
        }
    }

    /// The place of a depth in which a node is; `None`: it lacks that label.
    pub(super) fn of(domains: &Domains, node: NodeIndex, depth: u8) -> Option<Self> {
        if depth == domains.host_depth() {
            return Some(Self::Node(node));
        }
        domains.above(node, depth).map(Self::Domain)
    }

    /// The place of a depth in which it is, or itself.
    pub(super) fn up_to(self, domains: &Domains, depth: u8) -> Option<Self> {
        let above = self.parent(domains).map(|above| domains.upwards(above));
        let above = above.into_iter().flatten().map(Self::Domain);
        std::iter::once(self).chain(above).find(|place| place.depth(domains) == depth)
    }
}

/// How many of something fit where: pods of a class, or slices of them.
#[derive(Clone, Copy)]
pub(super) struct Counts<'a> {
    pub(super) domains: &'a Domains,
    pub(super) in_domain: &'a [u32],
    /// empty where domains are not divided further
    pub(super) on_node: &'a [u32],
    /// nodes right below domains that have many, in order; empty where `on_node` is not of pods
    pub(super) crowds: Option<&'a Crowds>,
    /// the larger, the better the node
    pub(super) keys: &'a [u64],
    pub(super) most_on_node: u32,
    /// nothing below this depth is looked at
    pub(super) leaf: u8,
}

impl Counts<'_> {
    pub(super) fn count(&self, place: Place) -> u32 {
        match place {
            Place::Domain(domain) => self.in_domain[domain.index()],
            Place::Node(node) => self.on_node[node.index()],
        }
    }

    pub(super) fn depth(&self, place: Place) -> u8 {
        place.depth(self.domains)
    }

    /// Whether a place is another, or in it.
    pub(super) fn is_in(&self, place: Place, other: Place) -> bool {
        let (Place::Domain(domain), Some(above)) = (other, self.parent(place)) else {
            return place == other;
        };
        place == other || self.domains.upwards(above).any(|above| above == domain)
    }

    pub(super) fn parent(&self, place: Place) -> Option<DomainId> {
        place.parent(self.domains)
    }

    /// The nodes right below a domain, if they are many and kept in order.
    pub(super) fn crowd(&self, place: Place) -> Option<(DomainId, &Crowd)> {
        let Place::Domain(domain) = place else { return None };
        Some((domain, self.crowds?.get(&domain)?))
    }

    fn children(&self, domain: DomainId) -> impl Iterator<Item = Place> {
        self.domains.get(domain).children.iter().map(|child| Place::Domain(*child))
    }

    /// Adds what lies right below a place, to this depth, and holds so many; of a crowd at most
    /// `most`, the tightest first.
    pub(super) fn step_down(
        &self,
        at: Place,
        (depth, least): (u8, u32),
        most: usize,
        out: &mut impl Extend<Place>,
    ) {
        let holds = |below: &Place| self.depth(*below) <= depth && self.count(*below) >= least;
        match self.crowd(at) {
            Some((domain, crowd)) => {
                out.extend(self.children(domain).filter(holds));
                if depth == self.domains.host_depth() {
                    out.extend(crowd.holding(least).take(most).map(Place::Node));
                }
            }
            None => out.extend(self.below(at).filter(holds)),
        }
    }

    /// What lies right below a place.
    pub(super) fn below(&self, place: Place) -> impl Iterator<Item = Place> {
        let (children, nodes) = match place {
            Place::Domain(domain) if self.depth(place) < self.leaf => {
                let found = self.domains.get(domain);
                let nodes = (self.leaf == self.domains.host_depth()).then_some(&found.nodes);
                (&*found.children, nodes.map_or(&[][..], |nodes| nodes))
            }
            _ => (&[][..], &[][..]),
        };
        let domains = children.iter().map(|child| Place::Domain(*child));
        domains.chain(nodes.iter().map(|node| Place::Node(*node)))
    }

    /// The largest count of a place at a depth. O(places that hold more than the best so far).
    pub(super) fn most_at(&self, within: Place, depth: u8) -> u32 {
        let mut best = 0;
        let mut stack: SmallVec<[Place; 32]> = SmallVec::from_slice(&[within]);
        while let Some(place) = stack.pop() {
            if self.count(place) <= best || self.depth(place) > depth {
                continue;
            }
            if self.depth(place) == depth {
                best = self.count(place);
            } else if let Some((domain, crowd)) = self.crowd(place) {
                stack.extend(self.children(domain));
                stack.extend(crowd.roomiest(1).into_iter().map(Place::Node));
            } else {
                stack.extend(self.below(place));
            }
        }
        best
    }

    /// Of the places below `within`, or these, whose depth is in `depths` and that hold so many:
    /// the smallest; of those of one level the tightest. It is the one that a scan of all would
    /// choose: a place is passed over only if it holds too few, and so does all below it then.
    pub(super) fn smallest(
        &self,
        within: &[Place],
        count: u32,
        (outer, inner): (u8, u8),
    ) -> Option<Place> {
        let mut best: Option<(u8, Place)> = None;
        let host = self.domains.host_depth();
        let inner = inner.min(self.leaf);
        let inner = if count > self.most_on_node { inner.min(host - 1) } else { inner };
        let mut stack: SmallVec<[Place; 32]> = SmallVec::from_slice(within);
        while let Some(place) = stack.pop() {
            let depth = self.depth(place);
            if depth > inner || self.count(place) < count {
                continue;
            }
            let better = best.is_none_or(|(known, other)| {
                depth > known || depth == known && self.is_tighter(place, other).is_lt()
            });
            if depth >= outer && better {
                best = Some((depth, place));
            }
            if depth < inner {
                self.step_down(place, (inner, count), 1, &mut stack);
            }
        }
        best.map(|(_, place)| place)
    }

    /// Less: `a` is taken before `b`. Tight ones first, then those in a tight domain, so that
    /// large domains stay whole; of nodes then the one with the better score.
    pub(super) fn is_tighter(&self, a: Place, b: Place) -> Ordering {
        let by_count = self.count(a).cmp(&self.count(b));
        if by_count.is_ne() {
            return by_count;
        }
        let (mut above_a, mut above_b) = (self.parent(a), self.parent(b));
        while let (Some(one), Some(other)) = (above_a, above_b) {
            if one == other {
                break;
            }
            let by_count = self.in_domain[one.index()].cmp(&self.in_domain[other.index()]);
            if by_count.is_ne() {
                return by_count;
            }
            (above_a, above_b) = (self.domains.parent(one), self.domains.parent(other));
        }
        self.last(a, b)
    }

    fn last(&self, a: Place, b: Place) -> Ordering {
        match (a, b) {
            (Place::Node(a), Place::Node(b)) => {
                self.keys[b.index()].cmp(&self.keys[a.index()]).then(a.cmp(&b))
            }
            (Place::Domain(a), Place::Domain(b)) => {
                let tie = |domain: DomainId| (self.domains.get(domain).tie, domain);
                tie(a).cmp(&tie(b))
            }
            (a, b) => a.cmp(&b),
        }
    }

    /// Puts so many into a place that holds them, in few domains at each level; where there is
    /// little to choose, as near to each other as can be. What is in one domain is together in
    /// `out`. O(places right below x log members) for each domain that is divided.
    pub(super) fn fill(&self, at: Place, count: u32, out: &mut Vec<(Place, u32)>) {
        let from = out.len();
        self.fill_greedily(at, count, out);
        if let Some(nearer) = self.nearer(at, &out[from..]) {
            out.truncate(from);
            out.extend(nearer);
        }
    }

    /// The same, the roomiest domains in whole, and what is left in the smallest that holds it.
    fn fill_greedily(&self, at: Place, count: u32, out: &mut Vec<(Place, u32)>) {
        debug_assert!(self.count(at) >= count);
        if count == 0 {
            return;
        }
        if matches!(at, Place::Node(_)) || self.depth(at) >= self.leaf {
            out.push((at, count));
            return;
        }
        // each holds one at least
        let most = count as usize;
        let crowd = self.crowd(at);
        let mut below: Vec<Place> = match crowd {
            Some((domain, crowd)) => {
                let nodes = crowd.roomiest(most).into_iter().map(Place::Node);
                let children = self.children(domain).filter(|place| self.count(*place) > 0);
                nodes.chain(children).collect()
            }
            None => self.below(at).filter(|place| self.count(*place) > 0).collect(),
        };
        let roomiest = |a: &Place, b: &Place| {
            self.count(*b).cmp(&self.count(*a)).then_with(|| self.last(*a, *b))
        };
        if below.len() > most {
            below.select_nth_unstable_by(most, roomiest);
            below[..most].sort_unstable_by(roomiest);
        } else {
            below.sort_unstable_by(roomiest);
        }
        let (mut left, mut first) = (count, 0);
        while left > 0 && first < below.len() && self.count(below[first]) < left {
            let whole = self.count(below[first]);
            self.fill_greedily(below[first], whole, out);
            (left, first) = (left - whole, first + 1);
        }
        if left > 0 {
            // those of a crowd that are not among the roomiest
            let tightest = crowd.and_then(|(_, crowd)| {
                let mut holding = crowd.holding(left).map(Place::Node);
                holding.find(|place| !below[..first].contains(place))
            });
            below.extend(tightest);
            let rest = self.smallest(&below[first..], left, (0, u8::MAX));
            let rest = rest.expect("the roomiest of the rest holds what is left");
            self.fill_greedily(rest, left, out);
        }
    }
}
