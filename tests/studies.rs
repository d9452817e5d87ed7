//! Studies of fairness in simulated time, with the bounds that `docs/studies.md` states.
//!
//! Each tells its figures on standard output: `cargo test --release --test studies -- --nocapture`.

#[path = "support/data.rs"]
mod data;
#[path = "studies/giving_back.rs"]
mod giving_back;
#[path = "studies/philly.rs"]
mod philly;
#[path = "studies/philly_late.rs"]
mod philly_late;
#[path = "studies/promise.rs"]
mod promise;
#[path = "studies/weights.rs"]
mod weights;

use mss_scheduler::simulator::virtual_time::{
    Inputs, Moment, Outcome, Policy, RunOptions, policies, watch,
};
use std::time::Duration;

const HOUR_MS: i64 = 3_600_000;
const MINUTE_MS: i64 = 60_000;

/// The longest that anything takes to follow in a run with the default timing and without grace: a
/// victim stops within 6.25 s, and two cycles are started by calls and news within 0.1 s.
const SETTLED_MS: i64 = 6_250 + 2 * 100;

fn policy(name: &str) -> Policy {
    policies(&[name.to_owned()]).expect("it is one")[0]
}

fn fair(inputs: &Inputs, seed: u64, see: impl FnMut(&Moment<'_>)) -> Outcome {
    watch(inputs, &policy("fair-share"), RunOptions { seed, check: false }, see)
}

/// No room is drained: what is promised to a gang is promised beside that.
fn without_drains(mut inputs: Inputs) -> Inputs {
    inputs.configuration.drains.after = Duration::ZERO;
    inputs
}

fn inputs(cluster: &str, workload: &str, queues: &str) -> Inputs {
    Inputs::from_texts(cluster, workload, Some(queues)).unwrap_or_else(|error| panic!("{error}"))
}

fn nodes(count: u32, gpus: u32) -> String {
    format!(
        "nodes: [{{name: gpu, count: {count}, allocatable: {{nvidia.com/gpu: {gpus}, cpu: 96}}}}]"
    )
}

fn queue(name: &str, spec: &str) -> String {
    format!(
        "apiVersion: mss-scheduler.io/v1alpha1\nkind: Queue\nmetadata: {{name: {name}}}\n\
         spec: {{{spec}}}\n---\n"
    )
}

/// A generator of numbers (xorshift64*).
struct Dice(u64);

impl Dice {
    fn seeded(seed: u64) -> Self {
        Self(seed.wrapping_mul(0x9e37_79b9_7f4a_7c15) | 1)
    }

    fn below(&mut self, end: u64) -> u64 {
        self.0 ^= self.0 >> 12;
        self.0 ^= self.0 << 25;
        self.0 ^= self.0 >> 27;
        (self.0.wrapping_mul(0x2545_f491_4f6c_dd1d) >> 33) % end
    }
}
