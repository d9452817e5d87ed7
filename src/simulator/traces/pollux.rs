//! Measured speeds of elastic training jobs, and their workloads, as published with Pollux
//! (OSDI'21).
//!
//! A folder has one folder for each application. There `placements.csv` and `scalability.csv` tell
//! how long a step takes with so many replicas and so large a local batch; `validation-B.csv` tells
//! how many iterations the training takes with the batch size B.

use super::TraceError;
use super::table::{Row, Table};
use std::collections::BTreeMap;
use std::path::{Path, PathBuf};

/// The columns of a workload.
pub const WORKLOAD_COLUMNS: &[&str] =
    &["name", "time", "application", "num_replicas", "batch_size"];
const PLACEMENT_COLUMNS: &[&str] = &["placement", "local_bsz", "step_time", "sync_time"];
const SCALABILITY_COLUMNS: &[&str] =
    &["num_nodes", "num_replicas", "local_bsz", "step_time", "sync_time"];
const VALIDATION_COLUMNS: &[&str] = &["iteration"];
/// Most replicas of one job.
const REPLICAS_MAX: u32 = 10_000;

/// Why there is no curve. All of these are for the person who named the application.
#[derive(Debug, thiserror::Error)]
pub enum CurveError {
    /// Nobody has said where the measurements are.
    #[error(
        "the application {0:?} has measured speeds: name the folder of the measurements with \
         --curves"
    )]
    NoFolder(Box<str>),
    /// A file is not as it should be.
    #[error("the measurements of the application {application:?}: {source}")]
    Trace {
        /// The application.
        application: Box<str>,
        /// What is wrong.
        source: TraceError,
    },
    /// It was not measured at this batch size.
    #[error(
        "the application {application:?} was not trained with batch size {batch}: choose one of \
         {known}"
    )]
    Batch {
        /// The application.
        application: Box<str>,
        /// The batch size.
        batch: u32,
        /// Those there are.
        known: String,
    },
}

/// A job of a workload.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ElasticJob {
    /// Name, unique in the file.
    pub name: Box<str>,
    /// Seconds from the start.
    pub arrival_s: u32,
    /// What it trains.
    pub application: Box<str>,
    /// Replicas of one GPU each.
    pub replicas: u32,
    /// Batch size of all replicas together.
    pub batch: u32,
}

/// Reads a workload, plain or gzipped.
///
/// # Errors
/// A file that cannot be opened or lacks a column; then, by row, the first malformed field.
pub fn jobs(
    path: &Path,
) -> Result<impl Iterator<Item = Result<ElasticJob, TraceError>> + Send, TraceError> {
    Table::open(path, WORKLOAD_COLUMNS, job)
}

fn job(row: &Row<'_>) -> Result<ElasticJob, TraceError> {
    let plain = |column: usize| {
        let text = row.text(column);
        let fine = crate::model::contract::is_object_name(text);
        let expected = "a name of lower-case letters, digits and '-'";
        if fine { Ok(text.into()) } else { Err(row.malformed(column, expected)) }
    };
    let count = |column: usize, expected: &'static str| {
        let count: u32 = row.number(column, expected)?;
        if count == 0 { Err(row.malformed(column, expected)) } else { Ok(count) }
    };
    let replicas = count(3, "a number of replicas from 1 to 10000")?;
    if replicas > REPLICAS_MAX {
        return Err(row.malformed(3, "a number of replicas from 1 to 10000"));
    }
    Ok(ElasticJob {
        name: plain(0)?,
        arrival_s: row.number(1, "seconds, a whole number")?,
        application: plain(2)?,
        replicas,
        batch: count(4, "a batch size of at least 1")?,
    })
}

/// One measurement: seconds of a step, of which so much is spent waiting for other replicas.
#[derive(Clone, Copy, Debug)]
struct Step {
    local: f64,
    step_s: f64,
    sync_s: f64,
}

/// What was measured of one application.
#[derive(Clone, Debug, Default)]
struct Measured {
    /// by replicas; of each number on the fewest nodes that were tried; by local batch
    steps: BTreeMap<u32, Vec<Step>>,
    /// iterations of a whole training, by batch size
    iterations: BTreeMap<u32, u64>,
}

/// The measurements of a folder, read as they are asked for.
#[derive(Clone, Debug, Default)]
pub struct Curves {
    folder: Option<PathBuf>,
    known: BTreeMap<Box<str>, Measured>,
}

impl Curves {
    /// Of a folder; without one, every question is an error.
    #[must_use]
    pub fn of(folder: Option<&Path>) -> Self {
        Self { folder: folder.map(Path::to_path_buf), known: BTreeMap::new() }
    }

