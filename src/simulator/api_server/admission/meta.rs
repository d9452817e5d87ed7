//! Names and labels, checked in upstream's words.

use super::super::kinds::Kind;
use super::super::status::FieldError;
use serde_json::{Value, json};

const SUBDOMAIN: &str = "a lowercase RFC 1123 subdomain must consist of lower case alphanumeric \
    characters, '-' or '.', and must start and end with an alphanumeric character (e.g. \
    'example.com', regex used for validation is \
    '[a-z0-9]([-a-z0-9]*[a-z0-9])?(\\.[a-z0-9]([-a-z0-9]*[a-z0-9])?)*')";
const LABEL_NAME: &str = "a lowercase RFC 1123 label must consist of lower case alphanumeric \
    characters or '-', and must start and end with an alphanumeric character (e.g. 'my-name',  \
    or '123-abc', regex used for validation is '[a-z0-9]([-a-z0-9]*[a-z0-9])?')";
const LABEL_VALUE: &str = "a valid label must be an empty string or consist of alphanumeric \
    characters, '-', '_' or '.', and must start and end with an alphanumeric character (e.g. \
    'MyValue',  or 'my_value',  or '12345', regex used for validation is \
    '(([A-Za-z0-9][-A-Za-z0-9_.]*)?[A-Za-z0-9])?')";
const QUALIFIED_NAME: &str = "name part must consist of alphanumeric characters, '-', '_' or \
    '.', and must start and end with an alphanumeric character (e.g. 'MyName',  or 'my.name',  \
    or '123-abc', regex used for validation is '([A-Za-z0-9][-A-Za-z0-9_.]*)?[A-Za-z0-9]')";
const SUBDOMAIN_MAX: usize = 253;
const LABEL_MAX: usize = 63;

/// Checks `metadata` of a new object.
pub(crate) fn validate_meta(kind: &Kind, object: &Value) -> Vec<FieldError> {
    let mut errors = Vec::new();
    let metadata = &object["metadata"];
    let name = metadata["name"].as_str().unwrap_or("");
    if name.is_empty() {
        errors.push(FieldError::required("metadata.name", "name or generateName is required"));
    } else if kind.is("", "namespaces") || kind.is("", "services") {
        check(name, "metadata.name", LABEL_MAX, LABEL_NAME, is_dns_label, &mut errors);
    } else if !kind.group.starts_with("rbac.") && kind.resource != "events" {
        check(name, "metadata.name", SUBDOMAIN_MAX, SUBDOMAIN, is_subdomain, &mut errors);
    }
    for (key, value) in metadata["labels"].as_object().into_iter().flatten() {
        let part = key.rsplit('/').next().unwrap_or(key);
        check_key(key, part, "metadata.labels", &mut errors);
        let text = value.as_str().unwrap_or("");
        if !text.is_empty() {
            check(text, "metadata.labels", LABEL_MAX, LABEL_VALUE, is_label, &mut errors);
        }
    }
    for key in metadata["annotations"].as_object().into_iter().flatten().map(|(key, _)| key) {
        let part = key.rsplit('/').next().unwrap_or(key);
        check_key(key, part, "metadata.annotations", &mut errors);
    }
    errors
}

fn check_key(key: &str, part: &str, field: &str, errors: &mut Vec<FieldError>) {
    if !is_label(part) || part.is_empty() {
        errors.push(FieldError::invalid(field, &json!(key), QUALIFIED_NAME));
    } else if part.len() > LABEL_MAX {
        let detail = format!("name part must be no more than {LABEL_MAX} bytes");
        errors.push(FieldError::invalid(field, &json!(key), &detail));
    }
}

/// Upstream's `ValidateLabelName`.
pub(super) fn check_qualified(key: &str, field: &str, errors: &mut Vec<FieldError>) {
    check_key(key, key.rsplit('/').next().unwrap_or(key), field, errors);
}

/// Upstream's `IsValidLabelValue`.
pub(super) fn check_label_value(text: &str, field: &str, errors: &mut Vec<FieldError>) {
    if !text.is_empty() {
        check(text, field, LABEL_MAX, LABEL_VALUE, is_label, errors);
    }
}

/// Whether a container may be called so.
pub(super) fn check_container_name(name: &str, field: &str, errors: &mut Vec<FieldError>) {
    if name.is_empty() {
        errors.push(FieldError::required(field, ""));
    } else {
        check(name, field, LABEL_MAX, LABEL_NAME, is_dns_label, errors);
    }
}

fn check(
    text: &str,
    field: &str,
    max: usize,
    detail: &str,
    fits: fn(&str) -> bool,
    errors: &mut Vec<FieldError>,
) {
    if text.len() > max {
        let detail = format!("must be no more than {max} bytes");
        errors.push(FieldError::invalid(field, &json!(text), &detail));
    }
    if !fits(text) {
        errors.push(FieldError::invalid(field, &json!(text), detail));
    }
}

fn ends_well(text: &str) -> bool {
    text.starts_with(|c: char| c.is_ascii_alphanumeric())
        && text.ends_with(|c: char| c.is_ascii_alphanumeric())
}

fn is_label(text: &str) -> bool {
    ends_well(text) && text.chars().all(|c| c.is_ascii_alphanumeric() || "-_.".contains(c))
}

fn is_dns_label(text: &str) -> bool {
    let fits = |c: char| c.is_ascii_lowercase() || c.is_ascii_digit() || c == '-';
    ends_well(text) && text.chars().all(fits)
}

fn is_subdomain(text: &str) -> bool {
    text.split('.').all(is_dns_label)
}
