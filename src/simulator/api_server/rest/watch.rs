//! Watches: what came since a revision, then what comes.

use super::super::status::{ApiError, FieldError};
use super::super::store::{Change, Cursor, Event, Object, StoreError, watch_line};
use super::super::table::{self, TableForm};
use super::list::Selectors;
use super::{Api, Query, Target, is_stored_form, served};
use bytes::Bytes;
use serde_json::{Value, json};
use std::collections::VecDeque;
use std::sync::Arc;
use std::time::Duration;
use tokio::time::Instant;

/// Upstream ends a watch after 30 to 60 minutes when the client names no time.
const DEFAULT_TIMEOUT: Duration = Duration::from_secs(30 * 60);

/// One watch, as a source of lines.
pub(crate) struct WatchStream {
    api: Arc<Api>,
    target: Target,
    selectors: Selectors,
    cursor: Cursor,
    /// Lines that are ready.
    ready: VecDeque<Bytes>,
    table: Option<TableForm>,
    bookmarks: bool,
    next_bookmark: Instant,
    ends: Instant,
    /// Lag of every batch, by a fault.
    pub(crate) delay: Duration,
    ended: bool,
}

impl WatchStream {
    /// Begins a watch.
    ///
    /// # Errors
    /// 400 for bad selectors, 422 for options that contradict each other.
    pub(crate) fn start(
        api: Arc<Api>,
        target: Target,
        query: &Query,
        table: Option<TableForm>,
    ) -> Result<Self, ApiError> {
        check_options(query)?;
        let selectors = Selectors::parse(&target, query)?;
        let timeout = query.timeout_seconds.map_or(DEFAULT_TIMEOUT, Duration::from_secs);
        let id = target.kind.collection;
        let begin = Instant::now();
        let mut stream = Self {
            cursor: api.store.watch(id, query.resource_version.unwrap_or(0)),
            next_bookmark: begin + api.bookmark_interval,
            ends: begin + timeout.max(Duration::from_secs(1)),
            bookmarks: query.allow_bookmarks,
            delay: Duration::ZERO,
            ended: false,
            ready: VecDeque::new(),
            selectors,
            target,
            table,
            api,
        };
        let initial = query.send_initial_events;
        let from_now = query.resource_version.is_none_or(|v| v == 0);
        if initial == Some(true) || (initial.is_none() && from_now) {
            stream.send_initial(initial == Some(true))?;
        } else if from_now {
            let revision = stream.api.store.revision();
            stream.cursor = stream.api.store.watch(id, revision);
        }
        Ok(stream)
    }

    /// The present state as ADDED events, and the bookmark that ends it when it was asked for.
    fn send_initial(&mut self, bookmark: bool) -> Result<(), ApiError> {
        let listed = self.api.list(&self.target, &Query::default())?;
        for object in &listed.objects {
            if self.selectors.matches(&object.value) {
                let line = self.line("ADDED", object, None);
                self.ready.push_back(line);
            }
        }
        self.cursor = self.api.store.watch(self.target.kind.collection, listed.revision);
        if bookmark {
            let line = self.bookmark(listed.revision, true);
            self.ready.push_back(line);
        }
        Ok(())
    }

    /// The next line; `None` at the end of the watch.
    pub(crate) async fn next(&mut self) -> Option<Bytes> {
        loop {
            if let Some(line) = self.ready.pop_front() {
                return Some(line);
            }
            if self.ended {
                return None;
            }
            match self.api.store.take(&mut self.cursor) {
                Err(error) => {
                    self.ended = true;
                    return Some(self.too_old(&error));
                }
                Ok((batch, revision)) if batch.is_empty() => self.wait(revision).await,
                Ok((batch, _)) => {
                    if !self.delay.is_zero() {
                        tokio::time::sleep(self.delay).await;
                    }
                    for event in &batch {
                        self.convert(event);
                    }
                }
            }
        }
    }

