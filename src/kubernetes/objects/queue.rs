//! What is read of a Queue.

use super::meta::Meta;
use crate::model::contract;
use k8s_openapi::ClusterResourceScope;
use kube::Resource;
use kube::api::ObjectMeta;
use serde::Deserialize;
use serde_json::Value;
use std::borrow::Cow;

/// A mss-scheduler.io/v1alpha1 Queue, trimmed. Its definition is installed by whoever runs the
/// cluster and may be of another release, so the fields are checked one by one when they are
/// converted: here an ill-typed one would fail the whole list.
#[derive(Clone, Debug, Default, Deserialize)]
pub struct QueueObject {
    /// Metadata, without labels.
    #[serde(default, rename = "metadata")]
    pub meta: Meta,
    /// `spec`, as it came.
    #[serde(default)]
    pub spec: Value,
    /// `status`, as it came.
    #[serde(default)]
    pub status: Value,
}

impl Resource for QueueObject {
    type DynamicType = ();
    type Scope = ClusterResourceScope;

    fn kind((): &()) -> Cow<'_, str> {
        "Queue".into()
    }

    fn group((): &()) -> Cow<'_, str> {
        contract::GROUP.into()
    }

    fn version((): &()) -> Cow<'_, str> {
        "v1alpha1".into()
    }

    fn plural((): &()) -> Cow<'_, str> {
        "queues".into()
    }

    fn meta(&self) -> &ObjectMeta {
        &self.meta.object
    }

    fn meta_mut(&mut self) -> &mut ObjectMeta {
        &mut self.meta.object
    }
}
