//! The oracle program: built when it is missing, asked over a pipe.

use serde::Deserialize;
use serde_json::Value;
use std::collections::BTreeMap;
use std::io::{BufWriter, Write};
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};

/// What upstream says to one case; see `main.go`.
#[derive(Debug, Deserialize)]
pub(crate) struct Answer {
    pub(crate) pod: Requests,
    pub(crate) pods: Option<Vec<Requests>>,
    pub(crate) pre_filter: String,
    pub(crate) nodes: BTreeMap<String, NodeAnswer>,
    pub(crate) scores: BTreeMap<String, Vec<Score>>,
    pub(crate) error: String,
}

#[derive(Debug, Deserialize)]
pub(crate) struct Requests {
    pub(crate) amounts: BTreeMap<Box<str>, i64>,
    pub(crate) non_zero: [i64; 2],
}

#[derive(Debug, Deserialize)]
pub(crate) struct NodeAnswer {
    pub(crate) reasons: Vec<String>,
    pub(crate) unresolvable: bool,
}

#[derive(Debug, Deserialize)]
pub(crate) struct Score {
    pub(crate) node: String,
    pub(crate) plugin: String,
    pub(crate) raw: i64,
    pub(crate) normalised: i64,
}

/// The program; `None`, said plainly, where Go is missing.
///
/// # Panics
/// If the build fails, or if Go is missing and `CI=true`.
pub(crate) fn program() -> Option<PathBuf> {
    let script = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/oracle/build.sh");
    let output = Command::new(&script)
        .stderr(Stdio::inherit())
        .output()
        .unwrap_or_else(|error| panic!("running {} failed: {error}", script.display()));
    match output.status.code() {
        Some(0) => {
            let text = String::from_utf8_lossy(&output.stdout);
            Some(PathBuf::from(text.lines().last().expect("the script prints a path")))
        }
        Some(3) if std::env::var("CI").is_ok_and(|ci| ci == "true") => {
            panic!("the oracle must not be skipped with CI=true: go is not installed")
        }
        Some(3) => {
            eprintln!("SKIPPED the comparison with upstream: go is not installed");
            None
        }
        _ => panic!("{} failed ({}); its output says why", script.display(), output.status),
    }
}

/// Asks all cases at once.
pub(crate) fn ask(program: &Path, cases: &[Value]) -> Vec<Answer> {
    let mut child = Command::new(program)
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .spawn()
        .expect("the oracle starts");
    let input = child.stdin.take().expect("it was piped");
    let output = std::thread::scope(|scope| {
        // written beside reading, as a pipe holds less than all the answers
        scope.spawn(move || {
            let mut input = BufWriter::new(input);
            for case in cases {
                serde_json::to_writer(&mut input, case).expect("the oracle reads");
                input.write_all(b"\n").expect("the oracle reads");
            }
        });
        child.wait_with_output().expect("the oracle answers")
    });
    assert!(output.status.success(), "the oracle failed; its output says why");
    let answers = serde_json::Deserializer::from_slice(&output.stdout).into_iter();
    let answers: Vec<Answer> = answers.map(|answer| answer.expect("an answer")).collect();
    assert_eq!(answers.len(), cases.len(), "one answer a case");
    answers
}
