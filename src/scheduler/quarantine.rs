//! Nodes on which pods fail to start again and again take no new pods for a while.
//!
//! Only pods that this process bound speak against a node, and not all with one voice. That the
//! kubelet *refuses* a pod for a reason of the node's own counts once per try of a gang or a
//! controller. That a pod *does not start* may be the fault of its image, so it counts once per
//! user: nobody shuts a node for others by what he runs. A pod that starts takes back what was held
//! against its node.

use super::Scheduler;
use super::calls::{ApiCall, NodeNews};
use super::pods::{PodEntry, PodState};
use crate::cluster::{NodeIndex, PodIndex};
use crate::model::fault::{Fault, is_made};
use crate::model::pod::digest;
use crate::model::{Phase, Pod, Timestamp, Uid};
use std::collections::{BTreeMap, VecDeque};
use std::sync::Arc;

/// Doublings of the time in quarantine.
const DOUBLINGS_MAX: u32 = 16;
/// Pods awaited beyond those that exist, before the list is cleared of those that are settled.
const STARTING_SLACK: usize = 1024;

/// When nodes are quarantined, and for how long.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct QuarantineOptions {
    /// So many failures put a node in quarantine; at least 1.
    pub failures: usize,
    /// How long a failure counts.
    pub window_ms: i64,
    /// How long after its bind a pod that runs not yet counts as failed; `None`: never.
    pub start_deadline_ms: Option<i64>,
    /// How long the first quarantine of a node lasts; each that follows twice as long.
    pub for_ms: i64,
    /// How long one lasts at most.
    pub for_max_ms: i64,
    /// The part of the nodes that may be in quarantine at once, in percent; at least one may.
    pub percent: usize,
}

/// What is held against nodes.
#[derive(Debug, Default)]
pub(super) struct Quarantine {
    suspects: BTreeMap<NodeIndex, Suspect>,
    /// pods that were bound, by the time at which they count as failed
    starting: VecDeque<(Timestamp, Uid)>,
}

#[derive(Debug, Default)]
struct Suspect {
    /// at most as many as put it in quarantine
    failures: Vec<Failure>,
    until: Option<Timestamp>,
    /// quarantines in a row, and when the last one ended
    times: u32,
    ended: Option<Timestamp>,
    /// pods with GPUs were among those that failed, so one without says nothing
    gpu: bool,
}

#[derive(Debug)]
struct Failure {
    at: Timestamp,
    user: Arc<str>,
    workload: u64,
    refused: bool,
    gpu: bool,
}

impl Suspect {
    /// The user of all failures, if they have one alone.
    fn only_user(&self) -> Option<&Arc<str>> {
        let first = &self.failures.first()?.user;
        self.failures.iter().all(|failure| failure.user == *first).then_some(first)
    }
}

/// Whether the kubelet refused a pod for a reason that lies with the node: what it offers is not
/// there. Other reasons (a sysctl, NUMA alignment, a deadline) may lie with the pod.
fn lies_with_node(reason: &str) -> bool {
    let own = ["UnexpectedAdmissionError", "NodeAffinity", "NodeShutdown", "InvalidNodeInfo"];
    own.contains(&reason) || reason.starts_with("OutOf")
}

impl Scheduler {
    /// Begins to wait for a pod to start on the node it is being bound to.
    pub(super) fn await_start(&mut self, index: PodIndex) {
        let Some(options) = self.options.quarantine else { return };
        let now = self.now;
        let pod = self.pods.get_mut(index);
        pod.asked = Some(now);
        if let Some(deadline) = options.start_deadline_ms {
            self.quarantine.starting.push_back((now.plus_ms(deadline), pod.uid));
        }
    }

