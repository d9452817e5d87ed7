//! The best node for a class, kept up to date by the change log.
//!
//! For every class in use, each node's weighted score is a leaf of a tree of maxima with a fan-out
//! of [`FAN_OUT`]. A use of the class first rescores the nodes that changed since its last use, so
//! a decision costs the nodes that changed, not all nodes: O(changes x (filters + log nodes)).

use super::fits::{Fits, room_on};
use crate::cluster::{Change, Class, ClassId, Cluster, NodeIndex};
use crate::framework::{Diagnosis, Profile, Reads, Refusals, SCORE_PARTS, Terms};
use smallvec::SmallVec;
use std::sync::Arc;

/// Children per inner node of the tree: two cache lines.
const FAN_OUT: usize = 16;
/// Bits of a key: score, tie break, node.
const NODE_BITS: u32 = 20;
const TIE_BITS: u32 = 24;
/// Bits of the tie break where scores are fine.
const FINE_TIE_BITS: u32 = 16;
/// Most nodes that fit a key.
const NODES_MAX: usize = 1 << NODE_BITS;
/// Memory that rankings may take together, in bytes: a base, and so much per node, which is room
/// for 200 classes in use at once. The least recently used goes first; a class that is evicted
/// costs one scan of the nodes when it is used again.
const BYTES_BASE: usize = 16 << 20;
const BYTES_PER_NODE: usize = 2_600;

/// Rankings of the classes in use.
#[derive(Debug, Default)]
pub struct Rankings {
    by_class: Vec<Option<Box<Ranking>>>,
    bytes: usize,
    clock: u64,
    /// marks nodes already rescored in one catch-up
    stamps: Vec<u64>,
    stamp: u64,
    /// nodes to rescore, with their keys so far; empty in between
    changed: Vec<(NodeIndex, u64)>,
}

/// What one scan or catch-up established for a class.
#[derive(Debug)]
struct Ranking {
    epoch: u32,
    /// [`Cluster::outlook`] when it was made
    outlook: (u32, u8),
    seen: u64,
    used: u64,
    /// weighted score of the plugins that read facts; -1: rejected by a filter that reads facts
    facts: Vec<i32>,
    /// what the scores that read usage look at
    terms: Vec<Terms>,
    /// `levels[0]` are the leaves, one key per node slot; the last level is the root
    levels: Vec<Vec<u64>>,
    exhausted: Option<Exhausted>,
    /// pods of the class that fit by node and domain, once a gang of it was placed by the tree
    fits: Option<Fits>,
    /// what the nodes said when a pod of the class found none
    refusals: Option<Refusals>,
}

/// At this state of the cluster no more than `placeable` pods of the class fit at once.
#[derive(Clone, Debug)]
pub(super) struct Exhausted {
    version: u64,
    pub(super) placeable: u32,
    pub(super) diagnosis: Arc<Diagnosis>,
}

impl Ranking {
    fn bytes(slots: usize) -> usize {
        slots * (4 + 8 + 1) + 256
    }

    fn all_bytes(&self) -> usize {
        let fits = self.fits.as_ref().map_or(0, Fits::bytes);
        let refusals = self.refusals.as_ref().map_or(0, Refusals::bytes);
        Self::bytes(self.facts.len()) + fits + refusals
    }
}

impl Rankings {
    /// The best node for one more pod of the class.
    pub fn best(
        &mut self,
        cluster: &Cluster,
        profile: &Profile,
        class: ClassId,
    ) -> Option<NodeIndex> {
        self.catch_up(cluster, profile, class);
        let ranking = self.by_class[class.index()].as_ref().expect("catch_up made it");
        let root = *ranking.levels.last().and_then(|level| level.first())?;
        (root != 0).then(|| node_of(root))
    }

    /// How many pods of the class fit where, and the key of each node: a larger one is better, and
    /// 0 is a node on which none fits. O(changes x (filters + levels)); O(nodes) at first.
    pub(super) fn fits(
        &mut self,
        cluster: &Cluster,
        profile: &Profile,
        class: ClassId,
    ) -> (&Fits, &[u64]) {
        self.catch_up(cluster, profile, class);
        let place = class.index();
        if self.by_class[place].as_ref().is_some_and(|ranking| ranking.fits.is_none()) {
            let ranking = self.by_class[place].as_mut().expect("catch_up made it");
            let keys = &ranking.levels[0];
            let fits = Fits::of(cluster.domains(), keys, |node| {
                if keys[node.index()] == 0 { 0 } else { room_on(cluster, class, node) }
            });
            self.bytes += fits.bytes();
            ranking.fits = Some(fits);
        }
        let ranking = self.by_class[place].as_ref().expect("catch_up made it");
        (ranking.fits.as_ref().expect("just made"), &ranking.levels[0])
    }

