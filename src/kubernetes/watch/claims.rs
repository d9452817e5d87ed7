//! The watch of pods, and of the claims and device classes that they name.
//!
//! One task hears of all three, so that the scheduler is told of a claim before it is told of the
//! pods that name it, and of a pod again whenever something changes that its claims depend on. Both
//! other kinds may not be installed: then there are none, and they are looked for now and then.

use super::book::ClaimKey;
use super::queues::{LOOK_AGAIN, objects, status_of};
use super::reports::Reports;
use super::{Observer, PAGE, uid};
use crate::kubernetes::convert::Converter;
use crate::kubernetes::convert::claims::{Claimed, claim, device_class};
use crate::kubernetes::objects::PodObject;
use crate::model::Uid;
use crate::scheduler::{Event, Kind};
use futures::{Stream, StreamExt};
use kube::api::DynamicObject;
use kube::{Api, ResourceExt};
use kube_runtime::WatchStreamExt;
use kube_runtime::watcher::{self, Event as Watched, watcher};
use rustc_hash::FxHashSet;
use serde_json::{Value, json};
use tokio::sync::mpsc;

/// What is heard of claims and classes and not taken in yet.
const HEARD: usize = 64;

/// A kind that may not be installed.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Source {
    Claims,
    Classes,
}

/// What a watch says; `None`: the kind is not installed, or may not be read.
type News = (Source, Option<Watched<DynamicObject>>);

/// Watches until the scheduler's end of the channel is gone.
pub(super) async fn run(
    client: kube::Client,
    converter: &Converter,
    reports: &Reports,
    events: &mpsc::Sender<Event>,
    observer: &dyn Observer,
) {
    let config = watcher::Config::default().page_size(PAGE);
    let stream = watcher(Api::<PodObject>::all(client.clone()), config).default_backoff();
    let (sender, heard) = mpsc::channel(HEARD);
    let mut pods = Pods::new(converter, reports);
    let watched = async {
        if reports.reads_claims() {
            let follow = |source| follow(client.clone(), source, &sender);
            tokio::join!(follow(Source::Classes), follow(Source::Claims));
        }
        std::future::pending::<()>().await;
    };
    tokio::select! {
        () = pods.follow(stream, heard, events, observer) => {}
        () = watched => {}
    }
}

/// Passes on what the watch of a kind says. Ends when nobody listens.
async fn follow(client: kube::Client, source: Source, heard: &mpsc::Sender<News>) {
    let kind = match source {
        Source::Claims => ("ResourceClaim", "resourceclaims"),
        Source::Classes => ("DeviceClass", "deviceclasses"),
    };
    loop {
        let api = objects(client.clone(), ("resource.k8s.io", "v1"), kind);
        let config = watcher::Config::default().page_size(PAGE);
        let mut stream = std::pin::pin!(watcher(api, config).default_backoff());
        while let Some(item) = stream.next().await {
            let news = match item {
                Ok(item) => Some(item),
                Err(error) if status_of(&error) == Some(404) => None,
                Err(error) if status_of(&error) == Some(403) => {
                    tracing::warn!(kind = kind.0, "may not be read: no claim is known");
                    None
                }
                Err(error) => {
                    tracing::warn!(%error, kind = kind.0, "cannot watch what claims go by");
                    continue;
                }
            };
            let is_absent = news.is_none();
            if heard.send((source, news)).await.is_err() {
                return;
            }
            if is_absent {
                break;
            }
        }
        tokio::time::sleep(LOOK_AGAIN).await;
    }
}

struct Pods<'a> {
    converter: &'a Converter,
    reports: &'a Reports,
    /// pods in the list that is being taken; `None`: none is
    listed: Option<FxHashSet<Uid>>,
    /// claims and classes in the lists that are being taken
    claims_listed: FxHashSet<ClaimKey>,
    classes_listed: FxHashSet<Box<str>>,
    /// they have been listed, or are not installed
    claims_known: bool,
    classes_known: bool,
}

