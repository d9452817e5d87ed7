//! Queue objects, read strictly: what is wrong is named, and nothing is guessed.
//!
//! The definition in `manifests/` refuses the same things earlier and in the same words where it
//! can; a definition of another release may not.

pub mod file;
#[cfg(test)]
mod tests;

use super::requests;
use crate::config::parse_duration;
use crate::fairshare::Used;
use crate::kubernetes::objects::{Quantity, QueueObject};
use crate::model::contract::{cut, is_object_name};
use crate::model::narrowed::{NarrowedName, base};
use crate::model::queue::{Ageing, Ordering, Preemption, WEIGHT_MAX};
use crate::model::windows::{self, WINDOWS_MAX, Week};
use crate::model::{Caps, EvictionBudget, QueueSpec, ResourceList, Windows, quantity};
use crate::scheduler::{Remembered, USERS_SHOWN};
use jiff::Timestamp;
use serde_json::{Map, Value};

/// Resources one map may name.
pub const RESOURCES_MAX: usize = 64;
/// Namespaces one queue may name.
pub const NAMESPACES_MAX: usize = 1000;
/// Largest cap.
const CAP_MAX: u32 = 1_000_000;
/// Most pods that an eviction budget may name.
const EVICTIONS_MAX: u32 = 1_000_000;
/// Most points of priority gained in one time.
const POINTS_MAX: i64 = 1_000_000_000;
/// Longest duration taken: ten years.
const DURATION_MAX_MS: i64 = 10 * 366 * 24 * 3_600_000;

/// Why a queue is refused.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("queue {queue}: {field} is {found}: expected {expected}")]
pub struct QueueError {
    /// The object's name.
    pub queue: Box<str>,
    /// The field.
    pub field: Box<str>,
    /// What was found, cut.
    pub found: Box<str>,
    /// What would be right.
    pub expected: Box<str>,
}

/// The queue that an object declares.
///
/// # Errors
/// The first field that is wrong.
pub fn queue(object: &QueueObject) -> Result<QueueSpec, QueueError> {
    let name = object.meta.name();
    let read = read(name, &object.spec);
    let spec = read.map(|spec| QueueSpec { generation: object.meta.generation(), ..spec });
    spec.map_err(|Wrong { field, found, expected }| QueueError {
        queue: cut(name),
        field: field.into(),
        found: cut(&found),
        expected: expected.into(),
    })
}

/// Usage that the object's status keeps; `None` where there is none that can be read.
#[must_use]
pub fn remembered(object: &QueueObject, now: Timestamp) -> Option<Remembered> {
    let usage = &object.status["usage"];
    let as_of: Timestamp = usage["asOf"].as_str()?.parse().ok()?;
    let users = usage["users"].as_array().into_iter().flatten().take(USERS_SHOWN);
    let users = users.filter_map(|user| Some((user["name"].as_str()?.into(), used(user)?)));
    Some(Remembered {
        queue: object.meta.name().into(),
        // of a clock that is ahead: it was just now
        age_ms: i64::try_from(now.duration_since(as_of).as_millis()).ok()?.max(0),
        used: used(usage)?,
        users: users.collect(),
    })
}

fn used(value: &Value) -> Option<Used> {
    let part = |name| value[name].as_f64().filter(|number| number.is_finite() && *number >= 0.0);
    Some(Used { amount: part("amount")?, rate: part("rate")? })
}

struct Wrong {
    field: String,
    found: String,
    expected: String,
}

fn wrong(field: impl Into<String>, found: &Value, expected: impl Into<String>) -> Wrong {
    let found = if found.is_null() { "missing".to_owned() } else { found.to_string() };
    Wrong { field: field.into(), found, expected: expected.into() }
}

