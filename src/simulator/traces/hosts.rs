//! Lists of hosts: the network of Alibaba's Lingjun 2023 data set, and the nodes of its
//! cluster-trace-v2026-spot-gpu.

use super::TraceError;
use super::table::{Row, Table};
use std::path::Path;

/// The columns of a Lingjun host list.
pub const NETWORK_COLUMNS: &[&str] = &["ip", "DSW", "PSW", "ASW"];

/// The columns of the nodes of cluster-trace-v2026-spot-gpu.
pub const SPOT_COLUMNS: &[&str] = &["node_name", "gpu_model", "gpu_capacity_num", "cpu_num"];

/// Most GPUs of one node.
const GPUS_MAX: u32 = 64;

/// A host in a network of three layers.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Host {
    /// Its address, hashed; unique in the file.
    pub address: Box<str>,
    /// Its core switch.
    pub core: Box<str>,
    /// Its aggregation switch.
    pub aggregation: Box<str>,
    /// Its top-of-rack switch.
    pub rack: Box<str>,
}

/// A node of cluster-trace-v2026-spot-gpu.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct SpotNode {
    /// Name, unique in the file.
    pub name: Box<str>,
    /// GPU model.
    pub model: Box<str>,
    /// Whole GPUs.
    pub gpus: u32,
    /// Cores.
    pub cores: u32,
}

/// Reads a Lingjun host list, plain or gzipped.
///
/// # Errors
/// A file that cannot be opened or lacks a column; then, by row, the first malformed field.
pub fn network(
    path: &Path,
) -> Result<impl Iterator<Item = Result<Host, TraceError>> + Send, TraceError> {
    Table::open(path, NETWORK_COLUMNS, host)
}

/// Reads a node list of cluster-trace-v2026-spot-gpu, plain or gzipped.
///
/// # Errors
/// As [`network`].
pub fn spot(
    path: &Path,
) -> Result<impl Iterator<Item = Result<SpotNode, TraceError>> + Send, TraceError> {
    Table::open(path, SPOT_COLUMNS, spot_node)
}

/// A text that can be the value of a label.
fn label(row: &Row<'_>, column: usize) -> Result<Box<str>, TraceError> {
    let text = row.text(column);
    let plain = |byte: u8| byte.is_ascii_alphanumeric() || b"-_.".contains(&byte);
    let ends = |byte: Option<&u8>| byte.is_some_and(u8::is_ascii_alphanumeric);
    let (bytes, short) = (text.as_bytes(), text.len() <= 64);
    if short && ends(bytes.first()) && ends(bytes.last()) && bytes.iter().copied().all(plain) {
        return Ok(text.into());
    }
    Err(row.malformed(column, "1 to 64 letters, digits, '-', '_' and '.'"))
}

fn host(row: &Row<'_>) -> Result<Host, TraceError> {
    Ok(Host {
        address: label(row, 0)?,
        core: label(row, 1)?,
        aggregation: label(row, 2)?,
        rack: label(row, 3)?,
    })
}

fn spot_node(row: &Row<'_>) -> Result<SpotNode, TraceError> {
    let count = "a number of GPUs from 0 to 64";
    let gpus = row.number(2, count)?;
    if gpus > GPUS_MAX {
        return Err(row.malformed(2, count));
    }
    Ok(SpotNode {
        name: format!("node-{}", label(row, 0)?.to_ascii_lowercase()).into(),
        model: label(row, 1)?,
        gpus,
        cores: row.number(3, "cores, a whole number")?,
    })
}
