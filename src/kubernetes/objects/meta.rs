//! Metadata, of which most is skipped.

use super::scalar::Time;
use crate::model::contract::{EVICT_AT, GPU_DEVICES};
use crate::model::{Uid, WallTime, foreign};
use kube::api::ObjectMeta;
use serde::de::{Error, IgnoredAny, MapAccess, SeqAccess, Visitor};
use serde::{Deserialize, Deserializer};
use std::fmt;

/// Annotations under this prefix are kept, and those of others that are read; the rest is skipped.
pub(crate) const PREFIX: &str = "mss-scheduler.io/";

/// What is kept of `metadata`.
#[derive(Clone, Debug, Default)]
pub struct Meta {
    /// Filled are `name`, `namespace`, `uid` and `resourceVersion`, which a watch needs, and
    /// `generation`.
    pub object: ObjectMeta,
    /// `creationTimestamp`.
    pub created: WallTime,
    /// `deletionTimestamp` is set.
    pub deleting: bool,
    /// `deletionGracePeriodSeconds`.
    pub deletion_grace: Option<i64>,
    /// Annotations under `mss-scheduler.io/`, and [`FOREIGN`](foreign::FOREIGN) ones.
    pub annotations: Vec<(Box<str>, Box<str>)>,
    /// Labels.
    pub labels: Vec<(Box<str>, Box<str>)>,
    /// The owner reference that is the controller.
    pub controller: Option<Uid>,
}

impl Meta {
    /// `name`; empty if absent.
    #[must_use]
    pub fn name(&self) -> &str {
        self.object.name.as_deref().unwrap_or_default()
    }

    /// `namespace`; empty if absent.
    #[must_use]
    pub fn namespace(&self) -> &str {
        self.object.namespace.as_deref().unwrap_or_default()
    }

    /// `uid`; empty if absent.
    #[must_use]
    pub fn uid(&self) -> &str {
        self.object.uid.as_deref().unwrap_or_default()
    }

    /// `generation`; 0 if absent.
    #[must_use]
    pub fn generation(&self) -> i64 {
        self.object.generation.unwrap_or_default()
    }

    /// Bytes of all annotations kept, keys included, but for what this scheduler writes itself.
    #[must_use]
    pub fn annotation_bytes(&self) -> usize {
        let written = [EVICT_AT, GPU_DEVICES];
        let given = self.annotations.iter().filter(|(key, _)| !written.contains(&&**key));
        given.map(|(key, value)| key.len() + value.len()).sum()
    }

    /// The value of an annotation that is kept.
    #[must_use]
    pub fn annotation(&self, key: &str) -> Option<&str> {
        self.annotations.iter().find(|(k, _)| **k == *key).map(|(_, value)| &**value)
    }

    /// The value of a label that is kept.
    #[must_use]
    pub fn label(&self, key: &str) -> Option<&str> {
        self.labels.iter().find(|(k, _)| **k == *key).map(|(_, value)| &**value)
    }
}

impl<'de> Deserialize<'de> for Meta {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        Ok(Option::<Raw>::deserialize(deserializer)?.map(Self::from).unwrap_or_default())
    }
}

#[derive(Deserialize)]
#[serde(rename_all = "camelCase")]
struct Raw {
    name: Option<String>,
    namespace: Option<String>,
    uid: Option<String>,
    resource_version: Option<String>,
    generation: Option<i64>,
    #[serde(default)]
    creation_timestamp: Time,
    deletion_timestamp: Option<IgnoredAny>,
    deletion_grace_period_seconds: Option<i64>,
    #[serde(default)]
    annotations: Pairs<Ours>,
    #[serde(default)]
    labels: Pairs<All>,
    #[serde(default)]
    owner_references: Controller,
}

impl From<Raw> for Meta {
    fn from(raw: Raw) -> Self {
        Self {
            object: ObjectMeta {
                name: raw.name,
                namespace: raw.namespace,
                uid: raw.uid,
                resource_version: raw.resource_version,
                generation: raw.generation,
                ..ObjectMeta::default()
            },
            created: raw.creation_timestamp.0.unwrap_or_default(),
            deleting: raw.deletion_timestamp.is_some(),
            deletion_grace: raw.deletion_grace_period_seconds,
            annotations: raw.annotations.pairs,
            labels: raw.labels.pairs,
            controller: raw.owner_references.0,
        }
    }
}

