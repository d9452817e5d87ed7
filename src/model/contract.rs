//! The annotation contract: what users write on pods, and what is refused.

use super::TopologyAsk;
use std::fmt;

/// API group of the kinds of this scheduler, and prefix of its annotations.
pub const GROUP: &str = "mss-scheduler.io";
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
/// Annotation: what the member is to its gang. The only role is [`HEADER`].
pub const ROLE: &str = "mss-scheduler.io/role";
/// The [`ROLE`] of the member without which the others are worth nothing.
pub const HEADER: &str = "header";
/// Annotation: the part of its gang to which the member belongs.
pub const TASK_GROUP: &str = "mss-scheduler.io/task-group";
/// Annotation: how many members of its [`TASK_GROUP`] must be placed before any of the gang is
/// bound; 1 to the configured limit. Absent: the part has no minimum of its own.
pub const TASK_GROUP_MIN: &str = "mss-scheduler.io/task-group-min";

/// Annotation: a topology level, by its node label or its name: all members are placed in one
/// domain of it, or the gang waits.
pub const TOPOLOGY_REQUIRED: &str = "mss-scheduler.io/topology-required";
/// Annotation: the topology level of which one domain should hold the gang; if none does it goes to
/// the next larger one that does, and does not wait.
pub const TOPOLOGY_PREFERRED: &str = "mss-scheduler.io/topology-preferred";
/// Annotation: so long, from its creation on, a gang waits for what it prefers.
pub const TOPOLOGY_PREFERRED_WAIT: &str = "mss-scheduler.io/topology-preferred-wait";
/// Annotation: members of a slice, a divisor of [`MIN_MEMBER`]; required with [`SLICE_LEVEL`].
/// Several, the largest first, for slices that are cut again.
pub const SLICE_SIZE: &str = "mss-scheduler.io/slice-size";
/// Annotation: the topology level of which one domain holds a whole slice; as many as there are
/// sizes.
pub const SLICE_LEVEL: &str = "mss-scheduler.io/slice-level";
/// Annotation: `"true"`: no domain of a [`SLICE_LEVEL`] holds two slices, so that the gang spans
/// domains with exactly [`SLICE_SIZE`] members in each.
pub const SLICES_APART: &str = "mss-scheduler.io/slices-apart";
/// Annotation: `LEVEL` or `LEVEL=preferred`, as `sameTerm` of LSF's `ParallelJob`: another way to
/// write [`TOPOLOGY_REQUIRED`] or [`TOPOLOGY_PREFERRED`].
pub const SAME: &str = "mss-scheduler.io/same";
/// Annotation: `LEVEL=MEMBERS`, several with commas between, as `spanTerms` of LSF's `ParallelJob`:
/// another way to write slices that are apart.
pub const SPAN: &str = "mss-scheduler.io/span";
/// Annotation: [`TOPOLOGY_REQUIRED`] for the members of a task group.
pub const TASK_TOPOLOGY_REQUIRED: &str = "mss-scheduler.io/task-topology-required";
/// Annotation: [`TOPOLOGY_PREFERRED`] for the members of a task group.
pub const TASK_TOPOLOGY_PREFERRED: &str = "mss-scheduler.io/task-topology-preferred";
/// Annotation: [`SLICE_SIZE`] for the members of a task group, a divisor of [`TASK_GROUP_MIN`].
pub const TASK_SLICE_SIZE: &str = "mss-scheduler.io/task-slice-size";
/// Annotation: [`SLICE_LEVEL`] for the members of a task group.
pub const TASK_SLICE_LEVEL: &str = "mss-scheduler.io/task-slice-level";
/// Annotation: [`SLICES_APART`] for the members of a task group.
pub const TASK_SLICES_APART: &str = "mss-scheduler.io/task-slices-apart";
/// Annotation: [`SAME`] for the members of a task group.
pub const TASK_SAME: &str = "mss-scheduler.io/task-same";
/// Annotation: [`SPAN`] for the members of a task group.
pub const TASK_SPAN: &str = "mss-scheduler.io/task-span";
/// Annotation: the rank of the member in its gang; neighbours in rank are placed as neighbours.
/// Absent: the index that a Job, StatefulSet, training operator or LeaderWorkerSet wrote as label.
pub const RANK: &str = "mss-scheduler.io/rank";

