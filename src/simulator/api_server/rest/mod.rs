//! The REST verbs over the store.

mod binding;
mod budgets;
mod create;
mod decode;
mod delete;
mod evict;
mod list;
mod query;
mod update;
mod virtual_kinds;
mod watch;

pub(crate) use delete::DeleteOptions;
pub(crate) use query::{Query, Target};
pub(crate) use watch::WatchStream;

use super::admission::Context;
use super::events;
use super::kinds::{Kind, Registry};
use super::status::ApiError;
use super::store::{Object, Store, StoreError};
use parking_lot::RwLock;
use serde_json::Value;
use std::sync::Arc;

/// A write that meets others' writes is tried anew so often, then told to be in conflict.
const MAX_RETRIES: usize = 64;

/// The API over one store.
#[derive(Debug)]
pub(crate) struct Api {
    pub(crate) store: Arc<Store>,
    registry: RwLock<Arc<Registry>>,
    /// Seconds between bookmarks.
    pub(crate) bookmark_interval: std::time::Duration,
}

/// What a write answers: an HTTP code and a body.
pub(crate) struct Written {
    pub(crate) code: u16,
    pub(crate) body: Value,
    /// Upstream's `Warning` headers.
    pub(crate) warnings: Vec<String>,
}

impl Api {
    pub(crate) fn new(store: Arc<Store>, bookmark_interval: std::time::Duration) -> Self {
        let registry = RwLock::new(Arc::new(Registry::builtin(&store)));
        Self { store, registry, bookmark_interval }
    }

    pub(crate) fn registry(&self) -> Arc<Registry> {
        self.registry.read().clone()
    }

    /// Changes the served kinds.
    fn change_registry(&self, change: impl FnOnce(&mut Registry)) {
        let mut registry = self.registry.write();
        let mut next = (**registry).clone();
        change(&mut next);
        *registry = Arc::new(next);
    }

    /// A built-in kind, which is always there.
    pub(crate) fn builtin(&self, group: &str, version: &str, resource: &str) -> Arc<Kind> {
        let registry = self.registry();
        registry.find(group, version, resource).expect("built-in kinds are never removed").clone()
    }

    pub(crate) fn get(&self, target: &Target) -> Result<Arc<Object>, ApiError> {
        let kind = &target.kind;
        let key = kind.key(&target.namespace, &target.name);
        self.store
            .get(kind.collection, &key)
            .ok_or_else(|| ApiError::not_found(&kind.group, &kind.resource, &target.name))
    }

    /// Upstream's `GuaranteedUpdate`: `change` makes the next value from the present one, again
    /// when another write came between.
    pub(crate) fn guaranteed_update(
        &self,
        target: &Target,
        mut change: impl FnMut(&Object) -> Result<Value, ApiError>,
    ) -> Result<Arc<Object>, ApiError> {
        let kind = &target.kind;
        let key = kind.key(&target.namespace, &target.name);
        for _ in 0..MAX_RETRIES {
            let old = self.get(target)?;
            let value = change(&old)?;
            match self.store.update(kind.collection, &key, &old, value) {
                Ok(object) => return Ok(object),
                Err(StoreError::Changed) => {}
                Err(_) => {
                    return Err(ApiError::not_found(&kind.group, &kind.resource, &target.name));
                }
            }
        }
        Err(modified(target))
    }

    fn context(&self) -> Context<'_> {
        let classes = self.builtin("scheduling.k8s.io", "v1", "priorityclasses");
        Context { store: &self.store, priority_classes: classes.collection }
    }
}

/// The conflict of a write against an object that has changed.
fn modified(target: &Target) -> ApiError {
    let why = "the object has been modified; please apply your changes to the latest version \
        and try again";
    ApiError::conflict(&target.kind.group, &target.kind.resource, &target.name, why)
}

/// The form of a stored object that `kind` serves.
pub(crate) fn served(kind: &Kind, object: &Value) -> Value {
    let mut value = object.clone();
    if kind.is_new_event() {
        events::from_stored(&mut value);
    } else if kind.custom.is_some() {
        value["apiVersion"] = Value::from(kind.api_version());
    }
    value
}

/// Whether the stored text is what `kind` serves, so that it needs no conversion.
pub(crate) fn is_stored_form(kind: &Kind, object: &Value) -> bool {
    !kind.is_new_event()
        && (kind.custom.is_none() || object["apiVersion"] == kind.api_version().as_str())
}

/// The present time as API objects write it.
pub(crate) fn now() -> String {
    format!("{:.0}", jiff::Timestamp::now())
}
