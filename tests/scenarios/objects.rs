//! From what a scenario says of pods and nodes to what the core reads.

use crate::format::{
    BudgetSpec, EvictionsSpec, NodeSpec, OptionsSpec, OrderSpec, PodSpec, QueueEntry,
    RequirementSpec, millis,
};
use mss_scheduler::fairshare::LsfOptions;
use mss_scheduler::model::contract::{
    CPU_SLOTS, GPU_COUNT, GPU_FRACTION, GPU_MEMORY, MAX_MEMBER, MIN_MEMBER, PACK_ID, POD_GROUP,
    ROLE, SLICE_LEVEL, SLICE_SIZE, SLICES_APART, TASK_GROUP, TASK_GROUP_MIN, TOPOLOGY_PREFERRED,
    TOPOLOGY_REQUIRED, parse_group, parse_header, parse_non_preemptible, parse_queue,
    parse_reclaim_rank, parse_task,
};
use mss_scheduler::model::gpu_part::parse_part;
use mss_scheduler::model::gpu_topology::of_node;
use mss_scheduler::model::node::parse_slots;
use mss_scheduler::model::pod::{HostPort, TolerationOperator};
use mss_scheduler::model::queue::{Ageing, Ordering, Preemption};
use mss_scheduler::model::topology::{parse_task_topology, parse_topology};
use mss_scheduler::model::windows::{Week, zone};
use mss_scheduler::model::{
    Budget, Caps, ContractError, DeviceSet, EvictionBudget, GpuNeeds, Labels, Node,
    NodeSelectorTerm, Operator, Phase, Pod, PodClass, PodKey, QueueSpec, Requirement, ResourceList,
    RunLimit, Taint, TaintEffect, Task, Toleration, Uid, WallTime, Windows, gpu_request, quantity,
};
use mss_scheduler::plugins::Arguments;
use mss_scheduler::scheduler::{DrainOptions, Evictions, Options, QuarantineOptions};
use std::collections::BTreeMap;
use std::sync::Arc;

/// The limit of the default configuration.
const MIN_MEMBER_MAX: u32 = 10_000;

pub(crate) const GPU: &str = "nvidia.com/gpu";

/// `gpu` for short, narrowed by a label or not.
pub(crate) fn resource(name: &str) -> Box<str> {
    let (name, label) = name.split_at(name.find('@').unwrap_or(name.len()));
    format!("{}{label}", if name == "gpu" { GPU } else { name }).into()
}

/// Amounts by resource, zeros included: a limit of 0 is one.
fn terms(list: &BTreeMap<String, String>) -> ResourceList {
    let amount = |(name, text): (&String, &String)| {
        let scale = if name == "cpu" { 3 } else { 0 };
        let amount = quantity::parse(text, scale);
        (resource(name), amount.unwrap_or_else(|| panic!("{text}: not a quantity")))
    };
    list.iter().map(amount).collect()
}

fn amounts(list: &BTreeMap<String, String>) -> ResourceList {
    let mut amounts = terms(list);
    amounts.retain(|(_, amount)| *amount > 0);
    amounts
}

pub(crate) fn options(spec: &OptionsSpec) -> Options {
    let default = Options::default();
    let time = |time: &Option<String>, default| time.as_deref().map_or(default, millis);
    Options {
        queues_watched: true,
        budgets_watched: true,
        evictions: match spec.evictions {
            None | Some(EvictionsSpec::Allowed) => Evictions::Allowed,
            Some(EvictionsSpec::ReportOnly) => Evictions::ReportOnly,
            Some(EvictionsSpec::Off) => Evictions::Off,
        },
        searches_per_cycle: spec.searches_per_cycle.unwrap_or(default.searches_per_cycle),
        members_per_cycle: spec.members_per_cycle.unwrap_or(default.members_per_cycle),
        vacate_deadline_ms: time(&spec.vacate_deadline, default.vacate_deadline_ms),
        protected_ms: time(&spec.protected, default.protected_ms),
        drains: spec.drain_after.as_deref().map(|after| DrainOptions {
            after_ms: millis(after),
            for_ms: time(&spec.drain_for, 3_600_000),
            percent: 50,
        }),
        quarantine: spec.quarantine_failures.map(|failures| QuarantineOptions {
            failures,
            window_ms: 1_800_000,
            start_deadline_ms: Some(time(&spec.start_deadline, 7_200_000)),
            for_ms: 600_000,
            for_max_ms: 1_800_000,
            percent: 10,
        }),
        root_order: order(spec.root_order),
        topology_levels: match &spec.topology_levels {
            Some(levels) => levels.iter().map(|level| level.as_str().into()).collect(),
            None => default.topology_levels,
        },
        lsf: lsf(&spec.lsf),
        ..default
    }
}

