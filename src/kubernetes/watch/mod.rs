//! Watches, from the API server into the scheduler's channel.
//!
//! The watcher gives no deletion for what vanished during a relist, so the beginning and end of
//! every list go to the scheduler, which drops what a list lacked.

mod book;
mod claims;
pub mod jobs;
pub mod levels;
mod nodes;
mod queues;
mod reports;

use super::convert::Converter;
use super::convert::budget::budget;
use super::convert::queue::QueueError;
use super::objects::{BudgetObject, Meta, NamespaceObject};
use crate::scheduler::{Event, Kind};
use futures::{Stream, StreamExt};
use kube::Api;
use kube_runtime::WatchStreamExt;
use kube_runtime::watcher::{self, Event as Watched, watcher};
use reports::Reports;
use std::sync::Arc;
use tokio::sync::mpsc;

/// Objects asked for at once when listing.
const PAGE: u32 = 500;

/// What a watch has to say beside the objects.
pub trait Observer: Send + Sync + 'static {
    /// A list begins: the first one, or a relist.
    fn listed(&self, kind: Kind);
    /// The watch failed and is tried again after a while.
    fn failed(&self, kind: Kind, error: &watcher::Error);
    /// A queue is refused, and whether an earlier state of it stays in force.
    fn refused(&self, error: &QueueError, in_force: bool);
}

/// Starts the watches; they end when the scheduler's end of the channel is gone.
pub async fn run(
    client: kube::Client,
    converter: Converter,
    events: mpsc::Sender<Event>,
    observer: Arc<dyn Observer>,
) {
    tokio::join!(
        queues::run(client.clone(), &events, &*observer),
        run_but_queues(client, converter, events.clone(), observer.clone()),
    );
}

/// As [`run`], without the queues: their tree comes from elsewhere.
pub async fn run_but_queues(
    client: kube::Client,
    converter: Converter,
    events: mpsc::Sender<Event>,
    observer: Arc<dyn Observer>,
) {
    let config = || watcher::Config::default().page_size(PAGE);
    let spaces = watcher(Api::<NamespaceObject>::all(client.clone()), config()).default_backoff();
    let budgets = watcher(Api::<BudgetObject>::all(client.clone()), config()).default_backoff();
    let space = |space: NamespaceObject, gone| {
        let name = name(&space.meta);
        match gone {
            true => Event::NamespaceDeleted(name),
            false => Event::NamespaceApplied { name, terminating: space.meta.deleting },
        }
    };
    let protection = |object: BudgetObject, gone| {
        let budget = budget(&object);
        match gone {
            true => Event::BudgetDeleted { namespace: budget.namespace, name: budget.name },
            false => Event::BudgetApplied(Box::new(budget)),
        }
    };
    let reports = Reports::new(converter.reports, converter.claims.as_ref());
    let watched = async {
        tokio::join!(
            forward(Kind::Budget, budgets, protection, &events, &*observer),
            nodes::run(client.clone(), &converter, &reports, &events, &*observer),
            claims::run(client.clone(), &converter, &reports, &events, &*observer),
            forward(Kind::Namespace, spaces, space, &events, &*observer),
        );
    };
    let reported = async {
        reports.run(client.clone()).await;
    };
    tokio::select! {
        () = watched => {}
        () = reported => {}
    }
}

fn uid(meta: &Meta) -> &str {
    meta.object.uid.as_deref().unwrap_or_default()
}

fn name(meta: &Meta) -> Box<str> {
    meta.object.name.as_deref().unwrap_or_default().into()
}

async fn forward<K>(
    kind: Kind,
    stream: impl Stream<Item = Result<Watched<K>, watcher::Error>>,
    convert: impl Fn(K, bool) -> Event,
    events: &mpsc::Sender<Event>,
    observer: &dyn Observer,
) {
    let mut stream = std::pin::pin!(stream);
    while let Some(item) = stream.next().await {
        let event = match item {
            Ok(Watched::Apply(object) | Watched::InitApply(object)) => convert(object, false),
            Ok(Watched::Delete(object)) => convert(object, true),
            Ok(Watched::Init) => {
                observer.listed(kind);
                Event::ListStarted(kind)
            }
            Ok(Watched::InitDone) => Event::ListEnded(kind),
            Err(error) => {
                observer.failed(kind, &error);
                continue;
            }
        };
        if events.send(event).await.is_err() {
            return;
        }
    }
}
