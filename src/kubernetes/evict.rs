//! Evicts one pod, by its uid, and tells what became of it.
//!
//! An eviction may be repeated: it means one uid, and a pod that is being deleted is deleted no
//! more. So one whose answer is lost is sent again, as a bind is.

use super::bind::{Binder, REPEAT_WAIT, RETRY_AFTER_MAX, pod_path};
use super::client::Reply;
use crate::scheduler::{EvictOutcome, PodRef};
use http::{Method, StatusCode};
use serde::Deserialize;
use std::sync::atomic::Ordering;

const JSON: &str = "application/json";
/// Answers that leave it open whether the pod goes, after which the pod is looked at for the last
/// time: about 25 seconds. A webhook that fails for good must not keep its pods in flight for good.
const OPEN_ANSWERS_MAX: u32 = 16;
/// What upstream answers, as an error of the server, for a pod of two budgets.
const TWO_BUDGETS: &str = "This pod has more than one PodDisruptionBudget";

/// What an answer means.
#[derive(Debug, PartialEq, Eq)]
enum Meaning {
    Final(EvictOutcome),
    /// The uid may be another's by now: the pod tells.
    Conflict,
    /// The server is busy; nothing was done.
    Busy,
    /// It may or may not have been carried out.
    Open,
}

/// The parts of a `Status` body that tell.
#[derive(Default, Deserialize)]
struct Told {
    #[serde(default)]
    status: String,
    code: Option<u16>,
    #[serde(default)]
    message: String,
    details: Option<Details>,
}

#[derive(Deserialize)]
struct Details {
    #[serde(default)]
    causes: Vec<Cause>,
}

#[derive(Deserialize)]
struct Cause {
    #[serde(default)]
    reason: String,
    #[serde(default)]
    message: String,
}

impl Told {
    /// What a disruption budget has to say; `None`: the answer is not a budget's.
    fn budget(&self) -> Option<Box<str>> {
        let causes = self.details.iter().flat_map(|details| &details.causes);
        let mut ours = causes.filter(|cause| cause.reason == "DisruptionBudget").peekable();
        ours.peek()?;
        let said: Vec<&str> = ours.map(|cause| &*cause.message).filter(|m| !m.is_empty()).collect();
        Some(if said.is_empty() { self.message.as_str().into() } else { said.join("; ").into() })
    }
}

fn meaning(status: StatusCode, body: &[u8]) -> Meaning {
    let told: Told = serde_json::from_slice(body).unwrap_or_default();
    // a failure is taken at its own word, whatever code it came under
    let failed = told.code.filter(|_| told.status == "Failure");
    let status = failed.and_then(|code| StatusCode::from_u16(code).ok()).unwrap_or(status);
    match status {
        status if status.is_success() => Meaning::Final(EvictOutcome::Evicted),
        StatusCode::NOT_FOUND => Meaning::Final(EvictOutcome::Evicted),
        StatusCode::CONFLICT => Meaning::Conflict,
        StatusCode::TOO_MANY_REQUESTS => match told.budget() {
            Some(said) => Meaning::Final(EvictOutcome::Protected(said)),
            None => Meaning::Busy,
        },
        StatusCode::UNAUTHORIZED => Meaning::Open,
        status if status.is_client_error() => Meaning::Final(EvictOutcome::Failed),
        _ if told.message.starts_with(TWO_BUDGETS) => {
            Meaning::Final(EvictOutcome::Protected(told.message.into()))
        }
        _ => Meaning::Open,
    }
}

