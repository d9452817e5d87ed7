//! What Kueue and KAI write on pods of topology, so that it need not be written twice.
//!
//! The names are those of kubernetes-sigs/kueue, `apis/kueue/v1beta2/topology_types.go`, and of
//! KAI-Scheduler, `docs/topology` and the defaults of its pod grouper. Both read them of the
//! template of a workload, KAI of the workload itself too; here they are read of the pod.

use super::contract::{
    self, ContractError, MIN_MEMBER, PACK_ID, SLICE_LEVEL, SLICE_SIZE, TASK_GROUP, TASK_GROUP_MIN,
};
use super::topology::{Keys, NONE};

/// Kueue: all pods of the pod set in one domain of the level.
pub const KUEUE_REQUIRED: &str = "kueue.x-k8s.io/podset-required-topology";
/// Kueue: in one domain of the level if one holds the pod set, else in the next larger.
pub const KUEUE_PREFERRED: &str = "kueue.x-k8s.io/podset-preferred-topology";
/// Kueue: `true`: anywhere, which is what is done without any.
pub const KUEUE_UNCONSTRAINED: &str = "kueue.x-k8s.io/podset-unconstrained-topology";
/// Kueue: each slice of the pod set in one domain of the level.
pub const KUEUE_SLICE_LEVEL: &str = "kueue.x-k8s.io/podset-slice-required-topology";
/// Kueue: pods of a slice.
pub const KUEUE_SLICE_SIZE: &str = "kueue.x-k8s.io/podset-slice-size";
/// Kueue: slices of slices, in JSON, which is not read. To ignore what is required would be wrong.
pub const KUEUE_LAYERS: &str = "kueue.x-k8s.io/podset-slice-required-topology-constraints";
/// Kueue: pod sets that are placed as one.
pub const KUEUE_PODSET_GROUP: &str = "kueue.x-k8s.io/podset-group-name";
/// Kueue writes it on pods that it has admitted.
pub const KUEUE_WORKLOAD: &str = "kueue.x-k8s.io/workload";
/// KAI: all pods of the workload in one domain of the level.
pub const KAI_REQUIRED: &str = "kai.scheduler/topology-required-placement";
/// KAI: in one domain of the level if one holds the workload, else in the next larger.
pub const KAI_PREFERRED: &str = "kai.scheduler/topology-preferred-placement";
/// KAI: each segment of the replicas in one domain of the level.
pub const KAI_SEGMENT_LEVEL: &str = "kai.scheduler/segment-topology-required-placement";
/// KAI: pods of a segment.
pub const KAI_SEGMENT_SIZE: &str = "kai.scheduler/segment-size";

/// Every annotation of others that is read, for documentation and its test.
pub const FOREIGN: &[(&str, &str)] = &[
    (KUEUE_REQUIRED, "`topology-required`; of a member of a task group `task-topology-required`"),
    (KUEUE_PREFERRED, "`topology-preferred`; so too"),
    (KUEUE_UNCONSTRAINED, "nothing, beside that neither of the above may be given"),
    (KUEUE_SLICE_LEVEL, "`slice-level`; so too"),
    (KUEUE_SLICE_SIZE, "`slice-size`; so too"),
    (KUEUE_LAYERS, "refused: slices of slices are said by `slice-size: 32,8` and `slice-level`"),
    (KUEUE_PODSET_GROUP, "that what is asked is asked of the gang, not of its task groups"),
    (KUEUE_WORKLOAD, "that Kueue has chosen the domain: all of the above is left to it"),
    (KAI_REQUIRED, "`topology-required`"),
    (KAI_PREFERRED, "`topology-preferred`"),
    (KAI_SEGMENT_LEVEL, "`slice-level`; of a member of a task group `task-slice-level`"),
    (KAI_SEGMENT_SIZE, "`slice-size`; so too"),
];

/// Whether an annotation is one of those that are read.
#[must_use]
pub fn is_read(key: &str) -> bool {
    FOREIGN.iter().any(|(known, _)| *known == key)
}

const KUEUE: Keys = Keys {
    required: KUEUE_REQUIRED,
    preferred: KUEUE_PREFERRED,
    size: KUEUE_SLICE_SIZE,
    level: KUEUE_SLICE_LEVEL,
    min: MIN_MEMBER,
    ..NONE
};
const KUEUE_OF_TASK: Keys = Keys { min: TASK_GROUP_MIN, ..KUEUE };
/// Without segments, and with those of the gang.
const KAI: Keys = Keys { required: KAI_REQUIRED, preferred: KAI_PREFERRED, ..NONE };
const KAI_OF_GANG: Keys =
    Keys { size: KAI_SEGMENT_SIZE, level: KAI_SEGMENT_LEVEL, min: MIN_MEMBER, ..KAI };
