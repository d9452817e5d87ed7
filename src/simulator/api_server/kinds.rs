//! Which kinds are served: the built-in ones, and those that custom resource definitions add.

use super::crd::CustomKind;
use super::store::{CollectionId, Store};
use std::collections::BTreeMap;
use std::sync::Arc;

/// One resource of one group and version.
#[derive(Debug)]
pub(crate) struct Kind {
    pub(crate) group: String,
    pub(crate) version: String,
    /// Plural, as in paths.
    pub(crate) resource: String,
    pub(crate) singular: String,
    pub(crate) kind: String,
    pub(crate) namespaced: bool,
    pub(crate) short_names: Vec<String>,
    pub(crate) categories: Vec<String>,
    /// Has a status subresource, so that status is no part of a main write.
    pub(crate) status: bool,
    /// Only answers POST and keeps nothing, such as `tokenreviews`.
    pub(crate) virtual_: bool,
    /// `metadata.generation` counts changes of the specification.
    pub(crate) generation: bool,
    /// The name of its Go struct, for decoding; empty for custom kinds.
    pub(crate) type_name: String,
    pub(crate) custom: Option<Arc<CustomKind>>,
    pub(crate) collection: CollectionId,
}

impl Kind {
    pub(crate) fn api_version(&self) -> String {
        group_version(&self.group, &self.version)
    }

    /// The same object in `events.k8s.io` form.
    pub(crate) fn is_new_event(&self) -> bool {
        self.group == "events.k8s.io"
    }

    pub(crate) fn is(&self, group: &str, resource: &str) -> bool {
        self.group == group && self.resource == resource
    }

    pub(crate) fn is_pod(&self) -> bool {
        self.is("", "pods")
    }

    pub(crate) fn key(&self, namespace: &str, name: &str) -> String {
        if self.namespaced { format!("{namespace}/{name}") } else { name.to_owned() }
    }
}

pub(crate) fn group_version(group: &str, version: &str) -> String {
    if group.is_empty() { version.to_owned() } else { format!("{group}/{version}") }
}

/// The kinds, by group, version and resource.
#[derive(Clone, Debug, Default)]
pub(crate) struct Registry {
    kinds: BTreeMap<(String, String, String), Arc<Kind>>,
}

/// One line a kind: group/version, plural, kind, scope (N or C), short names, flags. Flags: `a`
/// category all, `s` status subresource, `g` generation is counted, `v` virtual.
const BUILTIN: &str = "
v1 pods Pod N po asg
v1 nodes Node C no s
v1 namespaces Namespace C ns s
v1 events Event N ev -
v1 configmaps ConfigMap N cm -
v1 secrets Secret N - -
v1 services Service N svc as
v1 serviceaccounts ServiceAccount N sa -
v1 persistentvolumes PersistentVolume C pv s
v1 persistentvolumeclaims PersistentVolumeClaim N pvc s
v1 replicationcontrollers ReplicationController N rc asg
v1 resourcequotas ResourceQuota N quota s
v1 limitranges LimitRange N limits -
v1 podtemplates PodTemplate N - g
v1 endpoints Endpoints N ep -
apps/v1 controllerrevisions ControllerRevision N - -
apps/v1 daemonsets DaemonSet N ds asg
apps/v1 deployments Deployment N deploy asg
apps/v1 replicasets ReplicaSet N rs asg
apps/v1 statefulsets StatefulSet N sts asg
batch/v1 cronjobs CronJob N cj asg
batch/v1 jobs Job N - asg
coordination.k8s.io/v1 leases Lease N - -
events.k8s.io/v1 events Event N ev -
node.k8s.io/v1 runtimeclasses RuntimeClass C - -
policy/v1 poddisruptionbudgets PodDisruptionBudget N pdb sg
rbac.authorization.k8s.io/v1 clusterrolebindings ClusterRoleBinding C - -
rbac.authorization.k8s.io/v1 clusterroles ClusterRole C - -
rbac.authorization.k8s.io/v1 rolebindings RoleBinding N - -
rbac.authorization.k8s.io/v1 roles Role N - -
resource.k8s.io/v1 deviceclasses DeviceClass C - g
resource.k8s.io/v1 resourceclaims ResourceClaim N - s
resource.k8s.io/v1 resourceclaimtemplates ResourceClaimTemplate N - -
resource.k8s.io/v1 resourceslices ResourceSlice C - g
scheduling.k8s.io/v1 priorityclasses PriorityClass C pc g
storage.k8s.io/v1 csidrivers CSIDriver C - g
storage.k8s.io/v1 csinodes CSINode C - -
storage.k8s.io/v1 csistoragecapacities CSIStorageCapacity N - -
storage.k8s.io/v1 storageclasses StorageClass C sc -
storage.k8s.io/v1 volumeattachments VolumeAttachment C - s
apiextensions.k8s.io/v1 customresourcedefinitions CustomResourceDefinition C crd,crds sge
authentication.k8s.io/v1 selfsubjectreviews SelfSubjectReview C - v
authentication.k8s.io/v1 tokenreviews TokenReview C - v
authorization.k8s.io/v1 localsubjectaccessreviews LocalSubjectAccessReview N - v
authorization.k8s.io/v1 selfsubjectaccessreviews SelfSubjectAccessReview C - v
authorization.k8s.io/v1 selfsubjectrulesreviews SelfSubjectRulesReview C - v
authorization.k8s.io/v1 subjectaccessreviews SubjectAccessReview C - v
";

