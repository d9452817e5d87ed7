//! What an edited tree of queues would change, found by deciding twice on the same cluster: with
//! the tree as it is, and as it would be. Nothing is written.

use super::converter;
use crate::config::{Configuration, core};
use crate::kubernetes::convert::levels::{merged, named};
use crate::kubernetes::convert::queue::QueueError;
use crate::kubernetes::snapshot::topologies;
use crate::kubernetes::{Clock, watch};
use crate::model::{QueueSpec, Timestamp, Uid};
use crate::scheduler::{ApiCall, Event, Evictions, Facts, Kind, Leadership};
use anyhow::Context as _;
use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;
use std::time::Duration;
use tokio::sync::mpsc;

/// How long the lists may take.
const PATIENCE: Duration = Duration::from_secs(120);
/// Cycles until everything that can be decided is.
const CYCLES: usize = 10_000;

/// The state of a cluster, as events.
pub struct Cluster {
    events: Vec<Event>,
    specs: BTreeMap<Box<str>, QueueSpec>,
}

/// What a tree leads to.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Outcome {
    /// How each declared queue stands. A queue at fault says why.
    pub queues: BTreeMap<Box<str>, (QueueSpec, Facts)>,
    /// Gangs that would lose members, by namespace and name: how many of those that run, and how
    /// many run.
    pub victims: BTreeMap<(Box<str>, Box<str>), (usize, usize)>,
}

struct Quiet;

impl watch::Observer for Quiet {
    fn listed(&self, _: Kind) {}

    fn failed(&self, kind: Kind, error: &kube_runtime::watcher::Error) {
        tracing::warn!(?kind, %error, "the list failed and is tried again");
    }

    fn refused(&self, error: &QueueError, _: bool) {
        tracing::warn!(%error, "a queue of the cluster is refused");
    }
}

/// The levels, if Topology objects name others than are configured.
async fn levels(
    client: &kube::Client,
    configuration: &Configuration,
) -> anyhow::Result<Option<Event>> {
    if !configuration.topology.from_objects {
        return Ok(None);
    }
    let known = core::topology_levels(configuration);
    let objects = named(&topologies(client).await?);
    let levels = merged(&known, objects.values().map(Vec::as_slice));
    Ok((levels != known).then(|| Event::LevelsFound(levels)))
}

impl Cluster {
    /// Lists everything the scheduler would.
    ///
    /// # Errors
    /// If the lists do not come within two minutes, or that of the levels fails.
    pub async fn list(
        client: kube::Client,
        configuration: &Configuration,
    ) -> anyhow::Result<Cluster> {
        let levels = levels(&client, configuration).await?;
        let (sender, mut inbox) = mpsc::channel(1024);
        let watches = watch::run(client, converter(configuration), sender, Arc::new(Quiet));
        let watches = tokio::spawn(watches);
        let mut cluster = Cluster { events: Vec::from_iter(levels), specs: BTreeMap::new() };
        let listing = async {
            let mut left = Kind::ALL.len();
            while left > 0 {
                let event = inbox.recv().await.context("the watches ended")?;
                left -= usize::from(matches!(event, Event::ListEnded(_)));
                cluster.take_in(event);
            }
            anyhow::Ok(())
        };
        let listed = tokio::time::timeout(PATIENCE, listing).await;
        watches.abort();
        listed.context("the cluster could not be listed in time: can its objects be read?")??;
        Ok(cluster)
    }

    /// Queues go to a place of their own; the rest is kept as it came.
    fn take_in(&mut self, event: Event) {
        match event {
            Event::QueueApplied(spec) => drop(self.specs.insert(spec.name.clone(), *spec)),
            Event::ListStarted(Kind::Queue) | Event::ListEnded(Kind::Queue) => {}
            Event::QueueRefused { .. } | Event::UsageRemembered(_) => {}
            event => self.events.push(event),
        }
    }

    /// These queues are in force, whatever the cluster says.
    pub fn set_specs(&mut self, specs: Vec<QueueSpec>) {
        self.specs = specs.into_iter().map(|spec| (spec.name.clone(), spec)).collect();
    }

    /// The queues that are in force.
    #[must_use]
    pub fn specs(&self) -> &BTreeMap<Box<str>, QueueSpec> {
        &self.specs
    }

    /// What the scheduler would do with this tree, up to the point where it waits for the world.
    #[must_use]
    pub fn decide(
        &self,
        configuration: &Configuration,
        specs: &BTreeMap<Box<str>, QueueSpec>,
    ) -> Outcome {
        let mut configuration = configuration.clone();
        configuration.queues.file = None;
        configuration.queues.status_interval = Duration::from_millis(1);
        let mut scheduler = core::scheduler(&configuration);
        let mut now = Timestamp(0);
        for event in &self.events {
            scheduler.handle(now, event.clone());
        }
        scheduler.handle(now, Event::ListStarted(Kind::Queue));
        for spec in specs.values() {
            scheduler.handle(now, Event::QueueApplied(Box::new(spec.clone())));
        }
        scheduler.handle(now, Event::ListEnded(Kind::Queue));
        let wall = Clock::wall();
        scheduler.handle(now, Event::Leading(Leadership { previous_renewal: wall, wall }));
        let mut facts: BTreeMap<Box<str>, Facts> = BTreeMap::new();
        let mut victims: BTreeSet<Uid> = BTreeSet::new();
        for _ in 0..CYCLES {
            let report = scheduler.cycle(now);
            let rests = report.calls.is_empty() && !scheduler.has_work();
            for call in report.calls {
                match call {
                    ApiCall::ShowQueue(shown) => drop(facts.insert(shown.queue, shown.facts)),
                    ApiCall::Warn { pods, .. } => victims.extend(pods.iter().map(|pod| pod.uid)),
                    _ => {}
                }
            }
            if rests {
                break;
            }
            now = now.plus_ms(1);
        }
        let queues = specs.iter().map(|(name, spec)| {
            let facts = facts.remove(name).unwrap_or_default();
            (name.clone(), (spec.clone(), facts))
        });
        Outcome { queues: queues.collect(), victims: self.gangs_of(&victims) }
    }

    /// Victims and running members of the gangs that have victims.
    fn gangs_of(&self, victims: &BTreeSet<Uid>) -> BTreeMap<(Box<str>, Box<str>), (usize, usize)> {
        let mut gangs: BTreeMap<(Box<str>, Box<str>), (usize, usize)> = BTreeMap::new();
        let pods = self.events.iter().filter_map(|event| match event {
            Event::PodApplied(pod) if pod.profile.is_some() && pod.node.is_some() => Some(pod),
            _ => None,
        });
        for pod in pods.filter(|pod| !pod.ended()) {
            let group = pod.group.as_ref().and_then(|group| group.as_ref().ok());
            let name = group.map_or(&pod.key.name, |group| &group.name);
            let counts = gangs.entry((pod.key.namespace.clone(), name.clone())).or_default();
            counts.0 += usize::from(victims.contains(&pod.uid));
            counts.1 += 1;
        }
        gangs.retain(|_, (taken, _)| *taken > 0);
        gangs
    }
}

/// Whether the configuration lets anything be evicted.
#[must_use]
pub fn evicts(configuration: &Configuration) -> bool {
    core::options(configuration).evictions == Evictions::Allowed
}
