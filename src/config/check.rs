//! Checks a tree against the table of fields and reports everything that is wrong.

use super::Problem;
use super::fields::{self, Field, Form, Kind};
use super::tree::{Node, Value};
use super::{duration, plugins};
use crate::model::narrowed::base;
use crate::model::topology::is_label_key;

/// A place in the file: `schema` is its path in the table, `shown` its path for people.
struct Place<'a> {
    schema: &'a str,
    shown: &'a str,
}

impl Place<'_> {
    fn join(base: &str, name: &str) -> String {
        if base.is_empty() { name.to_owned() } else { format!("{base}.{name}") }
    }
}

/// Appends every problem below the root to `problems`.
pub(super) fn check(root: &Node, problems: &mut Vec<Problem>) {
    if !matches!(root.value, Value::Section(_)) {
        let found = root.describe();
        problems.push(Problem::new(root.line, format!("expected a section, found {found}")));
        return;
    }
    section(root, &Place { schema: "", shown: "" }, problems);
}

fn section(node: &Node, place: &Place<'_>, problems: &mut Vec<Problem>) {
    let Value::Section(entries) = &node.value else {
        return problems.push(ill_typed(node, place, "a section"));
    };
    for (name, child) in entries {
        let shown = Place::join(place.shown, name);
        let Some(field) = fields::children(place.schema).find(|field| field.name() == name) else {
            problems.push(unknown_field(child.line, place.schema, &shown, name));
            continue;
        };
        if field.kind == Kind::Args {
            arguments(node, child, &shown, problems);
        } else if child.value != Value::Null {
            value(child, field, &shown, problems);
        }
    }
}

fn value(node: &Node, field: &Field, shown: &str, problems: &mut Vec<Problem>) {
    let place = Place { schema: field.path, shown };
    match field.kind {
        Kind::Section | Kind::Args => section(node, &place, problems),
        Kind::List(max) => list(node, &place, max, problems),
        Kind::Text(form) => problems.extend(text(node, &place, form)),
        Kind::Flag => {
            if !matches!(node.value, Value::Flag(_)) {
                problems.push(ill_typed(node, &place, "true or false"));
            }
        }
        Kind::Integer(min, max) => match node.value {
            Value::Integer(number) if (min.into()..=max.into()).contains(&number) => {}
            Value::Integer(number) => {
                let message = format!("\"{shown}\" must be between {min} and {max}, is {number}");
                problems.push(Problem::new(node.line, message));
            }
            _ => problems.push(ill_typed(node, &place, "a whole number")),
        },
        Kind::Decimal(min, max) => match number(&node.value) {
            Some(number) if (min as f64..=max as f64).contains(&number) => {}
            Some(number) => {
                let message = format!("\"{shown}\" must be between {min} and {max}, is {number}");
                problems.push(Problem::new(node.line, message));
            }
            None => problems.push(ill_typed(node, &place, "a number")),
        },
        Kind::Duration(min, max) => problems.extend(time(node, &place, min, max)),
    }
}

/// Whole or not; what is written without a fraction is a number too.
pub(super) fn number(value: &Value) -> Option<f64> {
    match value {
        Value::Integer(number) => Some(*number as f64),
        Value::Fraction(number) => Some(*number).filter(|number| number.is_finite()),
        _ => None,
    }
}

fn list(node: &Node, place: &Place<'_>, max: usize, problems: &mut Vec<Problem>) {
    let Value::List(items) = &node.value else {
        return problems.push(ill_typed(node, place, "a list"));
    };
    if items.len() > max {
        let message =
            format!("\"{}\" has {} entries, at most {max} are allowed", place.shown, items.len());
        problems.push(Problem::new(node.line, message));
    }
    let schema = format!("{}[]", place.schema);
    for (index, item) in items.iter().enumerate() {
        let shown = format!("{}[{index}]", place.shown);
        section(item, &Place { schema: &schema, shown: &shown }, problems);
    }
}

