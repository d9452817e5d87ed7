//! The simulation of workloads under policies, on small worlds whose outcome is known.

#[path = "support/browser.rs"]
mod browser;
#[path = "support/data.rs"]
mod data;
#[path = "simulate/failures.rs"]
mod failures;
#[path = "simulate/objects.rs"]
mod objects;
#[path = "simulate/parts.rs"]
mod parts;
#[path = "simulate/picture.rs"]
mod picture;
#[path = "simulate/published.rs"]
mod published;
#[path = "simulate/readers.rs"]
mod readers;
#[path = "simulate/snapshot.rs"]
mod snapshot;

use data::data_file;
use mss_scheduler::simulator::virtual_time::report::{table, write};
use mss_scheduler::simulator::virtual_time::{
    Inputs, Outcome, POLICIES, RunOptions, Share, Sources, policies, run,
};
use std::path::Path;

const FOUR_NODES: &str =
    "nodes: [{name: gpu, count: 4, allocatable: {nvidia.com/gpu: 8, cpu: 96, memory: 1024Gi}}]";

const TWO_QUEUES: &str = "
apiVersion: mss-scheduler.io/v1alpha1
kind: Queue
metadata: {name: nlp}
spec: {weight: 3, namespaces: [nlp]}
---
apiVersion: mss-scheduler.io/v1alpha1
kind: Queue
metadata: {name: vision}
spec: {weight: 1, namespaces: [vision]}
";

fn inputs(workload: &str, queues: Option<&str>) -> Inputs {
    Inputs::from_texts(FOUR_NODES, workload, queues).unwrap_or_else(|error| panic!("{error}"))
}

fn outcome(inputs: &Inputs, policy: &str) -> Outcome {
    let policy = policies(&[policy.to_owned()]).expect("it is one")[0];
    run(inputs, &policy, RunOptions { seed: 1, check: true }, |_| {})
}

/// The shares at a time in seconds.
fn shares(outcome: &Outcome, at_s: i64) -> Vec<Share> {
    let before = outcome.samples.iter().take_while(|(at, _)| *at <= at_s * 1000);
    before.last().expect("there is one at the start").1.to_vec()
}

/// Jobs of one GPU, more of each queue than the cluster holds.
const SATURATED: &str = "
gangs:
- {name: a, namespace: nlp, run: 10m, requests: {nvidia.com/gpu: 1}, count: 200}
- {name: b, namespace: vision, run: 10m, requests: {nvidia.com/gpu: 1}, count: 200}
";

#[test]
fn the_same_seed_gives_the_same_bytes() {
    let inputs = inputs(SATURATED, Some(TWO_QUEUES));
    let study = |seed| {
        let folder = tempfile::tempdir().expect("a folder");
        let options = RunOptions { seed, check: false };
        let outcomes: Vec<Outcome> =
            POLICIES.iter().map(|policy| run(&inputs, policy, options, |_| {})).collect();
        write(folder.path(), &inputs, &outcomes, seed).expect("it can be written");
        let names =
            ["gangs.csv", "queues.csv", "time.csv", "summary.csv", "summary.json", "report.html"];
        let mut all = table(&outcomes, &[]);
        for name in names {
            all += &std::fs::read_to_string(folder.path().join(name)).expect(name);
        }
        all
    };
    let one = study(1);
    assert!(one == study(1), "I8: the same seed, other bytes");
    assert!(one != study(2), "the seed makes no difference");
    for outside in ["http://", "https://", "src=", "<script", "@import"] {
        assert!(!one.contains(outside), "the report needs {outside}");
    }
}

#[test]
fn saturated_queues_get_their_shares_and_fifo_gives_who_came_first() {
    let inputs = inputs(SATURATED, Some(TWO_QUEUES));
    assert_eq!(inputs.tenants, ["nlp".into(), "vision".into()]);
    let fair = outcome(&inputs, "fair-share");
    let [nlp, vision] = shares(&fair, 300)[..] else { panic!("two queues") };
    assert_eq!((nlp.allocated_milli, vision.allocated_milli), (24_000, 8_000));
    assert_eq!((nlp.deserved_milli, vision.deserved_milli), (Some(24_000), Some(8_000)));
    assert_eq!((nlp.pending_milli, vision.pending_milli), (176_000, 192_000));
    assert_eq!(fair.summary.done, 400);
    assert_eq!(fair.summary.evicted_pods, 0, "nobody ever held too much");
    let partitions = outcome(&inputs, "partitions");
    let [nlp, vision] = shares(&partitions, 300)[..] else { panic!("two queues") };
    let held = (nlp.allocated_milli, vision.allocated_milli);
    assert_eq!(held, (24_000, 8_000), "three nodes and one");
    assert!(fair.summary.utilisation > partitions.summary.utilisation + 0.1);
    assert!(fair.summary.makespan_s < partitions.summary.makespan_s);
}