fn read(name: &str, spec: &Value) -> Result<QueueSpec, Wrong> {
    let fields = Fields::of("spec", spec)?;
    if !is_object_name(name) {
        return Err(wrong("metadata.name", &name.into(), NAME));
    }
    let parent = fields.name("parent")?;
    if parent.as_deref() == Some(name) {
        return Err(wrong("spec.parent", &name.into(), "another queue than itself"));
    }
    let mut quota = fields.resources("quota")?;
    let limit = fields.resources("limit")?;
    for (resource, most) in &limit {
        let guaranteed = quota.iter().find(|(name, _)| name == resource);
        if guaranteed.is_some_and(|(_, least)| least > most) {
            let [quota, limit] = ["quota", "limit"].map(|map| &fields.get(map)[&**resource]);
            let field = format!("spec.limit[{}]", cut(resource));
            return Err(wrong(field, limit, format!("at least the quota, {quota}")));
        }
    }
    quota.retain(|(_, amount)| *amount > 0);
    let weights = (1, i64::from(WEIGHT_MAX));
    let weight = |number: i64| u32::try_from(number).unwrap_or(WEIGHT_MAX);
    let priorities = (i64::from(i32::MIN), i64::from(i32::MAX));
    let priority = fields.number("priority", priorities)?.unwrap_or(0);
    Ok(QueueSpec {
        name: name.into(),
        generation: 0,
        parent,
        weight: weight(fields.number("weight", weights)?.unwrap_or(1)),
        over_quota_weight: fields.number("overQuotaWeight", weights)?.map(weight),
        quota,
        limit,
        lend_limit: fields.resources("lendLimit")?,
        borrow_limit: fields.resources("borrowLimit")?,
        user_limit: fields.resources("userLimit")?,
        priority: i32::try_from(priority).unwrap_or(0),
        order: fields.ordering()?,
        ageing: ageing(fields.get("ageing"))?,
        namespaces: fields.namespaces()?,
        open: fields.flag("open")?.unwrap_or(true),
        windows: windows(fields.get("windows"))?,
        caps: caps(fields.get("caps"))?,
        preemption: preemption(fields.get("preemption"))?,
    })
}

const NAME: &str = "a name of lower-case letters, digits, '-' and '.'";

fn preemption(value: &Value) -> Result<Preemption, Wrong> {
    let fields = Fields::of("spec.preemption", value)?;
    let default = Preemption::default();
    Ok(Preemption {
        reclaimable: fields.flag("reclaimable")?.unwrap_or(default.reclaimable),
        preemptible: fields.flag("preemptible")?.unwrap_or(default.preemptible),
        may_evict: fields.flag("mayEvict")?.unwrap_or(default.may_evict),
        min_runtime_ms: fields.millis("minRuntime")?.unwrap_or(default.min_runtime_ms),
        grace_ms: fields.millis("grace")?.unwrap_or(default.grace_ms),
        budget: budget(fields.get("evictionBudget"))?,
    })
}

fn caps(value: &Value) -> Result<Caps, Wrong> {
    let fields = Fields::of("spec.caps", value)?;
    let count = |name| {
        let number = fields.number(name, (1, i64::from(CAP_MAX)))?;
        Ok(number.map(|number| u32::try_from(number).unwrap_or(CAP_MAX)))
    };
    Ok(Caps {
        running_gangs: count("runningGangs")?,
        running_gangs_per_user: count("runningGangsPerUser")?,
        pending_gangs: count("pendingGangs")?,
        gang_gpus: count("gangGpus")?,
    })
}

fn ageing(value: &Value) -> Result<Option<Ageing>, Wrong> {
    if value.is_null() {
        return Ok(None);
    }
    let fields = Fields::of("spec.ageing", value)?;
    let lacks = |name: &str, expected: &str| wrong(fields.path(name), fields.get(name), expected);
    let points = fields.number("points", (1, POINTS_MAX))?;
    let points = points.ok_or_else(|| lacks("points", "a number of points of priority"))?;
    let every = fields.millis("every")?.filter(|every| *every >= 1000);
    let every_ms = every.ok_or_else(|| lacks("every", "a duration of at least 1s"))?;
    Ok(Some(Ageing { points: u32::try_from(points).unwrap_or(u32::MAX), every_ms }))
}

