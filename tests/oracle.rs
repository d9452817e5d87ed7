//! Ours against upstream's own scheduler code, on random pods and nodes.
//!
//! What must be equal: what each pod requests, what the filters say to each node, the text people
//! read when no node fits, and the scores. The cases come from a seed: `MSS_ORACLE_SEED` and
//! `MSS_ORACLE_CASES` (default 5,000) ask for others.

#[path = "oracle/generator.rs"]
mod generator;
#[path = "oracle/upstream.rs"]
mod upstream;

use generator::Dice;
use mss_scheduler::cluster::{ClassId, Cluster};
use mss_scheduler::framework::{Diagnosis, Profile, SCORE_MAX, Status};
use mss_scheduler::kubernetes::convert::Converter;
use mss_scheduler::kubernetes::objects::{NodeObject, PodObject};
use mss_scheduler::model::{Pod, PodClass};
use mss_scheduler::plugins::{
    self, Arguments, NodeResourcesBalancedAllocation, NodeResourcesFit, ScoringStrategy, ShapePoint,
};
use serde_json::Value;
use std::collections::{BTreeMap, BTreeSet};
use upstream::{Answer, Requests};

/// What was compared, and the first differences found.
#[derive(Default)]
struct Tally {
    compared: BTreeMap<&'static str, usize>,
    differing: BTreeMap<&'static str, usize>,
    shown: Vec<String>,
}

impl Tally {
    fn check<T: PartialEq + std::fmt::Debug>(
        &mut self,
        what: &'static str,
        (ours, theirs): (T, T),
        case: impl FnOnce() -> String,
    ) {
        *self.compared.entry(what).or_default() += 1;
        if ours != theirs {
            let count = self.differing.entry(what).or_default();
            *count += 1;
            if *count <= 2 {
                let case = case();
                self.shown
                    .push(format!("{what}\n  ours   {ours:?}\n  theirs {theirs:?}\n  {case}"));
            }
        }
    }
}

fn number(variable: &str, default: u64) -> u64 {
    std::env::var(variable).ok().and_then(|text| text.parse().ok()).unwrap_or(default)
}

#[test]
fn agrees_with_upstream() {
    let Some(program) = upstream::program() else { return };
    let seed = number("MSS_ORACLE_SEED", 1);
    let count = number("MSS_ORACLE_CASES", 5_000);
    let mut dice = Dice(seed);
    let mut tally = Tally::default();
    let mut done = 0;
    let mut unschedulable = 0;
    while done < count {
        let size = (count - done).min(500);
        let cases: Vec<Value> = (0..size).map(|_| generator::case(&mut dice)).collect();
        let answers = upstream::ask(&program, &cases);
        for (case, answer) in cases.iter().zip(&answers) {
            compare(case, answer, &mut tally);
            unschedulable += usize::from(!answer.error.is_empty());
        }
        done += size;
    }
    println!("oracle: seed {seed}, {count} pods x 8 nodes, {unschedulable} fit nowhere; compared:");
    for (what, compared) in &tally.compared {
        let differing = tally.differing.get(what).copied().unwrap_or(0);
        println!("  {what:<44} {compared:>8}, {differing} differ");
    }
    assert!(unschedulable > 0 && unschedulable < usize::try_from(count).expect("a count"));
    let shown = tally.shown.join("\n");
    assert!(tally.differing.is_empty(), "seed {seed}: ours and upstream differ\n{shown}");
}

fn compare(case: &Value, answer: &Answer, tally: &mut Tally) {
    let converter = Converter::default();
    let read = |value: &Value| -> Pod {
        let text = value.to_string();
        converter.pod(&serde_json::from_str::<PodObject>(&text).expect("a pod"))
    };
    let mut cluster = Cluster::default();
    for node in case["nodes"].as_array().expect("nodes") {
        let node: NodeObject = serde_json::from_str(&node.to_string()).expect("a node");
        let _ = cluster.apply_node(converter.node(&node, None));
    }
    let placed = case["pods"].as_array().expect("pods");
    for (value, theirs) in placed.iter().zip(answer.pods.iter().flatten()) {
        let pod = read(value);
        compare_requests("requests of pods on nodes", &pod.class, theirs, value, tally);
        let node = cluster.intern_node(pod.node.as_deref().expect("it runs"));
        let class = cluster.acquire_class(pod.class);
        cluster.place(class, node);
    }
    // a pod that names its node counts as bound; here it is to be placed on just that node
    let mut asking = case["pod"].clone();
    let spec = asking["spec"].as_object_mut().expect("a spec");
    let wanted = spec.remove("nodeName").map(|name| name.as_str().expect("a name").into());
    let mut pod = read(&asking);
    assert_eq!(pod.group, None, "{asking}");
    pod.class.node_name = wanted;
    compare_requests("requests of the pod", &pod.class, &answer.pod, &case["pod"], tally);
    let class = cluster.acquire_class(pod.class);
    compare_filters(&cluster, class, case, answer, tally);
    compare_scores(&cluster, class, case, answer, tally);
}

fn compare_requests(
    what: &'static str,
    ours: &PodClass,
    theirs: &Requests,
    pod: &Value,
    tally: &mut Tally,
) {
    let counted: BTreeMap<_, _> = ours.requests.iter().cloned().collect();
    let pair = ((counted, ours.non_zero), (theirs.amounts.clone(), theirs.non_zero));
    tally.check(what, pair, || pod.to_string());
}

