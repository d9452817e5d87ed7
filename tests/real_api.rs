//! Stories on a real kube-apiserver and etcd: the built scheduler runs as a process and an auditor
//! that only watches the API judges what it did.
//!
//! Stories run one after another on one pair of servers. Where Go is missing they are skipped, and
//! say so; with `CI=true` that is a failure.

#[path = "real_api/claims.rs"]
mod claims;
#[path = "real_api/crash.rs"]
mod crash;
#[path = "real_api/evictions.rs"]
mod evictions;
#[path = "real_api/faults.rs"]
mod faults;
#[path = "real_api/identity.rs"]
mod identity;
#[path = "real_api/neighbours.rs"]
mod neighbours;
#[path = "real_api/quarantine.rs"]
mod quarantine;
#[path = "real_api/queue_file.rs"]
mod queue_file;
#[path = "real_api/queues.rs"]
mod queues;
#[path = "real_api/run_limits.rs"]
mod run_limits;
#[path = "real_api/shares.rs"]
mod shares;
#[path = "real_api/sources.rs"]
mod sources;
mod support;
#[path = "real_api/users.rs"]
mod users;

use mss_scheduler::simulator::kubelet::{OUTCOME, RUN_SECONDS};
use std::time::Duration;
use support::ledger::Ledger;
use support::objects::{
    Gang, bare_pod, create_gangs, create_node, create_pod, create_pods, delete_pod, unschedulable,
};
use support::scheduler::{Scheduler, Settings};
use support::story::Story;

/// The promise: a gang that is partly bound is completed or rolled back within this time.
const PARTIAL: Duration = Duration::from_secs(30);
/// Long enough for anything that is not about waiting on a slow machine.
const SOON: Duration = Duration::from_secs(30);
/// Watching this long shows that something does not happen.
const A_WHILE: Duration = Duration::from_secs(3);

/// All gangs of the namespace are whole, down to the last member.
fn complete(ledger: &Ledger, namespace: &str) -> bool {
    ledger.gangs_in(namespace).all(|(_, gang)| gang.bound == gang.members && gang.is_whole())
}

fn bound(ledger: &Ledger, namespace: &str, group: &str) -> usize {
    let key = (namespace.to_owned(), group.to_owned());
    ledger.gangs.get(&key).map_or(0, |gang| gang.bound)
}

#[tokio::test(flavor = "multi_thread")]
async fn gangs_of_many_shapes_bind_whole() {
    let Some(story) = Story::begin("shapes", 16, 8).await else { return };
    let _scheduler = Scheduler::start(story.servers, &Settings::default()).await;
    // members, minimum, GPUs of each
    let shapes = [
        (1, 1, 8),
        (2, 2, 4),
        (3, 3, 1),
        (8, 8, 1),
        (16, 16, 1),
        (4, 4, 8),
        (5, 3, 2),
        (6, 6, 3),
        (20, 20, 0),
        (7, 1, 1),
    ];
    let mut gangs = Vec::new();
    for (members, minimum, gpus) in shapes {
        let name = format!("gang-{members}-{minimum}-{gpus}");
        gangs.push(Gang { minimum, ..Gang::new(&story.namespace, &name, members, gpus) });
    }
    create_gangs(&story.client, &gangs).await;
    create_pod(&story.client, &bare_pod(&story.namespace, "bare", 1)).await;

    let pods = gangs.iter().map(|gang| gang.members).sum::<usize>() + 1;
    let ns = &story.namespace;
    let whole = |ledger: &Ledger| complete(ledger, ns) && ledger.bound_in(ns) == pods;
    story.auditor.expect(SOON, "gangs of all shapes whole", whole).await;
    let longest = story.end(PARTIAL).await;
    eprintln!("shapes: {} gangs and 1 pod whole, {pods} pods bound; {longest:?}", gangs.len());
}

