//! Why a group could not be placed, as people and machines read it.

use super::{Profile, Reason, Status};
use crate::cluster::{Class, ClassId, Cluster, NodeIndex};
use rustc_hash::FxHashMap;

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
    /// Asks every node why it cannot take one more pod of the class; of nodes whose facts are known
    /// to pass (`facts_pass`), only the filters that read usage. O(nodes x filters).
    ///
    /// As upstream, the first filter that rejects a node speaks for it, equal reasons are counted,
    /// and the texts are sorted. Nodes that filters left out by name are counted apart.
    #[must_use]
    pub fn of(
        cluster: &Cluster,
        profile: &Profile,
        class: ClassId,
        facts_pass: impl Fn(NodeIndex) -> bool,
    ) -> Self {
        let class = cluster.class(class);
        let narrowed = profile.narrow(class);
        let (mut counts, mut left_out) = (Counts::default(), Counts::default());
        let mut nodes_left_out = 0;
        let mut rejected_by = 0;
        // neighbours mostly say the same
        let mut run = (Status::Success, false, 0);
        let mut count = |(status, out, nodes): (Status, bool, u32)| {
            let counts = if out { &mut left_out } else { &mut counts };
            for reason in status.reasons() {
                *counts.entry(*reason).or_default() += nodes;
            }
        };
        for (node, entry) in cluster.live_nodes() {
            let out = narrowed.leaves_out(&entry.name);
            let places = match out {
                true => narrowed.by,
                false if facts_pass(node) => profile.usage_filters(),
                false => u32::MAX,
            };
            let found = profile.first_rejection_of(places, cluster, class, node);
            let Some((place, status)) = found else { continue };
            rejected_by |= if out { narrowed.by } else { 1 << place };
            nodes_left_out += u32::from(out);
            if run.0 == status && run.1 == out {
                run.2 += 1;
            } else {
                count(std::mem::replace(&mut run, (status, out, 1)));
            }
        }
        count(run);
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
        Self { message, rejected_by, main_reason }
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
