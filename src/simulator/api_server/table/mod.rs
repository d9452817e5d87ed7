//! Tables: what `kubectl get` prints, in upstream's columns.

mod cells;
mod pods;
mod workloads;

use super::kinds::Kind;
use serde_json::{Value, json};

/// How rows carry their objects (`includeObject`).
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum TableForm {
    /// Only metadata, the default.
    Metadata,
    /// The whole object.
    Object,
    /// Nothing.
    None,
}

/// Columns by resource; `*` marks a wide one, `#` a number.
const COLUMNS: [(&str, &str); 29] = [
    ("pods", "Name,Ready,Status,Restarts,Age,*IP,*Node,*Nominated Node,*Readiness Gates"),
    (
        "nodes",
        "Name,Status,Roles,Age,Version,*Internal-IP,*External-IP,*OS-Image,*Kernel-Version,\
         *Container-Runtime",
    ),
    ("namespaces", "Name,Status,Age"),
    ("events", "Last Seen,Type,Reason,Object,*Subobject,*Source,Message,*First Seen,*Count,*Name"),
    ("configmaps", "Name,#Data,Age"),
    ("secrets", "Name,Type,#Data,Age"),
    ("services", "Name,Type,Cluster-IP,External-IP,Port(s),Age,*Selector"),
    ("serviceaccounts", "Name,Age"),
    (
        "persistentvolumes",
        "Name,Capacity,Access Modes,Reclaim Policy,Status,Claim,StorageClass,\
         VolumeAttributesClass,Reason,Age,*VolumeMode",
    ),
    (
        "persistentvolumeclaims",
        "Name,Status,Volume,Capacity,Access Modes,StorageClass,VolumeAttributesClass,Age,\
         *VolumeMode",
    ),
    ("replicationcontrollers", "Name,#Desired,#Current,#Ready,Age,*Containers,*Images,*Selector"),
    ("leases", "Name,Holder,Age"),
    ("priorityclasses", "Name,#Value,Global-Default,Age,PreemptionPolicy"),
    ("poddisruptionbudgets", "Name,Min Available,Max Unavailable,#Allowed Disruptions,Age"),
    ("replicasets", "Name,#Desired,#Current,#Ready,Age,*Containers,*Images,*Selector"),
    ("statefulsets", "Name,Ready,Age,*Containers,*Images"),
    ("deployments", "Name,Ready,Up-to-date,Available,Age,*Containers,*Images,*Selector"),
    (
        "daemonsets",
        "Name,#Desired,#Current,#Ready,#Up-to-date,#Available,Node Selector,Age,*Containers,\
         *Images,*Selector",
    ),
    ("jobs", "Name,Status,Completions,Duration,Age,*Containers,*Images,*Selector"),
    ("storageclasses", "Name,Provisioner,ReclaimPolicy,VolumeBindingMode,AllowVolumeExpansion,Age"),
    ("csinodes", "Name,#Drivers,Age"),
    ("resourceclaims", "Name,State,Age"),
    ("resourceclaimtemplates", "Name,Age"),
    ("resourceslices", "Name,Node,Driver,Pool,Age"),
    ("deviceclasses", "Name,Age"),
    ("runtimeclasses", "Name,Handler,Age"),
    ("customresourcedefinitions", "Name,Scope,Versions,Created At"),
    ("endpoints", "Name,Endpoints,Age"),
    ("", "Name,Age"),
];

/// The `meta.k8s.io/v1` Table of `objects`, in the form that `kind` serves.
pub(crate) fn table<'a>(
    kind: &Kind,
    form: TableForm,
    objects: impl Iterator<Item = &'a Value>,
    metadata: Value,
) -> Value {
    let rows: Vec<_> = objects
        .map(|object| {
            let mut row = json!({ "cells": row_cells(kind, object) });
            if let Some(conditions) = pods::row_conditions(kind, object) {
                row["conditions"] = conditions;
            }
            match form {
                TableForm::None => {}
                TableForm::Object => row["object"] = object.clone(),
                TableForm::Metadata => {
                    row["object"] = json!({ "kind": "PartialObjectMetadata",
                        "apiVersion": "meta.k8s.io/v1", "metadata": object["metadata"] });
                }
            }
            row
        })
        .collect();
    json!({ "kind": "Table", "apiVersion": "meta.k8s.io/v1", "metadata": metadata,
        "columnDefinitions": columns(kind), "rows": rows })
}