/// Annotation: `"false"` for a gang that must never be evicted. It is placed only within the
/// guarantees of its queue and all above.
pub const PREEMPTIBLE: &str = "mss-scheduler.io/preemptible";
/// Annotation: how dear the gang is to interrupt among those of equal priority, -1000 to 0; the
/// lowest goes first. MSS's `ReclaimRank`, but that no gang can say it is dearer than others.
pub const RECLAIM_RANK: &str = "mss-scheduler.io/reclaim-rank";
/// Annotation: when the gang last saved its work, RFC 3339. What cannot be read is ignored, as it
/// is written while the gang runs.
pub const CHECKPOINT_AT: &str = "mss-scheduler.io/checkpoint-at";
/// Annotation: the user who created the pod, stamped at admission. It is read only where the
/// configuration says that it is stamped; otherwise, and where it is absent, the user of a pod is
/// its namespace.
pub const USER: &str = "mss-scheduler.io/user";
/// Annotation, written and not read: when a pod that was given notice is evicted.
pub const EVICT_AT: &str = "mss-scheduler.io/evict-at";
/// Reason of the condition `DisruptionTarget=True` of a victim; upstream
/// `PodReasonPreemptionByScheduler`.
pub const PREEMPTION: &str = "PreemptionByScheduler";

/// Annotation: what the GPUs must be, in LSF's words; see [`super::gpu_request`].
pub const GPU_REQUEST: &str = "mss-scheduler.io/gpu-request";
/// Annotation: a part of a shared GPU, in thousandths; 1000 is a whole one. See
/// [`super::gpu_part`].
pub const GPU_FRACTION: &str = "mss-scheduler.io/gpu-fraction";
/// Annotation: a part of a shared GPU, by its memory.
pub const GPU_MEMORY: &str = "mss-scheduler.io/gpu-memory";
/// Annotation: how many shared GPUs, if they are whole ones. Absent: 1.
pub const GPU_COUNT: &str = "mss-scheduler.io/gpu-count";
/// Annotation: the pods with this name share one GPU. It is the name of a group of its own kind, in
/// which [`MIN_MEMBER`] may be absent: then it is 1.
pub const PACK_ID: &str = "mss-scheduler.io/pack-id";
/// Label of a pod that owns GPUs so that they can be shared; it counts in namespaces that the
/// configuration names.
pub const GPU_HOLDER: &str = "mss-scheduler.io/gpu-holder";
/// Annotation of a node: how its GPUs are joined; see [`super::gpu_topology`] for the text.
pub const GPU_TOPOLOGY: &str = "mss-scheduler.io/gpu-topology";
/// Annotation, written when the pod is bound and read back: the indexes of the GPUs chosen for it.
pub const GPU_DEVICES: &str = "mss-scheduler.io/gpu-devices";

/// Annotation of a node: the most pods of this scheduler without a GPU that run there at once.
pub const CPU_SLOTS: &str = "mss-scheduler.io/cpu-slots";
/// Annotation of a node: the most pods of this scheduler with GPUs that run there at once.
pub const GPU_SLOTS: &str = "mss-scheduler.io/gpu-slots";

/// Slots of nodes, which are resources of these names.
pub const SLOTS: [&str; 2] = [CPU_SLOTS, GPU_SLOTS];

/// Key of a toleration: such pods are placed on nodes in quarantine too.
pub const QUARANTINE: &str = "mss-scheduler.io/quarantine";