pub(crate) fn arguments(spec: &OptionsSpec) -> Arguments {
    let mut arguments = Arguments::default();
    if let Some(preferences) = &spec.architectures {
        let said = preferences.iter().map(|(name, number)| (name.as_str().into(), *number));
        arguments.architectures.preferences = said.collect();
    }
    arguments.dedicated.label_key = spec.dedicated.as_deref().map(Into::into);
    arguments
}

fn windows(entry: &QueueEntry) -> Option<Box<Windows>> {
    let week = |list: &Option<Vec<String>>| {
        let list: Vec<&str> = list.as_ref()?.iter().map(String::as_str).collect();
        Some(Week::parse(&list).unwrap_or_else(|at| panic!("{}: not a window", list[at])))
    };
    let (run, dispatch) = (week(&entry.run_window), week(&entry.dispatch_window));
    let name = entry.time_zone.as_deref().unwrap_or("UTC");
    let zone = zone(name).unwrap_or_else(|| panic!("{name}: not a time zone"));
    (run.is_some() || dispatch.is_some()).then(|| Box::new(Windows::new(zone, run, dispatch)))
}

fn order(spec: Option<OrderSpec>) -> Ordering {
    match spec {
        None | Some(OrderSpec::FairShare) => Ordering::FairShare,
        Some(OrderSpec::Lsf) => Ordering::Lsf,
        Some(OrderSpec::FairTree) => Ordering::FairTree,
        Some(OrderSpec::Priority) => Ordering::Priority,
        Some(OrderSpec::Fifo) => Ordering::Fifo,
    }
}

fn lsf(parameters: &BTreeMap<String, f64>) -> LsfOptions {
    let mut lsf = LsfOptions::default();
    for (name, value) in parameters {
        match name.as_str() {
            "CPU_TIME_FACTOR" => lsf.cpu_time_factor = *value,
            "RUN_TIME_FACTOR" => lsf.run_time_factor = *value,
            "COMMITTED_RUN_TIME_FACTOR" => lsf.committed_run_time_factor = *value,
            "RUN_JOB_FACTOR" => lsf.run_job_factor = *value,
            "GPU_RUN_TIME_FACTOR" => lsf.gpu_run_time_factor = *value,
            "HIST_HOURS" => lsf.hist_hours = *value,
            "ENABLE_HIST_RUN_TIME" => lsf.enable_hist_run_time = *value > 0.0,
            "ENABLE_GPU_HIST_RUN_TIME" => lsf.enable_gpu_hist_run_time = *value > 0.0,
            other => panic!("{other}: not a parameter of LSF's order"),
        }
    }
    lsf
}

