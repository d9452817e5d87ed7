//! Policies to compare: what each makes of the same cluster, queues and gangs.

use super::gpus::{Gpus, gpus};
use super::inputs::{Inputs, gpus_in};
use crate::fairshare::accounts;
use crate::model::queue::{DEFAULT_QUEUE, Ordering, Preemption};
use crate::model::{Node, QueueSpec, ResourceList};
use crate::scheduler::Evictions;
use std::collections::BTreeMap;

/// Label of a node under the policy `partitions`: the queue that owns it.
pub(super) const PARTITION: &str = "mss-scheduler.io/partition";

/// A way of sharing the cluster.
#[derive(Clone, Copy, Debug)]
pub struct Policy {
    /// As it is named on the command line.
    pub name: &'static str,
    /// What it does.
    pub about: &'static str,
    pub(super) setting: fn(&Inputs) -> Setting,
}

/// Every policy.
pub const POLICIES: &[Policy] = &[
    Policy {
        name: "fair-share",
        about: "the queues as they are declared: shares, borrowing, reclaim, elastic gangs",
        setting: fair_share,
    },
    Policy {
        name: "fifo",
        about: "one queue in the order of arrival; what does not fit is passed over; no evictions",
        setting: fifo,
    },
    Policy {
        name: "partitions",
        about: "each queue has its guarantee as nodes of its own; nothing is shared",
        setting: partitions,
    },
];

/// The policies of a list of names.
///
/// # Errors
/// A name that is none, with those that are.
pub fn policies(names: &[String]) -> Result<Vec<Policy>, String> {
    let find = |name: &String| {
        POLICIES.iter().find(|policy| policy.name == name.as_str()).copied().ok_or_else(|| {
            let known: Vec<&str> = POLICIES.iter().map(|policy| policy.name).collect();
            format!("no policy is called {name:?}: choose among {}", known.join(", "))
        })
    };
    let mut found: Vec<Policy> = Vec::new();
    for name in names {
        let policy = find(name)?;
        if !found.iter().any(|other| other.name == policy.name) {
            found.push(policy);
        }
    }
    Ok(found)
}

/// What a run starts from, beside the gangs.
#[derive(Clone, Debug)]
pub(super) struct Setting {
    pub(super) nodes: Vec<Node>,
    pub(super) queues: Vec<QueueSpec>,
    pub(super) evictions: Evictions,
    /// pods name their queue, and their priority counts
    pub(super) queued: bool,
    /// pods run on nodes of their own queue alone
    pub(super) partitioned: bool,
}

fn fair_share(inputs: &Inputs) -> Setting {
    Setting {
        nodes: inputs.cluster.nodes.clone(),
        queues: inputs.queues.clone(),
        evictions: Evictions::Allowed,
        queued: true,
        partitioned: false,
    }
}

fn fifo(inputs: &Inputs) -> Setting {
    let queue = QueueSpec {
        name: DEFAULT_QUEUE.into(),
        order: Ordering::Fifo,
        preemption: Preemption { may_evict: false, ..Preemption::default() },
        ..QueueSpec::default()
    };
    Setting {
        nodes: inputs.cluster.nodes.clone(),
        queues: vec![queue],
        evictions: Evictions::Off,
        queued: false,
        partitioned: false,
    }
}

fn partitions(inputs: &Inputs) -> Setting {
    let mut nodes = inputs.cluster.nodes.clone();
    let mut owned: BTreeMap<Box<str>, ResourceList> = BTreeMap::new();
    let parts = parts(inputs);
    let owners = owners(inputs, &parts).into_iter().zip(inputs.cluster.room());
    for (node, (owner, room)) in nodes.iter_mut().zip(owners) {
        let Some(owner) = owner else { continue };
        let sums = owned.entry(parts[owner].0.clone()).or_default();
        for (resource, amount) in room.iter().filter(|(name, _)| accounts(name)) {
            match sums.binary_search_by(|(name, _)| name.cmp(resource)) {
                Ok(place) => sums[place].1 += amount,
                Err(place) => sums.insert(place, (resource.clone(), *amount)),
            }
        }
        node.labels.push((PARTITION.into(), parts[owner].0.clone()));
        node.labels.sort();
    }
    let queue = |spec: &QueueSpec| {
        let own = owned.get(&spec.name).cloned().unwrap_or_default();
        QueueSpec {
            parent: None,
            weight: 1,
            over_quota_weight: None,
            quota: own.clone(),
            limit: own,
            lend_limit: ResourceList::new(),
            borrow_limit: ResourceList::new(),
            priority: 0,
            ..spec.clone()
        }
    };
    Setting {
        nodes,
        queues: inputs.queues.iter().map(queue).collect(),
        evictions: Evictions::Allowed,
        queued: true,
        partitioned: true,
    }
}

/// How much of the cluster each queue owns: its guaranteed GPUs without those of its children, or
/// if no queue has a guarantee, a part by weight, down the tree.
fn parts(inputs: &Inputs) -> Vec<(Box<str>, f64)> {
    let specs = &inputs.queues;
    let children = |name: &str| -> Vec<&QueueSpec> {
        specs.iter().filter(|spec| spec.parent.as_deref() == Some(name)).collect()
    };
    let guaranteed = |spec: &QueueSpec| Gpus::of(&spec.quota).milli();
    if specs.iter().any(|spec| guaranteed(spec) > 0) {
        let own = |spec: &QueueSpec| {
            let below: i64 = children(&spec.name).into_iter().map(guaranteed).sum();
            (spec.name.clone(), gpus((guaranteed(spec) - below).max(0)))
        };
        return specs.iter().map(own).collect();
    }
    let mut parts = Vec::new();
    let top: Vec<&QueueSpec> = specs.iter().filter(|spec| spec.parent.is_none()).collect();
    let mut left = vec![(top, inputs.gpus() as f64)];
    while let Some((siblings, amount)) = left.pop() {
        let weights: f64 = siblings.iter().map(|spec| f64::from(spec.weight)).sum();
        for spec in siblings {
            let part = amount * f64::from(spec.weight) / weights;
            match children(&spec.name) {
                below if below.is_empty() => parts.push((spec.name.clone(), part)),
                below => left.push((below, part)),
            }
        }
    }
    parts.sort_by(|a, b| a.0.cmp(&b.0));
    parts
}

/// For each node the place of its owner. Parts that exceed the cluster are scaled down together;
/// the parts lie one after the other, and a node belongs to the one that its middle lies in.
fn owners(inputs: &Inputs, parts: &[(Box<str>, f64)]) -> Vec<Option<usize>> {
    let wanted: f64 = parts.iter().map(|(_, gpus)| gpus).sum();
    let scale = if wanted > 0.0 { (inputs.gpus() as f64 / wanted).min(1.0) } else { 0.0 };
    let mut ends = Vec::with_capacity(parts.len());
    let mut end = 0.0;
    for (_, gpus) in parts {
        end += gpus * scale;
        ends.push(end);
    }
    let mut begin = 0.0;
    let owner = |node: &Node| {
        let has = gpus_in(&node.allocatable) as f64;
        let middle = begin + has / 2.0;
        begin += has;
        ends.iter().position(|end| middle < *end)
    };
    inputs.cluster.nodes.iter().map(owner).collect()
}