    /// Takes in whether a pod has started, or never will. Before it loses its node.
    pub(super) fn note_start(&mut self, index: PodIndex, pod: &Pod) {
        let entry = self.pods.get_mut(index);
        let first = pod.started && !entry.started;
        entry.started |= pod.started;
        let failed = pod.phase == Phase::Failed && !entry.started && !pod.deleting;
        let (Some(node), Some(_)) = (entry.node, self.options.quarantine) else { return };
        if pod.node.as_deref() != Some(&*self.cluster.node(node).name) {
            return;
        }
        if first {
            return self.node_works(index, node);
        }
        if failed {
            let reason = pod.failed_as.as_deref().unwrap_or("Failed");
            self.node_fails(index, node, reason, lies_with_node(reason));
        }
    }

    fn asks_gpus(&self, pod: &PodEntry) -> bool {
        let mut requests = self.cluster.class(pod.class).requests.iter();
        requests.any(|(resource, _)| self.cluster.resources().is_gpu(*resource))
    }

    fn node_works(&mut self, index: PodIndex, node: NodeIndex) {
        let gpu = self.asks_gpus(self.pods.get(index));
        let Some(suspect) = self.quarantine.suspects.get_mut(&node) else { return };
        suspect.failures.retain(|failure| failure.gpu && !gpu);
        if !suspect.failures.is_empty() || suspect.gpu && !gpu {
            return;
        }
        if suspect.until.is_some() {
            self.end_quarantine(node, "PodStarted", "a pod has started here");
        }
        self.quarantine.suspects.remove(&node);
    }

    /// Counts a failure of a pod that this process bound to the node.
    fn node_fails(&mut self, index: PodIndex, node: NodeIndex, reason: &str, refused: bool) {
        let (Some(options), now) = (self.options.quarantine, self.now) else { return };
        let Some(asked) = self.pods.get_mut(index).asked.take() else { return };
        if self.cluster.node(node).node.is_none() {
            return; // with the node everything ends that was on it
        }
        let pod = self.pods.get(index);
        let group = pod.group.and_then(|group| self.groups.get(group).name.as_ref());
        let user = pod.user.clone();
        let workload = match (group, pod.controller) {
            (Some(known), _) => digest(&known.name),
            (None, 0) => 0,
            (None, controller) => controller,
        };
        let failure = Failure { at: now, user, workload, refused, gpu: self.asks_gpus(pod) };
        let last = format!("the last {}: {reason}", pod.key());
        let word = if refused { "Refused" } else { "NotStarted" };
        *self.tallies.failed_starts.entry(word).or_default() += 1;
        let suspect = self.quarantine.suspects.entry(node).or_default();
        suspect.failures.retain(|known| now.since_ms(known.at) < options.window_ms);
        let counted = suspect.failures.iter().any(|known| {
            let same = known.user == failure.user && known.refused == refused;
            same && (!refused || known.workload == workload && known.at > asked)
        });
        if counted || suspect.until.is_some() {
            return;
        }
        suspect.failures.push(failure);
        if suspect.failures.len() >= options.failures {
            self.begin_quarantine(node, options, &last);
        }
    }

    fn begin_quarantine(&mut self, node: NodeIndex, options: QuarantineOptions, last: &str) {
        let most = (self.cluster.node_count() * options.percent / 100).max(1);
        let suspects = &self.quarantine.suspects;
        let user = suspects[&node].only_user();
        let mut others = suspects.values().filter(|other| other.until.is_some());
        let full = others.clone().count() >= most
            // one user's word alone keeps one node at most
            || user.is_some() && others.any(|other| other.only_user() == user);
        let suspect = self.quarantine.suspects.get_mut(&node).expect("it has just failed");
        if full {
            suspect.failures.remove(0);
            *self.tallies.quarantines.entry("TooMany").or_default() += 1;
            return;
        }
        let now = self.now;
        if suspect.ended.is_some_and(|ended| now.since_ms(ended) > options.for_max_ms) {
            suspect.times = 0;
        }
        let time = options.for_ms << suspect.times.min(DOUBLINGS_MAX);
        let time = time.min(options.for_max_ms);
        suspect.times += 1;
        suspect.until = Some(now.plus_ms(time));
        suspect.gpu = suspect.failures.iter().any(|failure| failure.gpu);
        let note = format!(
            "no pods are placed here for {} s: {} failed to start, {last}",
            time / 1000,
            suspect.failures.len(),
        );
        self.cluster.set_quarantined(node, true);
        *self.tallies.quarantines.entry("Begun").or_default() += 1;
        self.tell_node(node, NodeNews::Quarantined, &note);
    }

