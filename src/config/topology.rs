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
    /// Whether levels of Topology objects of Kueue and of KAI are added, and objects read that
    /// report the GPUs of nodes.
    pub from_objects: bool,
}

/// See the fields of `topology.levels`.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
#[serde(rename_all = "camelCase")]
pub struct Level {
    /// The label whose values are the domains of the level.
    pub node_label: String,
    /// What gangs may call the level; `None`: the part of the label's key after the slash.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub name: Option<String>,
}

impl Topology {
    pub(super) fn read(section: &Section<'_>, problems: &mut Vec<Problem>) -> Self {
        let mut levels: Vec<Level> = Vec::new();
        for item in section.items("levels") {
            let known = levels.iter().map(|level| &*level.node_label);
            let node_label = item.name("nodeLabel", known, problems);
            let name = Some(item.text("name")).filter(|name| !name.is_empty());
            if let Some(name) = name.as_deref()
                && levels.iter().any(|level| level.name.as_deref() == Some(name))
            {
                let message = format!("\"{}\" {name:?} is listed twice", item.path("name"));
                problems.push(Problem::new(item.line("name"), message));
            }
            levels.push(Level { node_label, name });
        }
        Topology { levels, from_objects: section.flag("fromObjects") }
    }
}
