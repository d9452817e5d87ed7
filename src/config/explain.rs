//! Tells people about the fields: the commented default file, explanations, the docs page.

use super::fields::{self, Field, Form, Kind};
use super::{check, duration, profile};
use std::fmt::Write as _;
use std::time::Duration;

/// Columns of comments and explanations; a terminal of 80 shows them unbroken.
const COLUMNS: usize = 78;

/// Every field with its default and a comment, as a file that parses to the defaults.
#[must_use]
pub fn default_file() -> String {
    let mut text =
        String::from("# The configuration of mss-scheduler: every field, its default.\n");
    for field in fields::children("") {
        if !matches!(field.path, "apiVersion" | "kind") {
            text.push('\n');
        }
        write_field(&mut text, field, 0);
    }
    text
}

fn write_field(text: &mut String, field: &Field, indent: usize) {
    let pad = " ".repeat(indent);
    let mut comment = field.doc.to_owned();
    if !matches!(field.kind, Kind::Section | Kind::Args) {
        let _ = write!(comment, " ({})", describe(field.kind));
    }
    for line in wrap(&comment, COLUMNS - indent - 2) {
        let _ = writeln!(text, "{pad}# {line}");
    }
    let name = field.name();
    match field.path {
        "profiles" => {
            let _ = writeln!(text, "{pad}{name}:\n{pad}  -");
            for child in fields::children("profiles[]") {
                write_field(text, child, indent + 4);
            }
        }
        "profiles[].pluginConfig" => {
            let _ = writeln!(text, "{pad}{name}:");
            for (plugin, schema) in profile::argument_types() {
                let _ = writeln!(text, "{pad}  -\n{pad}    name: {plugin}\n{pad}    args:");
                for child in fields::children(&schema) {
                    write_field(text, child, indent + 6);
                }
            }
        }
        path if field.kind == Kind::Section => {
            let _ = writeln!(text, "{pad}{name}:");
            for child in fields::children(path) {
                write_field(text, child, indent + 2);
            }
        }
        // a list of sections takes a line for each
        _ if field.default.starts_with("[{") => {
            let list = field.default.replace("}, {", &format!("}},\n{pad}   {{"));
            let _ = writeln!(text, "{pad}{name}:\n{pad}  {list}");
        }
        _ => {
            let _ = writeln!(text, "{pad}{name}: {}", field.default);
        }
    }
}

/// Explains the field or section at `path` (list positions may be left out); the whole file for
/// an empty path.
///
/// # Errors
/// An unknown path, with the nearest known one.
pub fn explain(path: &str) -> Result<String, String> {
    if path.is_empty() {
        let mut text = format!("KIND:     {}\nVERSION:  {}\n", super::KIND, super::API_VERSION);
        list_fields(&mut text, "");
        let types: Vec<String> =
            profile::argument_types().into_iter().map(|(_, schema)| schema).collect();
        let _ = writeln!(text, "\nARGUMENT TYPES:\n  {}", types.join(", "));
        return Ok(text);
    }
    let wanted = plain(path);
    let Some(field) = fields::FIELDS.iter().find(|field| plain(field.path) == wanted) else {
        let known: Vec<String> = fields::FIELDS.iter().map(|field| plain(field.path)).collect();
        let hint = match check::suggestion(&wanted, known.iter().map(String::as_str)) {
            hint if hint.contains("did you mean") => hint,
            _ => "; `config explain` without a path lists the sections".to_owned(),
        };
        return Err(format!("unknown field {path:?}{hint}"));
    };
    let mut text = format!("FIELD:    {}\nTYPE:     {}\n", field.path, describe(field.kind));
    if !field.default.is_empty() {
        let _ = writeln!(text, "DEFAULT:  {}", field.default);
    }
    text.push('\n');
    for line in wrap(field.doc, COLUMNS) {
        let _ = writeln!(text, "{line}");
    }
    list_fields(&mut text, field.path);
    if matches!(field.kind, Kind::List(_)) {
        list_fields(&mut text, &format!("{}[]", field.path));
    }
    Ok(text)
}

