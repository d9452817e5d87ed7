//! What a gang asks of the tree of domains, as its members write it.

use super::contract::{
    self, ContractError, GroupSpec, MIN_MEMBER, RANK, SAME, SLICE_LEVEL, SLICE_SIZE, SLICES_APART,
    SPAN, TASK_GROUP, TASK_GROUP_MIN, TASK_SAME, TASK_SLICE_LEVEL, TASK_SLICE_SIZE,
    TASK_SLICES_APART, TASK_SPAN, TASK_TOPOLOGY_PREFERRED, TASK_TOPOLOGY_REQUIRED,
    TOPOLOGY_PREFERRED, TOPOLOGY_PREFERRED_WAIT, TOPOLOGY_REQUIRED, Task,
};
use super::{duration, foreign};

/// Most ways in which a gang is cut, one within the other.
const CUTS_MAX: usize = 4;

/// What a gang, or one of its task groups, asks. Levels are label keys, or names of levels.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct TopologyAsk {
    /// All members are in one domain of this level, or the gang waits.
    pub required: Option<Box<str>>,
    /// They are in one domain of this level if there is one; otherwise in the next larger.
    pub preferred: Option<Box<str>>,
    /// So long the gang waits for what it and its task groups prefer; 0: not at all.
    pub wait_ms: i64,
    /// It is cut into slices, the first of them into those of the second, and so on.
    pub slices: Vec<SliceAsk>,
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

/// A level of the tree: a label of nodes, and what it is called.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Level {
    /// The key of the label.
    pub label: Box<str>,
    /// What gangs may call it instead.
    pub name: Box<str>,
}

impl From<&str> for Level {
    /// A level is called by what follows the slash in its label's key, unless it is said otherwise.
    fn from(label: &str) -> Self {
        let name = label.rsplit('/').next().unwrap_or(label);
        Self { label: label.into(), name: name.into() }
    }
}

/// The annotations of a gang, or of a task group. Empty: there is none.
pub(super) struct Keys {
    pub(super) required: &'static str,
    pub(super) preferred: &'static str,
    pub(super) size: &'static str,
    pub(super) level: &'static str,
    pub(super) apart: &'static str,
    pub(super) same: &'static str,
    pub(super) span: &'static str,
    /// what the size divides
    pub(super) min: &'static str,
}

/// No annotations.
pub(super) const NONE: Keys = Keys {
    required: "",
    preferred: "",
    size: "",
    level: "",
    apart: "",
    same: "",
    span: "",
    min: "",
};

const OF_GANG: Keys = Keys {
    required: TOPOLOGY_REQUIRED,
    preferred: TOPOLOGY_PREFERRED,
    size: SLICE_SIZE,
    level: SLICE_LEVEL,
    apart: SLICES_APART,
    same: SAME,
    span: SPAN,
    min: MIN_MEMBER,
};

const OF_TASK: Keys = Keys {
    required: TASK_TOPOLOGY_REQUIRED,
    preferred: TASK_TOPOLOGY_PREFERRED,
    size: TASK_SLICE_SIZE,
    level: TASK_SLICE_LEVEL,
    apart: TASK_SLICES_APART,
    same: TASK_SAME,
    span: TASK_SPAN,
    min: TASK_GROUP_MIN,
};

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
    let wait = annotation(TOPOLOGY_PREFERRED_WAIT);
    let [keys, _] = keys(&annotation)?;
    let first = keys.first(&annotation);
    let Some(given) = first.or(wait.map(|_| TOPOLOGY_PREFERRED_WAIT)) else { return Ok(None) };
    let Some(group) = group else { return Err(contract::needs_group(given)) };
    let mut ask = keys.read(&annotation, group.min_member)?;
    if let Some(text) = wait {
        let time = duration::parse(text).and_then(|time| i64::try_from(time.as_millis()).ok());
        let expected = || "a time such as 10m".to_owned();
        let malformed = || contract::malformed(TOPOLOGY_PREFERRED_WAIT, text, expected());
        ask.wait_ms = time.ok_or_else(malformed)?;
    }
    Ok(Some(Box::new(ask)))
}

