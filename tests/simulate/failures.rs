//! Nodes that are lost and come back.

use super::{inputs, outcome};
use mss_scheduler::simulator::virtual_time::Failures;

const GANGS: &str = "
gangs:
- {name: a, run: 20h, members: 2, requests: {nvidia.com/gpu: 8}, checkpoint: 1h, count: 20}
- {name: b, run: 2h, requests: {nvidia.com/gpu: 1}, count: 200, every: 10m}
";

#[test]
fn gangs_on_lost_nodes_go_on_from_their_checkpoints_and_all_end() {
    let mut inputs = inputs(GANGS, None);
    let calm = outcome(&inputs, "fair-share").summary;
    assert_eq!((calm.failed_nodes, calm.failed_pods, calm.restarts), (0, 0, 0));
    inputs.cluster.failures = Some(Failures { mtbf_ms: 40 * 3_600_000, repair_ms: 3_600_000 });
    let runs = ["fair-share", "fifo"].map(|policy| outcome(&inputs, policy).summary);
    for run in runs {
        assert_eq!(run.done, 220, "{run:?}");
        // four nodes for about 230 hours: 4 x 230 / 41 is 22
        assert!((8..60).contains(&run.failed_nodes), "{run:?}");
        assert!(run.failed_pods > 0 && run.restarts > 0, "{run:?}");
        let each = run.lost_gpu_hours / run.restarts as f64;
        assert!(each > 0.0 && each < 16.5, "at most an hour of 16 GPUs is lost: {each}");
        assert!(run.makespan_s > calm.makespan_s, "{run:?}");
    }
}

#[test]
fn without_a_checkpoint_more_is_lost() {
    let lost = |gangs: &str| {
        let mut inputs = inputs(gangs, None);
        inputs.cluster.failures = Some(Failures { mtbf_ms: 40 * 3_600_000, repair_ms: 60_000 });
        outcome(&inputs, "fifo").summary.lost_gpu_hours
    };
    assert!(lost(GANGS) * 2.0 < lost(&GANGS.replace(", checkpoint: 1h", "")));
}

#[test]
fn a_run_of_what_never_fits_ends_although_nodes_fail_for_ever() {
    let mut inputs =
        inputs("gangs: [{name: a, run: 1h, members: 5, requests: {nvidia.com/gpu: 8}}]", None);
    inputs.cluster.failures = Some(Failures { mtbf_ms: 3_600_000, repair_ms: 60_000 });
    assert_eq!(outcome(&inputs, "fair-share").summary.done, 0);
}
