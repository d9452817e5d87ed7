//! GET of collections: snapshots, pages, selectors.

use super::super::selector::{FieldSelector, LabelSelector};
use super::super::status::ApiError;
use super::super::store::{Object, Range, StoreError};
use super::{Api, Query, Target, is_stored_form, served};
use bytes::{BufMut, Bytes, BytesMut};
use serde_json::{Value, json};
use std::sync::Arc;

/// A list as of one revision.
pub(crate) struct Listed {
    pub(crate) objects: Vec<Arc<Object>>,
    pub(crate) revision: u64,
    continue_: Option<String>,
    remaining: Option<usize>,
}

impl Listed {
    /// `metadata` of the list.
    pub(crate) fn metadata(&self) -> Value {
        let mut metadata = json!({ "resourceVersion": self.revision.to_string() });
        if let Some(token) = &self.continue_ {
            metadata["continue"] = json!(token);
        }
        if let Some(count) = self.remaining {
            metadata["remainingItemCount"] = json!(count);
        }
        metadata
    }

    /// The list's JSON text; objects contribute the text that they share.
    pub(crate) fn encode(&self, target: &Target) -> Bytes {
        let kind = &target.kind;
        let list_kind = match &kind.custom {
            Some(custom) => custom.list_kind.clone(),
            None => format!("{}List", kind.kind),
        };
        let head = json!({ "kind": list_kind, "apiVersion": kind.api_version(),
            "metadata": self.metadata() });
        let mut text = head.to_string();
        text.pop();
        let mut buffer = BytesMut::from(text.as_bytes());
        buffer.put_slice(b",\"items\":[");
        let (version, name) = (kind.api_version(), &kind.kind);
        let identity = format!("{{\"apiVersion\":{version:?},\"kind\":{name:?},");
        for (index, object) in self.objects.iter().enumerate() {
            if index > 0 {
                buffer.put_u8(b',');
            }
            if is_stored_form(kind, &object.value) {
                // as upstream, the items of a list of built-in kinds do not repeat their kind
                let json = object.json();
                match json.strip_prefix(identity.as_bytes()) {
                    Some(rest) if kind.custom.is_none() => {
                        buffer.put_u8(b'{');
                        buffer.put_slice(rest);
                    }
                    _ => buffer.put_slice(&json),
                }
            } else {
                buffer.put_slice(served(kind, &object.value).to_string().as_bytes());
            }
        }
        buffer.put_slice(b"]}");
        buffer.freeze()
    }
}

/// Both selectors of a request.
#[derive(Clone, Debug)]
pub(crate) struct Selectors {
    labels: LabelSelector,
    fields: FieldSelector,
    none: bool,
}

impl Selectors {
    pub(crate) fn parse(target: &Target, query: &Query) -> Result<Self, ApiError> {
        let labels = LabelSelector::parse(&query.label_selector)?;
        let fields = FieldSelector::parse(&target.kind, &query.field_selector)?;
        let none = labels == LabelSelector::default() && fields == FieldSelector::default();
        Ok(Self { labels, fields, none })
    }

    /// Whether everything is selected.
    pub(crate) fn is_empty(&self) -> bool {
        self.none
    }

    pub(crate) fn matches(&self, object: &Value) -> bool {
        self.none || (self.labels.matches(object) && self.fields.matches(object))
    }
}

impl Target {
    /// The prefix of the keys that a list or watch of this collection sees.
    pub(crate) fn prefix(&self) -> String {
        if self.namespace.is_empty() { String::new() } else { format!("{}/", self.namespace) }
    }
}

/// `REVISION:KEY`; opaque to clients.
fn parse_token(token: &str) -> Option<(u64, &str)> {
    let (revision, key) = token.split_once(':')?;
    Some((revision.parse().ok()?, key))
}

impl Api {
    pub(crate) fn list(&self, target: &Target, query: &Query) -> Result<Listed, ApiError> {
        self.list_as_of(target, query, None)
    }

