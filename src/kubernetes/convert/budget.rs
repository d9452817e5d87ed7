//! Disruption budgets.

use super::affinity::expression;
use crate::kubernetes::objects::BudgetObject;
use crate::model::{Budget, Operator, Requirement};

/// A budget. One that its controller has not looked at since it was changed allows nothing, as the
/// API server refuses evictions then; one whose selector cannot be read protects every pod of its
/// namespace.
#[must_use]
pub fn budget(object: &BudgetObject) -> Budget {
    let selector = object.spec.selector.as_ref().map(|selector| {
        let labels = selector.match_labels.iter().map(|(key, value)| {
            Ok(Requirement {
                key: key.clone(),
                operator: Operator::In,
                values: vec![value.clone()],
            })
        });
        let expressions = selector.match_expressions.iter().map(expression);
        labels.chain(expressions).collect::<Result<Vec<Requirement>, String>>()
    });
    let is_read = !matches!(selector, Some(Err(_)));
    let observed = object.status.observed_generation.unwrap_or(0);
    let is_current = observed >= object.meta.generation();
    Budget {
        namespace: object.meta.namespace().into(),
        name: object.meta.name().into(),
        selector: selector.map(Result::unwrap_or_default),
        allowed: match is_read && is_current {
            true => u32::try_from(object.status.disruptions_allowed.max(0)).unwrap_or(u32::MAX),
            false => 0,
        },
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::model::Labels;
    use serde_json::{Value, json};

    fn read(spec: &Value, status: &Value) -> Budget {
        let meta = json!({ "name": "b", "namespace": "n", "generation": 3 });
        let object = json!({ "metadata": meta, "spec": spec, "status": status });
        budget(&serde_json::from_value(object).expect("an object"))
    }

    #[test]
    fn what_is_not_current_allows_nothing() {
        let spec = json!({ "selector": { "matchLabels": { "app": "x" } } });
        let status = |observed: i64, allowed: i64| {
            let allowed = json!(allowed);
            json!({ "observedGeneration": observed, "disruptionsAllowed": allowed })
        };
        for (observed, allowed, expected) in [(3, 2, 2), (4, 2, 2), (2, 2, 0), (3, -1, 0)] {
            assert_eq!(read(&spec, &status(observed, allowed)).allowed, expected);
        }
        assert_eq!(read(&spec, &json!(null)).allowed, 0);
    }

    #[test]
    fn selectors_mean_what_they_mean_upstream() {
        let status = json!({ "observedGeneration": 3, "disruptionsAllowed": 2 });
        let protects = |selector: Value| {
            let budget = read(&json!({ "selector": selector }), &status);
            let labels = Labels::new([("app", "x"), ("tier", "t")].into_iter());
            (budget.protects(&labels), budget.allowed)
        };
        assert_eq!(protects(json!(null)), (false, 2));
        assert_eq!(protects(json!({})), (true, 2));
        assert_eq!(protects(json!({ "matchLabels": { "app": "x", "tier": "u" } })), (false, 2));
        let expression = |operator: &str, values: Value| {
            let one = json!({ "key": "tier", "operator": operator, "values": values });
            json!({ "matchLabels": { "app": "x" }, "matchExpressions": [one] })
        };
        assert_eq!(protects(expression("In", json!(["t", "u"]))), (true, 2));
        assert_eq!(protects(expression("DoesNotExist", json!(null))), (false, 2));
        // one that cannot be read protects all
        assert_eq!(protects(expression("Like", json!(["t"]))), (true, 0));
    }
}
