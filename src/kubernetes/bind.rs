//! Binds one pod, to one node, exactly once.
//!
//! A bind whose answer is lost may have been carried out. It is sent again with the same uid and
//! node until the answer is final: the API server takes a bind only once per uid, so repeating is
//! safe, and no other node is tried before the first is ruled out.

use super::client::{Connection, Reply, message};
use super::lease::Fence;
use crate::model::contract::GPU_DEVICES;
use crate::model::{ClaimState, PodKey};
use crate::scheduler::{BindMember, BindOutcome, DeleteOutcome, PodRef};
use http::{Method, StatusCode};
use serde::Deserialize;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

/// First and longest wait between repeats of a call whose fate is unknown.
pub(super) const REPEAT_WAIT: (Duration, Duration) =
    (Duration::from_millis(50), Duration::from_secs(2));
/// Longest `Retry-After` that is honoured: what waits holds room.
pub(super) const RETRY_AFTER_MAX: Duration = Duration::from_secs(10);
/// Repeats of a deletion before it is given back as failed.
const DELETE_TRIES: u32 = 8;
const JSON: &str = "application/json";

/// What binding needs.
pub(super) struct Binder {
    pub(super) connection: Connection,
    pub(super) fence: Fence,
    pub(super) deadline: Duration,
    /// nothing new is sent any more; what is in flight is seen out
    pub(super) draining: AtomicBool,
}

/// The part of a pod that tells what became of a call.
#[derive(Deserialize)]
pub(super) struct Bound {
    pub(super) metadata: BoundMeta,
    #[serde(default)]
    spec: BoundSpec,
}

#[derive(Deserialize)]
#[serde(rename_all = "camelCase")]
pub(super) struct BoundMeta {
    pub(super) uid: String,
    pub(super) deletion_timestamp: Option<String>,
}

#[derive(Default, Deserialize)]
#[serde(rename_all = "camelCase")]
struct BoundSpec {
    node_name: Option<Box<str>>,
}

impl Binder {
    pub(super) fn may_send(&self) -> bool {
        self.fence.is_open() && !self.draining.load(Ordering::Acquire)
    }

    /// Gives the pod's claims their devices, binds it, and returns the final answer, and claims as
    /// they were seen at last. `unknown` is called when an answer is lost.
    pub(super) async fn bind(
        &self,
        member: &BindMember,
        unknown: impl Fn(),
    ) -> (BindOutcome, Vec<ClaimState>) {
        let mut written = Vec::new();
        if let Err(outcome) = self.grant_all(member, &mut written).await {
            return (outcome, written);
        }
        let outcome = self.bind_pod(member, unknown).await;
        if outcome != BindOutcome::Bound {
            self.take_back(member, &member.grants, &mut written).await;
        }
        (outcome, written)
    }

    async fn bind_pod(&self, member: &BindMember, unknown: impl Fn()) -> BindOutcome {
        let mut wait = REPEAT_WAIT.0;
        let mut sent = false;
        loop {
            // a bind that has left is repeated even while draining, as its fate must be known
            if !self.fence.is_open() || (!sent && self.draining.load(Ordering::Acquire)) {
                if !sent {
                    return BindOutcome::NotSent;
                }
                tokio::time::sleep(REPEAT_WAIT.1).await;
                continue;
            }
            let reply = self.post(member).await;
            let pause = match reply {
                Reply::Answer { status, retry_after, body } => match status {
                    status if status.is_success() => return BindOutcome::Bound,
                    StatusCode::NOT_FOUND => return BindOutcome::Gone,
                    StatusCode::CONFLICT => match self.inspect(member, &body).await {
                        Some(outcome) => return outcome,
                        None => wait,
                    },
                    StatusCode::TOO_MANY_REQUESTS => {
                        retry_after.unwrap_or(wait).min(RETRY_AFTER_MAX)
                    }
                    status if status.is_client_error() && status != StatusCode::UNAUTHORIZED => {
                        return BindOutcome::Refused(message(&body).into());
                    }
                    _ => {
                        sent = true;
                        unknown();
                        wait
                    }
                },
                Reply::Unknown(_) => {
                    sent = true;
                    unknown();
                    wait
                }
            };
            tokio::time::sleep(pause).await;
            wait = (wait * 2).min(REPEAT_WAIT.1);
        }
    }

    async fn post(&self, member: &BindMember) -> Reply {
        let PodKey { namespace, name } = &member.pod.key;
        let body = binding(member);
        let path = format!("/api/v1/namespaces/{namespace}/pods/{name}/binding");
        self.connection.call(Method::POST, &path, JSON, body.into_bytes(), self.deadline).await
    }

