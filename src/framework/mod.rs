//! The extension points of the scheduling framework, under upstream's names.
//!
//! | upstream | here |
//! |---|---|
//! | QueueSort, PreEnqueue | [`QueueSort`], [`PreEnqueue`]: over pod groups; a bare pod is a group of one |
//! | PreFilter | [`Filter::narrow`], for what is said; facts are asked once per class and node |
//! | Filter | [`Filter`] |
//! | EnqueueExtensions | not needed: a node that improved wakes those whom the filters let on it |
//! | PostFilter | [`crate::placement::make_room`]: one search for all, after the active groups |
//! | PreScore, Score, NormalizeScore | [`Score`], with [`Score::normalize`] |
//! | Reserve, Unreserve | [`crate::cluster::Statement`]: the same for every plugin |
//! | Permit | not needed: a gang is decided whole, nothing waits while holding room |
//! | PreBind, Bind, PostBind | `ApiCall::Bind` and its reply, outside the decision |
//!
//! A plugin is one file in [`crate::plugins`] and one line in its registry.

mod diagnosis;
mod narrowing;
mod profile;
mod status;

pub(crate) use diagnosis::Refusals;
pub use diagnosis::{Diagnosis, GangProgress};
pub use narrowing::Narrowing;
pub use profile::{Plugins, Profile};
pub use status::{Reason, Reasons, Status};

use crate::cluster::{Class, Cluster, NodeIndex, ResourceId};
use crate::model::{DeviceSet, WallTime};
use smallvec::SmallVec;

/// Scores are 0 to this; upstream `MaxNodeScore`.
pub const SCORE_MAX: i64 = 100;

/// Parts of a point that rankings tell apart where a score is fine.
pub const SCORE_PARTS: i64 = 1024;

/// What every plugin has.
pub trait Plugin: Send {
    /// Upstream's name where upstream has the plugin.
    fn name(&self) -> &'static str;
}

/// What the answer of a filter or score depends on, beside the class.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Reads {
    /// Labels, taints, cordon: the answer is kept until the node object changes.
    Facts,
    /// What runs on the node: asked again whenever pods come or go.
    Usage,
}

/// Decides whether one more pod of a class may run on a node.
pub trait Filter: Plugin {
    /// What the answer depends on.
    fn reads(&self) -> Reads;

    /// The answer for a node that exists.
    fn filter(&self, cluster: &Cluster, class: &Class, node: NodeIndex) -> Status;

    /// Whether that is success; asked where the reasons do not matter.
    fn passes(&self, cluster: &Cluster, class: &Class, node: NodeIndex) -> bool {
        self.filter(cluster, class, node).is_success()
    }

    /// The nodes that can pass at all, where the class names them. It decides what is said of the
    /// others, not where the pod may run: [`Filter::filter`] rejects them as well.
    fn narrow<'a>(&self, _class: &'a Class) -> Narrowing<'a> {
        Narrowing::AllNodes
    }
}

/// A resource that a score looks at for a class.
#[derive(Clone, Copy, Debug)]
pub struct Term {
    /// The resource, which some node has offered.
    pub resource: ResourceId,
    /// What one more pod of the class adds to its use.
    pub asked: i64,
    /// How much it counts against the other terms.
    pub weight: i64,
}

/// The terms of one score for one class.
pub type Terms = SmallVec<[Term; 4]>;

/// Nodes that a score is asked for together.
#[derive(Clone, Copy, Debug)]
pub struct Scored<'a> {
    /// What is believed.
    pub cluster: &'a Cluster,
    /// The class.
    pub class: &'a Class,
    /// The nodes.
    pub nodes: &'a [NodeIndex],
    /// What the score looks at for the class.
    pub terms: &'a [Term],
    /// Whether it is to be in parts of a point.
    pub is_fine: bool,
    /// The weight of the score.
    pub weight: i64,
}

/// Ranks the nodes that passed the filters.
pub trait Score: Plugin {
    /// What the answer depends on.
    fn reads(&self) -> Reads;

