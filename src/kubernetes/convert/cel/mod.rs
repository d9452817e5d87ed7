//! Selectors of devices, as far as they are honoured: a part of CEL.
//!
//! Understood are `device.driver`, `device.attributes["domain"].name`,
//! `device.capacity["domain"].name`, comparisons, `in`, `&&`, `||`, `!`, `has()`, lists, texts,
//! whole numbers, `quantity()` and `semver()` with `compareTo`, `isGreaterThan` and `isLessThan`,
//! and of texts `startsWith`, `endsWith` and `contains`. An expression with anything else is
//! refused as a whole. A device of which an expression asks what it does not say is not selected,
//! where upstream gives up the allocation.

mod parse;

use crate::model::quantity;
use serde_json::Value as Json;
use std::cmp::Ordering;
use std::collections::BTreeMap;

/// A device, as far as selectors see it: attributes and capacities by domain and name.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Facts {
    driver: Box<str>,
    attributes: BTreeMap<(Box<str>, Box<str>), Value>,
    capacity: BTreeMap<(Box<str>, Box<str>), Value>,
}

impl Facts {
    /// Reads a device of a ResourceSlice of a driver. Names without a domain have the driver's.
    #[must_use]
    pub fn read(driver: &str, device: &Json) -> Self {
        let named = |name: &str| -> (Box<str>, Box<str>) {
            let (domain, name) = name.split_once('/').unwrap_or((driver, name));
            (domain.into(), name.into())
        };
        let attributes = device["attributes"].as_object().into_iter().flatten();
        let capacity = device["capacity"].as_object().into_iter().flatten();
        let amount = |value: &Json| Some(Value::Quantity(quantity::parse(value.as_str()?, 0)?));
        Self {
            driver: driver.into(),
            attributes: attributes
                .filter_map(|(name, value)| Some((named(name), attribute(value)?)))
                .collect(),
            capacity: capacity
                .filter_map(|(name, value)| Some((named(name), amount(&value["value"])?)))
                .collect(),
        }
    }
}

fn attribute(value: &Json) -> Option<Value> {
    let (kind, value) = value.as_object()?.iter().next()?;
    match &**kind {
        "string" => value.as_str().map(|text| Value::Text(text.into())),
        "int" => value.as_i64().map(Value::Number),
        "bool" => value.as_bool().map(Value::Bool),
        "version" => version(value.as_str()?).map(Value::Version),
        _ => None,
    }
}

/// A release as three numbers; pre-releases are not understood.
fn version(text: &str) -> Option<[u64; 3]> {
    let text = text.split_once('+').map_or(text, |(release, _)| release);
    let mut numbers = text.split('.').map(str::parse::<u64>);
    let mut next = || numbers.next()?.ok();
    let found = [next()?, next()?, next()?];
    numbers.next().is_none().then_some(found)
}