    /// Batches a second of one batch size with 1, 2 and up to `members` members of `each` replicas.
    ///
    /// # Errors
    /// No folder, or a malformed file.
    pub fn speeds(
        &mut self,
        application: &str,
        batch: u32,
        each: u32,
        members: u32,
    ) -> Result<Vec<f64>, CurveError> {
        let measured = self.measured(application)?;
        Ok((1..=members).map(|count| measured.speed(batch, count.saturating_mul(each))).collect())
    }

    /// Seconds that a whole training takes with so many replicas.
    ///
    /// # Errors
    /// As [`Self::speeds`], or the application was not trained with this batch size.
    pub fn run_s(
        &mut self,
        application: &str,
        batch: u32,
        replicas: u32,
    ) -> Result<f64, CurveError> {
        let measured = self.measured(application)?;
        let Some(iterations) = measured.iterations.get(&batch) else {
            let known: Vec<String> = measured.iterations.keys().map(u32::to_string).collect();
            let known = known.join(", ");
            return Err(CurveError::Batch { application: application.into(), batch, known });
        };
        Ok(*iterations as f64 / measured.speed(batch, replicas).max(1e-9))
    }

    fn measured(&mut self, application: &str) -> Result<&Measured, CurveError> {
        if !self.known.contains_key(application) {
            let folder = self.folder.as_ref();
            let folder = folder.ok_or_else(|| CurveError::NoFolder(application.into()))?;
            let measured = Measured::read(&folder.join(application))
                .map_err(|source| CurveError::Trace { application: application.into(), source })?;
            self.known.insert(application.into(), measured);
        }
        Ok(&self.known[application])
    }
}

impl Measured {
    fn read(folder: &Path) -> Result<Self, TraceError> {
        let placed = Table::open(&folder.join("placements.csv"), PLACEMENT_COLUMNS, placement)?;
        let scaled = Table::open(&folder.join("scalability.csv"), SCALABILITY_COLUMNS, scale)?;
        // by replicas and nodes, then by local batch in thousandths
        let mut sums: BTreeMap<(u32, u32), BTreeMap<u64, (Step, f64)>> = BTreeMap::new();
        for row in placed.chain(scaled) {
            let (place, step) = row?;
            let key = (step.local * 1000.0) as u64;
            let zero = (Step { step_s: 0.0, sync_s: 0.0, ..step }, 0.0);
            let (sum, count) = sums.entry(place).or_default().entry(key).or_insert(zero);
            (sum.step_s, sum.sync_s) = (sum.step_s + step.step_s, sum.sync_s + step.sync_s);
            *count += 1.0;
        }
        let mut steps: BTreeMap<u32, Vec<Step>> = BTreeMap::new();
        for ((replicas, _), by_batch) in sums {
            let mean = |(sum, count): (Step, f64)| Step {
                local: sum.local,
                step_s: sum.step_s / count,
                sync_s: sum.sync_s / count,
            };
            // the fewest nodes come first
            steps.entry(replicas).or_insert_with(|| by_batch.into_values().map(mean).collect());
        }
        Ok(Self { steps, iterations: iterations(folder)? })
    }

    /// Batches a second. Between numbers of replicas that were measured it is interpolated, beyond
    /// the last it does not grow.
    fn speed(&self, batch: u32, replicas: u32) -> f64 {
        let at =
            |(count, steps): (&u32, &Vec<Step>)| (f64::from(*count), rate(batch, *count, steps));
        let below = self.steps.range(..=replicas).next_back().map(at);
        let above = self.steps.range(replicas..).next().map(at);
        match (below, above) {
            (Some((x0, y0)), Some((x1, y1))) if x1 > x0 => {
                y0 + (y1 - y0) * (f64::from(replicas) - x0) / (x1 - x0)
            }
            (Some((_, rate)), _) | (None, Some((_, rate))) => rate,
            (None, None) => 0.0,
        }
    }
}

/// Batches a second of so many replicas. A local batch above the largest that was measured, which
/// is what the memory of a GPU holds, is done in several parts, of which only the last is
/// synchronised; one below the smallest takes as long as the smallest. Pollux,
/// `simulator/applications.py`, `get_throughput`.
fn rate(batch: u32, replicas: u32, steps: &[Step]) -> f64 {
    let (Some(first), Some(last)) = (steps.first(), steps.last()) else { return 0.0 };
    let whole = f64::from(batch) / f64::from(replicas.max(1));
    let parts = (whole / last.local).ceil().max(1.0);
    let local = (whole / parts).clamp(first.local, last.local);
    let after = steps.partition_point(|step| step.local < local).min(steps.len() - 1);
    let (low, high) = (steps[after.saturating_sub(1)], steps[after]);
    let part =
        if high.local > low.local { (local - low.local) / (high.local - low.local) } else { 0.0 };
    let step_s = low.step_s + (high.step_s - low.step_s) * part;
    let sync_s = low.sync_s + (high.sync_s - low.sync_s) * part;
    1.0 / (step_s + (parts - 1.0) * (step_s - sync_s)).max(1e-9)
}