impl Registry {
    /// The built-in kinds, with a collection each.
    pub(crate) fn builtin(store: &Store) -> Self {
        let mut registry = Self::default();
        for line in BUILTIN.lines().filter(|l| !l.is_empty()) {
            let words: Vec<_> = line.split(' ').collect();
            let [group_version, resource, kind, scope, short_names, flags] = words[..] else {
                unreachable!("the table above has six columns: {line}");
            };
            let (group, version) = group_version.split_once('/').unwrap_or(("", group_version));
            let collection = match group {
                // both forms of Event are one object, stored in the v1 form
                "events.k8s.io" => registry.kinds[&key("", "v1", "events")].collection,
                _ => store.add_collection(),
            };
            let category = match flags {
                _ if flags.contains('a') => vec!["all".to_owned()],
                _ if flags.contains('e') => vec!["api-extensions".to_owned()],
                _ => Vec::new(),
            };
            let words = short_names.split(',').filter(|n| *n != "-");
            registry.add(Kind {
                type_name: format!("{}.{kind}", package(group)),
                group: group.to_owned(),
                version: version.to_owned(),
                resource: resource.to_owned(),
                singular: kind.to_lowercase(),
                kind: kind.to_owned(),
                namespaced: scope == "N",
                short_names: words.map(str::to_owned).collect(),
                categories: category,
                status: flags.contains('s'),
                virtual_: flags.contains('v'),
                generation: flags.contains('g'),
                custom: None,
                collection,
            });
        }
        registry
    }

    pub(crate) fn add(&mut self, kind: Kind) {
        let key = key(&kind.group, &kind.version, &kind.resource);
        self.kinds.insert(key, Arc::new(kind));
    }

    pub(crate) fn remove_group_resource(&mut self, group: &str, resource: &str) {
        self.kinds.retain(|_, k| !(k.custom.is_some() && k.is(group, resource)));
    }

    pub(crate) fn find(&self, group: &str, version: &str, resource: &str) -> Option<&Arc<Kind>> {
        self.kinds.get(&key(group, version, resource))
    }

    /// Finds any version of a kind by its name.
    pub(crate) fn by_kind(&self, api_version: &str, kind: &str) -> Option<&Arc<Kind>> {
        self.kinds.values().find(|k| k.kind == kind && k.api_version() == api_version)
    }

    /// All kinds, ordered by group, version and resource.
    pub(crate) fn iter(&self) -> impl Iterator<Item = &Arc<Kind>> {
        self.kinds.values()
    }

    /// The groups besides the core group, with their versions.
    pub(crate) fn groups(&self) -> BTreeMap<&str, Vec<&str>> {
        let mut groups: BTreeMap<&str, Vec<&str>> = BTreeMap::new();
        for kind in self.kinds.values().filter(|k| !k.group.is_empty()) {
            let versions = groups.entry(&kind.group).or_default();
            if !versions.contains(&kind.version.as_str()) {
                versions.push(&kind.version);
            }
        }
        groups
    }
}

fn key(group: &str, version: &str, resource: &str) -> (String, String, String) {
    (group.to_owned(), version.to_owned(), resource.to_owned())
}

/// The Go package of a group's types, as `generate.go` names it.
fn package(group: &str) -> &str {
    match group {
        "" => "core",
        "node.k8s.io" => "node",
        other => other.split('.').next().unwrap_or(other),
    }
}