    /// Lists; with `stale` the world as it was at an older revision, as a lagging server would.
    pub(crate) fn list_as_of(
        &self,
        target: &Target,
        query: &Query,
        stale: Option<u64>,
    ) -> Result<Listed, ApiError> {
        check_version_match(query)?;
        let selectors = Selectors::parse(target, query)?;
        let current = self.store.revision();
        if let Some(asked) = query.resource_version.filter(|v| *v > current) {
            return Err(ApiError::too_large_version(asked, current));
        }
        let prefix = target.prefix();
        let mut range = Range { prefix: &prefix, revision: stale, ..Range::default() };
        if !query.continue_.is_empty() {
            let (revision, key) = parse_token(&query.continue_)
                .ok_or_else(|| ApiError::bad_request("continue key is not valid"))?;
            range.start = Some(key);
            range.revision = Some(revision);
        } else if query.resource_version_match == "Exact" {
            range.revision = query.resource_version;
        }
        range.limit = query.limit;
        let page = self
            .store
            .list(target.kind.collection, &range)
            .map_err(|e| expired(&e, !query.continue_.is_empty()))?;
        let revision = page.revision;
        let mut objects = page.objects;
        objects.retain(|o| selectors.matches(&o.value));
        match page.more {
            None => Ok(Listed { objects, revision, continue_: None, remaining: None }),
            Some((next, left)) if objects.len() >= query.limit => Ok(Listed {
                objects,
                revision,
                continue_: Some(format!("{revision}:{next}")),
                remaining: selectors.is_empty().then_some(left),
            }),
            Some((next, _)) => self.list_rest(target, query, objects, (revision, next), &selectors),
        }
    }

    /// Fills a page that selectors thinned out.
    fn list_rest(
        &self,
        target: &Target,
        query: &Query,
        mut objects: Vec<Arc<Object>>,
        (revision, mut next): (u64, String),
        selectors: &Selectors,
    ) -> Result<Listed, ApiError> {
        let prefix = target.prefix();
        loop {
            let range = Range {
                prefix: &prefix,
                start: Some(&next),
                limit: query.limit - objects.len(),
                revision: Some(revision),
            };
            let page =
                self.store.list(target.kind.collection, &range).map_err(|e| expired(&e, true))?;
            objects.extend(page.objects.into_iter().filter(|o| selectors.matches(&o.value)));
            let Some((key, _)) = page.more else {
                return Ok(Listed { objects, revision, continue_: None, remaining: None });
            };
            if objects.len() >= query.limit {
                let continue_ = Some(format!("{revision}:{key}"));
                return Ok(Listed { objects, revision, continue_, remaining: None });
            }
            next = key;
        }
    }

    /// The objects of a collection and the text of their list.
    pub(super) fn list_objects(
        &self,
        target: &Target,
        query: &Query,
    ) -> Result<(Vec<Arc<Object>>, Value), ApiError> {
        let listed = self.list(target, query)?;
        let body = serde_json::from_slice(&listed.encode(target))
            .map_err(|e| ApiError::internal(e.to_string()))?;
        Ok((listed.objects, body))
    }
}

fn check_version_match(query: &Query) -> Result<(), ApiError> {
    use super::super::status::FieldError;
    let refuse =
        |error: FieldError| Err(ApiError::invalid("meta.k8s.io", "ListOptions", "", &[error]));
    let field = "resourceVersionMatch";
    if query.resource_version_match.is_empty() {
        return Ok(());
    }
    if query.resource_version.is_none() {
        let detail = "resourceVersionMatch is forbidden unless resourceVersion is provided";
        return refuse(FieldError::forbidden(field, detail));
    }
    if !query.continue_.is_empty() {
        let detail = "resourceVersionMatch is forbidden when continue is provided";
        return refuse(FieldError::forbidden(field, detail));
    }
    match query.resource_version_match.as_str() {
        "Exact" if query.resource_version == Some(0) => {
            let detail = "resourceVersionMatch \"exact\" is forbidden for resourceVersion \"0\"";
            refuse(FieldError::forbidden(field, detail))
        }
        "Exact" | "NotOlderThan" => Ok(()),
        other => refuse(FieldError::not_supported(field, other, &["Exact", "NotOlderThan", ""])),
    }
}

fn expired(error: &StoreError, continued: bool) -> ApiError {
    match error {
        StoreError::Compacted { .. } if continued => ApiError::expired(
            "The provided continue parameter is too old to display a consistent list result. You \
             can start a new list without the continue parameter.",
        ),
        StoreError::Compacted { .. } => {
            ApiError::expired("The resourceVersion for the provided list is too old.")
        }
        other => ApiError::internal(other.to_string()),
    }
}
