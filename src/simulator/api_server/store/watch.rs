//! A watcher's position in a collection's log.

use super::{CollectionId, Event, Store, StoreError};
use std::sync::Arc;

/// At most so many events are taken under the lock at once.
const BATCH_MAX: usize = 256;

/// Where a watcher is: everything up to `revision` was taken.
#[derive(Debug)]
pub struct Cursor {
    id: CollectionId,
    revision: u64,
    wake: tokio::sync::watch::Receiver<u64>,
}

impl Store {
    /// A cursor behind `revision`; the next batch holds what came after it.
    pub fn watch(&self, id: CollectionId, revision: u64) -> Cursor {
        let state = self.state.lock();
        Cursor { id, revision, wake: state.collections[id.0].wake.subscribe() }
    }

    /// Takes the next events, at most 256, without waiting. An empty batch means that the watcher
    /// has seen everything up to the revision that is returned beside it.
    ///
    /// # Errors
    /// [`StoreError::Compacted`] when the log no longer reaches back to the cursor.
    pub fn take(&self, cursor: &mut Cursor) -> Result<(Vec<Arc<Event>>, u64), StoreError> {
        let state = self.state.lock();
        let collection = &state.collections[cursor.id.0];
        cursor.wake.mark_unchanged();
        if cursor.revision < collection.compacted {
            return Err(StoreError::Compacted { oldest: collection.compacted });
        }
        let first = collection.log.partition_point(|e| e.revision <= cursor.revision);
        let batch: Vec<_> = collection.log.range(first..).take(BATCH_MAX).cloned().collect();
        match batch.last() {
            Some(last) => cursor.revision = last.revision,
            // a cursor may be ahead when the client named a revision yet to come
            None => cursor.revision = cursor.revision.max(state.revision),
        }
        Ok((batch, state.revision))
    }
}

impl Cursor {
    /// Waits until there may be new events. Never returns once the store is gone.
    pub async fn changed(&mut self) {
        if self.wake.changed().await.is_err() {
            std::future::pending::<()>().await;
        }
    }

    /// Everything up to this revision was taken.
    pub fn revision(&self) -> u64 {
        self.revision
    }
}
