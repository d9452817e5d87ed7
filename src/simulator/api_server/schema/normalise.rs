//! Gives a JSON object the form that it would have after upstream decoded and encoded it.

use super::super::quantity::Quantity;
use super::{Field, Shape, Struct, lookup};
use serde_json::Value;

/// Deeper objects are refused, so that a hostile body cannot exhaust the stack.
const MAX_DEPTH: usize = 64;

struct Walk<'a> {
    path: Vec<String>,
    unknown: &'a mut Vec<String>,
}

/// Normalises `value` as the struct `name` in place. Paths of unknown fields, which are dropped,
/// go to `unknown`.
///
/// # Errors
/// The text of upstream's decoding error when a field has the wrong type.
pub(crate) fn normalise(
    name: &str,
    value: &mut Value,
    unknown: &mut Vec<String>,
) -> Result<(), String> {
    let mut walk = Walk { path: Vec::new(), unknown };
    walk.structure(name, value)
}

impl Walk<'_> {
    fn structure(&mut self, name: &str, value: &mut Value) -> Result<(), String> {
        let Some(layout) = lookup(name) else { return Ok(()) };
        let short = name.rsplit('.').next().unwrap_or(name);
        if self.path.len() > MAX_DEPTH {
            return Err("json: exceeded max depth".into());
        }
        if !value.is_object() {
            return Err(self.mismatch(short, value, &format!("v1.{short}")));
        }
        let top = self.path.is_empty();
        self.drop_unknown(layout, value, top);
        let map = value.as_object_mut().expect("checked above");
        for (key, field) in &layout.fields {
            let mut item = map.remove(*key).unwrap_or(Value::Null);
            if item.is_null() {
                if field.pointer
                    || (field.omit_empty && !is_always_written(&field.shape))
                    || field.omit_zero
                {
                    continue;
                }
                item = field.shape.zero();
                if item.is_null() {
                    map.insert((*key).to_owned(), item);
                    continue;
                }
            }
            self.path.push((*key).to_owned());
            self.field(short, field, &mut item)?;
            self.path.pop();
            if !is_omitted(field, &item) {
                map.insert((*key).to_owned(), item);
            }
        }
        Ok(())
    }

    fn drop_unknown(&mut self, layout: &Struct, value: &mut Value, top: bool) {
        let Some(map) = value.as_object_mut() else { return };
        map.retain(|key, _| {
            let known = layout.fields.contains_key(key.as_str())
                || (top && (key == "kind" || key == "apiVersion"));
            if !known {
                let mut path = self.path.join(".");
                path = path.replace(".[", "[");
                let dot = if path.is_empty() { "" } else { "." };
                self.unknown.push(format!("{path}{dot}{key}"));
            }
            known
        });
    }

    fn field(&mut self, owner: &str, field: &Field, value: &mut Value) -> Result<(), String> {
        self.shape(owner, &field.shape, value)
    }

    fn shape(&mut self, owner: &str, shape: &Shape, value: &mut Value) -> Result<(), String> {
        match shape {
            Shape::String | Shape::Bytes => self.expect(owner, value.is_string(), value, "string"),
            Shape::Bool => self.expect(owner, value.is_boolean(), value, "bool"),
            Shape::Int32 => {
                let fits = value.as_i64().is_some_and(|n| i32::try_from(n).is_ok());
                self.expect(owner, fits, value, "int32")
            }
            Shape::Int64 => self.expect(owner, value.is_i64(), value, "int64"),
            Shape::Float => self.expect(owner, value.is_number(), value, "float64"),
            Shape::Time | Shape::MicroTime => self.time(owner, shape, value),
            Shape::Quantity => quantity(value),
            Shape::IntOrString => {
                let fits = value.is_string() || value.is_i64();
                self.expect(owner, fits, value, "intstr.IntOrString")
            }
            Shape::Any => Ok(()),
            Shape::List(item) => self.list(owner, item, value),
            Shape::Map(item) => self.map(owner, item, value),
            Shape::Struct(name) => self.structure(name, value),
        }
    }

    fn list(&mut self, owner: &str, item: &Shape, value: &mut Value) -> Result<(), String> {
        let given = value.is_array();
        self.expect(owner, given, value, "[]")?;
        for (index, element) in value.as_array_mut().into_iter().flatten().enumerate() {
            if element.is_null() {
                *element = item.zero();
            }
            self.path.push(format!("[{index}]"));
            self.shape(owner, item, element)?;
            self.path.pop();
        }
        Ok(())
    }

    fn map(&mut self, owner: &str, item: &Shape, value: &mut Value) -> Result<(), String> {
        let given = value.is_object();
        self.expect(owner, given, value, "map[string]")?;
        for (key, element) in value.as_object_mut().into_iter().flatten() {
            if element.is_null() {
                *element = item.zero();
            }
            self.path.push(key.clone());
            self.shape(owner, item, element)?;
            self.path.pop();
        }
        Ok(())
    }

    fn time(&self, owner: &str, shape: &Shape, value: &mut Value) -> Result<(), String> {
        let Some(text) = value.as_str() else { return Err(self.mismatch(owner, value, "Time")) };
        if text.is_empty() {
            *value = Value::Null;
            return Ok(());
        }
        let Ok(time) = text.parse::<jiff::Timestamp>() else {
            return Err(format!("parsing time {text:?}: not an RFC 3339 time"));
        };
        let digits = if matches!(shape, Shape::MicroTime) { 6 } else { 0 };
        *value = Value::from(format!("{time:.digits$}"));
        Ok(())
    }

    fn expect(&self, owner: &str, fits: bool, value: &Value, want: &str) -> Result<(), String> {
        if fits { Ok(()) } else { Err(self.mismatch(owner, value, want)) }
    }

    fn mismatch(&self, owner: &str, value: &Value, want: &str) -> String {
        let got = match value {
            Value::Null => "null".to_owned(),
            Value::Bool(_) => "bool".to_owned(),
            Value::Number(n) if n.is_i64() && !want.contains("int") => "number".to_owned(),
            Value::Number(n) => format!("number {n}"),
            Value::String(_) => "string".to_owned(),
            Value::Array(_) => "array".to_owned(),
            Value::Object(_) => "object".to_owned(),
        };
        let names = self.path.iter().filter(|p| !p.starts_with('['));
        let path = names.map(String::as_str).collect::<Vec<_>>().join(".");
        format!("json: cannot unmarshal {got} into Go struct field {owner}.{path} of type {want}")
    }
}

