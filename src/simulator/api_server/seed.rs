//! What a cluster begins with.

use super::rest::{Api, Query, Target};
use super::status::ApiError;
use serde_json::{Value, json};

/// Adds the system namespaces, priority classes and default service accounts.
pub(super) fn system_objects(api: &Api) {
    for name in ["default", "kube-node-lease", "kube-public", "kube-system"] {
        let namespace = json!({ "metadata": { "name": name } });
        put(api, "", "namespaces", "", namespace);
        put(api, "", "serviceaccounts", name, json!({ "metadata": { "name": "default" } }));
    }
    let classes = [
        (
            "system-cluster-critical",
            2_000_000_000,
            "Used for system critical pods that must run \
            in the cluster, but can be moved to another node if necessary.",
        ),
        (
            "system-node-critical",
            2_000_001_000,
            "Used for system critical pods that must not be \
            moved from their current node.",
        ),
    ];
    for (name, value, description) in classes {
        let class =
            json!({ "metadata": { "name": name }, "value": value, "description": description });
        put(api, "scheduling.k8s.io", "priorityclasses", "", class);
    }
}

fn put(api: &Api, group: &str, resource: &str, namespace: &str, object: Value) {
    let target = Target {
        kind: api.builtin(group, "v1", resource),
        namespace: namespace.to_owned(),
        name: String::new(),
        subresource: String::new(),
    };
    let made: Result<_, ApiError> = api.create(&target, object, &Query::default());
    made.map(drop).expect("the system objects are valid and the store is empty");
}
