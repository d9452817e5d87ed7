//! What a gang asks of the tree, as blocks that each lie in one domain: slices, and task groups
//! with places of their own. What members were placed before lack in their slices comes first, in
//! the domains of these.
//!
//! Blocks are laid one after the other, each where that is cheapest: a heap keeps what the block
//! costs in each domain, and what was not looked at since something was laid is looked at again
//! when its turn comes. What is cheap, and how members are seated, a [`Ground`] says.

use super::place::members;
use super::tree::{Place, lacking, settled_place};
use super::{Demand, Wanted};
use crate::cluster::{ClassId, Cluster, DomainId, Domains, NodeIndex, PodIndex};
use smallvec::SmallVec;
use std::cmp::Reverse;
use std::collections::BinaryHeap;

/// Where pods may be seated.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Within {
    /// On any node.
    Everywhere,
    /// On nodes of this domain.
    Domain(DomainId),
    /// On this node.
    Node(NodeIndex),
}

impl Within {
    /// Whether a node is part of it.
    #[must_use]
    pub fn contains(self, domains: &Domains, node: NodeIndex) -> bool {
        match self {
            Self::Everywhere => true,
            Self::Domain(domain) => domains.contains(domain, node),
            Self::Node(only) => node == only,
        }
    }

    /// Its nodes, ascending.
    #[must_use]
    pub fn nodes(self, cluster: &Cluster) -> Vec<NodeIndex> {
        match self {
            Self::Everywhere => (0..cluster.node_slots()).map(NodeIndex::at).collect(),
            Self::Node(node) => vec![node],
            Self::Domain(domain) => {
                let mut nodes: Vec<NodeIndex> = cluster.domains().nodes_in(domain).collect();
                nodes.sort_unstable();
                nodes
            }
        }
    }

    /// Breaks ties: a stable hash.
    #[must_use]
    pub fn tie(self, cluster: &Cluster) -> u32 {
        match self {
            Self::Everywhere => 0,
            #[allow(clippy::cast_possible_truncation)] // a part of a hash is one
            Self::Domain(domain) => cluster.domains().get(domain).tie as u32,
            Self::Node(node) => cluster.node(node).tie,
        }
    }

    /// Whether it is part of another, or the same.
    fn is_in(self, domains: &Domains, other: Self) -> bool {
        let Self::Domain(outer) = other else { return other == Self::Everywhere || self == other };
        match self {
            Self::Everywhere => false,
            Self::Domain(domain) => domains.upwards(domain).any(|above| above == outer),
            Self::Node(node) => domains.contains(outer, node),
        }
    }

    /// Places of a depth in it; itself, if it is of that depth, or smaller.
    fn places(self, cluster: &Cluster, depth: u8) -> Vec<Self> {
        let domains = cluster.domains();
        match self {
            Self::Node(_) => vec![self],
            Self::Domain(outer) if domains.get(outer).depth >= depth => vec![self],
            _ if depth >= domains.host_depth() => {
                self.nodes(cluster).into_iter().map(Self::Node).collect()
            }
            Self::Everywhere => domains.at_depth(depth).map(Self::Domain).collect(),
            Self::Domain(outer) => {
                let is_inside = |domain: &_| domains.upwards(*domain).any(|above| above == outer);
                domains.at_depth(depth).filter(is_inside).map(Self::Domain).collect()
            }
        }
    }
}

impl From<Place> for Within {
    fn from(place: Place) -> Self {
        match place {
            Place::Domain(domain) => Self::Domain(domain),
            Place::Node(node) => Self::Node(node),
        }
    }
}

/// So many members, or all, are in one domain of a depth.
#[derive(Clone, Copy, Debug)]
struct Cut {
    depth: u8,
    size: Option<usize>,
    apart: bool,
}

/// Members with the places that they ask for, the outermost first.
#[derive(Debug)]
pub struct Block {
    demands: Vec<Demand>,
    cuts: SmallVec<[Cut; 3]>,
    within: Within,
    /// no domain of these is used for a slice that is to be apart
    used: Vec<NodeIndex>,
}

