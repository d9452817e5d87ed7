//! Gangs as YAML.

use super::{InputError, Place, parse_yaml, parts};
use crate::model::contract::is_object_name;
use crate::model::{DeviceSet, GpuPart, Pod, PodClass, ResourceList};
use crate::simulator::traces::pollux::Curves;
use crate::simulator::virtual_time::curve::Curve;
use crate::simulator::virtual_time::gpus::{Gpus, WHOLE};
use serde::Deserialize;
use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;

/// Most members of one gang, as the default configuration has it.
const MEMBERS_MAX: u32 = 10_000;
/// Most gangs of one workload.
const GANGS_MAX: usize = 2_000_000;

/// What a member asks for.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Shape {
    /// Requests.
    pub requests: ResourceList,
    /// GPUs among them.
    pub gpus: Gpus,
    /// What it asks of shared GPUs; `requests` have what is counted for it.
    pub part: Option<GpuPart>,
}

impl From<ResourceList> for Shape {
    fn from(requests: ResourceList) -> Self {
        Self { gpus: Gpus::of(&requests), requests, part: None }
    }
}

impl From<&PodClass> for Shape {
    fn from(class: &PodClass) -> Self {
        Self { part: class.gpu_part, ..class.requests.clone().into() }
    }
}

impl Shape {
    /// A member that asks for a part of a GPU beside other things.
    pub(super) fn with_part(requests: ResourceList, part: GpuPart) -> Self {
        let mut class = PodClass { requests, ..PodClass::default() };
        class.set_gpu_part(Some(part));
        Self::from(&class)
    }

    /// Thousandths of each of its GPUs that a member has: 1000 of whole ones, 0 without.
    #[must_use]
    pub fn of_each_milli(&self) -> i64 {
        match self.part {
            Some(part) => self.gpus.shared_milli / i64::from(part.count).max(1),
            None => WHOLE * self.gpus.whole.signum(),
        }
    }
}

/// What a member is, where the workload has it as an object of Kubernetes.
#[derive(Clone, Debug)]
pub struct Template {
    /// What it asks for.
    pub shape: Arc<Shape>,
    /// The pod, without what a run decides: its uid, its node and its times.
    pub pod: Pod,
    /// Where it ran when the run began, if it did.
    pub before: Option<Before>,
}

impl Template {
    /// The GPUs that it has, if it says as many as it asks for; else that is not known.
    pub(in crate::simulator::virtual_time) fn given(&self) -> DeviceSet {
        let asked = self.shape.part.map_or(self.pod.devices.len(), |part| part.count.into());
        if self.pod.devices.len() == asked { self.pod.devices } else { DeviceSet::EMPTY }
    }
}

/// What became of a pod before the run began. Times are from the start, and so not above 0.
#[derive(Clone, Debug)]
pub struct Before {
    /// When it was created.
    pub created_ms: i64,
    /// Name of its node and when it was bound, if it was.
    pub bound: Option<(Box<str>, i64)>,
}

/// A gang that arrives, runs and ends.
#[derive(Clone, Debug, Default)]
pub struct GangSpec {
    /// Name, unique in its namespace.
    pub name: Box<str>,
    /// Its namespace.
    pub namespace: Box<str>,
    /// The queue it names.
    pub queue: Option<Box<str>>,
    /// When its pods are created, from the start; below 0 if they were there before.
    pub arrival_ms: i64,
    /// How long it runs with all the members it may have.
    pub run_ms: i64,
    /// Pods that are created.
    pub members: u32,
    /// Members without which none runs.
    pub min_member: u32,
    /// The most that run; more than the minimum: an elastic gang.
    pub max_member: u32,
    /// What each member asks for, but the last.
    pub shape: Arc<Shape>,
    /// What the last member asks for.
    pub last: Arc<Shape>,
    /// `spec.priority` of its pods.
    pub priority: i32,
    /// `spec.nodeSelector` of its pods, sorted.
    pub selector: Arc<[(Box<str>, Box<str>)]>,
    /// How much running time lies between two checkpoints; `None`: there are none.
    pub checkpoint_ms: Option<i64>,
    /// How fast it works with how many members; `None`: each does its part.
    pub curve: Option<Arc<Curve>>,
    /// Each member as an object, or none.
    pub templates: Arc<[Template]>,
    /// Of its run time, what lies before the start.
    pub ran_ms: i64,
    /// Of that, what its last checkpoint has.
    pub saved_ms: i64,
}