/// Every annotation this scheduler reads, for documentation and its test.
pub const ANNOTATIONS: &[(&str, &str)] = &[
    (POD_GROUP, "name of the pod group (gang) the pod belongs to, within its namespace"),
    (MIN_MEMBER, "members that must be placed before any is bound; required with the group name"),
    (MAX_MEMBER, "the most members that are placed, at least min-member; absent: all that exist"),
    (
        QUEUE,
        "the queue, one of those that name the namespace; also read as a label, which it beats",
    ),
    (ROLE, "`header`: the member of the gang without which the others are worth nothing"),
    (TASK_GROUP, "name of the part of the gang to which the member belongs, such as `worker`"),
    (TASK_GROUP_MIN, "members of that part that must be placed too before any is bound"),
    (TOPOLOGY_REQUIRED, "a topology level: all members in one domain of it, or the gang waits"),
    (
        TOPOLOGY_PREFERRED,
        "a topology level: in one domain of it if one holds the gang, else in the next larger",
    ),
    (
        TOPOLOGY_PREFERRED_WAIT,
        "a time as `10m`: so long, from its creation on, the gang waits for what it prefers",
    ),
    (SLICE_SIZE, "members of a slice of the gang, a divisor of min-member; `32,8`: cut twice"),
    (SLICE_LEVEL, "the topology level of which one domain holds a whole slice; for each size one"),
    (
        SLICES_APART,
        "`true`: no domain of slice-level holds two slices; so each used has just slice-size",
    ),
    (SAME, "`LEVEL` or `LEVEL=preferred`: as topology-required, topology-preferred"),
    (SPAN, "`LEVEL=MEMBERS`: just so many members in each domain that is used: slices apart"),
    (TASK_TOPOLOGY_REQUIRED, "topology-required for the members of a task group"),
    (TASK_TOPOLOGY_PREFERRED, "topology-preferred for the members of a task group"),
    (TASK_SLICE_SIZE, "slice-size for the members of a task group, a divisor of task-group-min"),
    (TASK_SLICE_LEVEL, "slice-level for the members of a task group"),
    (TASK_SLICES_APART, "slices-apart for the members of a task group"),
    (TASK_SAME, "same for the members of a task group"),
    (TASK_SPAN, "span for the members of a task group"),
    (
        RANK,
        "rank of the member in its gang, so that neighbours are placed near; else its index label",
    ),
    (
        PREEMPTIBLE,
        "`false`: never evicted, and so placed only within guarantees of the queue; else `true`",
    ),
    (
        RECLAIM_RANK,
        "-1000 to 0: of gangs of equal priority those of the lowest are evicted first; absent: 0",
    ),
    (
        USER,
        "with `queues.users: Stamped`: the user, written by the admission policy, not by the user",
    ),
    (
        CHECKPOINT_AT,
        "when the gang last saved its work, as in RFC 3339: of equals who lost least goes first",
    ),
    (GPU_REQUEST, "what the GPUs of the pod's node must be, in the words of LSF's `bsub -gpu`"),
    (GPU_FRACTION, "a part of a GPU that is shared, in thousandths, 1 to 1000"),
    (GPU_MEMORY, "a part of a GPU that is shared, by its memory, as `8Gi`"),
    (GPU_COUNT, "how many shared GPUs; above 1 only with gpu-fraction 1000"),
    (PACK_ID, "name of a pack: its pods, each with a part of a GPU, share one GPU"),
    (
        GPU_TOPOLOGY,
        "on a node: how its GPUs are joined, as `mss-scheduler node-topology` writes it",
    ),
    (CPU_SLOTS, "on a node: the most pods without a GPU that run there at once; absent: no bound"),
    (GPU_SLOTS, "on a node: the most pods with GPUs that run there at once; absent: no bound"),
];

/// Every annotation this scheduler writes, for documentation.
pub const WRITTEN: &[(&str, &str)] = &[
    (EVICT_AT, "when the pod, which was given notice, is evicted; a time as in RFC 3339"),
    (GPU_DEVICES, "which GPUs of its node the pod was given, by index: `0,3`; read back"),
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
    /// The most members that are placed; at least [`Self::min_member`]. `None`: all that exist.
    pub max_member: Option<u32>,
}