/// Which keys of a string map are kept.
trait Keep {
    fn keep(key: &str) -> bool;
}

struct Ours;

impl Keep for Ours {
    fn keep(key: &str) -> bool {
        key.starts_with(PREFIX) || foreign::is_read(key)
    }
}

struct All;

impl Keep for All {
    fn keep(_key: &str) -> bool {
        true
    }
}

/// A string map of which some entries are kept; the others are skipped without being copied.
struct Pairs<K> {
    pairs: Vec<(Box<str>, Box<str>)>,
    keep: std::marker::PhantomData<K>,
}

impl<K> Default for Pairs<K> {
    fn default() -> Self {
        Self { pairs: Vec::new(), keep: std::marker::PhantomData }
    }
}

impl<'de, K: Keep> Deserialize<'de> for Pairs<K> {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        deserializer.deserialize_any(PairsVisitor(Self::default()))
    }
}

struct PairsVisitor<K>(Pairs<K>);

impl<'de, K: Keep> Visitor<'de> for PairsVisitor<K> {
    type Value = Pairs<K>;

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("a map of strings")
    }

    fn visit_unit<E: Error>(self) -> Result<Self::Value, E> {
        Ok(self.0)
    }

    fn visit_map<A: MapAccess<'de>>(mut self, mut map: A) -> Result<Self::Value, A::Error> {
        while let Some(KeptKey { key, .. }) = map.next_key::<KeptKey<K>>()? {
            match key {
                Some(key) => {
                    let value: Option<Box<str>> = map.next_value()?;
                    self.0.pairs.push((key, value.unwrap_or_default()));
                }
                None => drop(map.next_value::<IgnoredAny>()?),
            }
        }
        Ok(self.0)
    }
}

/// A key, copied only if it is kept.
struct KeptKey<K> {
    key: Option<Box<str>>,
    keep: std::marker::PhantomData<K>,
}

impl<'de, K: Keep> Deserialize<'de> for KeptKey<K> {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        deserializer.deserialize_str(KeyVisitor(std::marker::PhantomData))
    }
}

struct KeyVisitor<K>(std::marker::PhantomData<K>);

impl<K: Keep> Visitor<'_> for KeyVisitor<K> {
    type Value = KeptKey<K>;

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("a key")
    }

    fn visit_str<E: Error>(self, text: &str) -> Result<Self::Value, E> {
        Ok(KeptKey { key: K::keep(text).then(|| text.into()), keep: self.0 })
    }
}

/// The uid of the owner reference with `controller: true`.
#[derive(Default)]
struct Controller(Option<Uid>);

impl<'de> Deserialize<'de> for Controller {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        deserializer.deserialize_any(ControllerVisitor)
    }
}

struct ControllerVisitor;

#[derive(Deserialize)]
struct OwnerReference {
    uid: Option<UidText>,
    controller: Option<bool>,
}

impl<'de> Visitor<'de> for ControllerVisitor {
    type Value = Controller;

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("owner references")
    }

    fn visit_unit<E: Error>(self) -> Result<Controller, E> {
        Ok(Controller(None))
    }

    fn visit_seq<A: SeqAccess<'de>>(self, mut seq: A) -> Result<Controller, A::Error> {
        let mut found = None;
        while let Some(owner) = seq.next_element::<OwnerReference>()? {
            if owner.controller == Some(true) && found.is_none() {
                found = owner.uid.map(|uid| uid.0);
            }
        }
        Ok(Controller(found))
    }
}

/// A uid parsed from its text in place.
struct UidText(Uid);

impl<'de> Deserialize<'de> for UidText {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        deserializer.deserialize_str(UidVisitor)
    }
}

struct UidVisitor;

impl Visitor<'_> for UidVisitor {
    type Value = UidText;

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("a uid")
    }

    fn visit_str<E: Error>(self, text: &str) -> Result<UidText, E> {
        Ok(UidText(Uid::parse(text)))
    }
}