/// Segments are those of one kind of replicas, the rest is asked of the workload as a whole.
const KAI_OF_TASK: Keys =
    Keys { size: KAI_SEGMENT_SIZE, level: KAI_SEGMENT_LEVEL, min: TASK_GROUP_MIN, ..NONE };

/// Which of these annotations are read of a pod for its gang, and which for its task group: those
/// of Kueue if it has any, else those of KAI.
///
/// # Errors
/// If a pod set is unconstrained and constrained, or is cut into slices of slices.
pub(super) fn keys<'a>(
    annotation: &impl Fn(&str) -> Option<&'a str>,
) -> Result<[&'static Keys; 2], ContractError> {
    // what shares one GPU is in one domain of each level
    if annotation(PACK_ID).is_some() {
        return Ok([&NONE, &NONE]);
    }
    let in_task = annotation(TASK_GROUP).is_some();
    let (asked, free) = (KUEUE.first(annotation), annotation(KUEUE_UNCONSTRAINED));
    let layers = annotation(KUEUE_LAYERS);
    if asked.is_none() && free.is_none() && layers.is_none() {
        return Ok(match annotation(KAI_SEGMENT_LEVEL) {
            None => [&KAI, &NONE],
            Some(_) if in_task => [&KAI, &KAI_OF_TASK],
            Some(_) => [&KAI_OF_GANG, &NONE],
        });
    }
    if annotation(KUEUE_WORKLOAD).is_some() {
        return Ok([&NONE, &NONE]);
    }
    if let Some(text) = layers {
        let expected = format!("nothing, as it is not read: say it by {SLICE_SIZE}, {SLICE_LEVEL}");
        return Err(contract::malformed(KUEUE_LAYERS, text, expected));
    }
    let given = |key: &&str| annotation(key).is_some();
    let constrained = [KUEUE_REQUIRED, KUEUE_PREFERRED].into_iter().find(given);
    let expected = match (free, constrained) {
        (None | Some("false"), _) | (Some("true"), None) => None,
        (Some("true"), Some(other)) => Some(format!("nothing, as {other} is set")),
        (Some(_), _) => Some("true or false".to_owned()),
    };
    if let Some(expected) = expected {
        return Err(contract::malformed(KUEUE_UNCONSTRAINED, free.unwrap_or_default(), expected));
    }
    let of_task = in_task && annotation(KUEUE_PODSET_GROUP).is_none();
    Ok(if of_task { [&NONE, &KUEUE_OF_TASK] } else { [&KUEUE, &NONE] })
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::model::contract::{SAME, TASK_TOPOLOGY_REQUIRED, TOPOLOGY_PREFERRED_WAIT};
    use crate::model::topology::{parse_task_topology, parse_topology};
    use crate::model::{GroupSpec, Task, TopologyAsk};

    /// What is asked of a gang of 8, and of its task group of 4 if there is one.
    fn parse(pairs: &[(&str, &str)]) -> Result<[Option<TopologyAsk>; 2], String> {
        let find = |key: &str| pairs.iter().find(|(k, _)| *k == key).map(|(_, v)| *v);
        let group = GroupSpec { name: "g".into(), min_member: 8, max_member: None };
        let task = Task { name: "worker".into(), min: 4, topology: None };
        let task = find(TASK_GROUP).map(|_| &task);
        let gang = parse_topology(find, Some(&group)).map_err(|error| error.to_string())?;
        let task = parse_task_topology(find, task, gang.as_deref());
        Ok([gang, task.map_err(|error| error.to_string())?].map(|ask| ask.map(|ask| *ask)))
    }

    /// In short: `required rack, preferred spine, 4 in node`.
    fn said(pairs: &[(&str, &str)]) -> [String; 2] {
        let short = |ask: TopologyAsk| {
            let level = |word: &str, level: Option<Box<str>>| level.map(|l| format!("{word} {l}"));
            let levels = [level("required", ask.required), level("preferred", ask.preferred)];
            let slices = ask.slices.iter().map(|slice| {
                assert!(!slice.apart);
                format!("{} in {}", slice.size, slice.level)
            });
            let wait = (ask.wait_ms > 0).then(|| format!("wait {}", ask.wait_ms));
            let words = levels.into_iter().flatten().chain(slices).chain(wait);
            words.collect::<Vec<_>>().join(", ")
        };
        let asks = parse(pairs).unwrap_or_else(|error| panic!("{pairs:?}: {error}"));
        asks.map(|ask| ask.map(short).unwrap_or_default())
    }

    const TASK: (&str, &str) = (TASK_GROUP, "worker");

    #[test]
    fn what_kueue_asks_of_a_pod_set_is_asked_of_the_gang_or_of_the_task_group() {
        let slices = [(KUEUE_SLICE_LEVEL, "e.com/rack"), (KUEUE_SLICE_SIZE, "4")];
        for (asked, expected) in [
            (&[(KUEUE_REQUIRED, "e.com/block")][..], "required e.com/block"),
            (&[(KUEUE_PREFERRED, "e.com/block")], "preferred e.com/block"),
            (&[(KUEUE_UNCONSTRAINED, "true")], ""),
            (&[(KUEUE_UNCONSTRAINED, "false"), (KUEUE_REQUIRED, "zone")], "required zone"),
            (&slices, "4 in e.com/rack"),
            (&[(KUEUE_REQUIRED, "zone"), slices[0], slices[1]], "required zone, 4 in e.com/rack"),
        ] {
            assert_eq!(said(asked), [expected, ""], "of a gang: {asked:?}");
            let mut of_task = asked.to_vec();
            of_task.push(TASK);
            assert_eq!(said(&of_task), ["", expected], "of a task group: {asked:?}");
            of_task.push((KUEUE_PODSET_GROUP, "both"));
            assert_eq!(said(&of_task), [expected, ""], "of pod sets as one: {asked:?}");
            of_task.push((KUEUE_WORKLOAD, "job-x"));
            of_task.push((KUEUE_LAYERS, "[]"));
            assert_eq!(said(&of_task), ["", ""], "Kueue has chosen: {asked:?}");
        }
    }

    #[test]
    fn what_kai_asks_of_a_workload_is_asked_of_the_gang_and_segments_are_slices() {
        let whole = [(KAI_REQUIRED, "zone"), (KAI_PREFERRED, "rack")];
        assert_eq!(said(&whole), ["required zone, preferred rack", ""]);
        let segments =
            [(KAI_REQUIRED, "zone"), (KAI_SEGMENT_LEVEL, "rack"), (KAI_SEGMENT_SIZE, "2")];
        assert_eq!(said(&segments), ["required zone, 2 in rack", ""]);
        let [a, b, c] = segments;
        assert_eq!(said(&[a, b, c, TASK]), ["required zone", "2 in rack"]);
        assert_eq!(said(&[a, TASK]), ["required zone", ""]);
        assert_eq!(said(&[a, c]), ["required zone", ""], "segments that are only preferred");
    }

    #[test]
    fn ours_win_then_those_of_kueue() {
        let (kueue, kai) = ((KUEUE_REQUIRED, "rack"), (KAI_REQUIRED, "zone"));
        assert_eq!(said(&[kai, kueue]), ["required rack", ""]);
        assert_eq!(said(&[kai, kueue, (SAME, "block")]), ["required block", ""]);
        let of_task = (TASK_TOPOLOGY_REQUIRED, "node");
        assert_eq!(said(&[kai, kueue, TASK, of_task]), ["", "required node"]);
        let wait = (TOPOLOGY_PREFERRED_WAIT, "1m");
        assert_eq!(said(&[(KUEUE_PREFERRED, "rack"), wait]), ["preferred rack, wait 60000", ""]);
        assert_eq!(said(&[kai, kueue, (PACK_ID, "p")]), ["", ""]);
    }

    #[test]
    fn refuses_what_is_malformed_as_it_refuses_ours() {
        for (pairs, expected) in [
            (
                &[(KUEUE_REQUIRED, "a b")][..],
                "podset-required-topology is \"a b\": expected the key",
            ),
            (&[(KUEUE_SLICE_SIZE, "4")], "podset-slice-size needs it"),
            (&[(KUEUE_SLICE_LEVEL, "rack")], "podset-slice-required-topology needs it"),
            (
                &[(KUEUE_SLICE_LEVEL, "rack"), (KUEUE_SLICE_SIZE, "3")],
                "podset-slice-size is \"3\": expected a divisor of min-member, which is 8",
            ),
            (
                &[TASK, (KUEUE_SLICE_LEVEL, "rack"), (KUEUE_SLICE_SIZE, "3")],
                "podset-slice-size is \"3\": expected a divisor of task-group-min, which is 4",
            ),
            (
                &[(KUEUE_UNCONSTRAINED, "yes")],
                "podset-unconstrained-topology is \"yes\": expected true",
            ),
            (
                &[(KUEUE_UNCONSTRAINED, "true"), (KUEUE_PREFERRED, "rack")],
                "nothing, as kueue.x-k8s.io/podset-preferred-topology is set",
            ),
            (
                &[(KUEUE_LAYERS, "[]"), (KUEUE_REQUIRED, "rack")],
                "say it by mss-scheduler.io/slice-size",
            ),
            (&[(KAI_REQUIRED, "")], "topology-required-placement is \"\": expected the key"),
            (&[(KAI_SEGMENT_LEVEL, "rack")], "segment-topology-required-placement needs it"),
        ] {
            let error = parse(pairs).expect_err(expected);
            assert!(error.contains(expected), "{error}");
        }
        let lone = |key: &str| (key == KUEUE_REQUIRED).then_some("rack");
        let error = parse_topology(lone, None).expect_err("no gang").to_string();
        let expected = "a group name, as kueue.x-k8s.io/podset-required-topology is set";
        assert!(error.ends_with(expected), "{error}");
    }
}
