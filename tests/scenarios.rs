//! Small clusters told as files: what comes and goes, and what the core makes of it.
//!
//! Each file of `tests/scenarios/` is one story in the format of `tests/scenarios/format.rs`. The
//! runner answers calls as an API server would, through events, and has the core check itself after
//! each. `MSS_SCENARIO=name cargo test --test scenarios` runs the files whose names contain that.

#[path = "scenarios/expect.rs"]
mod expect;
#[path = "scenarios/format.rs"]
mod format;
#[path = "scenarios/judge.rs"]
mod judge;
#[path = "scenarios/objects.rs"]
mod objects;
#[path = "scenarios/victims.rs"]
mod victims;
#[path = "scenarios/world.rs"]
mod world;

use format::Scenario;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::path::Path;

/// Fewer files than this are not all of them.
const FILES_MIN: usize = 130;

/// The scenario of a text, or what is wrong with it.
fn parse(file: &str, text: &str) -> Result<Scenario, String> {
    serde_saphyr::from_str(text).map_err(|error| format!("{file}: {error}"))
}

/// Tells a scenario and compares; the problems of the first step that has any.
fn tell(file: &str, scenario: &Scenario) -> Result<(), String> {
    let mut world = guarded(|| world::World::new(scenario))
        .map_err(|panic| format!("{file}: before the first step: {panic}"))?;
    for (number, step) in (1..).zip(&scenario.steps) {
        let problems = guarded(|| {
            world.step(step);
            let expect = step.expect.as_ref();
            expect.map(|expect| expect::differences(&mut world, expect)).unwrap_or_default()
        });
        let problems = problems.unwrap_or_else(|panic| vec![panic]);
        if !problems.is_empty() {
            let problems: Vec<String> = problems.iter().map(|p| format!("\n    {p}")).collect();
            return Err(format!("{file}: step {number}: {}{}", scenario.about, problems.concat()));
        }
    }
    let seated = guarded(|| world.check_seated(&scenario.unseated));
    seated.map_err(|panic| format!("{file}: in the end: {}\n    {panic}", scenario.about))
}

/// Turns a panic, as of a broken invariant, into its message.
fn guarded<T>(action: impl FnOnce() -> T) -> Result<T, String> {
    catch_unwind(AssertUnwindSafe(action)).map_err(|panic| {
        let text = panic.downcast_ref::<String>().map(String::as_str);
        let text = text.or_else(|| panic.downcast_ref::<&str>().copied());
        text.unwrap_or("a panic without a message").to_owned()
    })
}

fn run(file: &str, text: &str) -> Result<(), String> {
    tell(file, &parse(file, text)?)
}

#[test]
fn every_scenario_goes_as_it_says() {
    let only = std::env::var("MSS_SCENARIO").unwrap_or_default();
    let folder = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/scenarios");
    let entries = std::fs::read_dir(folder).expect("the folder exists");
    let mut paths: Vec<_> = entries.map(|entry| entry.expect("it is readable").path()).collect();
    paths.sort();
    paths.retain(|path| path.extension().is_some_and(|ending| ending == "yaml"));
    assert!(paths.len() >= FILES_MIN, "only {} scenarios", paths.len());
    let mut problems = Vec::new();
    for path in paths {
        let name = path.file_name().and_then(|name| name.to_str()).expect("names are text");
        if name.contains(&only) {
            let text = std::fs::read_to_string(&path).expect("it is readable");
            problems.extend(run(name, &text).err());
        }
    }
    let count = problems.len();
    assert!(problems.is_empty(), "{count} scenarios fail:\n\n{}\n", problems.join("\n\n"));
}

const STORY: &str = "
about: one pod and one node
nodes: [{name: gpu-0, allocatable: {cpu: '8'}}]
steps:
- pods: [{name: p, requests: {cpu: '1'}}]
  expect: {placed: {p: gpu-0}, binds: [[p]]}
";

#[test]
fn a_field_that_is_not_known_is_named_with_its_file() {
    assert_eq!(run("story.yaml", STORY), Ok(()));
    for (known, unknown) in [("requests", "reqests"), ("placed", "placd"), ("about", "abut")] {
        let error = run("story.yaml", &STORY.replace(known, unknown)).expect_err(unknown);
        assert!(error.starts_with("story.yaml: "), "{error}");
        assert!(error.contains(&format!("`{unknown}`")), "{error}");
    }
}

#[test]
fn what_differs_is_shown_with_file_and_step() {
    let story = format!("{STORY}- expect: {{binds: [[q]], placed: {{p: gpu-1}}, attempts: 1}}\n");
    let error = run("story.yaml", &story).expect_err("nothing is as expected");
    let expected = "story.yaml: step 2: one pod and one node\n    node of p\n      expected \
                    \"gpu-1\"\n      found    \"gpu-0\"\n    binds\n      expected [[\"q\"]]\n      \
                    found    [[\"p\"]]";
    assert_eq!(error, expected);
    let story = STORY.replace("cpu: '1'", "cpu: one");
    let error = run("story.yaml", &story).expect_err("the quantity is none");
    assert!(error.ends_with("step 1: one pod and one node\n    one: not a quantity"), "{error}");
}
