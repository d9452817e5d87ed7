//! A live cluster as a starting point.

use super::cluster::{ClusterSpec, Timing};
use super::objects::{Read, gang, grouped, pod};
use super::workload::{Before, GangSpec, Template};
use super::{InputError, Sources, file, parse_yaml, read_text, shown};
use crate::kubernetes::convert::Converter;
use crate::kubernetes::convert::levels::named;
use crate::kubernetes::convert::reported::Table;
use crate::kubernetes::objects::NodeObject;
use crate::kubernetes::snapshot::{KIND, Snapshot};
use crate::model::{Node, Pod, QueueSpec, ResourceList, WallTime};
use crate::simulator::virtual_time::shared::Shared;
use rustc_hash::{FxHashMap, FxHashSet};
use std::path::Path;

/// What a snapshot holds.
pub(super) struct Live {
    pub(super) cluster: ClusterSpec,
    pub(super) queues: Vec<QueueSpec>,
    pub(super) gangs: Vec<GangSpec>,
    /// When it was taken.
    pub(super) start: WallTime,
}

/// Pods of other schedulers hold their room for ever: it is taken off the nodes or, where a holder
/// shares GPUs, they stand beside it. Pods that have ended, that are being deleted, or that the
/// scheduler refuses are left out.
pub(super) fn read(path: &Path, sources: &Sources) -> Result<Live, InputError> {
    let shown = shown(path);
    let snapshot: Snapshot = parse_yaml(&shown, &read_text("snapshot", path)?)?;
    if snapshot.kind != KIND {
        let problem = format!("{shown}: kind is {:?}: expected {KIND}", snapshot.kind);
        return Err(InputError::Together(problem));
    }
    let taken: jiff::Timestamp = snapshot.taken.parse().map_err(|_| {
        let found = &snapshot.taken;
        InputError::Together(format!("{shown}: taken is {found:?}: expected a time in RFC 3339"))
    })?;
    let start = WallTime(taken.as_millisecond());
    let others = if sources.without_objects { &[][..] } else { &snapshot.others };
    let (reported, levels) = (Table::of_objects(others), named(others));
    let mut nodes = Vec::new();
    for (index, object) in snapshot.nodes.iter().enumerate() {
        // through text, as it comes from an API server
        let object: NodeObject = serde_json::from_str(&object.to_string()).map_err(|error| {
            InputError::Together(format!("{shown}: nodes[{index}] cannot be read: {error}"))
        })?;
        let reported = reported.of(object.meta.name());
        nodes.push(Converter::default().node(&object, reported.as_deref()));
    }
    super::cluster::unique(&shown, &nodes)?;
    let mut queues = Vec::new();
    for object in &snapshot.queues {
        queues.extend(file::parse(&shown, &object.to_string())?);
    }
    let mut converter = Converter::default();
    if let Some(namespace) = &sources.holder_namespace {
        converter.holder_namespace = namespace.clone();
    }
    let mut pods = Vec::new();
    for (index, object) in snapshot.pods.iter().enumerate() {
        pods.push(pod(&converter, &format!("{shown}: pods[{index}]"), object)?);
    }
    pods.retain(|read| !read.pod.ended() && !read.pod.deleting);
    let (ours, standing) = told_apart(pods, &mut nodes);
    let groups = grouped(ours).into_values();
    let gangs = groups.map(|members| one(&shown, members, sources, start));
    let gangs = gangs.collect::<Result<_, _>>()?;
    let levels = levels.into_values().collect();
    let cluster =
        ClusterSpec { nodes, timing: Timing::default(), failures: None, levels, standing };
    Ok(Live { cluster, queues, gangs, start })
}

/// Pods of ours, and those that stand on nodes with holders; what others have is taken off.
fn told_apart(pods: Vec<Read>, nodes: &mut [Node]) -> (Vec<Read>, Vec<Pod>) {
    let holders = pods.iter().filter(|read| !read.pod.holds.is_empty());
    let sharing: FxHashSet<Box<str>> = holders.filter_map(|read| read.pod.node.clone()).collect();
    let (mut ours, mut standing) = (Vec::new(), Vec::new());
    for read in pods {
        let pod = &read.pod;
        let is_ours = pod.profile.is_some() && !matches!(pod.group, Some(Err(_)));
        if is_ours && pod.holds.is_empty() {
            ours.push(read);
        } else if pod.node.as_ref().is_some_and(|node| sharing.contains(node)) {
            standing.push(Pod { profile: None, group: None, ..read.pod });
        } else {
            take_off(nodes, pod);
        }
    }
    (ours, standing)
}

