//! DELETE: with grace, finalizers and preconditions.

use super::super::kinds::Kind;
use super::super::status::ApiError;
use super::super::store::{Object, Range, StoreError};
use super::{Api, MAX_RETRIES, Query, Target, Written, modified, now, served};
use serde_json::{Value, json};

/// `DeleteOptions`, from the body and the query.
#[derive(Clone, Debug, Default)]
pub(crate) struct DeleteOptions {
    pub(crate) grace_period: Option<i64>,
    pub(crate) uid: Option<String>,
    pub(crate) resource_version: Option<String>,
    pub(crate) dry_run: bool,
}

impl DeleteOptions {
    pub(crate) fn parse(body: &Value, query: &Query) -> Self {
        let text = |field: &str| {
            let value = body["preconditions"][field].as_str()?;
            (!value.is_empty()).then(|| value.to_owned())
        };
        Self {
            grace_period: body["gracePeriodSeconds"].as_i64().or(query.grace_period),
            uid: text("uid"),
            resource_version: text("resourceVersion"),
            dry_run: query.dry_run || body["dryRun"].as_array().is_some_and(|d| !d.is_empty()),
        }
    }
}

/// What a deletion does next to an object.
enum Step {
    /// Nothing: it is on its way already.
    Pending,
    /// Store this mark of deletion; remove the object afterwards, or leave that to others.
    Mark(Value, bool),
    Remove,
}

/// Kinds whose deletion answers the object instead of a `Status`, as upstream configures them.
fn returns_object(kind: &Kind) -> bool {
    match kind.group.as_str() {
        "" => matches!(
            kind.resource.as_str(),
            "pods"
                | "namespaces"
                | "persistentvolumes"
                | "persistentvolumeclaims"
                | "podtemplates"
                | "resourcequotas"
                | "services"
                | "serviceaccounts"
        ),
        "resource.k8s.io" => true,
        "storage.k8s.io" => kind.resource != "csistoragecapacities",
        _ => false,
    }
}

impl Api {
    pub(crate) fn delete(
        &self,
        target: &Target,
        options: &DeleteOptions,
    ) -> Result<Written, ApiError> {
        let kind = &target.kind;
        let answer = |body| Written { code: 200, body, warnings: Vec::new() };
        for _ in 0..MAX_RETRIES {
            let old = self.get(target)?;
            let step = plan(target, &old, options)?;
            if options.dry_run {
                let shown = if let Step::Mark(value, _) = &step { value } else { &old.value };
                return Ok(answer(served(kind, shown)));
            }
            match self.carry_out(target, old, step) {
                Ok((last, removed)) => {
                    if removed {
                        self.deleted(target, &last.value);
                    }
                    self.written(target, &Value::Null);
                    if !removed || returns_object(kind) {
                        return Ok(answer(served(kind, &last.value)));
                    }
                    return Ok(answer(success(target, &last)));
                }
                Err(StoreError::Missing) => {
                    return Err(ApiError::not_found(&kind.group, &kind.resource, &target.name));
                }
                Err(_) => {}
            }
        }
        Err(modified(target))
    }

    fn carry_out(
        &self,
        target: &Target,
        old: std::sync::Arc<Object>,
        step: Step,
    ) -> Result<(std::sync::Arc<Object>, bool), StoreError> {
        let id = target.kind.collection;
        let key = target.kind.key(&target.namespace, &target.name);
        let (marked, remove) = match step {
            Step::Pending => return Ok((old, false)),
            Step::Mark(value, remove) => (self.store.update(id, &key, &old, value)?, remove),
            Step::Remove => (old, true),
        };
        if !remove {
            return Ok((marked, false));
        }
        let last = self.store.delete(id, &key, &marked, marked.value.clone())?;
        Ok((last, true))
    }

    /// What follows from the end of an object.
    pub(super) fn deleted(&self, target: &Target, last: &Value) {
        let kind = &target.kind;
        if kind.is("", "namespaces") {
            self.empty_namespace(&target.name);
        }
        if kind.is("apiextensions.k8s.io", "customresourcedefinitions") {
            let group = last["spec"]["group"].as_str().unwrap_or("").to_owned();
            let resource = last["spec"]["names"]["plural"].as_str().unwrap_or("").to_owned();
            let gone = self.registry().iter().find(|k| k.is(&group, &resource)).cloned();
            if let Some(kind) = gone {
                self.remove_all(&kind, "");
            }
            self.change_registry(|registry| registry.remove_group_resource(&group, &resource));
        }
    }

    /// Upstream's namespace controller, at once: everything in the namespace goes, without grace.
    fn empty_namespace(&self, namespace: &str) {
        for kind in self.registry().iter().filter(|k| k.namespaced && !k.virtual_) {
            self.remove_all(kind, &format!("{namespace}/"));
        }
    }

    fn remove_all(&self, kind: &Kind, prefix: &str) {
        let range = Range { prefix, ..Range::default() };
        let Ok(page) = self.store.list(kind.collection, &range) else { return };
        for object in page.objects {
            let key = kind.key(object.meta("namespace"), object.meta("name"));
            self.store.delete(kind.collection, &key, &object, object.value.clone()).ok();
        }
    }

