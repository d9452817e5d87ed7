//! What a request asks for: its path and its query.

use super::super::kinds::{Kind, Registry};
use super::super::status::ApiError;
use std::sync::Arc;

/// The object or collection that a path names.
#[derive(Clone, Debug)]
pub(crate) struct Target {
    pub(crate) kind: Arc<Kind>,
    /// Empty for all namespaces, and for cluster-scoped kinds.
    pub(crate) namespace: String,
    /// Empty for a collection.
    pub(crate) name: String,
    /// Empty for the object itself.
    pub(crate) subresource: String,
}

impl Target {
    /// Parses `/api/v1/...` and `/apis/GROUP/VERSION/...`; `None` for a path that names no
    /// resource.
    pub(crate) fn parse(registry: &Registry, path: &str) -> Option<Self> {
        let decoded: Vec<String> =
            path.split('/').filter(|p| !p.is_empty()).map(percent_decode).collect();
        let parts: Vec<&str> = decoded.iter().map(String::as_str).collect();
        let (group, version, rest) = match &parts[..] {
            ["api", version, rest @ ..] => ("", *version, rest),
            ["apis", group, version, rest @ ..] => (*group, *version, rest),
            _ => return None,
        };
        // a namespace is an object itself, and the scope of others
        let (namespace, rest) = match rest {
            ["namespaces", namespace, resource, rest @ ..]
                if !["status", "finalize"].contains(resource) =>
            {
                (*namespace, [&[*resource][..], rest].concat())
            }
            other => ("", other.to_vec()),
        };
        let (resource, name, subresource) = match rest[..] {
            [resource] => (resource, "", ""),
            [resource, name] => (resource, name, ""),
            [resource, name, subresource] => (resource, name, subresource),
            _ => return None,
        };
        // `POST bindings` names its pod in the body
        let (resource, subresource) = match (group, resource) {
            ("", "bindings") => ("pods", "binding"),
            _ => (resource, subresource),
        };
        let kind = registry.find(group, version, resource)?.clone();
        if !namespace.is_empty() && !kind.namespaced {
            return None;
        }
        Some(Self {
            kind,
            namespace: namespace.to_owned(),
            name: name.to_owned(),
            subresource: subresource.to_owned(),
        })
    }

    /// The same target under another name.
    pub(crate) fn named(&self, namespace: &str, name: &str) -> Self {
        let namespace = if self.kind.namespaced { namespace } else { "" };
        Self { namespace: namespace.to_owned(), name: name.to_owned(), ..self.clone() }
    }
}

fn percent_decode(text: &str) -> String {
    let mut bytes = Vec::with_capacity(text.len());
    let mut rest = text.as_bytes();
    while let Some((first, tail)) = rest.split_first() {
        let hex = tail.get(..2).and_then(|h| std::str::from_utf8(h).ok());
        let byte = hex.filter(|_| *first == b'%').and_then(|h| u8::from_str_radix(h, 16).ok());
        match byte {
            Some(byte) => {
                bytes.push(byte);
                rest = &tail[2..];
            }
            None => {
                bytes.push(*first);
                rest = tail;
            }
        }
    }
    String::from_utf8_lossy(&bytes).into_owned()
}

/// How strictly unknown fields are taken.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(crate) enum FieldValidation {
    Ignore,
    #[default]
    Warn,
    Strict,
}

/// The parameters that the server knows; others are ignored, as upstream.
#[derive(Clone, Debug, Default)]
pub(crate) struct Query {
    pub(crate) watch: bool,
    pub(crate) label_selector: String,
    pub(crate) field_selector: String,
    pub(crate) limit: usize,
    pub(crate) continue_: String,
    /// `None` when absent or empty.
    pub(crate) resource_version: Option<u64>,
    pub(crate) resource_version_match: String,
    pub(crate) timeout_seconds: Option<u64>,
    pub(crate) allow_bookmarks: bool,
    pub(crate) send_initial_events: Option<bool>,
    pub(crate) dry_run: bool,
    pub(crate) field_manager: String,
    pub(crate) field_validation: FieldValidation,
    pub(crate) force: bool,
    pub(crate) grace_period: Option<i64>,
    pub(crate) propagation: String,
}

impl Query {
    pub(crate) fn parse(text: &str) -> Result<Self, ApiError> {
        let mut query = Self::default();
        for pair in text.split('&').filter(|p| !p.is_empty()) {
            let (key, value) = pair.split_once('=').unwrap_or((pair, ""));
            let value = percent_decode(&value.replace('+', " "));
            query.set(&percent_decode(key), value)?;
        }
        Ok(query)
    }

    fn set(&mut self, key: &str, value: String) -> Result<(), ApiError> {
        let flag = || ["1", "true", "True", "t", "T", "TRUE"].contains(&value.as_str());
        let bad = |why: &str| ApiError::bad_request(why.to_owned());
        match key {
            "watch" => self.watch = flag() || value.is_empty(),
            "labelSelector" => self.label_selector = value,
            "fieldSelector" => self.field_selector = value,
            "limit" => self.limit = value.parse().unwrap_or(0),
            "continue" => self.continue_ = value,
            "resourceVersion" if value.is_empty() => {}
            "resourceVersion" => {
                let parsed = value.parse().map_err(|_| {
                    bad(&format!("strconv.ParseUint: parsing {value:?}: invalid syntax"))
                })?;
                self.resource_version = Some(parsed);
            }
            "resourceVersionMatch" => self.resource_version_match = value,
            "timeoutSeconds" => self.timeout_seconds = value.parse().ok(),
            "allowWatchBookmarks" => self.allow_bookmarks = flag(),
            "sendInitialEvents" => self.send_initial_events = Some(flag()),
            "dryRun" if value == "All" => self.dry_run = true,
            "dryRun" => {
                let message = format!(
                    "dryRun: Unsupported value: {value:?}: supported values: \
                    \"All\""
                );
                return Err(ApiError::new(super::super::status::Reason::Invalid, message));
            }
            "fieldManager" => self.field_manager = value,
            "fieldValidation" => {
                self.field_validation = match value.as_str() {
                    "Strict" => FieldValidation::Strict,
                    "Ignore" => FieldValidation::Ignore,
                    _ => FieldValidation::Warn,
                };
            }
            "force" => self.force = flag(),
            "gracePeriodSeconds" => self.grace_period = value.parse().ok(),
            "propagationPolicy" => self.propagation = value,
            _ => {}
        }
        Ok(())
    }
}