impl Block {
    /// Members that may be anywhere within a place.
    #[must_use]
    pub fn anywhere(demands: Vec<Demand>, within: Within) -> Self {
        Self { demands, cuts: SmallVec::new(), within, used: Vec::new() }
    }

    /// How many it has.
    #[must_use]
    pub fn members(&self) -> u32 {
        members(&self.demands)
    }
}

/// Where blocks are laid.
pub trait Ground {
    /// What is laid there costs, with a tie.
    type Price: Ord;
    /// What was done so far.
    type Mark: Copy;

    /// The nodes, with what was laid.
    fn cluster(&self) -> &Cluster;
    /// See [`Ground::undo`].
    fn mark(&self) -> Self::Mark;
    /// Seats all members within a place; `None`: not all fit, and some may be seated.
    fn seat(&mut self, demands: &[Demand], within: Within) -> Option<()>;
    /// What was done since costs.
    fn price(&self, since: Self::Mark, place: Within) -> Self::Price;
    /// Takes back what was done since.
    fn undo(&mut self, to: Self::Mark);
}

/// Seats all blocks, those that have no choice first; `None`: one finds no place, and what was
/// laid before stays.
pub fn lay_all<'a>(
    ground: &mut impl Ground,
    blocks: impl IntoIterator<Item = &'a Block>,
) -> Option<()> {
    blocks
        .into_iter()
        .try_for_each(|block| lay(ground, block, &block.demands, &block.cuts, block.within))
}

/// What a chunk costs in places, by their number, the cheapest on top.
type Costs<P> = BinaryHeap<Reverse<(P, usize)>>;

/// Seats members of a block within a place.
fn lay<G: Ground>(
    ground: &mut G,
    block: &Block,
    demands: &[Demand],
    cuts: &[Cut],
    within: Within,
) -> Option<()> {
    let Some((cut, inner)) = cuts.split_first() else { return ground.seat(demands, within) };
    let mut places = within.places(ground.cluster(), cut.depth);
    if cut.apart {
        let domains = ground.cluster().domains();
        places.retain(|place| !block.used.iter().any(|node| place.contains(domains, *node)));
    }
    let mut heap: Option<Costs<G::Price>> = None;
    for chunk in chunks(demands, cut.size) {
        let heap = heap.get_or_insert_with(|| {
            let costs = places.iter().enumerate().filter_map(|(at, place)| {
                let cost = price_of(ground, block, &chunk, inner, *place)?;
                Some(Reverse((cost, at)))
            });
            costs.collect()
        });
        let at = loop {
            let Reverse((expected, at)) = heap.pop()?;
            let Some(cost) = price_of(ground, block, &chunk, inner, places[at]) else { continue };
            if cost <= expected {
                break at;
            }
            heap.push(Reverse((cost, at)));
        };
        lay(ground, block, &chunk, inner, places[at])?;
        if !cut.apart {
            let cost = price_of(ground, block, &chunk, inner, places[at]);
            heap.extend(cost.map(|cost| Reverse((cost, at))));
        }
    }
    Some(())
}

/// What it costs to seat members of a block within a place; everything is as before then.
fn price_of<G: Ground>(
    ground: &mut G,
    block: &Block,
    demands: &[Demand],
    cuts: &[Cut],
    place: Within,
) -> Option<G::Price> {
    let mark = ground.mark();
    let laid = lay(ground, block, demands, cuts, place);
    let price = laid.map(|()| ground.price(mark, place));
    ground.undo(mark);
    price
}