impl<'a> Pods<'a> {
    fn new(converter: &'a Converter, reports: &'a Reports) -> Self {
        let known = !reports.reads_claims();
        Self {
            converter,
            reports,
            listed: None,
            claims_listed: FxHashSet::default(),
            classes_listed: FxHashSet::default(),
            claims_known: known,
            classes_known: known,
        }
    }

    /// Passes on what the streams say: pods only once it is known which claims and classes there
    /// are.
    async fn follow(
        &mut self,
        stream: impl Stream<Item = Result<Watched<PodObject>, watcher::Error>>,
        mut heard: mpsc::Receiver<News>,
        events: &mpsc::Sender<Event>,
        observer: &dyn Observer,
    ) {
        let mut stream = std::pin::pin!(stream);
        loop {
            let told = tokio::select! {
                biased;
                Some((source, news)) = heard.recv() => match source {
                    Source::Claims => self.hear_claims(news),
                    Source::Classes => self.hear_classes(news),
                },
                item = stream.next(), if self.claims_known && self.classes_known => match item {
                    None => return,
                    Some(Ok(item)) => self.take_in(item, observer),
                    Some(Err(error)) => {
                        observer.failed(Kind::Pod, &error);
                        continue;
                    }
                }
            };
            for event in told {
                if events.send(event).await.is_err() {
                    return;
                }
            }
        }
    }

    fn take_in(&mut self, item: Watched<PodObject>, observer: &dyn Observer) -> Vec<Event> {
        match item {
            Watched::Init => {
                observer.listed(Kind::Pod);
                self.listed = Some(FxHashSet::default());
                vec![Event::ListStarted(Kind::Pod)]
            }
            Watched::InitApply(pod) => {
                if let Some(listed) = &mut self.listed {
                    listed.insert(Uid::parse(uid(&pod.meta)));
                }
                self.apply(pod)
            }
            Watched::InitDone => {
                let listed = self.listed.take().unwrap_or_default();
                let known = self.reports.with_book(|book| book.pods());
                let gone = known.into_iter().filter(|pod| !listed.contains(pod));
                let mut told: Vec<Event> = gone.flat_map(|pod| self.forget(pod)).collect();
                told.push(Event::ListEnded(Kind::Pod));
                told
            }
            Watched::Apply(pod) => self.apply(pod),
            Watched::Delete(pod) => {
                let pod = Uid::parse(uid(&pod.meta));
                let mut told = self.forget(pod);
                told.push(Event::PodDeleted(pod));
                told
            }
        }
    }

    fn apply(&mut self, pod: PodObject) -> Vec<Event> {
        if pod.spec.resource_claims.is_empty() || !self.reports.reads_claims() {
            return vec![Event::PodApplied(Box::new(self.converter.pod(&pod)))];
        }
        let uid = Uid::parse(uid(&pod.meta));
        if matches!(pod.status.phase.as_deref(), Some("Succeeded" | "Failed")) {
            let mut told = self.forget(uid);
            let pod = self.converter.pod_with(&pod, Some(Claimed::default()));
            told.push(Event::PodApplied(Box::new(pod)));
            return told;
        }
        let others = self.reports.with_book(|book| book.put_pod(uid, pod));
        self.tell(std::iter::once(uid).chain(others))
    }

    /// A pod is gone, or has ended: others may be first in turn for its claims.
    fn forget(&self, pod: Uid) -> Vec<Event> {
        if !self.reports.reads_claims() {
            return Vec::new();
        }
        let others = self.reports.with_book(|book| book.drop_pod(pod));
        self.tell(others.into_iter())
    }

    /// Pods as they are now. In the middle of a list those that it has not named yet are left out:
    /// naming them would say that they exist.
    fn tell(&self, pods: impl Iterator<Item = Uid>) -> Vec<Event> {
        let named = |uid: &Uid| self.listed.as_ref().is_none_or(|listed| listed.contains(uid));
        let told = pods.filter(named).filter_map(|uid| {
            let (pod, claimed) = self.reports.with_book(|book| {
                let pod = book.pod(uid)?;
                let claimed = book.resolve(uid, &pod);
                Some((pod, claimed))
            })?;
            Some(Event::PodApplied(Box::new(self.converter.pod_with(&pod, Some(claimed)))))
        });
        told.collect()
    }

