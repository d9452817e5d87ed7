//! The files of a study.

use super::html;
use crate::simulator::virtual_time::gpus::gpus;
use crate::simulator::virtual_time::outcome::seconds;
use crate::simulator::virtual_time::{Inputs, Outcome, Summary};
use serde::Serialize;
use std::fs::File;
use std::io::{BufWriter, Write};
use std::path::Path;

/// Why the files of a study cannot be written. All of these are for the person who chose the
/// folder.
#[derive(Debug, thiserror::Error)]
#[error("writing {path}: {source}: choose another folder with --out, or make room")]
pub struct WriteError {
    /// The file or folder.
    pub path: Box<str>,
    /// The cause.
    pub source: std::io::Error,
}

/// Writes `gangs.csv`, `queues.csv`, `time.csv`, `summary.json`, `summary.csv` and `report.html`
/// into a folder, which is made if it does not exist.
///
/// # Errors
/// The first file that cannot be written.
pub fn write(
    folder: &Path,
    inputs: &Inputs,
    outcomes: &[Outcome],
    seed: u64,
) -> Result<(), WriteError> {
    let failed =
        |path: &Path, source| WriteError { path: path.display().to_string().into(), source };
    std::fs::create_dir_all(folder).map_err(|source| failed(folder, source))?;
    let file = |name: &str, fill: &dyn Fn(&mut dyn Write) -> std::io::Result<()>| {
        let path = folder.join(name);
        let written = File::create(&path).and_then(|file| {
            let mut file = BufWriter::new(file);
            fill(&mut file)?;
            file.flush()
        });
        written.map_err(|source| failed(&path, source))
    };
    file("gangs.csv", &|to| gangs(inputs, outcomes, to))?;
    file("queues.csv", &|to| queues(inputs, outcomes, to))?;
    file("time.csv", &|to| times(inputs, outcomes, to))?;
    file("summary.json", &|to| json(inputs, outcomes, seed, to))?;
    file("summary.csv", &|to| csv(outcomes, to))?;
    file("report.html", &|to| to.write_all(html::page(inputs, outcomes, seed).as_bytes()))
}

const GANG_COLUMNS: [&str; 13] = [
    "policy",
    "gang",
    "queue",
    "gpus",
    "arrival_s",
    "start_s",
    "end_s",
    "wait_s",
    "jct_s",
    "evicted_pods",
    "restarts",
    "lost_gpu_s",
    "gpu_milli",
];

/// A row for each policy and gang; what did not happen is empty.
fn gangs(inputs: &Inputs, outcomes: &[Outcome], to: &mut dyn Write) -> std::io::Result<()> {
    let mut csv = csv::Writer::from_writer(to);
    csv.write_record(GANG_COLUMNS)?;
    for outcome in outcomes {
        for gang in &outcome.gangs {
            let spec = &inputs.gangs[gang.gang];
            let shown = |at: Option<i64>| at.map(millis).unwrap_or_default();
            let since = |at: Option<i64>| shown(at.map(|at| at - spec.arrival_ms));
            csv.write_record([
                outcome.policy,
                &format!("{}/{}", spec.namespace, spec.name),
                &inputs.tenants[inputs.tenant_of[gang.gang]],
                &gpus(spec.gpus().milli()).to_string(),
                &millis(spec.arrival_ms),
                &shown(gang.started_ms),
                &shown(gang.ended_ms),
                &since(gang.started_ms),
                &since(gang.ended_ms),
                &gang.evicted_pods.to_string(),
                &gang.restarts.to_string(),
                &millis(i64::try_from(gang.lost_milli_ms / 1000).unwrap_or(i64::MAX)),
                &spec.of_each_milli().to_string(),
            ])?;
        }
    }
    csv.flush()
}

/// Thousandths as a number with three decimals.
fn millis(value: i64) -> String {
    let (sign, value) = (if value < 0 { "-" } else { "" }, value.unsigned_abs());
    format!("{sign}{}.{:03}", value / 1000, value % 1000)
}

/// A row for each policy, time and queue.
fn queues(inputs: &Inputs, outcomes: &[Outcome], to: &mut dyn Write) -> std::io::Result<()> {
    let mut csv = csv::Writer::from_writer(to);
    let columns = ["policy", "time_s", "queue", "allocated_gpus", "deserved_gpus", "pending_gpus"];
    csv.write_record(columns)?;
    for outcome in outcomes {
        for (at, shares) in outcome.samples.iter() {
            for (queue, share) in inputs.tenants.iter().zip(shares) {
                csv.write_record([
                    outcome.policy,
                    &seconds(at).to_string(),
                    queue,
                    &gpus(share.allocated_milli).to_string(),
                    &share.deserved_milli.map(millis).unwrap_or_default(),
                    &gpus(share.pending_milli).to_string(),
                ])?;
            }
        }
    }
    csv.flush()
}

/// A row for each policy and time.
fn times(inputs: &Inputs, outcomes: &[Outcome], to: &mut dyn Write) -> std::io::Result<()> {
    let mut csv = csv::Writer::from_writer(to);
    let columns = [
        "policy",
        "time_s",
        "gpus",
        "allocated_gpus",
        "working_gpus",
        "fragmented_gpus",
        "waiting_pods",
        "fairness_error",
    ];
    csv.write_record(columns)?;
    for outcome in outcomes {
        for (at, sample) in outcome.samples.all() {
            csv.write_record([
                outcome.policy,
                &seconds(at).to_string(),
                &inputs.gpus().to_string(),
                &gpus(sample.held_milli()).to_string(),
                &gpus(sample.at_work_milli).to_string(),
                &sample.fragments.to_string(),
                &sample.waiting.to_string(),
                &sample.unfairness.to_string(),
            ])?;
        }
    }
    csv.flush()
}

/// Writes the figures of the table, a row for each policy.
///
/// # Errors
/// What `to` says.
pub fn csv(outcomes: &[Outcome], to: &mut dyn Write) -> std::io::Result<()> {
    let mut csv = csv::Writer::from_writer(to);
    let mut header = false;
    for outcome in outcomes {
        let figures = serde_json::to_value(&outcome.summary)?;
        let figures = figures.as_object().into_iter().flatten();
        let flat: Vec<_> =
            figures.filter(|(_, value)| !value.is_array() && !value.is_object()).collect();
        if !std::mem::replace(&mut header, true) {
            csv.write_record(flat.iter().map(|(name, _)| name))?;
        }
        let cell = |value: &serde_json::Value| {
            value.as_str().map_or_else(|| value.to_string(), str::to_owned)
        };
        csv.write_record(flat.iter().map(|(_, value)| cell(value)))?;
    }
    csv.flush()
}

#[derive(Serialize)]
struct Study<'a> {
    seed: u64,
    nodes: usize,
    gpus: i64,
    gangs: usize,
    last_arrival_s: f64,
    policies: Vec<&'a Summary>,
}

/// Writes the figures of the table, and the same by queue, as JSON.
///
/// # Errors
/// What `to` says.
pub fn json(
    inputs: &Inputs,
    outcomes: &[Outcome],
    seed: u64,
    to: &mut dyn Write,
) -> std::io::Result<()> {
    let study = Study {
        seed,
        nodes: inputs.cluster.nodes.len(),
        gpus: inputs.gpus(),
        gangs: inputs.gangs.len(),
        last_arrival_s: seconds(inputs.last_arrival_ms()),
        policies: outcomes.iter().map(|outcome| &outcome.summary).collect(),
    };
    serde_json::to_writer_pretty(&mut *to, &study)?;
    writeln!(to)
}
