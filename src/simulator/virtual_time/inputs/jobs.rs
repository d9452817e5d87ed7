//! Jobs of logs and tables as gangs: the standard workload format, CSV of our own columns, and the
//! elastic jobs of Pollux.

use super::philly::{from_the_first, shape_of};
use super::workload::{GangSpec, Shape};
use super::{InputError, Sources, shown};
use crate::model::contract::is_object_name;
use crate::simulator::kubelet::GPU;
use crate::simulator::traces::{jobs, pollux, swf};
use crate::simulator::virtual_time::curve::Curve;
use std::collections::{BTreeMap, BTreeSet};
use std::path::Path;
use std::sync::Arc;

/// Longest run time taken, in milliseconds: ten years.
const RUN_MAX_MS: i64 = super::TIME_MAX_MS;

/// A processor is a GPU; a job of more of them than a member has is a gang of whole members. A
/// user is a namespace and, where nobody has declared queues, the queue of the same name. Jobs
/// that never ran, and those without processors, are left out.
pub(super) fn swf(path: &Path, sources: &Sources) -> Result<Vec<GangSpec>, InputError> {
    let named = sources.queues.is_none();
    let each = sources.per_member();
    let mut shapes: BTreeMap<u32, Arc<Shape>> = BTreeMap::new();
    let mut shape = |gpus: u32| shapes.entry(gpus).or_insert_with(|| shape_of(gpus)).clone();
    let mut found = Vec::new();
    for row in swf::jobs(path)?.take(sources.rows()) {
        let row = row?;
        let (Some(run_s), Some(processors)) = (row.run_s, row.processors) else { continue };
        let user: Box<str> = match row.user {
            Some(user) => format!("user-{user}").into(),
            None => "user-unknown".into(),
        };
        let members = processors.div_ceil(each);
        found.push(GangSpec {
            name: format!("job-{}", row.number).into(),
            namespace: user.clone(),
            queue: named.then_some(user),
            arrival_ms: row.submitted_s * 1000,
            run_ms: (run_s * 1000).min(RUN_MAX_MS),
            members,
            min_member: members,
            max_member: members,
            shape: shape(processors.min(each)),
            last: shape(processors - (members - 1) * each),
            checkpoint_ms: sources.checkpoint_ms(),
            ..GangSpec::default()
        });
    }
    from_the_first(path, found)
}

/// A job of the columns that docs/simulate.md lists.
pub(super) fn csv(path: &Path, sources: &Sources) -> Result<Vec<GangSpec>, InputError> {
    let known = |column: &String| jobs::COLUMNS.contains(&column.as_str());
    let columns = crate::simulator::traces::columns(path)?;
    if let Some(unknown) = columns.iter().find(|column| !known(column)) {
        return Err(InputError::Together(format!(
            "{}: line 1: the column {unknown:?} is not known: expected some of {}, or the columns \
             of a published trace",
            shown(path),
            jobs::COLUMNS.join(",")
        )));
    }
    let mut shapes: BTreeMap<(i64, i64, u32), Arc<Shape>> = BTreeMap::new();
    let mut names = BTreeSet::new();
    let mut found = Vec::new();
    for row in jobs::jobs(path)?.take(sources.rows()) {
        let row = row?;
        let like = shape_of(row.gpus.max(1));
        let of = |name: &str| like.requests.iter().find(|(n, _)| &**n == name).map_or(0, |r| r.1);
        let cpu = row.cpu_milli.unwrap_or_else(|| of("cpu"));
        let memory = row.memory.unwrap_or_else(|| of("memory"));
        let key = (cpu, memory, row.gpus);
        let shape = shapes.entry(key).or_insert_with(|| {
            let asked = [("cpu", cpu), ("memory", memory), (GPU, i64::from(row.gpus))];
            let asked = asked.into_iter().filter(|(_, amount)| *amount > 0);
            let requests: Vec<_> = asked.map(|(name, amount)| (name.into(), amount)).collect();
            Arc::new(Shape::from(requests))
        });
        let namespace = row.namespace.or_else(|| row.queue.clone());
        let namespace = namespace.unwrap_or_else(|| "default".into());
        let name = row.name.unwrap_or_else(|| format!("job-{}", row.number).into());
        if !names.insert((namespace.clone(), name.clone())) {
            return Err(InputError::Together(format!(
                "{}: row {}: the name {name:?} is that of another job of {namespace}",
                shown(path),
                row.number
            )));
        }
        found.push(GangSpec {
            name,
            namespace,
            queue: row.queue,
            arrival_ms: row.arrival_ms,
            run_ms: row.run_ms,
            members: row.members,
            min_member: row.min_member,
            max_member: row.max_member,
            shape: shape.clone(),
            last: shape.clone(),
            priority: row.priority,
            checkpoint_ms: row.checkpoint_ms.or(sources.checkpoint_ms()),
            ..GangSpec::default()
        });
    }
    Ok(found)
}

type Measured = (i64, Arc<Curve>);

/// An elastic job trains from its first to its last iteration with at least one and at most the
/// replicas that it names, each on a GPU of its own, as fast as was measured. The application is
/// its namespace and its queue.
pub(super) fn pollux(path: &Path, sources: &Sources) -> Result<Vec<GangSpec>, InputError> {
    let named = sources.queues.is_none();
    let mut curves = pollux::Curves::of(sources.curves.as_deref());
    // by application, batch size and replicas: how long it runs and how fast
    let mut known: BTreeMap<(Box<str>, u32, u32), Measured> = BTreeMap::new();
    let shape = shape_of(1);
    let mut found = Vec::new();
    for row in pollux::jobs(path)?.take(sources.rows()) {
        let row = row?;
        let key = (row.application.clone(), row.batch, row.replicas);
        if !known.contains_key(&key) {
            let run_s = curves.run_s(&row.application, row.batch, row.replicas)?;
            let speeds = curves.speeds(&row.application, row.batch, 1, row.replicas)?;
            let curve = Curve::from_speeds(&speeds).ok_or_else(|| {
                let (application, batch) = (&row.application, row.batch);
                InputError::Together(format!(
                    "the measurements of {application} give no speed for batch size {batch}"
                ))
            })?;
            let run_ms = ((run_s * 1000.0).round() as i64).clamp(1, RUN_MAX_MS);
            known.insert(key.clone(), (run_ms, Arc::new(curve)));
        }
        let (run_ms, curve) = &known[&key];
        debug_assert!(is_object_name(&row.name), "the reader has checked it");
        found.push(GangSpec {
            name: row.name,
            namespace: row.application.clone(),
            queue: named.then_some(row.application),
            arrival_ms: i64::from(row.arrival_s) * 1000,
            run_ms: *run_ms,
            members: row.replicas,
            min_member: 1,
            max_member: row.replicas,
            shape: shape.clone(),
            last: shape.clone(),
            checkpoint_ms: sources.checkpoint_ms(),
            curve: Some(curve.clone()),
            ..GangSpec::default()
        });
    }
    from_the_first(path, found)
}
