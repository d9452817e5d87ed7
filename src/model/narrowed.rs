//! Resources narrowed by a node label: one type of GPU beside all GPUs.

/// `nvidia.com/gpu@nvidia.com/gpu.product=NVIDIA-H100-80GB-HBM3`: a resource, of nodes with a label
/// of this value only.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct NarrowedName<'a> {
    /// The resource.
    pub resource: &'a str,
    /// Key of the label.
    pub key: &'a str,
    /// Its value.
    pub value: &'a str,
}

impl<'a> NarrowedName<'a> {
    /// Reads `resource@key=value`; no resource that nodes offer has such a name. Whether the parts
    /// are names that an API server takes is not looked at.
    #[must_use]
    pub fn parse(name: &'a str) -> Option<Self> {
        let (resource, label) = name.split_once('@')?;
        let (key, value) = label.split_once('=')?;
        Some(Self { resource, key, value })
    }
}

/// The resource that a name means on all nodes: itself, if it is not narrowed.
#[must_use]
pub fn base(name: &str) -> &str {
    NarrowedName::parse(name).map_or(name, |narrowed| narrowed.resource)
}