fn text(node: &Node, place: &Place<'_>, form: Form) -> Option<Problem> {
    let Value::Text(text) = &node.value else {
        return Some(ill_typed(node, place, "a text"));
    };
    let shown = place.shown;
    let message = match form {
        Form::Any | Form::Plugin => return None,
        Form::Name if text.is_empty() || is_name(text) => return None,
        Form::Name => format!(
            "\"{shown}\" must be a name of lower-case letters, digits, '-' and '.', is {text:?}"
        ),
        Form::Address if text.is_empty() || text.parse::<std::net::SocketAddr>().is_ok() => {
            return None;
        }
        Form::Address => {
            format!("\"{shown}\" must be an IP address and a port like 0.0.0.0:10270, is {text:?}")
        }
        Form::Resource if is_resource(text) => return None,
        Form::Shared if is_resource(base(text)) => return None,
        Form::Resource | Form::Shared => {
            format!("\"{shown}\" must be a resource name like nvidia.com/gpu, is {text:?}")
        }
        Form::MaybeLabelKey if text.is_empty() => return None,
        Form::LabelKey | Form::MaybeLabelKey if is_label_key(text) => return None,
        Form::LabelKey | Form::MaybeLabelKey => {
            format!("\"{shown}\" must be the key of a label like example.com/rack, is {text:?}")
        }
        Form::OneOf(words) if words.contains(&text.as_str()) => return None,
        Form::OneOf(words) => {
            let hint = suggestion(text, words.iter().copied());
            format!("\"{shown}\" must be {}, is {text:?}{hint}", words.join(" or "))
        }
    };
    Some(Problem::new(node.line, message))
}

fn time(node: &Node, place: &Place<'_>, min: u64, max: u64) -> Option<Problem> {
    let parsed = match &node.value {
        Value::Text(text) => duration::parse(text),
        _ => None,
    };
    let Some(parsed) = parsed else {
        return Some(ill_typed(node, place, "a duration such as 15s or 1m30s"));
    };
    let bounds = [min, max].map(std::time::Duration::from_millis);
    if (bounds[0]..=bounds[1]).contains(&parsed) {
        return None;
    }
    let [min, max, is] = [bounds[0], bounds[1], parsed].map(duration::format);
    let message = format!("\"{}\" must be between {min} and {max}, is {is}", place.shown);
    Some(Problem::new(node.line, message))
}

/// Arguments are typed by the plugin that the entry names.
fn arguments(entry: &Node, args: &Node, shown: &str, problems: &mut Vec<Problem>) {
    let Some(Node { value: Value::Text(plugin), .. }) = entry.get("name") else {
        return; // the missing name is reported where names are resolved
    };
    let schema = format!("{plugin}Args");
    if fields::find(&schema).is_some() && args.value != Value::Null {
        section(args, &Place { schema: &schema, shown }, problems);
    } else if plugins::names().contains(&plugin.as_str()) {
        let message = format!("plugin {plugin} takes no arguments, remove \"{shown}\"");
        problems.push(Problem::new(args.line, message));
    }
}

fn ill_typed(node: &Node, place: &Place<'_>, expected: &str) -> Problem {
    let found = node.describe();
    let message = match place.shown {
        "" => format!("expected {expected}, found {found}"),
        shown => format!("\"{shown}\" must be {expected}, found {found}"),
    };
    Problem::new(node.line, message)
}

fn unknown_field(line: u64, schema: &str, shown: &str, name: &str) -> Problem {
    let hint = suggestion(name, fields::children(schema).map(Field::name));
    Problem::new(line, format!("unknown field \"{shown}\"{hint}"))
}

/// `; did you mean "x"?` with the nearest of the names, or all of them if none is near.
pub(super) fn suggestion<'a>(wrong: &str, names: impl Iterator<Item = &'a str> + Clone) -> String {
    let lower = wrong.to_lowercase();
    let near = names
        .clone()
        .map(|name| (strsim::damerau_levenshtein(&lower, &name.to_lowercase()), name))
        .min_by_key(|(distance, _)| *distance);
    match near {
        // a third of the letters may be wrong before a guess misleads more than it helps
        Some((distance, name)) if distance <= wrong.chars().count().max(3) / 3 => {
            format!("; did you mean \"{name}\"?")
        }
        Some(_) => format!("; known here: {}", names.collect::<Vec<_>>().join(", ")),
        None => String::new(),
    }
}

fn is_name(text: &str) -> bool {
    let inner = |c: char| c.is_ascii_lowercase() || c.is_ascii_digit() || c == '-' || c == '.';
    let edge = |c: char| c.is_ascii_lowercase() || c.is_ascii_digit();
    text.len() <= 253 && text.chars().all(inner) && text.starts_with(edge) && text.ends_with(edge)
}

fn is_resource(text: &str) -> bool {
    !text.is_empty()
        && text.len() <= 317 // a DNS prefix of 253, a slash, a name of 63
        && text.chars().all(|c| c.is_ascii_alphanumeric() || "-._/".contains(c))
        && text.matches('/').count() <= 1
}
