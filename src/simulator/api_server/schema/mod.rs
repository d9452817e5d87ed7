//! The shape of the built-in kinds, and the decoding that upstream's typed objects imply.
//!
//! Objects are kept as JSON values. [`normalise`] gives them the form that they would have after
//! a way through upstream's Go types: unknown fields dropped (and told), wrong types refused,
//! empty optional fields dropped, zero values of mandatory fields filled in, quantities canonical.

mod normalise;
pub(crate) mod protobuf;

pub(crate) use normalise::normalise;

use serde_json::Value;
use std::collections::HashMap;
use std::sync::OnceLock;

/// What `generate.go` wrote.
const BUILTIN: &str = include_str!("builtin.json");

/// How a value is written.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum Shape {
    String,
    Bool,
    Int32,
    Int64,
    Float,
    Bytes,
    Time,
    MicroTime,
    Quantity,
    IntOrString,
    /// JSON that upstream does not look into.
    Any,
    List(Box<Shape>),
    Map(Box<Shape>),
    Struct(&'static str),
}

/// One field of a Go struct.
#[derive(Clone, Debug)]
pub(crate) struct Field {
    /// Protobuf field number.
    pub(crate) number: u32,
    pub(crate) shape: Shape,
    pub(crate) pointer: bool,
    pub(crate) omit_empty: bool,
    pub(crate) omit_zero: bool,
    /// Strategic merge: `Some("")` merges a list of scalars, `Some(key)` a list of objects.
    pub(crate) merge_key: Option<&'static str>,
    /// Strategic merge: `$retainKeys` is honoured.
    pub(crate) retain_keys: bool,
    /// Server-side apply: the keys of a list map, empty for a set, `None` for an atomic list.
    pub(crate) list_keys: Option<Vec<&'static str>>,
}

/// A Go struct: its fields by JSON name; those of inlined structs are among them.
#[derive(Debug, Default)]
pub(crate) struct Struct {
    pub(crate) fields: HashMap<&'static str, Field>,
    /// Protobuf: number of the nested message and its struct, for inlined structs.
    pub(crate) inlined: Vec<(u32, &'static str)>,
}

/// The struct of a name such as `core.Pod`; `None` for a name that was not generated.
pub(crate) fn lookup(name: &str) -> Option<&'static Struct> {
    static TABLE: OnceLock<HashMap<&'static str, Struct>> = OnceLock::new();
    TABLE.get_or_init(parse).get(name)
}

type Raw = HashMap<&'static str, HashMap<&'static str, &'static str>>;

fn parse() -> HashMap<&'static str, Struct> {
    let raw: Raw = serde_json::from_str(BUILTIN).expect("builtin.json is generated, and tested");
    raw.keys().map(|name| (*name, parse_struct(&raw, name))).collect()
}

fn parse_struct(raw: &Raw, name: &str) -> Struct {
    let mut parsed = Struct::default();
    let Some(fields) = raw.get(name) else { return parsed };
    for (key, text) in fields {
        let mut words = text.split(' ');
        let number = words.next().and_then(|n| n.parse().ok()).unwrap_or(0);
        let type_name = words.next().unwrap_or("any");
        if key.starts_with('~') {
            let inner = parse_struct(raw, type_name);
            parsed.fields.extend(inner.fields);
            parsed.inlined.push((number, type_name));
            continue;
        }
        parsed.fields.insert(key, parse_field(number, type_name, words));
    }
    parsed
}

fn parse_field(
    number: u32,
    type_name: &'static str,
    flags: impl Iterator<Item = &'static str>,
) -> Field {
    let (pointer, bare) = match type_name.strip_prefix('*') {
        Some(bare) => (true, bare),
        None => (false, type_name),
    };
    let mut field = Field {
        number,
        shape: parse_shape(bare),
        pointer,
        omit_empty: false,
        omit_zero: false,
        merge_key: None,
        retain_keys: false,
        list_keys: None,
    };
    for flag in flags {
        match flag.split_once('=').unwrap_or((flag, "")) {
            ("o", _) => field.omit_empty = true,
            ("z", _) => field.omit_zero = true,
            ("k", _) => field.retain_keys = true,
            ("p", key) => field.merge_key = Some(key),
            ("l", keys) => {
                field.list_keys = Some(keys.split('+').filter(|k| !k.is_empty()).collect());
            }
            _ => {}
        }
    }
    field
}

fn parse_shape(name: &'static str) -> Shape {
    let name = name.strip_prefix('*').unwrap_or(name);
    if let Some(item) = name.strip_prefix("[]") {
        return Shape::List(Box::new(parse_shape(item)));
    }
    if let Some(item) = name.strip_prefix("{}") {
        return Shape::Map(Box::new(parse_shape(item)));
    }
    match name {
        "string" => Shape::String,
        "bool" => Shape::Bool,
        "int32" => Shape::Int32,
        "int64" => Shape::Int64,
        "float64" => Shape::Float,
        "bytes" => Shape::Bytes,
        "time" => Shape::Time,
        "microtime" => Shape::MicroTime,
        "quantity" => Shape::Quantity,
        "intorstring" => Shape::IntOrString,
        "any" => Shape::Any,
        other => Shape::Struct(other),
    }
}

impl Shape {
    /// The value of a field that was not given and is written all the same.
    fn zero(&self) -> Value {
        match self {
            Shape::String => Value::from(""),
            Shape::Bool => Value::from(false),
            Shape::Int32 | Shape::Int64 | Shape::Float | Shape::IntOrString => Value::from(0),
            Shape::Quantity => Value::from("0"),
            Shape::Struct(_) => Value::Object(serde_json::Map::new()),
            _ => Value::Null,
        }
    }
}

/// The OpenAPI schema of a struct; the schemas it refers to are added to `schemas`.
pub(crate) fn openapi(name: &str, schemas: &mut serde_json::Map<String, Value>) -> Value {
    let mut properties = serde_json::Map::new();
    for (key, field) in lookup(name).into_iter().flat_map(|s| &s.fields) {
        properties.insert((*key).to_owned(), openapi_shape(&field.shape, schemas));
    }
    serde_json::json!({ "type": "object", "properties": properties })
}

fn openapi_shape(shape: &Shape, schemas: &mut serde_json::Map<String, Value>) -> Value {
    use serde_json::json;
    match shape {
        Shape::String | Shape::Quantity => json!({ "type": "string" }),
        Shape::Bytes => json!({ "type": "string", "format": "byte" }),
        Shape::Time | Shape::MicroTime => json!({ "type": "string", "format": "date-time" }),
        Shape::Bool => json!({ "type": "boolean" }),
        Shape::Int32 => json!({ "type": "integer", "format": "int32" }),
        Shape::Int64 => json!({ "type": "integer", "format": "int64" }),
        Shape::Float => json!({ "type": "number" }),
        Shape::IntOrString => json!({ "type": "string", "format": "int-or-string" }),
        Shape::Any => json!({ "type": "object" }),
        Shape::List(item) => json!({ "type": "array", "items": openapi_shape(item, schemas) }),
        Shape::Map(item) => {
            json!({ "type": "object", "additionalProperties": openapi_shape(item, schemas) })
        }
        Shape::Struct(name) => {
            if !schemas.contains_key(*name) {
                // entered first, so that a struct that holds itself ends here
                schemas.insert((*name).to_owned(), Value::Null);
                let schema = openapi(name, schemas);
                schemas.insert((*name).to_owned(), schema);
            }
            json!({ "$ref": format!("#/components/schemas/{name}") })
        }
    }
}
