//! What is said of nodes: `architectures` and `dedicatedNodes`.

use super::Problem;
use super::section::Section;
use serde::Serialize;

/// See the fields of `architectures`.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
#[serde(rename_all = "camelCase")]
pub struct Architecture {
    /// The value of the label `kubernetes.io/arch`.
    pub name: String,
    /// 0 is not used, 1 is used last, 3 first.
    pub preference: u8,
}

/// See the fields of `dedicatedNodes`.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
#[serde(rename_all = "camelCase")]
pub struct DedicatedNodes {
    /// The key of the label that dedicated nodes have; `None`: there are none.
    pub label_key: Option<String>,
}

impl Architecture {
    /// Reads the list of the root.
    pub(super) fn read_all(root: &Section<'_>, problems: &mut Vec<Problem>) -> Vec<Self> {
        let mut read: Vec<Self> = Vec::new();
        for item in root.items("architectures") {
            let name = item.name("name", read.iter().map(|known| &*known.name), problems);
            read.push(Self { name, preference: item.integer("preference") });
        }
        read
    }
}

impl DedicatedNodes {
    pub(super) fn read(section: &Section<'_>) -> Self {
        Self { label_key: Some(section.text("labelKey")).filter(|key| !key.is_empty()) }
    }
}
