//! Reads values out of a checked tree, with the table's defaults where the file says nothing.
//!
//! An ill-typed value reads as the default too: the check has reported it already, and reading on
//! lets the rules across fields report what else is wrong.

use super::tree::{self, Node, Value};
use super::{Problem, duration, fields};
use std::borrow::Cow;
use std::time::Duration;

/// A section of a file that [`super::check::check`] has seen, or an absent one.
pub(super) struct Section<'a> {
    schema: String,
    /// Path for people, with list positions.
    pub(super) shown: String,
    node: Option<Cow<'a, Node>>,
    line: u64,
}

impl<'a> Section<'a> {
    pub(super) fn root(node: &'a Node) -> Self {
        Section {
            schema: String::new(),
            shown: String::new(),
            node: Some(Cow::Borrowed(node)),
            line: node.line,
        }
    }

    /// The line of a field, or of this section if the file does not set it.
    pub(super) fn line(&self, name: &str) -> u64 {
        self.node.as_ref().and_then(|node| node.get(name)).map_or(self.line, |node| node.line)
    }

    /// Whether the file sets a field.
    pub(super) fn has(&self, name: &str) -> bool {
        self.node.as_ref().is_some_and(|node| node.get(name).is_some())
    }

    /// The path of a field, for people.
    pub(super) fn path(&self, name: &str) -> String {
        if self.shown.is_empty() { name.to_owned() } else { format!("{}.{name}", self.shown) }
    }

    fn schema(&self, name: &str) -> String {
        if self.schema.is_empty() { name.to_owned() } else { format!("{}.{name}", self.schema) }
    }

    fn own(&self, name: &str) -> Option<&Node> {
        self.node.as_ref().and_then(|node| node.get(name))
    }

    /// The value in the file, else the table's default; `None` if neither has this type.
    fn read<T>(&self, name: &str, convert: impl Fn(&Value) -> Option<T>) -> Option<T> {
        let schema = self.schema(name);
        let field = fields::find(&schema).unwrap_or_else(|| panic!("no field {schema}"));
        self.own(name).and_then(|node| convert(&node.value)).or_else(|| {
            let default = tree::parse(field.default).expect("defaults of the table are YAML");
            convert(&default.value)
        })
    }

    pub(super) fn section(&self, name: &str) -> Section<'static> {
        Section {
            schema: self.schema(name),
            shown: self.path(name),
            line: self.line(name),
            node: self.own(name).cloned().map(Cow::Owned),
        }
    }

    /// The arguments of a plugin, read by that plugin's own type.
    pub(super) fn arguments(&self, plugin: &str) -> Section<'static> {
        Section { schema: format!("{plugin}Args"), ..self.section("args") }
    }

    /// A section of an argument type of which the file says nothing.
    pub(super) fn absent(schema: &str) -> Section<'static> {
        Section { schema: schema.to_owned(), shown: String::new(), node: None, line: 1 }
    }

    pub(super) fn items(&self, name: &str) -> Vec<Section<'static>> {
        let (schema, shown) = (self.schema(name), self.path(name));
        let item = |(index, node): (usize, Node)| Section {
            schema: format!("{schema}[]"),
            shown: format!("{shown}[{index}]"),
            line: node.line,
            node: Some(Cow::Owned(node)),
        };
        let items = self.read(name, |value| match value {
            Value::List(items) => Some(items.clone()),
            _ => None,
        });
        items.unwrap_or_default().into_iter().enumerate().map(item).collect()
    }

    /// A text; empty if it has neither value nor default.
    pub(super) fn text(&self, name: &str) -> String {
        let text = self.read(name, |value| match value {
            Value::Text(text) => Some(text.clone()),
            _ => None,
        });
        text.unwrap_or_default()
    }

    /// A name: present, and none of those `known`.
    pub(super) fn name<'n>(
        &self,
        field: &str,
        mut known: impl Iterator<Item = &'n str>,
        problems: &mut Vec<Problem>,
    ) -> String {
        let name = self.text(field);
        let path = self.path(field);
        let message = if !self.has(field) {
            format!("missing \"{path}\"")
        } else if known.any(|known| *known == *name) {
            format!("\"{path}\" {name:?} is listed twice")
        } else {
            return name;
        };
        problems.push(Problem::new(self.line(field), message));
        name
    }

    pub(super) fn flag(&self, name: &str) -> bool {
        let flag = self.read(name, |value| match value {
            Value::Flag(flag) => Some(*flag),
            _ => None,
        });
        flag.unwrap_or_default()
    }

    pub(super) fn integer<T: TryFrom<i128> + Default>(&self, name: &str) -> T {
        let number = self.read(name, |value| match value {
            Value::Integer(number) => T::try_from(*number).ok(),
            _ => None,
        });
        number.unwrap_or_default()
    }

    pub(super) fn decimal(&self, name: &str) -> f64 {
        self.read(name, super::check::number).unwrap_or_default()
    }

    pub(super) fn duration(&self, name: &str) -> Duration {
        let duration = self.read(name, |value| match value {
            Value::Text(text) => duration::parse(text),
            _ => None,
        });
        duration.unwrap_or_default()
    }
}