pub(crate) fn queues(entry: &QueueEntry) -> Vec<QueueSpec> {
    let time = |time: &Option<String>| time.as_deref().map_or(0, millis);
    let default = Preemption::default();
    let queue = |name: String| QueueSpec {
        parent: entry.parent.as_deref().map(Into::into),
        weight: entry.weight.unwrap_or(1),
        over_quota_weight: entry.over_quota_weight,
        quota: terms(&entry.quota),
        limit: terms(&entry.limit),
        lend_limit: terms(&entry.lend_limit),
        borrow_limit: terms(&entry.borrow_limit),
        user_limit: terms(&entry.user_limit),
        priority: entry.priority,
        order: order(entry.order),
        ageing: entry
            .ageing
            .as_ref()
            .map(|(points, every)| Ageing { points: *points, every_ms: millis(every) }),
        namespaces: match &entry.namespaces {
            None => vec![name.as_str().into()],
            Some(names) => names.iter().map(|name| name.as_str().into()).collect(),
        },
        name: name.into(),
        open: !entry.closed,
        windows: windows(entry),
        preemption: Preemption {
            reclaimable: entry.reclaimable.unwrap_or(default.reclaimable),
            preemptible: entry.preemptible.unwrap_or(default.preemptible),
            may_evict: entry.may_evict.unwrap_or(default.may_evict),
            min_runtime_ms: time(&entry.min_runtime),
            grace_ms: time(&entry.grace),
            budget: entry
                .eviction_budget
                .map(|pods| EvictionBudget { pods, window_ms: time(&entry.eviction_window) }),
        },
        run_limit: RunLimit {
            default_ms: entry.run_limit_default.as_deref().map(millis),
            maximum_ms: entry.run_limit_maximum.as_deref().map(millis),
        },
        caps: Caps {
            running_gangs: entry.running_gangs,
            running_gangs_per_user: entry.running_gangs_per_user,
            pending_gangs: entry.pending_gangs,
            gang_gpus: entry.gang_gpus,
        },
        ..QueueSpec::default()
    };
    numbered(&entry.name, entry.count).into_iter().map(queue).collect()
}

fn pairs(map: &BTreeMap<String, String>) -> Vec<(Box<str>, Box<str>)> {
    map.iter().map(|(key, value)| (key.as_str().into(), value.as_str().into())).collect()
}

fn effect(text: &str) -> TaintEffect {
    match text {
        "NoSchedule" => TaintEffect::NoSchedule,
        "PreferNoSchedule" => TaintEffect::PreferNoSchedule,
        "NoExecute" => TaintEffect::NoExecute,
        _ => panic!("{text}: not an effect"),
    }
}

fn term(list: &[RequirementSpec]) -> NodeSelectorTerm {
    let (mut expressions, mut fields) = (Vec::new(), Vec::new());
    for spec in list {
        let operator = match spec.operator.as_str() {
            "In" => Operator::In,
            "NotIn" => Operator::NotIn,
            "Exists" => Operator::Exists,
            "DoesNotExist" => Operator::DoesNotExist,
            "Gt" => Operator::Gt,
            "Lt" => Operator::Lt,
            other => panic!("{other}: not an operator"),
        };
        let values = spec.values.iter().map(|value| value.as_str().into()).collect();
        let is_field = spec.key == "metadata.name";
        let list = if is_field { &mut fields } else { &mut expressions };
        list.push(Requirement { key: spec.key.as_str().into(), operator, values });
    }
    NodeSelectorTerm { expressions, fields }
}

/// The names of `count` objects.
fn numbered(name: &str, count: Option<u32>) -> Vec<String> {
    match count {
        None => vec![name.to_owned()],
        Some(count) => (0..count).map(|number| format!("{name}-{number}")).collect(),
    }
}

pub(crate) fn nodes(spec: &NodeSpec) -> Vec<Node> {
    let taint = |taint: &crate::format::TaintSpec| Taint {
        key: taint.key.as_str().into(),
        value: taint.value.as_str().into(),
        effect: effect(&taint.effect),
    };
    let mut allocatable = spec.allocatable.clone();
    allocatable.entry("pods".into()).or_insert_with(|| "110".into());
    let labels = pairs(&spec.labels);
    let label = |key: &str| spec.labels.get(key).map(String::as_str);
    let (gpus, gpus_refused) = match of_node(spec.gpu_topology.as_deref(), label, None) {
        Ok(gpus) => (gpus.map(Arc::new), None),
        Err(error) => (None, Some(error.to_string().into())),
    };
    let (slots, slots_refused) = match parse_slots(|key| match key {
        CPU_SLOTS => spec.cpu_slots.as_deref(),
        _ => spec.gpu_slots.as_deref(),
    }) {
        Ok(slots) => (slots, None),
        Err(error) => (Vec::new(), Some(error.to_string().into())),
    };
    let node = |name: String| Node {
        name: name.into(),
        labels: labels.clone(),
        taints: spec.taints.iter().map(taint).collect(),
        unschedulable: spec.cordoned,
        allocatable: amounts(&allocatable).into_iter().chain(slots.clone()).collect(),
        gpus: gpus.clone(),
        gpus_refused: gpus_refused.clone(),
        slots_refused: slots_refused.clone(),
        devices: None,
    };
    numbered(&spec.name, spec.count).into_iter().map(node).collect()
}

