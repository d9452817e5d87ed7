//! How soon a borrower gives back.

use super::{HOUR_MS, fair, inputs, nodes, queue};
use mss_scheduler::simulator::virtual_time::Stage;

/// Ways of the calls and of the news between them, and one cycle.
const CYCLE_MS: i64 = 200;

/// Eight GPUs are lent, and asked for at `ask_s`. Returns how long the owner waited, in
/// milliseconds, until he held all of them.
fn wait(min_runtime_s: i64, grace_s: i64, stop_s: i64, ask_s: i64, members: u32, seed: u64) -> i64 {
    let cluster = format!("{}\ntiming: {{stop: {stop_s}s}}", nodes(2, 8));
    let preemption = format!("preemption: {{minRuntime: {min_runtime_s}s, grace: {grace_s}s}}");
    let queues = queue("borrower", &format!("namespaces: [borrower], {preemption}"))
        + &queue("owner", "namespaces: [owner], quota: {nvidia.com/gpu: 8, cpu: 48}");
    let each = 8 / members;
    let gangs = format!(
        "gangs:
- {{name: b, namespace: borrower, run: 4h, count: 16, requests: {{nvidia.com/gpu: 1}}}}
- {{name: o, namespace: owner, arrival: {ask_s}s, run: 10m, members: {members}, \
     requests: {{nvidia.com/gpu: {each}}}}}
"
    );
    let inputs = inputs(&cluster, &gangs, &queues);
    let mut bound = None;
    let outcome = fair(&inputs, seed, |moment| {
        if bound.is_none() && moment.now_ms >= ask_s * 1000 && moment.held(1).whole == 8 {
            let mut own = moment.pods().filter(|pod| inputs.tenant_of[pod.gang as usize] == 1);
            assert!(own.all(|pod| pod.stage == Stage::Bound));
            bound = Some(moment.now_ms);
        }
    });
    assert_eq!(outcome.summary.done, 17);
    bound.expect("the owner runs") - ask_s * 1000
}

/// Minimum run time left + queue grace + termination + one cycle. The grace of the queue comes
/// before the eviction and the pod's own after it, so they add up; the larger of the two is not
/// enough. There are no disruption budgets here.
#[test]
fn a_borrower_gives_back_within_the_bound() {
    let mut closest: f64 = 0.0;
    for min_runtime_s in [0, 60, 600] {
        for (grace_s, stop_s) in [(0, 5), (30, 5), (5, 60)] {
            for ask_s in [30, 300, 1800] {
                for members in [1, 8] {
                    for seed in 0..3 {
                        let took = wait(min_runtime_s, grace_s, stop_s, ask_s, members, seed);
                        // pods of the borrower were bound within the first second
                        let left = (min_runtime_s * 1000 + 1000 - ask_s * 1000).max(0);
                        let longest_stop = stop_s * 1250;
                        let bound = left + grace_s * 1000 + longest_stop + CYCLE_MS;
                        closest = closest.max(took as f64 / bound as f64);
                        assert!(
                            took <= bound,
                            "minimum run time {min_runtime_s} s, grace {grace_s} s, stop \
                             {stop_s} s, asked at {ask_s} s: {took} ms of {bound}"
                        );
                    }
                }
            }
        }
    }
    println!("the longest took {:.1} % of its bound", closest * 100.0);
    assert!(closest > 0.8, "the bound is not empty: {closest}");
    let strict = wait(0, 30, 5, HOUR_MS / 1000, 1, 1);
    println!("with a queue grace of 30 s and 5 s to stop: {strict} ms");
}
