//! The annotation contract: what users write on pods, and what is refused.

use std::fmt;

/// Annotation: name of the pod group (gang) within the namespace. Absent: a group of one.
pub const POD_GROUP: &str = "mss-scheduler.io/pod-group";
/// Annotation: how many members must be placed before any is bound. Required with
/// [`POD_GROUP`]; 1 to the configured limit.
pub const MIN_MEMBER: &str = "mss-scheduler.io/min-member";

/// Annotation: the most members that are placed; more than [`MIN_MEMBER`] makes the gang elastic.
/// Absent: all members that exist.
pub const MAX_MEMBER: &str = "mss-scheduler.io/max-member";
/// Annotation, or label of the same key: the queue, one of those the namespace is bound to. The
/// annotation beats the label. Absent: the first queue that names the namespace, or the default.
pub const QUEUE: &str = "mss-scheduler.io/queue";

/// Every annotation this scheduler reads, for documentation and its test.
pub const ANNOTATIONS: &[(&str, &str)] = &[
    (POD_GROUP, "name of the pod group (gang) the pod belongs to, within its namespace"),
    (MIN_MEMBER, "members that must be placed before any is bound; required with the group name"),
];

/// Longest accepted group name: a DNS-1123 subdomain, as Kubernetes object names.
pub const GROUP_NAME_MAX: usize = 253;

/// What a pod says about its gang.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct GroupSpec {
    /// Group name within the pod's namespace.
    pub name: Box<str>,
    /// Members that must run together; at least 1.
    pub min_member: u32,
}

/// Why a pod is refused. It becomes a condition and an event on that pod alone.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum ContractError {
    /// An annotation is malformed.
    Annotation {
        /// The annotation's key.
        key: &'static str,
        /// What was found, cut to 64 bytes.
        found: Box<str>,
        /// What would be right.
        expected: Box<str>,
    },
    /// A quantity cannot be represented exactly or is absurdly large.
    Quantity {
        /// Where in the pod.
        field: Box<str>,
        /// What was found, cut to 64 bytes.
        found: Box<str>,
    },
    /// A field of the pod has no meaning, as a selector `In` without values.
    Malformed {
        /// The field of the pod.
        field: &'static str,
        /// What is wrong with it.
        problem: Box<str>,
    },
    /// The pod asks for something this scheduler does not honour, and ignoring it would be wrong.
    Unsupported {
        /// The field of the pod.
        field: &'static str,
    },
    /// The annotations this scheduler reads are larger than the limit.
    Oversize {
        /// Bytes found.
        bytes: usize,
        /// Bytes allowed.
        limit: usize,
    },
}

impl ContractError {
    /// A closed set of words for metrics.
    #[must_use]
    pub fn reason(&self) -> &'static str {
        match self {
            Self::Annotation { .. } => "annotation",
            Self::Quantity { .. } => "quantity",
            Self::Malformed { .. } => "malformed",
            Self::Unsupported { .. } => "unsupported",
            Self::Oversize { .. } => "oversize",
        }
    }
}

impl fmt::Display for ContractError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Annotation { key, found, expected } => {
                write!(f, "annotation {key} is {found:?}: expected {expected}")
            }
            Self::Quantity { field, found } => {
                write!(f, "{field} is {found:?}: expected a quantity between 0 and 2^52")
            }
            Self::Malformed { field, problem } => write!(f, "{field}: {problem}"),
            Self::Unsupported { field } => {
                write!(f, "{field} is not honoured by this scheduler: remove it")
            }
            Self::Oversize { bytes, limit } => {
                write!(f, "scheduling annotations have {bytes} bytes: at most {limit} are read")
            }
        }
    }
}

/// Reads the group annotations. `min_member_max` bounds the minimum; `annotation` looks a key up.
///
/// # Errors
/// The first annotation that is malformed, missing its partner, or out of bounds.
pub fn parse_group<'a>(
    annotation: impl Fn(&str) -> Option<&'a str>,
    min_member_max: u32,
) -> Result<Option<GroupSpec>, ContractError> {
    let malformed = |key, found: &str, expected: String| ContractError::Annotation {
        key,
        found: cut(found),
        expected: expected.into(),
    };
    let Some(name) = annotation(POD_GROUP) else {
        return match annotation(MIN_MEMBER) {
            None => Ok(None),
            Some(_) => {
                Err(malformed(POD_GROUP, "", format!("a group name, as {MIN_MEMBER} is set")))
            }
        };
    };
    if !is_object_name(name) {
        let expected = "a name of lower-case letters, digits, '-' and '.'".to_owned();
        return Err(malformed(POD_GROUP, name, expected));
    }
    let expected = || format!("a whole number from 1 to {min_member_max}");
    let Some(text) = annotation(MIN_MEMBER) else {
        return Err(malformed(MIN_MEMBER, "", expected()));
    };
    match parse_count(text) {
        Some(min_member) if (1..=min_member_max).contains(&min_member) => {
            Ok(Some(GroupSpec { name: name.into(), min_member }))
        }
        _ => Err(malformed(MIN_MEMBER, text, expected())),
    }
}

/// Plain digits only: `+4`, `4.0` and ` 4` are refused, so that one text has one meaning.
fn parse_count(text: &str) -> Option<u32> {
    let digits = !text.is_empty() && text.bytes().all(|b| b.is_ascii_digit());
    if digits { text.parse().ok() } else { None }
}

fn is_object_name(name: &str) -> bool {
    let inner = |b: u8| b.is_ascii_lowercase() || b.is_ascii_digit() || b == b'-' || b == b'.';
    let edge = |b: Option<&u8>| b.is_some_and(|b| b.is_ascii_lowercase() || b.is_ascii_digit());
    let bytes = name.as_bytes();
    bytes.len() <= GROUP_NAME_MAX
        && bytes.iter().all(|b| inner(*b))
        && edge(bytes.first())
        && edge(bytes.last())
}

/// At most 64 bytes of a user's text, on a character boundary: enough to recognise it by.
#[must_use]
pub fn cut(text: &str) -> Box<str> {
    text[..text.floor_char_boundary(64)].into()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn parse(pairs: &[(&str, &str)]) -> Result<Option<GroupSpec>, String> {
        let find = |key: &str| pairs.iter().find(|(k, _)| *k == key).map(|(_, v)| *v);
        parse_group(find, 100).map_err(|e| e.to_string())
    }

    #[test]
    fn reads_a_group() {
        let group = parse(&[(POD_GROUP, "llama-ft"), (MIN_MEMBER, "4")]);
        assert_eq!(group, Ok(Some(GroupSpec { name: "llama-ft".into(), min_member: 4 })));
        assert_eq!(parse(&[]), Ok(None));
    }

    #[test]
    fn refuses_what_is_malformed_and_says_what_is_right() {
        for min in ["0", "-1", "101", "4294967297", "", "4.0", "+4", " 4", "four"] {
            let error = parse(&[(POD_GROUP, "g"), (MIN_MEMBER, min)]).expect_err(min);
            assert!(error.contains("a whole number from 1 to 100"), "{error}");
        }
        for name in ["", "-a", "a-", "A", "a/b", "a b", &"a".repeat(254)] {
            assert!(parse(&[(POD_GROUP, name), (MIN_MEMBER, "1")]).is_err(), "{name}");
        }
        assert!(parse(&[(POD_GROUP, "g")]).is_err());
        assert!(parse(&[(MIN_MEMBER, "1")]).is_err());
    }
}