fn list_fields(text: &mut String, path: &str) {
    if fields::children(path).next().is_none() {
        return;
    }
    text.push_str("\nFIELDS:\n");
    for child in fields::children(path) {
        let _ = writeln!(text, "  {} <{}>", child.name(), describe(child.kind));
        for line in wrap(child.doc, COLUMNS - 4) {
            let _ = writeln!(text, "    {line}");
        }
    }
}

/// The fields as Markdown tables, one per section: the generated part of `docs/configuration.md`.
#[must_use]
pub fn markdown() -> String {
    let mut text = String::new();
    let types: Vec<String> =
        profile::argument_types().into_iter().map(|(_, schema)| schema).collect();
    write_table(&mut text, "Top level", &|path| !path.contains('.') && !path.ends_with("Args"));
    let sections = [
        "leaderElection",
        "clientConnection",
        "profiles[]",
        "queues",
        "evictions",
        "topology",
        "gpuSharing",
        "dynamicResources",
        "limits",
    ];
    for section in sections {
        let prefix = format!("{section}.");
        write_table(&mut text, section, &|path| path.starts_with(&prefix));
    }
    for schema in &types {
        let prefix = format!("{schema}.");
        write_table(&mut text, schema, &|path| path.starts_with(&prefix));
    }
    text
}

fn write_table(text: &mut String, title: &str, belongs: &dyn Fn(&str) -> bool) {
    let _ = writeln!(text, "### `{title}`\n\n| Field | Type | Default | Meaning |");
    text.push_str("|---|---|---|---|\n");
    for field in fields::FIELDS.iter().filter(|field| belongs(field.path)) {
        let default = match field.default {
            "" => String::new(),
            default => format!("`{default}`"),
        };
        let (kind, doc) = (describe(field.kind), field.doc);
        let _ = writeln!(text, "| `{}` | {kind} | {default} | {doc} |", field.path);
    }
    text.push('\n');
}

/// The type and range of a field in words.
fn describe(kind: Kind) -> String {
    match kind {
        Kind::Section => "section".to_owned(),
        Kind::Args => "section, by plugin".to_owned(),
        Kind::List(max) => format!("list, at most {max}"),
        Kind::Text(form) => describe_form(form),
        Kind::Flag => "true or false".to_owned(),
        Kind::Decimal(min, max) => format!("number {min} to {max}"),
        Kind::Integer(min, max) => format!("integer {min} to {max}"),
        Kind::Duration(min, max) => {
            let [min, max] = [min, max].map(|ms| duration::format(Duration::from_millis(ms)));
            format!("duration {min} to {max}")
        }
    }
}

fn describe_form(form: Form) -> String {
    match form {
        Form::Any => "text".to_owned(),
        Form::Name => "name".to_owned(),
        Form::Address => "IP:port".to_owned(),
        Form::Resource | Form::Shared => "resource name".to_owned(),
        Form::LabelKey | Form::MaybeLabelKey => "label key".to_owned(),
        Form::Plugin => "plugin name".to_owned(),
        Form::OneOf(words) => words.join(" or "),
    }
}

/// A path without list positions.
fn plain(path: &str) -> String {
    let mut depth = 0_u32;
    let keep = |c: &char| {
        match c {
            '[' => depth += 1,
            ']' => depth = depth.saturating_sub(1),
            _ => return depth == 0,
        }
        false
    };
    path.chars().filter(keep).collect()
}

/// Breaks a text at blanks into lines of at most `columns` (a longer word stands alone).
fn wrap(text: &str, columns: usize) -> Vec<String> {
    let mut lines: Vec<String> = Vec::new();
    for word in text.split_whitespace() {
        match lines.last_mut() {
            Some(line) if line.len() + 1 + word.len() <= columns => {
                line.push(' ');
                line.push_str(word);
            }
            _ => lines.push(word.to_owned()),
        }
    }
    lines
}
