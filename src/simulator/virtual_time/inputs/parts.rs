//! Nodes whose GPUs are shared, and who asks for parts of these.

use super::InputError;
use super::cluster::ClusterSpec;
use super::workload::{GangSpec, Shape, Template};
use crate::model::gpu_part::{DEVICE, GPU, GPU_BYTES, GPU_MILLI, PartAmount};
use crate::model::gpu_request::{MEMORY_LABEL, gpu_memory};
use crate::model::gpu_topology::DEVICES_MAX;
use crate::model::{DeviceSet, GpuPart, Node, Pod, PodClass, PodKey, ResourceList};
use rustc_hash::FxHashMap;
use std::collections::BTreeMap;
use std::sync::Arc;

/// Namespace of the holders that are made here, as [`crate::config`] has it.
const NAMESPACE: &str = "mss-scheduler";

/// Whether a resource is what parts of GPUs are counted as.
pub(super) fn is_counted(name: &str) -> bool {
    [GPU_MILLI, GPU_BYTES].contains(&name)
}

/// So many thousandths: a part of one GPU, or several whole ones.
pub(super) fn of_milli(milli: u32) -> Option<GpuPart> {
    let device = u32::from(DEVICE);
    let (count, each) = if milli > device { (milli / device, device) } else { (1, milli) };
    let is_asked = milli > 0 && count * each == milli && count as usize <= DEVICES_MAX;
    let (count, each) = (u8::try_from(count).ok()?, u16::try_from(each).ok()?);
    let part = GpuPart { count, amount: PartAmount::Milli(each), packed: false };
    Some(part).filter(|_| is_asked)
}

/// GPUs of a node that can be shared; `None`: it has none, or more than can be told apart.
pub(super) fn shareable(allocatable: &ResourceList) -> Option<usize> {
    let count = amount(allocatable, GPU);
    usize::try_from(count).ok().filter(|count| (1..=DEVICES_MAX).contains(count))
}

fn amount(list: &ResourceList, name: &str) -> i64 {
    list.iter().find(|(known, _)| &**known == name).map_or(0, |(_, amount)| *amount)
}

/// A pod that owns all GPUs of a node.
pub(super) fn holder(node: &Node) -> Option<Pod> {
    let gpus = shareable(&node.allocatable)?;
    let requests = vec![(GPU.into(), amount(&node.allocatable, GPU))];
    let name = format!("gpu-holder-{}", node.name);
    Some(Pod {
        key: PodKey { namespace: NAMESPACE.into(), name: name.into() },
        node: Some(node.name.clone()),
        holds: DeviceSet::lowest(gpus),
        class: PodClass { requests, ..PodClass::default() },
        ..Pod::default()
    })
}

impl ClusterSpec {
    /// Shares the GPUs of every node that has any.
    pub(super) fn share_all(&mut self) -> Result<(), InputError> {
        let shared = self.shared();
        for (node, shared) in self.nodes.iter().zip(shared) {
            if amount(&node.allocatable, GPU) == 0 || !shared.is_empty() {
                continue;
            }
            self.standing.push(holder(node).ok_or_else(|| {
                let (name, has) = (&node.name, amount(&node.allocatable, GPU));
                InputError::Together(format!(
                    "--shared-gpus: node {name} has {has} {GPU}: at most {DEVICES_MAX} are shared"
                ))
            })?);
        }
        if self.standing.is_empty() {
            let problem = format!("--shared-gpus: no node has {GPU} to be shared");
            return Err(InputError::Together(problem));
        }
        Ok(())
    }

    /// For each node the devices that are shared: those that just one holder owns.
    pub(in crate::simulator::virtual_time) fn shared(&self) -> Vec<DeviceSet> {
        let mut by_name: FxHashMap<&str, (DeviceSet, DeviceSet)> = FxHashMap::default();
        for pod in &self.standing {
            let (once, twice) = by_name.entry(pod.node.as_deref().unwrap_or_default()).or_default();
            *twice = twice.union(once.common(pod.holds));
            *once = once.union(pod.holds);
        }
        let of = |node: &Node| {
            by_name.get(&*node.name).map_or(DeviceSet::EMPTY, |(once, twice)| once.minus(*twice))
        };
        self.nodes.iter().map(of).collect()
    }

    /// What each node has for pods that come: what it offers, less what pods hold that stay, and
    /// of shared GPUs their thousandths.
    pub(in crate::simulator::virtual_time) fn room(&self) -> Vec<ResourceList> {
        let names = self.nodes.iter().zip(0..).map(|(node, place)| (&*node.name, place));
        let places: FxHashMap<&str, usize> = names.collect();
        let mut room: Vec<ResourceList> =
            self.nodes.iter().map(|node| node.allocatable.clone()).collect();
        for pod in &self.standing {
            let Some(place) = pod.node.as_deref().and_then(|node| places.get(node)) else {
                continue;
            };
            for (name, amount) in &pod.class.requests {
                if let Some((_, has)) = room[*place].iter_mut().find(|(known, _)| known == name) {
                    *has = (*has - amount).max(0);
                }
            }
        }
        for (place, shared) in self.shared().into_iter().enumerate() {
            let count = i64::try_from(shared.len()).expect("at most 64");
            if count > 0 {
                room[place].push((GPU_MILLI.into(), count * i64::from(DEVICE)));
                if let Some(bytes) = memory_of(&self.nodes[place]) {
                    room[place].push((GPU_BYTES.into(), count.saturating_mul(bytes)));
                }
            }
        }
        room
    }

