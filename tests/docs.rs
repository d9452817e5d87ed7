//! The docs list exactly what the code has: their tables are written from the code's own.
//!
//! `MSS_UPDATE_DOCS=1 cargo test --test docs` rewrites the generated parts.

use clap::CommandFactory as _;
use k8s_openapi::api::core::v1::Pod;
use mss_scheduler::cli::Cli;
use mss_scheduler::config::{Configuration, explain};
use mss_scheduler::kubernetes::permissions::PERMISSIONS;
use mss_scheduler::model::{contract, foreign};
use mss_scheduler::telemetry::{catalogue, http};
use std::fmt::Write as _;
use std::path::{Path, PathBuf};

fn path(file: &str) -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join(file)
}

/// Compares the part of a file between the markers of `name` with `expected`, or rewrites it.
fn generated(file: &str, name: &str, expected: &str) {
    let text =
        std::fs::read_to_string(path(file)).unwrap_or_else(|error| panic!("{file}: {error}"));
    let (begin, end) = (format!("<!-- generated: {name} -->\n"), format!("<!-- end: {name} -->"));
    let (before, rest) = text.split_once(&begin).unwrap_or_else(|| panic!("{file} lacks {begin}"));
    let (found, after) = rest.split_once(&end).unwrap_or_else(|| panic!("{file} lacks {end}"));
    let expected = format!("\n{}\n\n", expected.trim());
    if found == expected {
        return;
    }
    if std::env::var_os("MSS_UPDATE_DOCS").is_some() {
        std::fs::write(path(file), format!("{before}{begin}{expected}{end}{after}")).unwrap();
        return;
    }
    let line = found.lines().zip(expected.lines()).find(|(found, expected)| found != expected);
    panic!(
        "{file}, part {name}, is not what the code says (found, expected): {line:#?}\n\
            run: MSS_UPDATE_DOCS=1 cargo test --test docs"
    );
}

#[test]
fn configuration() {
    generated("docs/configuration.md", "fields", &explain::markdown());
}

#[test]
fn metrics() {
    generated("docs/metrics.md", "metrics", &catalogue::markdown());
}

#[test]
fn annotations() {
    for (file, part, rows) in [
        ("docs/configuration.md", "annotations", contract::ANNOTATIONS),
        ("docs/configuration.md", "written annotations", contract::WRITTEN),
        ("docs/topology.md", "annotations of others", foreign::FOREIGN),
    ] {
        let mut text = String::from("| Annotation | Meaning |\n|---|---|\n");
        for (key, meaning) in rows {
            let _ = writeln!(text, "| `{key}` | {meaning} |");
        }
        generated(file, part, &text);
    }
}

#[test]
fn endpoints() {
    let mut text = String::from("| Path | Answer |\n|---|---|\n");
    for (path, answer) in http::PATHS {
        let _ = writeln!(text, "| `{path}` | {answer} |");
    }
    generated("docs/operations.md", "endpoints", &text);
}

#[test]
fn permissions() {
    let mut text = String::from("| Where | Resource | Verbs |\n|---|---|---|\n");
    for right in PERMISSIONS {
        let place = if right.cluster_wide { "cluster" } else { "own namespace" };
        let dot = if right.group.is_empty() { "" } else { "." };
        let (resource, verbs) = (right.resource, right.verbs.join(", "));
        let _ = writeln!(text, "| {place} | `{resource}{dot}{}` | {verbs} |", right.group);
    }
    generated("docs/operations.md", "permissions", &text);
}

#[test]
fn command_line() {
    let mut text = String::new();
    describe(&Cli::command(), "mss-scheduler", &mut text);
    generated("docs/command-line.md", "commands", &text);
}

/// The first block of YAML in a file.
fn yaml(file: &str) -> String {
    let text = std::fs::read_to_string(path(file)).unwrap();
    let (_, rest) = text.split_once("```yaml\n").unwrap();
    rest.split_once("```").unwrap().0.to_owned()
}

#[test]
fn examples_are_understood() {
    let config = yaml("docs/configuration.md");
    Configuration::parse(&config, "example").unwrap_or_else(|error| panic!("{error}"));

    let text = yaml("README.md");
    assert!(text.lines().count() <= 12, "the README promises a short pod");
    let pod: Pod = serde_saphyr::from_str(&text).unwrap();
    let annotations = pod.metadata.annotations.unwrap();
    let annotation = |key: &str| annotations.get(key).map(String::as_str);
    let group = contract::parse_group(annotation, 10_000).unwrap().unwrap();
    assert_eq!((&*group.name, group.min_member), ("llama-ft", 4));
    assert_eq!(pod.spec.unwrap().scheduler_name.as_deref(), Some("mss-scheduler"));
}

