//! The watch of nodes, which tells of a node again when another is reported of its GPUs.
//!
//! Objects of nodes are kept for that only once anything is reported of any: nodes that were told
//! of before that are listed again.

use super::reports::Reports;
use super::{Observer, PAGE, name};
use crate::kubernetes::convert::Converter;
use crate::kubernetes::convert::claims::without_plugins;
use crate::kubernetes::objects::NodeObject;
use crate::model::contract::GPU_TOPOLOGY;
use crate::model::gpu_part::GPU;
use crate::scheduler::{Event, Kind};
use futures::{Stream, StreamExt};
use kube::Api;
use kube_runtime::WatchStreamExt;
use kube_runtime::watcher::{self, Event as Watched, watcher};
use rustc_hash::{FxHashMap, FxHashSet};
use std::collections::BTreeSet;
use std::sync::Arc;
use tokio::sync::mpsc;

/// Watches until the scheduler's end of the channel is gone.
pub(super) async fn run(
    client: kube::Client,
    converter: &Converter,
    reports: &Reports,
    events: &mpsc::Sender<Event>,
    observer: &dyn Observer,
) {
    let api = Api::<NodeObject>::all(client);
    let mut nodes = Nodes::new(converter, reports);
    loop {
        let config = watcher::Config::default().page_size(PAGE);
        let stream = watcher(api.clone(), config).default_backoff();
        if !nodes.follow(stream, events, observer).await {
            return;
        }
    }
}

struct Nodes<'a> {
    converter: &'a Converter,
    reports: &'a Reports,
    /// those that offer GPUs and do not say themselves how they are joined, or all
    kept: FxHashMap<Box<str>, NodeObject>,
    /// names in the list that is being taken; `None`: none is
    listed: Option<FxHashSet<Box<str>>>,
    keeps: bool,
    /// all nodes, as claims may be given devices of any
    keeps_all: bool,
}

impl<'a> Nodes<'a> {
    fn new(converter: &'a Converter, reports: &'a Reports) -> Self {
        let (keeps, keeps_all) = (reports.any(), reports.any_devices());
        Self { converter, reports, kept: FxHashMap::default(), listed: None, keeps, keeps_all }
    }

    /// Passes on what the stream says. True: nodes have to be listed again; false: nobody listens.
    async fn follow(
        &mut self,
        stream: impl Stream<Item = Result<Watched<NodeObject>, watcher::Error>>,
        events: &mpsc::Sender<Event>,
        observer: &dyn Observer,
    ) -> bool {
        let mut stream = std::pin::pin!(stream);
        loop {
            let told = tokio::select! {
                // what the cluster says of a node comes before what is reported of it
                biased;
                item = stream.next() => match item {
                    None => return false,
                    Some(Ok(item)) => vec![self.take_in(item, observer)],
                    Some(Err(error)) => {
                        observer.failed(Kind::Node, &error);
                        continue;
                    }
                },
                changed = self.reports.changed() => {
                    let is_first = self.reports.any_devices() && !self.keeps_all;
                    if !self.keeps || is_first {
                        tracing::info!("devices of nodes are reported: nodes are listed again");
                        (self.keeps, self.keeps_all) = (true, self.reports.any_devices());
                        return true;
                    }
                    self.again(&changed)
                }
            };
            for event in told {
                if events.send(event).await.is_err() {
                    return false;
                }
            }
        }
    }

    fn take_in(&mut self, item: Watched<NodeObject>, observer: &dyn Observer) -> Event {
        match item {
            Watched::Init => {
                observer.listed(Kind::Node);
                self.listed = Some(FxHashSet::default());
                Event::ListStarted(Kind::Node)
            }
            Watched::InitApply(node) => {
                if let Some(listed) = &mut self.listed {
                    listed.insert(name(&node.meta));
                }
                self.apply(node)
            }
            Watched::InitDone => {
                let listed = self.listed.take().unwrap_or_default();
                self.kept.retain(|name, _| listed.contains(name));
                Event::ListEnded(Kind::Node)
            }
            Watched::Apply(node) => self.apply(node),
            Watched::Delete(node) => {
                let name = name(&node.meta);
                self.kept.remove(&name);
                Event::NodeDeleted(name)
            }
        }
    }

    fn apply(&mut self, node: NodeObject) -> Event {
        let event = self.told(&node);
        let name = name(&node.meta);
        let offers = |node: &NodeObject| node.status.allocatable.iter().any(|(key, _)| key == GPU);
        let is_said = node.meta.annotation(GPU_TOPOLOGY).is_some();
        let is_joined = offers(&node) && !is_said;
        if self.keeps && is_joined || self.keeps_all {
            self.kept.insert(name, node);
        } else {
            self.kept.remove(&name);
        }
        event
    }

    /// The nodes as they are, with what is reported of them now. In the middle of a list those that
    /// it has not named yet are left out: naming them would say that they exist.
    fn again(&self, changed: &BTreeSet<Box<str>>) -> Vec<Event> {
        let named = |name: &str| self.listed.as_ref().is_none_or(|listed| listed.contains(name));
        let nodes = changed
            .iter()
            .filter(|name| named(name))
            .filter_map(|name| self.kept.get(name).map(|node| self.told(node)));
        nodes.collect()
    }