fn compare_filters(
    cluster: &Cluster,
    id: ClassId,
    case: &Value,
    answer: &Answer,
    tally: &mut Tally,
) {
    let profile: Profile = plugins::default_profile("mss-scheduler");
    let class = cluster.class(id);
    let mut feasible = 0;
    for (node, entry) in cluster.live_nodes() {
        let rejection = profile.first_rejection(cluster, class, node).map(|(_, status)| status);
        feasible += usize::from(rejection.is_none());
        let Some(theirs) = answer.nodes.get(&*entry.name) else {
            // a prefilter spoke for all nodes at once
            let rejected = !answer.pre_filter.is_empty();
            tally.check("nodes that a prefilter rejects", (rejection.is_some(), rejected), || {
                format!("{} of {case}", entry.name)
            });
            continue;
        };
        let status = rejection.unwrap_or(Status::Success);
        let text = |reason: &mss_scheduler::framework::Reason| reason.text(cluster, &class.unknown);
        let mut reasons: Vec<String> = status.reasons().iter().map(text).collect();
        let mut said = theirs.reasons.clone();
        // upstream lists extended resources in the random order of a Go map
        reasons.sort();
        said.sort();
        tally.check("feasible or not, with reasons, per node", (reasons, said), || {
            format!("{} of {case}", entry.name)
        });
        let unresolvable = matches!(status, Status::UnschedulableAndUnresolvable(_));
        let pair = (unresolvable, theirs.unresolvable);
        tally.check("whether preemption could help, per node", pair, || {
            format!("{} of {case}", entry.name)
        });
    }
    let message = match feasible {
        0 => Diagnosis::of(cluster, &profile, id, |_| false).message,
        _ => String::new(),
    };
    tally.check("text of the error", (message, answer.error.clone()), || case.to_string());
}

fn compare_scores(
    cluster: &Cluster,
    id: ClassId,
    case: &Value,
    answer: &Answer,
    tally: &mut Tally,
) {
    let class = cluster.class(id);
    for (strategy, scores) in &answer.scores {
        let arguments = arguments(strategy);
        let mut by_plugin: BTreeMap<&str, Vec<&upstream::Score>> = BTreeMap::new();
        for score in scores {
            by_plugin.entry(&score.plugin).or_default().push(score);
        }
        // what upstream leaves out has no say in the order of the nodes, and so has none here
        for plugin in SCORES.iter().filter(|plugin| !by_plugin.contains_key(**plugin)) {
            let score = plugins::score(plugin, &arguments).expect("a plugin of ours");
            let feasible: BTreeSet<&str> = scores.iter().map(|score| &*score.node).collect();
            let raw = feasible.iter().map(|node| {
                let node = cluster.find_node(node).expect("a node of the case");
                score.score(cluster, class, node, &score.terms(cluster, class))
            });
            let raw: BTreeSet<i64> = raw.collect();
            tally.check("scores that are left out", (raw.len(), 1), || {
                format!("{plugin} of {case}")
            });
        }
        for (plugin, theirs) in by_plugin {
            let score = plugins::score(plugin, &arguments).expect("a plugin of ours");
            let raw = theirs.iter().map(|theirs| {
                let node = cluster.find_node(&theirs.node).expect("a node of the case");
                score.score(cluster, class, node, &score.terms(cluster, class))
            });
            let raw: Vec<i64> = raw.collect();
            let mut normalised = raw.clone();
            score.normalize(&mut normalised);
            assert!(normalised.iter().all(|score| (0..=SCORE_MAX).contains(score)));
            let pair = (
                (raw, normalised),
                (
                    theirs.iter().map(|score| score.raw).collect(),
                    theirs.iter().map(|score| score.normalised).collect(),
                ),
            );
            tally.check(label(plugin, strategy), pair, || case.to_string());
        }
    }
}

/// The scores that upstream has too.
const SCORES: [&str; 4] =
    ["NodeResourcesFit", "NodeResourcesBalancedAllocation", "NodeAffinity", "TaintToleration"];

fn label(plugin: &str, strategy: &str) -> &'static str {
    match (plugin, strategy) {
        ("NodeResourcesFit", "LeastAllocated") => "score NodeResourcesFit LeastAllocated",
        ("NodeResourcesFit", "MostAllocated") => "score NodeResourcesFit MostAllocated",
        ("NodeResourcesFit", _) => "score NodeResourcesFit RequestedToCapacityRatio",
        ("NodeResourcesBalancedAllocation", "RequestedToCapacityRatio") => {
            "score NodeResourcesBalancedAllocation of four"
        }
        ("NodeResourcesBalancedAllocation", _) => "score NodeResourcesBalancedAllocation",
        ("NodeAffinity", _) => "score NodeAffinity",
        _ => "score TaintToleration",
    }
}

/// The arguments that `profiles.go` gives to upstream's plugins.
fn arguments(strategy: &str) -> Arguments {
    let shape = [(0, 0), (40, 90), (80, 40)];
    let shape = shape.map(|(utilization, score)| ShapePoint { utilization, score });
    let resources = [("cpu", 1), ("memory", 2), ("nvidia.com/gpu", 5)];
    let fit = NodeResourcesFit {
        strategy: match strategy {
            "LeastAllocated" => ScoringStrategy::LeastAllocated,
            "MostAllocated" => ScoringStrategy::MostAllocated,
            _ => ScoringStrategy::RequestedToCapacityRatio(shape.into()),
        },
        resources: resources.map(|(name, weight)| (name.into(), weight)).into(),
    };
    let even: &[&str] = match strategy {
        "RequestedToCapacityRatio" => &["cpu", "memory", "ephemeral-storage", "nvidia.com/gpu"],
        _ => &["cpu", "memory"],
    };
    let resources = even.iter().map(|name| (*name).into()).collect();
    let balanced = NodeResourcesBalancedAllocation { resources };
    Arguments { fit, balanced, ..Arguments::default() }
}
