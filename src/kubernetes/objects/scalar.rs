//! Quantities, times and presence: values parsed while they are read, so that no text is kept.

use crate::model::contract::cut;
use crate::model::{WallTime, quantity};
use serde::de::{Error, IgnoredAny, MapAccess, SeqAccess, Visitor};
use serde::{Deserialize, Deserializer};
use std::borrow::Cow;
use std::fmt;

/// A quantity in thousandths of its base unit, rounded up as the API server's defaulting does, or
/// the text (cut to 64 bytes) that is not a quantity or is out of bounds.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Quantity(pub Result<i64, Box<str>>);

impl Quantity {
    /// Parses a text.
    #[must_use]
    pub fn parse(text: &str) -> Self {
        Self(quantity::parse_milli(text).ok_or_else(|| cut(text)))
    }
}

impl<'de> Deserialize<'de> for Quantity {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        deserializer.deserialize_any(QuantityVisitor)
    }
}

struct QuantityVisitor;

impl<'de> Visitor<'de> for QuantityVisitor {
    type Value = Quantity;

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("a quantity")
    }

    fn visit_str<E: Error>(self, text: &str) -> Result<Quantity, E> {
        Ok(Quantity::parse(text))
    }

    fn visit_u64<E: Error>(self, number: u64) -> Result<Quantity, E> {
        Ok(Quantity::parse(&number.to_string()))
    }

    fn visit_i64<E: Error>(self, number: i64) -> Result<Quantity, E> {
        Ok(Quantity::parse(&number.to_string()))
    }

    fn visit_f64<E: Error>(self, number: f64) -> Result<Quantity, E> {
        Ok(Quantity::parse(&number.to_string()))
    }

    fn visit_unit<E: Error>(self) -> Result<Quantity, E> {
        Ok(Quantity(Ok(0)))
    }
}

/// Quantities by resource name, in the object's order. `None` and empty differ: upstream looks at
/// whether a status reports resources at all.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Quantities(pub Option<Vec<(ResourceName, Quantity)>>);

/// A resource name; the usual ones are not allocated.
pub(crate) type ResourceName = Cow<'static, str>;

impl Quantities {
    /// The entries.
    pub fn iter(&self) -> impl Iterator<Item = (&str, &Quantity)> {
        self.0.iter().flatten().map(|(name, quantity)| (&**name, quantity))
    }

    /// Whether nothing is listed.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.0.as_ref().is_none_or(Vec::is_empty)
    }
}

impl<'de> Deserialize<'de> for Quantities {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        deserializer.deserialize_any(QuantitiesVisitor)
    }
}

struct QuantitiesVisitor;

impl<'de> Visitor<'de> for QuantitiesVisitor {
    type Value = Quantities;

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("quantities by resource name")
    }

    fn visit_unit<E: Error>(self) -> Result<Quantities, E> {
        Ok(Quantities(None))
    }

    fn visit_map<A: MapAccess<'de>>(self, mut map: A) -> Result<Quantities, A::Error> {
        let mut entries = Vec::with_capacity(map.size_hint().unwrap_or(4).min(64));
        while let Some(Name(name)) = map.next_key()? {
            entries.push((name, map.next_value()?));
        }
        Ok(Quantities(Some(entries)))
    }
}

struct Name(ResourceName);

impl<'de> Deserialize<'de> for Name {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        deserializer.deserialize_str(NameVisitor)
    }
}

struct NameVisitor;

impl Visitor<'_> for NameVisitor {
    type Value = Name;

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("a resource name")
    }

    fn visit_str<E: Error>(self, text: &str) -> Result<Name, E> {
        const USUAL: [&str; 5] = ["cpu", "memory", "ephemeral-storage", "nvidia.com/gpu", "pods"];
        let usual = USUAL.into_iter().find(|usual| *usual == text);
        Ok(Name(usual.map_or_else(|| Cow::Owned(text.to_owned()), Cow::Borrowed)))
    }
}

/// An RFC 3339 time; `None` if it is not one.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Time(pub Option<WallTime>);

impl<'de> Deserialize<'de> for Time {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        deserializer.deserialize_any(TimeVisitor)
    }
}

struct TimeVisitor;

impl Visitor<'_> for TimeVisitor {
    type Value = Time;

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("an RFC 3339 time")
    }

    fn visit_unit<E: Error>(self) -> Result<Time, E> {
        Ok(Time(None))
    }

    fn visit_str<E: Error>(self, text: &str) -> Result<Time, E> {
        let time = text.parse::<jiff::Timestamp>().ok();
        Ok(Time(time.map(|time| WallTime(time.as_millisecond()))))
    }
}

/// Whether a list has entries or an object is there at all: what is in it does not
/// matter, so it is skipped.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Present(pub bool);

impl<'de> Deserialize<'de> for Present {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        deserializer.deserialize_any(PresentVisitor)
    }
}

struct PresentVisitor;

impl<'de> Visitor<'de> for PresentVisitor {
    type Value = Present;

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("a list or an object")
    }

    fn visit_unit<E: Error>(self) -> Result<Present, E> {
        Ok(Present(false))
    }

    fn visit_seq<A: SeqAccess<'de>>(self, mut seq: A) -> Result<Present, A::Error> {
        let mut present = false;
        while seq.next_element::<IgnoredAny>()?.is_some() {
            present = true;
        }
        Ok(Present(present))
    }

    fn visit_map<A: MapAccess<'de>>(self, mut map: A) -> Result<Present, A::Error> {
        while map.next_entry::<IgnoredAny, IgnoredAny>()?.is_some() {}
        Ok(Present(true))
    }
}
