//! A profile: the plugins that serve one scheduler name.

use super::narrowing::Narrowed;
use super::{Filter, PreEnqueue, QueueSort, Reads, SCORE_MAX, Score, Scored, Status, Terms};
use crate::cluster::{Class, Cluster, NodeIndex};
use crate::model::DeviceSet;
use std::fmt;

/// Plugins in order. Filters and scores that read facts come before those that read usage,
/// whatever the order given: their answers are kept per class and node.
pub struct Profile {
    /// `spec.schedulerName` it serves.
    pub scheduler_name: Box<str>,
    queue_sort: Box<dyn QueueSort>,
    pre_enqueue: Vec<Box<dyn PreEnqueue>>,
    filters: Vec<Box<dyn Filter>>,
    /// how many of `filters` read facts
    facts: usize,
    scores: Vec<(Box<dyn Score>, i64)>,
    /// how many of `scores` read facts
    facts_scores: usize,
    draws: bool,
    is_fine: bool,
}

/// The plugins of a profile, by extension point.
pub struct Plugins {
    /// The one order of groups.
    pub queue_sort: Box<dyn QueueSort>,
    /// All must agree before a group is tried.
    pub pre_enqueue: Vec<Box<dyn PreEnqueue>>,
    /// Asked per node; at most 31.
    pub filters: Vec<Box<dyn Filter>>,
    /// Asked per node that passed, with weights 1 to 100.
    pub scores: Vec<(Box<dyn Score>, i64)>,
}

impl Profile {
    /// A profile of these plugins.
    ///
    /// # Panics
    /// With more than 31 filters: rejections are kept as bits.
    #[must_use]
    pub fn new(scheduler_name: &str, plugins: Plugins) -> Self {
        let (mut filters, mut scores) = (plugins.filters, plugins.scores);
        scores.sort_by_key(|(score, _)| score.reads() == Reads::Usage);
        let facts_scores = scores.iter().filter(|(s, _)| s.reads() == Reads::Facts).count();
        assert!(filters.len() <= 31, "rejections are kept as bits of a u32");
        filters.sort_by_key(|filter| filter.reads() == Reads::Usage);
        let facts = filters.iter().filter(|filter| filter.reads() == Reads::Facts).count();
        Self {
            scheduler_name: scheduler_name.into(),
            queue_sort: plugins.queue_sort,
            pre_enqueue: plugins.pre_enqueue,
            filters,
            facts,
            draws: scores.iter().any(|(score, _)| score.draws()),
            is_fine: scores.iter().any(|(score, _)| score.is_fine()),
            scores,
            facts_scores,
        }
    }

    /// The order of groups.
    #[must_use]
    pub fn queue_sort(&self) -> &dyn QueueSort {
        &*self.queue_sort
    }

    /// Plugins asked before a group is tried.
    pub fn pre_enqueue(&self) -> impl Iterator<Item = &dyn PreEnqueue> {
        self.pre_enqueue.iter().map(|plugin| &**plugin)
    }

    /// Filters, in the order they speak.
    pub fn filters(&self) -> impl Iterator<Item = &dyn Filter> {
        self.filters.iter().map(|plugin| &**plugin)
    }

    /// The first filter that rejects a node, with its place and answer.
    #[must_use]
    pub fn first_rejection(
        &self,
        cluster: &Cluster,
        class: &Class,
        node: NodeIndex,
    ) -> Option<(usize, Status)> {
        self.first_rejection_of(u32::MAX, cluster, class, node)
    }

    /// The places of the filters that read usage, as bits.
    pub(super) fn usage_filters(&self) -> u32 {
        u32::MAX << self.facts
    }

    /// The first of these filters, by their places, that rejects a node.
    pub(super) fn first_rejection_of(
        &self,
        places: u32,
        cluster: &Cluster,
        class: &Class,
        node: NodeIndex,
    ) -> Option<(usize, Status)> {
        let from = places.trailing_zeros() as usize;
        let asked = self.filters.iter().enumerate().skip(from);
        let mut asked = asked.filter(|(place, _)| places & 1 << place != 0);
        asked.find_map(|(place, filter)| {
            let status = filter.filter(cluster, class, node);
            (!status.is_success()).then_some((place, status))
        })
    }

