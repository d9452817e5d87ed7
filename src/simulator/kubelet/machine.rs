//! What the kubelets of all nodes would do next: a state machine without clock or network.
//!
//! Time is a [`Duration`] since an arbitrary start. Each pod has at most one step due and at most
//! one write in flight, so everything here is bounded by the pods on the nodes played.

use super::facts::{Amounts, End, Phase, PodFacts, add};
use std::cmp::Reverse;
use std::collections::{BinaryHeap, HashMap};
use std::time::Duration;

/// How long a failed write waits before it is tried again.
const RETRY_AFTER: Duration = Duration::from_millis(500);

/// A write that a kubelet makes.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) enum Step {
    /// The containers run.
    Start,
    /// The containers have ended.
    Finish { failed: bool },
    /// The pod does not fit on its node.
    Reject { reason: Box<str>, message: Box<str> },
    /// The grace has passed: the object goes.
    Delete,
}

/// How a write ended.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Outcome {
    /// The API server took it.
    Done,
    /// The pod is not there any more.
    Gone,
    /// It failed and may work later.
    Retry,
}

#[derive(Debug)]
struct NodeState {
    allocatable: Amounts,
    used: Amounts,
    pods: i64,
}

#[derive(Debug)]
struct PodState {
    facts: PodFacts,
    /// The node has judged it; false while the node is not played (yet).
    admitted: bool,
    /// What counts against its node.
    held: Option<Amounts>,
    due: Option<(Duration, Step)>,
    busy: bool,
}

/// All kubelets.
#[derive(Debug)]
pub(super) struct Machine {
    start_delay: Duration,
    grace_max: Duration,
    nodes: HashMap<Box<str>, NodeState>,
    pods: HashMap<Box<str>, PodState>,
    /// When which pod has something due; an entry counts only while the pod agrees with it.
    timers: BinaryHeap<Reverse<(Duration, Box<str>)>>,
}

impl Machine {
    pub(super) fn new(start_delay: Duration, grace_max: Duration) -> Self {
        Self {
            start_delay,
            grace_max,
            nodes: HashMap::new(),
            pods: HashMap::new(),
            timers: BinaryHeap::new(),
        }
    }

    /// A node is there or has changed. `wall` is the time by the clock of the API objects.
    pub(super) fn node_applied(
        &mut self,
        now: Duration,
        wall: jiff::Timestamp,
        name: &str,
        allocatable: Amounts,
    ) {
        if let Some(node) = self.nodes.get_mut(name) {
            node.allocatable = allocatable;
            return;
        }
        self.nodes.insert(name.into(), NodeState { allocatable, used: Amounts::new(), pods: 0 });
        let mut waiting: Vec<_> =
            self.pods.values().filter(|pod| &*pod.facts.node == name).collect();
        waiting.sort_by_key(|pod| (pod.facts.phase, pod.facts.created));
        let waiting: Vec<_> = waiting.into_iter().map(|pod| pod.facts.uid.clone()).collect();
        for uid in waiting {
            self.admit(now, wall, &uid);
        }
    }

    /// A node is gone; its pods are left to whoever collects them.
    pub(super) fn node_deleted(&mut self, name: &str) {
        self.nodes.remove(name);
        for pod in self.pods.values_mut().filter(|pod| &*pod.facts.node == name) {
            (pod.admitted, pod.held, pod.due) = (false, None, None);
        }
    }

    /// Names of the nodes played.
    pub(super) fn node_names(&self) -> impl Iterator<Item = &str> {
        self.nodes.keys().map(|name| &**name)
    }

    /// A bound pod is there or has changed.
    pub(super) fn pod_applied(&mut self, now: Duration, wall: jiff::Timestamp, facts: PodFacts) {
        let uid = facts.uid.clone();
        let deleting = facts.deleting;
        let ended = facts.phase == Phase::Ended;
        match self.pods.get_mut(&uid) {
            Some(pod) => pod.facts = facts,
            None => {
                let pod = PodState { facts, admitted: false, held: None, due: None, busy: false };
                self.pods.insert(uid.clone(), pod);
                self.admit(now, wall, &uid);
            }
        }
        let pod = self.pods.get_mut(&uid).expect("inserted above");
        if ended {
            release(&mut self.nodes, pod);
            pod.due = pod.due.take().filter(|(_, step)| *step == Step::Delete);
        }
        let leaving = matches!(pod.due, Some((_, Step::Delete)));
        if let Some(grace) = deleting
            && pod.admitted
            && !leaving
        {
            self.schedule(&uid, now + grace.min(self.grace_max), Step::Delete);
        }
    }

    /// A pod is gone.
    pub(super) fn pod_deleted(&mut self, uid: &str) {
        if let Some(mut pod) = self.pods.remove(uid) {
            release(&mut self.nodes, &mut pod);
        }
    }

    /// Forgets the pods that `keep` does not name: after a new list, they are gone.
    pub(super) fn retain_pods(&mut self, keep: impl Fn(&str) -> bool) {
        let gone: Vec<_> = self.pods.keys().filter(|uid| !keep(uid)).cloned().collect();
        for uid in gone {
            self.pod_deleted(&uid);
        }
    }

