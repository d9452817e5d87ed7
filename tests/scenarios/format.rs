//! The format of a scenario file. A field that is not listed here is an error.
//!
//! Names: a pod of the namespace `default` by its name, others as `namespace/name`; `w-0..3` stands
//! for `w-0` to `w-3`. Amounts are Kubernetes quantities, and `gpu` is `nvidia.com/gpu`; times are
//! `500ms`, `20s`, `10m` or `1h`.

use serde::Deserialize;
use std::collections::BTreeMap;

/// A scenario.
#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields, rename_all = "kebab-case")]
pub(crate) struct Scenario {
    /// One sentence: what is shown.
    pub(crate) about: String,
    /// The wall time when the scheduler starts, as 2026-03-28T19:00:00Z.
    pub(crate) clock: Option<String>,
    /// Settings that are not the default ones.
    #[serde(default)]
    pub(crate) options: OptionsSpec,
    /// A pod that was evicted comes again under its name once it is gone, as controllers do it.
    #[serde(default)]
    pub(crate) recreate: bool,
    /// Queues that exist when the scheduler starts.
    #[serde(default)]
    pub(crate) queues: Vec<QueueEntry>,
    /// Nodes that exist when the scheduler starts.
    #[serde(default)]
    pub(crate) nodes: Vec<NodeSpec>,
    /// Gangs `namespace/name`, and bare pods likewise, for which victims get notice and that yet
    /// are not seated in the end. Of all others it is checked that they are.
    #[serde(default)]
    pub(crate) unseated: Vec<String>,
    /// Pods that exist when the scheduler starts.
    #[serde(default)]
    pub(crate) pods: Vec<PodSpec>,
    pub(crate) steps: Vec<Step>,
}

/// What happens, in the order of the fields, and what is expected then. `binds`, `deletes` and the
/// counts of an expectation are those since the last step in which something happened.
#[derive(Debug, Default, Deserialize)]
#[serde(deny_unknown_fields, rename_all = "kebab-case")]
pub(crate) struct Step {
    /// Answers to the next bind, delete or eviction of these pods; all others succeed at once.
    #[serde(default)]
    pub(crate) answers: BTreeMap<String, Answer>,
    /// News reach the scheduler (`true`, as in the beginning), or are missed.
    pub(crate) watch: Option<bool>,
    /// Queues come, or are modified: what is not said again is the default.
    #[serde(default)]
    pub(crate) queues: Vec<QueueEntry>,
    #[serde(default)]
    pub(crate) queues_gone: Vec<String>,
    /// The levels of the topology are others.
    pub(crate) levels: Option<Vec<String>>,
    /// Nodes come, or are modified.
    #[serde(default)]
    pub(crate) nodes: Vec<NodeSpec>,
    #[serde(default)]
    pub(crate) cordon: Vec<String>,
    #[serde(default)]
    pub(crate) uncordon: Vec<String>,
    #[serde(default)]
    pub(crate) nodes_gone: Vec<String>,
    /// Namespaces whose deletion begins.
    #[serde(default)]
    pub(crate) terminate: Vec<String>,
    /// Disruption budgets come or change.
    #[serde(default)]
    pub(crate) budgets: Vec<BudgetSpec>,
    /// `namespace/name` of budgets that go.
    #[serde(default)]
    pub(crate) budgets_gone: Vec<String>,
    /// Pods come, or replace a namesake that is gone.
    #[serde(default)]
    pub(crate) pods: Vec<PodSpec>,
    /// Pods get another queue annotation.
    #[serde(default)]
    pub(crate) rename_queue: BTreeMap<String, String>,
    #[serde(default)]
    pub(crate) ungate: Vec<String>,
    /// Pods succeed.
    #[serde(default)]
    pub(crate) end: Vec<String>,
    #[serde(default)]
    pub(crate) fail: Vec<String>,
    /// Containers of pods run.
    #[serde(default)]
    pub(crate) start: Vec<String>,
    /// Kubelets refuse pods, for this reason.
    #[serde(default)]
    pub(crate) reject: BTreeMap<String, String>,
    /// Pods get a deletion timestamp and stay for now.
    #[serde(default)]
    pub(crate) leave: Vec<String>,
    /// Somebody else binds pods to these nodes.
    #[serde(default)]
    pub(crate) bind_elsewhere: BTreeMap<String, String>,
    /// Pods are gone.
    #[serde(default)]
    pub(crate) delete: Vec<String>,
    /// Held answers arrive.
    #[serde(default)]
    pub(crate) release: Vec<String>,
    /// Everything is listed anew, and news reach the scheduler again.
    #[serde(default)]
    pub(crate) relist: bool,
    /// Another process takes over; the old one last renewed its lease that long ago.
    pub(crate) leader: Option<String>,
    /// The wall clock is set to this.
    pub(crate) clock: Option<String>,
    /// Time passes.
    pub(crate) wait: Option<String>,
    pub(crate) expect: Option<Expect>,
}