    /// The resources that [`Score::score`] looks at for a class: found by name once, not once per
    /// node. They hold until a node object changes.
    fn terms(&self, _cluster: &Cluster, _class: &Class) -> Terms {
        Terms::new()
    }

    /// 0 to [`SCORE_MAX`], or any non-negative number if [`Score::normalize`] brings it there.
    /// `terms` are those of the class.
    fn score(&self, cluster: &Cluster, class: &Class, node: NodeIndex, terms: &[Term]) -> i64;

    /// Whether it reads usage and tells more apart than whole points do.
    fn is_fine(&self) -> bool {
        false
    }

    /// [`Score::score`] in parts of [`SCORE_PARTS`] to a point. Asked where a score of the profile
    /// is fine.
    fn fine_score(&self, cluster: &Cluster, class: &Class, node: NodeIndex, terms: &[Term]) -> i64 {
        SCORE_PARTS * self.score(cluster, class, node, terms)
    }

    /// Adds the weighted scores of nodes to `sums`, one per node.
    fn add_scores(&self, asked: &Scored<'_>, sums: &mut [i64]) {
        let Scored { cluster, class, nodes, terms, is_fine, weight } = *asked;
        for (node, sum) in nodes.iter().zip(sums) {
            let score = match is_fine {
                false => self.score(cluster, class, *node, terms),
                true => self.fine_score(cluster, class, *node, terms),
            };
            *sum += weight * score;
        }
    }

    /// Whether equal nodes are to get another score each time, so that none may be kept.
    fn draws(&self) -> bool {
        false
    }

    /// Whether it goes by [`Cluster::learnt`].
    fn learns(&self) -> bool {
        false
    }

    /// The shared devices of a node that one more pod of the class is to take where it fits;
    /// `None`: no opinion.
    fn devices(&self, _cluster: &Cluster, _class: &Class, _node: NodeIndex) -> Option<DeviceSet> {
        None
    }

    /// Brings the scores of all nodes that pass the filters on facts to 0..=[`SCORE_MAX`]. Called
    /// for scores that read facts only. (Upstream normalises over the nodes that pass all filters;
    /// here a full node does not change how the others compare.)
    fn normalize(&self, _scores: &mut [i64]) {}
}

/// What decides about a group before it may be tried.
#[derive(Clone, Copy, Debug)]
pub struct GroupFacts<'a> {
    /// Members that must run together.
    pub min_member: u32,
    /// Members that run, are bound, have succeeded, or wait without gates.
    pub countable: u32,
    /// Members held back by scheduling gates.
    pub gated: u32,
    /// The first of its parts that lacks members: its name, those that count, its minimum.
    pub lacking: Option<(&'a str, u32, u32)>,
    /// Why members disagree, if they do.
    pub conflict: Option<&'a str>,
}

/// Decides whether a group may be tried.
pub trait PreEnqueue: Plugin {
    /// `None`: it may. Otherwise why it waits.
    fn pre_enqueue(&self, group: &GroupFacts<'_>) -> Option<String>;
}

/// What groups are ordered by.
#[derive(Clone, Copy, Debug)]
pub struct OrderFacts {
    /// `spec.priority` of the members.
    pub priority: i32,
    /// Creation of the oldest member.
    pub created: WallTime,
}

/// Orders the groups that may be tried.
pub trait QueueSort: Plugin {
    /// Smaller keys go first.
    fn key(&self, group: &OrderFacts) -> (i64, i64);
}

/// Upstream `DefaultNormalizeScore`: scales so that the largest becomes [`SCORE_MAX`]; `reverse`
/// turns the order round.
pub fn default_normalize(scores: &mut [i64], reverse: bool) {
    let max = scores.iter().copied().max().unwrap_or(0);
    for score in scores {
        let scaled = if max == 0 { 0 } else { *score * SCORE_MAX / max };
        *score = if reverse { SCORE_MAX - scaled } else { scaled };
    }
}
