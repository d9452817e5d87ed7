//! Protobuf bodies, which kubectl 1.32 and newer sends for some requests, read into JSON.
//!
//! The envelope is upstream's `runtime.Unknown` behind four magic bytes; the object inside is read
//! by the field numbers of the built-in kinds.

use super::{Field, Shape, lookup};
use serde_json::{Map, Value, json};

const MAGIC: &[u8] = b"k8s\0";
/// Deeper messages are refused, so that a hostile body cannot exhaust the stack.
const MAX_DEPTH: usize = 64;
const VARINT_MAX_BYTES: u32 = 10;

/// Reads an enveloped object; `type_of` names the struct for an apiVersion and a kind.
/// `None` when the bytes are not such an object.
pub(crate) fn decode(body: &[u8], type_of: impl Fn(&str, &str) -> Option<String>) -> Option<Value> {
    let mut envelope = Reader(body.strip_prefix(MAGIC)?);
    let (mut api_version, mut kind, mut raw) = (String::new(), String::new(), &[][..]);
    while let Some((number, item)) = envelope.next()? {
        match (number, item) {
            (1, Item::Bytes(bytes)) => {
                let mut meta = Reader(bytes);
                while let Some((number, item)) = meta.next()? {
                    match (number, item) {
                        (1, Item::Bytes(text)) => api_version = string(text)?,
                        (2, Item::Bytes(text)) => kind = string(text)?,
                        _ => {}
                    }
                }
            }
            (2, Item::Bytes(bytes)) => raw = bytes,
            _ => {}
        }
    }
    let mut object = message(&type_of(&api_version, &kind)?, raw, 0)?;
    object.insert("apiVersion".into(), json!(api_version));
    object.insert("kind".into(), json!(kind));
    Some(Value::Object(object))
}

enum Item<'a> {
    Number(u64),
    Bytes(&'a [u8]),
}

struct Reader<'a>(&'a [u8]);

impl<'a> Reader<'a> {
    /// The next field; `Some(None)` at the end, `None` when the bytes are malformed.
    #[allow(clippy::option_option)]
    fn next(&mut self) -> Option<Option<(u32, Item<'a>)>> {
        if self.0.is_empty() {
            return Some(None);
        }
        let tag = self.varint()?;
        let number = u32::try_from(tag >> 3).ok()?;
        let item = match tag & 7 {
            0 => Item::Number(self.varint()?),
            1 => Item::Number(u64::from_le_bytes(self.bytes(8)?.try_into().ok()?)),
            2 => {
                let length = usize::try_from(self.varint()?).ok()?;
                Item::Bytes(self.bytes(length)?)
            }
            5 => Item::Number(u64::from(u32::from_le_bytes(self.bytes(4)?.try_into().ok()?))),
            _ => return None,
        };
        Some(Some((number, item)))
    }

    fn varint(&mut self) -> Option<u64> {
        let mut value = 0_u64;
        for index in 0..VARINT_MAX_BYTES {
            let byte = *self.bytes(1)?.first()?;
            value |= u64::from(byte & 0x7f).checked_shl(7 * index)?;
            if byte & 0x80 == 0 {
                return Some(value);
            }
        }
        None
    }

    fn bytes(&mut self, length: usize) -> Option<&'a [u8]> {
        let (head, tail) = self.0.split_at_checked(length)?;
        self.0 = tail;
        Some(head)
    }
}

fn string(bytes: &[u8]) -> Option<String> {
    String::from_utf8(bytes.to_vec()).ok()
}

fn message(name: &str, bytes: &[u8], depth: usize) -> Option<Map<String, Value>> {
    let layout = lookup(name)?;
    if depth > MAX_DEPTH {
        return None;
    }
    let mut object = Map::new();
    let mut reader = Reader(bytes);
    while let Some((number, item)) = reader.next()? {
        if let (Some((_, inner)), Item::Bytes(bytes)) =
            (layout.inlined.iter().find(|(n, _)| *n == number), &item)
        {
            object.extend(message(inner, bytes, depth + 1)?);
            continue;
        }
        let own = |(key, field): &(&&'static str, &Field)| {
            field.number == number && !is_inlined(layout, key)
        };
        let Some((key, field)) = layout.fields.iter().find(own) else { continue };
        put(&mut object, key, &field.shape, item, depth)?;
    }
    Some(object)
}

/// Whether a field belongs to an inlined message, whose numbers are its own.
fn is_inlined(layout: &super::Struct, key: &str) -> bool {
    let mut inner = layout.inlined.iter().filter_map(|(_, name)| lookup(name));
    inner.any(|s| s.fields.contains_key(key))
}