fn windows(value: &Value) -> Result<Option<Box<Windows>>, Wrong> {
    let fields = Fields::of("spec.windows", value)?;
    let name = fields.get("timeZone");
    let zone = match name {
        Value::Null => windows::zone("UTC"),
        name => name.as_str().and_then(windows::zone),
    };
    let expected = "a time zone of the tz database, such as Europe/Berlin";
    let zone = zone.ok_or_else(|| wrong("spec.windows.timeZone", name, expected))?;
    let (run, dispatch) = (fields.week("run")?, fields.week("dispatch")?);
    let any = run.is_some() || dispatch.is_some();
    Ok(any.then(|| Box::new(Windows::new(zone, run, dispatch))))
}

fn budget(value: &Value) -> Result<Option<EvictionBudget>, Wrong> {
    if value.is_null() {
        return Ok(None);
    }
    let fields = Fields::of("spec.preemption.evictionBudget", value)?;
    let bounds = (1, i64::from(EVICTIONS_MAX));
    let lacks = |name: &str, expected: &str| wrong(fields.path(name), fields.get(name), expected);
    let pods = fields.number("pods", bounds)?.ok_or_else(|| lacks("pods", "a number of pods"))?;
    let window = fields.millis("window")?.filter(|window| *window >= 1000);
    let window_ms = window.ok_or_else(|| lacks("window", "a duration of at least 1s"))?;
    Ok(Some(EvictionBudget { pods: u32::try_from(pods).unwrap_or(EVICTIONS_MAX), window_ms }))
}

/// An object's fields; `null` is as good as absent.
struct Fields<'a> {
    path: &'static str,
    map: Option<&'a Map<String, Value>>,
}

impl<'a> Fields<'a> {
    fn of(path: &'static str, value: &'a Value) -> Result<Self, Wrong> {
        match value {
            Value::Null => Ok(Self { path, map: None }),
            Value::Object(map) => Ok(Self { path, map: Some(map) }),
            other => Err(wrong(path, other, "an object")),
        }
    }

    fn path(&self, name: &str) -> String {
        format!("{}.{name}", self.path)
    }