    /// What a conflict means: the pod itself tells. `None`: it could not be asked.
    async fn inspect(&self, member: &BindMember, conflict: &[u8]) -> Option<BindOutcome> {
        let Some(pod) = self.look_at(&member.pod.key).await? else {
            return Some(BindOutcome::Gone);
        };
        if pod.metadata.uid != member.pod.uid.to_string() {
            return Some(BindOutcome::Gone);
        }
        Some(match pod.spec.node_name {
            Some(node) if *node == *member.node => BindOutcome::Bound,
            Some(node) if !node.is_empty() => BindOutcome::BoundElsewhere(node),
            _ if pod.metadata.deletion_timestamp.is_some() => BindOutcome::Gone,
            _ => BindOutcome::Refused(message(conflict).into()),
        })
    }

    /// The pod of this name; inner `None`: there is none. `None`: it could not be asked.
    pub(super) async fn look_at(&self, key: &PodKey) -> Option<Option<Bound>> {
        let path = pod_path(key);
        let reply = self.connection.call(Method::GET, &path, JSON, Vec::new(), self.deadline).await;
        let Reply::Answer { status, body, .. } = reply else { return None };
        if status == StatusCode::NOT_FOUND {
            return Some(None);
        }
        serde_json::from_slice(&body).ok().filter(|_| status.is_success()).map(Some)
    }

    /// Deletes a pod of this very uid; its own grace period applies.
    pub(super) async fn delete(&self, pod: &PodRef) -> DeleteOutcome {
        let path = pod_path(&pod.key);
        let body = format!(
            r#"{{"apiVersion":"v1","kind":"DeleteOptions","preconditions":{{"uid":"{}"}}}}"#,
            pod.uid
        );
        let mut wait = REPEAT_WAIT.0;
        for _ in 0..DELETE_TRIES {
            if !self.may_send() {
                return DeleteOutcome::Failed;
            }
            let body = body.clone().into_bytes();
            let reply = self.connection.call(Method::DELETE, &path, JSON, body, self.deadline);
            if let Reply::Answer { status, .. } = reply.await {
                match status {
                    status if status.is_success() => return DeleteOutcome::Deleted,
                    // gone, or a namesake stands there by now
                    StatusCode::NOT_FOUND | StatusCode::CONFLICT => return DeleteOutcome::Deleted,
                    StatusCode::TOO_MANY_REQUESTS => {}
                    status if status.is_client_error() => return DeleteOutcome::Failed,
                    _ => {}
                }
            }
            tokio::time::sleep(wait).await;
            wait = (wait * 2).min(REPEAT_WAIT.1);
        }
        DeleteOutcome::Failed
    }
}

/// The Binding that is posted. The API server copies its annotations onto the pod.
fn binding(member: &BindMember) -> String {
    let PodKey { namespace, name } = &member.pod.key;
    let annotations = match member.devices {
        devices if devices.is_empty() => String::new(),
        devices => format!(r#","annotations":{{"{GPU_DEVICES}":"{devices}"}}"#),
    };
    // names are DNS names and a UUID, devices are numbers: nothing needs escaping
    format!(
        r#"{{"apiVersion":"v1","kind":"Binding","metadata":{{"name":"{name}","namespace":"{namespace}","uid":"{}"{annotations}}},"target":{{"apiVersion":"v1","kind":"Node","name":"{}"}}}}"#,
        member.pod.uid, member.node
    )
}

pub(super) fn pod_path(key: &PodKey) -> String {
    format!("/api/v1/namespaces/{}/pods/{}", key.namespace, key.name)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::model::{DeviceSet, Uid};
    use serde_json::{Value, json};

    #[test]
    fn a_binding_names_the_devices_if_they_are_known() {
        let key = PodKey { namespace: "ns".into(), name: "w-0".into() };
        let uid = Uid::parse("11111111-2222-3333-4444-555555555555");
        let devices = DeviceSet::EMPTY;
        let (pod, grants) = (PodRef { key, uid }, Box::default());
        let mut member = BindMember { pod, node: "n-1".into(), devices, grants };
        let mut expected = json!({
            "apiVersion": "v1",
            "kind": "Binding",
            "metadata": { "name": "w-0", "namespace": "ns", "uid": uid.to_string() },
            "target": { "apiVersion": "v1", "kind": "Node", "name": "n-1" },
        });
        let read = |member: &BindMember| serde_json::from_str::<Value>(&binding(member)).unwrap();
        assert_eq!(read(&member), expected);
        member.devices = DeviceSet::parse("0,3").unwrap();
        expected["metadata"]["annotations"] = json!({ "mss-scheduler.io/gpu-devices": "0,3" });
        assert_eq!(read(&member), expected);
    }
}
