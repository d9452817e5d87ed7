//! From what a scenario says of pods and nodes to what the core reads.

use crate::format::{NodeSpec, PodSpec, RequirementSpec, millis};
use mss_scheduler::model::contract::{MIN_MEMBER, POD_GROUP, parse_group};
use mss_scheduler::model::pod::{HostPort, TolerationOperator};
use mss_scheduler::model::{
    Node, NodeSelectorTerm, Operator, Phase, Pod, PodClass, PodKey, Requirement, ResourceList,
    Taint, TaintEffect, Toleration, Uid, WallTime, quantity,
};
use std::collections::BTreeMap;

/// The limit of the default configuration.
const MIN_MEMBER_MAX: u32 = 10_000;

fn amounts(list: &BTreeMap<String, String>) -> ResourceList {
    let amount = |(name, text): (&String, &String)| {
        let scale = if name == "cpu" { 3 } else { 0 };
        let amount = quantity::parse(text, scale);
        (name.as_str().into(), amount.unwrap_or_else(|| panic!("{text}: not a quantity")))
    };
    list.iter().map(amount).filter(|(_, amount)| *amount > 0).collect()
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
    let node = |name: String| Node {
        name: name.into(),
        labels: pairs(&spec.labels),
        taints: spec.taints.iter().map(taint).collect(),
        unschedulable: spec.cordoned,
        allocatable: amounts(&allocatable),
    };
    numbered(&spec.name, spec.count).into_iter().map(node).collect()
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
    PodClass {
        profile,
        non_zero_asked: [of("cpu").unwrap_or(100), of("memory").unwrap_or(200 << 20)],
        non_zero: [of("cpu").unwrap_or(100), of("memory").unwrap_or(200 << 20)],
        node_name: spec.pinned.as_deref().map(Into::into),
        node_selector: pairs(&spec.selector),
        required: spec.required.as_ref().map(|terms| terms.iter().map(|t| term(t)).collect()),
        preferred: spec.preferred.iter().map(|p| (p.weight, term(&p.term))).collect(),
        tolerations: spec.tolerations.iter().map(toleration).collect(),
        host_ports: spec.ports.iter().map(port).collect(),
        requests,
    }
}

/// The pods of an entry; `now` is the wall time, uids are given out in order.
pub(crate) fn pods(spec: &PodSpec, now: i64, mut uid: impl FnMut() -> Uid) -> Vec<Pod> {
    let scheduler = spec.scheduler.as_deref().unwrap_or("mss-scheduler");
    let profile = (scheduler == "mss-scheduler").then_some(0);
    let ago = |time: &Option<String>| time.as_deref().map(|time| WallTime(now - millis(time)));
    let annotation = |key: &str| match key {
        POD_GROUP => spec.group.as_deref(),
        MIN_MEMBER => spec.min_member.as_deref(),
        _ => None,
    };
    let group = parse_group(annotation, MIN_MEMBER_MAX).transpose();
    let pod = |name: String| Pod {
        key: PodKey {
            namespace: spec.namespace.as_deref().unwrap_or("default").into(),
            name: name.into(),
        },
        uid: uid(),
        profile,
        node: spec.node.as_deref().map(Into::into),
        phase: if spec.ended.is_some() { Phase::Succeeded } else { Phase::Live },
        gated: spec.gated,
        priority: spec.priority,
        created: ago(&spec.age).unwrap_or(WallTime(now)),
        bound_at: ago(&spec.bound),
        finished_at: ago(&spec.ended),
        controller: spec.controller.as_deref().map(Uid::parse),
        group: group.clone(),
        class: class(spec, profile),
        ..Pod::default()
    };
    numbered(&spec.name, spec.count).into_iter().map(pod).collect()
}