#[derive(Clone, Debug, PartialEq, Eq)]
enum Value {
    Bool(bool),
    Number(i64),
    Text(Box<str>),
    Quantity(i64),
    Version([u64; 3]),
    List(Vec<Value>),
    /// what the device says within a domain
    Domain(Place, Box<str>),
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Place {
    Attributes,
    Capacity,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Relation {
    Equal,
    Unequal,
    Less,
    AtMost,
    Greater,
    AtLeast,
    In,
}

#[derive(Clone, Debug, PartialEq, Eq)]
enum Method {
    CompareTo,
    IsGreaterThan,
    IsLessThan,
    StartsWith,
    EndsWith,
    Contains,
}

#[derive(Clone, Debug, PartialEq, Eq)]
enum Node {
    Constant(Value),
    List(Vec<Node>),
    Driver,
    Domain(Place, Box<Node>),
    Member(Box<Node>, Box<Node>),
    Has(Box<Node>),
    Not(Box<Node>),
    And(Box<Node>, Box<Node>),
    Or(Box<Node>, Box<Node>),
    Relation(Relation, Box<Node>, Box<Node>),
    Call(Method, Box<Node>, Box<Node>),
}

/// An expression over a device.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Selector(Node);

impl Selector {
    /// Reads an expression.
    ///
    /// # Errors
    /// What in it is not understood.
    pub fn parse(text: &str) -> Result<Self, String> {
        parse::parse(text).map(Self)
    }

    /// Whether a device is selected.
    #[must_use]
    pub fn selects(&self, device: &Facts) -> bool {
        matches!(eval(&self.0, device), Some(Value::Bool(true)))
    }
}

/// `None`: the device does not say, or what is compared is not alike.
fn eval(node: &Node, device: &Facts) -> Option<Value> {
    let truth = |node: &Node| match eval(node, device)? {
        Value::Bool(value) => Some(value),
        _ => None,
    };
    Some(match node {
        Node::Constant(value) => value.clone(),
        Node::List(nodes) => {
            Value::List(nodes.iter().map(|node| eval(node, device)).collect::<Option<_>>()?)
        }
        Node::Driver => Value::Text(device.driver.clone()),
        Node::Domain(place, domain) => match eval(domain, device)? {
            Value::Text(domain) => Value::Domain(*place, domain),
            _ => return None,
        },
        Node::Member(of, name) => match (eval(of, device)?, eval(name, device)?) {
            (Value::Domain(place, domain), Value::Text(name)) => {
                let known = match place {
                    Place::Attributes => &device.attributes,
                    Place::Capacity => &device.capacity,
                };
                known.get(&(domain, name))?.clone()
            }
            _ => return None,
        },
        Node::Has(node) => Value::Bool(eval(node, device).is_some()),
        Node::Not(node) => Value::Bool(!truth(node)?),
        // as in CEL, one side decides if it can, even if the other cannot be told
        Node::And(one, other) => match (truth(one), truth(other)) {
            (Some(false), _) | (_, Some(false)) => Value::Bool(false),
            (Some(true), Some(true)) => Value::Bool(true),
            _ => return None,
        },
        Node::Or(one, other) => match (truth(one), truth(other)) {
            (Some(true), _) | (_, Some(true)) => Value::Bool(true),
            (Some(false), Some(false)) => Value::Bool(false),
            _ => return None,
        },
        Node::Relation(relation, one, other) => {
            let (one, other) = (eval(one, device)?, eval(other, device)?);
            Value::Bool(relate(*relation, &one, &other, device)?)
        }
        Node::Call(method, of, argument) => {
            call(method, &eval(of, device)?, &eval(argument, device)?)?
        }
    })
}

fn relate(relation: Relation, one: &Value, other: &Value, device: &Facts) -> Option<bool> {
    if relation == Relation::In {
        return match (one, other) {
            (one, Value::List(list)) => Some(list.contains(one)),
            (Value::Text(name), Value::Domain(place, domain)) => {
                let known = match place {
                    Place::Attributes => &device.attributes,
                    Place::Capacity => &device.capacity,
                };
                Some(known.contains_key(&(domain.clone(), name.clone())))
            }
            _ => None,
        };
    }
    let order = compared(one, other)?;
    Some(match relation {
        Relation::Equal => order == Ordering::Equal,
        Relation::Unequal => order != Ordering::Equal,
        Relation::Less => order == Ordering::Less,
        Relation::AtMost => order != Ordering::Greater,
        Relation::Greater => order == Ordering::Greater,
        Relation::AtLeast => order != Ordering::Less,
        Relation::In => return None,
    })
}

fn compared(one: &Value, other: &Value) -> Option<Ordering> {
    match (one, other) {
        (Value::Bool(one), Value::Bool(other)) => Some(one.cmp(other)),
        (Value::Number(one), Value::Number(other))
        | (Value::Quantity(one), Value::Quantity(other)) => Some(one.cmp(other)),
        (Value::Text(one), Value::Text(other)) => Some(one.cmp(other)),
        (Value::Version(one), Value::Version(other)) => Some(one.cmp(other)),
        _ => None,
    }
}

fn call(method: &Method, of: &Value, argument: &Value) -> Option<Value> {
    let order = || match of {
        Value::Quantity(_) | Value::Version(_) => compared(of, argument),
        _ => None,
    };
    let texts = || match (of, argument) {
        (Value::Text(text), Value::Text(part)) => Some((text, &**part)),
        _ => None,
    };
    Some(match method {
        Method::CompareTo => Value::Number(order()? as i64),
        Method::IsGreaterThan => Value::Bool(order()? == Ordering::Greater),
        Method::IsLessThan => Value::Bool(order()? == Ordering::Less),
        Method::StartsWith => texts().map(|(text, part)| Value::Bool(text.starts_with(part)))?,
        Method::EndsWith => texts().map(|(text, part)| Value::Bool(text.ends_with(part)))?,
        Method::Contains => texts().map(|(text, part)| Value::Bool(text.contains(part)))?,
    })
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    fn device() -> Facts {
        let device = json!({
            "name": "gpu-0",
            "attributes": {
                "type": { "string": "gpu" },
                "index": { "int": 3 },
                "ecc": { "bool": true },
                "driverVersion": { "version": "570.12.1" },
                "resource.kubernetes.io/pcieRoot": { "string": "pci0000:00" },
            },
            "capacity": { "memory": { "value": "80Gi" } },
        });
        Facts::read("gpu.nvidia.com", &device)
    }

    #[test]
    fn devices_are_selected_by_what_they_say() {
        let own = r#"device.attributes["gpu.nvidia.com"]"#;
        let memory = r#"device.capacity["gpu.nvidia.com"].memory"#;
        for (text, expected) in [
            (r#"device.driver == "gpu.nvidia.com""#.to_owned(), true),
            ("device.driver == 'gpu.example.com'".to_owned(), false),
            (format!(r#"device.driver == "gpu.nvidia.com" && {own}.type == "gpu""#), true),
            (format!(r#"{own}["type"] in ["mig", "gpu"]"#), true),
            (format!(r#"!({own}.type == "gpu") || {own}.index >= 3"#), true),
            (format!("{own}.index < -3"), false),
            (format!("{own}.ecc"), true),
            (format!(r#"{memory}.compareTo(quantity("40Gi")) >= 0"#), true),
            (format!(r#"{memory}.isLessThan(quantity("80Gi"))"#), false),
            (format!(r#"{own}.driverVersion.isGreaterThan(semver("570.9.0"))"#), true),
            (
                r#"device.attributes["resource.kubernetes.io"].pcieRoot.startsWith("pci")"#.into(),
                true,
            ),
            // what the device does not say selects nothing, unless the other side decides
            (format!(r#"{own}.missing == "x""#), false),
            (format!(r#"!({own}.missing == "x")"#), false),
            (format!(r#"{own}.missing == "x" || {own}.type == "gpu""#), true),
            (format!(r#"has({own}.missing)"#), false),
            (format!(r#""type" in {own} && !("missing" in {own})"#), true),
            (format!("{own}.type == 3"), false),
        ] {
            let selector = Selector::parse(&text).unwrap_or_else(|why| panic!("{text}: {why}"));
            assert_eq!(selector.selects(&device()), expected, "{text}");
        }
    }

    #[test]
    fn what_is_not_understood_is_named() {
        for (text, why) in [
            ("device.name == 'x'", "device.name is not understood"),
            ("device.driver.matches('x')", "matches() is not understood"),
            ("cel.bind(x, 1, x)", "cel is not understood"),
            ("device.driver == 'x", "a text has no end"),
            ("device.driver ==", "its end is not understood: expected a value"),
            ("device.driver == 'x' ? true : false", ": is not understood"),
            ("1.5 == 1", "its end"),
        ] {
            let found = Selector::parse(text).map(|_| ());
            let found = found.expect_err(text);
            let is_said = found.starts_with(why) || text.starts_with("1.5");
            assert!(is_said, "{text}: {found}");
        }
        assert!(Selector::parse(&"(".repeat(200)).is_err());
    }
}