    fn hear_claims(&mut self, news: Option<Watched<DynamicObject>>) -> Vec<Event> {
        match news {
            Some(Watched::Init) => {
                self.claims_listed.clear();
                Vec::new()
            }
            Some(Watched::InitApply(object)) => {
                self.claims_listed.insert(key_of(&object));
                self.put_claim(&key_of(&object), Some(&object))
            }
            Some(Watched::InitDone) => {
                self.claims_known = true;
                self.drop_claims()
            }
            Some(Watched::Apply(object)) => self.put_claim(&key_of(&object), Some(&object)),
            Some(Watched::Delete(object)) => self.put_claim(&key_of(&object), None),
            None => {
                self.claims_listed.clear();
                self.claims_known = true;
                self.drop_claims()
            }
        }
    }

    /// Drops what a list lacked.
    fn drop_claims(&mut self) -> Vec<Event> {
        let known: Vec<ClaimKey> = self.reports.with_book(|book| book.claims().cloned().collect());
        let gone: Vec<ClaimKey> =
            known.into_iter().filter(|key| !self.claims_listed.contains(key)).collect();
        gone.iter().flat_map(|key| self.put_claim(key, None)).collect()
    }

    fn put_claim(&self, key: &ClaimKey, object: Option<&DynamicObject>) -> Vec<Event> {
        let new = object.and_then(|object| claim(&whole(object)));
        let state = new.as_ref().map(|claim| claim.state());
        let (before, users) = self.reports.with_book(|book| {
            let before = book.put_claim(key, new);
            (before, book.users(key))
        });
        let mut told = Vec::new();
        let uid = state.as_ref().map(|state| state.uid);
        if let Some(before) = before.filter(|before| Some(before.uid) != uid) {
            told.push(Event::ClaimDeleted(before.uid));
        }
        told.extend(state.map(|state| Event::ClaimApplied(Box::new(state))));
        told.extend(self.tell(users.into_iter()));
        told
    }

    fn hear_classes(&mut self, news: Option<Watched<DynamicObject>>) -> Vec<Event> {
        match news {
            Some(Watched::Init) => {
                self.classes_listed.clear();
                Vec::new()
            }
            Some(Watched::InitApply(object)) => {
                self.classes_listed.insert(object.name_any().into());
                self.put_class(&object.name_any(), Some(&object))
            }
            Some(Watched::InitDone) => {
                self.classes_known = true;
                self.drop_classes()
            }
            Some(Watched::Apply(object)) => self.put_class(&object.name_any(), Some(&object)),
            Some(Watched::Delete(object)) => self.put_class(&object.name_any(), None),
            None => {
                self.classes_listed.clear();
                self.classes_known = true;
                self.drop_classes()
            }
        }
    }

    fn drop_classes(&mut self) -> Vec<Event> {
        let known: Vec<Box<str>> =
            self.reports.with_book(|book| book.classes().map(Into::into).collect());
        let gone: Vec<Box<str>> =
            known.into_iter().filter(|name| !self.classes_listed.contains(name)).collect();
        gone.iter().flat_map(|name| self.put_class(name, None)).collect()
    }

    fn put_class(&self, name: &str, object: Option<&DynamicObject>) -> Vec<Event> {
        let pods = self.reports.with_book(|book| {
            let class = object.map(|object| device_class(name, &object.data, &book.resources));
            if book.put_class(name, class) { book.pods() } else { Default::default() }
        });
        self.tell(pods.into_iter())
    }
}

fn key_of(object: &DynamicObject) -> ClaimKey {
    (object.namespace().unwrap_or_default().into(), object.name_any().into())
}

/// The object with its metadata, as it came.
fn whole(object: &DynamicObject) -> Value {
    let mut value = object.data.clone();
    value["metadata"] = json!(object.metadata);
    value
}
