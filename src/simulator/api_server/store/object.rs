//! One version of one object, and one step from a version to the next.

use bytes::Bytes;
use serde_json::Value;
use std::sync::{Arc, OnceLock};

/// One version of an object; never changed. Its text is made once, by the first who needs it,
/// outside the store's lock, and shared by all.
#[derive(Debug)]
pub struct Object {
    /// The object in its storage form, `metadata.resourceVersion` included.
    pub value: Value,
    /// `metadata.resourceVersion` as a number.
    pub revision: u64,
    json: OnceLock<Bytes>,
}

impl Object {
    pub(super) fn new(mut value: Value, revision: u64) -> Self {
        value["metadata"]["resourceVersion"] = Value::from(revision.to_string());
        Self { value, revision, json: OnceLock::new() }
    }

    /// The JSON text.
    pub fn json(&self) -> Bytes {
        self.json.get_or_init(|| Bytes::from(self.value.to_string())).clone()
    }

    /// `metadata.<field>`, empty when absent.
    pub fn meta(&self, field: &str) -> &str {
        self.value["metadata"][field].as_str().unwrap_or("")
    }
}

/// What an event did.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Change {
    /// A new object.
    Added,
    /// A new version.
    Modified,
    /// Gone; the event carries the last state.
    Deleted,
}

impl Change {
    /// Upstream's `watch.EventType`.
    pub fn name(self) -> &'static str {
        match self {
            Change::Added => "ADDED",
            Change::Modified => "MODIFIED",
            Change::Deleted => "DELETED",
        }
    }
}

/// One entry of a collection's log.
#[derive(Debug)]
pub struct Event {
    /// What happened.
    pub change: Change,
    /// The revision this event made.
    pub revision: u64,
    /// The key of the object.
    pub key: String,
    /// The object as it is now, or was last.
    pub object: Arc<Object>,
    /// The object before.
    pub previous: Option<Arc<Object>>,
    line: OnceLock<Bytes>,
}

impl Event {
    pub(super) fn new(
        change: Change,
        revision: u64,
        key: &str,
        object: Arc<Object>,
        previous: Option<Arc<Object>>,
    ) -> Self {
        Self { change, revision, key: key.to_owned(), object, previous, line: OnceLock::new() }
    }

    /// The line of a watch stream, shared by all watchers that take the event as it is.
    pub fn line(&self) -> Bytes {
        self.line.get_or_init(|| watch_line(self.change.name(), &self.object.json())).clone()
    }
}

/// `{"type":...,"object":...}` and a line feed.
pub(crate) fn watch_line(kind: &str, object: &[u8]) -> Bytes {
    let mut line = Vec::with_capacity(object.len() + kind.len() + 24);
    line.extend_from_slice(b"{\"type\":\"");
    line.extend_from_slice(kind.as_bytes());
    line.extend_from_slice(b"\",\"object\":");
    line.extend_from_slice(object);
    line.extend_from_slice(b"}\n");
    Bytes::from(line)
}
