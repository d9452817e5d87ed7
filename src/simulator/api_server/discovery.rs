//! What clients ask before they ask for objects: groups, resources, versions, OpenAPI.

use super::kinds::{Kind, Registry, group_version};
use serde_json::{Map, Value, json};

/// The release whose behaviour is followed.
const MINOR: &str = "37";
const VERSION: &str = "v1.37.2";

const VERBS: [&str; 8] =
    ["create", "delete", "deletecollection", "get", "list", "patch", "update", "watch"];

/// `/version`.
pub(crate) fn version() -> Value {
    json!({
        "major": "1", "minor": MINOR, "emulationMajor": "1", "emulationMinor": MINOR,
        "minCompatibilityMajor": "1", "minCompatibilityMinor": "36",
        "gitVersion": format!("{VERSION}+mss-scheduler"), "gitCommit": "", "gitTreeState": "clean",
        "buildDate": "1970-01-01T00:00:00Z", "goVersion": "", "compiler": "",
        "platform": format!("{}/{}", std::env::consts::OS, std::env::consts::ARCH),
    })
}

/// The answer of a discovery path; `None` for other paths.
pub(crate) fn answer(registry: &Registry, path: &str, address: &str) -> Option<Value> {
    let parts: Vec<&str> = path.split('/').filter(|p| !p.is_empty()).collect();
    match parts[..] {
        ["version"] => Some(version()),
        ["api"] => Some(json!({ "kind": "APIVersions", "versions": ["v1"],
            "serverAddressByClientCIDRs":
                [{ "clientCIDR": "0.0.0.0/0", "serverAddress": address }] })),
        ["apis"] => {
            let groups: Vec<_> =
                registry.groups().into_iter().map(|(name, v)| group(name, &v, false)).collect();
            Some(json!({ "kind": "APIGroupList", "apiVersion": "v1", "groups": groups }))
        }
        ["apis", name] => registry.groups().get(name).map(|versions| group(name, versions, true)),
        ["api", version] => resources(registry, "", version),
        ["apis", group, version] => resources(registry, group, version),
        ["openapi", "v3"] => Some(openapi_index(registry)),
        ["openapi", "v3", "api", version] => openapi(registry, "", version),
        ["openapi", "v3", "apis", group, version] => openapi(registry, group, version),
        _ => None,
    }
}

fn group(name: &str, versions: &[&str], alone: bool) -> Value {
    let version = |v: &&str| json!({ "groupVersion": format!("{name}/{v}"), "version": v });
    let mut group = json!({
        "name": name,
        "versions": versions.iter().map(version).collect::<Vec<_>>(),
        "preferredVersion": versions.first().map(version),
    });
    if alone {
        group["kind"] = json!("APIGroup");
        group["apiVersion"] = json!("v1");
    }
    group
}

fn resources(registry: &Registry, group: &str, version: &str) -> Option<Value> {
    let kinds: Vec<_> =
        registry.iter().filter(|k| k.group == group && k.version == version).collect();
    if kinds.is_empty() {
        return None;
    }
    let mut list = Vec::new();
    if group.is_empty() {
        list.push(json!({ "name": "bindings", "singularName": "binding", "namespaced": true,
            "kind": "Binding", "verbs": ["create"] }));
    }
    for kind in kinds {
        list.push(resource(kind));
        let mut sub = |name: &str, kind_name: &str, verbs: &[&str]| {
            list.push(json!({ "name": format!("{}/{name}", kind.resource), "singularName": "",
                "namespaced": kind.namespaced, "kind": kind_name, "verbs": verbs }));
        };
        if kind.is_pod() {
            sub("binding", "Binding", &["create"]);
        }
        if kind.status {
            sub("status", &kind.kind, &["get", "patch", "update"]);
        }
        if kind.is_pod() {
            list.push(json!({ "name": "pods/eviction", "singularName": "", "namespaced": true,
                "group": "policy", "version": "v1", "kind": "Eviction", "verbs": ["create"] }));
        }
    }
    Some(json!({ "kind": "APIResourceList", "apiVersion": "v1",
        "groupVersion": group_version(group, version), "resources": list }))
}

fn resource(kind: &Kind) -> Value {
    let verbs: &[&str] = if kind.virtual_ { &["create"] } else { &VERBS };
    let mut resource = json!({ "name": kind.resource, "singularName": kind.singular,
        "namespaced": kind.namespaced, "kind": kind.kind, "verbs": verbs });
    for (field, names) in [("shortNames", &kind.short_names), ("categories", &kind.categories)] {
        if !names.is_empty() {
            resource[field] = json!(names);
        }
    }
    resource
}

fn openapi_index(registry: &Registry) -> Value {
    let mut paths = Map::new();
    let mut add = |path: String, version: &str| {
        let url = format!("/openapi/v3/{path}?hash={version}");
        paths.insert(path, json!({ "serverRelativeURL": url }));
    };
    add("api/v1".into(), "1");
    for (group, versions) in registry.groups() {
        for version in versions {
            add(format!("apis/{group}/{version}"), "1");
        }
    }
    json!({ "paths": paths })
}

/// A small OpenAPI document: per kind a schema, and the paths that kubectl looks at to learn that
/// the server validates fields.
fn openapi(registry: &Registry, group: &str, version: &str) -> Option<Value> {
    let kinds: Vec<_> =
        registry.iter().filter(|k| k.group == group && k.version == version).collect();
    if kinds.is_empty() {
        return None;
    }
    let mut paths = Map::new();
    let mut schemas = Map::new();
    for kind in kinds {
        let gvk = json!({ "group": kind.group, "version": kind.version, "kind": kind.kind });
        let root = if group.is_empty() {
            format!("/api/{version}")
        } else {
            format!("/apis/{group}/{version}")
        };
        let scope = if kind.namespaced { "/namespaces/{namespace}" } else { "" };
        let path = format!("{root}{scope}/{}/{{name}}", kind.resource);
        let parameter = |name: &str| {
            json!({ "name": name, "in": "query",
            "schema": { "type": "string", "uniqueItems": true } })
        };
        let parameters = ["dryRun", "fieldManager", "fieldValidation"].map(parameter);
        let operation = |action: &str| {
            json!({
                "operationId": format!("{action}{}", kind.kind),
                "parameters": parameters,
                "responses": { "200": { "description": "OK" } },
                "x-kubernetes-action": action, "x-kubernetes-group-version-kind": gvk,
            })
        };
        paths.insert(path, json!({ "patch": operation("patch"), "put": operation("put") }));
        let name = schema_name(kind);
        let mut schema = match &kind.custom {
            Some(custom) if custom.schema.is_object() => custom.schema.clone(),
            _ => super::schema::openapi(&kind.type_name, &mut schemas),
        };
        schema["x-kubernetes-group-version-kind"] = json!([gvk]);
        schemas.insert(name, schema);
    }
    Some(json!({ "openapi": "3.0.0",
        "info": { "title": "Kubernetes", "version": VERSION },
        "paths": paths, "components": { "schemas": schemas } }))
}

fn schema_name(kind: &Kind) -> String {
    match kind.type_name.as_str() {
        "" => format!("{}.{}.{}", kind.group, kind.version, kind.kind),
        name => name.to_owned(),
    }
}
