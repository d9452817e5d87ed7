//! NodeResourcesFit: requests must fit what is left; nodes are scored by how full they are.

use crate::cluster::{CPU, Class, Cluster, EPHEMERAL_STORAGE, MEMORY, NodeIndex, PODS};
use crate::framework::{
    Filter, Plugin, Reads, Reason, Reasons, SCORE_MAX, Score, Status, Term, Terms,
};

/// How fullness becomes a score; upstream `ScoringStrategyType`.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum ScoringStrategy {
    /// Emptier nodes first.
    LeastAllocated,
    /// Fuller nodes first.
    MostAllocated,
    /// A broken line through these points, utilization ascending.
    RequestedToCapacityRatio(Vec<ShapePoint>),
}

/// A point of the broken line.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct ShapePoint {
    /// Utilization in per cent, 0 to 100.
    pub utilization: i64,
    /// Score, 0 to 100 (the configuration's 0 to 10, times ten, as upstream scales it).
    pub score: i64,
}

/// The plugin with its arguments.
#[derive(Clone, Debug)]
pub struct NodeResourcesFit {
    /// How fullness becomes a score.
    pub strategy: ScoringStrategy,
    /// Resources that count, with weights 1 to 100.
    pub resources: Vec<(Box<str>, i64)>,
}

impl Default for NodeResourcesFit {
    /// Packs, GPUs above all: on a GPU cluster room that is spread out is room that is lost.
    fn default() -> Self {
        let resources = [("cpu", 1), ("memory", 1), ("nvidia.com/gpu", 5)];
        Self {
            strategy: ScoringStrategy::MostAllocated,
            resources: resources.map(|(name, weight)| (name.into(), weight)).into(),
        }
    }
}

impl Plugin for NodeResourcesFit {
    fn name(&self) -> &'static str {
        "NodeResourcesFit"
    }
}

impl Filter for NodeResourcesFit {
    fn reads(&self) -> Reads {
        Reads::Usage
    }

    fn filter(&self, cluster: &Cluster, class: &Class, node: NodeIndex) -> Status {
        let mut reasons = Reasons::new();
        let mut never = false;
        for (resource, amount) in &class.requests {
            let allocatable = cluster.allocatable(*resource, node);
            if cluster.requested(*resource, node) + amount <= allocatable {
                continue;
            }
            // upstream names the pod count first, then cpu, memory, storage, then the others
            if *resource == PODS {
                reasons.insert(0, Reason::TooManyPods);
            } else {
                reasons.push(Reason::Insufficient(*resource));
                never |= *amount > allocatable;
            }
        }
        let unknown = u8::try_from(class.unknown.len()).unwrap_or(u8::MAX);
        reasons.extend((0..unknown).map(Reason::UnknownResource));
        match reasons.is_empty() {
            true => Status::Success,
            false if never || unknown > 0 => Status::UnschedulableAndUnresolvable(reasons),
            false => Status::Unschedulable(reasons),
        }
    }

    fn passes(&self, cluster: &Cluster, class: &Class, node: NodeIndex) -> bool {
        let fits = |(resource, amount): &(_, i64)| {
            cluster.requested(*resource, node) + amount <= cluster.allocatable(*resource, node)
        };
        // GPUs are known after CPU and memory, and scarcer
        class.unknown.is_empty() && class.requests.iter().rev().all(fits)
    }
}

impl Score for NodeResourcesFit {
    fn reads(&self) -> Reads {
        Reads::Usage
    }

    fn terms(&self, cluster: &Cluster, class: &Class) -> Terms {
        let resources = self.resources.iter();
        let known = resources.filter_map(|(name, weight)| {
            let resource = cluster.resources().find(name)?;
            Some(Term { resource, asked: class.asked(resource), weight: *weight })
        });
        let basic = |term: &Term| matches!(term.resource, CPU | MEMORY | EPHEMERAL_STORAGE);
        known.filter(|term| term.asked > 0 || basic(term)).collect()
    }

    fn score(&self, cluster: &Cluster, _: &Class, node: NodeIndex, terms: &[Term]) -> i64 {
        let (mut sum, mut weights) = (0, 0);
        for Term { resource, asked, weight } in terms {
            let capacity = cluster.allocatable(*resource, node);
            if capacity <= 0 {
                continue;
            }
            let score = self.resource_score(cluster.scored(*resource, node) + asked, capacity);
            let counts = score > 0 || !self.is_ratio();
            sum += if counts { score * weight } else { 0 };
            weights += if counts { *weight } else { 0 };
        }
        match weights {
            0 => 0,
            _ if self.is_ratio() => (2 * sum + weights) / (2 * weights), // rounded, as upstream
            _ => sum / weights,
        }
    }
}

impl NodeResourcesFit {
    fn is_ratio(&self) -> bool {
        matches!(self.strategy, ScoringStrategy::RequestedToCapacityRatio(_))
    }

    fn resource_score(&self, requested: i64, capacity: i64) -> i64 {
        match &self.strategy {
            ScoringStrategy::LeastAllocated if requested > capacity => 0,
            ScoringStrategy::LeastAllocated => scaled(capacity - requested, capacity),
            ScoringStrategy::MostAllocated => scaled(requested.min(capacity), capacity),
            ScoringStrategy::RequestedToCapacityRatio(shape) => {
                broken_line(shape, scaled(requested.min(capacity), capacity))
            }
        }
    }
}

/// `part * 100 / whole`, for parts within the whole: quantities end at 2^52, so nothing overflows.
fn scaled(part: i64, whole: i64) -> i64 {
    part * SCORE_MAX / whole
}

/// Upstream `helper.BuildBrokenLinearFunction`.
fn broken_line(shape: &[ShapePoint], at: i64) -> i64 {
    let Some(place) = shape.iter().position(|point| at <= point.utilization) else {
        return shape.last().map_or(0, |point| point.score);
    };
    if place == 0 {
        return shape[0].score;
    }
    let (low, high) = (shape[place - 1], shape[place]);
    let (rise, run) = (high.score - low.score, high.utilization - low.utilization);
    low.score + rise * (at - low.utilization) / run
}
