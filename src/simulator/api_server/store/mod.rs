//! Objects in memory: one revision counter, a collection per resource, an event log per
//! collection.
//!
//! The log is every watcher's buffer. A watcher keeps a position in it and takes what came since;
//! it costs the store nothing while it sleeps, and one that falls behind the log's bound is told
//! so (410) instead of holding events for itself. The log also knows the past: a list as of an
//! older revision is the present list with later events undone.

mod object;
mod watch;

pub(crate) use object::watch_line;
pub use object::{Change, Event, Object};
pub use watch::Cursor;

use parking_lot::Mutex;
use serde_json::Value;
use std::collections::{BTreeMap, VecDeque};
use std::ops::Bound;
use std::sync::Arc;

/// Index of a collection. Two views of one resource (both kinds of Event) share a collection.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct CollectionId(pub(crate) usize);

/// Why a write was not made.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum StoreError {
    /// Create: the key is taken.
    #[error("the object exists already")]
    Exists,
    /// Update, delete: the key is free.
    #[error("the object does not exist")]
    Missing,
    /// Update, delete: the object changed since it was read; read again and retry.
    #[error("the object changed since it was read")]
    Changed,
    /// List, watch: the revision is older than the log; list afresh.
    #[error("the revision is older than the log, which begins after {oldest}")]
    Compacted {
        /// The oldest revision that can still be asked for.
        oldest: u64,
    },
}

/// A part of a collection, as of one revision.
#[derive(Debug)]
pub struct Page {
    /// The objects, ordered by key.
    pub objects: Vec<Arc<Object>>,
    /// The revision they are as of.
    pub revision: u64,
    /// The key to go on from, and how many objects are left, when there are more.
    pub more: Option<(String, usize)>,
}

/// What to list.
#[derive(Clone, Debug, Default)]
pub struct Range<'a> {
    /// Keys begin with this: `namespace/`, or empty for all.
    pub prefix: &'a str,
    /// The first key, from [`Page::more`].
    pub start: Option<&'a str>,
    /// At most so many objects; 0 for all.
    pub limit: usize,
    /// As of this revision; `None` for now.
    pub revision: Option<u64>,
}

struct Collection {
    objects: BTreeMap<String, Arc<Object>>,
    log: VecDeque<Arc<Event>>,
    /// Events up to this revision are no longer in the log.
    compacted: u64,
    /// Told the newest revision of this collection after each event.
    wake: tokio::sync::watch::Sender<u64>,
}

struct State {
    revision: u64,
    collections: Vec<Collection>,
}

/// The objects of all kinds. Cheap to share; all methods are short and never wait.
pub struct Store {
    state: Mutex<State>,
    log_length: usize,
}

impl std::fmt::Debug for Store {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Store").field("revision", &self.revision()).finish_non_exhaustive()
    }
}

impl Store {
    /// An empty store whose logs keep `log_length` events a collection.
    pub(crate) fn new(log_length: usize) -> Self {
        let state = State { revision: 1, collections: Vec::new() };
        Self { state: Mutex::new(state), log_length: log_length.max(1) }
    }

    pub(crate) fn add_collection(&self) -> CollectionId {
        let mut state = self.state.lock();
        let compacted = state.revision;
        state.collections.push(Collection {
            objects: BTreeMap::new(),
            log: VecDeque::new(),
            compacted,
            wake: tokio::sync::watch::Sender::new(compacted),
        });
        CollectionId(state.collections.len() - 1)
    }

    /// The revision of the newest write.
    pub fn revision(&self) -> u64 {
        self.state.lock().revision
    }

    /// The object at `key` (`namespace/name`, or `name`).
    pub fn get(&self, id: CollectionId, key: &str) -> Option<Arc<Object>> {
        self.state.lock().collections[id.0].objects.get(key).cloned()
    }

    /// How many objects there are.
    pub fn len(&self, id: CollectionId) -> usize {
        self.state.lock().collections[id.0].objects.len()
    }

    /// Adds an object.
    ///
    /// # Errors
    /// [`StoreError::Exists`].
    pub fn create(
        &self,
        id: CollectionId,
        key: &str,
        value: Value,
    ) -> Result<Arc<Object>, StoreError> {
        let mut state = self.state.lock();
        if state.collections[id.0].objects.contains_key(key) {
            return Err(StoreError::Exists);
        }
        Ok(state.put(id, key, value, Change::Added, self.log_length))
    }