    async fn wait(&mut self, revision: u64) {
        tokio::select! {
            () = self.cursor.changed() => {}
            () = tokio::time::sleep_until(self.ends) => self.ended = true,
            () = tokio::time::sleep_until(self.next_bookmark), if self.bookmarks => {
                self.next_bookmark = Instant::now() + self.api.bookmark_interval;
                let line = self.bookmark(revision.max(self.cursor.revision()), false);
                self.ready.push_back(line);
            }
        }
    }

    /// Adds the line for an event, as the selectors see it: an object that starts to match is
    /// ADDED, one that no longer matches is DELETED.
    fn convert(&mut self, event: &Event) {
        if !event.key.starts_with(&self.target.prefix()) {
            return;
        }
        let matches = |o: &Object| self.selectors.matches(&o.value);
        let before = event.previous.as_deref().is_some_and(matches);
        let line = match event.change {
            Change::Deleted if before => self.line("DELETED", &event.object, Some(event)),
            Change::Deleted => return,
            _ => match (before, matches(&event.object)) {
                (false, false) => return,
                (false, true) => {
                    let shared = (event.change == Change::Added).then_some(event);
                    self.line("ADDED", &event.object, shared)
                }
                (true, true) => self.line("MODIFIED", &event.object, Some(event)),
                (true, false) => {
                    let Some(previous) = &event.previous else { return };
                    let mut value = previous.value.clone();
                    value["metadata"]["resourceVersion"] = json!(event.revision.to_string());
                    self.value_line("DELETED", &value)
                }
            },
        };
        self.ready.push_back(line);
    }

    /// The line for an object; the shared one of `event` where no conversion is needed.
    fn line(&self, kind: &str, object: &Object, event: Option<&Event>) -> Bytes {
        if self.table.is_none() && is_stored_form(&self.target.kind, &object.value) {
            return match event {
                Some(event) => event.line(),
                None => watch_line(kind, &object.json()),
            };
        }
        self.value_line(kind, &object.value)
    }

    fn value_line(&self, kind: &str, value: &Value) -> Bytes {
        let mut value = served(&self.target.kind, value);
        if let Some(form) = self.table {
            let version = value["metadata"]["resourceVersion"].clone();
            let metadata = json!({ "resourceVersion": version });
            value = table::table(&self.target.kind, form, [&value].into_iter(), metadata);
        }
        watch_line(kind, value.to_string().as_bytes())
    }

    fn bookmark(&self, revision: u64, initial_end: bool) -> Bytes {
        let kind = &self.target.kind;
        let mut object = json!({ "kind": kind.kind, "apiVersion": kind.api_version(),
            "metadata": { "resourceVersion": revision.to_string() } });
        if initial_end {
            object["metadata"]["annotations"] = json!({ "k8s.io/initial-events-end": "true" });
        }
        watch_line("BOOKMARK", object.to_string().as_bytes())
    }

    fn too_old(&self, error: &StoreError) -> Bytes {
        let asked = self.cursor.revision();
        let message = match error {
            StoreError::Compacted { oldest } => {
                format!("too old resource version: {asked} ({oldest})")
            }
            other => other.to_string(),
        };
        watch_line("ERROR", ApiError::expired(message).body().to_string().as_bytes())
    }
}

fn check_options(query: &Query) -> Result<(), ApiError> {
    let field = "resourceVersionMatch";
    let error = match (query.send_initial_events, query.resource_version_match.as_str()) {
        (Some(_), "NotOlderThan") if query.allow_bookmarks => return Ok(()),
        (Some(true), "NotOlderThan") => FieldError::forbidden(
            "sendInitialEvents",
            "sendInitialEvents requires setting allowWatchBookmarks to true",
        ),
        (None, "") | (Some(false), "NotOlderThan") => return Ok(()),
        (None, _) => FieldError::forbidden(
            field,
            "resourceVersionMatch is forbidden for watch unless sendInitialEvents is provided",
        ),
        (Some(_), "") => FieldError::forbidden(
            field,
            "sendInitialEvents requires setting resourceVersionMatch to NotOlderThan",
        ),
        (Some(_), other) => FieldError::not_supported(field, other, &["NotOlderThan"]),
    };
    Err(ApiError::invalid("meta.k8s.io", "ListOptions", "", &[error]))
}