/// The part of a gang to which a pod belongs.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Task {
    /// Its name within the gang.
    pub name: Box<str>,
    /// Members of it that must run together; 0: no minimum of its own.
    pub min: u32,
    /// What its members ask of the topology, beside what their gang asks.
    pub topology: Option<Box<TopologyAsk>>,
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
        /// What to do instead.
        instead: &'static str,
    },
    /// The pod names a claim that this scheduler does not honour.
    Claim(Box<str>),
    /// The pod names a claim that is waited for: nothing is wrong with the pod.
    ClaimAwaited(Box<str>),
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
            Self::Claim(_) => "claim",
            Self::ClaimAwaited(_) => "claim_awaited",
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
            Self::Unsupported { field, instead } => {
                write!(f, "{field} is not honoured by this scheduler: {instead}")
            }
            Self::Claim(problem) | Self::ClaimAwaited(problem) => f.write_str(problem),
            Self::Oversize { bytes, limit } => {
                write!(f, "scheduling annotations have {bytes} bytes: at most {limit} are read")
            }
        }
    }
}

/// Reads the group annotations. `members_max` bounds minimum and maximum; `annotation` looks a key
/// up.
///
/// # Errors
/// The first annotation that is malformed, missing its partner, or out of bounds.
pub fn parse_group<'a>(
    annotation: impl Fn(&str) -> Option<&'a str>,
    members_max: u32,
) -> Result<Option<GroupSpec>, ContractError> {
    if let Some(pack) = annotation(PACK_ID) {
        return parse_pack(pack, annotation, members_max).map(Some);
    }
    let Some(name) = annotation(POD_GROUP) else {
        return match [MIN_MEMBER, MAX_MEMBER].into_iter().find(|key| annotation(key).is_some()) {
            None => Ok(None),
            Some(key) => Err(needs_group(key)),
        };
    };
    if !is_object_name(name) {
        return Err(malformed(POD_GROUP, name, NAME_EXPECTED.to_owned()));
    }
    let count = |key, text: &str, least: u32| count(key, text, (least, members_max));
    let min_member = count(MIN_MEMBER, annotation(MIN_MEMBER).unwrap_or_default(), 1)?;
    let max_member = annotation(MAX_MEMBER).map(|text| count(MAX_MEMBER, text, min_member));
    Ok(Some(GroupSpec { name: name.into(), min_member, max_member: max_member.transpose()? }))
}

/// A pack is a group of its own kind: no group of another kind has a colon in its name.
fn parse_pack<'a>(
    pack: &str,
    annotation: impl Fn(&str) -> Option<&'a str>,
    members_max: u32,
) -> Result<GroupSpec, ContractError> {
    if !is_object_name(pack) {
        return Err(malformed(PACK_ID, pack, NAME_EXPECTED.to_owned()));
    }
    let others = [POD_GROUP, MAX_MEMBER, TASK_GROUP, ROLE, TOPOLOGY_REQUIRED, TOPOLOGY_PREFERRED];
    if let Some(other) = others.into_iter().find(|key| annotation(key).is_some()) {
        return Err(malformed(PACK_ID, pack, format!("nothing, as {other} is set")));
    }
    let min = annotation(MIN_MEMBER).map_or(Ok(1), |n| count(MIN_MEMBER, n, (1, members_max)))?;
    Ok(GroupSpec { name: format!("pack:{pack}").into(), min_member: min, max_member: None })
}

/// Reads the part of its gang to which a pod belongs. `members_max` bounds its minimum.
///
/// # Errors
/// If an annotation is malformed, missing its partner, or out of bounds.
pub fn parse_task<'a>(
    annotation: impl Fn(&str) -> Option<&'a str>,
    members_max: u32,
) -> Result<Option<Task>, ContractError> {
    let (name, min) = (annotation(TASK_GROUP), annotation(TASK_GROUP_MIN));
    let Some(name) = name else {
        let expected = || format!("a name, as {TASK_GROUP_MIN} is set");
        return min.map_or(Ok(None), |_| Err(malformed(TASK_GROUP, "", expected())));
    };
    if annotation(POD_GROUP).is_none() {
        return Err(needs_group(TASK_GROUP));
    }
    if !is_object_name(name) {
        return Err(malformed(TASK_GROUP, name, NAME_EXPECTED.to_owned()));
    }
    let min = min.map_or(Ok(0), |text| count(TASK_GROUP_MIN, text, (1, members_max)))?;
    Ok(Some(Task { name: name.into(), min, topology: None }))
}

