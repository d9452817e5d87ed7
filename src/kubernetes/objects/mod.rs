//! Trimmed Kubernetes objects for watching.
//!
//! A watch event of a busy cluster is mostly text this scheduler has no use for: managed fields,
//! probes, volumes, environments. These types read only what [`super::convert`] needs, so an event
//! costs a fraction of what the full types of `k8s-openapi` cost, in time and in memory. They are
//! `kube::Resource`s and can be listed and watched like the full types. All fields are optional and
//! `null` is as good as absent; what is of a wrong JSON type is a decoding error, which an API
//! server, itself typed, does not cause.

mod budget;
mod job;
mod meta;
mod node;
mod pod;
mod queue;
mod scalar;

#[cfg(test)]
mod tests;

pub use budget::BudgetObject;
pub use job::JobObject;
pub use meta::Meta;
pub use node::{NodeObject, NodeSpec, NodeStatus, TaintObject};
pub use pod::{
    Affinity, ClaimReference, Condition, Container, ContainerState, ContainerStatus,
    LabelSelectorTerm, NodeAffinity, NodeSelector, PodAffinity, PodObject, PodSpec, PodStatus,
    Port, Preferred, Resources, SelectorRequirement, Terminated, TolerationObject, TopologySpread,
};
pub use queue::QueueObject;
pub use scalar::{Present, Quantities, Quantity, Time};

use k8s_openapi::api::batch::v1::Job;
use k8s_openapi::api::core::v1;
use k8s_openapi::api::policy::v1::PodDisruptionBudget;
use kube::Resource;
use kube::api::ObjectMeta;
use serde::{Deserialize, Deserializer};
use std::borrow::Cow;

/// A namespace: its name is all that matters, and whether it goes away.
#[derive(Clone, Debug, Default, Deserialize)]
pub struct NamespaceObject {
    /// Metadata, with labels.
    #[serde(default, rename = "metadata")]
    pub meta: Meta,
}

impl NamespaceObject {
    /// Being deleted: nothing can be created in it any more.
    #[must_use]
    pub fn is_terminating(&self) -> bool {
        self.meta.deleting
    }
}

/// Takes the type information from the full type that the trimmed one stands for.
macro_rules! resource_like {
    ($trimmed:ty, $full:ty) => {
        impl Resource for $trimmed {
            type DynamicType = ();
            type Scope = <$full as Resource>::Scope;

            fn kind((): &()) -> Cow<'_, str> {
                <$full as Resource>::kind(&())
            }

            fn group((): &()) -> Cow<'_, str> {
                <$full as Resource>::group(&())
            }

            fn version((): &()) -> Cow<'_, str> {
                <$full as Resource>::version(&())
            }

            fn plural((): &()) -> Cow<'_, str> {
                <$full as Resource>::plural(&())
            }

            fn meta(&self) -> &ObjectMeta {
                &self.meta.object
            }

            fn meta_mut(&mut self) -> &mut ObjectMeta {
                &mut self.meta.object
            }
        }
    };
}

resource_like!(PodObject, v1::Pod);
resource_like!(NodeObject, v1::Node);
resource_like!(NamespaceObject, v1::Namespace);
resource_like!(BudgetObject, PodDisruptionBudget);
resource_like!(JobObject, Job);

/// Go writes an absent list or object as `null` where the field is not marked `omitempty`.
fn or_default<'de, D, T>(deserializer: D) -> Result<T, D::Error>
where
    D: Deserializer<'de>,
    T: Default + Deserialize<'de>,
{
    Ok(Option::deserialize(deserializer)?.unwrap_or_default())
}
