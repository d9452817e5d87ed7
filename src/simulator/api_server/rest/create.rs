//! POST: new objects.

use super::super::status::ApiError;
use super::super::store::StoreError;
use super::super::{admission, crd};
use super::decode::decode;
use super::{Api, Query, Target, Written, now, served};
use serde_json::{Value, json};

/// Upstream's alphabet of generated names: no vowels, so no words.
const ALPHABET: &[u8] = b"bcdfghjklmnpqrstvwxz2456789";
const SUFFIX_LENGTH: usize = 5;
const GENERATED_NAME_MAX: usize = 63;

impl Api {
    pub(crate) fn create(
        &self,
        target: &Target,
        body: Value,
        query: &Query,
    ) -> Result<Written, ApiError> {
        let kind = &target.kind;
        if kind.virtual_ {
            return Ok(self.answer_virtual(target, body));
        }
        let (mut object, warnings) = decode(kind, body, query.field_validation)?;
        self.place(target, &mut object)?;
        self.start_metadata(target, &mut object);
        admission::set_defaults(kind, &mut object);
        let name = object["metadata"]["name"].as_str().unwrap_or("").to_owned();
        let namespace = object["metadata"]["namespace"].as_str().unwrap_or("").to_owned();
        if kind.namespaced {
            self.check_namespace(target, &namespace, &name)?;
        }
        admission::prepare_create(&self.context(), kind, &mut object)?;
        let mut errors = admission::validate_create(kind, &object);
        if let Some(custom) = &kind.custom {
            errors.extend(crd::validate_object(&kind.kind, &custom.schema, &object));
        }
        if !errors.is_empty() {
            let told = object["kind"].as_str().unwrap_or(&kind.kind);
            return Err(ApiError::invalid(&kind.group, told, &name, &errors));
        }
        if kind.is("apiextensions.k8s.io", "customresourcedefinitions") {
            crd::establish(&mut object, &now());
        }
        let key = kind.key(&namespace, &name);
        if query.dry_run {
            if self.store.get(kind.collection, &key).is_some() {
                return Err(self.taken(&target.named(&namespace, &name)));
            }
            return Ok(Written { code: 201, body: served(kind, &object), warnings });
        }
        let stored = self.store.create(kind.collection, &key, object).map_err(|e| match e {
            StoreError::Exists => self.taken(&target.named(&namespace, &name)),
            other => ApiError::internal(other.to_string()),
        })?;
        self.written(&target.named(&namespace, &name), &stored.value);
        Ok(Written { code: 201, body: served(kind, &stored.value), warnings })
    }

    /// What follows from a write: served kinds, and the state of disruption budgets.
    pub(super) fn written(&self, target: &Target, object: &Value) {
        let kind = &target.kind;
        if kind.is("apiextensions.k8s.io", "customresourcedefinitions") {
            self.change_registry(|registry| crd::install(registry, &self.store, object));
        }
        if kind.is_pod() || kind.group == "policy" {
            self.update_budgets(&target.namespace);
        }
    }

    fn taken(&self, target: &Target) -> ApiError {
        let kind = &target.kind;
        let mut error = ApiError::already_exists(&kind.group, &kind.resource, &target.name);
        let deleting =
            |old: std::sync::Arc<super::Object>| !old.meta("deletionTimestamp").is_empty();
        if self.get(target).is_ok_and(deleting) {
            error.message = format!("object is being deleted: {}", error.message);
        }
        error
    }

    /// Settles namespace and name.
    fn place(&self, target: &Target, object: &mut Value) -> Result<(), ApiError> {
        let metadata = &mut object["metadata"];
        if metadata.is_null() {
            *metadata = json!({});
        }
        let given = metadata["namespace"].as_str().unwrap_or("").to_owned();
        if target.kind.namespaced {
            let namespace = match target.namespace.as_str() {
                // kinds of a namespace are created inside one
                "" => return Err(ApiError::method_not_allowed()),
                namespace => namespace,
            };
            if !given.is_empty() && given != namespace {
                return Err(ApiError::bad_request(
                    "the namespace of the provided object does not \
                    match the namespace sent on the request",
                ));
            }
            metadata["namespace"] = json!(namespace);
        } else if let Some(map) = metadata.as_object_mut() {
            map.remove("namespace");
        }
        let prefix = metadata["generateName"].as_str().unwrap_or("").to_owned();
        if metadata["name"].as_str().unwrap_or("").is_empty() && !prefix.is_empty() {
            metadata["name"] = json!(generate(&prefix));
        }
        if metadata["resourceVersion"].as_str().is_some_and(|v| !v.is_empty()) {
            return Err(ApiError::internal(
                "resourceVersion should not be set on objects to be created",
            ));
        }
        Ok(())
    }

    fn start_metadata(&self, target: &Target, object: &mut Value) {
        let Some(metadata) = object["metadata"].as_object_mut() else { return };
        for field in ["deletionTimestamp", "deletionGracePeriodSeconds", "selfLink", "generation"] {
            metadata.remove(field);
        }
        metadata.insert("uid".into(), json!(uuid::Uuid::new_v4().to_string()));
        metadata.insert("creationTimestamp".into(), json!(now()));
        if target.kind.generation {
            metadata.insert("generation".into(), json!(1));
        }
    }

    /// Upstream's NamespaceLifecycle admission plugin.
    fn check_namespace(
        &self,
        target: &Target,
        namespace: &str,
        name: &str,
    ) -> Result<(), ApiError> {
        let namespaces = self.builtin("", "v1", "namespaces");
        let Some(found) = self.store.get(namespaces.collection, namespace) else {
            return Err(ApiError::not_found("", "namespaces", namespace));
        };
        if found.value["metadata"]["deletionTimestamp"].is_string() {
            let kind = &target.kind;
            let why = format!(
                "unable to create new content in namespace {namespace} because it \
                is being terminated"
            );
            let mut error = ApiError::forbidden(&kind.group, &kind.resource, name, &why);
            error.details["causes"] = json!([{ "reason": "NamespaceTerminating",
                "message": format!("namespace {namespace} is being terminated"),
                "field": "metadata.namespace" }]);
            return Err(error);
        }
        Ok(())
    }
}

fn generate(prefix: &str) -> String {
    let random = uuid::Uuid::new_v4();
    let letters = random.as_bytes().iter().take(SUFFIX_LENGTH);
    let suffix = letters.map(|b| char::from(ALPHABET[usize::from(*b) % ALPHABET.len()]));
    let room = GENERATED_NAME_MAX - SUFFIX_LENGTH;
    prefix.chars().take(room).chain(suffix).collect()
}