#[test]
fn fifo_lets_a_late_queue_wait_and_fair_share_does_not() {
    let workload = "
gangs:
- {name: a, namespace: nlp, run: 1h, requests: {nvidia.com/gpu: 1}, count: 320}
- {name: b, namespace: vision, arrival: 5m, run: 1m, requests: {nvidia.com/gpu: 1}, count: 8}
";
    let inputs = inputs(workload, Some(TWO_QUEUES));
    let wait = |policy| outcome(&inputs, policy).summary.queues[1].wait_mean_s;
    assert!(wait("fifo") > 9.0 * 3600.0, "it is behind ten rounds of an hour");
    assert!(wait("fair-share") < 60.0, "it takes back what it deserves");
    assert!(wait("partitions") < 60.0, "its own node is free");
    let fair = outcome(&inputs, "fair-share");
    assert_eq!((fair.summary.evicted_pods, fair.summary.restarts), (8, 8));
    let lost = fair.summary.lost_gpu_hours;
    assert!((8.0 * 4.5 / 60.0..8.0 * 5.5 / 60.0).contains(&lost), "five minutes of 8: {lost}");
    assert_eq!(fair.summary.done, 328);
}

#[test]
fn an_elastic_gang_shrinks_for_others_grows_again_and_loses_nothing() {
    let workload = "
gangs:
- {name: a, queue: nlp, run: 4h, members: 4, min-member: 1, requests: {nvidia.com/gpu: 8}}
- {name: b, queue: vision, arrival: 1h, run: 1h, members: 2, requests: {nvidia.com/gpu: 8}}
";
    let inputs = inputs(workload, None);
    let fair = outcome(&inputs, "fair-share");
    let held = |at_s| -> Vec<i64> {
        shares(&fair, at_s).iter().map(|share| share.allocated_milli).collect()
    };
    assert_eq!(held(1800), [32_000, 0]);
    assert_eq!(held(5400), [16_000, 16_000]);
    assert_eq!(held(3 * 3600), [32_000, 0]);
    let summary = &fair.summary;
    assert_eq!((summary.evicted_pods, summary.restarts, summary.done), (2, 0, 2));
    assert_eq!(summary.lost_gpu_hours, 0.0);
    // 16 member hours: 4 in the first, 2 in the second, then 10 with all four
    let end = fair.gangs[0].ended_ms.expect("it ends") as f64 / 3_600_000.0;
    assert!((4.5..4.52).contains(&end), "{end}");
    assert_eq!(outcome(&inputs, "fifo").summary.evicted_pods, 0);
}

#[test]
fn a_gang_goes_on_from_its_checkpoint() {
    let workload = |checkpoint: &str| {
        format!(
            "
gangs:
- {{name: a, queue: nlp, run: 2h, members: 4, requests: {{nvidia.com/gpu: 8}}{checkpoint}}}
- {{name: b, queue: vision, arrival: 95m, run: 1h, requests: {{nvidia.com/gpu: 8}}}}
"
        )
    };
    let lost = |checkpoint| {
        let fair = outcome(&inputs(&workload(checkpoint), None), "fair-share");
        assert_eq!((fair.summary.done, fair.summary.restarts), (2, 1));
        fair.summary.lost_gpu_hours / 32.0 * 60.0
    };
    let (with, without) = (lost(", checkpoint: 30m"), lost(""));
    assert!((4.5..5.5).contains(&with), "minutes since the checkpoint: {with}");
    assert!((94.0..96.0).contains(&without), "minutes since the start: {without}");
}

#[test]
fn what_can_never_run_ends_the_run_and_is_missing() {
    let workload = "
gangs:
- {name: a, run: 1h, members: 5, requests: {nvidia.com/gpu: 8}}
- {name: b, run: 1h, requests: {nvidia.com/gpu: 8}}
";
    for policy in POLICIES {
        let outcome = outcome(&inputs(workload, None), policy.name);
        let done = usize::from(policy.name != "partitions");
        assert_eq!(outcome.summary.done, done, "{}: nobody owns a node", policy.name);
        assert_eq!(outcome.gangs[0].started_ms, None);
    }
}

fn refused(cluster: &str, workload: &str, queues: Option<&str>) -> String {
    let error = Inputs::from_texts(cluster, workload, queues).expect_err("it is wrong");
    error.to_string()
}

