//! Read-only answers about the scheduler's beliefs.

use super::Scheduler;
use super::pods::PodState;
use crate::cluster::Cluster;
use crate::fairshare::{QueueIndex, TreeFault, accounts};
use crate::model::Uid;
use crate::queue::{Home, HomeCounts, PodGroup};
use std::collections::BTreeMap;
use std::sync::Arc;

/// Numbers for metrics, as of now.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Gauges {
    /// Groups by home.
    pub groups: HomeCounts,
    /// Pending pods by the home of their group.
    pub pending: HomeCounts,
    /// Pods decided, whose bind is not answered yet.
    pub assumed: usize,
    /// Pods known, of all schedulers.
    pub pods: usize,
    /// Nodes that exist.
    pub nodes: usize,
    /// Calls in flight.
    pub calls: usize,
    /// `(resource, allocatable, requested)` of every GPU resource.
    pub gpus: Vec<(Box<str>, i64, i64)>,
    /// Unschedulable gangs by the reason most nodes gave.
    pub unschedulable_gangs: BTreeMap<&'static str, i64>,
    /// Gangs for which room is kept free.
    pub drains: usize,
    /// Nodes in quarantine.
    pub quarantined: usize,
    /// `(profile, plugin)`: unschedulable pods that the plugin rejected at their last attempt.
    pub rejected_pods: BTreeMap<(u8, &'static str), i64>,
}

/// Numbers that only grow.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Tallies {
    /// Times a gang was found half bound.
    pub half_bound: u64,
    /// Plans to make room that were begun.
    pub plans: u64,
    /// Plans that seated their gang.
    pub seated: u64,
    /// Plans that would have been begun, were evictions allowed.
    pub plans_reported: u64,
    /// Plans given up, by why.
    pub plans_given_up: BTreeMap<&'static str, u64>,
    /// Drains that were begun, and those that ended at their date without seating the gang.
    pub drains: u64,
    /// See `drains`.
    pub drains_expired: u64,
    /// Drains that ended because their gang was placed.
    pub drains_seated: u64,
    /// GPU-milliseconds that stood idle for drains.
    pub drained_gpu_ms: u64,
    /// Gangs that the pair rule spared.
    pub pairs_spared: u64,
    /// Searches for room that found none and did not prove that there is none.
    pub searches_unproved: u64,
    /// Plans that a budget of evictions did not admit.
    pub budget_stops: u64,
    /// Pods that were given notice.
    pub victims: u64,
    /// Half-bound gangs that were rolled back.
    pub rolled_back: u64,
    /// Pods that failed to start where they were bound, by how.
    pub failed_starts: BTreeMap<&'static str, u64>,
    /// Quarantines of nodes that were begun, ended, or not begun, by the word for it.
    pub quarantines: BTreeMap<&'static str, u64>,
    /// Pods ended as they had run for as long as their queue lets them.
    pub ended_by_limit: u64,
    /// Pods refused, by the word for why.
    pub refused: BTreeMap<&'static str, u64>,
    /// Pending pods of groups that entered a home.
    pub entered: HomeCounts,
}

/// What a node offers and what is requested of it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct NodeUse {
    /// Node name.
    pub node: Arc<str>,
    /// Resource name.
    pub resource: Box<str>,
    /// Allocatable.
    pub allocatable: i64,
    /// Requested, assumed pods included.
    pub requested: i64,
}

/// What a queue, or one of its users, deserves and holds of a resource.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct QueueShare {
    /// "nlp" for a queue, "nlp/alice" for its user alice, "root" for the cluster.
    pub queue: String,
    /// Resource name.
    pub resource: Box<str>,
    /// Deserved share in thousandths of the base unit.
    pub deserved_milli: i128,
    /// Room held, in base units; room that is being made included.
    pub allocated: i64,
}

impl Scheduler {
    /// Shares as of the last cycle, queues before what is below them. O(queues x resources).
    pub fn shares(&mut self) -> Vec<QueueShare> {
        let queues: Vec<QueueIndex> = self.fair.shape().collect();
        let resources = self.cluster.resources();
        let shared = resources.iter().filter(|resource| accounts(resources.name(*resource)));
        let mut shares = Vec::new();
        for resource in shared {
            for queue in &queues {
                shares.push(QueueShare {
                    queue: self.fair.name(*queue),
                    resource: resources.name(resource).into(),
                    deserved_milli: self.fair.deserved_milli(*queue, resource),
                    allocated: self.fair.allocated(*queue, resource),
                });
            }
        }
        shares
    }