    /// Whether the filters that read facts let a class that was just used on a node.
    pub(super) fn facts_pass(&self, class: ClassId, node: NodeIndex) -> bool {
        let ranking = self.by_class[class.index()].as_ref();
        ranking.is_some_and(|ranking| ranking.facts[node.index()] >= 0)
    }

    /// Why nodes cannot take one more pod of the class. O(changes x filters); O(nodes x filters) at
    /// first.
    pub(super) fn diagnose(
        &mut self,
        cluster: &Cluster,
        profile: &Profile,
        class_id: ClassId,
    ) -> Arc<Diagnosis> {
        self.catch_up(cluster, profile, class_id);
        let ranking = self.by_class[class_id.index()].as_mut().expect("catch_up made it");
        let class = cluster.class(class_id);
        let facts = &ranking.facts;
        let facts_pass = |node: NodeIndex| facts[node.index()] >= 0;
        match &mut ranking.refusals {
            Some(known) => known.ask(cluster, profile, class, facts_pass),
            unknown => {
                let known = unknown.insert(Refusals::of(cluster, profile, class, facts_pass));
                self.bytes += known.bytes();
            }
        }
        let known = ranking.refusals.as_mut().expect("it is known now");
        let told = known.tell_again(cluster, profile, class);
        debug_assert_eq!(*told, Diagnosis::of(cluster, profile, class_id, facts_pass), "kept");
        told
    }

    /// Takes a node out of the ranking of a class that was just used, until it changes or the bar
    /// is lifted.
    pub(super) fn bar(&mut self, class: ClassId, node: NodeIndex) {
        if let Some(Some(ranking)) = self.by_class.get_mut(class.index()) {
            ranking.set(node.index(), 0);
        }
    }

    /// Ranks a node again.
    pub(super) fn lift_bar(
        &mut self,
        cluster: &Cluster,
        profile: &Profile,
        class: ClassId,
        node: NodeIndex,
    ) {
        let Some(Some(ranking)) = self.by_class.get_mut(class.index()) else { return };
        if ranking.epoch == cluster.class(class).epoch && node.index() < ranking.facts.len() {
            let key = ranking.key(cluster, profile, class, node, 0);
            ranking.set(node.index(), key);
        }
    }

    /// What is known to be the limit for the class in the cluster's present state.
    pub(super) fn exhausted(&self, cluster: &Cluster, class: ClassId) -> Option<&Exhausted> {
        let ranking = self.by_class.get(class.index())?.as_ref()?;
        let known = ranking.exhausted.as_ref()?;
        let same_class = ranking.epoch == cluster.class(class).epoch;
        (same_class && known.version == cluster.changes().version()).then_some(known)
    }

    /// Remembers that `placeable` pods of the class are all that fit at `version`.
    pub(super) fn set_exhausted(
        &mut self,
        class: ClassId,
        version: u64,
        placeable: u32,
        diagnosis: Arc<Diagnosis>,
    ) {
        if let Some(Some(ranking)) = self.by_class.get_mut(class.index()) {
            ranking.exhausted = Some(Exhausted { version, placeable, diagnosis });
        }
    }

    fn catch_up(&mut self, cluster: &Cluster, profile: &Profile, class: ClassId) {
        self.clock += 1;
        let slots = cluster.node_slots();
        assert!(slots <= NODES_MAX, "at most {NODES_MAX} nodes are supported");
        if self.by_class.len() <= class.index() {
            self.by_class.resize_with(class.index() + 1, || None);
        }
        let position = cluster.changes().position();
        let mut ranking = match self.by_class[class.index()].take() {
            Some(ranking)
                if ranking.seen == position && ranking.is_current(cluster, profile, class) =>
            {
                ranking
            }
            found => self.renewed(found, cluster, profile, class),
        };
        ranking.used = self.clock;
        ranking.seen = position;
        self.by_class[class.index()] = Some(ranking);
    }

    fn renewed(
        &mut self,
        found: Option<Box<Ranking>>,
        cluster: &Cluster,
        profile: &Profile,
        class: ClassId,
    ) -> Box<Ranking> {
        let slots = cluster.node_slots();
        if let Some(mut ranking) = found {
            let holds = ranking.facts_hold(cluster, profile, class);
            let count = cluster.changes().count_since(ranking.seen);
            let few = count.filter(|count| holds && *count <= 4 * slots + 64);
            if let Some(count) = few
                && self.rescore_changed(&mut ranking, cluster, profile, class, count)
            {
                if ranking.outlook != cluster.outlook() {
                    self.bytes -= ranking.fits.take().map_or(0, |fits| fits.bytes());
                    ranking.rescore(cluster, profile, class);
                }
                return ranking;
            }
            self.bytes -= ranking.all_bytes();
        }
        self.make_room(Ranking::bytes(slots), BYTES_BASE + BYTES_PER_NODE * slots);
        Box::new(scan(cluster, profile, class))
    }