    /// The next write that is due, if any. Its pod makes no other until [`Machine::finished`].
    pub(super) fn pop(&mut self, now: Duration) -> Option<(PodFacts, Step)> {
        if self.next_due()? <= now {
            let Reverse((_, uid)) = self.timers.pop().expect("there is a next one");
            let pod = self.pods.get_mut(&uid).expect("next_due drops timers of pods that left");
            pod.busy = true;
            let (_, step) = pod.due.take().expect("next_due drops timers nobody waits for");
            if matches!(step, Step::Finish { .. } | Step::Delete) {
                // before the write: whoever sees its effect may fill the place at once
                release(&mut self.nodes, pod);
            }
            return Some((pod.facts.clone(), step));
        }
        None
    }

    /// When the next write is due.
    pub(super) fn next_due(&mut self) -> Option<Duration> {
        loop {
            let Reverse((at, uid)) = self.timers.peek()?;
            let live = self
                .pods
                .get(uid)
                .is_some_and(|pod| !pod.busy && pod.due.as_ref().is_some_and(|(due, _)| due == at));
            if live {
                return Some(*at);
            }
            self.timers.pop();
        }
    }

    /// A write has ended.
    pub(super) fn finished(&mut self, now: Duration, uid: &str, step: Step, outcome: Outcome) {
        let Some(pod) = self.pods.get_mut(uid) else { return };
        pod.busy = false;
        let end = pod.facts.end;
        if outcome == Outcome::Gone {
            return self.pod_deleted(uid);
        }
        if let Some((at, newer)) = pod.due.take() {
            // a deletion arrived meanwhile; it overrules whatever would have come next
            return self.schedule(uid, at, newer);
        }
        match (outcome, step) {
            (Outcome::Retry, step) => self.schedule(uid, now + RETRY_AFTER, step),
            (_, Step::Start) => {
                if let Some(End { after, failed }) = end {
                    self.schedule(uid, now + after, Step::Finish { failed });
                }
            }
            (_, Step::Finish { .. } | Step::Reject { .. } | Step::Delete) => {}
        }
    }

    fn schedule(&mut self, uid: &str, at: Duration, step: Step) {
        if let Some(pod) = self.pods.get_mut(uid) {
            pod.due = Some((at, step));
            if !pod.busy {
                self.timers.push(Reverse((at, uid.into())));
            }
        }
    }

    /// Lets a pod in on its node, or refuses it as a kubelet does.
    fn admit(&mut self, now: Duration, wall: jiff::Timestamp, uid: &str) {
        let Some(pod) = self.pods.get_mut(uid) else { return };
        let Some(node) = self.nodes.get_mut(&pod.facts.node) else { return };
        if pod.admitted {
            return;
        }
        pod.admitted = true;
        if let Some(grace) = pod.facts.deleting {
            return self.schedule(uid, now + grace.min(self.grace_max), Step::Delete);
        }
        let refusal = match pod.facts.phase {
            Phase::Ended => return,
            // it was let in before
            Phase::Running => None,
            Phase::Pending => refusal(node, &pod.facts.requests),
        };
        if let Some((reason, message)) = refusal {
            return self.schedule(uid, now, Step::Reject { reason, message });
        }
        add(&mut node.used, &pod.facts.requests);
        node.pods += 1;
        pod.held = Some(pod.facts.requests.clone());
        match (pod.facts.phase, pod.facts.end) {
            (Phase::Pending, _) => self.schedule(uid, now + self.start_delay, Step::Start),
            (_, Some(End { after, failed })) => {
                let ran = pod.facts.started.map(|start| wall.duration_since(start));
                let ran = ran.and_then(|ran| Duration::try_from(ran).ok()).unwrap_or_default();
                self.schedule(uid, now + after.saturating_sub(ran), Step::Finish { failed });
            }
            _ => {}
        }
    }
}

/// Why a node cannot take a pod, as the kubelet of Kubernetes 1.37 words it
/// (`pkg/kubelet/lifecycle/predicate.go`, `rejectPod`).
fn refusal(node: &NodeState, requests: &Amounts) -> Option<(Box<str>, Box<str>)> {
    let wants =
        std::iter::once(("pods", 1, node.pods)).chain(requests.iter().map(|(name, amount)| {
            (&**name, *amount, node.used.get(name).copied().unwrap_or_default())
        }));
    for (name, requested, used) in wants {
        let capacity = node.allocatable.get(name).copied().unwrap_or_default();
        if requested > capacity - used {
            let message = format!(
                "Pod was rejected: Node didn't have enough resource: {name}, \
                 requested: {requested}, used: {used}, capacity: {capacity}"
            );
            return Some((format!("OutOf{name}").into(), message.into()));
        }
    }
    None
}

fn release(nodes: &mut HashMap<Box<str>, NodeState>, pod: &mut PodState) {
    let Some(held) = pod.held.take() else { return };
    let Some(node) = nodes.get_mut(&pod.facts.node) else { return };
    node.pods -= 1;
    for (name, amount) in &held {
        if let Some(used) = node.used.get_mut(name) {
            *used -= amount;
        }
    }
}
