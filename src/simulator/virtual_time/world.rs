//! What is true in a run: nodes, pods and gangs, without the scheduler's opinion of them.

use super::fragments::Typical;
use super::gpus::{Gpus, WHOLE};
use super::inputs::{GangSpec, Inputs, Shape, Template};
use super::outcome::Holding;
use super::policy::{PARTITION, Setting};
use super::progress::Progress;
use super::shared::Shared;
use crate::model::{
    DeviceSet, GroupSpec, Node, Phase, Pod, PodClass, PodKey, ResourceList, Uid, WallTime,
};
use rustc_hash::FxHashMap;
use std::sync::Arc;

/// A life of a pod.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Stage {
    /// Created, without a node.
    Waiting,
    /// On a node, about to run.
    Bound,
    /// At work.
    Running,
    /// Evicted, not gone yet.
    Stopping,
    /// Ended well, not deleted yet.
    Succeeded,
    /// Deleted.
    Gone,
}

/// What is true of a pod. Times are in milliseconds from the start of the run.
#[derive(Clone, Copy, Debug)]
pub struct PodTruth {
    /// Place of its gang in [`Inputs::gangs`].
    pub gang: u32,
    /// Its place in the gang.
    pub member: u32,
    /// How many pods were this member before.
    pub replaced: u32,
    /// Where in its life it is.
    pub stage: Stage,
    /// When it was created.
    pub created_ms: i64,
    /// When it was bound; 0 before.
    pub bound_ms: i64,
    ended_ms: i64,
    /// Place of its node in [`ClusterSpec::nodes`](super::ClusterSpec::nodes), once bound.
    pub node: Option<u32>,
    /// The GPUs that its bind gave it; none, if it said none.
    pub devices: DeviceSet,
}

/// The truth of a run at one time.
pub struct Moment<'a> {
    /// Milliseconds from the start.
    pub now_ms: i64,
    /// Gangs that have ended.
    pub ended: u64,
    pub(super) world: &'a World<'a>,
}

impl Moment<'_> {
    /// GPUs of bound pods of a queue, those that stop included; by place in [`Inputs::tenants`].
    /// O(1).
    #[must_use]
    pub fn held(&self, tenant: usize) -> Gpus {
        self.world.tallies[tenant].held
    }

    /// GPUs of the pods of a queue that wait; by place in [`Inputs::tenants`]. O(1).
    #[must_use]
    pub fn pending(&self, tenant: usize) -> Gpus {
        self.world.tallies[tenant].pending
    }

    /// Every pod that there is. O(pods that ever were).
    pub fn pods(&self) -> impl Iterator<Item = &PodTruth> {
        self.world.pods.iter().filter(|pod| pod.stage != Stage::Gone)
    }
}

/// Place of a node, and which of its GPUs.
pub(super) type Seat = (u32, DeviceSet);

#[derive(Clone, Debug)]
pub(super) struct Gang {
    pub(super) progress: Progress,
    /// by member, the present pod
    pub(super) pods: Vec<u32>,
    pub(super) started_ms: Option<i64>,
    pub(super) ended_ms: Option<i64>,
    /// counts the ends that were foreseen: all but the last are void
    pub(super) forecast: u32,
    pub(super) evicted_pods: u32,
    pub(super) restarts: u32,
    /// thousandths of GPUs, times milliseconds
    pub(super) lost_milli_ms: i128,
    class: Arc<PodClass>,
    last_class: Arc<PodClass>,
}

struct NodeTruth {
    name: Arc<str>,
    free: ResourceList,
    shared: Shared<u32>,
    /// pods that hold room there
    pods: Vec<u32>,
    lost: bool,
    /// as reckoned since its room last changed
    fragments: Option<f64>,
}

/// GPUs by queue.
#[derive(Clone, Copy, Debug, Default)]
pub(super) struct Tally {
    pub(super) held: Gpus,
    pub(super) pending: Gpus,
    /// pods that wait
    pub(super) waiting: i64,
}

pub(super) struct World<'a> {
    pub(super) inputs: &'a Inputs,
    queued: bool,
    pub(super) gangs: Vec<Gang>,
    pods: Vec<PodTruth>,
    nodes: Vec<NodeTruth>,
    by_name: FxHashMap<Box<str>, u32>,
    /// by queue
    pub(super) tallies: Vec<Tally>,
    pub(super) held_milli: i64,
    /// thousandths of GPUs of the members that do work
    pub(super) at_work_milli: i64,
    partitioned: bool,
}