#[tokio::test(flavor = "multi_thread")]
async fn a_gang_of_which_all_but_one_fit_binds_none() {
    let Some(story) = Story::begin("all-but-one", 2, 8).await else { return };
    let _scheduler = Scheduler::start(story.servers, &Settings::default()).await;
    let ns = &story.namespace;
    // 16 GPUs hold four members of five
    create_gangs(&story.client, &[Gang::new(ns, "five", 5, 4)]).await;
    let told = unschedulable(&story.client, ns, 5, SOON).await;
    for message in &told {
        assert!(message.starts_with("0/2 nodes are available: "), "{message}");
        assert!(message.contains("2 Insufficient nvidia.com/gpu"), "{message}");
    }
    assert!(!story.auditor.wait_for(A_WHILE, |ledger| bound(ledger, ns, "five") > 0).await);

    // it holds nothing: a later gang that fits takes all the room at once
    create_gangs(&story.client, &[Gang::new(ns, "four", 4, 4)]).await;
    let four = |ledger: &Ledger| bound(ledger, ns, "four") == 4;
    story.auditor.expect(SOON, "a later gang whole", four).await;
    assert_eq!(story.auditor.read(|ledger| bound(ledger, ns, "five")), 0);

    // two more nodes hold four again; the third makes room for the fifth
    create_node(&story.client, "more-0", 8).await;
    create_node(&story.client, "more-1", 8).await;
    assert!(!story.auditor.wait_for(A_WHILE, |ledger| bound(ledger, ns, "five") > 0).await);
    create_node(&story.client, "more-2", 8).await;
    let five = |ledger: &Ledger| bound(ledger, ns, "five") == 5;
    story.auditor.expect(SOON, "the gang whole once it fits", five).await;
    story.end(PARTIAL).await;
    eprintln!("all-but-one: 0 of 5 bound while 4 fitted, 5 of 5 after");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_gang_waits_for_its_last_member() {
    let Some(story) = Story::begin("last-member", 4, 8).await else { return };
    let _scheduler = Scheduler::start(story.servers, &Settings::default()).await;
    let ns = &story.namespace;
    let mut members = Gang::new(ns, "late", 4, 8).pods();
    let last = members.pop().expect("the gang has four members");
    create_pods(&story.client, members).await;
    assert!(!story.auditor.wait_for(A_WHILE, |ledger| bound(ledger, ns, "late") > 0).await);

    // the waiting members hold nothing
    create_gangs(&story.client, &[Gang::new(ns, "ready", 4, 4)]).await;
    let ready = |ledger: &Ledger| bound(ledger, ns, "ready") == 4;
    story.auditor.expect(SOON, "a gang beside the waiting one whole", ready).await;

    create_pod(&story.client, &last).await;
    assert!(!story.auditor.wait_for(A_WHILE, |ledger| bound(ledger, ns, "late") > 0).await);
    for name in ["more-0", "more-1"] {
        create_node(&story.client, name, 8).await;
    }
    let whole = |ledger: &Ledger| bound(ledger, ns, "late") == 4;
    story.auditor.expect(SOON, "the gang whole after its last member came", whole).await;
    story.end(PARTIAL).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_replacement_joins_a_gang_of_which_one_member_is_done() {
    let Some(story) = Story::begin("replacement", 2, 8).await else { return };
    let _scheduler = Scheduler::start(story.servers, &Settings::default()).await;
    let ns = &story.namespace;
    let mut members = Gang::new(ns, "team", 4, 4).pods();
    for (member, outcome) in [(0, "succeeded"), (1, "failed")] {
        let annotations = members[member].metadata.annotations.get_or_insert_default();
        annotations.insert(RUN_SECONDS.into(), "1".into());
        annotations.insert(OUTCOME.into(), outcome.into());
    }
    let replacement = Gang { minimum: 4, ..Gang::new(ns, "team", 2, 4) }
        .pods()
        .pop()
        .expect("the gang has members");
    create_pods(&story.client, members).await;
    let ended = |ledger: &Ledger| {
        let phases: Vec<&str> = ledger.live_in(ns).map(|pod| pod.phase.as_str()).collect();
        let count = |phase: &str| phases.iter().filter(|seen| **seen == phase).count();
        (count("Succeeded"), count("Failed"), count("Running")) == (1, 1, 2)
    };
    story.auditor.expect(SOON, "one member done and one failed", ended).await;

    // as a job controller does it: the failed pod goes, a new one of the same name comes
    delete_pod(&story.client, ns, "team-1").await;
    create_pod(&story.client, &replacement).await;
    let four = |ledger: &Ledger| bound(ledger, ns, "team") == 4;
    story.auditor.expect(SOON, "the replacement bound", four).await;
    story.end(PARTIAL).await;
    eprintln!("replacement: 3 running members and one that is done make a gang of 4");
}