    /// DELETE of a collection: every object that the selectors match.
    pub(crate) fn delete_collection(
        &self,
        target: &Target,
        query: &Query,
        options: &DeleteOptions,
    ) -> Result<Written, ApiError> {
        let (page, body) = self.list_objects(target, query)?;
        for object in page {
            let one = target.named(object.meta("namespace"), object.meta("name"));
            match self.delete(&one, options) {
                Err(error) if error.reason.code() != 404 => return Err(error),
                _ => {}
            }
        }
        Ok(Written { code: 200, body, warnings: Vec::new() })
    }
}

fn success(target: &Target, last: &Object) -> Value {
    let kind = &target.kind;
    let mut details =
        json!({ "name": target.name, "kind": kind.resource, "uid": last.meta("uid") });
    if !kind.group.is_empty() {
        details["group"] = json!(kind.group);
    }
    json!({ "kind": "Status", "apiVersion": "v1", "metadata": {}, "status": "Success",
        "details": details })
}

/// Upstream's `BeforeDelete`.
fn plan(target: &Target, old: &Object, options: &DeleteOptions) -> Result<Step, ApiError> {
    check_preconditions(target, old, options)?;
    let metadata = &old.value["metadata"];
    let finalizers = metadata["finalizers"].as_array().is_some_and(|f| !f.is_empty());
    if !target.kind.is_pod() {
        if metadata["deletionTimestamp"].is_string() {
            return Ok(if finalizers { Step::Pending } else { Step::Remove });
        }
        return Ok(if finalizers { Step::Mark(mark(old, 0), false) } else { Step::Remove });
    }
    if !metadata["deletionTimestamp"].is_string() {
        let grace = grace(&old.value, options.grace_period);
        return Ok(Step::Mark(mark(old, grace), grace == 0 && !finalizers));
    }
    let left = metadata["deletionGracePeriodSeconds"].as_i64().unwrap_or(0);
    if left == 0 {
        return Ok(if finalizers { Step::Pending } else { Step::Remove });
    }
    // the grace of a pod on its way can only become shorter
    let asked = options.grace_period.map(|_| grace(&old.value, options.grace_period));
    match asked {
        Some(asked) if asked < left => {
            Ok(Step::Mark(shorten(old, left, asked), asked == 0 && !finalizers))
        }
        _ => Ok(Step::Pending),
    }
}

fn check_preconditions(
    target: &Target,
    old: &Object,
    options: &DeleteOptions,
) -> Result<(), ApiError> {
    let kind = &target.kind;
    let conflict =
        |why: String| Err(ApiError::conflict(&kind.group, &kind.kind, &target.name, &why));
    if let Some(uid) = &options.uid
        && uid != old.meta("uid")
    {
        return conflict(format!(
            "the UID in the precondition ({uid}) does not match the UID in record ({}). The \
             object might have been deleted and then recreated",
            old.meta("uid")
        ));
    }
    if let Some(version) = &options.resource_version
        && version != old.meta("resourceVersion")
    {
        return conflict(format!(
            "the ResourceVersion in the precondition ({version}) does not match the \
             ResourceVersion in record ({}). The object might have been modified",
            old.meta("resourceVersion")
        ));
    }
    Ok(())
}

/// Upstream's `CheckGracefulDelete` of pods, in seconds.
fn grace(pod: &Value, asked: Option<i64>) -> i64 {
    let default = pod["spec"]["terminationGracePeriodSeconds"].as_i64().unwrap_or(0);
    let bound = pod["spec"]["nodeName"].as_str().is_some_and(|n| !n.is_empty());
    let phase = pod["status"]["phase"].as_str().unwrap_or("");
    if !bound || ["Succeeded", "Failed"].contains(&phase) {
        return 0;
    }
    match asked.unwrap_or(default) {
        negative if negative < 0 => 1,
        period => period,
    }
}

fn mark(old: &Object, grace: i64) -> Value {
    let mut value = old.value.clone();
    let due = jiff::Timestamp::now() + jiff::SignedDuration::from_secs(grace);
    value["metadata"]["deletionTimestamp"] =
        if grace == 0 { json!(now()) } else { json!(format!("{due:.0}")) };
    value["metadata"]["deletionGracePeriodSeconds"] = json!(grace);
    if let Some(generation) = value["metadata"]["generation"].as_i64() {
        value["metadata"]["generation"] = json!(generation + 1);
    }
    value
}

fn shorten(old: &Object, left: i64, asked: i64) -> Value {
    let mut value = old.value.clone();
    let due = old.meta("deletionTimestamp").parse::<jiff::Timestamp>().unwrap_or_default();
    let due = due - jiff::SignedDuration::from_secs(left - asked);
    value["metadata"]["deletionTimestamp"] = json!(format!("{due:.0}"));
    value["metadata"]["deletionGracePeriodSeconds"] = json!(asked);
    value
}
