//! The watch of queues, which differs from the others in two ways: the kind may not be installed,
//! and an object may be wrong.
//!
//! Where the kind is not installed there are no queues, so an empty list is sent at once, and it is
//! looked for again now and then. An object that is wrong leaves in force what was so before.

use super::{Observer, PAGE, name};
use crate::kubernetes::convert::queue::{self, QueueError};
use crate::kubernetes::objects::QueueObject;
use crate::model::QueueSpec;
use crate::scheduler::{Event, Kind};
use futures::{Stream, StreamExt};
use jiff::Timestamp;
use kube::Api;
use kube::api::{ApiResource, DynamicObject};
use kube_runtime::WatchStreamExt;
use kube_runtime::watcher::{self, Event as Watched, watcher};
use rustc_hash::{FxHashMap, FxHashSet};
use std::time::Duration;
use tokio::sync::mpsc;

/// How often it is looked whether the kind has been installed.
pub(super) const LOOK_AGAIN: Duration = Duration::from_secs(30);

/// Watches until the scheduler's end of the channel is gone.
pub(super) async fn run(
    client: kube::Client,
    events: &mpsc::Sender<Event>,
    observer: &dyn Observer,
) {
    let api = Api::<QueueObject>::all(client);
    let mut queues = Queues::default();
    loop {
        let config = watcher::Config::default().page_size(PAGE);
        let stream = watcher(api.clone(), config).default_backoff();
        if !queues.follow(stream, events, observer).await {
            return;
        }
        tokio::time::sleep(LOOK_AGAIN).await;
    }
}

/// What the objects said so far.
#[derive(Default)]
struct Queues {
    /// what is in force
    good: FxHashMap<Box<str>, QueueSpec>,
    /// why the object of this name is refused
    refused: FxHashMap<Box<str>, QueueError>,
    /// names in the list that is being taken; `None`: none is
    listed: Option<FxHashSet<Box<str>>>,
    /// the scheduler has been told that there are none, as the kind is not installed
    told_absent: bool,
}

impl Queues {
    /// Passes on what the stream says. True: the kind is not installed; false: nobody listens.
    async fn follow(
        &mut self,
        stream: impl Stream<Item = Result<Watched<QueueObject>, watcher::Error>>,
        events: &mpsc::Sender<Event>,
        observer: &dyn Observer,
    ) -> bool {
        let mut stream = std::pin::pin!(stream);
        let mut absent = false;
        while let Some(item) = stream.next().await {
            let told = match item {
                Ok(item) => self.take_in(item, observer),
                Err(error) if is_absent(&error) => {
                    absent = true;
                    self.absent()
                }
                Err(error) => {
                    observer.failed(Kind::Queue, &error);
                    continue;
                }
            };
            for event in told {
                if events.send(event).await.is_err() {
                    return false;
                }
            }
            if absent {
                return true;
            }
        }
        false
    }

    fn absent(&mut self) -> Vec<Event> {
        let told_before = std::mem::replace(self, Self { told_absent: true, ..Self::default() });
        match told_before.told_absent {
            true => Vec::new(),
            false => vec![Event::ListStarted(Kind::Queue), Event::ListEnded(Kind::Queue)],
        }
    }

    fn take_in(&mut self, item: Watched<QueueObject>, observer: &dyn Observer) -> Vec<Event> {
        match item {
            // the watcher says so before it asks, and asking may fail: nothing is known yet
            Watched::Init => {
                self.listed = None;
                Vec::new()
            }
            Watched::InitApply(object) => {
                let mut told = self.begin_list(observer);
                if let Some(listed) = &mut self.listed {
                    listed.insert(name(&object.meta));
                }
                told.extend(self.apply(&object, observer));
                told
            }
            Watched::InitDone => {
                let mut told = self.begin_list(observer);
                let listed = self.listed.take().unwrap_or_default();
                self.good.retain(|name, _| listed.contains(name));
                self.refused.retain(|name, _| listed.contains(name));
                told.push(Event::ListEnded(Kind::Queue));
                told
            }
            Watched::Apply(object) => self.apply(&object, observer),
            Watched::Delete(object) => {
                let name = name(&object.meta);
                self.good.remove(&name);
                self.refused.remove(&name);
                vec![Event::QueueDeleted(name)]
            }
        }
    }

    fn begin_list(&mut self, observer: &dyn Observer) -> Vec<Event> {
        if self.listed.is_some() {
            return Vec::new();
        }
        self.listed = Some(FxHashSet::default());
        self.told_absent = false;
        observer.listed(Kind::Queue);
        vec![Event::ListStarted(Kind::Queue)]
    }

    /// What is in force for this name from now on, if anything.
    fn apply(&mut self, object: &QueueObject, observer: &dyn Observer) -> Vec<Event> {
        let name = name(&object.meta);
        let mut told = Vec::new();
        told.extend(
            queue::remembered(object, Timestamp::now())
                .map(|usage| Event::UsageRemembered(Box::new(usage))),
        );
        match queue::queue(object) {
            Ok(spec) => {
                self.refused.remove(&name);
                self.good.insert(name, spec.clone());
                told.push(Event::QueueApplied(Box::new(spec)));
            }
            Err(error) => {
                let in_force = self.good.get(&name);
                // said again, as a list drops what it lacks
                told.extend(in_force.map(|spec| Event::QueueApplied(Box::new(spec.clone()))));
                let why = error.to_string().into();
                let generation = object.meta.generation();
                told.push(Event::QueueRefused { name: name.clone(), generation, why });
                if self.refused.get(&name) != Some(&error) {
                    observer.refused(&error, in_force.is_some());
                    self.refused.insert(name, error);
                }
            }
        }
        told
    }
}

/// The API server does not know the kind.
fn is_absent(error: &watcher::Error) -> bool {
    status_of(error) == Some(404)
}

