//! The rights this scheduler uses. `manifests/rbac.yaml` grants exactly these, by test.

/// Where a right is needed.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Scope {
    /// In every namespace, or on objects without one.
    Cluster,
    /// In the scheduler's own namespace.
    OwnNamespace,
}

/// One verb on one resource.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Permission {
    /// Where.
    pub scope: Scope,
    /// API group; empty for the core group.
    pub group: &'static str,
    /// Resource with its subresource, as RBAC spells it.
    pub resource: &'static str,
    /// Verb.
    pub verb: &'static str,
    /// The one object it is needed on, where RBAC can say so.
    pub name: Option<&'static str>,
}

const fn cluster(group: &'static str, resource: &'static str, verb: &'static str) -> Permission {
    Permission { scope: Scope::Cluster, group, resource, verb, name: None }
}

const fn lease(verb: &'static str, name: Option<&'static str>) -> Permission {
    let (group, resource) = ("coordination.k8s.io", "leases");
    Permission { scope: Scope::OwnNamespace, group, resource, verb, name }
}

/// Every right the code uses, and no other. No secrets, no write to nodes, no pods created.
pub const PERMISSIONS: &[Permission] = &[
    cluster("", "nodes", "list"),
    cluster("", "nodes", "watch"),
    cluster("", "namespaces", "list"),
    cluster("", "namespaces", "watch"),
    // `get` settles a bind whose outcome is unknown
    cluster("", "pods", "get"),
    cluster("", "pods", "list"),
    cluster("", "pods", "watch"),
    // bound members of a gang that cannot reach its minimum
    cluster("", "pods", "delete"),
    cluster("", "pods/binding", "create"),
    cluster("", "pods/status", "patch"),
    cluster("events.k8s.io", "events", "create"),
    cluster("events.k8s.io", "events", "patch"),
    // RBAC cannot limit a create to a name: the name is not known when it is checked
    lease("create", None),
    lease("get", Some("mss-scheduler")),
    lease("update", Some("mss-scheduler")),
];
