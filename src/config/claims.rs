//! The section `dynamicResources`.

use super::Problem;
use super::section::Section;
use serde::Serialize;

/// See the fields of `dynamicResources`.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
#[serde(rename_all = "camelCase")]
pub struct DynamicResources {
    /// Whether claims are read and given devices.
    pub enabled: bool,
    /// As what devices of classes are counted that do not say so themselves.
    pub device_classes: Vec<CountedAs>,
}

/// See the fields of `dynamicResources.deviceClasses`.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
#[serde(rename_all = "camelCase")]
pub struct CountedAs {
    /// The class.
    pub name: String,
    /// The resource.
    pub resource: String,
}

impl DynamicResources {
    pub(super) fn read(section: &Section<'_>, problems: &mut Vec<Problem>) -> Self {
        let mut device_classes: Vec<CountedAs> = Vec::new();
        for item in section.items("deviceClasses") {
            let known = device_classes.iter().map(|class| &*class.name);
            let name = item.name("name", known, problems);
            device_classes.push(CountedAs { name, resource: item.text("resource") });
        }
        Self { enabled: section.flag("enabled"), device_classes }
    }
}