    /// Replaces `old`, which the caller read before. Writing what is there already changes
    /// nothing, not even the revision, as upstream.
    ///
    /// # Errors
    /// [`StoreError::Missing`] and [`StoreError::Changed`].
    pub fn update(
        &self,
        id: CollectionId,
        key: &str,
        old: &Object,
        value: Value,
    ) -> Result<Arc<Object>, StoreError> {
        // compared outside the lock: this is the longest part
        let same = old.value == value;
        let mut state = self.state.lock();
        let current = state.current(id, key, old)?;
        if same {
            return Ok(current);
        }
        Ok(state.put(id, key, value, Change::Modified, self.log_length))
    }

    /// Removes `old`, which the caller read before; returns its last state.
    ///
    /// # Errors
    /// [`StoreError::Missing`] and [`StoreError::Changed`].
    pub fn delete(
        &self,
        id: CollectionId,
        key: &str,
        old: &Object,
        last: Value,
    ) -> Result<Arc<Object>, StoreError> {
        let mut state = self.state.lock();
        state.current(id, key, old)?;
        Ok(state.put(id, key, last, Change::Deleted, self.log_length))
    }

    /// A part of a collection. O(objects listed), and O(later events) for an older revision.
    ///
    /// # Errors
    /// [`StoreError::Compacted`].
    pub fn list(&self, id: CollectionId, range: &Range<'_>) -> Result<Page, StoreError> {
        let state = self.state.lock();
        let collection = &state.collections[id.0];
        let start = range.start.unwrap_or(range.prefix);
        let revision = range.revision.unwrap_or(state.revision);
        let later = collection.log.back().is_some_and(|e| e.revision > revision);
        let overlay = if later { collection.undo(revision)? } else { BTreeMap::new() };
        let present = collection
            .objects
            .range::<str, _>((Bound::Included(start), Bound::Unbounded))
            .take_while(|(key, _)| key.starts_with(range.prefix));
        if overlay.is_empty() {
            return Ok(take(present.map(|(k, o)| (k.as_str(), o)), range.limit, revision));
        }
        let mut merged: BTreeMap<&str, &Arc<Object>> =
            present.map(|(k, o)| (k.as_str(), o)).collect();
        for (key, past) in &overlay {
            if !key.starts_with(range.prefix) || *key < start {
                continue;
            }
            match past {
                Some(object) => merged.insert(key, object),
                None => merged.remove(key),
            };
        }
        Ok(take(merged.into_iter(), range.limit, revision))
    }

    /// Forgets all past events of all collections: watches and lists from before get 410.
    pub fn compact(&self) {
        let mut state = self.state.lock();
        let revision = state.revision;
        for collection in &mut state.collections {
            collection.log.clear();
            collection.compacted = revision;
        }
    }
}

/// The first `limit` of `items`, and where the rest begins.
fn take<'a>(
    mut items: impl Iterator<Item = (&'a str, &'a Arc<Object>)>,
    limit: usize,
    revision: u64,
) -> Page {
    let mut objects = Vec::new();
    while limit == 0 || objects.len() < limit {
        let Some((_, object)) = items.next() else { break };
        objects.push(object.clone());
    }
    let more = items.next().map(|(key, _)| (key.to_owned(), 1 + items.count()));
    Page { objects, revision, more }
}

impl State {
    fn current(
        &self,
        id: CollectionId,
        key: &str,
        old: &Object,
    ) -> Result<Arc<Object>, StoreError> {
        let current = self.collections[id.0].objects.get(key).ok_or(StoreError::Missing)?;
        if current.revision == old.revision {
            Ok(current.clone())
        } else {
            Err(StoreError::Changed)
        }
    }

    fn put(
        &mut self,
        id: CollectionId,
        key: &str,
        value: Value,
        change: Change,
        log_length: usize,
    ) -> Arc<Object> {
        self.revision += 1;
        let revision = self.revision;
        let object = Arc::new(Object::new(value, revision));
        let collection = &mut self.collections[id.0];
        let previous = if change == Change::Deleted {
            collection.objects.remove(key)
        } else {
            collection.objects.insert(key.to_owned(), object.clone())
        };
        while collection.log.len() >= log_length {
            collection.compacted = collection.log.pop_front().map_or(0, |e| e.revision);
        }
        let event = Event::new(change, revision, key, object.clone(), previous);
        collection.log.push_back(Arc::new(event));
        collection.wake.send_replace(revision);
        object
    }
}

impl Collection {
    /// What keys touched after `revision` held then.
    fn undo(&self, revision: u64) -> Result<BTreeMap<&str, Option<Arc<Object>>>, StoreError> {
        if revision < self.compacted {
            return Err(StoreError::Compacted { oldest: self.compacted });
        }
        let mut past = BTreeMap::new();
        for event in self.log.iter().rev().take_while(|e| e.revision > revision) {
            past.insert(event.key.as_str(), event.previous.clone());
        }
        Ok(past)
    }
}

#[cfg(test)]
mod tests;