impl Binder {
    /// Evicts a pod of this very uid with its own grace period, and returns the final answer.
    pub(super) async fn evict(&self, pod: &PodRef) -> EvictOutcome {
        let mut wait = REPEAT_WAIT.0;
        let mut sent = false;
        let mut open_answers = 0;
        loop {
            // one that has left is repeated even while draining, as its fate must be known
            if !self.fence.is_open() || (!sent && self.draining.load(Ordering::Acquire)) {
                if !sent {
                    return EvictOutcome::Failed;
                }
                tokio::time::sleep(REPEAT_WAIT.1).await;
                continue;
            }
            let mut pause = wait;
            match self.post_eviction(pod).await {
                Reply::Answer { status, retry_after, body } => match meaning(status, &body) {
                    Meaning::Final(outcome) => return outcome,
                    Meaning::Busy => pause = retry_after.unwrap_or(wait).min(RETRY_AFTER_MAX),
                    open @ (Meaning::Conflict | Meaning::Open) => {
                        sent = true;
                        open_answers += 1;
                        let last = open_answers >= OPEN_ANSWERS_MAX;
                        if last || open == Meaning::Conflict {
                            match self.is_going(pod).await {
                                Some(true) => return EvictOutcome::Evicted,
                                Some(false) if last => return EvictOutcome::Failed,
                                Some(false) | None => {}
                            }
                        }
                    }
                },
                Reply::Unknown(_) => sent = true,
            }
            tokio::time::sleep(pause).await;
            wait = (wait * 2).min(REPEAT_WAIT.1);
        }
    }

    async fn post_eviction(&self, pod: &PodRef) -> Reply {
        let (namespace, name) = (&pod.key.namespace, &pod.key.name);
        // both are DNS names, and a UUID: nothing needs escaping
        let body = format!(
            r#"{{"apiVersion":"policy/v1","kind":"Eviction","metadata":{{"name":"{name}","namespace":"{namespace}"}},"deleteOptions":{{"preconditions":{{"uid":"{}"}}}}}}"#,
            pod.uid
        );
        let path = format!("{}/eviction", pod_path(&pod.key));
        self.connection.call(Method::POST, &path, JSON, body.into_bytes(), self.deadline).await
    }

    /// Whether the pod is being deleted, is gone, or is another by now. `None`: it could not be
    /// asked.
    async fn is_going(&self, pod: &PodRef) -> Option<bool> {
        let (uid, deleting) = match self.look_at(&pod.key).await? {
            None => return Some(true),
            Some(found) => (found.metadata.uid, found.metadata.deletion_timestamp.is_some()),
        };
        Some(deleting || uid != pod.uid.to_string())
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::{Value, json};

    fn read(code: u16, body: &Value) -> Meaning {
        meaning(StatusCode::from_u16(code).expect("a code"), body.to_string().as_bytes())
    }

    fn failure(code: u16, message: &str, cause: Option<&str>) -> Value {
        let causes = cause.map(|said| json!([{ "reason": "DisruptionBudget", "message": said }]));
        json!({
            "kind": "Status", "status": "Failure", "code": code, "message": message,
            "details": { "causes": causes.unwrap_or(json!([])) },
        })
    }

    #[test]
    fn answers_mean_what_upstream_means() {
        let evicted = || Meaning::Final(EvictOutcome::Evicted);
        let protected = |text: &str| Meaning::Final(EvictOutcome::Protected(text.into()));
        let success = json!({ "kind": "Status", "status": "Success" });
        let budget = failure(429, "Cannot evict pod", Some("The disruption budget b needs 2"));
        let wordless = failure(429, "Cannot evict pod", Some(""));
        let twice = format!("{TWO_BUDGETS}, which is not supported.");
        let cases = [
            (201, success.clone(), evicted()),
            (200, success, evicted()),
            (201, json!("no status at all"), evicted()),
            (404, failure(404, "pods \"a\" not found", None), evicted()),
            (409, failure(409, "the UID in the precondition", None), Meaning::Conflict),
            (429, budget, protected("The disruption budget b needs 2")),
            (429, wordless, protected("Cannot evict pod")),
            (429, failure(429, "too many requests, try again later", None), Meaning::Busy),
            (429, json!(null), Meaning::Busy),
            (500, failure(500, &twice, None), protected(&twice)),
            (201, failure(500, &twice, None), protected(&twice)),
            (500, failure(500, "etcdserver: request timed out", None), Meaning::Open),
            (503, json!(null), Meaning::Open),
            (504, failure(504, "timeout", None), Meaning::Open),
            (401, failure(401, "Unauthorized", None), Meaning::Open),
            (403, failure(403, "forbidden", None), Meaning::Final(EvictOutcome::Failed)),
            (422, failure(422, "invalid", None), Meaning::Final(EvictOutcome::Failed)),
        ];
        for (code, body, expected) in cases {
            assert_eq!(read(code, &body), expected, "{code} {body}");
        }
    }
}
