//! What is simulated, read strictly: an unknown field is an error.

mod cluster;
mod generator;
mod hosts;
mod jobs;
mod objects;
mod openb;
mod parts;
mod philly;
mod read;
mod snapshot;
mod workload;

pub use cluster::{ClusterSpec, Timing};
pub use workload::{Before, GangSpec, Shape, Template};

use crate::cluster::is_gpu;
use crate::config::{Configuration, parse_duration};
use crate::fairshare::FairShare;
use crate::kubernetes::convert::queue::file::{self, FileError};
use crate::model::queue::DEFAULT_QUEUE;
use crate::model::{QueueSpec, ResourceList, WallTime, quantity};
use crate::simulator::traces::TraceError;
use crate::simulator::traces::pollux::{CurveError, Curves};
use serde::de::DeserializeOwned;
use std::collections::{BTreeMap, BTreeSet};
use std::path::{Path, PathBuf};
use std::time::Duration;

/// The wall time at which a run begins where nothing says another.
const START_MS: i64 = 1_600_000_000_000;
/// GPUs of one member of a job that has more than fit a node.
const GPUS_PER_MEMBER: u32 = 8;
/// Longest time taken: ten years.
const TIME_MAX_MS: i64 = 10 * 366 * 86_400_000;

/// Why the inputs cannot be simulated. All of these are for the person who wrote them.
#[derive(Debug, thiserror::Error)]
pub enum InputError {
    /// A file cannot be read.
    #[error("reading the {what} {path}: {source}: check the path")]
    Read {
        /// What it was to hold.
        what: &'static str,
        /// The file.
        path: Box<str>,
        /// The cause.
        source: std::io::Error,
    },
    /// It is no YAML, or lacks or misspells a field.
    #[error("{path}:{line}: {problem}")]
    Yaml {
        /// The file.
        path: Box<str>,
        /// From 1.
        line: u64,
        /// What the parser says.
        problem: Box<str>,
    },
    /// A field has a value that makes no sense.
    #[error("{path}: {field} is {found:?}: expected {expected}")]
    Field {
        /// The file.
        path: Box<str>,
        /// Where in the file.
        field: Box<str>,
        /// What is there.
        found: Box<str>,
        /// What would be right.
        expected: Box<str>,
    },
    /// The queues are malformed.
    #[error(transparent)]
    Queues(#[from] FileError),
    /// The queues make no tree, or a gang may not use its queue.
    #[error("{path}: {problem}")]
    Tree {
        /// The file.
        path: Box<str>,
        /// What is wrong and what to do.
        problem: Box<str>,
    },
    /// A trace is malformed.
    #[error(transparent)]
    Trace(#[from] TraceError),
    /// An application was not measured.
    #[error(transparent)]
    Curve(#[from] CurveError),
    /// The inputs do not go together.
    #[error("{0}")]
    Together(String),
}

/// Where the inputs are, and what they leave open.
#[derive(Clone, Debug, Default)]
pub struct Sources {
    /// Nodes as YAML, or a published list of nodes as CSV; absent: those of the snapshot, or nodes
    /// of the default shape, as many as `nodes` says.
    pub cluster: Option<PathBuf>,
    /// Overrides the count of the one shape of node; of a list, takes the first so many.
    pub nodes: Option<u32>,
    /// Hosts with their switches: the nodes get their places in the network from it.
    pub network: Option<PathBuf>,
    /// Gangs, pods or a generator as YAML, jobs as CSV, or a log in the standard workload format.
    pub workload: Option<PathBuf>,
    /// A live cluster as it was: its nodes, queues and pods.
    pub snapshot: Option<PathBuf>,
    /// Takes at most so many rows of jobs.
    pub limit_rows: Option<usize>,
    /// Jobs of a trace have a checkpoint so often; absent: never.
    pub checkpoint: Option<Duration>,
    /// Processors of a log, or GPUs of a job, that one member has; absent: 8.
    pub gpus_per_member: Option<u32>,
    /// Pods that use a part of a GPU get a whole one; without it they are refused where GPUs are
    /// not shared.
    pub whole_gpus: bool,
    /// The GPUs of all nodes are shared, so that parts of them are given out.
    pub shared_gpus: bool,
    /// Namespace of the pods of a snapshot that own GPUs to be shared; absent: that of a
    /// scheduler without a configuration.
    pub holder_namespace: Option<Box<str>>,
    /// Run time of pods that do not say it.
    pub run: Option<Duration>,
    /// Divides the times between arrivals; absent: 1.
    pub speed_up: Option<f64>,
    /// Folder of measured speeds.
    pub curves: Option<PathBuf>,
    /// Queues as YAML documents; absent: those of the snapshot, or the workload's own, with equal
    /// weights.
    pub queues: Option<PathBuf>,
    /// Draws what a generator makes.
    pub seed: u64,
    /// Objects of others are not read, neither levels nor what they report of GPUs.
    pub without_objects: bool,
}

impl Sources {
    fn checkpoint_ms(&self) -> Option<i64> {
        let every = self.checkpoint.map(|every| every.as_millis());
        every.map(|every| i64::try_from(every).unwrap_or(i64::MAX).max(1))
    }

    /// GPUs of one member, at least 1.
    fn per_member(&self) -> u32 {
        self.gpus_per_member.unwrap_or(GPUS_PER_MEMBER).max(1)
    }

    fn rows(&self) -> usize {
        self.limit_rows.unwrap_or(usize::MAX)
    }
}

/// Everything that the runs of a study share.
#[derive(Clone, Debug)]
pub struct Inputs {
    /// The nodes, and how long things take.
    pub cluster: ClusterSpec,
    /// By arrival.
    pub gangs: Vec<GangSpec>,
    /// Declared queues.
    pub queues: Vec<QueueSpec>,
    /// Names of the queues that gangs are in, sorted.
    pub tenants: Vec<Box<str>>,
    /// For each gang, its place in [`Self::tenants`].
    pub tenant_of: Vec<usize>,
    /// The wall time at which the runs begin.
    pub start: WallTime,
    /// When the nodes are to be drawn, from the start; ascending.
    pub map_at_ms: Vec<i64>,
    /// How the scheduler is configured, by its first profile.
    pub configuration: Configuration,
}

impl Inputs {
    /// Reads the files.
    ///
    /// # Errors
    /// The first thing that is wrong.
    pub fn read(sources: &Sources) -> Result<Self, InputError> {
        read::read(sources)
    }

    /// As [`Self::read`], from texts in YAML.
    ///
    /// # Errors
    /// As [`Self::read`].
    pub fn from_texts(
        cluster: &str,
        workload: &str,
        queues: Option<&str>,
    ) -> Result<Self, InputError> {
        let cluster = cluster::parse("cluster.yaml", cluster)?;
        let mut made = read::from_yaml("workload.yaml", workload, &Sources::default())?;
        parts::settle(&cluster, &mut made.gangs, false)?;
        let queues = queues.map(|text| file::parse("queues.yaml", text)).transpose()?;
        let origin = if queues.is_some() { "queues.yaml" } else { "workload.yaml" };
        Self::new(cluster, made, queues, origin)
    }

    fn new(
        cluster: ClusterSpec,
        Work { mut gangs, start }: Work,
        queues: Option<Vec<QueueSpec>>,
        origin: &str,
    ) -> Result<Self, InputError> {
        gangs.sort_by_key(|gang| gang.arrival_ms);
        let queues = queues.unwrap_or_else(|| named_by(&gangs));
        let in_tree =
            |problem: String| InputError::Tree { path: origin.into(), problem: problem.into() };
        let mut tree = FairShare::default();
        tree.replace(&queues).map_err(|faults| {
            let faults: Vec<String> = faults.iter().map(ToString::to_string).collect();
            in_tree(faults.join("; "))
        })?;
        let mut names = Vec::with_capacity(gangs.len());
        for gang in &gangs {
            let queue =
                tree.queue_for(&gang.namespace, gang.queue.as_deref()).map_err(|fault| {
                    in_tree(format!("gang {}/{}: {fault}", gang.namespace, gang.name))
                })?;
            names.push(tree.spec(queue).name.clone());
        }
        let tenants: BTreeSet<Box<str>> = names.iter().cloned().collect();
        let tenants: Vec<Box<str>> = tenants.into_iter().collect();
        let place = |name| tenants.binary_search(name).expect("it was collected");
        let tenant_of = names.iter().map(place).collect();
        if gangs.is_empty() {
            return Err(InputError::Together(
                "nothing to simulate: the workload has no gang".into(),
            ));
        }
        let (map_at_ms, configuration) = (Vec::new(), Configuration::default());
        Ok(Self { cluster, gangs, queues, tenants, tenant_of, start, map_at_ms, configuration })
    }

    /// When the last gang arrives, from the start.
    #[must_use]
    pub fn last_arrival_ms(&self) -> i64 {
        self.gangs.last().map_or(0, |gang| gang.arrival_ms)
    }

    /// GPUs of all nodes, but for those that pods of other schedulers hold.
    #[must_use]
    pub fn gpus(&self) -> i64 {
        let offered = self.cluster.nodes.iter().map(|node| gpus_in(&node.allocatable));
        let others = self.cluster.standing.iter().filter(|pod| pod.holds.is_empty());
        let taken = others.map(|pod| gpus_in(&pod.class.requests));
        offered.sum::<i64>() - taken.sum::<i64>()
    }
}

/// Gangs, and the wall time from which their times count.
struct Work {
    gangs: Vec<GangSpec>,
    start: WallTime,
}

impl From<Vec<GangSpec>> for Work {
    fn from(gangs: Vec<GangSpec>) -> Self {
        Self { gangs, start: WallTime(START_MS) }
    }
}

/// Queues of equal weight that the gangs name, each with the namespaces that use it.
fn named_by(gangs: &[GangSpec]) -> Vec<QueueSpec> {
    let mut namespaces: BTreeMap<&str, BTreeSet<&str>> = BTreeMap::new();
    for gang in gangs {
        if let Some(queue) = gang.queue.as_deref().filter(|queue| *queue != DEFAULT_QUEUE) {
            namespaces.entry(queue).or_default().insert(&gang.namespace);
        }
    }
    let queue = |(name, namespaces): (&str, BTreeSet<&str>)| QueueSpec {
        name: name.into(),
        namespaces: namespaces.into_iter().map(Into::into).collect(),
        ..QueueSpec::default()
    };
    namespaces.into_iter().map(queue).collect()
}

/// GPUs in a list of amounts.
pub(in crate::simulator::virtual_time) fn gpus_in(list: &ResourceList) -> i64 {
    list.iter().filter(|(name, _)| is_gpu(name)).map(|(_, amount)| *amount).sum()
}

fn shown(path: &Path) -> String {
    path.display().to_string()
}

fn read_text(what: &'static str, path: &Path) -> Result<String, InputError> {
    let failed = |source| InputError::Read { what, path: shown(path).into(), source };
    std::fs::read_to_string(path).map_err(failed)
}

/// One YAML document of a known form.
fn parse_yaml<T: DeserializeOwned>(path: &str, text: &str) -> Result<T, InputError> {
    serde_saphyr::from_str(text).map_err(|error| yaml_error(path, &error))
}

fn yaml_error(path: &str, error: &serde_saphyr::Error) -> InputError {
    let line = error.location().map_or(1, |location| location.line().max(1));
    let text = error.without_snippet().to_string();
    let problem = text.lines().next().unwrap_or_default().into();
    InputError::Yaml { path: path.into(), line, problem }
}

/// A place in a file, for errors.
#[derive(Clone, Copy)]
struct Place<'a> {
    path: &'a str,
    entry: &'a str,
}

impl Place<'_> {
    fn wrong(
        &self,
        field: &str,
        found: impl ToString,
        expected: impl Into<Box<str>>,
    ) -> InputError {
        InputError::Field {
            path: self.path.into(),
            field: format!("{}.{field}", self.entry).into(),
            found: found.to_string().into(),
            expected: expected.into(),
        }
    }

    fn time(&self, field: &str, text: &str) -> Result<i64, InputError> {
        let millis = parse_duration(text).and_then(|time| i64::try_from(time.as_millis()).ok());
        millis.filter(|millis| *millis <= TIME_MAX_MS).ok_or_else(|| {
            self.wrong(field, text, "a duration such as 500ms, 90s or 1h30m, at most ten years")
        })
    }

    fn time_or(&self, field: &str, text: Option<&str>, or: i64) -> Result<i64, InputError> {
        text.map_or(Ok(or), |text| self.time(field, text))
    }

    /// In the units of [`ResourceList`].
    fn amounts(
        &self,
        field: &str,
        list: &BTreeMap<String, String>,
    ) -> Result<ResourceList, InputError> {
        let mut amounts = ResourceList::new();
        for (name, text) in list {
            let scale = if name == "cpu" { 3 } else { 0 };
            let amount = quantity::parse(text, scale).ok_or_else(|| {
                let field = format!("{field}[{name}]");
                self.wrong(&field, text, "a quantity such as 8, 500m or 64Gi, at most 2^52")
            })?;
            if amount > 0 {
                amounts.push((name.as_str().into(), amount));
            }
        }
        Ok(amounts)
    }
}