    /// The memory of a shared GPU in bytes, where it is said; `None`: nowhere.
    fn shared_memory(&self) -> Result<Option<i64>, InputError> {
        let nodes = self.nodes.iter().zip(self.shared());
        let shared = nodes.filter(|(_, shared)| !shared.is_empty());
        let mut known: Vec<i64> = shared.filter_map(|(node, _)| memory_of(node)).collect();
        known.sort_unstable();
        known.dedup();
        match known[..] {
            [] => Ok(None),
            [bytes] => Ok(Some(bytes)),
            [least, .., most] => Err(InputError::Together(format!(
                "pods ask for memory of shared GPUs, and these have {} to {} MiB: what a pod has \
                 of a GPU is simulated only where all have as much; ask for thousandths instead",
                least >> 20,
                most >> 20
            ))),
        }
    }
}

/// Bytes of each GPU of a node.
fn memory_of(node: &Node) -> Option<i64> {
    gpu_memory(node).map(|mib| mib.saturating_mul(1 << 20))
}

/// Brings what gangs ask for together with what nodes give. Where all GPUs are shared, gangs that
/// are described by what their members ask for get whole ones of these. What would wait for ever
/// is refused, but of a cluster that `is_live`: there it waits too.
pub(super) fn settle(
    cluster: &ClusterSpec,
    gangs: &mut [GangSpec],
    is_live: bool,
) -> Result<(), InputError> {
    let room = cluster.room();
    let is_shared = room.iter().any(|room| amount(room, GPU_MILLI) > 0);
    let has_whole = !is_shared || room.iter().any(|room| amount(room, GPU) > 0);
    let mut translated: BTreeMap<ResourceList, Arc<Shape>> = BTreeMap::new();
    for gang in gangs {
        let of = |problem: &str| {
            InputError::Together(format!("gang {}/{}: {problem}", gang.namespace, gang.name))
        };
        let shapes = || gang.templates.iter().map(|template| &template.shape);
        if !is_live {
            let own = [&gang.shape, &gang.last].into_iter();
            if !is_shared && shapes().chain(own).any(|shape| shape.part.is_some()) {
                return Err(of("it asks for a part of a GPU, and no node shares its GPUs: say \
                               shared-gpus: true of nodes, or --shared-gpus"));
            }
            if !has_whole && shapes().any(|shape| amount(&shape.requests, GPU) > 0) {
                return Err(of("its pods ask for whole GPUs, and the kubelets have none, as all \
                               are shared: annotate the pods with mss-scheduler.io/gpu-fraction: \
                               \"1000\" instead, or leave GPUs of some nodes unshared"));
            }
        }
        if !has_whole && gang.templates.is_empty() {
            for shape in [&mut gang.shape, &mut gang.last] {
                if amount(&shape.requests, GPU) == 0 {
                    continue;
                }
                if !translated.contains_key(&shape.requests) {
                    let other = of_shared(shape).ok_or_else(|| {
                        let gpus = amount(&shape.requests, GPU);
                        InputError::Together(format!(
                            "gang {}/{}: a member asks for {gpus} GPUs, and all are shared: at \
                             most {DEVICES_MAX} can be asked for then",
                            gang.namespace, gang.name
                        ))
                    })?;
                    translated.insert(shape.requests.clone(), Arc::new(other));
                }
                *shape = translated[&shape.requests].clone();
            }
        }
        with_memory(cluster, gang, is_live)?;
    }
    Ok(())
}

/// The same with as many shared GPUs as it asks for of kubelets.
fn of_shared(shape: &Shape) -> Option<Shape> {
    let gpus = u32::try_from(amount(&shape.requests, GPU)).ok()?;
    let part = of_milli(gpus.checked_mul(u32::from(DEVICE))?)?;
    let mut requests = shape.requests.clone();
    requests.retain(|(name, _)| &**name != GPU);
    Some(Shape::with_part(requests, part))
}

/// Reckons how much of a GPU members have that ask for memory.
fn with_memory(
    cluster: &ClusterSpec,
    gang: &mut GangSpec,
    is_live: bool,
) -> Result<(), InputError> {
    let by_memory =
        |shape: &Shape| shape.part.filter(|part| matches!(part.amount, PartAmount::Bytes(_)));
    if !gang.templates.iter().any(|template| by_memory(&template.shape).is_some()) {
        return Ok(());
    }
    let memory = cluster.shared_memory()?;
    let mut templates: Vec<Template> = gang.templates.to_vec();
    for template in &mut templates {
        let Some(part) = by_memory(&template.shape) else { continue };
        let milli = part.milli(memory);
        if milli.is_none() && !is_live {
            return Err(InputError::Together(format!(
                "gang {}/{}: it asks for more memory than a shared GPU has by the label \
                 {MEMORY_LABEL} of its node: ask for less, or set the label",
                gang.namespace, gang.name
            )));
        }
        Arc::make_mut(&mut template.shape).gpus.shared_milli = milli.map_or(0, i64::from);
    }
    gang.templates = templates.into();
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn thousandths_are_a_part_of_one_or_several_whole_ones() {
        let cases = [
            (0, None),
            (1, Some((1, 1))),
            (1000, Some((1, 1000))),
            (1001, None),
            (1500, None),
            (2000, Some((2, 1000))),
            (64_000, Some((64, 1000))),
            (65_000, None),
            (u32::MAX, None),
        ];
        for (milli, expected) in cases {
            let part = of_milli(milli).map(|part| (part.count, part.amount));
            let expected = expected.map(|(count, each)| (count, PartAmount::Milli(each)));
            assert_eq!(part, expected, "{milli}");
        }
    }
}
