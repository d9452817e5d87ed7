//! Readers on small inline files; `tests/traces.rs` reads the published ones.

use super::objects::{self, GPU_PRODUCT, ObjectOptions};
use super::{TraceError, openb, philly};
use crate::model::contract::{MIN_MEMBER, POD_GROUP};
use crate::simulator::kubelet::{GPU, RUN_SECONDS};
use k8s_openapi::api::core::v1::Pod;

const NODES: &str = "sn,cpu_milli,memory_mib,gpu,model\nn-0,32000,262144,0,\nn-1,96000,1,8,G2\n";

const POD_HEADER: &str = "name,cpu_milli,memory_mib,num_gpu,gpu_milli,gpu_spec,qos,pod_phase,\
                          creation_time,deletion_time,scheduled_time";

fn pods(rows: &str) -> Result<Vec<openb::TracePod>, TraceError> {
    let text = format!("{POD_HEADER}\n{rows}");
    openb::pods_from("pods.csv", std::io::Cursor::new(text))?.collect()
}

fn gangs(rows: &str) -> Result<Vec<philly::TraceGang>, TraceError> {
    let text = format!("timestamp,duration,num_gpus,gpu_time,cluster\n{rows}");
    philly::gangs_from("jobs.csv", std::io::Cursor::new(text))?.collect()
}

fn request<'a>(pod: &'a Pod, resource: &str) -> Option<&'a str> {
    let container = &pod.spec.as_ref()?.containers[0];
    container.resources.as_ref()?.requests.as_ref()?.get(resource).map(|q| q.0.as_str())
}

#[test]
fn nodes_keep_their_amounts_and_model() {
    let rows: Vec<_> = openb::nodes_from("nodes.csv", NODES.as_bytes())
        .and_then(Iterator::collect)
        .expect("well-formed rows");
    let nodes: Vec<_> = rows.iter().map(objects::node).collect();
    let label = |index: usize| nodes[index].metadata.labels.as_ref()?.get(GPU_PRODUCT);
    assert_eq!((label(0), label(1).map(String::as_str)), (None, Some("G2")));
    let status = nodes[1].status.as_ref().and_then(|status| status.allocatable.as_ref());
    let amounts: Vec<_> = status.expect("set").iter().map(|(k, v)| (&**k, &*v.0)).collect();
    let expected = [("cpu", "96000m"), ("memory", "1Mi"), (GPU, "8"), ("pods", "110")];
    assert_eq!(amounts, expected);
    assert!(
        !nodes[0].status.as_ref().expect("set").capacity.as_ref().expect("set").contains_key(GPU)
    );
}

#[test]
fn a_share_of_a_gpu_counts_as_one_and_models_become_affinity() {
    let rows = pods(
        "a,6000,12288,1,460,,LS,Running,427061,12902960,427061\n\
                     b,500,1024,2,1000,T4|P100,BE,Pending,1,2,\n\
                     c,100,10,0,0,,BE,Pending,1,2,\n",
    )
    .expect("well-formed rows");
    let pods: Vec<_> =
        rows.iter().map(|row| objects::pod(row, &ObjectOptions::default())).collect();
    let asked: Vec<_> = pods.iter().map(|pod| request(pod, GPU)).collect();
    assert_eq!(asked, [Some("1"), Some("2"), None]);
    assert_eq!(request(&pods[0], "cpu"), Some("6000m"));
    assert_eq!(request(&pods[0], "memory"), Some("12288Mi"));
    assert_eq!(rows[0].gpu_milli, 460);
    let text = serde_json::to_string(&pods[1]).expect("JSON");
    let term = r#"{"key":"nvidia.com/gpu.product","operator":"In","values":["T4","P100"]}"#;
    assert!(text.contains(term), "{text}");
    assert!(pods.iter().all(|pod| {
        pod.spec.as_ref().and_then(|spec| spec.scheduler_name.as_deref()) == Some("mss-scheduler")
    }));
}

#[test]
fn a_job_is_a_gang_of_members_with_at_most_8_gpus() {
    let rows = gangs(
        "2017-09-04 10:30:41,100.0,12,1200.0,7f04ca\n\
                      2017-09-07 03:58:57,5.5,128,704.0,6214e9\n",
    )
    .expect("well-formed rows");
    let options = ObjectOptions { speed: Some(10.0), ..ObjectOptions::default() };
    let first: Vec<_> = objects::gang(&rows[0], &options).collect();
    let asked: Vec<_> = first.iter().map(|pod| request(pod, GPU)).collect();
    assert_eq!(asked, [Some("8"), Some("4")]);
    assert_eq!(request(&first[1], "cpu"), Some("32000m"));
    let annotations = first[1].metadata.annotations.as_ref().expect("set");
    assert_eq!(annotations[POD_GROUP], "philly-1");
    assert_eq!(annotations[MIN_MEMBER], "2");
    assert_eq!(annotations[RUN_SECONDS], "10.000");
    assert_eq!(objects::gang(&rows[1], &options).count(), 16);
    assert_eq!(rows[1].submitted_s - rows[0].submitted_s, 235_696);
}

#[test]
fn errors_name_file_line_column_and_what_is_right() {
    let cases = [
        (
            "a,x,1,1,1000,,,,0,0,\n",
            "pods.csv: line 2: column \"cpu_milli\" is \"x\": expected milli",
        ),
        (
            "a,1,1,65,1000,,,,0,0,\n",
            "column \"num_gpu\" is \"65\": expected a number of GPUs from 0",
        ),
        ("a,1,1,2,500,,,,0,0,\n", "column \"gpu_milli\" is \"500\""),
        ("a,1,1,1,1000,T4||P100,,,0,0,\n", "column \"gpu_spec\" is \"T4||P100\""),
        ("a,1,1,1,1000,,,,0,0,\nA b,1,1,1,1000,,,,0,0,\n", "line 3: column \"name\" is \"A b\""),
        ("a,1,1\n", "pods.csv: reading line 2"),
        ("a,-1,1,1,1000,,,,0,0,\n", "column \"cpu_milli\" is \"-1\""),
    ];
    for (rows, expected) in cases {
        let error = pods(rows).expect_err(rows).to_string();
        assert!(error.contains(expected), "{error}\n  lacks {expected}");
    }
    let cases = [
        ("2017-13-04 10:30:41,1,1,1,a\n", "column \"timestamp\""),
        ("2017-09-04 10:30:41,NaN,1,1,a\n", "column \"duration\" is \"NaN\""),
        ("2017-09-04 10:30:41,1,0,1,a\n", "column \"num_gpus\" is \"0\""),
        ("2017-09-04 10:30:41,1,1,1,\n", "column \"cluster\" is \"\""),
    ];
    for (rows, expected) in cases {
        let error = gangs(rows).expect_err(rows).to_string();
        assert!(error.contains(expected), "{error}\n  lacks {expected}");
    }
    let error = openb::nodes_from("n.csv", "sn,cpu_milli\n".as_bytes()).err().expect("no columns");
    assert!(error.to_string().contains("no column \"memory_mib\""), "{error}");
}

#[test]
fn nothing_follows_an_error() {
    let text = format!("{POD_HEADER}\nbad row\nc,100,10,0,0,,BE,Pending,1,2,\n");
    let rows = openb::pods_from("pods.csv", std::io::Cursor::new(text)).expect("a header");
    assert_eq!(rows.map(|row| row.is_ok()).collect::<Vec<_>>(), [false]);
}
