//! Reads the fair share of IBM Spectrum Conductor's Meta Session Scheduler, `msd_profile.json`, and
//! says the same as queues and configuration.
//!
//! | there | here |
//! |---|---|
//! | a tag of `tag_tree`, and tags below it | a `Queue`, and queues below it |
//! | `ratio` | `weight` |
//! | `max`, running jobs of one user | `caps.runningGangsPerUser`; 100000, their word for no bound: none |
//! | `preempt`, policy `hierarchy` | `preemption.mayEvict` |
//! | `preempt_grace_period`, seconds | `preemption.grace` |
//! | `cpu_factor`, `mem_factor`, `gpu_factor` | `queues.cpuFactor` and so on |
//! | `resource_statistics_window` | `queues.usageHalfLife` |

use crate::config::{API_VERSION, KIND, parse_duration};
use crate::model::contract::{GROUP, is_object_name};
use anyhow::{Context as _, bail};
use serde_json::{Map, Value};
use std::fmt::Write as _;
use std::path::Path;

/// `max` of a tag that is not bounded, by their default.
const UNBOUNDED: i64 = 100_000;
const WEIGHT_MAX: i64 = crate::model::queue::WEIGHT_MAX as i64;

/// What a profile says here.
#[derive(Debug, Default, PartialEq, Eq)]
pub(super) struct Imported {
    /// Queues as YAML documents.
    pub(super) queues: String,
    /// A configuration file.
    pub(super) configuration: String,
    /// What has no counterpart, one line each.
    pub(super) notes: Vec<String>,
}

/// Reads a profile.
///
/// # Errors
/// The first field that cannot be understood, by its path.
pub(super) fn read(path: &Path) -> anyhow::Result<Imported> {
    let shown = path.display();
    let text = std::fs::read_to_string(path).with_context(|| format!("read {shown}"))?;
    let profile: Value =
        serde_json::from_str(&text).with_context(|| format!("parse {shown} as JSON"))?;
    import(&profile).with_context(|| format!("import {shown}"))
}

fn import(profile: &Value) -> anyhow::Result<Imported> {
    let policy = &profile["policy"];
    let elastic = match policy["name"].as_str() {
        Some("elastic-hierarchy") => true,
        Some("hierarchy") => false,
        _ => bail!("policy.name is {}: expected elastic-hierarchy or hierarchy", policy["name"]),
    };
    let settings = fields(&policy["policy_conf"], "policy.policy_conf")?;
    let mut imported = Imported::default();
    let preempts = flag(settings, "preempt")?.unwrap_or(true);
    let evicts = elastic && preempts;
    let grace = number(settings, "preempt_grace_period", i64::from(u32::MAX))?.unwrap_or(200);
    let preemption = format!("preemption: {{mayEvict: {evicts}, grace: {grace}s}}");
    let tree = fields(settings.get("tag_tree").unwrap_or(&Value::Null), "tag_tree")?;
    if tree.is_empty() {
        bail!("policy.policy_conf.tag_tree declares no tag");
    }
    if number(settings, "preempt_grace_period", i64::from(u32::MAX))?.is_none() {
        imported.notes.push("preempt_grace_period is not given: 200 s, as there".to_owned());
    }
    tags(tree, None, &preemption, &mut imported.queues)?;
    imported.configuration = configuration(settings)?;
    notes(policy, settings, &mut imported.notes);
    Ok(imported)
}