/// All objects of a kind that may not be installed, by its group and version, and by its name and
/// plural.
pub(super) fn objects(
    client: kube::Client,
    (group, version): (&str, &str),
    (kind, plural): (&str, &str),
) -> Api<DynamicObject> {
    let resource = ApiResource {
        group: group.to_owned(),
        version: version.to_owned(),
        api_version: format!("{group}/{version}"),
        kind: kind.to_owned(),
        plural: plural.to_owned(),
    };
    Api::all_with(client, &resource)
}

/// What the API server answered.
pub(super) fn status_of(error: &watcher::Error) -> Option<u16> {
    match error {
        watcher::Error::InitialListFailed(kube::Error::Api(status))
        | watcher::Error::WatchStartFailed(kube::Error::Api(status))
        | watcher::Error::WatchError(status) => Some(status.code),
        _ => None,
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use kube::core::Status;
    use parking_lot::Mutex;
    use serde_json::{Value, json};

    #[derive(Default)]
    struct Seen {
        refused: Mutex<Vec<(String, bool)>>,
        failed: Mutex<u32>,
    }

    impl Observer for Seen {
        fn listed(&self, _: Kind) {}

        fn failed(&self, _: Kind, _: &watcher::Error) {
            *self.failed.lock() += 1;
        }

        fn refused(&self, error: &QueueError, in_force: bool) {
            self.refused.lock().push((error.to_string(), in_force));
        }
    }

    fn object(name: &str, spec: &Value) -> QueueObject {
        let value = json!({ "metadata": { "name": name }, "spec": spec });
        serde_json::from_value(value).expect("an object")
    }

    fn failure(code: u16) -> watcher::Error {
        let status = Status { code, ..Status::default() };
        watcher::Error::InitialListFailed(kube::Error::Api(status.boxed()))
    }

    /// What the scheduler hears, in short.
    async fn heard(
        queues: &mut Queues,
        items: Vec<Result<Watched<QueueObject>, watcher::Error>>,
        seen: &Seen,
    ) -> (Vec<String>, bool) {
        let (sender, mut receiver) = mpsc::channel(64);
        let absent = queues.follow(futures::stream::iter(items), &sender, seen).await;
        drop(sender);
        let mut events = Vec::new();
        while let Some(event) = receiver.recv().await {
            events.push(match event {
                Event::ListStarted(Kind::Queue) => "begin".to_owned(),
                Event::ListEnded(Kind::Queue) => "end".to_owned(),
                Event::QueueApplied(spec) => format!("{} {}", spec.name, spec.weight),
                Event::QueueDeleted(name) => format!("-{name}"),
                Event::QueueRefused { name, .. } => format!("!{name}"),
                other => panic!("{other:?}"),
            });
        }
        (events, absent)
    }

    #[tokio::test]
    async fn where_the_kind_is_not_installed_one_empty_list_is_sent() {
        let (mut queues, seen) = (Queues::default(), Seen::default());
        let absent = || vec![Ok(Watched::Init), Err(failure(404))];
        let once = heard(&mut queues, absent(), &seen).await;
        assert_eq!(once, (vec!["begin".to_owned(), "end".to_owned()], true));
        assert_eq!(heard(&mut queues, absent(), &seen).await, (vec![], true));
        assert_eq!(*seen.failed.lock(), 0, "it is no failure");

        // installed, used, and removed again
        let a = object("a", &json!({ "weight": 2 }));
        let used = vec![
            Ok(Watched::Init),
            Ok(Watched::InitApply(a)),
            Ok(Watched::InitDone),
            Err(failure(404)),
        ];
        let (events, absent) = heard(&mut queues, used, &seen).await;
        assert_eq!((events.join(","), absent), ("begin,a 2,end,begin,end".to_owned(), true));
    }

    #[tokio::test]
    async fn a_list_that_fails_is_no_empty_list() {
        let (mut queues, seen) = (Queues::default(), Seen::default());
        let items = vec![
            Ok(Watched::Init),
            Err(failure(403)),
            Ok(Watched::Init),
            Err(failure(500)),
            Ok(Watched::Init),
            Ok(Watched::InitDone),
        ];
        let (events, _) = heard(&mut queues, items, &seen).await;
        assert_eq!(events, ["begin", "end"]);
        assert_eq!(*seen.failed.lock(), 2);
    }

    #[tokio::test]
    async fn a_wrong_object_leaves_in_force_what_was_before() {
        let (mut queues, seen) = (Queues::default(), Seen::default());
        let (good, bad) = (json!({ "weight": 2 }), json!({ "weight": 0 }));
        let items = vec![
            Ok(Watched::Init),
            Ok(Watched::InitApply(object("a", &good))),
            Ok(Watched::InitApply(object("never", &bad))),
            Ok(Watched::InitDone),
            Ok(Watched::Apply(object("a", &bad))),
            // a relist while it is wrong
            Ok(Watched::Init),
            Ok(Watched::InitApply(object("a", &bad))),
            Ok(Watched::InitDone),
            Ok(Watched::Delete(object("a", &bad))),
            Ok(Watched::Apply(object("a", &bad))),
            Ok(Watched::Apply(object("a", &json!({ "weight": 3 })))),
        ];
        let (events, _) = heard(&mut queues, items, &seen).await;
        assert_eq!(events.join(","), "begin,a 2,!never,end,a 2,!a,begin,a 2,!a,end,-a,!a,a 3");
        let text = |name| {
            format!("queue {name}: spec.weight is 0: expected a whole number from 1 to 1000000")
        };
        // told once each, not at every list
        let expected = [(text("never"), false), (text("a"), true), (text("a"), false)];
        assert_eq!(*seen.refused.lock(), expected);
    }
}