/// How a call is answered.
#[derive(Clone, Debug, Deserialize, PartialEq, Eq)]
#[serde(rename_all = "kebab-case")]
pub(crate) enum Answer {
    /// The API refuses the bind, the deletion, or the eviction.
    Refused,
    /// A disruption budget does not allow the eviction now.
    Protected,
    /// The request never left.
    NotSent,
    /// It is carried out and answered when it is released.
    Held,
    /// The same, for an eviction that has not left: it can be withdrawn.
    Queued,
    /// It is carried out at once and answered when it is released.
    Lost,
    /// The deletion, or eviction, is accepted, and the pod stays until it is deleted by a step.
    Slow,
}

/// See `scheduler::Options`.
#[derive(Clone, Debug, Default, Deserialize)]
#[serde(deny_unknown_fields, rename_all = "kebab-case")]
pub(crate) struct OptionsSpec {
    pub(crate) evictions: Option<EvictionsSpec>,
    pub(crate) searches_per_cycle: Option<usize>,
    pub(crate) members_per_cycle: Option<usize>,
    pub(crate) vacate_deadline: Option<String>,
    pub(crate) protected: Option<String>,
    /// Absent: no room is drained.
    pub(crate) drain_after: Option<String>,
    pub(crate) drain_for: Option<String>,
    /// Failures that put a node in quarantine. Absent: nothing does.
    pub(crate) quarantine_failures: Option<usize>,
    /// 2 hours without it.
    pub(crate) start_deadline: Option<String>,
    /// The order of the queues at the top.
    pub(crate) root_order: Option<OrderSpec>,
    pub(crate) topology_levels: Option<Vec<String>>,
    /// Preferences by architecture; absent: those of the default configuration.
    pub(crate) architectures: Option<BTreeMap<String, u8>>,
    /// The key of the label that dedicated nodes have.
    pub(crate) dedicated: Option<String>,
    /// Parameters of LSF's order, by their names there; 0 and 1 for N and Y.
    #[serde(default)]
    pub(crate) lsf: BTreeMap<String, f64>,
}

#[derive(Clone, Copy, Debug, Deserialize, PartialEq, Eq)]
#[serde(rename_all = "kebab-case")]
pub(crate) enum EvictionsSpec {
    Allowed,
    ReportOnly,
    Off,
}

/// A queue; what is not said is the default.
#[derive(Clone, Debug, Default, Deserialize)]
#[serde(deny_unknown_fields, rename_all = "kebab-case")]
pub(crate) struct QueueEntry {
    pub(crate) name: String,
    /// That many, with `-0`, `-1` ... after the name; its namespaces likewise.
    pub(crate) count: Option<u32>,
    pub(crate) parent: Option<String>,
    pub(crate) weight: Option<u32>,
    pub(crate) over_quota_weight: Option<u32>,
    #[serde(default)]
    pub(crate) quota: BTreeMap<String, String>,
    #[serde(default)]
    pub(crate) limit: BTreeMap<String, String>,
    #[serde(default)]
    pub(crate) lend_limit: BTreeMap<String, String>,
    #[serde(default)]
    pub(crate) borrow_limit: BTreeMap<String, String>,
    #[serde(default)]
    pub(crate) priority: i32,
    pub(crate) order: Option<OrderSpec>,
    /// Points of priority, and the time of waiting in which they are gained.
    pub(crate) ageing: Option<(u32, String)>,
    /// Absent: one of the queue's own name.
    pub(crate) namespaces: Option<Vec<String>>,
    #[serde(default)]
    pub(crate) closed: bool,
    /// UTC without it.
    pub(crate) time_zone: Option<String>,
    pub(crate) run_window: Option<Vec<String>>,
    pub(crate) dispatch_window: Option<Vec<String>>,
    pub(crate) reclaimable: Option<bool>,
    pub(crate) preemptible: Option<bool>,
    pub(crate) may_evict: Option<bool>,
    pub(crate) min_runtime: Option<String>,
    pub(crate) grace: Option<String>,
    #[serde(default)]
    pub(crate) user_limit: BTreeMap<String, String>,
    pub(crate) run_limit_default: Option<String>,
    pub(crate) run_limit_maximum: Option<String>,
    pub(crate) running_gangs: Option<u32>,
    pub(crate) running_gangs_per_user: Option<u32>,
    pub(crate) pending_gangs: Option<u32>,
    pub(crate) gang_gpus: Option<u32>,
    /// Pods that may be evicted in the window.
    pub(crate) eviction_budget: Option<u32>,
    pub(crate) eviction_window: Option<String>,
}