    fn get(&self, name: &str) -> &'a Value {
        self.map.and_then(|map| map.get(name)).unwrap_or(&Value::Null)
    }

    /// The field through `convert`, which returns `None` for what it does not take.
    fn read<T>(
        &self,
        name: &str,
        expected: impl Fn() -> String,
        convert: impl Fn(&'a Value) -> Option<T>,
    ) -> Result<Option<T>, Wrong> {
        match self.get(name) {
            Value::Null => Ok(None),
            value => match convert(value) {
                Some(read) => Ok(Some(read)),
                None => Err(wrong(self.path(name), value, expected())),
            },
        }
    }

    fn flag(&self, name: &str) -> Result<Option<bool>, Wrong> {
        self.read(name, || "true or false".to_owned(), Value::as_bool)
    }

    fn number(&self, name: &str, (least, most): (i64, i64)) -> Result<Option<i64>, Wrong> {
        let expected = || format!("a whole number from {least} to {most}");
        let within = |value: &Value| value.as_i64().filter(|n| (least..=most).contains(n));
        self.read(name, expected, within)
    }

    fn name(&self, name: &str) -> Result<Option<Box<str>>, Wrong> {
        self.read(name, || NAME.to_owned(), named)
    }

    fn millis(&self, name: &str) -> Result<Option<i64>, Wrong> {
        let expected = || "a duration such as 90s, 10m or 1h30m, at most ten years".to_owned();
        self.read(name, expected, |value| {
            let duration = parse_duration(value.as_str()?)?;
            // a part of a millisecond counts as a whole one: a grace is never shorter than asked
            let millis = i64::try_from(duration.as_nanos().div_ceil(1_000_000)).ok()?;
            Some(millis).filter(|millis| *millis <= DURATION_MAX_MS)
        })
    }

    fn ordering(&self) -> Result<Ordering, Wrong> {
        let expected = || Ordering::WORDS.join(", ");
        let read =
            self.read("ordering", expected, |value| value.as_str().and_then(Ordering::parse));
        Ok(read?.unwrap_or_default())
    }

    fn week(&self, name: &str) -> Result<Option<Week>, Wrong> {
        let expected = || format!("a list of 1 to {WINDOWS_MAX} windows");
        let list = self.read(name, expected, |value| {
            value.as_array().filter(|list| (1..=WINDOWS_MAX).contains(&list.len()))
        });
        let Some(list) = list? else { return Ok(None) };
        let texts: Vec<&str> = list.iter().map(|value| value.as_str().unwrap_or("")).collect();
        let week = Week::parse(&texts).map_err(|position| {
            let field = format!("{}[{position}]", self.path(name));
            wrong(field, &list[position], "a window such as 20:00-8:30 or 5:18:30-1:8:30")
        });
        week.map(Some)
    }

    /// In the object's order, each once.
    fn namespaces(&self) -> Result<Vec<Box<str>>, Wrong> {
        let expected = || format!("a list of at most {NAMESPACES_MAX} namespaces");
        let list = self.read("namespaces", expected, |value| {
            value.as_array().filter(|list| list.len() <= NAMESPACES_MAX)
        });
        let mut names: Vec<Box<str>> = Vec::new();
        for (index, value) in list?.into_iter().flatten().enumerate() {
            let field = || format!("{}[{index}]", self.path("namespaces"));
            let name = named(value).ok_or_else(|| wrong(field(), value, NAME))?;
            if !names.contains(&name) {
                names.push(name);
            }
        }
        Ok(names)
    }

    /// In the units of [`ResourceList`], sorted. An amount of 0 is kept, other than there: a limit
    /// of nothing is not the same as no limit.
    fn resources(&self, name: &str) -> Result<ResourceList, Wrong> {
        let expected = || format!("amounts of at most {RESOURCES_MAX} resources");
        let map = self.read(name, expected, |value| {
            value.as_object().filter(|map| map.len() <= RESOURCES_MAX)
        });
        let mut list = ResourceList::new();
        for (resource, value) in map?.into_iter().flatten() {
            let field = || format!("{}[{}]", self.path(name), cut(resource));
            // pods request no pods, so no share of them is kept
            if !requests::counts(base(resource)) || base(resource) == "pods" {
                let expected = "an amount of cpu, memory or another resource that nodes offer";
                return Err(wrong(field(), value, expected));
            }
            if resource.contains('@') && !is_narrowed(resource) {
                let expected = "a resource and a label of nodes, as resource@key=value";
                return Err(wrong(field(), &resource.as_str().into(), expected));
            }
            let amount = amount(base(resource), value)
                .ok_or_else(|| wrong(field(), value, "a quantity between 0 and 2^52"))?;
            list.push((resource.as_str().into(), amount));
        }
        list.sort_unstable();
        Ok(list)
    }
}

/// Whether the label that narrows a resource is one that a node can have.
fn is_narrowed(name: &str) -> bool {
    let is_part = |text: &str, least: usize| {
        let edge = |byte: Option<&u8>| byte.is_none_or(u8::is_ascii_alphanumeric);
        let bytes = text.as_bytes();
        (least..=63).contains(&bytes.len())
            && bytes.iter().all(|byte| byte.is_ascii_alphanumeric() || b"-_.".contains(byte))
            && edge(bytes.first())
            && edge(bytes.last())
    };
    NarrowedName::parse(name).is_some_and(|NarrowedName { key, value, .. }| {
        let (prefix, part) = key.rsplit_once('/').unwrap_or(("a", key));
        is_object_name(prefix) && is_part(part, 1) && is_part(value, 0)
    })
}

fn named(value: &Value) -> Option<Box<str>> {
    value.as_str().filter(|name| is_object_name(name)).map(Into::into)
}

fn amount(resource: &str, value: &Value) -> Option<i64> {
    let milli = match value {
        Value::String(text) => Quantity::parse(text).0.ok()?,
        Value::Number(number) => Quantity::parse(&number.to_string()).0.ok()?,
        _ => return None,
    };
    Some(requests::rounded(resource, milli)).filter(|amount| *amount <= quantity::VALUE_MAX)
}
