//! Label and field selectors, as `labelSelector` and `fieldSelector` write them.

use super::kinds::Kind;
use super::status::ApiError;
use serde_json::Value;

#[derive(Clone, Debug, PartialEq, Eq)]
enum Operator {
    In(Vec<String>),
    NotIn(Vec<String>),
    Exists,
    Absent,
    Greater(i64),
    Less(i64),
}

/// A conjunction over labels; empty selects everything.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(crate) struct LabelSelector(Vec<(String, Operator)>);

impl LabelSelector {
    /// Parses the text form, equality- and set-based.
    pub(crate) fn parse(text: &str) -> Result<Self, ApiError> {
        let mut requirements = Vec::new();
        for part in split_outside_parentheses(text) {
            let part = part.trim();
            if part.is_empty() {
                return Err(ApiError::bad_request("found ',', expected: identifier after ','"));
            }
            requirements.push(parse_requirement(part)?);
        }
        Ok(Self(requirements))
    }

    /// The object form of `metav1.LabelSelector`; an absent one selects nothing, as for budgets.
    pub(crate) fn from_object(selector: &Value) -> Option<Self> {
        let map = selector.as_object()?;
        let mut requirements = Vec::new();
        for (key, value) in map.get("matchLabels").and_then(Value::as_object).into_iter().flatten()
        {
            let value = value.as_str().unwrap_or("").to_owned();
            requirements.push((key.clone(), Operator::In(vec![value])));
        }
        for term in map.get("matchExpressions").and_then(Value::as_array).into_iter().flatten() {
            let values = term["values"].as_array().into_iter().flatten();
            let values = values.filter_map(Value::as_str).map(str::to_owned).collect();
            let operator = match term["operator"].as_str()? {
                "In" => Operator::In(values),
                "NotIn" => Operator::NotIn(values),
                "Exists" => Operator::Exists,
                "DoesNotExist" => Operator::Absent,
                _ => return None,
            };
            requirements.push((term["key"].as_str()?.to_owned(), operator));
        }
        Some(Self(requirements))
    }

    pub(crate) fn matches(&self, object: &Value) -> bool {
        let labels = &object["metadata"]["labels"];
        self.0.iter().all(|(key, operator)| {
            let value = labels.get(key).and_then(Value::as_str);
            let number = || value.and_then(|v| v.parse::<i64>().ok());
            match operator {
                Operator::In(values) => value.is_some_and(|v| values.iter().any(|x| x == v)),
                Operator::NotIn(values) => value.is_none_or(|v| !values.iter().any(|x| x == v)),
                Operator::Exists => value.is_some(),
                Operator::Absent => value.is_none(),
                Operator::Greater(bound) => number().is_some_and(|n| n > *bound),
                Operator::Less(bound) => number().is_some_and(|n| n < *bound),
            }
        })
    }
}

fn split_outside_parentheses(text: &str) -> Vec<&str> {
    let mut parts = Vec::new();
    let (mut depth, mut begin) = (0_usize, 0);
    for (index, c) in text.char_indices() {
        match c {
            '(' => depth += 1,
            ')' => depth = depth.saturating_sub(1),
            ',' if depth == 0 => {
                parts.push(&text[begin..index]);
                begin = index + 1;
            }
            _ => {}
        }
    }
    if !text.trim().is_empty() {
        parts.push(&text[begin..]);
    }
    parts
}

fn parse_requirement(part: &str) -> Result<(String, Operator), ApiError> {
    let bad = || ApiError::bad_request(format!("unable to parse requirement: {part:?}"));
    if let Some(open) = part.find('(') {
        let inner = part[open + 1..].trim_end().strip_suffix(')').ok_or_else(bad)?;
        let values = inner.split(',').map(|v| v.trim().to_owned()).collect();
        let words: Vec<_> = part[..open].split_whitespace().collect();
        return match words[..] {
            [key, "in"] => Ok((check_key(key)?, Operator::In(values))),
            [key, "notin"] => Ok((check_key(key)?, Operator::NotIn(values))),
            _ => Err(bad()),
        };
    }
    for (token, equal) in [("!=", false), ("==", true), ("=", true)] {
        if let Some((key, value)) = part.split_once(token) {
            let values = vec![value.trim().to_owned()];
            let operator = if equal { Operator::In(values) } else { Operator::NotIn(values) };
            return Ok((check_key(key.trim())?, operator));
        }
    }
    for token in ['>', '<'] {
        if let Some((key, value)) = part.split_once(token) {
            let bound = value.trim().parse().map_err(|_| bad())?;
            let operator =
                if token == '>' { Operator::Greater(bound) } else { Operator::Less(bound) };
            return Ok((check_key(key.trim())?, operator));
        }
    }
    match part.strip_prefix('!') {
        Some(key) => Ok((check_key(key.trim())?, Operator::Absent)),
        None => Ok((check_key(part)?, Operator::Exists)),
    }
}

