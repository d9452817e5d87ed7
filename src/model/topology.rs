//! What a gang asks of the tree of domains, as its members write it.

use super::contract::{
    self, ContractError, GroupSpec, RANK, SLICE_LEVEL, SLICE_SIZE, SLICES_APART,
    TOPOLOGY_PREFERRED, TOPOLOGY_REQUIRED,
};

/// What a gang asks. Levels are label keys.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct TopologyAsk {
    /// All members are in one domain of this level, or the gang waits.
    pub required: Option<Box<str>>,
    /// They are in one domain of this level if there is one; otherwise in the next larger.
    pub preferred: Option<Box<str>>,
    /// It is cut into slices.
    pub slices: Option<SliceAsk>,
}

/// Slices of a gang: so many members in one domain of a level.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct SliceAsk {
    /// Members of a slice; divides the minimum of the gang.
    pub size: u32,
    /// The level.
    pub level: Box<str>,
    /// No domain of that level holds two, so each that is used holds just one slice.
    pub apart: bool,
}

/// Labels that carry the place of a pod among its like, those that are read first, first.
const INDEX_LABELS: [&str; 4] = [
    "batch.kubernetes.io/job-completion-index",
    "apps.kubernetes.io/pod-index",
    "training.kubeflow.org/replica-index",
    "leaderworkerset.sigs.k8s.io/worker-index",
];

/// Reads what a gang asks. `None`: nothing.
///
/// # Errors
/// If an annotation is malformed, missing its partner, or given outside of a gang.
pub fn parse_topology<'a>(
    annotation: impl Fn(&str) -> Option<&'a str>,
    group: Option<&GroupSpec>,
) -> Result<Option<Box<TopologyAsk>>, ContractError> {
    let keys = [TOPOLOGY_REQUIRED, TOPOLOGY_PREFERRED, SLICE_SIZE, SLICE_LEVEL, SLICES_APART];
    let Some(given) = keys.into_iter().find(|key| annotation(key).is_some()) else {
        return Ok(None);
    };
    let Some(group) = group else { return Err(contract::needs_group(given)) };
    let level = |key| match annotation(key) {
        Some(level) if is_label_key(level) => Ok(Some(Box::from(level))),
        Some(level) => {
            let expected = "the key of a node label that is a topology level".to_owned();
            Err(contract::malformed(key, level, expected))
        }
        None => Ok(None),
    };
    let apart = match annotation(SLICES_APART) {
        None | Some("false") => false,
        Some("true") => true,
        Some(text) => {
            return Err(contract::malformed(SLICES_APART, text, "true or false".to_owned()));
        }
    };
    let slices = match (annotation(SLICE_SIZE), level(SLICE_LEVEL)?) {
        (None, None) if apart => {
            return Err(contract::malformed(SLICE_SIZE, "", format!("{SLICES_APART} needs it")));
        }
        (None, None) => None,
        (None, Some(_)) => {
            return Err(contract::malformed(SLICE_SIZE, "", format!("{SLICE_LEVEL} needs it")));
        }
        (Some(_), None) => {
            return Err(contract::malformed(SLICE_LEVEL, "", format!("{SLICE_SIZE} needs it")));
        }
        (Some(text), Some(level)) => {
            let size = contract::count(SLICE_SIZE, text, (1, group.min_member))?;
            if group.min_member % size != 0 {
                let expected = format!("a divisor of min-member, which is {}", group.min_member);
                return Err(contract::malformed(SLICE_SIZE, text, expected));
            }
            Some(SliceAsk { size, level, apart })
        }
    };
    let (required, preferred) = (level(TOPOLOGY_REQUIRED)?, level(TOPOLOGY_PREFERRED)?);
    Ok(Some(Box::new(TopologyAsk { required, preferred, slices })))
}