    fn end_quarantine(&mut self, node: NodeIndex, result: &'static str, why: &str) {
        let Some(suspect) = self.quarantine.suspects.get_mut(&node) else { return };
        (suspect.until, suspect.ended) = (None, Some(self.now));
        suspect.failures.clear();
        self.cluster.set_quarantined(node, false);
        self.improved.insert(node);
        *self.tallies.quarantines.entry(result).or_default() += 1;
        let note = format!("pods are placed here again: {why}");
        self.tell_node(node, NodeNews::QuarantineEnded, &note);
    }

    pub(super) fn tell_node(&mut self, node: NodeIndex, news: NodeNews, note: &str) {
        let node = self.cluster.node(node).name.clone();
        self.outbox.push(ApiCall::TellNode { node, news, note: note.into() });
    }

    /// Forgets what was held against a node that is gone.
    pub(super) fn forget_suspect(&mut self, node: NodeIndex, name: &str) {
        let suspect = self.quarantine.suspects.remove(&node);
        if suspect.is_some_and(|suspect| suspect.until.is_some()) {
            let (node, note) = (name.into(), "the node is gone".into());
            self.outbox.push(ApiCall::TellNode { node, news: NodeNews::QuarantineEnded, note });
        }
    }

    /// Counts pods that have not started in time, and ends the quarantines that are over.
    pub(super) fn step_quarantine(&mut self, now: Timestamp) {
        if self.quarantine.starting.len() > 2 * self.pods.len() + STARTING_SLACK {
            let mut starting = std::mem::take(&mut self.quarantine.starting);
            starting.retain(|(_, uid)| self.is_starting(*uid).is_some());
            self.quarantine.starting = starting;
        }
        while let Some((due, uid)) = self.quarantine.starting.front().copied() {
            let starting = self.is_starting(uid);
            if starting.is_some() && due > now {
                break;
            }
            self.quarantine.starting.pop_front();
            if let Some((index, node)) = starting {
                self.node_fails(index, node, "it has not started in time", false);
            }
        }
        let suspects = self.quarantine.suspects.iter();
        let over = suspects.filter(|(_, suspect)| suspect.until.is_some_and(|until| until <= now));
        let over = over.filter(|_| !is_made(Fault::QuarantineForEver));
        let over: Vec<NodeIndex> = over.map(|(node, _)| *node).collect();
        over.into_iter().for_each(|node| self.end_quarantine(node, "Expired", "its time is over"));
    }

    /// A pod that this process bound, or is binding, and that has not started yet.
    fn is_starting(&self, uid: Uid) -> Option<(PodIndex, NodeIndex)> {
        let index = self.pods.find(uid)?;
        let pod = self.pods.get(index);
        let waits = matches!(pod.state, PodState::Bound | PodState::Assumed(_)) && !pod.deleting;
        let node = pod.node.filter(|_| waits && pod.asked.is_some() && !pod.started)?;
        Some((index, node))
    }

    /// When [`Self::step_quarantine`] has something to do.
    pub(super) fn quarantine_due(&self) -> Option<Timestamp> {
        let starting = self.quarantine.starting.front().map(|(due, _)| *due);
        let over = self.quarantine.suspects.values().filter_map(|suspect| suspect.until);
        over.chain(starting).min()
    }

    /// Nodes in quarantine, ascending.
    pub(super) fn quarantined(&self) -> impl Iterator<Item = NodeIndex> {
        let suspects = self.quarantine.suspects.iter();
        suspects.filter(|(_, suspect)| suspect.until.is_some()).map(|(node, _)| *node)
    }
}