    /// Rescores the nodes of the last `count` changes, each once. `false`: a fact changed, which
    /// moves the normalised scores of all nodes.
    fn rescore_changed(
        &mut self,
        ranking: &mut Ranking,
        cluster: &Cluster,
        profile: &Profile,
        class: ClassId,
        count: usize,
    ) -> bool {
        if ranking.facts.len() != cluster.node_slots() {
            return false;
        }
        // domains that came since are not counted yet
        let facts_changed =
            || cluster.changes().last(count).any(|(_, change)| change == Change::Facts);
        if ranking.fits.is_some() && facts_changed() {
            return false;
        }
        self.stamp += 1;
        self.stamps.resize(cluster.node_slots(), 0);
        let mut changed = std::mem::take(&mut self.changed);
        changed.clear();
        for (node, change) in cluster.changes().last(count) {
            if change == Change::Facts {
                self.changed = changed;
                return false;
            }
            if std::mem::replace(&mut self.stamps[node.index()], self.stamp) != self.stamp {
                // read here, the leaves are fetched side by side
                changed.push((node, ranking.levels[0][node.index()]));
            }
        }
        for (node, known) in &changed {
            let node = *node;
            let key = ranking.key(cluster, profile, class, node, *known);
            ranking.set(node.index(), key);
            if let Some(refusals) = &mut ranking.refusals {
                refusals.forget(node);
            }
            if let Some(fits) = &mut ranking.fits {
                let room = if key == 0 { 0 } else { room_on(cluster, class, node) };
                fits.set(cluster.domains(), node, room, key);
            }
        }
        self.changed = changed;
        true
    }

    fn make_room(&mut self, bytes: usize, bytes_max: usize) {
        while self.bytes + bytes > bytes_max {
            let used = |ranking: &Option<Box<Ranking>>| ranking.as_ref().map(|r| r.used);
            let places = self.by_class.iter().enumerate();
            let oldest = places.filter_map(|(i, r)| Some((used(r)?, i))).min();
            let Some((_, place)) = oldest else { break };
            if let Some(ranking) = self.by_class[place].take() {
                self.bytes -= ranking.all_bytes();
            }
        }
        self.bytes += bytes;
    }
}

/// The node of a key.
pub(super) fn node_of(key: u64) -> NodeIndex {
    let mask = (1u64 << NODE_BITS) - 1;
    NodeIndex::at(usize::try_from(key & mask).expect("20 bits"))
}

/// What is below the score in a key: a stable hash, then the slot. `known` is a key of the node, or
/// 0.
fn rest(cluster: &Cluster, profile: &Profile, node: NodeIndex, known: u64, bits: u32) -> u64 {
    if known != 0 {
        return known & ((1 << bits) - 1);
    }
    // the high bits of hashes of numbered names hardly differ
    let tie = match (profile.is_fine(), cluster.node(node).tie) {
        (false, tie) => tie,
        (true, tie) => tie.wrapping_mul(0x9e37_79b9),
    };
    u64::from(tie >> (32 + NODE_BITS - bits)) << NODE_BITS | u64::from(node.0)
}

/// Scores every node. O(nodes x plugins).
fn scan(cluster: &Cluster, profile: &Profile, class_id: ClassId) -> Ranking {
    let class = cluster.class(class_id);
    let passing = cluster.live_nodes().map(|(node, _)| node);
    let passing: Vec<NodeIndex> =
        passing.filter(|node| profile.passes(Reads::Facts, cluster, class, *node)).collect();
    let mut sums = vec![0; passing.len()];
    profile.add_facts_scores(cluster, class, &passing, &mut sums);
    let mut facts = vec![-1; cluster.node_slots()];
    for (node, sum) in passing.iter().zip(sums) {
        facts[node.index()] = i32::try_from(sum).expect("weights are bounded");
    }
    let terms = profile.usage_terms(cluster, class);
    let seen = cluster.changes().position();
    let (epoch, leaves) = (class.epoch, vec![0; cluster.node_slots()]);
    let mut ranking = Ranking {
        epoch,
        outlook: cluster.outlook(),
        seen,
        used: 0,
        facts,
        terms,
        levels: vec![leaves],
        exhausted: None,
        fits: None,
        refusals: None,
    };
    let fits = |node: &NodeIndex| profile.passes(Reads::Usage, cluster, class, *node);
    let fitting: Vec<NodeIndex> = passing.into_iter().filter(fits).collect();
    let mut leaves = std::mem::take(&mut ranking.levels[0]);
    ranking.scores(cluster, profile, class, &fitting, |node, score, bits| {
        leaves[node.index()] = score | rest(cluster, profile, node, 0, bits);
    });
    ranking.levels[0] = leaves;
    ranking.raise();
    ranking
}

