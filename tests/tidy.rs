//! Keeps the house tidy: layers, sizes, no dead file, no word that does not belong.

use std::collections::{BTreeMap, BTreeSet};
use std::path::{Path, PathBuf};

/// The rooms of the core, bottom up; a room uses those before it.
const CORE: &[&str] =
    &["model", "cluster", "fairshare", "queue", "framework", "plugins", "placement", "scheduler"];

/// The rooms of the shell with the shell rooms each may use; every one may use the core.
/// `config` and `telemetry` are nouns of the shell: what is asked for, and what is counted.
const SHELL: &[(&str, &[&str])] = &[
    ("config", &[]),
    ("telemetry", &[]),
    ("kubernetes", &["config", "telemetry"]),
    ("simulator", &["config", "telemetry", "kubernetes"]),
    ("runtime", &["config", "telemetry", "kubernetes"]),
    ("cli", &["config", "telemetry", "kubernetes", "simulator", "runtime"]),
];

const NONE: [&str; 0] = [];
const LINES_MAX: usize = 600;
const COLUMNS_MAX: usize = 100;
/// Tolerated where rustfmt does not break a line: in texts and in the rows of tables.
const COLUMNS_UNBROKEN_MAX: usize = 110;

struct Source {
    /// Path from the root of the repository.
    path: String,
    text: String,
}

impl Source {
    /// The text without unit tests, which stand at the end of a file or in a file of their own.
    fn code(&self) -> &str {
        if self.path.ends_with("/tests.rs") || self.path.contains("/tests/") {
            return "";
        }
        self.text.split("#[cfg(test)]\nmod tests {").next().unwrap_or_default()
    }

    fn room(&self) -> &str {
        let inner = self.path.strip_prefix("src/").unwrap_or_default();
        inner.split('/').next().unwrap_or_default().trim_end_matches(".rs")
    }
}

fn root() -> &'static Path {
    Path::new(env!("CARGO_MANIFEST_DIR"))
}

fn walk(folder: &Path, found: &mut Vec<PathBuf>) {
    let Ok(entries) = std::fs::read_dir(folder) else { return };
    for entry in entries.map(Result::unwrap) {
        let path = entry.path();
        let name = entry.file_name();
        if matches!(name.to_str(), Some("target" | ".git" | "proptest-regressions")) {
            continue;
        }
        if path.is_dir() { walk(&path, found) } else { found.push(path) }
    }
}

/// The text files below a folder whose names end in one of `endings`.
fn sources(folder: &str, endings: &[&str]) -> Vec<Source> {
    let mut paths = Vec::new();
    walk(&root().join(folder), &mut paths);
    paths.sort();
    let source = |path: PathBuf| {
        let shown = path.strip_prefix(root()).unwrap().to_str().unwrap().to_owned();
        Source { path: shown, text: std::fs::read_to_string(path).unwrap() }
    };
    let wanted = |path: &PathBuf| endings.iter().any(|end| path.to_str().unwrap().ends_with(end));
    paths.into_iter().filter(wanted).map(source).collect()
}

fn rust() -> Vec<Source> {
    ["src", "tests", "benches"].iter().flat_map(|folder| sources(folder, &[".rs"])).collect()
}

fn report(title: &str, problems: &[String]) {
    assert!(problems.is_empty(), "{title}:\n  {}", problems.join("\n  "));
}

/// The rooms that a room may use.
fn usable(room: &str) -> Option<BTreeSet<&'static str>> {
    if let Some(place) = CORE.iter().position(|name| *name == room) {
        return Some(CORE[..place].iter().copied().collect());
    }
    let (_, shell) = SHELL.iter().find(|(name, _)| *name == room)?;
    Some(CORE.iter().chain(*shell).copied().collect())
}

/// The rooms named after `crate::` in a text: `crate::x`, `crate::{x, y::z}`.
fn used(code: &str) -> BTreeSet<String> {
    let mut rooms = BTreeSet::new();
    let is_doc = |line: &&str| line.trim_start().starts_with("//");
    let code: String = code.lines().filter(|line| !is_doc(line)).collect::<Vec<_>>().join("\n");
    for (at, _) in code.match_indices("crate::") {
        if code[..at].ends_with('$') || code[..at].ends_with('_') {
            continue;
        }
        let rest = &code[at + "crate::".len()..];
        if let Some(group) = rest.strip_prefix('{') {
            let mut depth = 0_usize;
            let mut start = true;
            for (place, c) in group.char_indices() {
                match c {
                    '{' => depth += 1,
                    '}' if depth == 0 => break,
                    '}' => depth -= 1,
                    ',' if depth == 0 => start = true,
                    c if start && c.is_alphanumeric() => {
                        rooms.insert(word(&group[place..]));
                        start = false;
                    }
                    _ => {}
                }
            }
        } else {
            rooms.insert(word(rest));
        }
    }
    rooms
}