/// Those of a pod that is refused are none.
fn needs(spec: &PodSpec, requests: &ResourceList) -> Option<Box<GpuNeeds>> {
    let text = spec.gpu_request.as_deref()?;
    gpu_request::parse(text, requests).unwrap_or_default()
}

fn class(spec: &PodSpec, profile: Option<u8>) -> PodClass {
    let requests = amounts(&spec.requests);
    let of = |name: &str| requests.iter().find(|(n, _)| &**n == name).map(|(_, amount)| *amount);
    let toleration = |toleration: &crate::format::TolerationSpec| Toleration {
        key: toleration.key.as_str().into(),
        operator: match toleration.value {
            Some(_) => TolerationOperator::Equal,
            None => TolerationOperator::Exists,
        },
        value: toleration.value.as_deref().unwrap_or_default().into(),
        effect: toleration.effect.as_deref().map(effect),
    };
    let port = |port: &u16| HostPort {
        port: *port,
        protocol: Default::default(),
        address: HostPort::ANY_ADDRESS,
    };
    let part = parse_part(|key| part_annotation(spec, key), &requests);
    let mut class = PodClass {
        profile,
        non_zero_asked: [of("cpu").unwrap_or(100), of("memory").unwrap_or(200 << 20)],
        non_zero: [of("cpu").unwrap_or(100), of("memory").unwrap_or(200 << 20)],
        node_name: spec.pinned.as_deref().map(Into::into),
        node_selector: pairs(&spec.selector),
        required: spec.required.as_ref().map(|terms| terms.iter().map(|t| term(t)).collect()),
        preferred: spec.preferred.iter().map(|p| (p.weight, term(&p.term))).collect(),
        tolerations: spec.tolerations.iter().map(toleration).collect(),
        host_ports: spec.ports.iter().map(port).collect(),
        gpu_needs: needs(spec, &requests),
        requests,
        gpu_part: None,
        devices: Vec::new(),
    };
    class.set_gpu_part(part.unwrap_or_default());
    class
}

/// What of a pod's GPUs contradicts itself.
fn refusal(spec: &PodSpec) -> Option<ContractError> {
    let requests = amounts(&spec.requests);
    let asked = spec.gpu_request.as_deref();
    let refused = asked.and_then(|text| gpu_request::parse(text, &requests).err());
    refused.or(parse_part(|key| part_annotation(spec, key), &requests).err())
}

fn part_annotation<'a>(spec: &'a PodSpec, key: &str) -> Option<&'a str> {
    let text = match key {
        GPU_FRACTION => &spec.gpu_fraction,
        GPU_MEMORY => &spec.gpu_memory,
        GPU_COUNT => &spec.gpu_count,
        PACK_ID => &spec.pack_id,
        _ => return None,
    };
    text.as_deref()
}

pub(crate) fn budget(spec: &BudgetSpec) -> Budget {
    let requirement = |(key, value): (&String, &String)| Requirement {
        key: key.as_str().into(),
        operator: Operator::In,
        values: vec![value.as_str().into()],
    };
    Budget {
        namespace: spec.namespace.as_str().into(),
        name: spec.name.as_str().into(),
        selector: Some(spec.selector.iter().map(requirement).collect()),
        allowed: spec.allowed,
    }
}