/// Reads the rank of a member within its gang: of the annotation, or of the labels that job
/// controllers write. `None`: it has none.
///
/// # Errors
/// If the annotation is no whole number. A label that is none is some other thing and is ignored.
pub fn parse_rank<'a>(
    annotation: Option<&str>,
    label: impl Fn(&str) -> Option<&'a str>,
) -> Result<Option<u32>, ContractError> {
    if let Some(text) = annotation {
        return contract::count(RANK, text, (0, u32::MAX - 1)).map(Some);
    }
    Ok(INDEX_LABELS.into_iter().find_map(|key| label(key)?.parse().ok()))
}

/// Whether a label may have this key: a name, after an optional prefix that is a domain.
#[must_use]
pub fn is_label_key(key: &str) -> bool {
    let (prefix, name) = match key.split_once('/') {
        Some((prefix, name)) => (Some(prefix), name),
        None => (None, key),
    };
    let inner = |b: u8| b.is_ascii_alphanumeric() || matches!(b, b'-' | b'_' | b'.');
    let edge = |b: Option<&u8>| b.is_some_and(u8::is_ascii_alphanumeric);
    let bytes = name.as_bytes();
    prefix.is_none_or(contract::is_object_name)
        && bytes.len() <= 63
        && bytes.iter().all(|b| inner(*b))
        && edge(bytes.first())
        && edge(bytes.last())
}

#[cfg(test)]
mod tests {
    use super::*;

    fn parse(pairs: &[(&str, &str)]) -> Result<Option<Box<TopologyAsk>>, String> {
        let find = |key: &str| pairs.iter().find(|(k, _)| *k == key).map(|(_, v)| *v);
        let group = GroupSpec { name: "g".into(), min_member: 8, max_member: None };
        parse_topology(find, Some(&group)).map_err(|error| error.to_string())
    }

    #[test]
    fn reads_levels_and_slices() {
        assert_eq!(parse(&[]), Ok(None));
        let pairs = [
            (TOPOLOGY_REQUIRED, "example.com/spine"),
            (TOPOLOGY_PREFERRED, "rack"),
            (SLICE_SIZE, "4"),
            (SLICE_LEVEL, "nvidia.com/gpu.clique"),
            (SLICES_APART, "true"),
        ];
        let ask = parse(&pairs).expect("it is well-formed").expect("it asks");
        assert_eq!(ask.required.as_deref(), Some("example.com/spine"));
        assert_eq!(ask.preferred.as_deref(), Some("rack"));
        let level = "nvidia.com/gpu.clique".into();
        assert_eq!(ask.slices, Some(SliceAsk { size: 4, level, apart: true }));
    }

    #[test]
    fn refuses_what_is_malformed_and_says_what_is_right() {
        let cases: [(&[(&str, &str)], &str); 7] = [
            (&[(TOPOLOGY_REQUIRED, "")], "expected the key of a node label"),
            (&[(TOPOLOGY_PREFERRED, "a b")], "expected the key of a node label"),
            (&[(SLICE_SIZE, "4")], "slice-size needs it"),
            (&[(SLICE_LEVEL, "rack")], "slice-level needs it"),
            (&[(SLICES_APART, "true")], "slices-apart needs it"),
            (&[(SLICE_SIZE, "3"), (SLICE_LEVEL, "rack")], "a divisor of min-member, which is 8"),
            (&[(SLICES_APART, "yes")], "expected true or false"),
        ];
        for (pairs, expected) in cases {
            let error = parse(pairs).expect_err(expected);
            assert!(error.contains(expected), "{error}");
        }
        let outside = parse_topology(|key| (key == TOPOLOGY_REQUIRED).then_some("rack"), None);
        assert!(outside.expect_err("no gang").to_string().contains("a group name"));
    }

    #[test]
    fn the_rank_is_the_annotation_or_the_index_that_a_controller_wrote() {
        let job = |key: &str| (key == INDEX_LABELS[0]).then_some("7");
        assert_eq!(parse_rank(Some("3"), job), Ok(Some(3)));
        assert_eq!(parse_rank(None, job), Ok(Some(7)));
        assert_eq!(parse_rank(None, |_| Some("leader")), Ok(None));
        assert!(parse_rank(Some("-1"), job).is_err());
    }
}