/// Go never omits a struct for being empty.
fn is_always_written(shape: &Shape) -> bool {
    matches!(
        shape,
        Shape::Struct(_) | Shape::Time | Shape::MicroTime | Shape::Quantity | Shape::IntOrString
    )
}

fn is_omitted(field: &Field, value: &Value) -> bool {
    if field.pointer {
        return false;
    }
    if field.omit_zero {
        return match value {
            Value::Object(map) => map.is_empty(),
            other => is_empty(other),
        };
    }
    field.omit_empty && !is_always_written(&field.shape) && is_empty(value)
}

fn is_empty(value: &Value) -> bool {
    match value {
        Value::Null => true,
        Value::Bool(set) => !set,
        Value::Number(n) => n.as_f64() == Some(0.0),
        Value::String(text) => text.is_empty(),
        Value::Array(items) => items.is_empty(),
        Value::Object(map) => map.is_empty(),
    }
}

fn quantity(value: &mut Value) -> Result<(), String> {
    let text = match &*value {
        Value::String(text) => text.clone(),
        Value::Number(number) => number.to_string(),
        _ => String::new(),
    };
    let Some(parsed) = Quantity::parse(text.trim()) else {
        return Err("quantities must match the regular expression \
             '^([+-]?[0-9.]+)([eEinumkKMGTP]*[-+]?[0-9]*)$'"
            .into());
    };
    *value = Value::from(parsed.canonical());
    Ok(())
}
