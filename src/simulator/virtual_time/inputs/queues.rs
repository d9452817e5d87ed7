//! Queues as they would be applied to a cluster.

use super::{InputError, yaml_error};
use crate::kubernetes::convert::queue;
use crate::kubernetes::objects::QueueObject;
use crate::model::QueueSpec;
use crate::model::contract::GROUP;
use serde_json::Value;

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

pub(super) fn parse(path: &str, text: &str) -> Result<Vec<QueueSpec>, InputError> {
    let documents: Vec<Value> =
        serde_saphyr::from_multiple(text).map_err(|error| yaml_error(path, &error))?;
    let mut specs = Vec::new();
    for (index, document) in documents.into_iter().filter(|value| !value.is_null()).enumerate() {
        specs.push(one(path, index + 1, document)?);
    }
    Ok(specs)
}

fn one(path: &str, number: usize, document: Value) -> Result<QueueSpec, InputError> {
    let wrong = |field: &str, found: &Value, expected: &str| InputError::Field {
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
    queue::queue(&object).map_err(|source| InputError::Queue { path: path.into(), source })
}
