//! The table at the end of a run.

use crate::simulator::virtual_time::Outcome;
use std::fmt::Write as _;

const HEADER: [&str; 11] = [
    "POLICY",
    "DONE",
    "MEAN WAIT",
    "MEDIAN",
    "P95",
    "MEAN JCT",
    "GPU USE",
    "EVICTED",
    "RESTARTS",
    "GPU-H LOST",
    "MAKESPAN",
];

/// One line a policy, in columns.
#[must_use]
pub fn table(outcomes: &[Outcome]) -> String {
    let mut rows: Vec<Vec<String>> = vec![HEADER.iter().map(ToString::to_string).collect()];
    rows.extend(outcomes.iter().map(row));
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

/// The cells of a policy, also those of the page.
pub(super) fn row(outcome: &Outcome) -> Vec<String> {
    let summary = &outcome.summary;
    vec![
        summary.policy.to_owned(),
        format!("{}/{}", summary.done, summary.gangs),
        time(summary.wait_mean_s),
        time(summary.wait_median_s),
        time(summary.wait_p95_s),
        time(summary.jct_mean_s),
        format!("{:.1} %", summary.utilisation * 100.0),
        summary.evicted_pods.to_string(),
        summary.restarts.to_string(),
        format!("{:.1}", summary.lost_gpu_hours),
        time(summary.makespan_s),
    ]
}

/// The titles of [`row`].
pub(super) fn header() -> &'static [&'static str] {
    &HEADER
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
