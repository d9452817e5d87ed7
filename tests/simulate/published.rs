//! Every published data set that has a reader, as it was published.

use super::data::data_file;
use mss_scheduler::simulator::virtual_time::{Inputs, Outcome, RunOptions, Sources, policies, run};

fn read(sources: Sources) -> Inputs {
    Inputs::read(&sources).unwrap_or_else(|error| panic!("{error}"))
}

fn fair(inputs: &Inputs) -> Outcome {
    let policy = policies(&["fair-share".to_owned()]).expect("it is one")[0];
    run(inputs, &policy, RunOptions::default(), |_| {})
}

#[test]
fn the_log_of_nasa() {
    let Some(path) = data_file("nasa_ipsc1993/NASA-iPSC-1993-3.1-cln.swf.gz") else { return };
    let sources = Sources { nodes: Some(16), workload: Some(path), ..Sources::default() };
    let all = read(sources.clone());
    assert_eq!((all.gangs.len(), all.tenants.len(), all.gpus()), (18_239, 69, 128));
    let hours =
        all.gangs.iter().map(|gang| gang.gpus().whole * gang.run_ms).sum::<i64>() / 3_600_000;
    assert!((131_000..132_500).contains(&hours), "{hours}");
    let few = Sources { limit_rows: Some(1_000), speed_up: Some(4.0), ..sources };
    assert_eq!(fair(&read(few)).summary.done, 1_000);
}

#[test]
fn openb_nodes_and_pods() {
    let Some(nodes) = data_file("openb/openb_node_list_all_node.csv") else { return };
    let Some(pods) = data_file("openb/openb_pod_list_gpuspec10.csv.gz") else { return };
    let sources = Sources {
        cluster: Some(nodes),
        workload: Some(pods),
        whole_gpus: true,
        limit_rows: Some(500),
        ..Sources::default()
    };
    let inputs = read(sources);
    assert_eq!((inputs.cluster.nodes.len(), inputs.gpus()), (1_523, 6_212));
    assert_eq!(fair(&inputs).summary.done, 500);
}

#[test]
fn the_network_of_lingjun() {
    let Some(hosts) = data_file("lingjun2023/topo.csv") else { return };
    let Some(spot) = data_file("spotgpu2026/node_info_df.csv") else { return };
    let Some(workload) = data_file("pollux_elastic/workloads/workload-1.csv") else { return };
    let Some(curves) = data_file("pollux_elastic/traces") else { return };
    let sources = Sources { workload: Some(workload), curves: Some(curves), ..Sources::default() };
    let inputs = read(Sources { cluster: Some(hosts), ..sources.clone() });
    assert_eq!((inputs.cluster.nodes.len(), inputs.gpus()), (847, 6_776));
    let distinct = |layer: &str| {
        let key = format!("network.topology.nvidia.com/{layer}");
        let values = inputs.cluster.nodes.iter().filter_map(|node| node.label(&key));
        values.collect::<std::collections::BTreeSet<_>>().len()
    };
    assert_eq!(["core", "spine", "leaf"].map(distinct), [1, 3, 48]);
    let inputs = read(Sources { cluster: Some(spot), ..sources });
    assert_eq!((inputs.cluster.nodes.len(), inputs.gpus()), (4_278, 10_412));
}

#[test]
fn the_elastic_jobs_of_pollux_work_as_fast_as_was_measured() {
    let Some(curves) = data_file("pollux_elastic/traces") else { return };
    for folder in ["workloads", "workloads-realistic"] {
        let file = format!("pollux_elastic/{folder}/workload-1.csv");
        let Some(workload) = data_file(&file) else { return };
        let inputs = read(Sources {
            nodes: Some(8),
            workload: Some(workload),
            curves: Some(curves.clone()),
            ..Sources::default()
        });
        assert_eq!(inputs.gangs.len(), 160);
        for gang in &inputs.gangs {
            let curve = gang.curve.as_ref().expect("it was measured");
            let (members, rate) = (i64::from(gang.max_member), |n| curve.rate(n));
            assert_eq!(rate(1), 1000);
            // measured speed-ups are below linear, but for what noise and memory add
            let linear = (rate(members) as f64) <= 1250.0 * members as f64;
            assert!(linear, "{}: {} with {members}", gang.name, rate(members));
        }
        assert_eq!(fair(&inputs).summary.done, 160);
    }
}

#[test]
fn members_work_as_fast_with_shared_gpus_as_with_whole_ones() {
    let Some(curves) = data_file("pollux_elastic/traces") else { return };
    let folder = tempfile::tempdir().expect("a folder");
    let workload = folder.path().join("gangs.yaml");
    let gang = "members: 4, min-member: 1, run: 1h, application: bert, batch-size: 96";
    let text = format!(
        "gangs:\n- {{name: shared, {gang}, requests: {{}}, gpu-milli: 2000}}\n\
         - {{name: whole, {gang}, requests: {{nvidia.com/gpu: 2}}}}\n"
    );
    std::fs::write(&workload, text).expect("it can be written");
    let (workload, curves) = (Some(workload), Some(curves));
    let inputs =
        read(Sources { nodes: Some(1), shared_gpus: true, workload, curves, ..Sources::default() });
    let rates =
        |gang: usize| [1, 2, 3, 4].map(|n| inputs.gangs[gang].curve.as_ref().map(|c| c.rate(n)));
    assert!(rates(0).iter().all(Option::is_some));
    assert_eq!(rates(0), rates(1), "two GPUs each");
}