/// Reads what a task group asks beside its gang. `None`: nothing.
///
/// # Errors
/// If an annotation is malformed, missing its partner, given outside of a task group, or if the
/// gang is cut into slices as a whole.
pub fn parse_task_topology<'a>(
    annotation: impl Fn(&str) -> Option<&'a str>,
    task: Option<&Task>,
    gang: Option<&TopologyAsk>,
) -> Result<Option<Box<TopologyAsk>>, ContractError> {
    let [_, keys] = keys(&annotation)?;
    let Some(given) = keys.first(&annotation) else { return Ok(None) };
    let Some(task) = task else {
        return Err(contract::malformed(TASK_GROUP, "", format!("a name, as {given} is set")));
    };
    if gang.is_some_and(|gang| !gang.slices.is_empty()) {
        let found = annotation(given).unwrap_or_default();
        let expected = "nothing, as the gang is cut into slices as a whole".to_owned();
        return Err(contract::malformed(given, found, expected));
    }
    keys.read(&annotation, task.min).map(|ask| Some(Box::new(ask)))
}

/// Which annotations are read for the gang, and which for the task group: ours, or those of other
/// schedulers if there are none of ours. How long a preference is waited for is said of either.
fn keys<'a>(
    annotation: &impl Fn(&str) -> Option<&'a str>,
) -> Result<[&'static Keys; 2], ContractError> {
    let ours = [&OF_GANG, &OF_TASK];
    match ours.iter().any(|keys| keys.first(annotation).is_some()) {
        true => Ok(ours),
        false => foreign::keys(annotation),
    }
}