fn word(text: &str) -> String {
    text.chars().take_while(|c| c.is_alphanumeric() || *c == '_').collect()
}

#[test]
fn arrows_point_up_the_list() {
    let mut problems = Vec::new();
    for source in sources("src", &[".rs"]) {
        let room = source.room();
        if matches!(room, "main" | "lib") {
            continue;
        }
        let Some(allowed) = usable(room) else {
            problems.push(format!("{}: room {room} is not in the table", source.path));
            continue;
        };
        for other in used(source.code()) {
            if other != room && !allowed.contains(other.as_str()) {
                problems.push(format!("{} uses {other}, which is not above {room}", source.path));
            }
        }
    }
    report("layers", &problems);
}

#[test]
fn the_map_lists_the_rooms_in_layer_order() {
    let text = std::fs::read_to_string(root().join("src/lib.rs")).unwrap();
    let rooms: Vec<&str> =
        text.lines().filter_map(|line| line.strip_prefix("pub mod ")?.strip_suffix(';')).collect();
    let table: Vec<&str> =
        CORE.iter().copied().chain(SHELL.iter().map(|(name, _)| *name)).collect();
    assert_eq!(rooms, table, "src/lib.rs against the table of this test");
    // only the core is compiled without the feature
    let live = text.matches("#[cfg(feature = \"live\")]").count();
    assert_eq!(live, SHELL.len());
}

#[test]
fn files_are_small_and_lines_short() {
    let mut problems = Vec::new();
    for source in rust() {
        let lines = source.text.lines().count();
        if lines > LINES_MAX {
            problems.push(format!("{}: {lines} lines, at most {LINES_MAX}", source.path));
        }
        for (number, line) in source.text.lines().enumerate() {
            let columns = line.chars().count();
            let unbroken = line.contains('"') || line.contains("//! |");
            let max = if unbroken { COLUMNS_UNBROKEN_MAX } else { COLUMNS_MAX };
            // a raw text cannot be continued on the next line at all
            if columns > max && !line.contains("r#\"") {
                problems.push(format!("{}:{}: {columns} columns", source.path, number + 1));
            }
        }
    }
    report("sizes", &problems);
}

/// The modules that a file declares: name, and the path attribute before it if there is one.
fn declared(text: &str) -> Vec<(String, Option<String>)> {
    let mut modules = Vec::new();
    let mut path = None;
    for line in text.lines().map(str::trim) {
        if let Some(rest) = line.strip_prefix("#[path = \"") {
            path = rest.strip_suffix("\"]").map(str::to_owned);
            continue;
        }
        let words: Vec<&str> = line.split_whitespace().collect();
        let tail = match words.as_slice() {
            ["mod", name] => Some(*name),
            [visibility, "mod", name] if visibility.starts_with("pub") => Some(*name),
            _ => None,
        };
        if let Some(name) = tail.and_then(|name| name.strip_suffix(';')) {
            modules.push((name.to_owned(), path.take()));
        }
    }
    modules
}

fn reach(path: &str, texts: &BTreeMap<String, String>, reached: &mut BTreeSet<String>) {
    let Some(text) = texts.get(path) else { return };
    if !reached.insert(path.to_owned()) {
        return;
    }
    let folder = path.rsplit_once('/').map_or("", |(folder, _)| folder);
    // a crate's root and a mod.rs own their folder, another file the folder of its name
    let roots = ["/mod.rs", "/main.rs", "/lib.rs"];
    let owns = roots.iter().any(|name| path.ends_with(name))
        || (path.matches('/').count() == 1 && !path.starts_with("src/"));
    let base = if owns { folder.to_owned() } else { path.trim_end_matches(".rs").to_owned() };
    for (name, attribute) in declared(text) {
        match attribute {
            Some(attribute) => reach(&format!("{folder}/{attribute}"), texts, reached),
            None => {
                reach(&format!("{base}/{name}.rs"), texts, reached);
                reach(&format!("{base}/{name}/mod.rs"), texts, reached);
            }
        }
    }
}

#[test]
fn no_file_is_dead() {
    let texts: BTreeMap<String, String> =
        rust().into_iter().map(|source| (source.path, source.text)).collect();
    let mut reached = BTreeSet::new();
    for path in texts.keys() {
        let target = path.matches('/').count() == 1 && !path.starts_with("src/");
        let folder_target = path.matches('/').count() == 2 && path.ends_with("/main.rs");
        if target || folder_target || matches!(path.as_str(), "src/main.rs" | "src/lib.rs") {
            reach(path, &texts, &mut reached);
        }
    }
    let dead: Vec<String> = texts.into_keys().filter(|path| !reached.contains(path)).collect();
    report("files that no module declares", &dead);
}