/// The value of an annotation, as it is written on the pod.
fn annotation<'a>(spec: &'a PodSpec, key: &str) -> Option<&'a str> {
    match key {
        POD_GROUP => spec.group.as_deref(),
        MIN_MEMBER => spec.min_member.as_deref(),
        MAX_MEMBER => spec.max_member.as_deref(),
        ROLE => spec.role.as_deref(),
        TASK_GROUP => spec.task_group.as_deref(),
        TASK_GROUP_MIN => spec.task_group_min.as_deref(),
        TOPOLOGY_REQUIRED => spec.topology_required.as_deref(),
        TOPOLOGY_PREFERRED => spec.topology_preferred.as_deref(),
        PACK_ID => spec.pack_id.as_deref(),
        SLICE_SIZE => spec.slice_size.as_deref(),
        SLICE_LEVEL => spec.slice_level.as_deref(),
        SLICES_APART => spec.slices_apart.as_deref(),
        _ => {
            let (_, name) = key.split_once('/').expect("annotations have a prefix");
            spec.annotations.get(name).map(String::as_str)
        }
    }
}

/// The pods of an entry; `now` is the wall time, uids are given out in order.
pub(crate) fn pods(spec: &PodSpec, now: i64, mut uid: impl FnMut() -> Uid) -> Vec<Pod> {
    let scheduler = spec.scheduler.as_deref().unwrap_or("mss-scheduler");
    let profile = (scheduler == "mss-scheduler").then_some(0);
    let ago = |time: &Option<String>| time.as_deref().map(|time| WallTime(now - millis(time)));
    let annotation = |key: &str| annotation(spec, key);
    let group = parse_group(annotation, MIN_MEMBER_MAX).transpose();
    let refused = refusal(spec);
    let group = refused.map(Err).or(group);
    let devices = spec.gpu_devices.as_deref().and_then(DeviceSet::parse).unwrap_or_default();
    let said = group.as_ref().and_then(|group| group.as_ref().ok());
    let topology = parse_topology(annotation, said).unwrap_or_else(|error| panic!("{error}"));
    let mut rank = spec.rank;
    let queue = parse_queue(spec.queue.as_deref(), spec.queue_label.as_deref());
    let queue = queue.unwrap_or_else(|error| panic!("{error}"));
    let header = parse_header(annotation).unwrap_or_else(|error| panic!("{error}"));
    let task = parse_task(annotation, MIN_MEMBER_MAX).unwrap_or_else(|error| panic!("{error}"));
    let of_task = parse_task_topology(annotation, task.as_ref(), topology.as_deref())
        .unwrap_or_else(|error| panic!("{error}"));
    let task = task.map(|task| Task { topology: of_task, ..task });
    let mut pod = |name: String| Pod {
        key: PodKey {
            namespace: spec.namespace.as_deref().unwrap_or("default").into(),
            name: name.into(),
        },
        uid: uid(),
        profile,
        node: spec.node.as_deref().map(Into::into),
        phase: if spec.ended.is_some() { Phase::Succeeded } else { Phase::Live },
        gated: spec.gated,
        run_limit_ms: spec.run_limit.as_deref().map(millis),
        termination_ms: spec.termination_grace.as_deref().map_or(30_000, millis),
        priority: spec.priority,
        never_preempts: spec.never_preempts,
        created: ago(&spec.age).unwrap_or(WallTime(now)),
        bound_at: ago(&spec.bound),
        finished_at: ago(&spec.ended),
        controller: spec.controller.as_deref().map(Uid::parse),
        group: group.clone(),
        user: spec.user.as_deref().map(Into::into),
        queue: queue.clone(),
        labels: Labels::new(spec.labels.iter().map(|(key, value)| (&**key, &**value))),
        header,
        devices,
        holds: if spec.gpu_holder { devices } else { DeviceSet::EMPTY },
        task: task.clone().map(Box::new),
        topology: topology.clone(),
        rank: {
            let own = rank;
            rank = rank.map(|rank| rank + 1);
            own
        },
        reclaim_rank: parse_reclaim_rank(spec.reclaim_rank.as_deref())
            .unwrap_or_else(|error| panic!("{error}")),
        checkpoint: ago(&spec.checkpoint),
        non_preemptible: parse_non_preemptible(spec.preemptible.as_deref())
            .unwrap_or_else(|error| panic!("{error}")),
        class: class(spec, profile),
        ..Pod::default()
    };
    numbered(&spec.name, spec.count).into_iter().map(&mut pod).collect()
}