fn step(row: &Row<'_>, first: usize) -> Result<Step, TraceError> {
    let expected = "a number above 0";
    let number = |column: usize, least: f64| {
        let value: f64 = row.number(column, expected)?;
        let fine = value.is_finite() && value >= least;
        if fine { Ok(value) } else { Err(row.malformed(column, expected)) }
    };
    let (local, step_s) = (number(first, 0.001)?, number(first + 1, 1e-9)?);
    Ok(Step { local, step_s, sync_s: number(first + 2, 0.0)?.min(step_s) })
}

/// Replicas and nodes of a row of `placements.csv`: each digit is a node with so many GPUs.
fn placement(row: &Row<'_>) -> Result<((u32, u32), Step), TraceError> {
    let digits: Option<Vec<u32>> = row.text(0).chars().map(|c| c.to_digit(10)).collect();
    let digits = digits.filter(|digits| !digits.is_empty() && !digits.contains(&0));
    let digits = digits.ok_or_else(|| row.malformed(0, "a digit from 1 to 9 for each node"))?;
    let nodes = u32::try_from(digits.len()).expect("a field is short");
    Ok(((digits.iter().sum(), nodes), step(row, 1)?))
}

fn scale(row: &Row<'_>) -> Result<((u32, u32), Step), TraceError> {
    let count = |column: usize| row.number(column, "a whole number above 0");
    Ok(((count(1)?, count(0)?), step(row, 2)?))
}

fn iterations(folder: &Path) -> Result<BTreeMap<u32, u64>, TraceError> {
    let failed = |source| TraceError::Open { path: folder.display().to_string().into(), source };
    let mut found = BTreeMap::new();
    for entry in std::fs::read_dir(folder).map_err(failed)? {
        let path = entry.map_err(failed)?.path();
        let name = path.file_name().and_then(|name| name.to_str()).unwrap_or_default();
        let batch = name.strip_prefix("validation-").and_then(|rest| rest.strip_suffix(".csv"));
        let Some(batch) = batch.and_then(|batch| batch.parse().ok()) else { continue };
        let parse = |row: &Row<'_>| row.number::<u64>(0, "a whole number");
        let mut last = 0;
        for iteration in Table::open(&path, VALIDATION_COLUMNS, parse)? {
            last = iteration?.max(last);
        }
        found.insert(batch, last);
    }
    Ok(found)
}

#[cfg(test)]
mod tests {
    use super::*;

    /// One application: a step of a local batch of 10 takes a second, of 20 two; with two replicas
    /// half a second more.
    fn folder() -> tempfile::TempDir {
        let folder = tempfile::tempdir().expect("a folder");
        let app = folder.path().join("app");
        std::fs::create_dir(&app).expect("writable");
        let write = |name: &str, text: &str| std::fs::write(app.join(name), text).expect("written");
        write(
            "placements.csv",
            "placement,local_bsz,step_time,sync_time\n1,10,1,0\n1,20,2,0\n2,10,1.5,0.5\n\
             2,20,2.5,0.5\n11,10,9,8\n11,20,9,8\n",
        );
        write(
            "scalability.csv",
            "num_nodes,num_replicas,local_bsz,step_time,sync_time\n4,4,10,2,1\n",
        );
        write("validation-40.csv", "progress,iteration\n1,50\n2,100\n");
        folder
    }

    #[test]
    fn speeds_are_those_that_were_measured() {
        let folder = folder();
        let mut curves = Curves::of(Some(folder.path()));
        let speeds = curves.speeds("app", 40, 1, 5).expect("it was measured");
        // one: two parts of 20; two: one part of 20, on one node; four: 10 each
        let expected = [1.0 / 4.0, 1.0 / 2.5, (1.0 / 2.5 + 1.0 / 2.0) / 2.0, 1.0 / 2.0, 1.0 / 2.0];
        let near = speeds.iter().zip(expected).all(|(a, b)| (a - b).abs() < 1e-9);
        assert!(near, "{speeds:?} {expected:?}");
        assert_eq!(curves.speeds("app", 40, 2, 2).expect("measured"), [speeds[1], speeds[3]]);
        assert!((curves.run_s("app", 40, 1).expect("measured") - 400.0).abs() < 1e-6);
    }

    #[test]
    fn what_was_not_measured_is_said() {
        let folder = folder();
        let mut curves = Curves::of(Some(folder.path()));
        let error = curves.run_s("app", 41, 1).expect_err("no such batch").to_string();
        assert!(error.contains("batch size 41: choose one of 40"), "{error}");
        let error = curves.speeds("nap", 40, 1, 1).expect_err("no such application").to_string();
        assert!(error.contains("\"nap\"") && error.contains("placements.csv"), "{error}");
        let error = Curves::default().speeds("app", 40, 1, 1).expect_err("no folder").to_string();
        assert!(error.contains("--curves"), "{error}");
    }
}
