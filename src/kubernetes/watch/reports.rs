//! The watches of what reports the GPUs of nodes: NodeResourceTopology objects and the
//! ResourceSlices of a driver. Either kind may not be installed, in which of several versions is
//! found by asking, and it is looked for again now and then.

use super::PAGE;
use super::book::Book;
use super::queues::{LOOK_AGAIN, objects, status_of};
use crate::kubernetes::convert::claims::device_slice;
use crate::kubernetes::convert::reported::{Source, Table};
use crate::model::NodeDevices;
use crate::model::gpu_topology::Reported;
use futures::{Stream, StreamExt};
use kube::ResourceExt;
use kube::api::DynamicObject;
use kube_runtime::WatchStreamExt;
use kube_runtime::watcher::{self, Event as Watched, watcher};
use parking_lot::Mutex;
use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;
use tokio::sync::Notify;

/// What is reported, by node.
#[derive(Default)]
pub(super) struct Reports {
    state: Mutex<Table>,
    /// what claims go by
    book: Mutex<Book>,
    /// whether it is read how GPUs are joined, and what claims go by
    joins: bool,
    claims: bool,
    news: Notify,
}

impl Reports {
    /// What to read: how GPUs are joined; and for claims, with what classes of devices count as.
    pub(super) fn new(joins: bool, claims: Option<&BTreeMap<String, String>>) -> Self {
        let book = Book::new(claims.cloned().unwrap_or_default());
        Self { book: Mutex::new(book), joins, claims: claims.is_some(), ..Self::default() }
    }

    /// Whether claims are read.
    pub(super) fn reads_claims(&self) -> bool {
        self.claims
    }

    /// Works with what is known of claims. Nodes of which it makes others are told of again.
    pub(super) fn with_book<T>(&self, work: impl FnOnce(&mut Book) -> T) -> T {
        let (result, changed) = {
            let mut book = self.book.lock();
            let result = work(&mut book);
            (result, book.take_changed())
        };
        if !changed.is_empty() {
            self.state.lock().note_changed(changed);
            self.news.notify_one();
        }
        result
    }

    /// The devices of a node that claims may be given.
    pub(super) fn devices(&self, node: &str) -> Option<NodeDevices> {
        if !self.claims {
            return None;
        }
        self.book.lock().devices(node)
    }

    /// Whether devices of any node are known that claims may be given.
    pub(super) fn any_devices(&self) -> bool {
        self.claims && self.book.lock().has_slices()
    }

    /// What is reported of a node: drivers name GPUs one by one, so they come first.
    pub(super) fn of(&self, node: &str) -> Option<Arc<Reported>> {
        self.state.lock().of(node)
    }

    /// Whether anything is reported of any node.
    pub(super) fn any(&self) -> bool {
        let joined = self.state.lock().any();
        joined || self.any_devices()
    }

    /// Waits until another is reported than before of nodes.
    pub(super) async fn changed(&self) -> BTreeSet<Box<str>> {
        loop {
            let news = self.news.notified();
            let changed = self.state.lock().take_changed();
            if !changed.is_empty() {
                return changed;
            }
            news.await;
        }
    }

    /// As if a NodeResourceTopology were there.
    #[cfg(test)]
    pub(super) fn count_gpus(&self, node: &str, object: &serde_json::Value) {
        self.state.lock().put(Source::Zones, node, Some(object));
        self.news.notify_one();
    }

    /// Watches both kinds. Never returns.
    pub(super) async fn run(&self, client: kube::Client) {
        let follow = async |source, wanted| {
            if wanted {
                self.follow(source, client.clone()).await;
            }
        };
        let slices = self.joins || self.claims;
        tokio::join!(follow(Source::Zones, self.joins), follow(Source::Slices, slices));
        std::future::pending::<()>().await;
    }

    async fn follow(&self, source: Source, client: kube::Client) {
        let of = source.kind();
        let mut config = watcher::Config::default().page_size(PAGE);
        // for claims the slices of all drivers are read
        if let Some(selector) = source.selector().filter(|_| !self.claims) {
            config = config.fields(&selector);
        }
        loop {
            for version in of.versions {
                let api = objects(client.clone(), (of.group, version), (of.kind, of.plural));
                self.take_all(source, watcher(api, config.clone()).default_backoff()).await;
            }
            tokio::time::sleep(LOOK_AGAIN).await;
        }
    }

    /// Takes in what the stream says, until the kind is not installed or may not be read.
    async fn take_all(
        &self,
        source: Source,
        stream: impl Stream<Item = Result<Watched<DynamicObject>, watcher::Error>>,
    ) {
        let mut stream = std::pin::pin!(stream);
        let mut listed = BTreeSet::new();
        while let Some(item) = stream.next().await {
            match item {
                Ok(Watched::Init) => listed.clear(),
                Ok(Watched::InitApply(new)) => {
                    listed.insert(new.name_any().into());
                    self.put(source, &new.name_any(), Some(&new));
                }
                Ok(Watched::InitDone) => self.retain(source, &listed),
                Ok(Watched::Apply(new)) => self.put(source, &new.name_any(), Some(&new)),
                Ok(Watched::Delete(old)) => self.put(source, &old.name_any(), None),
                Err(error) if matches!(status_of(&error), Some(403 | 404)) => {
                    self.retain(source, &BTreeSet::new());
                    self.news.notify_one();
                    return;
                }
                Err(error) => {
                    let kind = source.kind().kind;
                    tracing::warn!(%error, kind, "cannot watch what reports the GPUs of nodes");
                }
            }
            self.news.notify_one();
        }
    }

