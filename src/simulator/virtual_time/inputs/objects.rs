//! Kubernetes pods as gangs.

use super::workload::{Before, GangSpec, Shape, Template};
use super::{InputError, Sources, Work};
use crate::kubernetes::convert::Converter;
use crate::kubernetes::objects::PodObject;
use crate::model::{Pod, WallTime};
use crate::simulator::kubelet::RUN_SECONDS;
use serde_json::Value;
use std::collections::BTreeMap;
use std::sync::Arc;

/// A pod of ours, and how long it runs in milliseconds, if it says so.
pub(super) struct Read {
    pub(super) pod: Pod,
    pub(super) run_ms: Option<i64>,
}

/// The pods of manifests. They arrive when they were created, counted from the first; those
/// without such a time arrive at the start.
pub(super) fn gangs(
    path: &str,
    documents: &[Value],
    sources: &Sources,
) -> Result<Work, InputError> {
    let mut pods = Vec::new();
    for (index, document) in documents.iter().enumerate() {
        let entry = format!("{path}: document {}", index + 1);
        let items = match document["kind"].as_str().unwrap_or_default() {
            "Pod" => std::slice::from_ref(document),
            "List" | "PodList" => document["items"].as_array().map_or(&[][..], Vec::as_slice),
            kind => {
                let problem = format!("{entry}: kind is {kind:?}: expected Pod, PodList or List");
                return Err(InputError::Together(problem));
            }
        };
        for item in items {
            pods.push(pod(&Converter::default(), &entry, item)?);
        }
    }
    for Read { pod, .. } in &pods {
        if pod.profile.is_none() {
            return Err(InputError::Together(format!(
                "{path}: pod {}: schedulerName does not name mss-scheduler, so it would wait for \
                 ever: set it",
                pod.key
            )));
        }
        if let Some(Err(error)) = &pod.group {
            return Err(InputError::Together(format!("{path}: pod {}: {error}", pod.key)));
        }
    }
    let times = pods.iter().map(|read| read.pod.created.0).filter(|millis| *millis > 0);
    let start = times.min().map(WallTime);
    let mut gangs = Vec::new();
    for (_, members) in grouped(pods) {
        let arrived = members.iter().map(|read| read.pod.created.0).max().unwrap_or(0);
        let mut gang = gang(path, members, sources, |_| None)?;
        gang.arrival_ms = start.map_or(0, |start| (arrived - start.0).max(0));
        gangs.push(gang);
    }
    let mut work = Work::from(gangs);
    work.start = start.unwrap_or(work.start);
    Ok(work)
}

/// A pod as an object; `entry` is where it is.
pub(super) fn pod(converter: &Converter, entry: &str, object: &Value) -> Result<Read, InputError> {
    let mut object = object.clone();
    for list in ["containers", "initContainers"] {
        let containers = object["spec"][list].as_array_mut().into_iter().flatten();
        containers.for_each(default_requests);
    }
    // through text, as it comes from an API server
    let mut object: PodObject = serde_json::from_str(&object.to_string()).map_err(|error| {
        InputError::Together(format!("{entry}: the pod cannot be read: {error}: correct it"))
    })?;
    if object.meta.namespace().is_empty() {
        object.meta.object.namespace = Some("default".into());
    }
    let annotation = object.meta.annotation(RUN_SECONDS);
    let annotated = annotation.map(|text| {
        let seconds = text.parse::<f64>().ok().filter(|seconds| (0.0..=1e9).contains(seconds));
        seconds.map(|seconds| (seconds * 1000.0).round() as i64).ok_or_else(|| {
            let problem =
                format!("{entry}: annotation {RUN_SECONDS} is {text:?}: expected seconds");
            InputError::Together(problem)
        })
    });
    let limit = object.spec.active_deadline_seconds;
    let run_ms = annotated.transpose()?.or(limit.map(|seconds| seconds.saturating_mul(1000)));
    Ok(Read { pod: converter.pod(&object), run_ms })
}

/// A container asks for its limit of what it does not request, as the API server fills it in
/// (upstream `SetDefaults_Pod`).
fn default_requests(container: &mut Value) {
    let Some(limits) = container["resources"]["limits"].as_object().cloned() else { return };
    let requests = &mut container["resources"]["requests"];
    if requests.is_null() {
        *requests = Value::Object(limits);
    } else if let Some(requests) = requests.as_object_mut() {
        for (name, limit) in limits {
            requests.entry(name).or_insert(limit);
        }
    }
}

/// Pods by gang, each a gang of its own if it names none; in the order of their names.
pub(super) fn grouped(pods: Vec<Read>) -> BTreeMap<(Box<str>, Box<str>), Vec<Read>> {
    let mut groups: BTreeMap<(Box<str>, Box<str>), Vec<Read>> = BTreeMap::new();
    for read in pods {
        let key = &read.pod.key;
        let name = match &read.pod.group {
            Some(Ok(group)) => group.name.clone(),
            _ => key.name.clone(),
        };
        groups.entry((key.namespace.clone(), name)).or_default().push(read);
    }
    groups
}

/// The gang of pods that name the same group. `before`: what became of a pod before the start.
pub(super) fn gang(
    path: &str,
    members: Vec<Read>,
    sources: &Sources,
    before: impl Fn(&Pod) -> Option<Before>,
) -> Result<GangSpec, InputError> {
    let first = &members.first().expect("a group has a member").pod;
    let group = first.group.clone().and_then(Result::ok);
    let (namespace, queue, priority) = (&first.key.namespace, &first.queue, first.priority);
    let name = group.as_ref().map_or(&first.key.name, |group| &group.name);
    let default_ms = sources.run.and_then(|run| i64::try_from(run.as_millis()).ok());
    let said = members.iter().filter_map(|read| read.run_ms).max();
    let run_ms = said.or(default_ms).ok_or_else(|| {
        InputError::Together(format!(
            "{path}: pod {}: how long does it run? It has neither the annotation {RUN_SECONDS} nor \
             activeDeadlineSeconds: annotate it, or say with --run how long such pods run",
            first.key
        ))
    })?;
    let count = u32::try_from(members.len()).unwrap_or(u32::MAX);
    let min_member = group.as_ref().map_or(1, |group| group.min_member);
    let most = group.as_ref().and_then(|group| group.max_member).unwrap_or(count);
    let mut gang = GangSpec {
        name: name.clone(),
        namespace: namespace.clone(),
        queue: queue.clone(),
        run_ms: run_ms.min(super::TIME_MAX_MS),
        members: count,
        min_member,
        max_member: most.min(count).max(min_member),
        priority,
        checkpoint_ms: sources.checkpoint_ms(),
        ..GangSpec::default()
    };
    let template = |Read { pod, .. }: Read| Template {
        shape: Arc::new(Shape::from(&pod.class)),
        before: before(&pod),
        pod,
    };
    gang.templates = members.into_iter().map(template).collect();
    Ok(gang)
}