/// The members as blocks within a place that a level larger than the node may require; `None`: they
/// ask for what is not laid.
#[must_use]
pub fn blocks(
    cluster: &Cluster,
    demands: &[Demand],
    wanted: &Wanted,
    outer: Within,
) -> Option<Vec<Block>> {
    let domains = cluster.domains();
    // the domains of larger levels are tried one by one, as for a claim that is not cut
    let host = domains.host_depth();
    let is_on_one = wanted.required.is_some_and(|depth| depth >= host);
    if wanted.parts.is_empty() || is_on_one {
        // on one node parts have what they ask for, unless they must be apart
        let mut slices = wanted.parts.iter().flat_map(|part| &part.wanted.slices);
        let none_apart = !slices.any(|slices| slices.apart);
        return none_apart.then(|| of_wish(domains, demands, wanted, host, outer)).flatten();
    }
    let mut blocks = Vec::new();
    let mut rest = demands.to_vec();
    for part in wanted.parts.iter().filter(|part| part.is_bound()) {
        let own = split(&mut rest, |pod| part.pods.binary_search(pod).is_ok());
        if !own.is_empty() {
            blocks.extend(of_wish(domains, &own, &part.wanted, 0, outer)?);
        }
    }
    blocks.sort_by_key(|block| !block.cuts.is_empty());
    blocks.push(Block::anywhere(rest, outer));
    Some(blocks)
}

/// Members of one wish: those that slices of others lack, where these are, and the rest. Levels
/// above `from` are not asked for.
fn of_wish(
    domains: &Domains,
    demands: &[Demand],
    wanted: &Wanted,
    from: u8,
    outer: Within,
) -> Option<Vec<Block>> {
    let mut cuts: SmallVec<[Cut; 3]> = SmallVec::new();
    let mut within = outer;
    match wanted.required.filter(|depth| *depth >= from) {
        Some(depth) if wanted.settled.is_empty() => {
            cuts.push(Cut { depth, size: None, apart: false });
        }
        Some(depth) => within = settled_place(domains, &wanted.settled, depth)?.into(),
        None => {}
    }
    if !within.is_in(domains, outer) {
        return None;
    }
    let Some(outermost) = wanted.slices.first() else {
        return Some(vec![Block { demands: demands.to_vec(), cuts, within, used: Vec::new() }]);
    };
    let [demand] = demands else { return None };
    let slices = |from: usize| {
        wanted.slices[from..].iter().map(|slices| Cut {
            depth: slices.depth,
            size: Some(slices.size as usize),
            apart: slices.apart,
        })
    };
    let mut left = &demand.pods[..];
    let mut blocks = Vec::new();
    let mut push = |pods: &[PodIndex], cuts, within: Within| {
        let demands = vec![Demand { class: demand.class, headers: 0, pods: pods.into() }];
        blocks.push(Block { demands, cuts, within, used: wanted.settled.clone() });
    };
    let all = u32::try_from(left.len()).expect("groups are bounded");
    for lacking in lacking(domains, &wanted.slices, &wanted.settled, all) {
        let (own, others) = left.split_at(lacking.members() as usize);
        let place: Within = lacking.place.into();
        if !place.is_in(domains, outer) {
            return None;
        }
        push(own, slices(lacking.level + 1).collect(), place);
        left = others;
    }
    if !left.len().is_multiple_of(outermost.size as usize) {
        return None;
    }
    if !left.is_empty() {
        cuts.extend(slices(0));
        push(left, cuts, within);
    }
    Some(blocks)
}

/// Takes out the pods that are asked for.
fn split(demands: &mut Vec<Demand>, is_own: impl Fn(&PodIndex) -> bool) -> Vec<Demand> {
    let take = |class: ClassId, pods: SmallVec<[PodIndex; 4]>| {
        (!pods.is_empty()).then_some(Demand { class, headers: 0, pods })
    };
    let mut own = Vec::new();
    for demand in demands.iter_mut() {
        let pods = std::mem::take(&mut demand.pods);
        let (of_it, others) = pods.into_iter().partition(&is_own);
        demand.pods = others;
        own.extend(take(demand.class, of_it));
    }
    demands.retain(|demand| !demand.pods.is_empty());
    own
}

/// Members in chunks of so many; all together without a size. Where there is one, they are of one
/// class.
fn chunks(demands: &[Demand], size: Option<usize>) -> Vec<Vec<Demand>> {
    let (Some(size), [demand]) = (size, demands) else { return vec![demands.to_vec()] };
    let chunks = demand.pods.chunks(size.max(1));
    chunks.map(|pods| vec![Demand { class: demand.class, headers: 0, pods: pods.into() }]).collect()
}