#[derive(Clone, Copy, Debug, Deserialize, PartialEq, Eq)]
#[serde(rename_all = "kebab-case")]
pub(crate) enum OrderSpec {
    FairShare,
    Lsf,
    FairTree,
    Priority,
    Fifo,
}

/// A disruption budget; what its labels select is protected.
#[derive(Clone, Debug, Default, Deserialize)]
#[serde(deny_unknown_fields, rename_all = "kebab-case")]
pub(crate) struct BudgetSpec {
    pub(crate) name: String,
    pub(crate) namespace: String,
    #[serde(default)]
    pub(crate) selector: BTreeMap<String, String>,
    pub(crate) allowed: u32,
}

#[derive(Clone, Debug, Default, Deserialize)]
#[serde(deny_unknown_fields, rename_all = "kebab-case")]
pub(crate) struct NodeSpec {
    pub(crate) name: String,
    /// That many, with `-0`, `-1` ... after the name.
    pub(crate) count: Option<u32>,
    #[serde(default)]
    pub(crate) allocatable: BTreeMap<String, String>,
    #[serde(default)]
    pub(crate) labels: BTreeMap<String, String>,
    #[serde(default)]
    pub(crate) taints: Vec<TaintSpec>,
    #[serde(default)]
    pub(crate) cordoned: bool,
    /// The annotation, as it is written on the node.
    pub(crate) gpu_topology: Option<String>,
    /// Annotations too.
    pub(crate) cpu_slots: Option<String>,
    pub(crate) gpu_slots: Option<String>,
}

#[derive(Clone, Debug, Default, Deserialize)]
#[serde(deny_unknown_fields, rename_all = "kebab-case")]
pub(crate) struct TaintSpec {
    pub(crate) key: String,
    #[serde(default)]
    pub(crate) value: String,
    pub(crate) effect: String,
}

