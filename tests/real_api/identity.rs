//! What a name stands for: a pod that is re-created under its name is another pod, and a gang is
//! that of its namespace and of its present run.

use super::support::audit;
use super::support::fault_proxy::{FaultProxy, Faults};
use super::support::ledger::{Ledger, PodRecord};
use super::support::objects::{Gang, bare_pod, create_pod, create_pods, delete_pod, namespace};
use super::support::scheduler::{Scheduler, Settings};
use super::support::story::Story;
use super::{A_WHILE, PARTIAL, SOON, bound};
use k8s_openapi::api::core::v1::Pod;
use k8s_openapi::apimachinery::pkg::apis::meta::v1::OwnerReference;
use mss_scheduler::simulator::kubelet::{OUTCOME, RUN_SECONDS, node_name};
use std::sync::atomic::Ordering::Relaxed;
use std::time::{Duration, Instant};

/// A pod of one GPU that runs on one node only.
fn pinned(namespace: &str, name: &str, node: usize) -> Pod {
    let mut pod = bare_pod(namespace, name, 1);
    let spec = pod.spec.as_mut().expect("made with a spec");
    spec.node_selector = Some([("kubernetes.io/hostname".to_owned(), node_name(node))].into());
    pod
}

async fn held(proxy: &FaultProxy, count: u64) {
    let deadline = Instant::now() + SOON;
    loop {
        let held = proxy.counts().held_binds.load(Relaxed);
        if held == count {
            return;
        }
        assert!(held < count && Instant::now() < deadline, "{held} of {count} binds are held");
        tokio::time::sleep(Duration::from_millis(5)).await;
    }
}

/// The nodes that the live pod of a name was ever seen on.
fn nodes(ledger: &Ledger, namespace: &str, name: &str) -> Vec<String> {
    let named = |pod: &&PodRecord| pod.name == name;
    let pod = ledger.live_in(namespace).find(named);
    pod.into_iter().flat_map(|pod| &pod.nodes).map(|(node, _)| node.clone()).collect()
}

#[tokio::test(flavor = "multi_thread")]
async fn a_pod_that_is_created_anew_is_not_bound_by_the_decision_about_the_old_one() {
    let Some(story) = Story::begin("created-anew", 4, 8).await else { return };
    let (ns, auditor, client) = (&story.namespace, &story.auditor, &story.client);
    let (url, authority) = (story.servers.url(), story.servers.certificate());
    let holding = Faults { hold_binds: true, ..Faults::default() };
    let proxy = FaultProxy::start(url, &authority, holding).await;
    let _scheduler = Scheduler::start_via(story.servers, proxy.url(), &Settings::default()).await;
    let position = audit::position(story.servers.folder());

    // six decisions are taken, and none has reached the API server
    let gang = Gang::new(ns, "team", 4, 6);
    create_pods(client, vec![pinned(ns, "moved", 0), pinned(ns, "given-away", 0)]).await;
    create_pods(client, gang.pods()).await;
    held(&proxy, 6).await;

    // each name becomes another pod: one that must run elsewhere, one that is not for this
    // scheduler, and one that asks for the same
    for name in ["moved", "given-away", "team-2"] {
        delete_pod(client, ns, name).await;
    }
    create_pod(client, &pinned(ns, "moved", 1)).await;
    let mut foreign = bare_pod(ns, "given-away", 1);
    foreign.spec.as_mut().expect("made with a spec").scheduler_name = Some("nobody".into());
    create_pod(client, &foreign).await;
    create_pod(client, &gang.pods()[2]).await;
    // the new pod has a decision of its own while that about the old one is on its way
    held(&proxy, 7).await;
    proxy.set(Faults::default());

    let whole =
        |ledger: &Ledger| bound(ledger, ns, "team") == 4 && !nodes(ledger, ns, "moved").is_empty();
    auditor.expect(SOON, "the new pods bound", whole).await;
    let given_away = |ledger: &Ledger| !nodes(ledger, ns, "given-away").is_empty();
    assert!(!auditor.wait_for(A_WHILE, given_away).await, "a pod of nobody's was bound");
    assert_eq!(auditor.read(|ledger| nodes(ledger, ns, "moved")), [node_name(1)]);
    let gone = auditor.read(|ledger| {
        let gone = ledger.gone.values().filter(|pod| pod.namespace == *ns);
        gone.map(|pod| pod.nodes.len()).collect::<Vec<_>>()
    });
    assert_eq!(gone, [0; 3], "the old pods are gone, and were never bound");

    // the old decisions did arrive, and the API server refused them
    let mut refused: Vec<String> = audit::requests(story.servers.folder(), position)
        .into_iter()
        .filter(|request| request.resource == "pods/binding" && request.code == 409)
        .map(|request| request.name)
        .collect();
    refused.sort_unstable();
    assert_eq!(refused, ["given-away", "moved", "team-2"]);
    let longest = story.end(PARTIAL).await;
    eprintln!("created-anew: 3 binds of 7 refused for their uid; {longest:?} partial");
}