    /// A node with what is reported of it now.
    fn told(&self, node: &NodeObject) -> Event {
        let name = node.meta.name();
        let reported = self.reports.of(name);
        let mut told = self.converter.node(node, reported.as_deref());
        let devices = self.reports.devices(name);
        told.devices = devices.map(|devices| Arc::new(without_plugins(devices, &told.allocatable)));
        Event::NodeApplied(Box::new(told))
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::kubernetes::convert::queue::QueueError;
    use futures::FutureExt;
    use kube::core::Status;
    use serde_json::json;

    struct Quiet;

    impl Observer for Quiet {
        fn listed(&self, _: Kind) {}
        fn failed(&self, _: Kind, _: &watcher::Error) {}
        fn refused(&self, _: &QueueError, _: bool) {}
    }

    fn node(name: &str) -> NodeObject {
        let said = json!({ "mss-scheduler.io/gpu-topology": "v1 gpus=2 else=PIX" });
        let annotations = if name == "says" { said } else { json!({}) };
        let labels = json!({ "nvidia.com/gpu.count": "2" });
        let value = json!({
            "metadata": { "name": name, "labels": labels, "annotations": annotations },
            "status": { "allocatable": { "nvidia.com/gpu": "2" } },
        });
        serde_json::from_str(&value.to_string()).expect("a node")
    }

    fn report(reports: &Reports, nodes: &[&str]) {
        for node in nodes {
            let zone = |number: u8| {
                json!({ "name": format!("node-{number}"), "type": "Node", "resources": [
                    { "name": "nvidia.com/gpu", "capacity": "1" } ] })
            };
            let zones = json!({ "zones": [zone(0), zone(1)] });
            reports.count_gpus(node, &zones);
        }
    }

    /// What the scheduler hears, in short, and whether nodes have to be listed again.
    async fn heard(
        nodes: &mut Nodes<'_>,
        items: Vec<Result<Watched<NodeObject>, watcher::Error>>,
        ends: bool,
    ) -> (String, bool) {
        let (sender, mut receiver) = mpsc::channel(64);
        let items = futures::stream::iter(items);
        let again = match ends {
            true => nodes.follow(items, &sender, &Quiet).await,
            // what was reported is heard once the stream has nothing to say
            false => {
                let items = items.chain(futures::stream::pending());
                nodes.follow(items, &sender, &Quiet).now_or_never().unwrap_or_default()
            }
        };
        drop(sender);
        let mut told = Vec::new();
        while let Some(event) = receiver.recv().await {
            told.push(match event {
                Event::ListStarted(Kind::Node) => "begin".to_owned(),
                Event::ListEnded(Kind::Node) => "end".to_owned(),
                Event::NodeDeleted(name) => format!("-{name}"),
                Event::NodeApplied(node) => match node.gpus {
                    Some(gpus) => format!("{} {}", node.name, gpus),
                    None => node.name.into(),
                },
                other => panic!("{other:?}"),
            });
        }
        (told.join(", "), again)
    }

    #[tokio::test]
    async fn a_node_is_told_of_again_when_another_is_reported() {
        let (converter, reports) = (Converter::default(), Reports::new(true, None));
        let mut nodes = Nodes::new(&converter, &reports);
        let list = |names: &[&str]| {
            let nodes = names.iter().map(|name| Ok(Watched::InitApply(node(name))));
            let list = std::iter::once(Ok(Watched::Init)).chain(nodes);
            list.chain([Ok(Watched::InitDone)]).collect::<Vec<_>>()
        };
        let (told, again) = heard(&mut nodes, list(&["a", "b"]), false).await;
        assert_eq!((&*told, again), ("begin, a, b, end", false));
        assert!(nodes.kept.is_empty(), "nothing is kept while nothing is reported");

        report(&reports, &["a"]);
        let (told, again) = heard(&mut nodes, vec![], false).await;
        assert_eq!((&*told, again), ("", true), "the first report");
        let known = "v1 gpus=2 numa=0:0/1:1 else=SYS";
        let (told, _) = heard(&mut nodes, list(&["a", "b", "says"]), false).await;
        assert_eq!(told, format!("begin, a {known}, b, says v1 gpus=2 else=PIX, end"));
        assert_eq!(nodes.kept.len(), 2);

        report(&reports, &["b", "says", "unknown"]);
        assert_eq!(heard(&mut nodes, vec![], false).await, (format!("b {known}"), false));
        reports.count_gpus("a", &json!({}));
        assert_eq!(heard(&mut nodes, vec![], false).await.0, "a");

        // in the middle of a list only what it has named
        reports.count_gpus("b", &json!({}));
        report(&reports, &["a"]);
        let refused = watcher::Error::WatchStartFailed(kube::Error::Api(Status::default().boxed()));
        let part = vec![Ok(Watched::Init), Ok(Watched::InitApply(node("b"))), Err(refused)];
        assert_eq!(heard(&mut nodes, part, false).await.0, "begin, b, b");
        let rest = vec![Ok(Watched::InitDone), Ok(Watched::Delete(node("b")))];
        assert_eq!(heard(&mut nodes, rest, true).await, ("end, -b".into(), false));
        assert!(nodes.kept.is_empty(), "what a list lacked is forgotten");
    }
}
