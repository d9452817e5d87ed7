//! Levels that `Topology` objects of Kueue and of KAI name, beside those that are known.

use super::Optional;
use crate::cluster::HOST_LEVEL;
use crate::model::Level;
use crate::model::topology::is_label_key;
use serde_json::Value;
use std::collections::BTreeMap;

/// The level before which others go of which nothing is known: an NVLink domain is rarely larger
/// than a rack.
const INNERMOST: &str = "nvidia.com/gpu.clique";
/// Most levels of the tree. Further ones are left out.
pub const LEVELS_MAX: usize = 32;

/// The kinds `Topology`; where two of their objects disagree the first kind stands.
pub const SOURCES: [Optional; 2] = [
    Optional {
        group: "kueue.x-k8s.io",
        versions: &["v1beta2", "v1beta1", "v1alpha1"],
        kind: "Topology",
        plural: "topologies",
    },
    Optional {
        group: "kai.scheduler",
        versions: &["v1", "v1alpha1"],
        kind: "Topology",
        plural: "topologies",
    },
];

/// What objects of [`SOURCES`] say, by the place of their kind and their name, which is the order
/// in which they count.
pub type Named = BTreeMap<(usize, String), Vec<Level>>;

/// What objects say that have their `apiVersion`, as those of a file; others are left out.
#[must_use]
pub fn named(objects: &[Value]) -> Named {
    let entry = |object: &Value| {
        let source = SOURCES.iter().position(|source| source.is_of(object))?;
        let name = object["metadata"]["name"].as_str().unwrap_or_default();
        Some(((source, name.to_owned()), levels(object)))
    };
    objects.iter().filter_map(entry).collect()
}

/// The levels of an object, the outermost first: both kinds have labels in `spec.levels`, and KAI's
/// may say what a level is called. What is no label is left out.
#[must_use]
pub fn levels(object: &Value) -> Vec<Level> {
    let listed = object["spec"]["levels"].as_array().map_or(&[][..], Vec::as_slice);
    let level = |item: &Value| {
        let label = item["nodeLabel"].as_str().filter(|label| is_label_key(label))?;
        let level = Level::from(label);
        let alias = item["alias"].as_str().filter(|alias| is_label_key(alias));
        Some(Level { name: alias.map_or(level.name, Into::into), ..level })
    };
    listed.iter().filter_map(level).filter(|level| *level.label != *HOST_LEVEL).collect()
}

/// The levels that are known and those of objects among them: right below the level that an object
/// has above, else right above the one that it has below, else above NVLink domains. Where an
/// object has another order than what is known, that stands.
#[must_use]
pub fn merged<'a>(known: &[Level], objects: impl Iterator<Item = &'a [Level]>) -> Vec<Level> {
    let mut merged = known.to_vec();
    for levels in objects {
        let mut after: Option<usize> = None;
        for (at, level) in levels.iter().enumerate() {
            let place = |label: &str| merged.iter().position(|known| *known.label == *label);
            if let Some(found) = place(&level.label) {
                after = after.max(Some(found));
            } else if merged.len() < LEVELS_MAX {
                let below = || levels[at..].iter().find_map(|below| place(&below.label));
                let above_it = after.map(|above| above + 1).or_else(below);
                let new = above_it.or_else(|| place(INNERMOST)).unwrap_or(merged.len());
                merged.insert(new, level.clone());
                after = Some(new);
            }
        }
    }
    merged
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    fn list(labels: &[&str]) -> Vec<Level> {
        labels.iter().map(|label| Level::from(*label)).collect()
    }

    #[test]
    fn levels_of_objects_are_labels_and_may_have_names() {
        let object = json!({ "spec": { "levels": [
            { "nodeLabel": "cloud.example.com/block" },
            { "nodeLabel": "cloud.example.com/tor", "alias": "rack" },
            { "nodeLabel": "no label" },
            { "nodeLabel": "kubernetes.io/hostname" },
        ] } });
        let found = levels(&object);
        let found: Vec<_> = found.iter().map(|level| (&*level.label, &*level.name)).collect();
        let expected = [("cloud.example.com/block", "block"), ("cloud.example.com/tor", "rack")];
        assert_eq!(found, expected);
        assert!(levels(&json!({ "spec": { "levels": 3 } })).is_empty());
    }

    #[test]
    fn objects_count_in_the_order_of_their_kinds_and_names() {
        let object = |version: &str, name: &str, label: &str| {
            json!({ "apiVersion": version, "kind": "Topology", "metadata": { "name": name },
                "spec": { "levels": [{ "nodeLabel": label }] } })
        };
        let found = named(&[
            object("kai.scheduler/v1", "a", "x"),
            object("kueue.x-k8s.io/v1alpha1", "b", "y"),
            object("kueue.x-k8s.io/v2", "a", "z"),
            object("example.com/v1", "a", "w"),
        ]);
        let found: Vec<&str> = found.values().map(|levels| &*levels[0].label).collect();
        assert_eq!(found, ["z", "y", "x"]);
    }

    #[test]
    fn what_is_known_keeps_its_order_and_others_go_between() {
        let known = ["zone", "spine", INNERMOST];
        for (object, expected) in [
            (&["block", "rack"][..], &["zone", "spine", "block", "rack", INNERMOST][..]),
            (&["zone", "block", "rack"], &["zone", "block", "rack", "spine", INNERMOST]),
            (&["hall", "zone"], &["hall", "zone", "spine", INNERMOST]),
            (&[INNERMOST, "tray"], &["zone", "spine", INNERMOST, "tray"]),
            (&["spine", "zone", "row"], &["zone", "spine", "row", INNERMOST]),
        ] {
            let object = list(object);
            let found = merged(&list(&known), [&*object].into_iter());
            assert_eq!(found, list(expected), "{object:?}");
        }
        let (one, other) = (list(&["block", "rack"]), list(&["block", "row", "rack"]));
        let found = merged(&[], [&*one, &*other].into_iter());
        assert_eq!(found, list(&["block", "row", "rack"]));
        let many: Vec<String> = (0..100).map(|at| format!("l{at}")).collect();
        let many: Vec<Level> = many.iter().map(|label| Level::from(&**label)).collect();
        assert_eq!(merged(&list(&known), [&*many].into_iter()).len(), LEVELS_MAX);
    }
}
