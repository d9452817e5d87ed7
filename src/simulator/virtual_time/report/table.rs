//! The table at the end of a run.

use crate::simulator::virtual_time::Outcome;
use std::fmt::Write as _;

const HEADER: [&str; 22] = [
    "POLICY",
    "DONE",
    "MEAN WAIT",
    "P50",
    "P95",
    "P99",
    "MEAN JCT",
    "P50",
    "P95",
    "P99",
    "UTIL",
    "GPU ALLOC",
    "FRAGM",
    "UNFAIR",
    "EVICTED",
    "RESTARTS",
    "GPU-H LOST",
    "NODES LOST",
    "PODS LOST",
    "MAKESPAN",
    "DECISIONS",
    "PER SECOND",
];

/// One line a policy, in columns. `took_s`: seconds that each run took, in the order of the
/// outcomes; with none, how fast decisions came is not told.
#[must_use]
pub fn table(outcomes: &[Outcome], took_s: &[f64]) -> String {
    let mut rows: Vec<Vec<String>> = vec![HEADER.iter().map(ToString::to_string).collect()];
    rows.extend(outcomes.iter().map(row));
    for (index, row) in rows.iter_mut().enumerate().skip(1) {
        let decisions = outcomes[index - 1].summary.decisions() as f64;
        let speed = took_s.get(index - 1).map(|took| format!("{:.0}", decisions / took.max(1e-9)));
        row.push(speed.unwrap_or_else(|| "-".into()));
    }
    let width = |column: usize| rows.iter().map(|row| row[column].len()).max().unwrap_or(0);
    let widths: Vec<usize> = (0..HEADER.len()).map(width).collect();
    let mut text = String::new();
    for row in &rows {
        let mut line = format!("{:<width$}", row[0], width = widths[0]);
        for (cell, width) in row.iter().zip(&widths).skip(1) {
            let _ = write!(line, "  {cell:>width$}");
        }
        text += line.trim_end();
        text.push('\n');
    }
    text
}

/// The cells of a policy, also those of the page: all but the last, which the clock tells.
pub(super) fn row(outcome: &Outcome) -> Vec<String> {
    let summary = &outcome.summary;
    vec![
        summary.policy.to_owned(),
        format!("{}/{}", summary.done, summary.gangs),
        time(summary.wait_mean_s),
        time(summary.wait_median_s),
        time(summary.wait_p95_s),
        time(summary.wait_p99_s),
        time(summary.jct_mean_s),
        time(summary.jct_median_s),
        time(summary.jct_p95_s),
        time(summary.jct_p99_s),
        percent(summary.utilisation),
        percent(summary.allocation),
        percent(summary.fragmentation),
        percent(summary.fairness_error),
        summary.evicted_pods.to_string(),
        summary.restarts.to_string(),
        format!("{:.1}", summary.lost_gpu_hours),
        summary.failed_nodes.to_string(),
        summary.failed_pods.to_string(),
        time(summary.makespan_s),
        summary.decisions().to_string(),
    ]
}

fn percent(part: f64) -> String {
    format!("{:.1} %", part * 100.0)
}

/// Seconds for people.
pub(super) fn time(seconds: f64) -> String {
    match seconds {
        s if s < 60.0 => format!("{s:.1} s"),
        s if s < 3600.0 => format!("{:.1} m", s / 60.0),
        s if s < 48.0 * 3600.0 => format!("{:.1} h", s / 3600.0),
        s => format!("{:.1} d", s / 86_400.0),
    }
}