#[test]
fn the_error_that_the_docs_show_is_the_error() {
    let text = std::fs::read_to_string(path("docs/configuration.md")).unwrap();
    let shown = text.lines().find(|line| line.starts_with("config.yaml:7: ")).unwrap();
    let file = "apiVersion: mss-scheduler.io/v1alpha1\nkind: MssSchedulerConfiguration\n\n\n\n\
                leaderElection:\n  leaseDuratoin: 15s\n";
    let error = Configuration::parse(file, "config.yaml").unwrap_err().to_string();
    assert_eq!(error, shown);
}

/// The names in backticks of a text that look like tests: words joined by three or more `_`.
fn test_names(text: &str) -> Vec<&str> {
    let quoted = text.split('`').skip(1).step_by(2);
    quoted.filter(|name| !name.contains(['/', ' ']) && name.matches('_').count() >= 3).collect()
}

fn collect(folder: &Path, text: &mut String) {
    for entry in std::fs::read_dir(folder).unwrap().map(Result::unwrap) {
        let path = entry.path();
        if path.is_dir() {
            collect(&path, text);
        } else if path.extension().is_some_and(|ending| ending == "rs") {
            *text += &std::fs::read_to_string(path).unwrap();
        }
    }
}

#[test]
fn invariants_name_tests_that_exist() {
    let text = std::fs::read_to_string(path("docs/invariants.md")).unwrap();
    let mut code = String::new();
    ["src", "tests"].iter().for_each(|folder| collect(&path(folder), &mut code));
    let names = test_names(&text);
    assert!(names.len() > 10, "{names:?}");
    for name in names {
        assert!(code.contains(&format!("fn {name}()")), "docs/invariants.md names no test: {name}");
    }
}

#[test]
fn links_between_docs_lead_somewhere() {
    let mut files = vec![PathBuf::from("README.md"), PathBuf::from("SECURITY.md")];
    for folder in ["docs", "docs/adr"] {
        let entries = std::fs::read_dir(path(folder)).unwrap();
        let names = entries.map(|entry| Path::new(folder).join(entry.unwrap().file_name()));
        files.extend(names.filter(|name| name.extension().is_some_and(|ending| ending == "md")));
    }
    for file in files {
        let text = std::fs::read_to_string(path(file.to_str().unwrap())).unwrap();
        for link in text.split("](").skip(1).filter_map(|rest| rest.split(')').next()) {
            let target = link.split('#').next().unwrap_or_default();
            if !target.is_empty() && !target.starts_with("http") {
                let found = path(file.to_str().unwrap()).parent().unwrap().join(target);
                assert!(found.exists(), "{} links to {link}", file.display());
            }
        }
    }
}

/// A section per command that can be run, with a table of its arguments.
fn describe(command: &clap::Command, name: &str, text: &mut String) {
    let about = command.get_about().map(ToString::to_string).unwrap_or_default();
    if command.get_subcommands().next().is_none() {
        let _ = writeln!(text, "### `{name}`\n\n{}\n", sentence(&about));
        table(command, text);
    }
    for child in command.get_subcommands() {
        describe(child, &format!("{name} {}", child.get_name()), text);
    }
}

fn table(command: &clap::Command, text: &mut String) {
    let arguments: Vec<&clap::Arg> = command.get_arguments().collect();
    if arguments.is_empty() {
        return;
    }
    text.push_str("| Argument | Environment | Default | Meaning |\n|---|---|---|---|\n");
    for argument in arguments {
        let value = argument.get_value_names().and_then(|names| names.first().cloned());
        let value = value.map(|value| value.to_string()).unwrap_or_default();
        let shown = match argument.get_long() {
            Some(long) if argument.get_action().takes_values() => format!("--{long} {value}"),
            Some(long) => format!("--{long}"),
            None => value,
        };
        let environment = argument
            .get_env()
            .map(|name| format!("`{}`", name.to_string_lossy()))
            .unwrap_or_default();
        let defaults: Vec<String> = argument
            .get_default_values()
            .iter()
            .filter(|value| argument.get_action().takes_values() && !value.is_empty())
            .map(|value| format!("`{}`", value.to_string_lossy()))
            .collect();
        let help = argument.get_help().map(ToString::to_string).unwrap_or_default();
        let (defaults, help) = (defaults.join(" "), sentence(&help));
        let _ = writeln!(text, "| `{shown}` | {environment} | {defaults} | {help} |");
    }
    text.push('\n');
}

/// clap drops the final stop of a one-line help.
fn sentence(text: &str) -> String {
    let text = text.trim().replace('\n', " ");
    if text.is_empty() || text.ends_with('.') { text } else { format!("{text}.") }
}