/// Reads the queue's name from the annotation or, where that is absent, the label.
///
/// # Errors
/// If it is no name.
pub fn parse_queue(
    annotation: Option<&str>,
    label: Option<&str>,
) -> Result<Option<Box<str>>, ContractError> {
    let Some(name) = annotation.or(label) else { return Ok(None) };
    if is_object_name(name) {
        return Ok(Some(name.into()));
    }
    Err(malformed(QUEUE, name, NAME_EXPECTED.to_owned()))
}

/// Whether the pod is the header of its gang.
///
/// # Errors
/// If the role is unknown, or given outside of a gang.
pub fn parse_header<'a>(
    annotation: impl Fn(&str) -> Option<&'a str>,
) -> Result<bool, ContractError> {
    match annotation(ROLE) {
        None => Ok(false),
        Some(role) if role != HEADER => Err(malformed(ROLE, role, format!("{HEADER:?}"))),
        Some(_) if annotation(POD_GROUP).is_none() => Err(needs_group(ROLE)),
        Some(_) => Ok(true),
    }
}

/// Whether the pod must never be evicted.
///
/// # Errors
/// If the annotation is neither `true` nor `false`.
pub fn parse_non_preemptible(annotation: Option<&str>) -> Result<bool, ContractError> {
    match annotation {
        None | Some("true") => Ok(false),
        Some("false") => Ok(true),
        Some(text) => Err(malformed(PREEMPTIBLE, text, "true or false".to_owned())),
    }
}

/// How dear the gang is to interrupt.
///
/// # Errors
/// If the annotation is no whole number from -1000 to 0.
pub fn parse_reclaim_rank(annotation: Option<&str>) -> Result<i16, ContractError> {
    let Some(text) = annotation else { return Ok(0) };
    let rank = text.parse::<i16>().ok().filter(|rank| (-1000..=0).contains(rank));
    let expected = || "a whole number from -1000 to 0".to_owned();
    rank.ok_or_else(|| malformed(RECLAIM_RANK, text, expected()))
}

const NAME_EXPECTED: &str = "a name of lower-case letters, digits, '-' and '.'";

pub(super) fn malformed(key: &'static str, found: &str, expected: String) -> ContractError {
    ContractError::Annotation { key, found: cut(found), expected: expected.into() }
}

pub(super) fn needs_group(key: &str) -> ContractError {
    malformed(POD_GROUP, "", format!("a group name, as {key} is set"))
}

pub(super) fn count(
    key: &'static str,
    text: &str,
    (least, most): (u32, u32),
) -> Result<u32, ContractError> {
    let in_bounds = parse_count(text).filter(|count| (least..=most).contains(count));
    in_bounds.ok_or_else(|| malformed(key, text, format!("a whole number from {least} to {most}")))
}

/// Plain digits only: `+4`, `4.0` and ` 4` are refused, so that one text has one meaning.
pub(super) fn parse_count(text: &str) -> Option<u32> {
    let digits = !text.is_empty() && text.bytes().all(|b| b.is_ascii_digit());
    if digits { text.parse().ok() } else { None }
}