#[test]
fn no_unwrap_outside_tests() {
    let mut problems = Vec::new();
    for source in sources("src", &[".rs"]) {
        for (number, line) in source.code().lines().enumerate() {
            if line.contains(".unwrap()") && !line.trim_start().starts_with("//") {
                problems.push(format!("{}:{}", source.path, number + 1));
            }
        }
    }
    report("unwrap() without the invariant that holds it; use expect(\"...\")", &problems);
}

#[test]
fn no_word_that_does_not_belong() {
    // written apart, so that this file does not contain them
    let code = [["TO", "DO"], ["FIX", "ME"], ["XX", "X:"], ["todo", "!("], ["unimplemented", "!("]];
    // what holds on one machine only, and what is said of registries
    let text = [["/wo", "rk/"], ["/ro", "ot/"], ["index.crates", ".io"], ["proxy.golang", ".org"]];
    let mut files = rust();
    for folder in ["docs", "manifests", ".ci"] {
        files.extend(sources(folder, &[".md", ".yaml", "run"]));
    }
    for name in ["README.md", "SECURITY.md", "Cargo.toml", "clippy.toml", "deny.toml"] {
        let text = std::fs::read_to_string(root().join(name)).unwrap_or_default();
        files.push(Source { path: name.to_owned(), text });
    }
    let mut problems = Vec::new();
    for source in files {
        for word in code.iter().chain(&text).map(|parts| parts.concat()) {
            if let Some(at) = source.text.find(&word) {
                let line = source.text[..at].lines().count();
                problems.push(format!("{}:{line}: {word}", source.path));
            }
        }
    }
    report("words", &problems);
}

#[test]
fn every_file_says_what_it_is() {
    let mut problems = Vec::new();
    for source in rust() {
        let unit_test = source.path.ends_with("/tests.rs");
        if !unit_test && !source.text.starts_with("//!") {
            problems.push(source.path);
        }
    }
    report("files without a first line of documentation", &problems);
}

/// The public fields of a struct in a file.
fn fields_of<'a>(text: &'a str, name: &str) -> Vec<&'a str> {
    let (_, body) = text.split_once(&format!("pub struct {name} {{\n")).expect("the struct exists");
    let (body, _) = body.split_once("\n}\n").expect("the struct ends");
    let field = |line: &'a str| Some(line.trim().strip_prefix("pub ")?.split_once(':')?.0);
    body.lines().filter_map(field).collect()
}

/// The names of these fields that nothing outside `room` reads, nor what hands them to the core.
fn unread<'a>(room: &str, fields: &[&'a str]) -> Vec<&'a str> {
    let reads = |source: &Source| source.room() != room || source.path == "src/config/core.rs";
    let others: Vec<Source> = sources("src", &[".rs"]).into_iter().filter(reads).collect();
    let is_read = |field: &str| {
        let access = format!(".{field}");
        others.iter().any(|source| {
            let code = source.code();
            code.match_indices(&access).any(|(at, _)| {
                let next = code[at + access.len()..].chars().next();
                !next.is_some_and(|c| c.is_alphanumeric() || c == '_')
            })
        })
    };
    fields.iter().copied().filter(|field| !is_read(field)).collect()
}

#[test]
fn every_option_does_something() {
    let text = std::fs::read_to_string(root().join("src/config/mod.rs")).unwrap();
    let mut fields = Vec::new();
    for section in ["Configuration", "LeaderElection", "ClientConnection", "Limits"] {
        fields.extend(fields_of(&text, section));
    }
    assert_eq!(unread("config", &fields), NONE, "options that nobody reads");
}

#[test]
fn every_metric_is_fed() {
    let text = std::fs::read_to_string(root().join("src/telemetry/metrics.rs")).unwrap();
    let fields = fields_of(&text, "Metrics");
    // the layer around the client is part of telemetry itself
    let by_the_layer = ["rest_requests", "rest_duration"];
    assert_eq!(unread("telemetry", &fields), by_the_layer, "metrics that nobody feeds");
}

#[test]
fn uses_are_read_from_code() {
    let code = "use crate::model::{Pod, Node};\nuse crate::{\n  cluster::{Class, Cluster},\n  \
                queue,\n};\n// crate::cli\nlet x = crate::config::Error;\n$crate::telemetry;";
    let expected = ["cluster", "config", "model", "queue"].map(str::to_owned);
    assert_eq!(used(code), BTreeSet::from(expected));
}
