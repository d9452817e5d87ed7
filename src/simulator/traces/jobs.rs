//! Jobs in a CSV file of our own columns, for traces that have no reader.

use super::TraceError;
use super::table::{Row, Table, open};
use crate::model::contract::is_object_name;
use crate::model::quantity;
use std::io::Read;
use std::path::Path;

/// The columns; the first two must be there, all others may be absent or empty.
pub const COLUMNS: &[&str] = &[
    "arrival_s",
    "run_s",
    "gpus",
    "members",
    "min_member",
    "max_member",
    "name",
    "namespace",
    "queue",
    "cpu",
    "memory",
    "priority",
    "checkpoint_s",
];

const REQUIRED: usize = 2;
/// Longest time taken, in seconds: ten years.
const SECONDS_MAX: f64 = 10.0 * 366.0 * 86_400.0;
const MEMBERS_MAX: u32 = 10_000;
/// Most GPUs of one member.
const GPUS_MAX: u32 = 64;

/// A job of the file.
#[derive(Clone, Debug, PartialEq)]
pub struct Job {
    /// Row in its file, from 1.
    pub number: u64,
    /// From the start, in milliseconds.
    pub arrival_ms: i64,
    /// Run time with all members, in milliseconds.
    pub run_ms: i64,
    /// GPUs of each member.
    pub gpus: u32,
    /// Pods.
    pub members: u32,
    /// Those without which none runs.
    pub min_member: u32,
    /// The most that run.
    pub max_member: u32,
    /// A name, unique in its namespace; `None`: by its number.
    pub name: Option<Box<str>>,
    /// Its namespace.
    pub namespace: Option<Box<str>>,
    /// Its queue.
    pub queue: Option<Box<str>>,
    /// Milli-CPU of each member; `None`: in proportion to its GPUs.
    pub cpu_milli: Option<i64>,
    /// Bytes of each member; `None`: in proportion to its GPUs.
    pub memory: Option<i64>,
    /// Priority of its pods.
    pub priority: i32,
    /// Running time between two checkpoints, in milliseconds; `None`: there are none.
    pub checkpoint_ms: Option<i64>,
}

/// Reads jobs, plain or gzipped.
///
/// # Errors
/// A file that cannot be opened, lacks a column or has one that is not known; then, by row, the
/// first malformed field.
pub fn jobs(
    path: &Path,
) -> Result<impl Iterator<Item = Result<Job, TraceError>> + Send, TraceError> {
    Table::read_some(&path.display().to_string(), open(path)?, COLUMNS, REQUIRED, job)
}

/// As [`jobs`], from text; `name` is what errors call it.
///
/// # Errors
/// As [`jobs`].
pub fn jobs_from(
    name: &str,
    text: impl Read + Send + 'static,
) -> Result<impl Iterator<Item = Result<Job, TraceError>> + Send, TraceError> {
    Table::read_some(name, Box::new(text), COLUMNS, REQUIRED, job)
}

fn job(row: &Row<'_>) -> Result<Job, TraceError> {
    let members = count(row, 3)?.unwrap_or(1);
    let least = "a whole number from 1 to members";
    let min_member = count(row, 4)?.unwrap_or(members);
    let max_member = count(row, 5)?.unwrap_or(members);
    for (column, value, most) in [(4, min_member, max_member), (5, max_member, members)] {
        if value > most {
            return Err(row.malformed(column, least));
        }
    }
    let amount = |column: usize, scale: u32| {
        let text = row.given(column);
        let parsed = text.map(|text| quantity::parse(text, scale).filter(|amount| *amount >= 0));
        parsed.map(|amount| amount.ok_or_else(|| row.malformed(column, "a quantity"))).transpose()
    };
    let priority = "a priority, a whole number";
    Ok(Job {
        number: row.number,
        arrival_ms: millis(row, 0)?,
        run_ms: millis(row, 1)?,
        gpus: gpus(row, 2)?,
        members,
        min_member,
        max_member,
        name: name(row, 6)?,
        namespace: name(row, 7)?,
        queue: name(row, 8)?,
        cpu_milli: amount(9, 3)?,
        memory: amount(10, 0)?,
        priority: if row.given(11).is_some() { row.number(11, priority)? } else { 0 },
        checkpoint_ms: match row.given(12) {
            Some(_) => Some(millis(row, 12)?.max(1)),
            None => None,
        },
    })
}