/// Whether an object of the API may be named so: a DNS-1123 subdomain.
#[must_use]
pub fn is_object_name(name: &str) -> bool {
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

    fn llama(min_member: u32, max_member: Option<u32>) -> GroupSpec {
        GroupSpec { name: "llama-ft".into(), min_member, max_member }
    }

    #[test]
    fn reads_a_group() {
        let group = parse(&[(POD_GROUP, "llama-ft"), (MIN_MEMBER, "4")]);
        assert_eq!(group, Ok(Some(llama(4, None))));
        for max in [4, 7, 100] {
            let text = max.to_string();
            let group = parse(&[(POD_GROUP, "llama-ft"), (MIN_MEMBER, "4"), (MAX_MEMBER, &text)]);
            assert_eq!(group, Ok(Some(llama(4, Some(max)))));
        }
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
    #[test]
    fn refuses_a_maximum_below_the_minimum_or_above_the_limit() {
        for max in ["0", "3", "101", "", "all", "4.5", "-1"] {
            let error = parse(&[(POD_GROUP, "g"), (MIN_MEMBER, "4"), (MAX_MEMBER, max)]);
            let expected = format!(
                "annotation mss-scheduler.io/max-member is {max:?}: \
                 expected a whole number from 4 to 100"
            );
            assert_eq!(error, Err(expected));
        }
        let error = parse(&[(MAX_MEMBER, "4")]).expect_err("a maximum of nothing");
        assert!(error.ends_with("a group name, as mss-scheduler.io/max-member is set"), "{error}");
    }

    #[test]
    fn the_queue_of_the_annotation_beats_that_of_the_label() {
        let read = |annotation, label| parse_queue(annotation, label).map_err(|e| e.to_string());
        assert_eq!(read(None, None), Ok(None));
        assert_eq!(read(None, Some("team-a")), Ok(Some("team-a".into())));
        assert_eq!(read(Some("team-b"), Some("team-a")), Ok(Some("team-b".into())));
        assert_eq!(read(Some("team-b"), Some("No Name")), Ok(Some("team-b".into())));
        for (annotation, label) in [(Some(""), Some("team-a")), (None, Some("Team"))] {
            let error = read(annotation, label).expect_err("no name");
            assert!(error.contains("mss-scheduler.io/queue") && error.contains("a name of lower"));
        }
    }

    #[test]
    fn a_task_group_is_a_name_and_a_minimum() {
        let read = |pairs: &[(&str, &'static str)]| {
            let find = |key: &str| pairs.iter().find(|(k, _)| *k == key).map(|(_, v)| *v);
            parse_task(find, 100).map_err(|e| e.to_string())
        };
        let gang = (POD_GROUP, "g");
        let task = |min| Ok(Some(Task { name: "ps".into(), min, topology: None }));
        assert_eq!(read(&[gang]), Ok(None));
        assert_eq!(read(&[gang, (TASK_GROUP, "ps")]), task(0));
        assert_eq!(read(&[gang, (TASK_GROUP, "ps"), (TASK_GROUP_MIN, "2")]), task(2));
        for (pairs, found) in [
            (&[(TASK_GROUP, "ps")][..], "a group name, as mss-scheduler.io/task-group is set"),
            (&[gang, (TASK_GROUP_MIN, "1")], "a name, as mss-scheduler.io/task-group-min is set"),
            (&[gang, (TASK_GROUP, "P S")], "a name of lower-case letters"),
            (&[gang, (TASK_GROUP, "ps"), (TASK_GROUP_MIN, "0")], "from 1 to 100"),
            (&[gang, (TASK_GROUP, "ps"), (TASK_GROUP_MIN, "101")], "from 1 to 100"),
        ] {
            let error = read(pairs).expect_err(found);
            assert!(error.contains(found), "{error}");
        }
    }

    #[test]
    fn a_role_is_header_and_of_a_gang() {
        let read = |pairs: &[(&str, &'static str)]| {
            let find = |key: &str| pairs.iter().find(|(k, _)| *k == key).map(|(_, v)| *v);
            parse_header(find).map_err(|e| e.to_string())
        };
        assert_eq!(read(&[]), Ok(false));
        assert_eq!(read(&[(POD_GROUP, "g")]), Ok(false));
        assert_eq!(read(&[(POD_GROUP, "g"), (ROLE, "header")]), Ok(true));
        let error = read(&[(POD_GROUP, "g"), (ROLE, "leader")]).expect_err("no such role");
        let expected = "annotation mss-scheduler.io/role is \"leader\": expected \"header\"";
        assert_eq!(error, expected);
        let error = read(&[(ROLE, "header")]).expect_err("the header of nothing");
        assert!(error.ends_with("a group name, as mss-scheduler.io/role is set"), "{error}");
    }
}
