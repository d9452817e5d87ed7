//! The scheduler beside others: a foreign scheduler on the same nodes, a second replica of its own,
//! and a cluster in which nothing happens.

use super::support::children::Process;
use super::support::control_plane::{ControlPlane, User};
use super::support::ledger::Ledger;
use super::support::objects::{
    Gang, bare_pod, create_gangs, create_pods, delete_pod, unschedulable,
};
use super::support::scheduler::{Scheduler, Settings};
use super::support::story::Story;
use super::support::{audit, scheduler};
use super::{A_WHILE, PARTIAL, SOON, bound, complete};
use mss_scheduler::simulator::kubelet::node_name;
use std::process::Command;
use std::time::{Duration, Instant};

fn kube_scheduler(servers: &ControlPlane) -> Process {
    let mut command = Command::new(servers.kube_scheduler());
    command
        .arg(format!("--kubeconfig={}", servers.kubeconfig(User::KubeScheduler).display()))
        .args(["--leader-elect=false", "--secure-port=0"]);
    let log = servers.folder().join("kube-scheduler.log");
    Process::start("kube-scheduler", command, log).expect("kube-scheduler can be started")
}

#[tokio::test(flavor = "multi_thread")]
async fn the_pods_of_a_second_scheduler_are_respected() {
    let Some(story) = Story::begin("second-scheduler", 4, 8).await else { return };
    let (ns, auditor) = (&story.namespace, &story.auditor);
    let _foreign = kube_scheduler(story.servers);
    let _scheduler = Scheduler::start(story.servers, &Settings::default()).await;

    // 3 of 8 GPUs on each node are taken
    let foreign = (0..4).map(|number| {
        let mut pod = bare_pod(ns, &format!("foreign-{number}"), 3);
        let spec = pod.spec.as_mut().expect("made with a spec");
        spec.scheduler_name = Some("default-scheduler".into());
        let node = ("kubernetes.io/hostname".to_owned(), node_name(number));
        spec.node_selector = Some([node].into());
        pod
    });
    create_pods(&story.client, foreign.collect()).await;
    auditor.expect(SOON, "foreign pods bound", |ledger| ledger.bound_in(ns) == 4).await;

    // 6 of 8 would fit on no node, 5 of 8 fit on each
    create_gangs(&story.client, &[Gang::new(ns, "six", 1, 6)]).await;
    create_gangs(&story.client, &[Gang::new(ns, "fives", 4, 5)]).await;
    auditor.expect(SOON, "the rest filled", |ledger| bound(ledger, ns, "fives") == 4).await;
    assert!(!auditor.wait_for(A_WHILE, |ledger| bound(ledger, ns, "six") > 0).await);

    // what the foreign pods give back is used
    delete_pod(&story.client, ns, "foreign-0").await;
    delete_pod(&story.client, ns, "foreign-1").await;
    create_gangs(&story.client, &[Gang::new(ns, "threes", 2, 3)]).await;
    auditor.expect(SOON, "freed room used", |ledger| bound(ledger, ns, "threes") == 2).await;
    assert_eq!(auditor.read(|ledger| ledger.used("nvidia.com/gpu")), 32_000);
    story.end(PARTIAL).await;
    eprintln!("second-scheduler: 32 of 32 GPUs used by both schedulers, none twice");
}

#[tokio::test(flavor = "multi_thread")]
async fn replicas_hand_over_within_the_lease_time() {
    let Some(story) = Story::begin("replicas", 8, 8).await else { return };
    let (ns, auditor) = (&story.namespace, &story.auditor);
    let settings = Settings {
        lease: Duration::from_secs(4),
        renew: Duration::from_millis(2500),
        retry: Duration::from_millis(500),
        ..Settings::default()
    };
    // what a process on a busy machine may take beside waiting
    let slack = Duration::from_secs(2);
    let whole = |group: &'static str| move |ledger: &Ledger| bound(ledger, ns, group) == 4;

    let mut first = Scheduler::start(story.servers, &settings).await;
    create_gangs(&story.client, &[Gang::new(ns, "one", 4, 1)]).await;
    auditor.expect(SOON, "a gang bound by the first", whole("one")).await;
    let mut second = Scheduler::start(story.servers, &settings).await;

    first.process.kill();
    let killed = Instant::now();
    create_gangs(&story.client, &[Gang::new(ns, "two", 4, 1)]).await;
    auditor.expect(SOON, "a gang bound by the second", whole("two")).await;
    let after_kill = killed.elapsed();
    assert!(after_kill <= settings.lease + slack, "taken over {after_kill:?} after kill -9");

    first.restart();
    first.wait_ready(SOON).await;
    second.process.signal(libc::SIGTERM);
    let asked = Instant::now();
    create_gangs(&story.client, &[Gang::new(ns, "three", 4, 1)]).await;
    auditor.expect(SOON, "a gang bound by the first again", whole("three")).await;
    let after_term = asked.elapsed();
    assert!(
        after_term <= Duration::from_secs(1) + slack,
        "taken over {after_term:?} after SIGTERM"
    );
    let status = second.process.wait(SOON).await.expect("SIGTERM ends it");
    assert!(status.success(), "after SIGTERM it ended with {status}");

    story.end(PARTIAL).await;
    eprintln!(
        "replicas: lease {:?}; taken over {after_kill:?} after kill -9, {after_term:?} after SIGTERM",
        settings.lease
    );
}