    /// An object as it is now; `None`: it is gone.
    fn put(&self, source: Source, name: &str, object: Option<&DynamicObject>) {
        if self.joins {
            self.state.lock().put(source, name, object.map(|object| &object.data));
        }
        if self.claims && source == Source::Slices {
            let slice = object.and_then(|object| device_slice(&object.data));
            self.with_book(|book| book.put_slice(name, slice));
        }
    }

    /// Drops what a list lacked.
    fn retain(&self, source: Source, listed: &BTreeSet<Box<str>>) {
        self.state.lock().retain(source, listed);
        if self.claims && source == Source::Slices {
            let known: Vec<Box<str>> =
                self.with_book(|book| book.slices().map(Into::into).collect());
            for name in known.iter().filter(|name| !listed.contains(*name)) {
                self.with_book(|book| book.put_slice(name, None));
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::kubernetes::convert::reports::DRIVER;
    use futures::FutureExt;
    use kube::core::Status;
    use serde_json::{Value, json};

    fn object(value: Value) -> DynamicObject {
        serde_json::from_value(value).expect("an object")
    }

    fn zone_object(node: &str, counts: &[u32]) -> DynamicObject {
        let zone = |(number, count): (usize, &u32)| {
            json!({ "name": format!("node-{number}"), "type": "Node", "resources": [
                { "name": "nvidia.com/gpu", "capacity": count } ] })
        };
        let zones: Vec<Value> = counts.iter().enumerate().map(zone).collect();
        object(json!({ "metadata": { "name": node }, "zones": zones }))
    }

    fn slice_object(name: &str, node: &str, of: u32, buses: &[&str]) -> DynamicObject {
        let device = |bus: &&str| {
            json!({ "name": bus, "attributes": {
                "type": { "string": "gpu" }, "resource.kubernetes.io/numaNode": { "int": 0 },
                "resource.kubernetes.io/pciBusID": { "string": format!("0000:{bus}:00.0") } } })
        };
        let devices: Vec<Value> = buses.iter().map(device).collect();
        object(json!({ "metadata": { "name": name }, "spec": {
            "driver": DRIVER, "nodeName": node, "devices": devices,
            "pool": { "name": node, "generation": 1, "resourceSliceCount": of } } }))
    }

    async fn take(
        reports: &Reports,
        source: Source,
        items: Vec<Result<Watched<DynamicObject>, watcher::Error>>,
    ) -> String {
        reports.take_all(source, futures::stream::iter(items)).await;
        let changed = reports.changed().now_or_never().unwrap_or_default();
        let told = changed.iter().map(|node| {
            let count = reports.of(node).map_or(0, |reported| reported.len());
            format!("{node} {count}")
        });
        told.collect::<Vec<_>>().join(", ")
    }

    fn absent() -> watcher::Error {
        let status = Status { code: 404, ..Status::default() };
        watcher::Error::InitialListFailed(kube::Error::Api(status.boxed()))
    }

    #[tokio::test]
    async fn nodes_are_named_of_which_another_is_reported_than_before() {
        let reports = Reports::new(true, None);
        let list = vec![
            Ok(Watched::Init),
            Ok(Watched::InitApply(zone_object("a", &[2, 2]))),
            Ok(Watched::InitApply(zone_object("b", &[1, 1]))),
            Ok(Watched::InitApply(zone_object("without", &[0]))),
            Ok(Watched::InitDone),
        ];
        assert_eq!(take(&reports, Source::Zones, list).await, "a 4, b 2");
        let same = vec![Ok(Watched::Apply(zone_object("a", &[2, 2])))];
        assert_eq!(take(&reports, Source::Zones, same).await, "");

        // drivers come first, and only whole pools count
        let half = vec![Ok(Watched::Apply(slice_object("s1", "a", 2, &["0f"])))];
        assert_eq!(take(&reports, Source::Slices, half).await, "");
        let rest = vec![Ok(Watched::Apply(slice_object("s2", "a", 2, &["1f", "2f"])))];
        assert_eq!(take(&reports, Source::Slices, rest).await, "a 3");
        let replaced = vec![Ok(Watched::Delete(slice_object("s2", "a", 2, &[])))];
        assert_eq!(take(&reports, Source::Slices, replaced).await, "", "it is being replaced");
        let moved = vec![Ok(Watched::Apply(slice_object("s1", "b", 1, &["0f"])))];
        assert_eq!(take(&reports, Source::Slices, moved).await, "a 4, b 1");

        let relist = vec![
            Ok(Watched::Init),
            Ok(Watched::InitApply(zone_object("b", &[8]))),
            Ok(Watched::InitDone),
        ];
        assert_eq!(take(&reports, Source::Zones, relist).await, "a 0");
        let gone = || vec![Ok(Watched::Init), Err(absent())];
        assert_eq!(take(&reports, Source::Slices, gone()).await, "b 8");
        assert!(reports.any());
        assert_eq!(take(&reports, Source::Zones, gone()).await, "b 0");
        assert!(!reports.any());
    }
}