fn columns(kind: &Kind) -> Vec<Value> {
    let column = |name: &str, kind: &str, priority: i64| {
        json!({ "name": name, "type": kind, "priority": priority, "description": name,
            "format": if name == "Name" { "name" } else { "" } })
    };
    if let Some(custom) = &kind.custom {
        let mut list = vec![column("Name", "string", 0)];
        for given in &custom.columns {
            list.push(json!({ "name": given["name"], "type": given["type"],
                "format": given["format"].as_str().unwrap_or(""),
                "description": given["description"].as_str().unwrap_or(""),
                "priority": given["priority"].as_i64().unwrap_or(0) }));
        }
        if custom.columns.is_empty() {
            list.push(column("Age", "date", 0));
        }
        return list;
    }
    let found = COLUMNS.iter().find(|(resource, _)| *resource == kind.resource);
    let (_, names) = found.unwrap_or(&COLUMNS[COLUMNS.len() - 1]);
    names
        .split(',')
        .map(|name| match name.strip_prefix('*') {
            Some(wide) => column(wide, "string", 1),
            None => match name.strip_prefix('#') {
                Some(number) => column(number, "integer", 0),
                None => column(name, "string", 0),
            },
        })
        .collect()
}

fn row_cells(kind: &Kind, object: &Value) -> Vec<Value> {
    let Some(custom) = &kind.custom else {
        return match kind.resource.as_str() {
            "pods" => pods::cells(object),
            _ => cells::cells(kind, object),
        };
    };
    let mut row = vec![object["metadata"]["name"].clone()];
    for column in &custom.columns {
        let value = json_path(object, column["jsonPath"].as_str().unwrap_or(""));
        row.push(match (column["type"].as_str(), value) {
            (Some("date"), Some(value)) => json!(cells::age(value)),
            (Some("string"), Some(value)) if !value.is_string() => json!(value.to_string()),
            (_, Some(value)) => value.clone(),
            (_, None) => Value::Null,
        });
    }
    if custom.columns.is_empty() {
        row.push(json!(cells::age(&object["metadata"]["creationTimestamp"])));
    }
    row
}

/// The paths that printer columns use: fields, indices, and `[?(@.type=="X")]` filters.
fn json_path<'a>(object: &'a Value, path: &str) -> Option<&'a Value> {
    let mut value = object;
    let mut rest = path;
    while !rest.is_empty() {
        if let Some(filter) = rest.strip_prefix("[?(@.") {
            let (condition, after) = filter.split_once(")]")?;
            let (field, wanted) = condition.split_once("==")?;
            let wanted = wanted.trim().trim_matches(['"', '\'']);
            value = value.as_array()?.iter().find(|item| item[field.trim()] == wanted)?;
            rest = after;
        } else if let Some(index) = rest.strip_prefix('[') {
            let (index, after) = index.split_once(']')?;
            value = match index.parse::<usize>() {
                Ok(number) => value.get(number)?,
                Err(_) => value.get(index.trim_matches(['"', '\'']))?,
            };
            rest = after;
        } else {
            let field = rest.strip_prefix('.').unwrap_or(rest);
            // a backslash keeps a dot inside a name
            let end = field
                .char_indices()
                .find(|(i, c)| "[.".contains(*c) && !field[..*i].ends_with('\\'))
                .map_or(field.len(), |(i, _)| i);
            value = value.get(field[..end].replace("\\.", "."))?;
            rest = &field[end..];
        }
    }
    Some(value)
}