/// Queues of sibling tags and all below them.
fn tags(
    tree: &Map<String, Value>,
    parent: Option<&str>,
    preemption: &str,
    text: &mut String,
) -> anyhow::Result<()> {
    for (tag, value) in tree {
        if !is_object_name(tag) {
            bail!("tag {tag:?} cannot name a queue: use lower-case letters, digits, '-' and '.'");
        }
        let path = format!("tag_tree.{tag}");
        let settings = fields(value, &path)?;
        let weight = number(settings, "ratio", WEIGHT_MAX).context(path.clone())?.unwrap_or(1);
        let most = number(settings, "max", i64::from(u32::MAX)).context(path)?;
        write!(
            text,
            "---\napiVersion: {GROUP}/v1alpha1\nkind: Queue\nmetadata: {{name: {tag}}}\nspec:\n"
        )?;
        if let Some(parent) = parent {
            writeln!(text, "  parent: {parent}")?;
        }
        writeln!(text, "  weight: {}", weight.max(1))?;
        if let Some(most) = most.filter(|most| *most < UNBOUNDED) {
            writeln!(text, "  caps: {{runningGangsPerUser: {}}}", most.max(1))?;
        }
        writeln!(text, "  namespaces: []   # those of the users that had the tag\n  {preemption}")?;
        let below = settings.get("tag_tree").or_else(|| settings.get("children"));
        if let Some(below) = below {
            tags(fields(below, tag)?, Some(tag), preemption, text)?;
        }
    }
    Ok(())
}

fn configuration(settings: &Map<String, Value>) -> anyhow::Result<String> {
    let mut text = format!("apiVersion: {API_VERSION}\nkind: {KIND}\nqueues:\n");
    for (there, here) in
        [("cpu_factor", "cpuFactor"), ("mem_factor", "memoryFactor"), ("gpu_factor", "gpuFactor")]
    {
        if let Some(factor) = number(settings, there, 1_000_000)? {
            writeln!(text, "  {here}: {factor}")?;
        }
    }
    if let Some(window) = settings.get("resource_statistics_window") {
        let known = window.as_str().filter(|text| parse_duration(text).is_some());
        let Some(window) = known else {
            bail!("resource_statistics_window is {window}: expected a duration such as \"2h\"");
        };
        writeln!(text, "  usageHalfLife: {window}")?;
    }
    if text.ends_with("queues:\n") {
        text.truncate(text.len() - "queues:\n".len());
    }
    Ok(text)
}

/// What is said there and has no counterpart.
fn notes(policy: &Value, settings: &Map<String, Value>, notes: &mut Vec<String>) {
    if let Some(timeout) = policy["task_execution_timeout"].as_i64().filter(|t| *t > 0) {
        notes.push(format!(
            "task_execution_timeout {timeout} s: set runLimit on the queues, or \
             activeDeadlineSeconds on the pods"
        ));
    }
    if policy["schedule_interval"].is_number() {
        notes.push("schedule_interval: this scheduler decides when something happens".to_owned());
    }
    let known = [
        "cpu_factor",
        "mem_factor",
        "gpu_factor",
        "preempt",
        "preempt_grace_period",
        "resource_statistics_window",
        "tag_tree",
    ];
    for field in settings.keys().filter(|field| !known.contains(&field.as_str())) {
        notes.push(format!("policy_conf.{field} is not known and was left out"));
    }
}

fn fields<'a>(value: &'a Value, path: &str) -> anyhow::Result<&'a Map<String, Value>> {
    value.as_object().with_context(|| format!("{path} is {value}: expected an object"))
}

fn number(map: &Map<String, Value>, name: &str, most: i64) -> anyhow::Result<Option<i64>> {
    match map.get(name) {
        None | Some(Value::Null) => Ok(None),
        Some(value) => match value.as_i64().filter(|number| (0..=most).contains(number)) {
            Some(number) => Ok(Some(number)),
            None => bail!("{name} is {value}: expected a whole number from 0 to {most}"),
        },
    }
}

