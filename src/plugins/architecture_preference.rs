//! ArchitecturePreference: which processor architectures are to be used, and which rather. Not one
//! of upstream's.

use crate::cluster::{Class, Cluster, NodeIndex};
use crate::framework::{Filter, Plugin, Reads, Reason, SCORE_MAX, Score, Status, Term};
use crate::model::Node;

/// The label of a node that names its architecture.
const LABEL: &str = "kubernetes.io/arch";
/// What is neither preferred nor avoided: an architecture of which nothing is said.
const NO_PREFERENCE: u8 = 2;
/// The most preferred.
const MOST: u8 = 3;

/// The plugin with what is said of architectures: 0 is not used, 1 is used last, 3 first.
#[derive(Clone, Debug)]
pub struct ArchitecturePreference {
    /// Preferences by the value of the label `kubernetes.io/arch`.
    pub preferences: Vec<(Box<str>, u8)>,
}

impl Default for ArchitecturePreference {
    /// As IBM Spectrum Conductor's charts have it.
    fn default() -> Self {
        Self { preferences: vec![("amd64".into(), 2), ("ppc64le".into(), 3)] }
    }
}

impl ArchitecturePreference {
    fn of(&self, node: Option<&Node>) -> u8 {
        let Some(arch) = node.and_then(|node| node.label(LABEL)) else { return NO_PREFERENCE };
        let said = self.preferences.iter().find(|(known, _)| **known == *arch);
        said.map_or(NO_PREFERENCE, |(_, preference)| *preference)
    }
}

impl Plugin for ArchitecturePreference {
    fn name(&self) -> &'static str {
        "ArchitecturePreference"
    }
}

impl Filter for ArchitecturePreference {
    fn reads(&self) -> Reads {
        Reads::Facts
    }

    fn filter(&self, cluster: &Cluster, _: &Class, node: NodeIndex) -> Status {
        match self.of(cluster.node(node).node.as_ref()) {
            0 => Status::unresolvable(Reason::Architecture),
            _ => Status::Success,
        }
    }
}

impl Score for ArchitecturePreference {
    fn reads(&self) -> Reads {
        Reads::Facts
    }

    fn score(&self, cluster: &Cluster, _: &Class, node: NodeIndex, _: &[Term]) -> i64 {
        let preference = self.of(cluster.node(node).node.as_ref()).clamp(1, MOST);
        i64::from(preference - 1) * SCORE_MAX / i64::from(MOST - 1)
    }
}
