//! The plugins a profile may name, and what is on when it names none.

/// What each extension point knows, in the order it runs.
pub struct KnownPlugins {
    /// Extension point, as the file spells it.
    pub extension_point: &'static str,
    /// Names with their default weights (0 where the point has none).
    pub plugins: &'static [(&'static str, u32)],
}

/// Every plugin that a profile may name, by extension point.
pub const KNOWN: &[KnownPlugins] = &[
    KnownPlugins {
        extension_point: "filter",
        plugins: &[
            ("NodeUnschedulable", 0),
            ("NodeName", 0),
            ("TaintToleration", 0),
            ("NodeAffinity", 0),
            ("NodePorts", 0),
            ("NodeResourcesFit", 0),
        ],
    },
    KnownPlugins {
        extension_point: "score",
        plugins: &[
            ("NodeResourcesFit", 1),
            ("NodeResourcesBalancedAllocation", 1),
            ("NodeAffinity", 2),
            ("TaintToleration", 3),
            ("GpuPacking", 5),
        ],
    },
];

/// Filters that cannot be turned off: without them a pod is bound where the kubelet refuses it.
pub const REQUIRED_FILTERS: &[&str] = &["NodeName", "NodeResourcesFit"];

/// The plugins of an extension point with their default weights; empty for an unknown point.
pub fn known(extension_point: &str) -> &'static [(&'static str, u32)] {
    KNOWN.iter().find(|known| known.extension_point == extension_point).map_or(&[], |k| k.plugins)
}

/// Every plugin name once, in table order.
pub fn names() -> Vec<&'static str> {
    let mut names: Vec<&str> = Vec::new();
    for (name, _) in KNOWN.iter().flat_map(|known| known.plugins) {
        if !names.contains(name) {
            names.push(name);
        }
    }
    names
}