impl GangSpec {
    /// What a member asks for.
    #[must_use]
    pub fn shape_of(&self, member: u32) -> &Arc<Shape> {
        if let Some(template) = self.template(member) {
            return &template.shape;
        }
        if member + 1 == self.members { &self.last } else { &self.shape }
    }

    /// What a member is as an object.
    #[must_use]
    pub fn template(&self, member: u32) -> Option<&Template> {
        self.templates.get(member as usize)
    }

    /// GPUs of as many members as may run.
    #[must_use]
    pub fn gpus(&self) -> Gpus {
        if !self.templates.is_empty() {
            let most = self.templates.iter().take(self.max_member as usize);
            return most.map(|template| template.shape.gpus).sum();
        }
        let last = i64::from(self.max_member == self.members);
        let mut sum = Gpus::default();
        sum.add(self.shape.gpus, i64::from(self.max_member) - last);
        sum.add(self.last.gpus, last);
        sum
    }

    /// Thousandths of each of its GPUs that a member has: 1000 of whole ones, 0 without; where
    /// members differ, the least of those that have any.
    #[must_use]
    pub fn of_each_milli(&self) -> i64 {
        let own = [&self.shape, &self.last].into_iter().filter(|_| self.templates.is_empty());
        let shapes = self.templates.iter().map(|template| &template.shape).chain(own);
        let each = shapes.map(|shape| shape.of_each_milli());
        each.filter(|milli| *milli > 0).min().unwrap_or(0)
    }

    /// Whether members may come and go while it runs.
    #[must_use]
    pub fn is_elastic(&self) -> bool {
        self.min_member < self.max_member
    }
}

#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields, rename_all = "kebab-case")]
struct File {
    gangs: Vec<Entry>,
}

#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields, rename_all = "kebab-case")]
struct Entry {
    name: String,
    namespace: Option<String>,
    queue: Option<String>,
    arrival: Option<String>,
    run: String,
    members: Option<u32>,
    min_member: Option<u32>,
    max_member: Option<u32>,
    requests: BTreeMap<String, String>,
    gpu_milli: Option<u32>,
    #[serde(default)]
    priority: i32,
    #[serde(default)]
    selector: BTreeMap<String, String>,
    checkpoint: Option<String>,
    count: Option<u32>,
    every: Option<String>,
    speeds: Option<Vec<f64>>,
    application: Option<String>,
    batch_size: Option<u32>,
}

pub(super) fn parse(
    path: &str,
    text: &str,
    curves: &mut Curves,
) -> Result<Vec<GangSpec>, InputError> {
    let file: File = parse_yaml(path, text)?;
    let mut gangs = Vec::new();
    let mut names = BTreeSet::new();
    for (index, entry) in file.gangs.iter().enumerate() {
        let place = format!("gangs[{index}] ({})", entry.name);
        let place = Place { path, entry: &place };
        let made = entry.gangs(place, curves)?;
        for gang in made {
            if !names.insert((gang.namespace.clone(), gang.name.clone())) {
                let expected = "a name that no other gang of the namespace has";
                return Err(place.wrong("name", &gang.name, expected));
            }
            gangs.push(gang);
        }
        if gangs.len() > GANGS_MAX {
            let expected = format!("at most {GANGS_MAX} gangs in all");
            return Err(place.wrong("count", entry.count.unwrap_or(1), expected));
        }
    }
    Ok(gangs)
}

impl Entry {
    /// The gangs of one entry, one after the other.
    fn gangs(&self, place: Place<'_>, curves: &mut Curves) -> Result<Vec<GangSpec>, InputError> {
        let mut first = self.first(place)?;
        first.curve = self.curve(place, &first, curves)?;
        let every_ms = place.time_or("every", self.every.as_deref(), 0)?;
        let count = self.count.unwrap_or(1);
        if count as usize > GANGS_MAX {
            return Err(place.wrong("count", count, format!("at most {GANGS_MAX}")));
        }
        let gang = |number: u32| GangSpec {
            name: match self.count {
                None => first.name.clone(),
                Some(_) => format!("{}-{number}", first.name).into(),
            },
            arrival_ms: first.arrival_ms.saturating_add(every_ms.saturating_mul(number.into())),
            ..first.clone()
        };
        Ok((0..count).map(gang).collect())
    }