#[tokio::test(flavor = "multi_thread")]
async fn members_of_another_namespace_or_an_earlier_run_do_not_count() {
    let Some(story) = Story::begin("same-name", 4, 8).await else { return };
    let (ns, auditor, client) = (&story.namespace, &story.auditor, &story.client);
    let other = "same-name-other";
    namespace(client, other).await;
    let _scheduler = Scheduler::start(story.servers, &Settings::default()).await;
    let none = |ledger: &Ledger| bound(ledger, ns, "train") + bound(ledger, other, "train") > 0;
    let run = |namespace: &str, owner: u128| {
        let mut pods = Gang::new(namespace, "train", 4, 2).pods();
        for pod in &mut pods {
            pod.metadata.owner_references = Some(vec![job(owner)]);
        }
        pods
    };

    // two and three are not four, whatever they are called
    let (mut here, mut there) = (run(ns, 1), run(other, 2));
    let (last_two, last) = (here.split_off(2), there.split_off(3));
    create_pods(client, here.into_iter().chain(there).collect()).await;
    assert!(!auditor.wait_for(A_WHILE, none).await, "members of two namespaces were added up");
    create_pods(client, last).await;
    let whole = |ledger: &Ledger| bound(ledger, other, "train") == 4;
    auditor.expect(SOON, "the gang that is complete whole", whole).await;
    let too_early = |ledger: &Ledger| bound(ledger, ns, "train") > 0;
    assert!(!auditor.wait_for(A_WHILE, too_early).await, "its namesake was bound with it");
    for pod in last_two {
        create_pod(client, &pod).await;
    }
    let both = |ledger: &Ledger| bound(ledger, ns, "train") == 4;
    auditor.expect(SOON, "its namesake whole", both).await;

    // a run ends well and its pods stay; the next one has its group name
    let mut first = Gang::new(ns, "again", 4, 2).pods();
    for pod in &mut first {
        pod.metadata.owner_references = Some(vec![job(3)]);
        let annotations = pod.metadata.annotations.get_or_insert_default();
        annotations.insert(RUN_SECONDS.into(), "1".into());
        annotations.insert(OUTCOME.into(), "succeeded".into());
    }
    create_pods(client, first).await;
    let ended =
        |ledger: &Ledger| ledger.live_in(ns).filter(|pod| pod.phase == "Succeeded").count() == 4;
    auditor.expect(SOON, "the first run ended", ended).await;
    // ends and creations are told to the second
    tokio::time::sleep(Duration::from_millis(1100)).await;
    let mut second = Gang::new(ns, "again", 4, 2).pods();
    for pod in &mut second {
        pod.metadata.name = pod.metadata.name.take().map(|name| format!("second-{name}"));
        pod.metadata.owner_references = Some(vec![job(4)]);
    }
    let last = second.pop().expect("the gang has members");
    create_pods(client, second).await;
    let running = |ledger: &Ledger| {
        let bound = ledger.live_in(ns).filter(|pod| pod.node().is_some());
        bound.filter(|pod| pod.name.starts_with("second-")).count()
    };
    assert!(
        !auditor.wait_for(A_WHILE, |ledger| running(ledger) > 0).await,
        "what an earlier run left was counted"
    );
    create_pod(client, &last).await;
    auditor.expect(SOON, "the second run whole", |ledger| running(ledger) == 4).await;
    story.end(PARTIAL).await;
    eprintln!("same-name: 2 gangs of one name, and 2 runs of another, each whole by itself");
}

/// The controller of a run; nothing here looks after it.
fn job(number: u128) -> OwnerReference {
    OwnerReference {
        api_version: "batch/v1".into(),
        kind: "Job".into(),
        name: format!("job-{number}"),
        uid: format!("00000000-0000-4000-8000-{number:012x}"),
        controller: Some(true),
        ..OwnerReference::default()
    }
}
