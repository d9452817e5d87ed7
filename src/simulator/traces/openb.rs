//! Alibaba's `cluster-trace-gpu-v2023`: nodes and pods of a cluster with 6,212 GPUs.

use super::TraceError;
use super::table::{Row, Table};
use std::io::Read;
use std::path::Path;

/// Most GPUs on a node or in a pod; the trace has 8.
const GPUS_MAX: u32 = 64;

const NODE_COLUMNS: &[&str] = &["sn", "cpu_milli", "memory_mib", "gpu", "model"];

const POD_COLUMNS: &[&str] = &[
    "name",
    "cpu_milli",
    "memory_mib",
    "num_gpu",
    "gpu_milli",
    "gpu_spec",
    "creation_time",
    "deletion_time",
];

/// A node of the trace.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct TraceNode {
    /// Name, unique in the file.
    pub name: Box<str>,
    /// Milli-CPU.
    pub cpu_milli: u64,
    /// MiB.
    pub memory_mib: u64,
    /// Whole GPUs.
    pub gpus: u32,
    /// GPU model; empty on a node without GPU.
    pub model: Box<str>,
}

/// A pod of the trace.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct TracePod {
    /// Name, unique in the file.
    pub name: Box<str>,
    /// Milli-CPU.
    pub cpu_milli: u64,
    /// MiB.
    pub memory_mib: u64,
    /// GPUs; a pod that shares one counts as using one.
    pub gpus: u32,
    /// Thousandths of each GPU that it uses; below 1000 only if `gpus` is 1.
    pub gpu_milli: u32,
    /// Models that it may run on; empty: any.
    pub models: Vec<Box<str>>,
    /// Seconds from the start of the trace.
    pub created_s: u64,
    /// Seconds from the start of the trace.
    pub deleted_s: u64,
}

/// Reads `openb_node_list_*.csv`, plain or gzipped.
///
/// # Errors
/// A file that cannot be opened or lacks a column; then, by row, the first malformed field.
pub fn nodes(
    path: &Path,
) -> Result<impl Iterator<Item = Result<TraceNode, TraceError>> + Send, TraceError> {
    Table::open(path, NODE_COLUMNS, node)
}

/// Reads `openb_pod_list_*.csv`, plain or gzipped.
///
/// # Errors
/// As [`nodes`].
pub fn pods(
    path: &Path,
) -> Result<impl Iterator<Item = Result<TracePod, TraceError>> + Send, TraceError> {
    Table::open(path, POD_COLUMNS, pod)
}

/// As [`pods`], but of lists that may lack the columns of models and times: these say what pods
/// ask for, and nothing else.
///
/// # Errors
/// As [`nodes`].
pub fn shapes(
    path: &Path,
) -> Result<impl Iterator<Item = Result<TracePod, TraceError>> + Send, TraceError> {
    match Table::open(path, &POD_COLUMNS[..6], shape_with_models as ParseShape) {
        Err(TraceError::Header { .. }) => Table::open(path, &POD_COLUMNS[..5], shape as ParseShape),
        table => table,
    }
}

type ParseShape = fn(&Row<'_>) -> Result<TracePod, TraceError>;

/// As [`nodes`], from text; `name` is what errors call it.
///
/// # Errors
/// As [`nodes`].
pub fn nodes_from(
    name: &str,
    text: impl Read + Send + 'static,
) -> Result<impl Iterator<Item = Result<TraceNode, TraceError>>, TraceError> {
    Table::read(name, Box::new(text), NODE_COLUMNS, node)
}

/// As [`pods`], from text; `name` is what errors call it.
///
/// # Errors
/// As [`nodes`].
pub fn pods_from(
    name: &str,
    text: impl Read + Send + 'static,
) -> Result<impl Iterator<Item = Result<TracePod, TraceError>>, TraceError> {
    Table::read(name, Box::new(text), POD_COLUMNS, pod)
}

fn node(row: &Row<'_>) -> Result<TraceNode, TraceError> {
    Ok(TraceNode {
        name: object_name(row, 0)?,
        cpu_milli: row.number(1, "milli-CPU, a whole number")?,
        memory_mib: row.number(2, "MiB, a whole number")?,
        gpus: gpus(row, 3)?,
        model: row.text(4).into(),
    })
}

fn pod(row: &Row<'_>) -> Result<TracePod, TraceError> {
    let seconds = "seconds from the start of the trace, a whole number";
    let (created_s, deleted_s) = (row.number(6, seconds)?, row.number(7, seconds)?);
    Ok(TracePod { created_s, deleted_s, ..shape_with_models(row)? })
}

fn shape_with_models(row: &Row<'_>) -> Result<TracePod, TraceError> {
    Ok(TracePod { models: models(row, 5)?, ..shape(row)? })
}

fn shape(row: &Row<'_>) -> Result<TracePod, TraceError> {
    let gpus = gpus(row, 3)?;
    let share = "thousandths of a GPU from 0 to 1000; below 1000 only where num_gpu is 1 or 0";
    let gpu_milli = row.number(4, share)?;
    let partial = gpu_milli < 1000;
    if gpu_milli > 1000 || (partial && gpus > 1) || (gpu_milli == 0 && gpus > 0) {
        return Err(row.malformed(4, share));
    }
    Ok(TracePod {
        name: object_name(row, 0)?,
        cpu_milli: row.number(1, "milli-CPU, a whole number")?,
        memory_mib: row.number(2, "MiB, a whole number")?,
        gpus,
        gpu_milli,
        models: Vec::new(),
        created_s: 0,
        deleted_s: 0,
    })
}

fn gpus(row: &Row<'_>, column: usize) -> Result<u32, TraceError> {
    let expected = "a number of GPUs from 0 to 64";
    let gpus = row.number(column, expected)?;
    if gpus > GPUS_MAX { Err(row.malformed(column, expected)) } else { Ok(gpus) }
}

fn models(row: &Row<'_>, column: usize) -> Result<Vec<Box<str>>, TraceError> {
    let text = row.text(column);
    if text.is_empty() {
        return Ok(Vec::new());
    }
    let well_formed = |model: &str| {
        !model.is_empty() && model.bytes().all(|b| b.is_ascii_alphanumeric() || b == b'-')
    };
    if !text.split('|').all(well_formed) {
        return Err(row.malformed(column, "GPU models separated by '|', or nothing"));
    }
    Ok(text.split('|').map(Into::into).collect())
}

fn object_name(row: &Row<'_>, column: usize) -> Result<Box<str>, TraceError> {
    let name = row.text(column);
    let plain = |b: u8| b.is_ascii_lowercase() || b.is_ascii_digit() || b == b'-';
    if name.is_empty() || name.len() > 63 || !name.bytes().all(plain) {
        let expected = "a name of at most 63 lower-case letters, digits and '-'";
        return Err(row.malformed(column, expected));
    }
    Ok(name.into())
}
