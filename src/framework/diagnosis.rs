//! Why a group could not be placed, as people and machines read it.

use super::{Profile, Reason, Status};
use crate::cluster::{Class, ClassId, Cluster, NodeIndex};
use rustc_hash::FxHashMap;
use std::sync::Arc;

/// How far a gang came.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct GangProgress {
    /// Members that run, have succeeded or could be placed at once.
    pub placeable: u32,
    /// Members that exist.
    pub members: u32,
    /// Members needed.
    pub min_member: u32,
}

impl GangProgress {
    /// Our line after upstream's sentence.
    #[must_use]
    pub fn sentence(&self, gang: &str) -> String {
        let Self { placeable, members, min_member } = self;
        format!("gang {gang}: {placeable}/{members} members placeable, need {min_member}.")
    }
}

/// The outcome of a failed attempt.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Diagnosis {
    /// Upstream's sentence: `0/5 nodes are available: 3 Insufficient nvidia.com/gpu, ...`.
    pub message: String,
    /// Filters that rejected nodes, by their place in the profile.
    pub rejected_by: u32,
    /// The reason most nodes gave, for metrics; `None` if there was no node.
    pub main_reason: Option<Reason>,
}

impl Diagnosis {
    /// Asks every node why it cannot take one more pod of the class, see `Refusals`.
    #[must_use]
    pub fn of(
        cluster: &Cluster,
        profile: &Profile,
        class: ClassId,
        facts_pass: impl Fn(NodeIndex) -> bool,
    ) -> Self {
        let class = cluster.class(class);
        Refusals::of(cluster, profile, class, facts_pass).tell(cluster, profile, class)
    }
}

/// What each node says to one more pod of a class: kept, so that only nodes that changed need be
/// asked again.
///
/// As upstream, the first filter that rejects a node speaks for it, equal reasons are counted, and
/// the texts are sorted. Nodes that filters left out by name are counted apart.
#[derive(Clone, Debug, Default)]
pub(crate) struct Refusals {
    /// answers that differ: few, as they are made of a closed set of reasons
    kinds: Vec<Kind>,
    /// the kind of each node slot's answer, or [`NONE`], or [`STALE`]
    of: Vec<u32>,
    /// nodes that must be asked again
    stale: Vec<NodeIndex>,
    told: Option<(Vec<u32>, Arc<Diagnosis>)>,
}

/// The node takes the pod, or there is none.
const NONE: u32 = u32::MAX;
/// The node must be asked again.
const STALE: u32 = NONE - 1;

#[derive(Clone, Debug)]
struct Kind {
    status: Status,
    /// by name, before it was asked
    left_out: bool,
    /// filters that say so, by their place in the profile
    by: u32,
    nodes: u32,
}

impl Refusals {
    /// Asks every node; of nodes whose facts are known to pass (`facts_pass`), only the filters
    /// that read usage. O(nodes x filters).
    #[must_use]
    pub(crate) fn of(
        cluster: &Cluster,
        profile: &Profile,
        class: &Class,
        facts_pass: impl Fn(NodeIndex) -> bool,
    ) -> Self {
        let mut refusals = Self { of: vec![NONE; cluster.node_slots()], ..Self::default() };
        cluster.live_nodes().for_each(|(node, _)| refusals.forget(node));
        refusals.ask(cluster, profile, class, facts_pass);
        refusals
    }

    /// What a node said may hold no longer.
    pub(crate) fn forget(&mut self, node: NodeIndex) {
        let known = std::mem::replace(&mut self.of[node.index()], STALE);
        if let Some(kind) = self.kinds.get_mut(known as usize) {
            kind.nodes -= 1;
        }
        if known != STALE {
            self.stale.push(node);
        }
    }