/// Room that a pod of another scheduler holds.
fn take_off(nodes: &mut [Node], pod: &Pod) {
    let Some(name) = &pod.node else { return };
    let Some(node) = nodes.iter_mut().find(|node| node.name == *name) else { return };
    let one = [("pods".into(), 1)];
    for (resource, amount) in pod.class.requests.iter().chain(&one) {
        if let Some((_, has)) = node.allocatable.iter_mut().find(|(name, _)| name == resource) {
            *has = (*has - amount).max(0);
        }
    }
}

/// A gang. Where no pod says how long it runs, what runs already runs for `--run` from now.
fn one(
    path: &str,
    members: Vec<Read>,
    sources: &Sources,
    start: WallTime,
) -> Result<GangSpec, InputError> {
    let said = members.iter().any(|read| read.run_ms.is_some());
    let since = |at: WallTime| (at.0 - start.0).min(0);
    let checkpoint = members.iter().filter_map(|read| read.pod.checkpoint).max();
    let created = members.iter().map(|read| since(read.pod.created)).max().unwrap_or(0);
    let mut gang = gang(path, members, sources, |pod| {
        let at = since(pod.bound_at.unwrap_or(pod.created));
        let bound = pod.node.clone().map(|node| (node, at));
        Some(Before { created_ms: since(pod.created), bound })
    })?;
    gang.arrival_ms = created;
    if let Some(began) = began(&gang) {
        gang.ran_ms = -began;
        gang.saved_ms = checkpoint.map_or(0, |at| (since(at) - began).clamp(0, gang.ran_ms));
        if !said {
            gang.run_ms = gang.run_ms.saturating_add(gang.ran_ms).min(super::TIME_MAX_MS);
        }
    }
    Ok(gang)
}

/// When the minimum of a gang was bound, if it is.
pub(super) fn began(gang: &GangSpec) -> Option<i64> {
    let mut times: Vec<i64> = gang.templates.iter().filter_map(bound).map(|(_, at)| *at).collect();
    times.sort_unstable();
    times.get(gang.min_member.max(1) as usize - 1).copied()
}

/// Where and when a member was bound.
pub(super) fn bound(template: &Template) -> Option<&(Box<str>, i64)> {
    template.before.as_ref()?.bound.as_ref()
}

/// The names of a workload that is added to a snapshot are its own.
pub(super) fn unique(path: &str, gangs: &[GangSpec]) -> Result<(), InputError> {
    let mut names = FxHashSet::default();
    for gang in gangs {
        if !names.insert((&gang.namespace, &gang.name)) {
            return Err(InputError::Together(format!(
                "{path}: gang {}/{} is in the workload too: rename one of them",
                gang.namespace, gang.name
            )));
        }
    }
    Ok(())
}

/// Pods whose node the cluster lacks, or whose node or GPUs are too small now, wait.
pub(super) fn without_lost_nodes(gangs: &mut [GangSpec], cluster: &ClusterSpec) {
    let nodes = cluster.nodes.iter().zip(cluster.room()).zip(cluster.shared());
    let mut free: FxHashMap<Box<str>, (ResourceList, Shared<()>)> = nodes
        .map(|((node, room), shared)| (node.name.clone(), (room, Shared::of(shared))))
        .collect();
    let mut takes = |template: &Template| -> bool {
        let Some((node, _)) = bound(template) else { return true };
        let Some((free, devices)) = free.get_mut(node) else { return false };
        let asked = &template.shape.requests;
        let left =
            |name: &str| free.iter().find(|(n, _)| &**n == name).map_or(0, |(_, left)| *left);
        if asked.iter().any(|(name, amount)| left(name) < *amount) {
            return false;
        }
        let (set, milli) = (template.given(), template.shape.of_each_milli());
        let is_part = template.shape.part.is_some();
        if is_part && devices.give((), set, milli).is_err() {
            return false;
        }
        for (name, amount) in asked {
            let found = free.iter_mut().find(|(n, _)| n == name);
            found.expect("it has room").1 -= amount;
        }
        true
    };
    for gang in gangs {
        let stay: Vec<bool> = gang.templates.iter().map(&mut takes).collect();
        if stay.iter().all(|stays| *stays) {
            continue;
        }
        let templates = gang.templates.iter().zip(&stay).map(|(template, stays)| {
            let mut template = template.clone();
            if let Some(before) = template.before.as_mut().filter(|_| !stays) {
                before.bound = None;
            }
            template
        });
        gang.templates = templates.collect();
        if began(gang).is_none() {
            gang.ran_ms = gang.saved_ms;
        }
    }
}
