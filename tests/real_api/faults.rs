//! A network that lies changes nothing in the outcome.

use super::support::fault_proxy::{Counts, FaultProxy, Faults};
use super::support::ledger::Ledger;
use super::support::objects::{Gang, create_gangs};
use super::support::scheduler::{Scheduler, Settings};
use super::support::story::Story;
use super::{A_WHILE, PARTIAL, bound};
use std::sync::atomic::Ordering::Relaxed;
use std::time::{Duration, Instant};

/// With one answer in ten wrong, everything takes several attempts.
const EVENTUALLY: Duration = Duration::from_secs(90);

fn faults(seed: u64) -> Faults {
    Faults {
        seed,
        lose_every_bind_reply: Some(3),
        too_many: 0.05,
        timeout_before: 0.03,
        timeout_after: 0.03,
        watch_life: Some(Duration::from_millis(300)..Duration::from_secs(3)),
        delay: Some(Duration::ZERO..Duration::from_millis(20)),
        hold_binds: false,
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn lost_replies_refusals_and_cut_watches_change_nothing_in_the_outcome() {
    let Some(story) = Story::begin("faults", 16, 8).await else { return };
    let (ns, auditor) = (&story.namespace, &story.auditor);
    let seed = std::env::var("MSS_TEST_SEED").map_or(1, |text| text.parse().expect("a number"));
    eprintln!("faults: MSS_TEST_SEED={seed}");
    let (url, authority) = (story.servers.url(), story.servers.certificate());
    let proxy = FaultProxy::start(url, &authority, faults(seed)).await;
    // a longer lease than elsewhere: losing it to a run of refusals is not what this is about
    let settings = Settings {
        lease: Duration::from_secs(15),
        renew: Duration::from_secs(10),
        retry: Duration::from_secs(1),
        ..Settings::default()
    };
    let _scheduler = Scheduler::start_via(story.servers, proxy.url(), &settings).await;

    // 120 of 128 GPUs, in three waves
    let started = Instant::now();
    for wave in 0..3 {
        let gangs: Vec<_> =
            (0..10).map(|n| Gang::new(ns, &format!("wave-{wave}-{n}"), 4, 1)).collect();
        create_gangs(&story.client, &gangs).await;
        let bound = 40 * (wave + 1);
        let whole = |ledger: &Ledger| ledger.bound_in(ns) == bound;
        auditor.expect(EVENTUALLY, "a wave of gangs whole", whole).await;
    }
    let took = started.elapsed();

    // what it believes is still true: it knows exactly that 8 GPUs are left
    create_gangs(&story.client, &[Gang::new(ns, "too-many", 9, 1)]).await;
    create_gangs(&story.client, &[Gang::new(ns, "the-rest", 8, 1)]).await;
    let rest = |ledger: &Ledger| bound(ledger, ns, "the-rest") == 8;
    auditor.expect(EVENTUALLY, "the rest filled", rest).await;
    assert!(!auditor.wait_for(A_WHILE, |ledger| bound(ledger, ns, "too-many") > 0).await);
    assert_eq!(auditor.read(|ledger| ledger.used("nvidia.com/gpu")), 128_000);

    let longest = story.end(PARTIAL).await;
    let gone =
        auditor.read(|ledger| ledger.gone.values().filter(|pod| pod.namespace == *ns).count());
    assert_eq!(gone, 0, "a gang that can be completed is not rolled back");
    eprintln!("faults: 31 gangs, 128 pods whole, 120 of them in {took:?}; {longest:?} partial");
    report(proxy.counts());
}

/// Prints how often each fault happened, and fails if one did not: then nothing was shown.
fn report(counts: &Counts) {
    let rows = [
        ("requests", &counts.requests),
        ("binds", &counts.binds),
        ("bind replies lost", &counts.lost_bind_replies),
        ("429", &counts.too_many),
        ("504", &counts.timeouts),
        ("watches cut", &counts.cut_watches),
    ];
    for (what, count) in rows {
        let count = count.load(Relaxed);
        eprintln!("faults: {count} {what}");
        assert!(count > 0, "the proxy had no {what}");
    }
}