    /// Asks the nodes whose answers were forgotten. O(those x filters).
    pub(crate) fn ask(
        &mut self,
        cluster: &Cluster,
        profile: &Profile,
        class: &Class,
        facts_pass: impl Fn(NodeIndex) -> bool,
    ) {
        let narrowed = profile.narrow(class);
        // neighbours mostly say the same
        let mut last = 0;
        for node in std::mem::take(&mut self.stale) {
            self.of[node.index()] = NONE;
            let entry = cluster.node(node);
            if entry.node.is_none() {
                // pods are still counted on a node that is gone
                continue;
            }
            let left_out = narrowed.leaves_out(&entry.name);
            let places = match left_out {
                true => narrowed.by,
                false if facts_pass(node) => profile.usage_filters(),
                false => u32::MAX,
            };
            let found = profile.first_rejection_of(places, cluster, class, node);
            let Some((place, status)) = found else { continue };
            let by = if left_out { narrowed.by } else { 1 << place };
            let is_it =
                |kind: &Kind| (kind.left_out, kind.by) == (left_out, by) && kind.status == status;
            if !self.kinds.get(last).is_some_and(is_it) {
                last = self.kinds.iter().position(is_it).unwrap_or(self.kinds.len());
            }
            if last == self.kinds.len() {
                self.kinds.push(Kind { status, left_out, by, nodes: 0 });
            }
            self.kinds[last].nodes += 1;
            self.of[node.index()] = u32::try_from(last).expect("reasons are few");
        }
    }

    /// The same as [`Refusals::tell`]; the one that was told last if it still holds.
    pub(crate) fn tell_again(
        &mut self,
        cluster: &Cluster,
        profile: &Profile,
        class: &Class,
    ) -> Arc<Diagnosis> {
        let counts = self.kinds.iter().map(|kind| kind.nodes);
        if let Some((known, told)) = &self.told
            && counts.clone().eq(known.iter().copied())
        {
            return told.clone();
        }
        let counts = counts.collect();
        let told = Arc::new(self.tell(cluster, profile, class));
        self.told = Some((counts, told.clone()));
        told
    }

    /// The answers of all nodes in one.
    fn tell(&self, cluster: &Cluster, profile: &Profile, class: &Class) -> Diagnosis {
        let narrowed = profile.narrow(class);
        let (mut counts, mut left_out) = (Counts::default(), Counts::default());
        let mut nodes_left_out = 0;
        let mut rejected_by = 0;
        for kind in self.kinds.iter().filter(|kind| kind.nodes > 0) {
            rejected_by |= kind.by;
            nodes_left_out += if kind.left_out { kind.nodes } else { 0 };
            let counts = if kind.left_out { &mut left_out } else { &mut counts };
            for reason in kind.status.reasons() {
                *counts.entry(*reason).or_default() += kind.nodes;
            }
        }
        let mut parts = parts(cluster, class, &counts);
        if nodes_left_out > 0 {
            parts.push(format!("{nodes_left_out} {}", narrowed.text()));
        }
        let message = message(cluster.node_count(), narrowed.refusal(), parts);
        for (reason, count) in left_out {
            *counts.entry(reason).or_default() += count;
        }
        let main_reason = counts.iter().max_by_key(|(reason, count)| (**count, **reason));
        let main_reason = main_reason.map(|(reason, _)| *reason);
        Diagnosis { message, rejected_by, main_reason }
    }

    /// Memory that it takes, about. Bytes.
    #[must_use]
    pub(crate) fn bytes(&self) -> usize {
        4 * self.of.len() + 512
    }
}

type Counts = FxHashMap<Reason, u32>;

fn parts(cluster: &Cluster, class: &Class, counts: &Counts) -> Vec<String> {
    let mut by_text: FxHashMap<String, u32> = FxHashMap::default();
    for (reason, count) in counts {
        *by_text.entry(reason.text(cluster, &class.unknown)).or_default() += count;
    }
    by_text.iter().map(|(text, count)| format!("{count} {text}")).collect()
}

/// Upstream `FitError.Error`.
fn message(nodes: usize, refusal: Option<&str>, mut parts: Vec<String>) -> String {
    if nodes == 0 {
        return "no nodes available to schedule pods".to_owned();
    }
    if let Some(refusal) = refusal {
        return format!("0/{nodes} nodes are available: {refusal}.");
    }
    if parts.is_empty() {
        return format!("0/{nodes} nodes are available.");
    }
    parts.sort_unstable();
    format!("0/{nodes} nodes are available: {}.", parts.join(", "))
}