    /// What is asked for in the place of pods that were evicted and may come again: for which leaf,
    /// of which resource, how much.
    pub fn awaited(&self) -> impl Iterator<Item = (String, &str, i64)> {
        self.awaited.amounts().flat_map(move |(leaf, amounts)| {
            let names = self.cluster.resources();
            amounts.iter().map(move |(at, amount)| (self.fair.name(leaf), names.name(*at), *amount))
        })
    }

    /// What is wrong with the declared queues; while anything is, the last good tree is in force.
    #[must_use]
    pub fn tree_faults(&self) -> &[TreeFault] {
        &self.tree_faults
    }

    /// The cluster as believed.
    #[must_use]
    pub fn cluster(&self) -> &Cluster {
        &self.cluster
    }

    /// Numbers that only grow.
    #[must_use]
    pub fn tallies(&self) -> Tallies {
        Tallies { entered: self.queue.entered(), ..self.tallies.clone() }
    }

    /// Numbers for metrics. O(groups + nodes).
    #[must_use]
    pub fn gauges(&self) -> Gauges {
        let resources = self.cluster.resources();
        let gpus = resources.iter().filter(|r| resources.is_gpu(*r));
        let gpus = gpus.map(|resource| {
            let (allocatable, requested) = self.cluster.totals(resource);
            (resources.name(resource).into(), allocatable, requested)
        });
        let mut gauges = Gauges {
            groups: self.queue.counts(),
            pods: self.pods.len(),
            nodes: self.cluster.node_count(),
            calls: self.calls.len(),
            drains: self.drains.len(),
            quarantined: self.quarantined().count(),
            gpus: gpus.collect(),
            ..Gauges::default()
        };
        for (_, group) in self.groups.iter() {
            gauges.assumed += group.counts.assumed as usize;
            gauges.pending.add(group.home, group.counts.waiting as usize);
            if group.home == Home::Unschedulable {
                self.count_rejection(group, &mut gauges);
            }
        }
        gauges
    }

    fn count_rejection(&self, group: &PodGroup, gauges: &mut Gauges) {
        if group.is_gang() {
            *gauges.unschedulable_gangs.entry(group.main_reason).or_default() += 1;
        }
        let profile = &self.profiles[usize::from(group.profile)];
        for plugin in profile.rejecting(group.rejected_by) {
            let pods = gauges.rejected_pods.entry((group.profile, plugin)).or_default();
            *pods += i64::from(group.counts.waiting);
        }
    }

    /// The node a pod of ours takes room on, assumed or bound.
    #[must_use]
    pub fn node_of(&self, pod: Uid) -> Option<&str> {
        let pod = self.pods.get(self.pods.find(pod)?);
        pod.node.map(|node| &*self.cluster.node(node).name)
    }

    /// Whether a pod of ours is decided and its bind not answered yet.
    #[must_use]
    pub fn is_assumed(&self, pod: Uid) -> bool {
        let pod = self.pods.find(pod).map(|pod| self.pods.get(pod).state);
        matches!(pod, Some(PodState::Assumed(_)))
    }

    /// Names of the nodes in quarantine.
    pub fn quarantined_nodes(&self) -> impl Iterator<Item = &str> {
        self.quarantined().map(|node| &*self.cluster.node(node).name)
    }

    /// Nodes on which more is requested than allocatable.
    #[must_use]
    pub fn oversubscribed(&self) -> Vec<NodeUse> {
        let mut found = Vec::new();
        for (node, entry) in self.cluster.live_nodes() {
            for resource in self.cluster.resources().iter() {
                let allocatable = self.cluster.allocatable(resource, node);
                let requested = self.cluster.requested(resource, node);
                if requested > allocatable {
                    let resource = self.cluster.resources().name(resource).into();
                    let node = entry.name.clone();
                    found.push(NodeUse { node, resource, allocatable, requested });
                }
            }
        }
        found
    }
}