impl Keys {
    /// The first of them that is given.
    pub(super) fn first<'a>(
        &self,
        annotation: &impl Fn(&str) -> Option<&'a str>,
    ) -> Option<&'static str> {
        let keys = [self.required, self.preferred, self.size, self.level, self.apart];
        let keys = keys.into_iter().chain([self.same, self.span]).filter(|key| !key.is_empty());
        keys.into_iter().find(|key| annotation(key).is_some())
    }

    fn read<'a>(
        &self,
        annotation: &impl Fn(&str) -> Option<&'a str>,
        min: u32,
    ) -> Result<TopologyAsk, ContractError> {
        let annotation = &|key: &str| if key.is_empty() { None } else { annotation(key) };
        let named = |key| annotation(key).map(|text| level(key, text)).transpose();
        let mut ask = TopologyAsk {
            required: named(self.required)?,
            preferred: named(self.preferred)?,
            wait_ms: 0,
            slices: self.slices(annotation, min)?,
        };
        if let Some(text) = annotation(self.same) {
            let (name, how) = text.split_once('=').unwrap_or((text, "required"));
            let place = match how {
                "required" => &mut ask.required,
                "preferred" => &mut ask.preferred,
                _ => {
                    let expected = "LEVEL or LEVEL=preferred".to_owned();
                    return Err(contract::malformed(self.same, text, expected));
                }
            };
            if place.replace(level(self.same, name)?).is_some() {
                let expected = format!("nothing, as {} says it too", self.other(how));
                return Err(contract::malformed(self.same, text, expected));
            }
        }
        Ok(ask)
    }

    fn other(&self, how: &str) -> &'static str {
        if how == "preferred" { self.preferred } else { self.required }
    }

    fn slices<'a>(
        &self,
        annotation: &impl Fn(&str) -> Option<&'a str>,
        min: u32,
    ) -> Result<Vec<SliceAsk>, ContractError> {
        let [sizes, levels, apart] = [self.size, self.level, self.apart].map(annotation);
        let refuse = |key, text: Option<&str>, expected| {
            Err(contract::malformed(key, text.unwrap_or_default(), expected))
        };
        if let Some(text) = annotation(self.span) {
            let given = [self.size, self.level, self.apart].into_iter();
            if let Some(key) = given.into_iter().find(|key| annotation(key).is_some()) {
                return refuse(self.span, Some(text), format!("nothing, as {key} is set"));
            }
            let mut slices = Vec::new();
            for term in text.split(',') {
                let Some((name, size)) = term.split_once('=') else {
                    return refuse(self.span, Some(text), "LEVEL=MEMBERS".to_owned());
                };
                slices.push(self.slice(self.span, min, (size, name), true)?);
            }
            slices.sort_by_key(|slice| std::cmp::Reverse(slice.size));
            return self.nested(self.span, text, slices);
        }
        let is_apart = match apart {
            None | Some("false") => false,
            Some("true") => true,
            Some(_) => return refuse(self.apart, apart, "true or false".to_owned()),
        };
        let (Some(sizes), Some(levels)) = (sizes, levels) else {
            return match (sizes, levels) {
                (None, None) if is_apart => {
                    refuse(self.size, None, format!("{} needs it", self.apart))
                }
                (None, None) => Ok(Vec::new()),
                (None, _) => refuse(self.size, None, format!("{} needs it", self.level)),
                (_, None) => refuse(self.level, None, format!("{} needs it", self.size)),
                (Some(_), Some(_)) => unreachable!("both are given"),
            };
        };
        let (count, names) = (sizes.split(',').count(), levels.split(','));
        if names.clone().count() != count {
            return refuse(self.level, Some(levels), format!("{count} levels, one for each size"));
        }
        let slices = sizes.split(',').zip(names);
        let slices = slices.map(|pair| self.slice(self.size, min, pair, is_apart));
        self.nested(self.size, sizes, slices.collect::<Result<_, _>>()?)
    }

    fn slice(
        &self,
        key: &'static str,
        min: u32,
        (size, name): (&str, &str),
        apart: bool,
    ) -> Result<SliceAsk, ContractError> {
        let count = contract::count(key, size, (1, min.max(1)))?;
        if min == 0 || !min.is_multiple_of(count) {
            let is = if min == 0 { "is to be set".to_owned() } else { format!("is {min}") };
            let min = self.min.rsplit('/').next().unwrap_or(self.min);
            let expected = format!("a divisor of {min}, which {is}");
            return Err(contract::malformed(key, size, expected));
        }
        let key = if key == self.size { self.level } else { key };
        Ok(SliceAsk { size: count, level: level(key, name)?, apart })
    }

    /// The slices, if each is cut evenly into those of the next.
    fn nested(
        &self,
        key: &'static str,
        text: &str,
        slices: Vec<SliceAsk>,
    ) -> Result<Vec<SliceAsk>, ContractError> {
        let mut pairs = slices.windows(2);
        if slices.len() > CUTS_MAX || pairs.any(|pair| pair[0].size % pair[1].size != 0) {
            let expected = format!("at most {CUTS_MAX} sizes, each a multiple of the next");
            return Err(contract::malformed(key, text, expected));
        }
        Ok(slices)
    }
}