    /// The nodes that the filters leave before they see one.
    pub(super) fn narrow<'a>(&self, class: &'a Class) -> Narrowed<'a> {
        let mut narrowed = Narrowed::default();
        for (place, filter) in self.filters.iter().enumerate() {
            narrowed.merge(place, filter.name(), filter.narrow(class));
        }
        narrowed
    }

    /// Names of the filters behind the bits of a diagnosis.
    pub fn rejecting(&self, rejected_by: u32) -> impl Iterator<Item = &'static str> {
        let places = self.filters.iter().enumerate();
        places.filter(move |(at, _)| rejected_by & 1 << at != 0).map(|(_, filter)| filter.name())
    }

    /// Whether the filters of one kind let the class on the node.
    #[must_use]
    pub fn passes(&self, reads: Reads, cluster: &Cluster, class: &Class, node: NodeIndex) -> bool {
        let filters = match reads {
            Reads::Facts => &self.filters[..self.facts],
            Reads::Usage => &self.filters[self.facts..],
        };
        filters.iter().all(|filter| filter.passes(cluster, class, node))
    }

    /// The terms of each score that reads usage, for one class.
    #[must_use]
    pub fn usage_terms(&self, cluster: &Cluster, class: &Class) -> Vec<Terms> {
        let scores = self.scores[self.facts_scores..].iter();
        scores.map(|(score, _)| score.terms(cluster, class)).collect()
    }

    /// Whether scores come in parts of a point, [`super::SCORE_PARTS`] of them.
    #[must_use]
    pub fn is_fine(&self) -> bool {
        self.is_fine
    }

    /// Adds the weighted scores that read usage to `sums`, one per node of `nodes`, in parts of a
    /// point if they are fine; `terms` are [`Profile::usage_terms`].
    pub fn add_usage_scores(
        &self,
        (cluster, class): (&Cluster, &Class),
        nodes: &[NodeIndex],
        terms: &[Terms],
        sums: &mut [i64],
    ) {
        let scores = self.scores[self.facts_scores..].iter().zip(terms);
        for ((score, weight), terms) in scores {
            let (is_fine, weight) = (self.is_fine, *weight);
            score.add_scores(&Scored { cluster, class, nodes, terms, is_fine, weight }, sums);
        }
    }

    /// Adds the weighted scores that read facts to `sums`, one per node of `nodes`.
    pub fn add_facts_scores(
        &self,
        cluster: &Cluster,
        class: &Class,
        nodes: &[NodeIndex],
        sums: &mut [i64],
    ) {
        for (score, weight) in &self.scores[..self.facts_scores] {
            let terms = score.terms(cluster, class);
            let raw = nodes.iter().map(|node| score.score(cluster, class, *node, &terms));
            let mut scores: Vec<i64> = raw.collect();
            score.normalize(&mut scores);
            for (sum, score) in sums.iter_mut().zip(scores) {
                assert!((0..=SCORE_MAX).contains(&score), "a score is 0 to {SCORE_MAX}");
                *sum += weight * score;
            }
        }
    }

    /// Whether a score draws anew each time.
    #[must_use]
    pub fn draws(&self) -> bool {
        self.draws
    }

    /// Whether a score goes by what was learnt of arrivals.
    #[must_use]
    pub fn learns(&self) -> bool {
        self.scores.iter().any(|(score, _)| score.learns())
    }

    /// The shared devices that a pod of the class takes of a node: the choice of the first score
    /// that has an opinion, or else that of [`Cluster::choose_devices`]. None for a pod that asks
    /// for no part of a GPU.
    #[must_use]
    pub fn devices(&self, cluster: &Cluster, class: &Class, node: NodeIndex) -> DeviceSet {
        if class.spec.gpu_part.is_none() {
            return DeviceSet::EMPTY;
        }
        let mut scores = self.scores.iter();
        let chosen = scores.find_map(|(score, _)| score.devices(cluster, class, node));
        chosen.or_else(|| cluster.choose_devices(class, node)).unwrap_or_default()
    }

    /// Names of the scores with their weights.
    pub fn score_names(&self) -> impl Iterator<Item = (&'static str, i64)> {
        self.scores.iter().map(|(score, weight)| (score.name(), *weight))
    }
}

impl fmt::Debug for Profile {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let filters: Vec<_> = self.filters.iter().map(|filter| filter.name()).collect();
        let scores: Vec<_> = self.score_names().collect();
        f.debug_struct("Profile")
            .field("scheduler_name", &self.scheduler_name)
            .field("filters", &filters)
            .field("scores", &scores)
            .finish_non_exhaustive()
    }
}
