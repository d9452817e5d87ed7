//! Profiles: which plugins run for which scheduler name, with which weights and arguments.

use super::section::Section;
use super::{Problem, check, fields, plugins};
use serde::Serialize;

/// What runs for the pods of one scheduler name.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
#[serde(rename_all = "camelCase")]
pub struct Profile {
    /// `spec.schedulerName` of the pods.
    pub scheduler_name: String,
    /// Filters in the order they run.
    pub filters: Vec<String>,
    /// Scores with their weights, 1 to 100.
    pub scores: Vec<(String, u32)>,
    /// Arguments of `NodeResourcesFit`.
    pub fit: FitArgs,
    /// Arguments of `NodeResourcesBalancedAllocation`.
    pub balanced_allocation: BalancedAllocationArgs,
}

/// Arguments of `NodeResourcesFit`.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
#[serde(rename_all = "camelCase")]
pub struct FitArgs {
    /// How the score is formed.
    pub strategy: ScoringStrategy,
    /// Resources that count.
    pub resources: Vec<ResourceWeight>,
}

/// Upstream's scoring strategies.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub enum ScoringStrategy {
    /// Spread.
    LeastAllocated,
    /// Pack.
    MostAllocated,
    /// Follow a line through these points; utilization rises strictly.
    RequestedToCapacityRatio(Vec<ShapePoint>),
}

/// A resource and its factor in a mean.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct ResourceWeight {
    /// Name, such as `cpu`.
    pub name: String,
    /// Factor, 1 to 100.
    pub weight: u32,
}

/// A point of a scoring line.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize)]
pub struct ShapePoint {
    /// Percent requested, 0 to 100.
    pub utilization: u8,
    /// Score there, 0 to 10.
    pub score: u8,
}

/// Arguments of `NodeResourcesBalancedAllocation`.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct BalancedAllocationArgs {
    /// Resources whose shares should be alike.
    pub resources: Vec<String>,
}

impl Default for FitArgs {
    fn default() -> Self {
        FitArgs::read(&Section::absent("NodeResourcesFitArgs"), &mut Vec::new())
    }
}

impl Default for BalancedAllocationArgs {
    fn default() -> Self {
        let section = Section::absent("NodeResourcesBalancedAllocationArgs");
        BalancedAllocationArgs::read(&section, &mut Vec::new())
    }
}

/// Reads every profile of the root; an empty list counts as absent, as upstream.
pub(super) fn read_all(root: &Section<'_>, problems: &mut Vec<Problem>) -> Vec<Profile> {
    let mut sections = root.items("profiles");
    if sections.is_empty() {
        sections = vec![Section::absent("profiles[]")];
    }
    let mut profiles: Vec<Profile> = Vec::new();
    for section in &sections {
        let profile = Profile::read(section, problems);
        let line = section.line("schedulerName");
        let path = section.path("schedulerName");
        if profiles.iter().any(|other| other.scheduler_name == profile.scheduler_name) {
            let name = &profile.scheduler_name;
            let message = format!("\"{path}\" {name:?} is already the name of another profile");
            problems.push(Problem::new(line, message));
        }
        if profile.scheduler_name.is_empty() {
            problems.push(Problem::new(line, format!("\"{path}\" must not be empty")));
        }
        profiles.push(profile);
    }
    profiles
}

impl Profile {
    fn read(section: &Section<'_>, problems: &mut Vec<Problem>) -> Self {
        let point = section.section("plugins");
        let filters = enabled(&point.section("filter"), (&plugins::filters(), &[]), problems);
        let filters: Vec<String> = filters.into_iter().map(|(name, _)| name).collect();
        for (required, otherwise) in plugins::REQUIRED_FILTERS {
            if !filters.iter().any(|name| name == required) {
                let message = format!(
                    "\"{}\" must not disable {required}: {otherwise}",
                    point.path("filter")
                );
                problems.push(Problem::new(point.line("filter"), message));
            }
        }
        let scores = (&*plugins::scores(), plugins::MORE_SCORES);
        let mut profile = Profile {
            scheduler_name: section.text("schedulerName"),
            filters,
            scores: enabled(&point.section("score"), scores, problems),
            fit: FitArgs::default(),
            balanced_allocation: BalancedAllocationArgs::default(),
        };
        profile.read_arguments(section, problems);
        profile
    }

    fn read_arguments(&mut self, section: &Section<'_>, problems: &mut Vec<Problem>) {
        let mut seen: Vec<String> = Vec::new();
        for entry in section.items("pluginConfig") {
            let Some(name) = plugin_name(&entry, &plugins::names(), problems) else { continue };
            if seen.contains(&name) {
                let message = format!("\"{}\" {name} is configured twice", entry.path("name"));
                problems.push(Problem::new(entry.line("name"), message));
            }
            let args = entry.arguments(&name);
            match name.as_str() {
                "NodeResourcesFit" => self.fit = FitArgs::read(&args, problems),
                "NodeResourcesBalancedAllocation" => {
                    self.balanced_allocation = BalancedAllocationArgs::read(&args, problems);
                }
                _ => {} // takes none; reported by the check if it is given some
            }
            seen.push(name);
        }
    }
}