impl Ranking {
    /// Whether what changed since on nodes is all that changed.
    fn is_current(&self, cluster: &Cluster, profile: &Profile, class: ClassId) -> bool {
        self.outlook == cluster.outlook() && self.facts_hold(cluster, profile, class)
    }

    /// Whether that and the outlook is all that changed.
    fn facts_hold(&self, cluster: &Cluster, profile: &Profile, class: ClassId) -> bool {
        self.epoch == cluster.class(class).epoch && !profile.draws()
    }

    /// Makes the levels above the leaves. O(nodes).
    fn raise(&mut self) {
        let mut levels = 1;
        while self.levels[levels - 1].len() > 1 {
            if self.levels.len() == levels {
                self.levels.push(Vec::new());
            }
            let (below, above) = self.levels.split_at_mut(levels);
            let max = |keys: &[u64]| keys.iter().copied().max().unwrap_or(0);
            above[0].clear();
            above[0].extend(below[levels - 1].chunks(FAN_OUT).map(max));
            levels += 1;
        }
    }

    /// Scores all nodes that the class fits under another outlook. O(nodes x scores).
    fn rescore(&mut self, cluster: &Cluster, profile: &Profile, class: ClassId) {
        self.outlook = cluster.outlook();
        let class = cluster.class(class);
        let fitting = self.levels[0].iter().filter(|key| **key != 0);
        let nodes: Vec<NodeIndex> = fitting.map(|key| node_of(*key)).collect();
        let mut leaves = std::mem::take(&mut self.levels[0]);
        self.scores(cluster, profile, class, &nodes, |node, score, bits| {
            let leaf = &mut leaves[node.index()];
            *leaf = score | *leaf & ((1 << bits) - 1);
        });
        self.levels[0] = leaves;
        self.raise();
    }

    /// The key of a node: score, then a stable hash, then the slot; 0: it does not fit. `known` is
    /// one of before, 0 where none is known.
    fn key(
        &self,
        cluster: &Cluster,
        profile: &Profile,
        class: ClassId,
        node: NodeIndex,
        known: u64,
    ) -> u64 {
        let class = cluster.class(class);
        // most nodes that changed are full: nothing else is looked up for them
        if !profile.passes(Reads::Usage, cluster, class, node) || self.facts[node.index()] < 0 {
            return 0;
        }
        let mut key = 0;
        self.scores(cluster, profile, class, &[node], |_, score, bits| {
            key = score | rest(cluster, profile, node, known, bits);
        });
        key
    }

    /// What nodes that the class fits get, above 0 and shifted to its place in a key, and the bits
    /// below it.
    fn scores(
        &self,
        cluster: &Cluster,
        profile: &Profile,
        class: &Class,
        nodes: &[NodeIndex],
        mut each: impl FnMut(NodeIndex, u64, u32),
    ) {
        let (parts, bits) = match profile.is_fine() {
            false => (1, TIE_BITS + NODE_BITS),
            true => (SCORE_PARTS, FINE_TIE_BITS + NODE_BITS),
        };
        let facts = |node: &NodeIndex| parts * i64::from(self.facts[node.index()]) + 1;
        let mut sums: SmallVec<[i64; 1]> = nodes.iter().map(facts).collect();
        profile.add_usage_scores((cluster, class), nodes, &self.terms, &mut sums);
        for (node, sum) in nodes.iter().zip(sums) {
            let score = u64::try_from(sum).expect("scores are not negative");
            assert!(score < 1 << (64 - bits), "weights are bounded by the configuration");
            each(*node, score << bits, bits);
        }
    }

    /// Sets a leaf and brings the maxima above it up to date.
    fn set(&mut self, leaf: usize, key: u64) {
        let mut at = leaf;
        let mut key = key;
        for level in 0..self.levels.len() {
            let old = std::mem::replace(&mut self.levels[level][at], key);
            if old == key {
                return;
            }
            let Some(above) = self.levels.get(level + 1) else { return };
            at /= FAN_OUT;
            let max = above[at];
            key = if key >= max {
                key
            } else if old == max {
                let from = at * FAN_OUT;
                let to = (from + FAN_OUT).min(self.levels[level].len());
                self.levels[level][from..to].iter().copied().max().unwrap_or(0)
            } else {
                return;
            };
        }
    }
}
