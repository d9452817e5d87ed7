//! Node selectors: the requirement language of node affinity.

use super::Node;

/// One term: all requirements must hold. An empty term matches no node, as upstream.
#[derive(Clone, Debug, Default, PartialEq, Eq, Hash)]
pub struct NodeSelectorTerm {
    /// `matchExpressions`, over labels.
    pub expressions: Vec<Requirement>,
    /// `matchFields`; the only field is `metadata.name`.
    pub fields: Vec<Requirement>,
}

impl NodeSelectorTerm {
    /// Whether the node satisfies the term.
    #[must_use]
    pub fn matches(&self, node: &Node) -> bool {
        let empty = self.expressions.is_empty() && self.fields.is_empty();
        !empty
            && self.expressions.iter().all(|r| r.matches(node.label(&r.key)))
            && self.fields.iter().all(|r| {
                let value = (&*r.key == "metadata.name").then_some(&*node.name);
                r.matches(value)
            })
    }
}

/// `key operator values`.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub struct Requirement {
    /// Label key or field path.
    pub key: Box<str>,
    /// How the values relate.
    pub operator: Operator,
    /// Values; exactly one integer for `Gt` and `Lt`.
    pub values: Vec<Box<str>>,
}

/// Operator of a requirement.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Operator {
    /// The value is one of the values.
    In,
    /// The key is absent or the value is none of the values.
    NotIn,
    /// The key is present.
    Exists,
    /// The key is absent.
    DoesNotExist,
    /// The value is an integer above the one given.
    Gt,
    /// The value is an integer below the one given.
    Lt,
}

impl Requirement {
    /// Whether a value (absent: `None`) satisfies the requirement; upstream
    /// `labels.Requirement.Matches`.
    #[must_use]
    pub fn matches(&self, value: Option<&str>) -> bool {
        let contains = |value: &str| self.values.iter().any(|v| &**v == value);
        match self.operator {
            Operator::In => value.is_some_and(contains),
            Operator::NotIn => !value.is_some_and(contains),
            Operator::Exists => value.is_some(),
            Operator::DoesNotExist => value.is_none(),
            Operator::Gt => self.compare(value, |found, bound| found > bound),
            Operator::Lt => self.compare(value, |found, bound| found < bound),
        }
    }

    fn compare(&self, value: Option<&str>, holds: impl Fn(i64, i64) -> bool) -> bool {
        let found = value.and_then(|v| v.parse::<i64>().ok());
        let bound = self.values.first().and_then(|v| v.parse::<i64>().ok());
        matches!((found, bound), (Some(found), Some(bound)) if holds(found, bound))
    }
}