fn check_key(key: &str) -> Result<String, ApiError> {
    let valid = |c: char| c.is_ascii_alphanumeric() || "-_./".contains(c);
    if key.is_empty() || !key.chars().all(valid) {
        return Err(ApiError::bad_request(format!("unable to parse requirement: {key:?}")));
    }
    Ok(key.to_owned())
}

/// A conjunction over the fields that a kind lets be selected.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(crate) struct FieldSelector(Vec<Term>);

#[derive(Clone, Debug, PartialEq, Eq)]
struct Term {
    pointer: String,
    equal: bool,
    value: String,
}

impl FieldSelector {
    pub(crate) fn parse(kind: &Kind, text: &str) -> Result<Self, ApiError> {
        let mut terms = Vec::new();
        for part in text.split(',').filter(|p| !p.is_empty()) {
            let (field, equal, value) = if let Some((f, v)) = part.split_once("!=") {
                (f, false, v)
            } else if let Some((f, v)) = part.split_once("==").or_else(|| part.split_once('=')) {
                (f, true, v)
            } else {
                let message = format!("invalid selector: '{part}'; can't understand '{part}'");
                return Err(ApiError::bad_request(message));
            };
            let pointer = pointer(kind, field).ok_or_else(|| {
                let message = match &kind.custom {
                    None if kind.is("", "pods") => format!("field label not supported: {field}"),
                    _ => format!(
                        "{field:?} is not a known field selector: only \
                        \"metadata.name\", \"metadata.namespace\""
                    ),
                };
                let listed =
                    kind.custom.is_some() || ["", "events.k8s.io"].contains(&kind.group.as_str());
                let plain = format!("field label not supported: {field}");
                ApiError::bad_request(if listed { plain } else { message })
            })?;
            terms.push(Term { pointer, equal, value: value.to_owned() });
        }
        Ok(Self(terms))
    }

    pub(crate) fn matches(&self, object: &Value) -> bool {
        self.0.iter().all(|term| {
            let found = object.pointer(&term.pointer);
            let equal = match found {
                Some(Value::String(text)) => *text == term.value,
                Some(Value::Bool(set)) => set.to_string() == term.value,
                Some(Value::Number(number)) => number.to_string() == term.value,
                // booleans are omitted when they are false
                _ if is_flag(&term.pointer) => term.value == "false",
                _ => term.value.is_empty(),
            };
            equal == term.equal
        })
    }
}

fn is_flag(pointer: &str) -> bool {
    pointer == "/spec/hostNetwork" || pointer == "/spec/unschedulable"
}

const REFERENCE: [&str; 7] =
    ["kind", "namespace", "name", "uid", "apiVersion", "resourceVersion", "fieldPath"];

/// Where the value of a selectable field is in the stored object.
fn pointer(kind: &Kind, field: &str) -> Option<String> {
    let straight = || Some(format!("/{}", field.replace('.', "/")));
    if field == "metadata.name" || (field == "metadata.namespace" && kind.namespaced) {
        return straight();
    }
    let known: &[&str] = match (kind.group.as_str(), kind.resource.as_str()) {
        ("", "pods") => &[
            "spec.nodeName",
            "spec.restartPolicy",
            "spec.schedulerName",
            "spec.hostNetwork",
            "spec.serviceAccountName",
            "status.phase",
            "status.podIP",
            "status.nominatedNodeName",
        ],
        ("", "nodes") => &["spec.unschedulable"],
        ("", "namespaces") => &["status.phase"],
        ("", "secrets") => &["type"],
        ("", "services") => &["spec.clusterIP", "spec.type"],
        ("", "replicationcontrollers") | ("apps", "replicasets") => &["status.replicas"],
        ("batch", "jobs") => &["status.successful"],
        ("resource.k8s.io", "resourceslices") => &["spec.nodeName", "spec.driver"],
        ("", "events") | ("events.k8s.io", _) => return event_pointer(kind, field),
        _ => &[],
    };
    if known.contains(&field) { straight() } else { None }
}

/// Events are stored in the v1 form, whichever form asks.
fn event_pointer(kind: &Kind, field: &str) -> Option<String> {
    let new = kind.is_new_event();
    let reference = if new { "regarding." } else { "involvedObject." };
    if let Some(part) = field.strip_prefix(reference) {
        return REFERENCE.contains(&part).then(|| format!("/involvedObject/{part}"));
    }
    match field {
        "reason" | "type" => Some(format!("/{field}")),
        "reportingController" if new => Some("/reportingComponent".into()),
        "reportingComponent" if !new => Some("/reportingComponent".into()),
        "source" if !new => Some("/source/component".into()),
        _ => None,
    }
}