fn gpus(row: &Row<'_>, column: usize) -> Result<u32, TraceError> {
    let expected = "a number of GPUs from 0 to 64";
    let Some(_) = row.given(column) else { return Ok(1) };
    let gpus = row.number(column, expected)?;
    if gpus > GPUS_MAX {
        return Err(row.malformed(column, expected));
    }
    Ok(gpus)
}

fn count(row: &Row<'_>, column: usize) -> Result<Option<u32>, TraceError> {
    let expected = "a whole number from 1 to 10000";
    let Some(_) = row.given(column) else { return Ok(None) };
    let count = row.number(column, expected)?;
    if (1..=MEMBERS_MAX).contains(&count) {
        return Ok(Some(count));
    }
    Err(row.malformed(column, expected))
}

fn millis(row: &Row<'_>, column: usize) -> Result<i64, TraceError> {
    let expected = "seconds, a number from 0 to ten years";
    let seconds: f64 = row.number(column, expected)?;
    if (0.0..=SECONDS_MAX).contains(&seconds) {
        return Ok((seconds * 1000.0).round() as i64);
    }
    Err(row.malformed(column, expected))
}

fn name(row: &Row<'_>, column: usize) -> Result<Option<Box<str>>, TraceError> {
    match row.given(column) {
        Some(name) if !is_object_name(name) => {
            Err(row.malformed(column, "a name of lower-case letters, digits, '-' and '.'"))
        }
        name => Ok(name.map(Into::into)),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn read(text: &'static str) -> Result<Vec<Job>, String> {
        let rows = jobs_from("jobs.csv", text.as_bytes()).and_then(Iterator::collect);
        rows.map_err(|error: TraceError| error.to_string())
    }

    #[test]
    fn only_arrival_and_run_time_are_needed() {
        let rows = read("run_s,arrival_s\n60.5,0\n1,2\n").expect("well-formed");
        let job = &rows[0];
        assert_eq!((job.arrival_ms, job.run_ms, job.gpus, job.members), (0, 60_500, 1, 1));
        assert_eq!((rows.len(), rows[1].number), (2, 2));
        let all = "arrival_s,run_s,gpus,members,min_member,max_member,name,namespace,queue,cpu,\
                   memory,priority,checkpoint_s\n1,2,8,4,2,3,llama,nlp,research,32,1Gi,-5,600\n";
        let rows = read(all).expect("well-formed");
        let job = &rows[0];
        assert_eq!((job.gpus, job.members, job.min_member, job.max_member), (8, 4, 2, 3));
        assert_eq!((job.cpu_milli, job.memory), (Some(32_000), Some(1 << 30)));
        assert_eq!((job.priority, job.checkpoint_ms), (-5, Some(600_000)));
        assert_eq!(job.queue.as_deref(), Some("research"));
    }

    #[test]
    fn malformed_rows_are_named_by_line_and_column() {
        let cases = [
            ("arrival_s\n1\n", "no column \"run_s\""),
            ("arrival_s,run_s\n1,2\nx,2\n", "line 3: column \"arrival_s\" is \"x\""),
            ("arrival_s,run_s\n1,-2\n", "line 2: column \"run_s\" is \"-2\""),
            ("arrival_s,run_s,gpus\n1,2,65\n", "column \"gpus\" is \"65\""),
            ("arrival_s,run_s,members\n1,2,0\n", "column \"members\" is \"0\""),
            ("arrival_s,run_s,min_member\n1,2,2\n", "column \"min_member\" is \"2\""),
            ("arrival_s,run_s,queue\n1,2,No\n", "column \"queue\" is \"No\""),
            ("arrival_s,run_s,cpu\n1,2,many\n", "column \"cpu\" is \"many\""),
        ];
        for (text, expected) in cases {
            let error = read(text).expect_err("it is wrong");
            assert!(error.contains(expected), "{error}");
        }
    }
}
