//! Pods of the openb trace as gangs of one.

use super::workload::{GangSpec, Shape, Template};
use super::{InputError, Sources, philly, shown};
use crate::model::gpu_part::{DEVICE, PartAmount};
use crate::model::selector::{Operator, Requirement};
use crate::model::{GpuPart, NodeSelectorTerm, Pod, PodClass};
use crate::simulator::kubelet::GPU;
use crate::simulator::traces::objects::GPU_PRODUCT;
use crate::simulator::traces::openb::{TracePod, pods};
use std::collections::BTreeMap;
use std::path::Path;
use std::sync::Arc;

/// Milli-CPU, MiB, GPUs, thousandths of each and models: pods that agree in them are alike.
type Kind = (u64, u64, u32, u16, Vec<Box<str>>);

/// Each pod runs from its creation to its deletion, less what it waited in the trace, which the
/// file does not always tell. Where nodes share their GPUs, pods ask for parts of these, or for
/// several whole ones; elsewhere those that use a part are refused, or get a whole one.
pub(super) fn read(
    path: &Path,
    sources: &Sources,
    shared: bool,
) -> Result<Vec<GangSpec>, InputError> {
    let mut kinds: BTreeMap<Kind, Arc<[Template]>> = BTreeMap::new();
    let mut found = Vec::new();
    for row in pods(path)?.take(sources.rows()) {
        let row = row?;
        let uses = row.gpu_milli.try_into().unwrap_or(DEVICE);
        let milli = if sources.whole_gpus { DEVICE } else { uses };
        if row.gpus == 1 && milli < DEVICE && !shared {
            return Err(InputError::Together(format!(
                "{}: pod {} uses {} thousandths of a GPU, and the nodes give whole GPUs alone: \
                 --shared-gpus gives parts of them, --whole-gpus gives such pods a whole one",
                shown(path),
                row.name,
                row.gpu_milli
            )));
        }
        let kind = (row.cpu_milli, row.memory_mib, row.gpus, milli, row.models.clone());
        let part = part(&row, milli).filter(|_| shared);
        let templates = kinds.entry(kind).or_insert_with(|| [template(&row, part)].into()).clone();
        let millis = |seconds: u64| i64::try_from(seconds).unwrap_or(i64::MAX / 1000) * 1000;
        found.push(GangSpec {
            name: row.name.clone(),
            namespace: "default".into(),
            arrival_ms: millis(row.created_s),
            run_ms: millis(row.deleted_s.saturating_sub(row.created_s)),
            members: 1,
            min_member: 1,
            max_member: 1,
            templates,
            checkpoint_ms: sources.checkpoint_ms(),
            ..GangSpec::default()
        });
    }
    philly::from_the_first(path, found)
}

/// What a pod asks of shared GPUs.
fn part(row: &TracePod, milli: u16) -> Option<GpuPart> {
    let count = u8::try_from(row.gpus).ok().filter(|count| *count > 0)?;
    Some(GpuPart { count, amount: PartAmount::Milli(milli), packed: false })
}

fn template(row: &TracePod, part: Option<GpuPart>) -> Template {
    let amount = |value: u64| i64::try_from(value).unwrap_or(i64::MAX >> 20);
    let memory = amount(row.memory_mib).saturating_mul(1 << 20);
    let whole = if part.is_some() { 0 } else { row.gpus.into() };
    let asked = [("cpu", amount(row.cpu_milli)), ("memory", memory), (GPU, whole)];
    let asked = asked.into_iter().filter(|(_, amount)| *amount > 0);
    let requests: Vec<(Box<str>, i64)> =
        asked.map(|(name, amount)| (name.into(), amount)).collect();
    let models =
        Requirement { key: GPU_PRODUCT.into(), operator: Operator::In, values: row.models.clone() };
    let term = NodeSelectorTerm { expressions: vec![models], fields: Vec::new() };
    let scored = [amount(row.cpu_milli), memory];
    let mut class = PodClass {
        profile: Some(0),
        requests,
        non_zero: scored,
        non_zero_asked: scored,
        required: (!row.models.is_empty()).then(|| vec![term]),
        ..PodClass::default()
    };
    class.set_gpu_part(part);
    let shape = Arc::new(Shape::from(&class));
    let pod = Pod { profile: Some(0), class, ..Pod::default() };
    Template { shape, pod, before: None }
}