fn flag(map: &Map<String, Value>, name: &str) -> anyhow::Result<Option<bool>> {
    match map.get(name) {
        None | Some(Value::Null) => Ok(None),
        Some(Value::Bool(flag)) => Ok(Some(*flag)),
        Some(value) => bail!("{name} is {value}: expected true or false"),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::config::Configuration;
    use crate::kubernetes::convert::queue;
    use crate::kubernetes::objects::QueueObject;
    use crate::model::QueueSpec;
    use serde_json::json;

    fn profile(policy: &str, conf: &Value) -> Value {
        json!({ "schema_version": "1.1", "type": "job_scheduler", "replica": 1,
            "policy": { "name": policy, "policy_conf": conf, "schedule_interval": 3,
                "task_execution_timeout": -1 },
            "kernel": { "umask": "022" }, "envs": [] })
    }

    fn queues(imported: &Imported) -> Vec<QueueSpec> {
        let objects: Vec<QueueObject> =
            serde_saphyr::from_multiple(&imported.queues).expect("YAML");
        objects.iter().map(|object| queue::queue(object).expect("a valid queue")).collect()
    }

    #[test]
    fn the_profile_that_is_shipped_becomes_three_queues() {
        let tags = json!({ "silver": { "ratio": 5, "max": 100_000 },
            "gold": { "ratio": 20, "max": 4 }, "diamond": { "ratio": 60, "max": 10 } });
        let conf = json!({ "cpu_factor": 0, "mem_factor": 0, "gpu_factor": 4,
            "preempt_grace_period": 200, "preempt": true, "resource_statistics_window": "2h",
            "tag_tree": tags });
        let imported = import(&profile("elastic-hierarchy", &conf)).expect("it is understood");
        let found: Vec<_> = queues(&imported)
            .into_iter()
            .map(|spec| {
                let (evicts, grace) = (spec.preemption.may_evict, spec.preemption.grace_ms);
                (
                    spec.name.to_string(),
                    spec.weight,
                    spec.caps.running_gangs_per_user,
                    evicts,
                    grace,
                )
            })
            .collect();
        let expected = [("diamond", 60, Some(10)), ("gold", 20, Some(4)), ("silver", 5, None)];
        let mut sorted = found;
        sorted.sort();
        let expected = expected.map(|(name, w, max)| (name.to_owned(), w, max, true, 200_000));
        assert_eq!(sorted, expected);
        let configuration = Configuration::parse(&imported.configuration, "imported");
        let configuration = configuration.expect("a valid configuration");
        assert_eq!(configuration.queues.gpu_factor, 4);
        assert_eq!(configuration.queues.usage_half_life.as_secs(), 7200);
        assert_eq!(imported.notes.len(), 1, "{:?}", imported.notes);
    }

    #[test]
    fn tags_below_tags_become_queues_below_queues_and_hierarchy_evicts_nothing() {
        let tags = json!({ "lab": { "ratio": 2, "tag_tree": { "vision": { "ratio": 3 } } } });
        let imported = import(&profile("hierarchy", &json!({ "tag_tree": tags }))).expect("good");
        let found = queues(&imported);
        assert_eq!(found[1].parent.as_deref(), Some("lab"));
        assert!(found.iter().all(|queue| !queue.preemption.may_evict));
    }

    #[test]
    fn what_is_wrong_is_named() {
        let tree = json!({ "a": { "ratio": 1 } });
        let cases = [
            (profile("fifo", &json!({})), "policy.name is \"fifo\": expected"),
            (profile("hierarchy", &json!({})), "tag_tree is null: expected an object"),
            (profile("hierarchy", &json!({ "tag_tree": {} })), "declares no tag"),
            (
                profile("hierarchy", &json!({ "tag_tree": { "A b": {} } })),
                "tag \"A b\" cannot name a queue",
            ),
            (
                profile("hierarchy", &json!({ "tag_tree": { "a": { "ratio": -1 } } })),
                "tag_tree.a: ratio is -1: expected a whole number",
            ),
            (
                profile("hierarchy", &json!({ "tag_tree": tree, "preempt": "yes" })),
                "preempt is \"yes\": expected true or false",
            ),
            (
                profile(
                    "hierarchy",
                    &json!({ "tag_tree": { "a": {} }, "resource_statistics_window": 2 }),
                ),
                "resource_statistics_window is 2: expected a duration",
            ),
        ];
        for (profile, expected) in cases {
            let error = format!("{:#}", import(&profile).expect_err(expected));
            assert!(error.contains(expected), "{error}");
        }
    }
}