#[derive(Clone, Debug, Default, Deserialize)]
#[serde(deny_unknown_fields, rename_all = "kebab-case")]
pub(crate) struct PodSpec {
    pub(crate) name: String,
    /// That many, with `-0`, `-1` ... after the name.
    pub(crate) count: Option<u32>,
    pub(crate) namespace: Option<String>,
    /// Stamped as its user.
    pub(crate) user: Option<String>,
    /// Another scheduler's name makes it a foreign pod.
    pub(crate) scheduler: Option<String>,
    /// The annotations, as they are written on the pod.
    pub(crate) group: Option<String>,
    pub(crate) min_member: Option<String>,
    pub(crate) max_member: Option<String>,
    pub(crate) role: Option<String>,
    pub(crate) task_group: Option<String>,
    pub(crate) task_group_min: Option<String>,
    pub(crate) topology_required: Option<String>,
    pub(crate) topology_preferred: Option<String>,
    pub(crate) slice_size: Option<String>,
    pub(crate) slice_level: Option<String>,
    pub(crate) slices_apart: Option<String>,
    /// All other annotations, by what follows the prefix.
    #[serde(default)]
    pub(crate) annotations: BTreeMap<String, String>,
    /// The first pod has this rank, and those after it the next.
    pub(crate) rank: Option<u32>,
    pub(crate) preemptible: Option<String>,
    /// `spec.preemptionPolicy: Never`.
    #[serde(default)]
    pub(crate) never_preempts: bool,
    pub(crate) reclaim_rank: Option<String>,
    /// It saved its work that long ago.
    pub(crate) checkpoint: Option<String>,
    pub(crate) queue: Option<String>,
    pub(crate) gpu_request: Option<String>,
    /// Annotations `mss-scheduler.io/gpu-fraction`, `gpu-memory`, `gpu-count` and `pack-id`.
    pub(crate) gpu_fraction: Option<String>,
    pub(crate) gpu_memory: Option<String>,
    pub(crate) gpu_count: Option<String>,
    pub(crate) pack_id: Option<String>,
    /// It is a holder of the GPUs that `gpu-devices` names, in a namespace that may have them.
    #[serde(default)]
    pub(crate) gpu_holder: bool,
    /// Of a pod that is bound already.
    pub(crate) gpu_devices: Option<String>,
    /// The label of the same key.
    pub(crate) queue_label: Option<String>,
    #[serde(default)]
    pub(crate) labels: BTreeMap<String, String>,
    #[serde(default)]
    pub(crate) requests: BTreeMap<String, String>,
    #[serde(default)]
    pub(crate) priority: i32,
    #[serde(default)]
    pub(crate) gated: bool,
    pub(crate) controller: Option<String>,
    /// Created, bound, ended that long ago.
    pub(crate) age: Option<String>,
    pub(crate) bound: Option<String>,
    pub(crate) ended: Option<String>,
    /// It may run so long.
    pub(crate) run_limit: Option<String>,
    /// It may take so long to stop; as Kubernetes, 30 s.
    pub(crate) termination_grace: Option<String>,
    /// It is bound there already.
    pub(crate) node: Option<String>,
    /// `spec.nodeName` of a pod that is to run just there.
    pub(crate) pinned: Option<String>,
    #[serde(default)]
    pub(crate) selector: BTreeMap<String, String>,
    /// Required node affinity: alternatives.
    pub(crate) required: Option<Vec<Vec<RequirementSpec>>>,
    #[serde(default)]
    pub(crate) preferred: Vec<PreferredSpec>,
    #[serde(default)]
    pub(crate) tolerations: Vec<TolerationSpec>,
    /// Host ports, TCP, on all addresses.
    #[serde(default)]
    pub(crate) ports: Vec<u16>,
}

#[derive(Clone, Debug, Deserialize)]
#[serde(deny_unknown_fields, rename_all = "kebab-case")]
pub(crate) struct RequirementSpec {
    pub(crate) key: String,
    pub(crate) operator: String,
    #[serde(default)]
    pub(crate) values: Vec<String>,
}

#[derive(Clone, Debug, Deserialize)]
#[serde(deny_unknown_fields, rename_all = "kebab-case")]
pub(crate) struct PreferredSpec {
    pub(crate) weight: i32,
    pub(crate) term: Vec<RequirementSpec>,
}

#[derive(Clone, Debug, Deserialize)]
#[serde(deny_unknown_fields, rename_all = "kebab-case")]
pub(crate) struct TolerationSpec {
    #[serde(default)]
    pub(crate) key: String,
    #[serde(default)]
    pub(crate) value: Option<String>,
    pub(crate) effect: Option<String>,
}

