//! Gives claims their devices, and reserves them for the pod that is about to be bound.
//!
//! Before the binding, the devices are written into each claim's status with the pod as one of
//! those for which it is reserved: a kubelet starts no pod whose claims are not. Each write has the
//! version of the claim that was read just before as its precondition, so what another has written
//! meanwhile is never overwritten. If the pod is not bound in the end, what was written for it is
//! taken back. A process that dies in between leaves a claim that says itself what it has; whoever
//! leads next reads that.

use super::bind::{Binder, REPEAT_WAIT, RETRY_AFTER_MAX};
use super::client::{Reply, message};
use super::convert::claims::claim;
use crate::model::{ClaimState, Grant};
use crate::scheduler::{BindMember, BindOutcome};
use http::{Method, StatusCode};
use serde_json::{Value, json};

/// Keeps a claim that has devices from being deleted, as upstream's `resource.Finalizer`.
const FINALIZER: &str = "resource.kubernetes.io/delete-protection";
/// Most pods for which a claim may be reserved, as the API has it.
const RESERVED_MAX: usize = 256;
/// Repeats of taking back what was written, before it is left to whoever reads the claim.
const TAKE_BACK_TRIES: u32 = 8;
const API: &str = "/apis/resource.k8s.io/v1";
const JSON: &str = "application/json";

/// What came of a request.
enum Answer {
    Object(Value),
    /// the claim has been changed meanwhile, or nothing is known: look again
    Again,
    /// there is none
    Missing,
    Refused(Box<str>),
}

impl Binder {
    /// Gives all claims of a pod what they are to have.
    ///
    /// # Errors
    /// What to answer instead of binding; then nothing that was written is left, unless the lease
    /// is lost.
    pub(super) async fn grant_all(
        &self,
        member: &BindMember,
        written: &mut Vec<ClaimState>,
    ) -> Result<(), BindOutcome> {
        for (place, grant) in member.grants.iter().enumerate() {
            match self.grant_one(member, grant).await {
                Ok(state) => written.extend(state),
                Err(outcome) => {
                    self.take_back(member, &member.grants[..=place], written).await;
                    return Err(outcome);
                }
            }
        }
        Ok(())
    }

    async fn grant_one(
        &self,
        member: &BindMember,
        grant: &Grant,
    ) -> Result<Option<ClaimState>, BindOutcome> {
        let refused =
            |why: &str| BindOutcome::Refused(format!("claim {}: {why}", grant.name).into());
        let path = claim_path(member, grant);
        let mut wait = REPEAT_WAIT.0;
        loop {
            if !self.may_send() {
                return Err(BindOutcome::NotSent);
            }
            let answer = match self.claim_call(Method::GET, &path, None).await {
                Answer::Object(object) => match next_step(member, grant, object) {
                    Step::Done(object) => return Ok(claim(&object).map(|claim| claim.state())),
                    Step::No(why) => return Err(refused(why)),
                    Step::Protect(object) => {
                        self.claim_call(Method::PUT, &path, Some(&object)).await
                    }
                    Step::Reserve(object) => {
                        let status = format!("{path}/status");
                        self.claim_call(Method::PUT, &status, Some(&object)).await
                    }
                    Step::Allocate(mut object) => match self.class_configs(&object, grant).await {
                        Ok(configs) => {
                            allocate(member, grant, &mut object, configs);
                            let status = format!("{path}/status");
                            self.claim_call(Method::PUT, &status, Some(&object)).await
                        }
                        Err(answer) => answer,
                    },
                },
                other => other,
            };
            match answer {
                // the next look sees what was written, and what is left to do
                Answer::Object(_) => continue,
                Answer::Again => {}
                Answer::Missing => return Err(refused("it is gone")),
                Answer::Refused(why) => return Err(refused(&why)),
            }
            tokio::time::sleep(wait).await;
            wait = (wait * 2).min(REPEAT_WAIT.1);
        }
    }

