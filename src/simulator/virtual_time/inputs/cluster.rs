//! Nodes as YAML, and how long things take there.

use super::{InputError, Place, Sources, parse_yaml, parts, read_text, shown};
use crate::kubernetes::convert::levels::{SOURCES, named};
use crate::kubernetes::convert::reported::{Source, Table};
use crate::model::gpu_part::GPU;
use crate::model::gpu_topology::{DEVICES_MAX, of_node};
use crate::model::{Level, Node, Pod};
use crate::simulator::virtual_time::engine::Failures;
use serde::Deserialize;
use serde_json::Value;
use std::collections::BTreeMap;

/// Most nodes of one cluster.
const NODES_MAX: usize = 100_000;

/// The shape of nodes where no file says otherwise, that of the other simulations.
const DEFAULT: &str = "nodes: [{name: node, count: 1, allocatable: \
     {nvidia.com/gpu: 8, cpu: 96, memory: 1024Gi}}]";

/// A cluster.
#[derive(Clone, Debug)]
pub struct ClusterSpec {
    /// Every node.
    pub nodes: Vec<Node>,
    /// How long things take.
    pub timing: Timing,
    /// How often nodes are lost; `None`: never.
    pub failures: Option<Failures>,
    /// Levels of the network that objects of others name, in the order in which these count.
    pub levels: Vec<Vec<Level>>,
    /// Pods that are there as long as their nodes are: those that own GPUs to be shared, and
    /// beside them, in a snapshot, those of other schedulers.
    pub standing: Vec<Pod>,
}

/// How long things take, in milliseconds. Each is varied by up to a quarter either way, drawn from
/// the seed.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Timing {
    /// Between a call and its answer.
    pub api_ms: i64,
    /// Between a change and its news.
    pub watch_ms: i64,
    /// Between a pod's bind and its running.
    pub start_ms: i64,
    /// Between a pod's eviction and its end.
    pub stop_ms: i64,
    /// Between a gang's end and the deletion of its pods.
    pub cleanup_ms: i64,
    /// Between the end of an evicted pod and its replacement.
    pub recreate_ms: i64,
}

impl Default for Timing {
    fn default() -> Self {
        Self {
            api_ms: 20,
            watch_ms: 10,
            start_ms: 2_000,
            stop_ms: 5_000,
            cleanup_ms: 1_000,
            recreate_ms: 1_000,
        }
    }
}

#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields, rename_all = "kebab-case")]
struct File {
    nodes: Vec<Shape>,
    #[serde(default)]
    timing: Times,
    failures: Option<Losses>,
}

#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields, rename_all = "kebab-case")]
struct Losses {
    mtbf: String,
    repair: String,
}

#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields, rename_all = "kebab-case")]
struct Shape {
    name: String,
    count: Option<u32>,
    allocatable: BTreeMap<String, String>,
    #[serde(default)]
    labels: BTreeMap<String, String>,
    #[serde(default)]
    shared_gpus: bool,
}

#[derive(Debug, Default, Deserialize)]
#[serde(deny_unknown_fields, rename_all = "kebab-case")]
struct Times {
    api: Option<String>,
    watch: Option<String>,
    start: Option<String>,
    stop: Option<String>,
    cleanup: Option<String>,
    recreate: Option<String>,
}

pub(super) fn parse(path: &str, text: &str) -> Result<ClusterSpec, InputError> {
    let (file, others) = documents(path, text)?;
    build(path, &file, &others)
}

/// From YAML or, by its name, from a list of nodes as CSV.
pub(super) fn read(sources: &Sources) -> Result<ClusterSpec, InputError> {
    let mut cluster = as_described(sources)?;
    if sources.shared_gpus {
        cluster.share_all()?;
    }
    Ok(cluster)
}

fn as_described(sources: &Sources) -> Result<ClusterSpec, InputError> {
    let (path, nodes) = (sources.cluster.as_deref(), sources.nodes);
    if let Some(path) = path.filter(|path| super::read::is_csv(path)) {
        let nodes = super::hosts::read(path, nodes)?;
        let (timing, levels, standing) = (Timing::default(), Vec::new(), Vec::new());
        return Ok(ClusterSpec { nodes, timing, failures: None, levels, standing });
    }
    let (name, text) = match path {
        Some(path) => (shown(path), read_text("cluster", path)?),
        None if nodes.is_some() => ("default cluster".to_owned(), DEFAULT.to_owned()),
        None => {
            let problem = "no cluster: name a file with --cluster, or a number with --nodes";
            return Err(InputError::Together(problem.into()));
        }
    };
    let (mut file, mut others) = documents(&name, &text)?;
    if sources.without_objects {
        others.clear();
    }
    if let Some(count) = nodes {
        let [shape] = &mut *file.nodes else {
            return Err(InputError::Together(format!(
                "{name} has {} shapes of nodes, and --nodes overrides the count of one: \
                 edit the file instead",
                file.nodes.len()
            )));
        };
        shape.count = Some(count);
    }
    build(&name, &file, &others)
}