impl<'a> World<'a> {
    pub(super) fn new(inputs: &'a Inputs, setting: &Setting) -> Self {
        let mut classes: FxHashMap<ClassKey, Arc<PodClass>> = FxHashMap::default();
        let gangs = inputs.gangs.iter().zip(&inputs.tenant_of);
        let gangs = gangs.map(|(spec, tenant)| {
            let owner = setting.partitioned.then_some(*tenant);
            let mut class = |shape: &Shape| {
                let selector = Arc::as_ptr(&spec.selector).cast::<()>() as usize;
                let key = (shape.requests.clone(), owner, selector);
                let make = || Arc::new(class_of(inputs, spec, shape, owner));
                classes.entry(key).or_insert_with(make).clone()
            };
            Gang {
                progress: Progress::new(spec),
                pods: Vec::new(),
                started_ms: None,
                ended_ms: None,
                forecast: 0,
                evicted_pods: 0,
                restarts: 0,
                lost_milli_ms: 0,
                class: class(&spec.shape),
                last_class: class(&spec.last),
            }
        });
        let gangs = gangs.collect();
        let rooms = inputs.cluster.room().into_iter().zip(inputs.cluster.shared());
        let node = |(node, (free, shared)): (&Node, (ResourceList, DeviceSet))| NodeTruth {
            name: (*node.name).into(),
            free,
            shared: Shared::of(shared),
            pods: Vec::new(),
            lost: false,
            fragments: None,
        };
        let nodes = setting.nodes.iter().zip(rooms);
        let names = setting.nodes.iter().zip(0..).map(|(node, index)| (node.name.clone(), index));
        Self {
            inputs,
            queued: setting.queued,
            gangs,
            pods: Vec::new(),
            nodes: nodes.map(node).collect(),
            by_name: names.collect(),
            tallies: vec![Tally::default(); inputs.tenants.len()],
            held_milli: 0,
            at_work_milli: 0,
            partitioned: setting.partitioned,
        }
    }

    /// The pods of a gang have been created.
    pub(super) fn is_present(&self, gang: u32) -> bool {
        !self.gangs[gang as usize].pods.is_empty()
    }

    /// Whether there is, or was, any pod.
    pub(super) fn has_pods(&self) -> bool {
        !self.pods.is_empty()
    }

    /// Pods that hold room on a node.
    pub(super) fn pods_on(&self, node: u32) -> &[u32] {
        &self.nodes[node as usize].pods
    }

    /// For each node, which queues hold how much of its GPUs: first whole ones, in the order of
    /// their pods' binds, then shared ones.
    pub(super) fn map(&self) -> Vec<Vec<Holding>> {
        let held =
            |node: &NodeTruth| {
                let whole = node.pods.iter().map(|pod| self.gpus(*pod));
                let whole = whole.filter(|(_, gpus)| gpus.whole > 0).map(|(tenant, gpus)| {
                    Holding { tenant, device: None, milli: gpus.whole * WHOLE }
                });
                let shared = node.shared.given().map(|(device, pod, milli)| Holding {
                    tenant: self.gpus(pod).0,
                    device: Some(device),
                    milli,
                });
                whole.chain(shared).collect()
            };
        self.nodes.iter().map(held).collect()
    }

    /// GPUs that are free where a typical pod cannot use them; none on a lost node. O(nodes), and
    /// O(kinds) for each node whose room has changed.
    pub(super) fn fragments(&mut self, typical: &Typical) -> f64 {
        let there = self.nodes.iter_mut().filter(|node| !node.lost);
        let each = there.map(|NodeTruth { fragments, free, shared, .. }| {
            *fragments.get_or_insert_with(|| typical.fragments(free, shared))
        });
        each.sum()
    }

    /// The node is lost, or back again.
    pub(super) fn set_lost(&mut self, node: u32, lost: bool) {
        self.nodes[node as usize].lost = lost;
    }

    pub(super) fn is_lost(&self, node: u32) -> bool {
        self.nodes[node as usize].lost
    }

    /// One member more or less of a gang runs from now on. What is lost by it, in milliseconds of
    /// all its members.
    pub(super) fn change(&mut self, now: i64, gang: u32, by: i64) -> i64 {
        let spec = self.spec(gang);
        let each = spec.gpus().each(spec.max_member).milli();
        let progress = &mut self.gangs[gang as usize].progress;
        let before = progress.at_work();
        let lost = progress.change(now, by);
        self.at_work_milli += each * (progress.at_work() - before);
        lost
    }

    /// A gang has ended: none of its members does work any more.
    pub(super) fn rest(&mut self, gang: u32) {
        let spec = self.spec(gang);
        let each = spec.gpus().each(spec.max_member).milli();
        self.at_work_milli -= each * self.gangs[gang as usize].progress.at_work();
    }

