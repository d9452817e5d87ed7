//! Microsoft's Philly trace, one row a job: each job is a gang.

use super::TraceError;
use super::table::{Row, Table};
use jiff::civil::DateTime;
use jiff::tz::TimeZone;
use std::io::Read;
use std::path::Path;
use std::time::Duration;

/// GPUs of a node, and so the most that one member of a gang has.
pub const GPUS_PER_MEMBER: u32 = 8;

/// Most GPUs of one job; the trace has 128.
const GPUS_MAX: u32 = 1 << 16;

/// Longest duration taken, in seconds; the trace's longest job runs 54 days.
const DURATION_MAX_S: f64 = 10.0 * 366.0 * 86_400.0;

const COLUMNS: &[&str] = &["timestamp", "duration", "num_gpus", "cluster"];

/// A job of the trace.
#[derive(Clone, Debug, PartialEq)]
pub struct TraceGang {
    /// Row in its file, from 1.
    pub number: u64,
    /// Seconds since 1970, by a wall clock whose zone the trace does not tell.
    pub submitted_s: i64,
    /// Time that it runs, without queueing.
    pub duration: Duration,
    /// GPUs that it needs all at once; at least 1.
    pub gpus: u32,
    /// The virtual cluster that it belongs to.
    pub virtual_cluster: Box<str>,
}

impl TraceGang {
    /// A name that is unique in the file.
    #[must_use]
    pub fn name(&self) -> String {
        format!("philly-{}", self.number)
    }

    /// How many pods make the gang.
    #[must_use]
    pub fn members(&self) -> u32 {
        self.gpus.div_ceil(GPUS_PER_MEMBER)
    }

    /// GPUs of the member at `index`: whole nodes first, the rest in the last one.
    #[must_use]
    pub fn member_gpus(&self, index: u32) -> u32 {
        self.gpus.saturating_sub(index * GPUS_PER_MEMBER).min(GPUS_PER_MEMBER)
    }
}

/// Reads a job list, plain or gzipped.
///
/// # Errors
/// A file that cannot be opened or lacks a column; then, by row, the first malformed field.
pub fn gangs(
    path: &Path,
) -> Result<impl Iterator<Item = Result<TraceGang, TraceError>> + Send, TraceError> {
    Table::open(path, COLUMNS, gang)
}

/// As [`gangs`], from text; `name` is what errors call it.
///
/// # Errors
/// As [`gangs`].
pub fn gangs_from(
    name: &str,
    text: impl Read + Send + 'static,
) -> Result<impl Iterator<Item = Result<TraceGang, TraceError>>, TraceError> {
    Table::read(name, Box::new(text), COLUMNS, gang)
}

fn gang(row: &Row<'_>) -> Result<TraceGang, TraceError> {
    let instant = "a time such as 2017-09-04 10:30:41";
    let submitted: DateTime = row.number(0, instant)?;
    let zoned = submitted.to_zoned(TimeZone::UTC).map_err(|_| row.malformed(0, instant))?;
    let seconds = "seconds, a number not below 0";
    let duration: f64 = row.number(1, seconds)?;
    if !(0.0..=DURATION_MAX_S).contains(&duration) {
        return Err(row.malformed(1, seconds));
    }
    let count = "a number of GPUs from 1 to 65536";
    let gpus = row.number(2, count)?;
    if gpus == 0 || gpus > GPUS_MAX {
        return Err(row.malformed(2, count));
    }
    let cluster = row.text(3);
    let plain = |b: u8| b.is_ascii_lowercase() || b.is_ascii_digit() || b == b'-';
    if cluster.is_empty() || cluster.len() > 63 || !cluster.bytes().all(plain) {
        return Err(row.malformed(3, "a virtual cluster of lower-case letters and digits"));
    }
    Ok(TraceGang {
        number: row.number,
        submitted_s: zoned.timestamp().as_second(),
        duration: Duration::from_secs_f64(duration),
        gpus,
        virtual_cluster: cluster.into(),
    })
}