fn put(
    object: &mut Map<String, Value>,
    key: &str,
    shape: &Shape,
    item: Item<'_>,
    depth: usize,
) -> Option<()> {
    match (shape, item) {
        (Shape::List(inner), item) => {
            let value = scalar(inner, item, depth)?;
            let list = object.entry(key).or_insert_with(|| json!([]));
            list.as_array_mut()?.push(value);
        }
        (Shape::Map(inner), Item::Bytes(bytes)) => {
            let (mut name, mut value) = (String::new(), inner.zero());
            let mut entry = Reader(bytes);
            while let Some((number, item)) = entry.next()? {
                match (number, item) {
                    (1, Item::Bytes(text)) => name = string(text)?,
                    (2, item) => value = scalar(inner, item, depth)?,
                    _ => {}
                }
            }
            let map = object.entry(key).or_insert_with(|| json!({}));
            map.as_object_mut()?.insert(name, value);
        }
        (shape, item) => {
            let value = scalar(shape, item, depth)?;
            object.insert(key.to_owned(), value);
        }
    }
    Some(())
}

fn scalar(shape: &Shape, item: Item<'_>, depth: usize) -> Option<Value> {
    Some(match (shape, item) {
        (Shape::Bool, Item::Number(n)) => json!(n != 0),
        (Shape::Float, Item::Number(n)) => json!(f64::from_bits(n)),
        (_, Item::Number(n)) => json!(n.cast_signed()),
        (Shape::String, Item::Bytes(bytes)) => json!(string(bytes)?),
        (Shape::Bytes, Item::Bytes(bytes)) => json!(base64(bytes)),
        (Shape::Quantity, Item::Bytes(bytes)) => first_string(bytes)?,
        (Shape::Time | Shape::MicroTime, Item::Bytes(bytes)) => time(bytes)?,
        (Shape::IntOrString, Item::Bytes(bytes)) => int_or_string(bytes)?,
        (Shape::Any, Item::Bytes(bytes)) => {
            let mut reader = Reader(bytes);
            match reader.next()? {
                Some((_, Item::Bytes(raw))) => serde_json::from_slice(raw).ok()?,
                _ => Value::Null,
            }
        }
        (Shape::Struct(name), Item::Bytes(bytes)) => {
            Value::Object(message(name, bytes, depth + 1)?)
        }
        _ => return None,
    })
}

fn first_string(bytes: &[u8]) -> Option<Value> {
    match Reader(bytes).next()? {
        Some((1, Item::Bytes(text))) => Some(json!(string(text)?)),
        _ => Some(json!("0")),
    }
}

fn time(bytes: &[u8]) -> Option<Value> {
    let (mut seconds, mut nanos) = (0_i64, 0_i32);
    let mut reader = Reader(bytes);
    let mut given = false;
    while let Some((number, item)) = reader.next()? {
        given = true;
        match (number, item) {
            (1, Item::Number(n)) => seconds = n.cast_signed(),
            (2, Item::Number(n)) => nanos = i32::try_from(n).ok()?,
            _ => {}
        }
    }
    if !given {
        return Some(Value::Null);
    }
    Some(json!(jiff::Timestamp::new(seconds, nanos).ok()?.to_string()))
}

fn int_or_string(bytes: &[u8]) -> Option<Value> {
    let (mut is_text, mut number_value, mut text) = (false, 0, String::new());
    let mut reader = Reader(bytes);
    while let Some((number, item)) = reader.next()? {
        match (number, item) {
            (1, Item::Number(n)) => is_text = n == 1,
            (2, Item::Number(n)) => number_value = n.cast_signed(),
            (3, Item::Bytes(bytes)) => text = string(bytes)?,
            _ => {}
        }
    }
    Some(if is_text { json!(text) } else { json!(number_value) })
}

fn base64(bytes: &[u8]) -> String {
    const ALPHABET: &[u8] = b"ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789+/";
    let mut text = String::new();
    for chunk in bytes.chunks(3) {
        let word =
            chunk.iter().fold(0_u32, |w, b| (w << 8) | u32::from(*b)) << (8 * (3 - chunk.len()));
        for index in 0..4 {
            let six = (word >> (18 - 6 * index)) & 63;
            let letter = if index <= chunk.len() { ALPHABET[six as usize] } else { b'=' };
            text.push(char::from(letter));
        }
    }
    text
}