    /// What the classes of the requests have as configuration, as the kubelet is given it.
    async fn class_configs(&self, object: &Value, grant: &Grant) -> Result<Vec<Value>, Answer> {
        let requests = list(&object["spec"]["devices"]["requests"]).iter();
        let granted = |name: &str| grant.devices.iter().any(|(request, _)| **request == *name);
        let mut configs = Vec::new();
        for request in requests {
            let name = request["name"].as_str().unwrap_or_default();
            let class = request["exactly"]["deviceClassName"].as_str().unwrap_or_default();
            if !granted(name) {
                continue;
            }
            let path = format!("{API}/deviceclasses/{class}");
            let class = match self.claim_call(Method::GET, &path, None).await {
                Answer::Object(class) => class,
                Answer::Missing => return Err(Answer::Refused("its device class is gone".into())),
                other => return Err(other),
            };
            for config in list(&class["spec"]["config"]) {
                let mut config = config.clone();
                config["source"] = json!("FromClass");
                config["requests"] = json!([name]);
                configs.push(config);
            }
        }
        Ok(configs)
    }

    /// Takes back what was written for a pod that is not bound: its reservations, and devices that
    /// nobody else has come to use.
    pub(super) async fn take_back(
        &self,
        member: &BindMember,
        grants: &[Grant],
        written: &mut Vec<ClaimState>,
    ) {
        for grant in grants {
            let path = claim_path(member, grant);
            let mut wait = REPEAT_WAIT.0;
            for _ in 0..TAKE_BACK_TRIES {
                if !self.fence.is_open() {
                    return;
                }
                let answer = match self.claim_call(Method::GET, &path, None).await {
                    Answer::Object(object) => match less(member, grant, object) {
                        // whatever it is, it is what the API shows now
                        Less::Done(object) => {
                            written.extend(claim(&object).map(|claim| claim.state()));
                            break;
                        }
                        Less::Status(object) => {
                            let status = format!("{path}/status");
                            self.claim_call(Method::PUT, &status, Some(&object)).await
                        }
                        Less::Finalizer(object) => {
                            self.claim_call(Method::PUT, &path, Some(&object)).await
                        }
                    },
                    other => other,
                };
                match answer {
                    Answer::Object(_) => continue,
                    Answer::Missing => break,
                    Answer::Again => {}
                    Answer::Refused(why) => {
                        tracing::warn!(%why, claim = %grant.name, "cannot take a claim back");
                    }
                }
                tokio::time::sleep(wait).await;
                wait = (wait * 2).min(REPEAT_WAIT.1);
            }
        }
    }

    async fn claim_call(&self, method: Method, path: &str, object: Option<&Value>) -> Answer {
        let body = object.map(|object| object.to_string().into_bytes()).unwrap_or_default();
        let reply = self.connection.call(method, path, JSON, body, self.deadline).await;
        let Reply::Answer { status, retry_after, body } = reply else { return Answer::Again };
        match status {
            status if status.is_success() => match serde_json::from_slice(&body) {
                Ok(object) => Answer::Object(object),
                Err(_) => Answer::Again,
            },
            StatusCode::NOT_FOUND => Answer::Missing,
            StatusCode::CONFLICT | StatusCode::UNAUTHORIZED => Answer::Again,
            StatusCode::TOO_MANY_REQUESTS => {
                tokio::time::sleep(retry_after.unwrap_or_default().min(RETRY_AFTER_MAX)).await;
                Answer::Again
            }
            status if status.is_client_error() => Answer::Refused(message(&body).into()),
            _ => Answer::Again,
        }
    }
}

