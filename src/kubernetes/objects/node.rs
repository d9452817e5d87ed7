//! What is read of a Node.

use super::meta::Meta;
use super::or_default;
use super::scalar::Quantities;
use serde::Deserialize;

/// A core/v1 Node, trimmed.
#[derive(Clone, Debug, Default, Deserialize)]
pub struct NodeObject {
    /// Metadata, with labels.
    #[serde(default, rename = "metadata")]
    pub meta: Meta,
    /// `spec`.
    #[serde(default, deserialize_with = "or_default")]
    pub spec: NodeSpec,
    /// `status`.
    #[serde(default, deserialize_with = "or_default")]
    pub status: NodeStatus,
}

/// `spec` of a node.
#[derive(Clone, Debug, Default, Deserialize)]
pub struct NodeSpec {
    /// Cordoned.
    pub unschedulable: Option<bool>,
    /// Taints.
    #[serde(default, deserialize_with = "or_default")]
    pub taints: Vec<TaintObject>,
}

/// A taint.
#[derive(Clone, Debug, Default, Deserialize)]
pub struct TaintObject {
    /// Key.
    #[serde(default, deserialize_with = "or_default")]
    pub key: Box<str>,
    /// Value.
    #[serde(default, deserialize_with = "or_default")]
    pub value: Box<str>,
    /// Effect.
    #[serde(default, deserialize_with = "or_default")]
    pub effect: Box<str>,
}

/// `status` of a node: its images, conditions and addresses are skipped.
#[derive(Clone, Debug, Default, Deserialize)]
pub struct NodeStatus {
    /// What pods can have.
    #[serde(default)]
    pub allocatable: Quantities,
}
