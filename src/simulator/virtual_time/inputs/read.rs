//! Which reader reads which file.

use super::workload::GangSpec;
use super::{
    Curves, InputError, Inputs, Sources, Work, cluster, file, generator, hosts, jobs, objects,
    openb, parts, philly, read_text, shown, snapshot, workload, yaml_error,
};
use crate::simulator::traces;
use crate::simulator::traces::pollux::WORKLOAD_COLUMNS;
use serde_json::Value;
use std::path::Path;

/// Reads everything.
pub(super) fn read(sources: &Sources) -> Result<Inputs, InputError> {
    let live = sources.snapshot.as_deref().map(|path| snapshot::read(path, sources)).transpose()?;
    let own_nodes = live.is_some() && sources.cluster.is_none() && sources.nodes.is_none();
    if own_nodes && sources.shared_gpus {
        let problem = "--shared-gpus does not go with the nodes of a snapshot, whose holders say \
                       which GPUs are shared: leave it out, or give other nodes with --cluster";
        return Err(InputError::Together(problem.into()));
    }
    let mut cluster = match &live {
        Some(live) if own_nodes => live.cluster.clone(),
        _ => cluster::read(sources)?,
    };
    if let Some(path) = &sources.network {
        hosts::connect(&mut cluster.nodes, path)?;
    }
    let shared = !cluster.standing.is_empty();
    let (mut work, mut origin) = match &sources.workload {
        Some(path) => (gangs(path, sources, shared)?, shown(path)),
        None if live.is_some() => (Vec::new().into(), String::new()),
        None => {
            let problem = "no workload: name a file with --workload, or a cluster with --snapshot";
            return Err(InputError::Together(problem.into()));
        }
    };
    speed_up(&mut work.gangs, sources.speed_up);
    parts::settle(&cluster, &mut work.gangs, false)?;
    let mut queues = None;
    if let (Some(live), Some(path)) = (live, &sources.snapshot) {
        origin = shown(path);
        queues = Some(live.queues);
        work.start = live.start;
        let mut gangs = live.gangs;
        parts::settle(&cluster, &mut gangs, own_nodes)?;
        work.gangs.extend(gangs);
        snapshot::unique(&origin, &work.gangs)?;
        snapshot::without_lost_nodes(&mut work.gangs, &cluster);
    }
    if let Some(path) = &sources.queues {
        (queues, origin) = (Some(file::read(path)?), shown(path));
    }
    Inputs::new(cluster, work, queues, &origin)
}

/// Whether a file is CSV, by its name.
pub(super) fn is_csv(path: &Path) -> bool {
    has_ending(path, ".csv")
}

fn has_ending(path: &Path, ending: &str) -> bool {
    let name = path.file_name().and_then(|name| name.to_str()).unwrap_or_default();
    name.strip_suffix(".gz").unwrap_or(name).ends_with(ending)
}

/// The gangs of a file: a log or a table by its name, YAML otherwise.
fn gangs(path: &Path, sources: &Sources, shared: bool) -> Result<Work, InputError> {
    if has_ending(path, ".swf") {
        return Ok(jobs::swf(path, sources)?.into());
    }
    if !is_csv(path) {
        return from_yaml(&shown(path), &read_text("workload", path)?, sources);
    }
    let columns = traces::columns(path)?;
    let has = |all: &[&str]| all.iter().all(|name| columns.iter().any(|column| column == name));
    let read: fn(&Path, &Sources) -> Result<Vec<GangSpec>, InputError> = if has(WORKLOAD_COLUMNS) {
        jobs::pollux
    } else if has(&["gpu_milli", "num_gpu", "creation_time"]) {
        return Ok(openb::read(path, sources, shared)?.into());
    } else if has(&["timestamp", "duration", "num_gpus", "cluster"]) {
        philly::read
    } else {
        jobs::csv
    };
    Ok(read(path, sources)?.into())
}

/// Gangs, a generator or Kubernetes pods, by the fields at the top.
pub(super) fn from_yaml(path: &str, text: &str, sources: &Sources) -> Result<Work, InputError> {
    let documents: Vec<Value> =
        serde_saphyr::from_multiple(text).map_err(|error| yaml_error(path, &error))?;
    let documents: Vec<Value> =
        documents.into_iter().filter(|document| !document.is_null()).collect();
    let has = |field: &str| documents.iter().any(|document| document.get(field).is_some());
    if has("kind") {
        return objects::gangs(path, &documents, sources);
    }
    if has("generator") {
        return Ok(generator::gangs(path, text, sources.seed)?.into());
    }
    let mut curves = Curves::of(sources.curves.as_deref());
    Ok(workload::parse(path, text, &mut curves)?.into())
}

/// Lets gangs arrive in less time.
fn speed_up(gangs: &mut [GangSpec], factor: Option<f64>) {
    let Some(factor) = factor else { return };
    for gang in gangs.iter_mut().filter(|gang| gang.arrival_ms > 0) {
        gang.arrival_ms = (gang.arrival_ms as f64 / factor).round() as i64;
    }
}
