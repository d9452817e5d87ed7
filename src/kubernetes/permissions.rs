//! What this scheduler does to the API: the manifests grant this and nothing else.

/// A permission: API group, resource, verbs, and whether it is needed in the whole cluster or only
/// in the scheduler's own namespace.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Permission {
    /// API group; empty for core.
    pub group: &'static str,
    /// Resource, with subresource.
    pub resource: &'static str,
    /// Verbs.
    pub verbs: &'static [&'static str],
    /// In the whole cluster.
    pub cluster_wide: bool,
}

const fn cluster(
    group: &'static str,
    resource: &'static str,
    verbs: &'static [&'static str],
) -> Permission {
    Permission { group, resource, verbs, cluster_wide: true }
}

/// Every verb used.
pub const PERMISSIONS: &[Permission] = &[
    cluster("", "nodes", &["list", "watch"]),
    cluster("", "namespaces", &["list", "watch"]),
    // get: a call whose fate is unknown is looked up; delete: half-bound gangs are rolled back,
    // and pods end that have run for as long as their queue lets them
    cluster("", "pods", &["delete", "get", "list", "watch"]),
    cluster("", "pods/binding", &["create"]),
    cluster("", "pods/eviction", &["create"]),
    cluster("", "pods/status", &["patch"]),
    cluster("policy", "poddisruptionbudgets", &["list", "watch"]),
    // those for which an eviction counts as a failure are told so
    cluster("batch", "jobs", &["list", "watch"]),
    cluster("mss-scheduler.io", "queues", &["get", "list", "watch"]),
    cluster("mss-scheduler.io", "queues/status", &["patch"]),
    // levels of the network, where these kinds are installed
    cluster("kueue.x-k8s.io", "topologies", &["list", "watch"]),
    cluster("kai.scheduler", "topologies", &["list", "watch"]),
    // where the GPUs of nodes are, where this is reported
    cluster("topology.node.k8s.io", "noderesourcetopologies", &["list", "watch"]),
    cluster("resource.k8s.io", "resourceslices", &["list", "watch"]),
    // devices that pods claim; update: a finalizer keeps what has devices. Since 1.36 the fields of
    // the status that say who has which devices have a permission of their own
    cluster("resource.k8s.io", "deviceclasses", &["get", "list", "watch"]),
    cluster("resource.k8s.io", "resourceclaims", &["get", "list", "update", "watch"]),
    cluster("resource.k8s.io", "resourceclaims/status", &["update"]),
    cluster("resource.k8s.io", "resourceclaims/binding", &["update"]),
    cluster("events.k8s.io", "events", &["create"]),
    Permission {
        group: "coordination.k8s.io",
        resource: "leases",
        verbs: &["create", "get", "update"],
        cluster_wide: false,
    },
];
