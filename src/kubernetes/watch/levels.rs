//! The watch of `Topology` objects of Kueue and of KAI. Either kind may not be installed, in which
//! of several versions is found by asking, and it is looked for again now and then.

use super::PAGE;
use super::queues::{LOOK_AGAIN, objects, status_of};
use crate::kubernetes::convert::levels::{Named, SOURCES, levels, merged};
use crate::model::Level;
use crate::scheduler::Event;
use futures::{Stream, StreamExt};
use kube::ResourceExt;
use kube::api::DynamicObject;
use kube_runtime::WatchStreamExt;
use kube_runtime::watcher::{self, Event as Watched, watcher};
use parking_lot::Mutex;
use tokio::sync::mpsc;

/// Watches both kinds until the scheduler's end of the channel is gone. `known` are the levels
/// without them.
pub async fn run(client: kube::Client, known: Vec<Level>, events: mpsc::Sender<Event>) {
    let found = Found { told: Mutex::new(known.clone()), known, objects: Mutex::default() };
    let [kueue, kai] = [0, 1].map(|source| found.follow(source, client.clone(), &events));
    tokio::join!(kueue, kai);
}

/// What the objects of both kinds say.
struct Found {
    known: Vec<Level>,
    objects: Mutex<Named>,
    told: Mutex<Vec<Level>>,
}

impl Found {
    async fn follow(&self, source: usize, client: kube::Client, events: &mpsc::Sender<Event>) {
        let of = SOURCES[source];
        loop {
            for version in of.versions {
                let kind = (of.kind, of.plural);
                let api = objects(client.clone(), (of.group, version), kind);
                let config = watcher::Config::default().page_size(PAGE);
                let stream = watcher(api, config).default_backoff();
                if !self.take_all(source, stream, events).await {
                    return;
                }
            }
            tokio::time::sleep(LOOK_AGAIN).await;
        }
    }

    /// Passes on what the stream says. True: the kind is not installed, or may not be read; false:
    /// nobody listens.
    async fn take_all(
        &self,
        source: usize,
        stream: impl Stream<Item = Result<Watched<DynamicObject>, watcher::Error>>,
        events: &mpsc::Sender<Event>,
    ) -> bool {
        let mut stream = std::pin::pin!(stream);
        let mut listed = Named::new();
        while let Some(item) = stream.next().await {
            let entry = |new: &DynamicObject| ((source, new.name_any()), levels(&new.data));
            let mut absent = false;
            match item {
                Ok(Watched::Init) => listed.clear(),
                Ok(Watched::InitApply(new)) => listed.extend([entry(&new)]),
                Ok(Watched::InitDone) => self.replace(source, std::mem::take(&mut listed)),
                Ok(Watched::Apply(new)) => self.objects.lock().extend([entry(&new)]),
                Ok(Watched::Delete(old)) => {
                    self.objects.lock().remove(&entry(&old).0);
                }
                Err(error) => {
                    absent = matches!(status_of(&error), Some(403 | 404));
                    if !absent {
                        tracing::warn!(%error, kind = SOURCES[source].group, "cannot watch topologies");
                        continue;
                    }
                    self.replace(source, Named::new());
                }
            }
            if !self.tell(events).await {
                return false;
            }
            if absent {
                return true;
            }
        }
        false
    }

    fn replace(&self, source: usize, listed: Named) {
        let mut objects = self.objects.lock();
        objects.retain(|(of, _), _| *of != source);
        objects.extend(listed);
    }

    /// Sends the levels if they are others than before. False: nobody listens.
    async fn tell(&self, events: &mpsc::Sender<Event>) -> bool {
        let levels = merged(&self.known, self.objects.lock().values().map(Vec::as_slice));
        if std::mem::replace(&mut *self.told.lock(), levels.clone()) == levels {
            return true;
        }
        let labels: Vec<&str> = levels.iter().map(|level| &*level.label).collect();
        tracing::info!(?labels, "topology levels, with those of Topology objects");
        events.send(Event::LevelsFound(levels)).await.is_ok()
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use kube::core::Status;
    use serde_json::json;

    fn object(name: &str, labels: &[&str]) -> DynamicObject {
        let levels: Vec<_> = labels.iter().map(|label| json!({ "nodeLabel": label })).collect();
        let value = json!({ "metadata": { "name": name }, "spec": { "levels": levels } });
        serde_json::from_value(value).expect("an object")
    }

    fn failure(code: u16) -> watcher::Error {
        let status = Status { code, ..Status::default() };
        watcher::Error::InitialListFailed(kube::Error::Api(status.boxed()))
    }

    #[tokio::test]
    async fn levels_are_told_when_they_change_and_taken_back_with_their_kind() {
        let known = vec![Level::from("zone")];
        let found = Found { told: Mutex::new(known.clone()), known, objects: Mutex::default() };
        let (sender, mut receiver) = mpsc::channel(64);
        let items = vec![
            Ok(Watched::Init),
            Err(failure(500)),
            Ok(Watched::Init),
            Ok(Watched::InitApply(object("a", &["zone", "rack"]))),
            Ok(Watched::InitDone),
            Ok(Watched::Apply(object("b", &["block", "rack"]))),
            Ok(Watched::Apply(object("b", &["block", "rack"]))),
            Ok(Watched::Delete(object("b", &["block", "rack"]))),
        ];
        assert!(!found.take_all(0, futures::stream::iter(items), &sender).await);
        let other = vec![Ok(Watched::Init), Err(failure(404))];
        assert!(found.take_all(1, futures::stream::iter(other), &sender).await, "not installed");
        let gone = vec![Ok(Watched::Init), Err(failure(404))];
        assert!(found.take_all(0, futures::stream::iter(gone), &sender).await);
        drop(sender);
        let mut told = Vec::new();
        while let Some(event) = receiver.recv().await {
            let Event::LevelsFound(levels) = event else { panic!("{event:?}") };
            let labels: Vec<&str> = levels.iter().map(|level| &*level.label).collect();
            told.push(labels.join(" "));
        }
        assert_eq!(told, ["zone rack", "zone block rack", "zone rack", "zone"]);
    }
}
