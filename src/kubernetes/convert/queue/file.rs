//! A tree of queues in a file: Queue objects as YAML documents, as for `kubectl apply`.

use super::{QueueError, queue};
use crate::fairshare::{FairShare, TreeFault};
use crate::kubernetes::objects::QueueObject;
use crate::model::QueueSpec;
use crate::model::contract::GROUP;
use serde_json::Value;
use std::path::Path;

/// The fields of `spec`. An API server drops others in silence; here a misspelt one is an error.
const FIELDS: &[&str] = &[
    "parent",
    "weight",
    "overQuotaWeight",
    "quota",
    "limit",
    "lendLimit",
    "borrowLimit",
    "userLimit",
    "priority",
    "ordering",
    "ageing",
    "namespaces",
    "open",
    "windows",
    "caps",
    "preemption",
];

/// Why a file declares no queues. A person edits it.
#[derive(Debug, thiserror::Error)]
pub enum FileError {
    /// It cannot be read.
    #[error("reading the queues {path}: {source}: check the path")]
    Read {
        /// The file.
        path: Box<str>,
        /// The cause.
        source: std::io::Error,
    },
    /// It is no YAML.
    #[error("{path}:{line}: {problem}")]
    Yaml {
        /// The file.
        path: Box<str>,
        /// From 1.
        line: u64,
        /// What the parser says.
        problem: Box<str>,
    },
    /// A document is no Queue, or has a field that no Queue has.
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
    /// A queue is malformed.
    #[error("{path}: {source}")]
    Queue {
        /// The file.
        path: Box<str>,
        /// What is wrong.
        source: QueueError,
    },
    /// The queues make no tree.
    #[error("{path}: {}", .faults.iter().map(ToString::to_string).collect::<Vec<_>>().join("; "))]
    Tree {
        /// The file.
        path: Box<str>,
        /// What is wrong.
        faults: Vec<TreeFault>,
    },
}

/// Reads the queues of a file.
///
/// # Errors
/// The first thing that is wrong.
pub fn read(path: &Path) -> Result<Vec<QueueSpec>, FileError> {
    let shown = path.display().to_string();
    match std::fs::read_to_string(path) {
        Ok(text) => parse(&shown, &text),
        Err(source) => Err(FileError::Read { path: shown.into(), source }),
    }
}

/// As [`read`], of a whole tree.
///
/// # Errors
/// As [`read`], or all that is wrong with the tree.
pub fn read_tree(path: &Path) -> Result<Vec<QueueSpec>, FileError> {
    let specs = read(path)?;
    let tree = |faults| FileError::Tree { path: path.display().to_string().into(), faults };
    FairShare::default().replace(&specs).map_err(tree)?;
    Ok(specs)
}

/// The queues of a text; `path` is how errors name it.
///
/// # Errors
/// As [`read`].
pub fn parse(path: &str, text: &str) -> Result<Vec<QueueSpec>, FileError> {
    let documents: Vec<Value> = serde_saphyr::from_multiple(text).map_err(|error| {
        let line = error.location().map_or(1, |location| location.line().max(1));
        let text = error.without_snippet().to_string();
        let problem = text.lines().next().unwrap_or_default().into();
        FileError::Yaml { path: path.into(), line, problem }
    })?;
    let documents = documents.into_iter().filter(|value| !value.is_null()).enumerate();
    documents.map(|(index, document)| one(path, index + 1, &document)).collect()
}

fn one(path: &str, number: usize, document: &Value) -> Result<QueueSpec, FileError> {
    let wrong = |field: &str, found: &Value, expected: &str| FileError::Field {
        path: path.into(),
        field: format!("document {number}: {field}").into(),
        found: found.as_str().map_or_else(|| found.to_string(), str::to_owned).into(),
        expected: expected.into(),
    };
    let version = format!("{GROUP}/v1alpha1");
    for (field, expected) in [("apiVersion", &*version), ("kind", "Queue")] {
        if document[field] != expected {
            return Err(wrong(field, &document[field], expected));
        }
    }
    let fields = document["spec"].as_object();
    let unknown = fields.and_then(|map| map.keys().find(|key| !FIELDS.contains(&key.as_str())));
    if let Some(unknown) = unknown {
        let expected = format!("one of {}", FIELDS.join(", "));
        return Err(wrong("field of spec", &unknown.as_str().into(), &expected));
    }
    // through text, as it comes from an API server
    let object: QueueObject = serde_json::from_str(&document.to_string())
        .map_err(|error| wrong("metadata", &error.to_string().into(), "a name"))?;
    queue(&object).map_err(|source| FileError::Queue { path: path.into(), source })
}

#[cfg(test)]
mod tests {
    use super::*;

    const HEAD: &str = "apiVersion: mss-scheduler.io/v1alpha1\nkind: Queue\n";

    fn error(text: &str) -> String {
        parse("q.yaml", text).expect_err("it is wrong").to_string()
    }

    #[test]
    fn documents_are_queues_and_nothing_else() {
        let text = format!(
            "---\n{HEAD}metadata: {{name: a}}\n---\n{HEAD}metadata: {{name: b}}\n\
             spec: {{parent: a, weight: 3}}\nstatus: {{}}\n"
        );
        let specs = parse("q.yaml", &text).expect("two queues");
        let names: Vec<_> = specs.iter().map(|spec| (&*spec.name, spec.weight)).collect();
        assert_eq!(names, [("a", 1), ("b", 3)]);
        assert!(parse("q.yaml", "").expect("none").is_empty());
        let misspelt = format!("{HEAD}metadata: {{name: a}}\nspec: {{wieght: 2}}\n");
        let expected = "q.yaml: document 1: field of spec is \"wieght\": expected one of parent";
        assert!(error(&misspelt).starts_with(expected), "{}", error(&misspelt));
        let wrong = format!("{HEAD}metadata: {{name: a}}\nspec: {{weight: 0}}\n");
        assert!(error(&wrong).starts_with("q.yaml: queue a: spec.weight is 0: "));
        let pod = "apiVersion: v1\nkind: Pod\n";
        assert!(error(pod).starts_with("q.yaml: document 1: apiVersion is \"v1\": expected mss"));
        assert!(error("a: [").starts_with("q.yaml:"));
    }

    #[test]
    fn a_whole_tree_is_checked_as_such() {
        let file = tempfile::NamedTempFile::new().expect("a file");
        let queue = "metadata: {name: a}\nspec: {parent: nobody}\n";
        std::fs::write(file.path(), format!("{HEAD}{queue}")).expect("written");
        assert!(read(file.path()).is_ok());
        let error = read_tree(file.path()).expect_err("no such parent").to_string();
        assert!(error.contains("queue a: ") && error.contains("nobody"), "{error}");
        let missing = read(Path::new("/nonexistent/q.yaml")).expect_err("no file").to_string();
        assert!(missing.starts_with("reading the queues /nonexistent/q.yaml: "), "{missing}");
    }
}
