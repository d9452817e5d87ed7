//! Watches pods and nodes from outside and keeps the history of what happened to them.

use super::ledger::{GangKey, Ledger};
use futures::StreamExt;
use k8s_openapi::api::core::v1::{Node, Pod};
use kube::api::{Api, ListParams, WatchEvent, WatchParams};
use std::sync::Arc;
use std::time::{Duration, Instant};
use tokio::sync::watch;

/// The ledger with two watches that feed it. The watches end when it is dropped.
pub(crate) struct Auditor {
    ledger: Arc<watch::Sender<Ledger>>,
    tasks: Vec<tokio::task::JoinHandle<()>>,
}

impl Auditor {
    /// Begins with all that exists now. The client must reach the API server itself, not a proxy.
    pub(crate) async fn start(client: kube::Client) -> Auditor {
        let ledger = Arc::new(watch::Sender::new(Ledger::default()));
        let nodes: Api<Node> = Api::all(client.clone());
        let pods: Api<Pod> = Api::all(client);
        // nodes first: a pod on an unknown node is a violation
        let from = list(&nodes, |node| ledger.send_modify(|ledger| ledger.node_seen(node))).await;
        let node_task = tokio::spawn(follow(nodes, from, ledger.clone(), node_event));
        let now = Instant::now();
        let from = list(&pods, |pod| ledger.send_modify(|ledger| ledger.pod_seen(pod, now))).await;
        let pod_task = tokio::spawn(follow(pods, from, ledger.clone(), pod_event));
        Auditor { ledger, tasks: vec![node_task, pod_task] }
    }

    /// Reads the ledger as it is now.
    pub(crate) fn read<T>(&self, read: impl FnOnce(&Ledger) -> T) -> T {
        assert!(
            self.tasks.iter().all(|task| !task.is_finished()),
            "the auditor lost its watch; the lines above say why"
        );
        read(&self.ledger.borrow())
    }

    /// Waits until `holds`; returns whether it came true in time.
    pub(crate) async fn wait_for(
        &self,
        within: Duration,
        mut holds: impl FnMut(&Ledger) -> bool,
    ) -> bool {
        let mut changes = self.ledger.subscribe();
        let came_true = changes.wait_for(|ledger| holds(ledger));
        let outcome = tokio::time::timeout(within, came_true).await.is_ok();
        self.read(|_| outcome)
    }

    /// Waits until `holds`, or fails the test with what is missing.
    pub(crate) async fn expect(
        &self,
        within: Duration,
        what: &str,
        holds: impl FnMut(&Ledger) -> bool,
    ) {
        let started = Instant::now();
        if !self.wait_for(within, holds).await {
            self.assert_clean();
            let gangs = self.read(describe);
            panic!("{what} did not come true within {:?}\n{gangs}", started.elapsed());
        }
    }

    /// No pod was ever on two nodes and no node ever had more than it has room for.
    pub(crate) fn assert_clean(&self) {
        let violations = self.read(|ledger| ledger.violations.clone());
        assert!(violations.is_empty(), "the auditor saw:\n{}", violations.join("\n"));
    }

    /// No gang of `namespace` ever stood between zero and its minimum for longer than `within`.
    /// Waits until the present ones end or exceed it. Returns the longest such time.
    pub(crate) async fn assert_settled(&self, namespace: &str, within: Duration) -> Duration {
        self.wait_for(within + Duration::from_secs(1), |ledger| {
            ledger.gangs_in(namespace).all(|(_, gang)| !gang.is_partial())
        })
        .await;
        self.assert_clean();
        let (longest, gang) = self.longest_partial(namespace);
        assert!(
            longest <= within,
            "gang {gang:?} stood between zero and its minimum for {longest:?}, above {within:?}"
        );
        longest
    }

    /// The longest time that a gang of `namespace` stood between zero and its minimum, and which.
    pub(crate) fn longest_partial(&self, namespace: &str) -> (Duration, Option<GangKey>) {
        self.read(|ledger| {
            let gangs = ledger.gangs_in(namespace);
            let times = gangs.map(|(key, gang)| (gang.longest_partial(), Some(key.clone())));
            times.max().unwrap_or_default()
        })
    }
}

impl Drop for Auditor {
    fn drop(&mut self) {
        for task in &self.tasks {
            task.abort();
        }
    }
}

/// The gangs that are not whole, for a failure's text.
fn describe(ledger: &Ledger) -> String {
    let odd = ledger.gangs.iter().filter(|(_, gang)| gang.members > 0 && !gang.is_whole());
    let lines = odd.map(|((namespace, group), gang)| {
        format!(
            "{namespace}/{group}: {} of {} members bound, minimum {}",
            gang.bound, gang.members, gang.min
        )
    });
    lines.take(20).collect::<Vec<_>>().join("\n")
}

fn node_event(ledger: &mut Ledger, event: &WatchEvent<Node>) {
    match event {
        WatchEvent::Added(node) | WatchEvent::Modified(node) => ledger.node_seen(node),
        WatchEvent::Deleted(node) => ledger.node_gone(node),
        WatchEvent::Bookmark(_) | WatchEvent::Error(_) => {}
    }
}

fn pod_event(ledger: &mut Ledger, event: &WatchEvent<Pod>) {
    match event {
        WatchEvent::Added(pod) | WatchEvent::Modified(pod) => ledger.pod_seen(pod, Instant::now()),
        WatchEvent::Deleted(pod) => {
            // the last state first: a pod may be bound and deleted between two events
            ledger.pod_seen(pod, Instant::now());
            ledger.pod_gone(pod, Instant::now());
        }
        WatchEvent::Bookmark(_) | WatchEvent::Error(_) => {}
    }
}

trait Watched:
    kube::Resource<DynamicType = ()> + Clone + std::fmt::Debug + serde::de::DeserializeOwned
{
}
impl Watched for Pod {}
impl Watched for Node {}

async fn list<K: Watched>(api: &Api<K>, mut seen: impl FnMut(&K)) -> String {
    let all = api.list(&ListParams::default()).await.expect("the auditor can list");
    all.items.iter().for_each(&mut seen);
    all.metadata.resource_version.expect("a list has a resource version")
}

/// Follows one kind from `version` on without ever listing again, so that no event is missed. An
/// auditor that cannot do so ends, which [`Auditor::read`] turns into a failure.
async fn follow<K: Watched>(
    api: Api<K>,
    mut version: String,
    ledger: Arc<watch::Sender<Ledger>>,
    apply: fn(&mut Ledger, &WatchEvent<K>),
) {
    let parameters = WatchParams::default().timeout(290);
    loop {
        let stream = match api.watch(&parameters, &version).await {
            Ok(stream) => stream,
            Err(error) => return eprintln!("auditor: watching from {version} failed: {error}"),
        };
        let mut stream = std::pin::pin!(stream);
        while let Some(event) = stream.next().await {
            match &event {
                Ok(WatchEvent::Error(status)) => return eprintln!("auditor: {status:?}"),
                Ok(WatchEvent::Bookmark(bookmark)) => {
                    version = bookmark.metadata.resource_version.clone();
                }
                Ok(event) => {
                    let (WatchEvent::Added(object)
                    | WatchEvent::Modified(object)
                    | WatchEvent::Deleted(object)) = event
                    else {
                        continue;
                    };
                    version = object.meta().resource_version.clone().unwrap_or(version);
                    ledger.send_modify(|ledger| apply(ledger, event));
                }
                // a cut connection: the next watch resumes at the same version
                Err(_) => break,
            }
        }
    }
}
