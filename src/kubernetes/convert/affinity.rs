//! Node affinity.

use crate::kubernetes::objects::{LabelSelectorTerm, NodeAffinity, SelectorRequirement};
use crate::model::contract::{ContractError, cut};
use crate::model::{NodeSelectorTerm, Operator, Requirement};

const REQUIRED: &str = "spec.affinity.nodeAffinity.requiredDuringSchedulingIgnoredDuringExecution";
const PREFERRED: &str =
    "spec.affinity.nodeAffinity.preferredDuringSchedulingIgnoredDuringExecution";

/// Required terms, and preferred ones with weights.
type Converted = (Option<Vec<NodeSelectorTerm>>, Vec<(i32, NodeSelectorTerm)>);

/// Required and preferred terms. Terms that are empty match no node and are kept out of the
/// preferences, as are those of weight zero.
///
/// # Errors
/// A requirement that upstream's `nodeaffinity.NewNodeSelector` refuses. Upstream goes on with the
/// other alternatives; the API server lets no such pod in, so refusing is the safer reading.
pub(super) fn node(affinity: &NodeAffinity) -> Result<Converted, ContractError> {
    let required = match &affinity.required {
        None => None,
        Some(selector) => {
            let terms = selector.node_selector_terms.iter();
            Some(terms.map(|found| term_of(REQUIRED, found)).collect::<Result<Vec<_>, _>>()?)
        }
    };
    let meant = |weight: i32, term: &LabelSelectorTerm| {
        weight > 0 && !(term.match_expressions.is_empty() && term.match_fields.is_empty())
    };
    let preferred = affinity.preferred.iter().filter(|p| meant(p.weight, &p.preference));
    let preferred = preferred
        .map(|p| Ok((p.weight.min(100), term_of(PREFERRED, &p.preference)?)))
        .collect::<Result<Vec<_>, _>>()?;
    Ok((required, preferred))
}

/// A term of a node selector that stands in a field.
///
/// # Errors
/// As [`node`].
pub(super) fn term_of(
    field: &'static str,
    object: &LabelSelectorTerm,
) -> Result<NodeSelectorTerm, ContractError> {
    let malformed = |problem: String| ContractError::Malformed { field, problem: problem.into() };
    let expressions = object.match_expressions.iter().map(expression);
    let fields = object.match_fields.iter().map(node_field);
    Ok(NodeSelectorTerm {
        expressions: expressions.collect::<Result<_, _>>().map_err(malformed)?,
        fields: fields.collect::<Result<_, _>>().map_err(malformed)?,
    })
}

/// Upstream `labels.NewRequirement`.
pub(super) fn expression(object: &SelectorRequirement) -> Result<Requirement, String> {
    let operator = operator(object)?;
    let values = &object.values;
    let key = cut(&object.key);
    let fine = match operator {
        Operator::In | Operator::NotIn => !values.is_empty(),
        Operator::Exists | Operator::DoesNotExist => values.is_empty(),
        Operator::Gt | Operator::Lt => values.len() == 1 && values[0].parse::<i64>().is_ok(),
    };
    if !fine {
        let wanted = match operator {
            Operator::In | Operator::NotIn => "at least one value",
            Operator::Exists | Operator::DoesNotExist => "no values",
            Operator::Gt | Operator::Lt => "exactly one integer",
        };
        return Err(format!("requirement on {key:?}: {} needs {wanted}", object.operator));
    }
    if let Some(bad) = values.iter().find(|value| !is_label_value(value)) {
        return Err(format!("requirement on {key:?}: {:?} is not a label value", cut(bad)));
    }
    Ok(Requirement { key: object.key.clone(), operator, values: values.clone() })
}

/// Upstream `nodeSelectorRequirementsAsFieldSelector`; the only field is the node's name.
fn node_field(object: &SelectorRequirement) -> Result<Requirement, String> {
    let operator = operator(object)?;
    let key = cut(&object.key);
    if !matches!(operator, Operator::In | Operator::NotIn) {
        return Err(format!("field {key:?}: only In and NotIn are known, not {operator:?}"));
    }
    if object.values.len() != 1 {
        return Err(format!("field {key:?}: {operator:?} needs exactly one value"));
    }
    if &*object.key != "metadata.name" {
        return Err(format!("field {key:?}: only metadata.name is known"));
    }
    Ok(Requirement { key: object.key.clone(), operator, values: object.values.clone() })
}

fn operator(object: &SelectorRequirement) -> Result<Operator, String> {
    Ok(match &*object.operator {
        "In" => Operator::In,
        "NotIn" => Operator::NotIn,
        "Exists" => Operator::Exists,
        "DoesNotExist" => Operator::DoesNotExist,
        "Gt" => Operator::Gt,
        "Lt" => Operator::Lt,
        other => {
            let key = cut(&object.key);
            return Err(format!("requirement on {key:?}: unknown operator {:?}", cut(other)));
        }
    })
}

/// Upstream `validation.IsValidLabelValue`.
fn is_label_value(text: &str) -> bool {
    let inner = |b: u8| b.is_ascii_alphanumeric() || matches!(b, b'-' | b'_' | b'.');
    let edge = |b: Option<&u8>| b.is_none_or(u8::is_ascii_alphanumeric);
    let bytes = text.as_bytes();
    bytes.len() <= 63
        && bytes.iter().all(|b| inner(*b))
        && edge(bytes.first())
        && edge(bytes.last())
}
