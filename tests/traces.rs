//! The trace readers on the files as they were published, against the figures published with them.

#[path = "support/data.rs"]
mod data;

use data::data_file;
use mss_scheduler::simulator::traces::load::Plan;
use mss_scheduler::simulator::traces::{openb, philly};
use std::collections::BTreeMap;

#[test]
fn openb_nodes() {
    let Some(path) = data_file("openb/openb_node_list_all_node.csv") else { return };
    let nodes: Vec<_> = openb::nodes(&path)
        .and_then(|rows| rows.collect::<Result<_, _>>())
        .expect("the published file is well-formed");
    assert_eq!(nodes.len(), 1523);
    assert_eq!(nodes.iter().map(|node| node.gpus).sum::<u32>(), 6212);
    assert_eq!(nodes.iter().map(|node| node.cpu_milli).sum::<u64>(), 125_514_000);
    let of_model = |model: &str| nodes.iter().filter(|node| &*node.model == model).count();
    assert_eq!(["G2", "T4", "P100", "A10", ""].map(of_model), [549, 404, 134, 2, 310]);
    assert!(nodes.iter().all(|node| (node.gpus == 0) == node.model.is_empty()));
}

#[test]
fn openb_pods() {
    let Some(path) = data_file("openb/openb_pod_list_default.csv") else { return };
    let pods: Vec<_> = openb::pods(&path)
        .and_then(|rows| rows.collect::<Result<_, _>>())
        .expect("the published file is well-formed");
    assert_eq!(pods.len(), 8152);
    let mut by_size = BTreeMap::new();
    for pod in &pods {
        *by_size.entry(pod.gpus).or_insert(0) += 1;
    }
    assert_eq!(by_size, [(0, 1088), (1, 6989), (2, 16), (4, 15), (8, 44)].into());
    let shared = pods.iter().filter(|pod| pod.gpus == 1 && pod.gpu_milli < 1000).count();
    assert_eq!(shared, 3078);
    let milli: u64 = pods.iter().map(|pod| u64::from(pod.gpus * pod.gpu_milli)).sum();
    assert_eq!(milli, 6_086_800);
}

#[test]
fn every_openb_pod_list_is_read_gzipped_or_not() {
    let lists = [
        ("cpu0", 7064),
        ("cpu037", 7336),
        ("cpu050", 7439),
        ("cpu100", 7853),
        ("cpu200", 8832),
        ("cpu300", 10_094),
        ("gpushare20", 8152),
        ("gpushare100", 8152),
        ("gpuspec10", 8152),
    ];
    for (list, rows) in lists {
        let Some(path) = data_file(&format!("openb/openb_pod_list_{list}.csv.gz")) else { return };
        let plan = Plan { pods: Some(path), ..Plan::default() };
        assert_eq!(plan.totals().expect("a well-formed file").pods, rows, "{list}");
    }
    let Some(path) = data_file("openb/openb_pod_list_gpuspec10.csv.gz") else { return };
    let pods = openb::pods(&path).expect("it can be opened").map(|row| row.expect("well-formed"));
    assert_eq!(pods.filter(|pod| !pod.models.is_empty()).count(), 732);
}

#[test]
fn philly_jobs() {
    let file = "philly/philly_dev_2017-09-04_2017-10-31.csv.gz";
    let Some(path) = data_file(file) else { return };
    let jobs: Vec<_> = philly::gangs(&path)
        .and_then(|rows| rows.collect::<Result<_, _>>())
        .expect("the published file is well-formed");
    assert_eq!(jobs.len(), 52_849);
    assert_eq!(jobs.iter().filter(|job| job.gpus > 1).count(), 2_661);
    assert_eq!(jobs.iter().filter(|job| job.gpus > 8).count(), 99);
    // the jobs of 64 and 128 GPUs came later than this part of the trace
    assert_eq!(jobs.iter().map(|job| job.gpus).max(), Some(32));
    assert_eq!(jobs.iter().filter(|job| job.gpus == 32 && job.members() == 4).count(), 23);
    let gpu_hours: f64 =
        jobs.iter().map(|job| f64::from(job.gpus) * job.duration.as_secs_f64() / 3600.0).sum();
    assert!((gpu_hours - 642_409.0).abs() < 1.0, "{gpu_hours}");
    assert!(jobs.iter().all(|job| {
        (0..job.members()).map(|index| job.member_gpus(index)).sum::<u32>() == job.gpus
    }));
    assert!(jobs.is_sorted_by_key(|job| job.submitted_s));
}

#[test]
fn a_plan_counts_what_it_would_create() {
    let Some(nodes) = data_file("openb/openb_node_list_gpu_node.csv") else { return };
    let Some(pods) = data_file("openb/openb_pod_list_default.csv") else { return };
    let plan = Plan { nodes: Some(nodes), pods: Some(pods), limit: Some(100), ..Plan::default() };
    let totals = plan.totals().expect("well-formed files");
    assert_eq!((totals.nodes, totals.gpus, totals.pods, totals.gangs), (1213, 6212, 100, 0));
}