#[test]
fn malformed_inputs_are_refused_with_their_place() {
    let gang = |fields: &str| format!("gangs:\n- {{name: a, run: 1h, requests: {{}}, {fields}}}\n");
    let cases = [
        ("memebrs: 4", "workload.yaml:2: "),
        ("members: 0", "gangs[0] (a).members is \"0\": expected a whole number from 1 to 10000"),
        ("members: 2, min-member: 3", "min-member is \"3\": expected a whole number from 1 to 2"),
        ("members: 4, min-member: 3, max-member: 2", "expected a whole number from 3 to 4"),
        ("arrival: soon", "gangs[0] (a).arrival is \"soon\": expected a duration"),
        ("checkpoint: 0s", "gangs[0] (a).checkpoint"),
        ("queue: No", "gangs[0] (a).namespace is \"No\": expected a name"),
        ("namespace: x, queue: nlp", "gang x/a: "),
    ];
    for (fields, expected) in cases {
        let error = refused(FOUR_NODES, &gang(fields), Some(TWO_QUEUES));
        assert!(error.contains(expected), "{fields}: {error}");
    }
    let error = refused(FOUR_NODES, "gangs: [{name: a, run: 1h}]", None);
    assert!(error.contains("requests"), "{error}");
    let twice = "gangs: [{name: a, run: 1h, requests: {}}, {name: a, run: 1h, requests: {}}]";
    assert!(refused(FOUR_NODES, twice, None).contains("gangs[1] (a).name is \"a\""));
    assert!(refused(FOUR_NODES, "gangs: []", None).contains("nothing to simulate"));

    let fine = gang("");
    let cluster = |text: &str| refused(text, &fine, None);
    assert!(cluster("nodes: []").contains("at least one node"));
    assert!(cluster("nodes: [").starts_with("cluster.yaml:1: "));
    let amount = cluster("nodes: [{name: n, allocatable: {cpu: many}}]");
    let expected = "cluster.yaml: nodes[0].allocatable[cpu] is \"many\": expected a quantity";
    assert!(amount.starts_with(expected), "{amount}");
    let queue = |text: &str| refused(FOUR_NODES, &fine, Some(text));
    assert!(queue("kind: Queue").contains("document 1: apiVersion is \"null\""));
    let typo = TWO_QUEUES.replace("weight: 1", "wieght: 1");
    assert!(queue(&typo).contains("document 2: field of spec is \"wieght\": expected one of"));
    let error = queue(&TWO_QUEUES.replace("weight: 1", "weight: 0"));
    assert!(error.contains("queue vision: spec.weight is 0"), "{error}");
    let orphan = TWO_QUEUES.replace("weight: 1", "parent: nobody");
    assert!(queue(&orphan).contains("queue vision: "), "{}", queue(&orphan));
    let error = policies(&["lottery".into()]).expect_err("there is none");
    assert!(error.contains("\"lottery\"") && error.contains("fair-share, fifo, partitions"));
}

#[test]
fn every_field_that_a_queue_may_have_is_taken() {
    let path = Path::new(env!("CARGO_MANIFEST_DIR")).join("manifests/crd.yaml");
    let text = std::fs::read_to_string(path).expect("the definition is shipped");
    let objects: Vec<serde_json::Value> = serde_saphyr::from_multiple(&text).expect("YAML");
    let version = &objects[0]["spec"]["versions"][0]["schema"]["openAPIV3Schema"];
    let fields = version["properties"]["spec"]["properties"].as_object().expect("fields");
    assert!(fields.len() > 10, "{fields:?}");
    let absent = fields.keys().map(|field| format!("    {field}: null\n"));
    let queue = TWO_QUEUES.replacen("spec: {weight: 3, namespaces: [nlp]}", "spec:", 1);
    let queue = queue.replacen("spec:\n", &format!("spec:\n{}", absent.collect::<String>()), 1);
    inputs("gangs: [{name: a, run: 1h, requests: {}}]", Some(&queue));
}

#[test]
fn the_example_of_the_docs_runs() {
    let path = Path::new(env!("CARGO_MANIFEST_DIR")).join("docs/simulate.md");
    let text = std::fs::read_to_string(path).expect("the docs exist");
    let blocks: Vec<&str> = text
        .split("```yaml\n")
        .skip(1)
        .map(|rest| rest.split("```").next().unwrap_or_default())
        .collect();
    let [cluster, workload, generator, queues] = blocks[..] else { panic!("four examples") };
    Inputs::from_texts(cluster, generator, Some(queues)).unwrap_or_else(|error| panic!("{error}"));
    let inputs = Inputs::from_texts(cluster, workload, Some(queues))
        .unwrap_or_else(|error| panic!("{error}"));
    for policy in POLICIES {
        assert_eq!(outcome(&inputs, policy.name).summary.done, 3, "{}", policy.name);
        assert!(text.contains(&format!("| `{}` |", policy.name)), "{}", policy.name);
    }
}

