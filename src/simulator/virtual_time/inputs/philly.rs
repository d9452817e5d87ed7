//! Jobs of the Philly trace as gangs.

use super::workload::{GangSpec, Shape};
use super::{InputError, Sources, shown};
use crate::simulator::kubelet::GPU;
use crate::simulator::traces::objects::ObjectOptions;
use crate::simulator::traces::philly::{GPUS_PER_MEMBER, gangs};
use std::collections::BTreeMap;
use std::path::Path;
use std::sync::Arc;

/// A virtual cluster is the namespace of its jobs, and so the queue that names this namespace;
/// where nobody has declared queues, the queue of the same name. Jobs of more GPUs than a node has
/// are gangs of whole nodes. All are rigid.
pub(super) fn read(path: &Path, sources: &Sources) -> Result<Vec<GangSpec>, InputError> {
    let named = sources.queues.is_none();
    let checkpoint_ms = sources.checkpoint_ms();
    let mut shapes: BTreeMap<u32, Arc<Shape>> = BTreeMap::new();
    let mut shape = |gpus: u32| shapes.entry(gpus).or_insert_with(|| shape_of(gpus)).clone();
    let none: Arc<[(Box<str>, Box<str>)]> = Arc::new([]);
    let mut found = Vec::new();
    for row in gangs(path)?.take(sources.rows()) {
        let row = row?;
        let members = row.members();
        let run_ms = i64::try_from(row.duration.as_millis()).unwrap_or(i64::MAX);
        found.push(GangSpec {
            name: row.name().into(),
            namespace: row.virtual_cluster.clone(),
            queue: named.then(|| row.virtual_cluster.clone()),
            arrival_ms: row.submitted_s * 1000,
            run_ms,
            members,
            min_member: members,
            max_member: members,
            shape: shape(row.gpus.min(GPUS_PER_MEMBER)),
            last: shape(row.member_gpus(members - 1)),
            priority: 0,
            selector: none.clone(),
            checkpoint_ms,
            ..GangSpec::default()
        });
    }
    from_the_first(path, found)
}

/// Counts arrivals from the first.
pub(super) fn from_the_first(
    path: &Path,
    mut gangs: Vec<GangSpec>,
) -> Result<Vec<GangSpec>, InputError> {
    let Some(first) = gangs.iter().map(|gang| gang.arrival_ms).min() else {
        return Err(InputError::Together(format!("{}: the trace has no row", shown(path))));
    };
    gangs.iter_mut().for_each(|gang| gang.arrival_ms -= first);
    Ok(gangs)
}

/// A member of so many GPUs, with cores and memory in proportion.
pub(super) fn shape_of(gpus: u32) -> Arc<Shape> {
    let options = ObjectOptions::default();
    let amount = |each: u64| i64::try_from(u64::from(gpus) * each).expect("few GPUs");
    let requests = vec![
        ("cpu".into(), amount(options.cpu_milli_per_gpu)),
        ("memory".into(), amount(options.memory_mib_per_gpu << 20)),
        (GPU.into(), i64::from(gpus)),
    ];
    Arc::new(Shape::from(requests))
}