    /// How fast its gangs work, if the entry says so: as a list, or by the name of an application
    /// that was measured.
    fn curve(
        &self,
        place: Place<'_>,
        gang: &GangSpec,
        curves: &mut Curves,
    ) -> Result<Option<Arc<Curve>>, InputError> {
        if let Some(speeds) = &self.speeds {
            let curve = Curve::from_speeds(speeds).ok_or_else(|| {
                let expected = "speeds with 1, 2, 3 and more members, each above zero";
                place.wrong("speeds", format!("{speeds:?}"), expected)
            })?;
            return Ok(Some(Arc::new(curve)));
        }
        let Some(application) = &self.application else {
            return Ok(None);
        };
        let batch = self.batch_size.filter(|batch| *batch > 0).ok_or_else(|| {
            place.wrong("batch-size", "absent", "the batch size of all members together")
        })?;
        let each = u32::try_from((gang.shape.gpus.milli() / WHOLE).max(1)).unwrap_or(1);
        let speeds = curves.speeds(application, batch, each, gang.max_member)?;
        let curve = Curve::from_speeds(&speeds).ok_or_else(|| {
            place.wrong("batch-size", batch, "a batch size at which the application runs")
        })?;
        Ok(Some(Arc::new(curve)))
    }

    /// What each member asks for.
    fn shape(&self, place: Place<'_>) -> Result<Shape, InputError> {
        let requests = place.amounts("requests", &self.requests)?;
        if let Some((name, amount)) = requests.iter().find(|(name, _)| parts::is_counted(name)) {
            let expected = "nothing: a part of a GPU is asked for by gpu-milli beside requests";
            return Err(place.wrong(&format!("requests[{name}]"), amount, expected));
        }
        let Some(milli) = self.gpu_milli else { return Ok(requests.into()) };
        let part = parts::of_milli(milli).ok_or_else(|| {
            let expected = "thousandths of a GPU from 1 to 1000, or whole ones from 2000 to 64000";
            place.wrong("gpu-milli", milli, expected)
        })?;
        if Gpus::of(&requests) != Gpus::default() {
            let expected = "nothing, as requests name GPUs: a member has either";
            return Err(place.wrong("gpu-milli", milli, expected));
        }
        Ok(Shape::with_part(requests, part))
    }

    fn first(&self, place: Place<'_>) -> Result<GangSpec, InputError> {
        let namespace = self.namespace.as_deref().or(self.queue.as_deref()).unwrap_or("default");
        let named = [("name", Some(&*self.name)), ("namespace", Some(namespace))];
        for (field, name) in named.into_iter().chain([("queue", self.queue.as_deref())]) {
            if let Some(name) = name.filter(|name| !is_object_name(name)) {
                let expected = "a name of lower-case letters, digits, '-' and '.'";
                return Err(place.wrong(field, name, expected));
            }
        }
        let within = |field, count: u32, least: u32, most: u32| {
            if (least..=most).contains(&count) {
                return Ok(count);
            }
            Err(place.wrong(field, count, format!("a whole number from {least} to {most}")))
        };
        let members = within("members", self.members.unwrap_or(1), 1, MEMBERS_MAX)?;
        let min = within("min-member", self.min_member.unwrap_or(members), 1, members)?;
        let max = within("max-member", self.max_member.unwrap_or(members), min, members)?;
        let shape = Arc::new(self.shape(place)?);
        let selector = self.selector.iter();
        let checkpoint = self.checkpoint.as_deref();
        let checkpoint_ms = checkpoint.map(|text| place.time("checkpoint", text)).transpose()?;
        if checkpoint_ms == Some(0) {
            return Err(place.wrong("checkpoint", "0", "a duration above zero"));
        }
        Ok(GangSpec {
            name: self.name.as_str().into(),
            namespace: namespace.into(),
            queue: self.queue.as_deref().map(Into::into),
            arrival_ms: place.time_or("arrival", self.arrival.as_deref(), 0)?,
            run_ms: place.time("run", &self.run)?,
            members,
            min_member: min,
            max_member: max,
            last: shape.clone(),
            shape,
            priority: self.priority,
            selector: selector.map(|(k, v)| (k.as_str().into(), v.as_str().into())).collect(),
            checkpoint_ms,
            ..GangSpec::default()
        })
    }
}