/// What a claim needs next.
#[derive(Debug, PartialEq)]
enum Step {
    /// It has its devices and is reserved for the pod.
    Done(Value),
    /// It must not be given any more.
    No(&'static str),
    /// The finalizer is to be written.
    Protect(Value),
    /// It has devices, and the reservation is to be written.
    Reserve(Value),
    /// It is to be given devices.
    Allocate(Value),
}

fn next_step(member: &BindMember, grant: &Grant, mut object: Value) -> Step {
    if !is_granted(grant, &object) {
        return Step::No("another of its name has taken its place");
    }
    let has_devices = !object["status"]["allocation"].is_null();
    if has_devices && !grant.devices.is_empty() && !is_ours(grant, &object) {
        return Step::No("it has been given other devices meanwhile");
    }
    if has_devices && reserves(member, &object) {
        return Step::Done(object);
    }
    if !object["metadata"]["deletionTimestamp"].is_null() {
        return Step::No("it is being deleted");
    }
    if has_devices {
        if list(&object["status"]["reservedFor"]).len() >= RESERVED_MAX {
            return Step::No("too many pods have it");
        }
        reserve(member, &mut object);
        return Step::Reserve(object);
    }
    if grant.devices.is_empty() {
        return Step::No("its devices have been taken back meanwhile");
    }
    if !list(&object["metadata"]["finalizers"]).iter().any(|name| name == FINALIZER) {
        push(&mut object["metadata"]["finalizers"], json!(FINALIZER));
        return Step::Protect(object);
    }
    Step::Allocate(object)
}

/// Writes the devices and the reservation into a claim.
fn allocate(member: &BindMember, grant: &Grant, object: &mut Value, mut configs: Vec<Value>) {
    for config in list(&object["spec"]["devices"]["config"]) {
        let mut config = config.clone();
        config["source"] = json!("FromClaim");
        configs.push(config);
    }
    let results = grant.devices.iter().map(|(request, name)| {
        // a driver and a device have no slash in their names, a pool may
        let (driver, rest) = name.split_once('/').unwrap_or((name, ""));
        let (pool, device) = rest.rsplit_once('/').unwrap_or((rest, ""));
        json!({ "request": request, "driver": driver, "pool": pool, "device": device })
    });
    let mut devices = json!({ "results": results.collect::<Vec<_>>() });
    if !configs.is_empty() {
        devices["config"] = json!(configs);
    }
    let node = json!({ "key": "metadata.name", "operator": "In", "values": [&*member.node] });
    object["status"]["allocation"] = json!({
        "devices": devices,
        "nodeSelector": { "nodeSelectorTerms": [{ "matchFields": [node] }] },
    });
    reserve(member, object);
}

fn reserve(member: &BindMember, object: &mut Value) {
    let pod = json!({
        "resource": "pods",
        "name": member.pod.key.name,
        "uid": member.pod.uid.to_string(),
    });
    push(&mut object["status"]["reservedFor"], pod);
}

/// What is to be taken back next.
#[derive(Debug, PartialEq)]
enum Less {
    /// Nothing of what was written is left.
    Done(Value),
    /// The status without it is to be written.
    Status(Value),
    /// The finalizer is not needed any more.
    Finalizer(Value),
}

fn less(member: &BindMember, grant: &Grant, mut object: Value) -> Less {
    if !is_granted(grant, &object) {
        return Less::Done(object);
    }
    if reserves(member, &object) {
        let uid = member.pod.uid.to_string();
        if let Some(reserved) = object["status"]["reservedFor"].as_array_mut() {
            reserved.retain(|consumer| consumer["uid"] != *uid);
        }
        if list(&object["status"]["reservedFor"]).is_empty()
            && let Some(status) = object["status"].as_object_mut()
        {
            status.remove("reservedFor");
            if !grant.devices.is_empty() {
                status.remove("allocation");
            }
        }
        return Less::Status(object);
    }
    let is_open = object["status"]["allocation"].is_null() && !grant.devices.is_empty();
    let finalizers = object["metadata"]["finalizers"].as_array_mut();
    if let Some(finalizers) = finalizers.filter(|_| is_open)
        && finalizers.iter().any(|name| name == FINALIZER)
    {
        finalizers.retain(|name| name != FINALIZER);
        return Less::Finalizer(object);
    }
    Less::Done(object)
}

fn is_granted(grant: &Grant, object: &Value) -> bool {
    object["metadata"]["uid"] == *grant.claim.to_string()
}

fn reserves(member: &BindMember, object: &Value) -> bool {
    let uid = member.pod.uid.to_string();
    list(&object["status"]["reservedFor"]).iter().any(|consumer| consumer["uid"] == *uid)
}

/// Whether a claim has just the devices that are granted.
fn is_ours(grant: &Grant, object: &Value) -> bool {
    let has = claim(object).map(|claim| claim.state().devices).unwrap_or_default();
    let wanted = grant.devices.iter().map(|(_, name)| name);
    has.len() == grant.devices.len() && wanted.into_iter().all(|name| has.contains(name))
}

fn claim_path(member: &BindMember, grant: &Grant) -> String {
    format!("{API}/namespaces/{}/resourceclaims/{}", member.pod.key.namespace, grant.name)
}

fn push(list: &mut Value, value: Value) {
    match list {
        Value::Array(values) => values.push(value),
        other => *other = json!([value]),
    }
}

fn list(value: &Value) -> &[Value] {
    value.as_array().map_or(&[], Vec::as_slice)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::model::{DeviceSet, PodKey, Uid};
    use crate::scheduler::PodRef;

    const CLAIM: &str = "11111111-2222-3333-4444-555555555555";
    const POD: &str = "aaaaaaaa-2222-3333-4444-555555555555";

    fn member() -> (BindMember, Grant) {
        let key = PodKey { namespace: "ns".into(), name: "p".into() };
        let devices = vec![("r".into(), "d/a/b/x".into())];
        let grant = Grant { claim: Uid::parse(CLAIM), name: "c".into(), devices };
        let member = BindMember {
            pod: PodRef { key, uid: Uid::parse(POD) },
            node: "n".into(),
            devices: DeviceSet::EMPTY,
            grants: Box::new([grant.clone()]),
        };
        (member, grant)
    }

    fn object() -> Value {
        let config = json!([{ "opaque": { "driver": "d", "parameters": {} } }]);
        json!({ "metadata": { "name": "c", "uid": CLAIM },
            "spec": { "devices": { "config": config,
                "requests": [{ "name": "r", "exactly": { "deviceClassName": "k" } }] } } })
    }

    /// As far as it goes without the API.
    fn granted(member: &BindMember, grant: &Grant) -> Value {
        let Step::Protect(object) = next_step(member, grant, object()) else { panic!("no") };
        let Step::Allocate(mut object) = next_step(member, grant, object) else { panic!("no") };
        allocate(member, grant, &mut object, vec![json!({ "source": "FromClass" })]);
        object
    }

    #[test]
    fn a_claim_is_protected_then_given_its_devices_and_reserved() {
        let (member, grant) = member();
        let object = granted(&member, &grant);
        assert_eq!(object["metadata"]["finalizers"], json!([FINALIZER]));
        let allocation = &object["status"]["allocation"];
        let result = json!({ "request": "r", "driver": "d", "pool": "a/b", "device": "x" });
        assert_eq!(allocation["devices"]["results"], json!([result]));
        let sources = allocation["devices"]["config"].as_array().expect("a list").iter();
        let sources: Vec<&Value> = sources.map(|config| &config["source"]).collect();
        assert_eq!(sources, ["FromClass", "FromClaim"]);
        let consumer = json!({ "resource": "pods", "name": "p", "uid": POD });
        assert_eq!(object["status"]["reservedFor"], json!([consumer]));
        assert_eq!(next_step(&member, &grant, object.clone()), Step::Done(object.clone()));
        // and taken back, bit by bit
        let Less::Status(object) = less(&member, &grant, object) else { panic!("no") };
        assert_eq!(object["status"], json!({}));
        let Less::Finalizer(object) = less(&member, &grant, object) else { panic!("no") };
        assert_eq!(object["metadata"]["finalizers"], json!([]));
        assert_eq!(less(&member, &grant, object.clone()), Less::Done(object));
    }

    #[test]
    fn what_another_has_done_meanwhile_stands() {
        let (member, mut grant) = member();
        let no = |grant: &Grant, object: Value| match next_step(&member, grant, object) {
            Step::No(why) => why,
            step => panic!("{step:?}"),
        };
        let mut other = granted(&member, &grant);
        other["status"]["allocation"]["devices"]["results"][0]["device"] = json!("y");
        assert!(no(&grant, other).contains("other devices"));
        let mut anew = object();
        anew["metadata"]["uid"] = json!(POD);
        assert!(no(&grant, anew).contains("another of its name"));
        let mut leaving = object();
        leaving["metadata"]["deletionTimestamp"] = json!("2026-01-01T00:00:00Z");
        assert!(no(&grant, leaving).contains("deleted"));
        // a claim that others have keeps its devices when one of its pods is not bound
        let mut shared = granted(&member, &grant);
        push(&mut shared["status"]["reservedFor"], json!({ "resource": "pods", "uid": "other" }));
        let Less::Status(shared) = less(&member, &grant, shared) else { panic!("no") };
        assert!(!shared["status"]["allocation"].is_null());
        assert_eq!(less(&member, &grant, shared.clone()), Less::Done(shared.clone()));
        grant.devices.clear();
        assert!(matches!(next_step(&member, &grant, shared), Step::Reserve(_)));
        assert!(no(&grant, object()).contains("taken back"));
    }
}
