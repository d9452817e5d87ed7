//! The watch of Jobs, to warn of those for which an eviction counts as a failure: after a few of
//! them such a Job is at its `backoffLimit` and fails for good.

use super::queues::{LOOK_AGAIN, status_of};
use super::{PAGE, name, uid};
use crate::kubernetes::lease::Fence;
use crate::kubernetes::objects::JobObject;
use crate::model::contract::PREEMPTIBLE;
use crate::model::{PodKey, Uid};
use futures::{Stream, StreamExt};
use kube::Api;
use kube_runtime::WatchStreamExt;
use kube_runtime::watcher::{self, Event as Watched, watcher};
use rustc_hash::FxHashSet;
use std::time::Duration;
use tokio::sync::mpsc;

/// Jobs that are remembered, so that none is warned of twice.
const REMEMBERED_MAX: usize = 16_384;
/// How often a standby looks whether it leads.
const STANDBY: Duration = Duration::from_secs(1);

/// A Job to warn of.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Job {
    /// Namespace and name.
    pub key: PodKey,
    /// Identity.
    pub uid: Uid,
}

/// Warns of Jobs whose pods name one of the schedulers, until nobody listens. Begins when this
/// process leads.
pub async fn run(
    client: kube::Client,
    schedulers: Vec<Box<str>>,
    fence: Fence,
    found: mpsc::Sender<Job>,
) {
    let mut warned = Warned { schedulers, known: FxHashSet::default(), found };
    loop {
        while !fence.is_open() {
            tokio::time::sleep(STANDBY).await;
        }
        let config = watcher::Config::default().page_size(PAGE);
        let stream = watcher(Api::<JobObject>::all(client.clone()), config).default_backoff();
        if !warned.take_all(stream).await {
            return;
        }
        tokio::time::sleep(LOOK_AGAIN).await;
    }
}

struct Warned {
    schedulers: Vec<Box<str>>,
    known: FxHashSet<Uid>,
    found: mpsc::Sender<Job>,
}

impl Warned {
    /// Looks at each Job that the stream names. True: they may not be read; false: nobody listens.
    async fn take_all(
        &mut self,
        stream: impl Stream<Item = Result<Watched<JobObject>, watcher::Error>>,
    ) -> bool {
        let mut stream = std::pin::pin!(stream);
        while let Some(item) = stream.next().await {
            match item {
                Ok(Watched::Apply(job) | Watched::InitApply(job)) => {
                    if self.is_due(&job) && self.found.send(reference(&job)).await.is_err() {
                        return false;
                    }
                }
                Ok(Watched::Delete(job)) => {
                    self.known.remove(&Uid::parse(uid(&job.meta)));
                }
                Ok(Watched::Init | Watched::InitDone) => {}
                Err(error) if matches!(status_of(&error), Some(403 | 404)) => {
                    tracing::warn!(%error, "cannot watch Jobs: none is warned of");
                    return true;
                }
                Err(error) => tracing::warn!(%error, "cannot watch Jobs"),
            }
        }
        false
    }

    fn is_due(&mut self, job: &JobObject) -> bool {
        let template = &job.spec.template;
        let ours = self.schedulers.iter().any(|own| **own == *template.spec.scheduler_name);
        let is_safe = template.meta.annotation(PREEMPTIBLE) == Some("false");
        if !ours || is_safe || job.is_over() || !job.counts_evictions() {
            return false;
        }
        if self.known.len() >= REMEMBERED_MAX {
            self.known.clear();
        }
        self.known.insert(Uid::parse(uid(&job.meta)))
    }
}

fn reference(job: &JobObject) -> Job {
    let key = PodKey { namespace: job.meta.namespace().into(), name: name(&job.meta) };
    Job { key, uid: Uid::parse(uid(&job.meta)) }
}

#[cfg(test)]
mod tests {
    use super::*;
    use kube::core::Status;
    use serde_json::{Value, json};

    fn job(number: u32, scheduler: &str, policy: Value) -> JobObject {
        let uid = format!("00000000-0000-4000-8000-{number:012}");
        serde_json::from_value(json!({
            "metadata": { "namespace": "nlp", "name": format!("job-{number}"), "uid": uid },
            "spec": {
                "template": { "spec": { "schedulerName": scheduler } },
                "podFailurePolicy": policy,
            },
            "status": null,
        }))
        .expect("a Job")
    }

    #[tokio::test]
    async fn each_job_that_counts_evictions_is_told_once() {
        let ignores = json!({ "rules": [
            { "action": "FailJob", "onExitCodes": { "operator": "In", "values": [42] } },
            { "action": "Ignore", "onPodConditions": [{ "type": "DisruptionTarget" }] },
        ]});
        let counts = json!({ "rules": [
            { "action": "Count", "onPodConditions": [{ "type": "DisruptionTarget" }] },
        ]});
        let mut over = job(5, "ours", Value::Null);
        let done = json!([{ "type": "Complete", "status": "True" }]);
        over.status.conditions = serde_json::from_value(done).expect("conditions");
        let mut safe = job(6, "ours", Value::Null);
        safe.spec.template.meta.annotations = vec![(PREEMPTIBLE.into(), "false".into())];
        let status = Status { code: 403, ..Status::default() };
        let refused = watcher::Error::WatchStartFailed(kube::Error::Api(status.boxed()));
        let items = vec![
            Ok(Watched::Init),
            Ok(Watched::InitApply(job(1, "ours", Value::Null))),
            Ok(Watched::InitApply(job(2, "ours", ignores))),
            Ok(Watched::InitApply(job(3, "default-scheduler", Value::Null))),
            Ok(Watched::InitDone),
            Ok(Watched::Apply(job(1, "ours", Value::Null))),
            Ok(Watched::Apply(job(4, "ours", counts))),
            Ok(Watched::Apply(over)),
            Ok(Watched::Apply(safe)),
            Ok(Watched::Delete(job(1, "ours", Value::Null))),
            Err(refused),
        ];
        let (sender, mut found) = mpsc::channel(16);
        let schedulers = vec!["ours".into()];
        let mut warned = Warned { schedulers, known: FxHashSet::default(), found: sender };
        assert!(warned.take_all(futures::stream::iter(items)).await, "they may not be read");
        assert_eq!(warned.known.len(), 1, "a Job that is gone is forgotten");
        drop(warned);
        let mut names = Vec::new();
        while let Some(job) = found.recv().await {
            names.push(job.key.to_string());
        }
        assert_eq!(names, ["nlp/job-1", "nlp/job-4"]);
    }
}
