//! Weights under saturation, and many small queues beside a large one.

use super::{Dice, HOUR_MS, fair, inputs, nodes, queue};
use std::fmt::Write as _;

/// LSF's default: after so long an hour of use counts a tenth.
const HIST_MS: i64 = 5 * HOUR_MS;
/// Measured is the day that begins after five times that.
const BEGIN_MS: i64 = 5 * HIST_MS;
const END_MS: i64 = BEGIN_MS + 24 * HOUR_MS;
const SEEDS: u64 = 10;
const SLOTS: u64 = 136;

/// Saturates 136 slots of one GPU. Two users share each queue, and each asks for 0.6 of what the
/// queue deserves, all the time. The jobs of one of them run ten times as long as all others.
fn workload(seed: u64, weights: &[u32]) -> String {
    let mut dice = Dice::seeded(seed);
    let mut text = "gangs:\n".to_owned();
    for (queue, weight) in weights.iter().enumerate() {
        let deserved = SLOTS * u64::from(*weight) / u64::from(weights.iter().sum::<u32>());
        for user in ["a", "b"] {
            let minutes = if queue == 1 && user == "a" { 600 } else { 60 };
            let slots = deserved * 6 / 10 + 1;
            for number in 0..slots * (END_MS as u64 / 60_000).div_ceil(minutes) {
                let arrival = number / slots * minutes * 60 + dice.below(minutes * 60);
                let arrival = if number < slots { 0 } else { arrival };
                let run = minutes * 60 * (75 + dice.below(51)) / 100;
                writeln!(
                    text,
                    "- {{name: {user}-{number}, namespace: q{queue}-{user}, arrival: {arrival}s, \
                     run: {run}s, requests: {{nvidia.com/gpu: 1}}}}"
                )
                .expect("text takes all");
            }
        }
    }
    text
}

/// The largest difference, in percentage points, between a queue's part of the GPU-seconds of the
/// day and its part of the weights.
fn error_points(seed: u64, weights: &[u32]) -> f64 {
    let specs: Vec<String> = (weights.iter().enumerate())
        .map(|(i, weight)| {
            queue(&format!("q{i}"), &format!("weight: {weight}, namespaces: [q{i}-a, q{i}-b]"))
        })
        .collect();
    let inputs = inputs(&nodes(17, 8), &workload(seed, weights), &specs.concat());
    let mut used = vec![0; weights.len()];
    let (mut last, mut held) = (0, vec![0; weights.len()]);
    let mut starved = 0;
    fair(&inputs, seed, |moment| {
        let within = |at: i64| at.clamp(BEGIN_MS, END_MS);
        for (queue, held) in held.iter_mut().enumerate() {
            used[queue] += *held * (within(moment.now_ms) - within(last));
            *held = moment.held(queue).whole;
            let busy = (BEGIN_MS..END_MS).contains(&moment.now_ms);
            starved += u64::from(busy && moment.pending(queue).whole == 0);
        }
        last = moment.now_ms;
    });
    assert_eq!(starved, 0, "the demand is saturated all the time");
    let (all, sum): (i64, u32) = (used.iter().sum(), weights.iter().sum());
    let errors = used.iter().zip(weights).map(|(used, weight)| {
        (*used as f64 / all as f64 - f64::from(*weight) / f64::from(sum)).abs() * 100.0
    });
    errors.fold(0.0, f64::max)
}

#[test]
fn weights_hold_within_two_points_under_saturation() {
    for weights in [[60, 20, 5], [9, 3, 1]] {
        let errors: Vec<f64> = std::thread::scope(|scope| {
            let run = |seed| scope.spawn(move || error_points(seed, &weights));
            let runs: Vec<_> = (0..SEEDS).map(run).collect();
            runs.into_iter().map(|run| run.join().expect("no panic")).collect()
        });
        let worst = errors.iter().copied().fold(0.0, f64::max);
        println!("weights {weights:?}: at most {worst:.2} points off in {SEEDS} seeds");
        assert!(worst <= 2.0, "{weights:?}: {errors:?}");
    }
}

/// One queue of weight 64 and 64 of weight 1, on 190 GPUs. Each of the small ones holds a gang of
/// two GPUs, above its share of 1.484; the large one asks later, for all.
#[test]
fn many_small_rigid_queues_do_not_starve_a_large_one() {
    let mut queues = queue("large", "weight: 64, namespaces: [large]");
    let mut gangs = "gangs:\n- {name: l, namespace: large, arrival: 10m, run: 2h, count: 190, \
                     requests: {nvidia.com/gpu: 1}}\n"
        .to_owned();
    for number in 0..64 {
        queues += &queue(&format!("s{number}"), &format!("weight: 1, namespaces: [s{number}]"));
        writeln!(
            gangs,
            "- {{name: s, namespace: s{number}, run: 4h, requests: {{nvidia.com/gpu: 2}}}}"
        )
        .expect("text takes all");
    }
    let inputs = inputs(&nodes(19, 10), &gangs, &queues);
    assert_eq!(&*inputs.tenants[0], "large");
    let window = 11 * 60_000..60 * 60_000;
    let (mut least, mut small) = (i64::MAX, 0);
    // what holds since the last moment
    let mut since = (0, 0, 0);
    fair(&inputs, 1, |moment| {
        if moment.now_ms > window.start && since.0 < window.end {
            (least, small) = (least.min(since.1), since.2);
        }
        let running = (1..65).filter(|tenant| moment.held(*tenant).whole > 0).count();
        since = (moment.now_ms, moment.held(0).whole, running);
    });
    println!("the large queue holds at least {least} of its 95.024 GPUs, {small} small ones run");
    assert!(least >= 95, "{least}");
    assert_eq!(small, 47, "as many pairs as fit beside its share");
}