/// Each field that is given is compared whole, but `placed` and `told`, which name some pods.
#[derive(Debug, Default, Deserialize)]
#[serde(deny_unknown_fields, rename_all = "kebab-case")]
pub(crate) struct Expect {
    /// Node of pods, bound or about to be.
    pub(crate) placed: Option<BTreeMap<String, String>>,
    /// GPUs of pods, bound or about to be, as they are written on them; `none`: nothing is.
    pub(crate) devices: Option<BTreeMap<String, String>>,
    /// Pods of ours per node.
    pub(crate) per_node: Option<BTreeMap<String, usize>>,
    /// The same without names, largest first.
    pub(crate) spread: Option<Vec<usize>>,
    /// Pods of ours that have no node.
    pub(crate) pending: Option<Vec<String>>,
    /// Pods whose bind is not answered.
    pub(crate) assumed: Option<Vec<String>>,
    /// `Reason: message` of the condition; `nothing` if there is none.
    pub(crate) told: Option<BTreeMap<String, String>>,
    /// Bind calls in order, with their members in order.
    pub(crate) binds: Option<Vec<Vec<String>>>,
    pub(crate) deletes: Option<Vec<Vec<String>>>,
    /// Pods whose eviction was asked for, in any order.
    pub(crate) evicted: Option<Vec<String>>,
    /// Eviction calls in order, with their victims in order.
    pub(crate) evictions: Option<Vec<Vec<String>>>,
    /// Pods that got notice, in any order.
    pub(crate) warned: Option<Vec<String>>,
    /// Pods whose notice was taken back, in any order.
    pub(crate) spared: Option<Vec<String>>,
    /// Pods whose eviction had not left and never did.
    pub(crate) withdrawn: Option<Vec<String>>,
    /// `pod: text` of those that were told that they would be evicted.
    pub(crate) reported: Option<Vec<String>>,
    /// Text of the last notice of pods, and the time they are given: `in 10s: evicted to ...`.
    pub(crate) notice: Option<BTreeMap<String, String>>,
    /// GPUs of queues, and of users as `queue/namespace`, to the thousandth. `queue cpu` is the
    /// same of cores, `queue gpu@key=value` of GPUs on nodes with a label.
    pub(crate) deserved: Option<BTreeMap<String, f64>>,
    /// GPUs, or cores, that they hold, seats that are being vacated included.
    pub(crate) allocated: Option<BTreeMap<String, i64>>,
    /// What is wrong with the declared tree: `queue a: ...`.
    pub(crate) tree_faults: Option<Vec<String>>,
    /// What was begun and not ended well, by why; `reported` is what would have been begun.
    pub(crate) plans: Option<BTreeMap<String, u64>>,
    /// What is said on pods that are deleted.
    pub(crate) notes: Option<Vec<String>>,
    /// Nodes in quarantine, ascending.
    pub(crate) quarantined: Option<Vec<String>>,
    /// Events on nodes: `n-0: text`.
    pub(crate) node_events: Option<Vec<String>>,
    /// Events on pods whose edits are ignored: `pod: text`.
    pub(crate) ignored: Option<Vec<String>>,
    /// Groups that were tried.
    pub(crate) attempts: Option<usize>,
    /// Conditions that were written.
    pub(crate) tells: Option<usize>,
    /// Groups per home of the queue; those with none are left out.
    pub(crate) homes: Option<BTreeMap<String, usize>>,
    /// Time to the next timer, or `none`.
    pub(crate) timer: Option<String>,
}

impl Step {
    /// Whether it says nothing but what is expected.
    pub(crate) fn only_expects(&self) -> bool {
        let lists = [
            &self.cordon,
            &self.uncordon,
            &self.nodes_gone,
            &self.terminate,
            &self.ungate,
            &self.end,
            &self.fail,
            &self.start,
            &self.leave,
            &self.delete,
            &self.release,
        ];
        let quiet = self.wait.is_none()
            && self.clock.is_none()
            && self.leader.is_none()
            && self.watch.is_none();
        let nothing_new = self.nodes.is_empty() && self.pods.is_empty() && !self.relist;
        let quiet = quiet && self.reject.is_empty();
        let quiet = quiet && self.bind_elsewhere.is_empty() && self.rename_queue.is_empty();
        let quiet = quiet && self.budgets.is_empty() && self.budgets_gone.is_empty();
        let quiet = quiet && self.queues.is_empty() && self.queues_gone.is_empty();
        quiet && nothing_new && self.answers.is_empty() && lists.iter().all(|list| list.is_empty())
    }
}

/// Milliseconds of a time.
pub(crate) fn millis(text: &str) -> i64 {
    let digits = text.trim_end_matches(|c: char| !c.is_ascii_digit());
    let unit = match &text[digits.len()..] {
        "ms" => 1,
        "s" => 1_000,
        "m" => 60_000,
        "h" => 3_600_000,
        _ => panic!("{text}: expected a time as 500ms, 20s, 10m or 1h"),
    };
    unit * digits.parse::<i64>().unwrap_or_else(|_| panic!("{text}: not a time"))
}

/// The names that `w-0..3` stands for.
pub(crate) fn names<'a>(list: impl IntoIterator<Item = &'a String>) -> Vec<String> {
    list.into_iter().flat_map(|name| expand(name)).collect()
}

pub(crate) fn expand(name: &str) -> Vec<String> {
    let Some((first, last)) = name.split_once("..") else { return vec![name.to_owned()] };
    let stem = first.trim_end_matches(|c: char| c.is_ascii_digit());
    let number = |text: &str| text.parse::<u32>().unwrap_or_else(|_| panic!("{name}: not a range"));
    let range = number(&first[stem.len()..])..=number(last);
    range.map(|number| format!("{stem}{number}")).collect()
}
