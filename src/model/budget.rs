//! Disruption budgets: how many of some pods may be evicted.

use super::Requirement;

/// A `PodDisruptionBudget`, as far as evictions are concerned.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Budget {
    /// `metadata.namespace`.
    pub namespace: Box<str>,
    /// `metadata.name`.
    pub name: Box<str>,
    /// What it protects: pods of its namespace for which all of these hold; `None`: no pod.
    pub selector: Option<Vec<Requirement>>,
    /// How many of them may be evicted now.
    pub allowed: u32,
}

impl Budget {
    /// Whether it protects a pod with such labels in its namespace.
    #[must_use]
    pub fn protects(&self, labels: &Labels) -> bool {
        let selector = self.selector.as_ref();
        selector.is_some_and(|all| all.iter().all(|one| one.matches(labels.get(&one.key))))
    }
}

/// Labels of a pod, in one piece of text: there are many pods.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Labels(Box<str>);

impl Labels {
    /// Of keys and values; neither has a line break, and a key no equals sign.
    #[must_use]
    pub fn new<'a>(pairs: impl Iterator<Item = (&'a str, &'a str)>) -> Self {
        let lines: String = pairs.map(|(key, value)| format!("{key}={value}\n")).collect();
        Self(lines.into())
    }

    /// The value of a key. O(labels).
    #[must_use]
    pub fn get(&self, key: &str) -> Option<&str> {
        self.0.lines().find_map(|line| line.strip_prefix(key)?.strip_prefix('='))
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::model::Operator;

    #[test]
    fn labels_are_found_by_their_whole_key() {
        let labels = Labels::new([("app", "a"), ("app.x", "b=c"), ("empty", "")].into_iter());
        assert_eq!(labels.get("app"), Some("a"));
        assert_eq!(labels.get("app.x"), Some("b=c"));
        assert_eq!(labels.get("empty"), Some(""));
        assert_eq!((labels.get("ap"), labels.get("a"), labels.get("")), (None, None, None));
    }

    #[test]
    fn a_budget_protects_what_its_whole_selector_matches() {
        let requirement = |key: &str, operator, values: &[&str]| Requirement {
            key: key.into(),
            operator,
            values: values.iter().map(|value| (*value).into()).collect(),
        };
        let labels = Labels::new([("app", "a"), ("tier", "x")].into_iter());
        let protects = |selector| Budget { selector, ..Budget::default() }.protects(&labels);
        assert!(!protects(None), "no selector selects nothing");
        assert!(protects(Some(Vec::new())), "an empty one selects all");
        let app = requirement("app", Operator::In, &["a", "b"]);
        assert!(protects(Some(vec![app.clone()])));
        assert!(!protects(Some(vec![app, requirement("tier", Operator::NotIn, &["x"])])));
        assert!(protects(Some(vec![requirement("other", Operator::NotIn, &["x"])])));
    }
}