#[tokio::test(flavor = "multi_thread")]
async fn a_leader_that_was_paused_does_no_harm() {
    let Some(story) = Story::begin("paused", 8, 8).await else { return };
    let (ns, auditor) = (&story.namespace, &story.auditor);
    let settings = Settings::short_lease();
    let paused = Scheduler::start(story.servers, &settings).await;
    create_gangs(&story.client, &[Gang::new(ns, "one", 4, 1)]).await;
    auditor.expect(SOON, "a gang whole", |ledger| bound(ledger, ns, "one") == 4).await;

    paused.process.signal(libc::SIGSTOP);
    let _second = Scheduler::start(story.servers, &settings).await;
    // room for three gangs of these: if both schedule at once, they will not agree
    let gangs: Vec<_> = (0..8).map(|n| Gang::new(ns, &format!("next-{n}"), 2, 8)).collect();
    create_gangs(&story.client, &gangs).await;
    let three = |ledger: &Ledger| ledger.bound_in(ns) == 4 + 6;
    auditor.expect(SOON, "three gangs bound by the second", three).await;
    paused.process.signal(libc::SIGCONT);
    assert!(!auditor.wait_for(A_WHILE, |ledger| ledger.bound_in(ns) != 10).await);
    story.end(PARTIAL).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn an_unchanged_cluster_causes_no_writes_but_the_lease() {
    let Some(story) = Story::begin("unchanged", 8, 8).await else { return };
    let (ns, auditor) = (&story.namespace, &story.auditor);
    let scheduler = Scheduler::start(story.servers, &Settings::default()).await;
    let fitting: Vec<_> = (0..4).map(|n| Gang::new(ns, &format!("fits-{n}"), 2, 8)).collect();
    create_gangs(&story.client, &fitting).await;
    auditor.expect(SOON, "gangs whole", |ledger| complete(ledger, ns)).await;
    let waiting: Vec<_> = (0..50).map(|n| Gang::new(ns, &format!("waits-{n}"), 5, 8)).collect();
    create_gangs(&story.client, &waiting).await;
    unschedulable(&story.client, ns, 250, SOON).await;

    let folder = story.servers.folder();
    let mut quiet_since = audit::position(folder);
    let deadline = Instant::now() + SOON;
    // events follow within seconds
    loop {
        tokio::time::sleep(A_WHILE).await;
        if writes(folder, quiet_since).is_empty() {
            break;
        }
        assert!(Instant::now() < deadline, "still writing: {:?}", writes(folder, quiet_since));
        quiet_since = audit::position(folder);
    }

    let (position, log) = (audit::position(folder), log_size(&scheduler));
    let (processor, rest) = (scheduler.processor_time(), Duration::from_secs(20));
    tokio::time::sleep(rest).await;
    let processor = scheduler.processor_time() - processor;
    let seen = audit::requests(folder, position);
    assert!(seen.iter().any(audit::Request::is_lease), "the lease is renewed all the while");
    let writes = writes(folder, position);
    assert!(writes.is_empty(), "an unchanged cluster caused {writes:?}");
    assert_eq!(log_size(&scheduler), log, "an unchanged cluster caused log lines");
    assert!(processor <= rest / 50, "{processor:?} of processor time in {rest:?} at rest");
    story.end(PARTIAL).await;
    eprintln!(
        "unchanged: 250 waiting pods, {rest:?} at rest: 0 writes, {processor:?} processor time"
    );
}

fn writes(folder: &std::path::Path, position: u64) -> Vec<audit::Request> {
    let mut requests = audit::requests(folder, position);
    requests.retain(|request| request.is_write() && !request.is_lease());
    requests
}

fn log_size(scheduler: &scheduler::Scheduler) -> u64 {
    std::fs::metadata(scheduler.process.log()).expect("the log exists").len()
}