/// The plugins of an extension point after `disabled` and `enabled`, as upstream merges them: a
/// default that is named again stays in its place with the new weight. `more` are known too, and
/// no defaults.
fn enabled(
    section: &Section<'_>,
    (known, more): (&[(&'static str, u32)], &[&'static str]),
    problems: &mut Vec<Problem>,
) -> Vec<(String, u32)> {
    let names: Vec<&str> =
        known.iter().map(|(name, _)| *name).chain(more.iter().copied()).collect();
    let mut result: Vec<(String, u32)> =
        known.iter().map(|(name, weight)| ((*name).to_owned(), *weight)).collect();
    for entry in section.items("disabled") {
        if entry.text("name") == "*" {
            result.clear();
        } else if let Some(name) = plugin_name(&entry, &names, problems) {
            result.retain(|(plugin, _)| *plugin != name);
        }
    }
    let mut seen: Vec<String> = Vec::new();
    for entry in section.items("enabled") {
        let Some(name) = plugin_name(&entry, &names, problems) else { continue };
        if seen.contains(&name) {
            let message = format!("\"{}\" {name} is enabled twice", entry.path("name"));
            problems.push(Problem::new(entry.line("name"), message));
            continue;
        }
        let default = known.iter().find(|(plugin, _)| *plugin == name).map_or(1, |(_, w)| *w);
        let weight =
            if default > 0 && entry.has("weight") { entry.integer("weight") } else { default };
        match result.iter_mut().find(|(plugin, _)| *plugin == name) {
            Some(entry) => entry.1 = weight,
            None => result.push((name.clone(), weight)),
        }
        seen.push(name);
    }
    result
}

/// The name of an entry if it is one of `names`, else `None` and a problem.
fn plugin_name(entry: &Section<'_>, names: &[&str], problems: &mut Vec<Problem>) -> Option<String> {
    let name = entry.text("name");
    if names.contains(&name.as_str()) {
        return Some(name);
    }
    let path = entry.path("name");
    let message = if entry.has("name") {
        let hint = check::suggestion(&name, names.iter().copied());
        format!("\"{path}\" names the unknown plugin {name:?}{hint}")
    } else {
        format!("missing \"{path}\"")
    };
    problems.push(Problem::new(entry.line("name"), message));
    None
}

impl FitArgs {
    fn read(section: &Section<'_>, problems: &mut Vec<Problem>) -> Self {
        let strategy = section.section("scoringStrategy");
        let shape = strategy.section("requestedToCapacityRatio");
        let points: Vec<ShapePoint> = shape
            .items("shape")
            .iter()
            .map(|point| ShapePoint {
                utilization: point.integer("utilization"),
                score: point.integer("score"),
            })
            .collect();
        if points.is_empty() || points.windows(2).any(|w| w[0].utilization >= w[1].utilization) {
            let path = shape.path("shape");
            let message = format!("\"{path}\" needs points whose utilization rises strictly");
            problems.push(Problem::new(shape.line("shape"), message));
        }
        FitArgs {
            strategy: match strategy.text("type").as_str() {
                "LeastAllocated" => ScoringStrategy::LeastAllocated,
                "RequestedToCapacityRatio" => ScoringStrategy::RequestedToCapacityRatio(points),
                _ => ScoringStrategy::MostAllocated,
            },
            resources: resources(&strategy, problems),
        }
    }
}

impl BalancedAllocationArgs {
    fn read(section: &Section<'_>, problems: &mut Vec<Problem>) -> Self {
        let resources = resources(section, problems);
        BalancedAllocationArgs { resources: resources.into_iter().map(|r| r.name).collect() }
    }
}

/// The list `resources` of a section: named, not empty, no name twice.
fn resources(section: &Section<'_>, problems: &mut Vec<Problem>) -> Vec<ResourceWeight> {
    let mut resources: Vec<ResourceWeight> = Vec::new();
    for item in section.items("resources") {
        let name = item.name("name", resources.iter().map(|known| &*known.name), problems);
        resources.push(ResourceWeight { name, weight: item.integer("weight") });
    }
    if resources.is_empty() {
        let message = format!("\"{}\" must not be empty", section.path("resources"));
        problems.push(Problem::new(section.line("resources"), message));
    }
    resources
}

/// The plugins that take arguments, with the type of these.
pub(super) fn argument_types() -> Vec<(&'static str, String)> {
    plugins::names()
        .into_iter()
        .map(|name| (name, format!("{name}Args")))
        .filter(|(_, schema)| fields::find(schema).is_some())
        .collect()
}
