//! The section `topology`.

use super::Problem;
use super::section::Section;
use serde::Serialize;

/// See the fields of `topology`.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
#[serde(rename_all = "camelCase")]
pub struct Topology {
    /// The levels, the outermost first.
    pub levels: Vec<Level>,
}

/// See the fields of `topology.levels`.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
#[serde(rename_all = "camelCase")]
pub struct Level {
    /// The label whose values are the domains of the level.
    pub node_label: String,
}

impl Topology {
    pub(super) fn read(section: &Section<'_>, problems: &mut Vec<Problem>) -> Self {
        let mut levels: Vec<Level> = Vec::new();
        for item in section.items("levels") {
            let known = levels.iter().map(|level| &*level.node_label);
            let node_label = item.name("nodeLabel", known, problems);
            levels.push(Level { node_label });
        }
        Topology { levels }
    }
}