fn level(key: &'static str, text: &str) -> Result<Box<str>, ContractError> {
    if is_label_key(text) {
        return Ok(text.into());
    }
    let expected = "the key of a node label that is a topology level, or its name".to_owned();
    Err(contract::malformed(key, text, expected))
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

    fn parse_task(min: u32, pairs: &[(&str, &str)]) -> Result<Option<Box<TopologyAsk>>, String> {
        let find = |key: &str| pairs.iter().find(|(k, _)| *k == key).map(|(_, v)| *v);
        let task = Task { name: "ps".into(), min, topology: None };
        let task = find(TASK_GROUP).map(|_| &task);
        let gang = parse(pairs)?;
        parse_task_topology(find, task, gang.as_deref()).map_err(|error| error.to_string())
    }

    fn slice(size: u32, level: &str, apart: bool) -> SliceAsk {
        SliceAsk { size, level: level.into(), apart }
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
        assert_eq!(ask.slices, [slice(4, "nvidia.com/gpu.clique", true)]);
    }

    #[test]
    fn reads_slices_within_slices_and_how_long_a_preference_is_waited_for() {
        let pairs = [(SLICE_SIZE, "8,4,2"), (SLICE_LEVEL, "spine,rack,node")];
        let ask = parse(&pairs).expect("it is well-formed").expect("it asks");
        let nested = [slice(8, "spine", false), slice(4, "rack", false), slice(2, "node", false)];
        assert_eq!(ask.slices, nested);
        let pairs = [(TOPOLOGY_PREFERRED, "rack"), (TOPOLOGY_PREFERRED_WAIT, "1m30s")];
        let ask = parse(&pairs).expect("it is well-formed").expect("it asks");
        assert_eq!(ask.wait_ms, 90_000);
    }

    #[test]
    fn same_and_span_are_other_words_for_levels_and_slices_apart() {
        let pairs = [(SAME, "zone"), (SPAN, "node=2,rack=4")];
        let ask = parse(&pairs).expect("it is well-formed").expect("it asks");
        assert_eq!((ask.required.as_deref(), ask.preferred.as_deref()), (Some("zone"), None));
        assert_eq!(ask.slices, [slice(4, "rack", true), slice(2, "node", true)]);
        let ask = parse(&[(SAME, "rack=preferred")]).expect("it is well-formed").expect("it asks");
        assert_eq!((ask.required.as_deref(), ask.preferred.as_deref()), (None, Some("rack")));
    }

    #[test]
    fn reads_what_a_task_group_asks() {
        let task = (TASK_GROUP, "ps");
        assert_eq!(parse_task(4, &[task, (TOPOLOGY_REQUIRED, "spine")]), Ok(None));
        let pairs = [task, (TASK_TOPOLOGY_REQUIRED, "rack"), (TASK_SPAN, "node=2")];
        let ask = parse_task(4, &pairs).expect("it is well-formed").expect("it asks");
        assert_eq!(ask.required.as_deref(), Some("rack"));
        assert_eq!(ask.slices, [slice(2, "node", true)]);
        for (min, pairs, expected) in [
            (4, &[(TASK_SAME, "rack")][..], "a name, as mss-scheduler.io/task-same is set"),
            (0, &[task, (TASK_SPAN, "node=1")], "a divisor of task-group-min, which is to be set"),
            (4, &[task, (TASK_SPAN, "node=3")], "a divisor of task-group-min, which is 4"),
            (4, &[task, (TASK_SAME, "rack"), (SPAN, "node=1")], "cut into slices as a whole"),
        ] {
            let error = parse_task(min, pairs).expect_err(expected);
            assert!(error.contains(expected), "{error}");
        }
    }

    #[test]
    fn refuses_what_is_malformed_and_says_what_is_right() {
        let cases: [(&[(&str, &str)], &str); 16] = [
            (&[(TOPOLOGY_REQUIRED, "")], "expected the key of a node label"),
            (&[(TOPOLOGY_PREFERRED, "a b")], "expected the key of a node label"),
            (&[(SLICE_SIZE, "4")], "slice-size needs it"),
            (&[(SLICE_LEVEL, "rack")], "slice-level needs it"),
            (&[(SLICES_APART, "true")], "slices-apart needs it"),
            (&[(SLICE_SIZE, "3"), (SLICE_LEVEL, "rack")], "a divisor of min-member, which is 8"),
            (&[(SLICES_APART, "yes")], "expected true or false"),
            (&[(SLICE_SIZE, "4,2"), (SLICE_LEVEL, "rack")], "2 levels, one for each size"),
            (&[(SLICE_SIZE, "2,4"), (SLICE_LEVEL, "a,b")], "each a multiple of the next"),
            (
                &[(SLICE_SIZE, "4"), (SLICE_LEVEL, "a b")],
                "slice-level is \"a b\": expected the key",
            ),
            (&[(TOPOLOGY_PREFERRED_WAIT, "10")], "a time such as 10m"),
            (&[(SAME, "rack=maybe")], "LEVEL or LEVEL=preferred"),
            (&[(SAME, "rack"), (TOPOLOGY_REQUIRED, "rack")], "topology-required says it too"),
            (&[(SPAN, "node")], "expected LEVEL=MEMBERS"),
            (&[(SPAN, "node=3")], "a divisor of min-member, which is 8"),
            (
                &[(SPAN, "node=2"), (SLICE_SIZE, "2")],
                "nothing, as mss-scheduler.io/slice-size is set",
            ),
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