    pub(super) fn node(&self, name: &str) -> u32 {
        *self.by_name.get(name).expect("a pod is bound to a node that exists")
    }

    pub(super) fn pod(&self, pod: u32) -> &PodTruth {
        &self.pods[pod as usize]
    }

    pub(super) fn spec(&self, gang: u32) -> &'a GangSpec {
        &self.inputs.gangs[gang as usize]
    }

    pub(super) fn gang(&mut self, gang: u32) -> &mut Gang {
        &mut self.gangs[gang as usize]
    }

    fn gpus(&self, pod: u32) -> (usize, Gpus) {
        let pod = self.pod(pod);
        let tenant = self.inputs.tenant_of[pod.gang as usize];
        (tenant, self.spec(pod.gang).shape_of(pod.member).gpus)
    }

    /// A pod is created, for a member that has none or had one before.
    pub(super) fn create(&mut self, now: i64, gang: u32, member: u32) -> u32 {
        let pod = u32::try_from(self.pods.len()).expect("fewer than 2^32 pods");
        let before = self.gangs[gang as usize].pods.get(member as usize).copied();
        let replaced = before.map_or(0, |before| self.pod(before).replaced + 1);
        let old = self.spec(gang).template(member).and_then(|like| like.before.as_ref());
        let created_ms = old.filter(|_| before.is_none()).map_or(now, |old| old.created_ms);
        self.pods.push(PodTruth {
            gang,
            member,
            replaced,
            stage: Stage::Waiting,
            created_ms,
            bound_ms: 0,
            ended_ms: 0,
            node: None,
            devices: DeviceSet::EMPTY,
        });
        let pods = &mut self.gang(gang).pods;
        match pods.get_mut(member as usize) {
            Some(slot) => *slot = pod,
            None => pods.push(pod),
        }
        let (tenant, gpus) = self.gpus(pod);
        self.tallies[tenant].pending.add(gpus, 1);
        self.tallies[tenant].waiting += 1;
        pod
    }

    /// Moves a pod on in its life and keeps account of the room.
    ///
    /// # Panics
    /// If a node is given more than it has, or one of its GPUs: the scheduler has broken I1 or D1.
    pub(super) fn advance(&mut self, now: i64, pod: u32, stage: Stage, to: Option<Seat>) {
        let old = std::mem::replace(&mut self.pods[pod as usize].stage, stage);
        let (tenant, gpus) = self.gpus(pod);
        let truth = &mut self.pods[pod as usize];
        if let Some((node, devices)) = to {
            (truth.node, truth.bound_ms, truth.devices) = (Some(node), now, devices);
        }
        if matches!(stage, Stage::Succeeded | Stage::Gone) && old != Stage::Succeeded {
            truth.ended_ms = now;
        }
        let holds = |stage| matches!(stage, Stage::Bound | Stage::Running | Stage::Stopping);
        if old == Stage::Waiting {
            self.tallies[tenant].pending.add(gpus, -1);
            self.tallies[tenant].waiting -= 1;
        }
        let sign = i64::from(holds(stage)) - i64::from(holds(old));
        if sign != 0 {
            self.tallies[tenant].held.add(gpus, sign);
            self.held_milli += sign * gpus.milli();
            self.take_room(pod, sign);
        }
    }

    fn take_room(&mut self, pod: u32, sign: i64) {
        let PodTruth { gang, member, node, devices, .. } = self.pods[pod as usize];
        let spec = self.spec(gang);
        let shape = spec.shape_of(member);
        let node = &mut self.nodes[node.expect("what holds room is bound") as usize];
        node.fragments = None;
        if sign > 0 {
            node.pods.push(pod);
        } else {
            node.pods.retain(|other| *other != pod);
        }
        for (resource, amount) in &shape.requests {
            let free = node.free.iter_mut().find(|(name, _)| name == resource);
            let (_, free) = free.expect("the node offers what its pods ask for");
            *free -= sign * amount;
            assert!(
                *free >= 0,
                "I1: node {} has no room for {}/{} ({resource})",
                node.name,
                spec.namespace,
                spec.name
            );
        }
        if shape.part.is_none() {
            return;
        }
        if sign < 0 {
            return node.shared.take_back(pod);
        }
        if let Err(device) = node.shared.give(pod, devices, shape.of_each_milli()) {
            panic!(
                "D1: {}/{} is given GPU {device} of node {}, which is not shared or given away",
                spec.namespace, spec.name, node.name
            );
        }
    }

    /// The scheduler gives a pod these GPUs of the node that it is to be bound to.
    ///
    /// # Panics
    /// If the pod asks for shared GPUs, and these are more or fewer: D1 is broken.
    pub(super) fn check_given(&self, pod: u32, devices: DeviceSet) {
        let PodTruth { gang, member, .. } = self.pods[pod as usize];
        let spec = self.spec(gang);
        let Some(part) = spec.shape_of(member).part else { return };
        assert!(
            devices.len() == usize::from(part.count),
            "D1: {}/{} asks for {} GPUs and is given {}",
            spec.namespace,
            spec.name,
            part.count,
            devices.len()
        );
    }

    /// The pod as the API server shows it.
    pub(super) fn object(&self, pod: u32) -> Pod {
        let truth = self.pod(pod);
        let spec = self.spec(truth.gang);
        let like = spec.template(truth.member);
        let base = like.map_or_else(|| self.plain(truth), |like| self.like(truth, like));
        let name = match (truth.replaced, like) {
            (0, Some(like)) if !like.pod.key.name.is_empty() => like.pod.key.name.to_string(),
            (0, _) => format!("{}-{}", spec.name, truth.member),
            (replaced, _) => format!("{}-{}-r{replaced}", spec.name, truth.member),
        };
        let wall = |at: i64| Some(WallTime(self.inputs.start.0 + at));
        let ended = truth.stage == Stage::Succeeded;
        Pod {
            key: PodKey { namespace: spec.namespace.clone(), name: name.into() },
            uid: uid(pod),
            profile: Some(0),
            node: truth.node.map(|node| (*self.nodes[node as usize].name).into()),
            phase: if ended { Phase::Succeeded } else { Phase::Live },
            deleting: truth.stage == Stage::Stopping,
            devices: truth.devices,
            started: truth.stage == Stage::Running,
            priority: if self.queued { base.priority } else { 0 },
            termination_ms: self.inputs.cluster.timing.stop_ms * 5 / 4,
            created: WallTime(self.inputs.start.0 + truth.created_ms),
            bound_at: truth.node.and_then(|_| wall(truth.bound_ms)),
            finished_at: if ended { wall(truth.ended_ms) } else { None },
            controller: Some(Uid((1 << 64) + u128::from(truth.gang))),
            queue: spec.queue.clone().filter(|_| self.queued),
            ..base
        }
    }

    /// A member of a gang that is described by what its members ask for.
    fn plain(&self, truth: &PodTruth) -> Pod {
        let (spec, gang) = (self.spec(truth.gang), &self.gangs[truth.gang as usize]);
        let is_last = truth.member + 1 == spec.members;
        let class = if is_last { &gang.last_class } else { &gang.class };
        let group = (spec.members > 1).then(|| {
            Ok(GroupSpec {
                name: spec.name.clone(),
                min_member: spec.min_member,
                max_member: Some(spec.max_member),
            })
        });
        let class = PodClass::clone(class);
        Pod { group, class, priority: spec.priority, ..Pod::default() }
    }

    /// A member that is an object of the workload.
    fn like(&self, truth: &PodTruth, like: &Template) -> Pod {
        let mut pod = Pod { started: false, failed_as: None, told: 0, ..like.pod.clone() };
        if self.partitioned {
            let tenant = self.inputs.tenant_of[truth.gang as usize];
            let own = (PARTITION.into(), self.inputs.tenants[tenant].clone());
            pod.class.node_selector.push(own);
            pod.class.node_selector.sort();
        }
        pod
    }
}

/// Requests, owner of the node, and the selector's identity.
type ClassKey = (ResourceList, Option<usize>, usize);

fn class_of(
    inputs: &Inputs,
    spec: &GangSpec,
    Shape { requests, part, .. }: &Shape,
    owner: Option<usize>,
) -> PodClass {
    let of = |name: &str| requests.iter().find(|(n, _)| &**n == name).map(|(_, amount)| *amount);
    let scored = [of("cpu").unwrap_or(100), of("memory").unwrap_or(200 << 20)];
    let mut node_selector = spec.selector.to_vec();
    node_selector.extend(owner.map(|o| (PARTITION.into(), inputs.tenants[o].clone())));
    node_selector.sort();
    PodClass {
        profile: Some(0),
        requests: requests.clone(),
        non_zero: scored,
        non_zero_asked: scored,
        node_selector,
        gpu_part: *part,
        ..PodClass::default()
    }
}

/// The uid of a pod, and back.
pub(super) fn uid(pod: u32) -> Uid {
    Uid(u128::from(pod) + 1)
}

pub(super) fn pod_of(uid: Uid) -> u32 {
    u32::try_from(uid.0 - 1).expect("uids come from pods")
}