/// The document that is the cluster, and the objects of others beside it: those are the documents
/// with a kind.
fn documents(path: &str, text: &str) -> Result<(File, Vec<Value>), InputError> {
    let (mut clusters, mut others) = (Vec::new(), Vec::new());
    for (line, text) in split(text) {
        // errors name the line of the file
        let text = "\n".repeat(line) + &text;
        let value: Value = parse_yaml(path, &text)?;
        match value.get("kind") {
            None if value.is_null() => {}
            None => clusters.push(parse_yaml(path, &text)?),
            Some(kind) if kind == "List" => {
                others.extend(value["items"].as_array().into_iter().flatten().cloned());
            }
            Some(_) => others.push(value),
        }
    }
    let kinds = || SOURCES.into_iter().chain(Source::ALL.map(Source::kind));
    if let Some(other) = others.iter().find(|object| !kinds().any(|of| of.is_of(object))) {
        let known: Vec<String> = kinds().map(|of| format!("{} of {}", of.kind, of.group)).collect();
        let (version, kind) = (&other["apiVersion"], &other["kind"]);
        let problem = format!(
            "{path}: an object has apiVersion {version} and kind {kind}: expected {}",
            known.join(", ")
        );
        return Err(InputError::Together(problem));
    }
    if clusters.len() > 1 {
        let problem = format!("{path}: {} documents without a kind: expected one", clusters.len());
        return Err(InputError::Together(problem));
    }
    // an empty file lacks what a cluster must have, and the parser says what
    let cluster = clusters.pop().map_or_else(|| parse_yaml(path, "{}"), Ok)?;
    Ok((cluster, others))
}

/// The documents of a file, each with the number of lines before it.
fn split(text: &str) -> Vec<(usize, String)> {
    let mut documents = vec![(0, String::new())];
    for (number, line) in text.lines().enumerate() {
        if line == "---" || line.starts_with("--- ") {
            documents.push((number + 1, String::new()));
        } else if let Some((_, document)) = documents.last_mut() {
            *document += line;
            document.push('\n');
        }
    }
    documents
}

/// What is known of the GPUs of nodes by their products, and by what is reported.
fn join_gpus(nodes: &mut [Node], reported: &Table) {
    for node in nodes {
        let said = reported.of(&node.name);
        match of_node(None, |key| node.label(key), said.as_deref()) {
            Ok(gpus) => node.gpus = gpus.map(Into::into),
            Err(error) => node.gpus_refused = Some(error.to_string().into()),
        }
    }
}

fn build(path: &str, file: &File, others: &[Value]) -> Result<ClusterSpec, InputError> {
    let (mut nodes, mut standing) = (Vec::new(), Vec::new());
    for (index, shape) in file.nodes.iter().enumerate() {
        let entry = format!("nodes[{index}]");
        let place = Place { path, entry: &entry };
        if !crate::model::contract::is_object_name(&shape.name) {
            let expected = "a name of lower-case letters, digits, '-' and '.'";
            return Err(place.wrong("name", &shape.name, expected));
        }
        let mut allocatable = shape.allocatable.clone();
        allocatable.entry("pods".into()).or_insert_with(|| "110".into());
        let allocatable = place.amounts("allocatable", &allocatable)?;
        let count = shape.count.map_or(1, |count| count as usize);
        if count == 0 || nodes.len() + count > NODES_MAX {
            let expected = format!("1 to {NODES_MAX} nodes in all");
            return Err(place.wrong("count", count, expected));
        }
        if shape.shared_gpus && parts::shareable(&allocatable).is_none() {
            let expected = format!("false, unless nodes have from 1 to {DEVICES_MAX} {GPU}");
            return Err(place.wrong("shared-gpus", true, expected));
        }
        let labels = shape.labels.iter();
        let labels: Vec<_> = labels.map(|(k, v)| (k.as_str().into(), v.as_str().into())).collect();
        for number in 0..count {
            let name = match shape.count {
                None => shape.name.as_str().into(),
                Some(_) => format!("{}-{number}", shape.name).into(),
            };
            let (labels, allocatable) = (labels.clone(), allocatable.clone());
            let node = Node { name, labels, allocatable, ..Node::default() };
            standing.extend(parts::holder(&node).filter(|_| shape.shared_gpus));
            nodes.push(node);
        }
    }
    if nodes.is_empty() {
        return Err(InputError::Together(format!("{path}: a cluster needs at least one node")));
    }
    unique(path, &nodes)?;
    join_gpus(&mut nodes, &Table::of_objects(others));
    let failures = file.failures.as_ref().map(|losses| losses.read(path)).transpose()?;
    let levels = named(others).into_values().collect();
    Ok(ClusterSpec { timing: timing(path, &file.timing)?, failures, nodes, levels, standing })
}

impl Losses {
    fn read(&self, path: &str) -> Result<Failures, InputError> {
        let place = Place { path, entry: "failures" };
        let time = |field, text: &str| match place.time(field, text)? {
            0 => Err(place.wrong(field, text, "a duration above zero")),
            millis => Ok(millis),
        };
        Ok(Failures {
            mtbf_ms: time("mtbf", &self.mtbf)?,
            repair_ms: time("repair", &self.repair)?,
        })
    }
}

/// No two nodes have the same name.
pub(super) fn unique(path: &str, nodes: &[Node]) -> Result<(), InputError> {
    let mut names: Vec<&str> = nodes.iter().map(|node| &*node.name).collect();
    names.sort_unstable();
    let Some(twice) = names.windows(2).find(|pair| pair[0] == pair[1]) else { return Ok(()) };
    let place = Place { path, entry: "nodes" };
    Err(place.wrong("name", twice[0], "a name that no other node has"))
}

fn timing(path: &str, times: &Times) -> Result<Timing, InputError> {
    let place = Place { path, entry: "timing" };
    let default = Timing::default();
    Ok(Timing {
        api_ms: place.time_or("api", times.api.as_deref(), default.api_ms)?,
        watch_ms: place.time_or("watch", times.watch.as_deref(), default.watch_ms)?,
        start_ms: place.time_or("start", times.start.as_deref(), default.start_ms)?,
        stop_ms: place.time_or("stop", times.stop.as_deref(), default.stop_ms)?,
        cleanup_ms: place.time_or("cleanup", times.cleanup.as_deref(), default.cleanup_ms)?,
        recreate_ms: place.time_or("recreate", times.recreate.as_deref(), default.recreate_ms)?,
    })
}