#[test]
fn an_elastic_gang_works_as_fast_as_was_measured() {
    let workload = "
gangs:
- {name: a, queue: nlp, run: 1h, members: 4, min-member: 1, requests: {nvidia.com/gpu: 8},
   speeds: [10, 18, 24, 25]}
";
    let fair = outcome(&inputs(workload, None), "fair-share");
    let end = fair.gangs[0].ended_ms.expect("it ends") as f64 / 3_600_000.0;
    assert!((1.0..1.01).contains(&end), "with all four it takes its time: {end}");
    let three = "nodes: [{name: n, count: 3, allocatable: {nvidia.com/gpu: 8}}]";
    let few = Inputs::from_texts(three, workload, None).expect("well-formed");
    let fair = outcome(&few, "fair-share");
    let end = fair.gangs[0].ended_ms.expect("it ends") as f64 / 3_600_000.0;
    assert!((25.0 / 24.0..25.0 / 24.0 + 0.01).contains(&end), "hardly longer with three: {end}");
}

#[test]
fn the_figures_are_those_of_a_world_that_can_be_reckoned() {
    // an hour of 16 of 32 GPUs, as pods of 5 that leave 3 free on each node for nobody
    let workload = "gangs: [{name: a, run: 1h, requests: {nvidia.com/gpu: 5}, count: 8}]";
    let fifo = outcome(&inputs(workload, None), "fifo").summary;
    assert_eq!((fifo.done, fifo.failed_nodes), (8, 0));
    let near = |value: f64, expected: f64| (value - expected).abs() < 0.01;
    assert!(near(fifo.allocation, 20.0 / 32.0), "{}", fifo.allocation);
    assert!(fifo.utilisation < fifo.allocation, "starting takes a while");
    assert!(near(fifo.utilisation, 20.0 / 32.0), "{}", fifo.utilisation);
    assert!(near(fifo.fragmentation, 12.0 / 32.0), "{}", fifo.fragmentation);
    assert!(near(fifo.jct_median_s, 3600.0 + fifo.wait_median_s), "{}", fifo.jct_median_s);
    assert!(fifo.wait_p99_s > 3600.0 && fifo.jct_p99_s > 7200.0, "the second half waits");
}

#[test]
fn fifo_is_less_fair_than_shares_and_the_error_says_so() {
    let inputs = inputs(SATURATED, Some(TWO_QUEUES));
    let error = |policy| outcome(&inputs, policy).summary.fairness_error;
    // the first in the file are the first in the line: nlp has 32 where it deserves 24
    assert!(error("fair-share") < 0.1, "{}", error("fair-share"));
    assert!(error("fifo") > 0.2, "{}", error("fifo"));
}

#[test]
fn nodes_are_drawn_at_the_chosen_times() {
    let mut inputs = inputs(SATURATED, Some(TWO_QUEUES));
    inputs.map_at_ms = vec![1_000, 300_000];
    let fair = outcome(&inputs, "fair-share");
    let held = |map: usize, tenant: usize| -> i64 {
        let pods = fair.maps[map].nodes.iter().flatten();
        pods.filter(|held| held.tenant == tenant).map(|held| held.milli).sum()
    };
    assert_eq!((held(0, 0), held(0, 1)), (24_000, 8_000), "bound at once");
    assert_eq!((held(1, 0), held(1, 1)), (24_000, 8_000));
    let folder = tempfile::tempdir().expect("a folder");
    write(folder.path(), &inputs, &[fair], 1).expect("it can be written");
    let page = std::fs::read_to_string(folder.path().join("report.html")).expect("written");
    assert!(page.contains("Nodes after 5.0 m: fair-share"), "the map is in the report");
}

#[test]
fn philly_jobs_run_with_their_virtual_clusters_as_queues() {
    let file = "philly/philly_dev_2017-09-04_2017-10-31.csv.gz";
    let Some(path) = data_file(file) else { return };
    let sources = Sources {
        nodes: Some(64),
        workload: Some(path),
        limit_rows: Some(2_000),
        ..Sources::default()
    };
    let inputs = Inputs::read(&sources).unwrap_or_else(|error| panic!("{error}"));
    assert_eq!((inputs.gangs.len(), inputs.gpus()), (2_000, 512));
    assert!(inputs.tenants.len() > 5, "{:?}", inputs.tenants);
    for policy in ["fair-share", "fifo"] {
        let policy = policies(&[policy.to_owned()]).expect("it is one")[0];
        let outcome = run(&inputs, &policy, RunOptions::default(), |_| {});
        assert_eq!(outcome.summary.done, 2_000, "{}", policy.name);
    }
}
