//! The standard workload format of the Parallel Workloads Archive: 18 numbers a job, version 2.2.
//!
//! <https://www.cs.huji.ac.il/labs/parallel/workload/swf.html>. Lines that begin with `;` are
//! comments; -1 stands for what is not known.

use super::TraceError;
use super::table::{field_error, open};
use std::io::{BufRead, BufReader, Read};
use std::path::Path;

/// The columns, as the definition calls them.
const COLUMNS: [&str; 18] = [
    "job number",
    "submit time",
    "wait time",
    "run time",
    "allocated processors",
    "average CPU time",
    "used memory",
    "requested processors",
    "requested time",
    "requested memory",
    "status",
    "user",
    "group",
    "executable",
    "queue",
    "partition",
    "preceding job",
    "think time",
];

/// Most processors of one job.
const PROCESSORS_MAX: i64 = 1 << 20;
/// Longest time taken, in seconds: a hundred years.
const SECONDS_MAX: i64 = 100 * 366 * 86_400;

/// A job of a log.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct SwfJob {
    /// Its number, unique in the log.
    pub number: i64,
    /// Seconds from the start of the log.
    pub submitted_s: i64,
    /// Seconds that it ran; `None`: the log does not know, or it never ran.
    pub run_s: Option<i64>,
    /// Processors asked for or, if the log does not know, those it had; `None`: neither is known.
    pub processors: Option<u32>,
    /// The number of its user; `None`: not known.
    pub user: Option<i64>,
}

/// Reads a log, plain or gzipped.
///
/// # Errors
/// A file that cannot be opened; then, by line, the first malformed one.
pub fn jobs(
    path: &Path,
) -> Result<impl Iterator<Item = Result<SwfJob, TraceError>> + Send, TraceError> {
    Ok(jobs_from(&path.display().to_string(), open(path)?))
}

/// As [`jobs`], from text; `name` is what errors call it.
pub fn jobs_from<R: Read + Send + 'static>(
    name: &str,
    text: R,
) -> impl Iterator<Item = Result<SwfJob, TraceError>> + Send + use<R> {
    let path: Box<str> = name.into();
    let lines = BufReader::new(text).lines().zip(1..);
    let mut failed = false;
    let read = move |(line, number): (std::io::Result<String>, u64)| {
        let line = match line {
            Ok(line) => line,
            Err(source) => return Some(Err(TraceError::Open { path: path.clone(), source })),
        };
        let line = line.trim();
        let comment = line.is_empty() || line.starts_with(';');
        (!comment).then(|| job(&path, number, line))
    };
    lines.filter_map(read).take_while(move |row| !std::mem::replace(&mut failed, row.is_err()))
}

fn job(path: &str, line: u64, text: &str) -> Result<SwfJob, TraceError> {
    let mut fields = [-1_i64; COLUMNS.len()];
    let mut words = text.split_ascii_whitespace();
    for (field, column) in fields.iter_mut().zip(COLUMNS) {
        let word = words.next().unwrap_or_default();
        let wrong = || field_error(path, line, (column, word), "a number; 18 of them in a line");
        // some logs have fractions of seconds and of kilobytes
        let value = word.parse::<f64>().ok().filter(|value| value.is_finite());
        *field = value.ok_or_else(wrong)?.round() as i64;
    }
    let within = |column: usize, most: i64, expected: &'static str| {
        let shown = fields[column].to_string();
        let wrong = || field_error(path, line, (COLUMNS[column], &shown), expected);
        (fields[column] <= most).then_some(fields[column]).ok_or_else(wrong)
    };
    let known = |value: i64| Some(value).filter(|value| *value >= 0);
    let seconds = "at most a hundred years of seconds";
    let submitted_s = within(1, SECONDS_MAX, seconds)?.max(0);
    let run_s = known(within(3, SECONDS_MAX, seconds)?);
    let count = "at most 1048576 processors";
    let (had, wanted) = (within(4, PROCESSORS_MAX, count)?, within(7, PROCESSORS_MAX, count)?);
    let processors = if wanted > 0 { wanted } else { had };
    Ok(SwfJob {
        number: fields[0],
        submitted_s,
        run_s,
        processors: u32::try_from(processors).ok().filter(|processors| *processors > 0),
        user: known(fields[11]),
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    fn read(text: &'static str) -> Result<Vec<SwfJob>, String> {
        let rows: Result<Vec<_>, _> = jobs_from("log.swf", text.as_bytes()).collect();
        rows.map_err(|error| error.to_string())
    }

    #[test]
    fn jobs_are_lines_of_eighteen_numbers() {
        let text = "; Version: 2.2\n;\n\n\
            1 0 -1 1451 128 -1 -1 -1 -1 -1 -1 7 1 -1 -1 -1 -1 -1\n  \
            2 60.4 5 -1 -1 -1 -1 4 -1 -1 5 -1 1 -1 -1 -1 -1 -1\n";
        let rows = read(text).expect("well-formed");
        let first = SwfJob {
            number: 1,
            submitted_s: 0,
            run_s: Some(1451),
            processors: Some(128),
            user: Some(7),
        };
        let second =
            SwfJob { number: 2, submitted_s: 60, run_s: None, processors: Some(4), user: None };
        assert_eq!(rows, [first, second]);
    }

    #[test]
    fn malformed_lines_are_named() {
        let short = read("; head\n1 0 -1 5\n").expect_err("four numbers");
        let expected =
            "log.swf: line 2: column \"allocated processors\" is \"\": expected a number";
        assert!(short.starts_with(expected), "{short}");
        let word = read("1 soon -1 5 1 -1 -1 -1 -1 -1 -1 7 1 -1 -1 -1 -1 -1").expect_err("a word");
        assert!(word.contains("column \"submit time\" is \"soon\""), "{word}");
        let huge = read("1 0 -1 5 9999999 -1 -1 -1 -1 -1 -1 7 1 -1 -1 -1 -1 -1").expect_err("huge");
        assert!(huge.contains("expected at most 1048576 processors"), "{huge}");
    }
}
