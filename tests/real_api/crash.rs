//! `kill -9` in the middle of binding, a hundred times.

use super::support::fault_proxy::{FaultProxy, Faults};
use super::support::ledger::{GangRecord, Ledger};
use super::support::objects::{Gang, create_gangs, delete_pods, namespace};
use super::support::scheduler::{Scheduler, Settings};
use super::support::story::Story;
use super::{PARTIAL, SOON};
use rand::{RngExt, SeedableRng};
use rand_chacha::ChaCha8Rng;
use std::time::{Duration, Instant};

const GANGS: usize = 50;
/// The longest that a request is held up on its way.
const DELAY: Duration = Duration::from_millis(50);

/// What a kill found.
#[derive(Default)]
struct Tally {
    kills: usize,
    /// Kills of a scheduler that had bound all gangs already; they do not count.
    late: usize,
    /// Kills that left a gang between zero and its minimum, and how many they left in all.
    with_partial: usize,
    partial: usize,
    /// Bound members that a new leader deleted.
    rolled_back: usize,
    pods: usize,
}

/// A round: fifty gangs come, and the scheduler is killed when it has bound a random part of them.
/// Its successor has to wait the lease out; meanwhile the next round's gangs are created, so that
/// it settles what was half done and is killed amid new work soon after.
#[tokio::test(flavor = "multi_thread")]
async fn killed_amid_binding_a_hundred_times_it_leaves_no_gang_partial() {
    let kills = std::env::var("MSS_TEST_KILLS").map_or(100, |text| text.parse().expect("a number"));
    let seed = std::env::var("MSS_TEST_SEED").map_or(1, |text| text.parse().expect("a number"));
    // room for two rounds at their largest
    let Some(story) = Story::begin("crash", 100, 8).await else { return };
    eprintln!("crash: MSS_TEST_SEED={seed}");
    let mut random = ChaCha8Rng::seed_from_u64(seed);
    // binds take unequal times, and those that have not left when the scheduler dies never will
    let faults = Faults { seed, delay: Some(Duration::ZERO..DELAY), ..Faults::default() };
    let proxy = FaultProxy::start(story.servers.url(), &story.servers.certificate(), faults).await;
    let settings = Settings::short_lease();
    let mut scheduler = Scheduler::start_via(story.servers, proxy.url(), &settings).await;
    let (mut tally, started) = (Tally::default(), Instant::now());
    let mut rounds: Vec<String> = Vec::new();
    while tally.kills < kills {
        assert!(tally.late <= kills, "most kills come too late to show anything");
        let round = format!("crash-{}", rounds.len());
        kill_amid(&story, &round, &mut scheduler, &mut random, &mut tally).await;
        if let Some(last) = rounds.last() {
            // older than what was just cut off, so it is done by now or soon; then it makes room
            story.auditor.expect(PARTIAL, "a round settled", |ledger| settled(ledger, last)).await;
            tally.rolled_back += story.auditor.read(|ledger| gone(ledger, last));
            delete_pods(&story.client, last).await;
        }
        rounds.push(round);
    }
    let last = rounds.last().expect("there was a round");
    story.auditor.expect(SOON, "the last round whole", |ledger| settled(ledger, last)).await;
    let mut longest = story.end(PARTIAL).await;
    for round in &rounds {
        longest = longest.max(story.auditor.assert_settled(round, PARTIAL).await);
    }
    assert!(tally.with_partial >= kills / 10, "too few kills left a gang partial");
    eprintln!(
        "crash: {} kills amid binding {GANGS} gangs ({} more came late), {} pods, {:?}; {} kills \
         left {} gangs partial, the longest for {longest:?}; {} pods rolled back; no pod bound twice",
        tally.kills,
        tally.late,
        tally.pods,
        started.elapsed(),
        tally.with_partial,
        tally.partial,
        tally.rolled_back
    );
}

fn gone(ledger: &Ledger, namespace: &str) -> usize {
    ledger.gone.values().filter(|pod| pod.namespace == namespace).count()
}

/// Each gang is whole down to its last member, or was rolled back as a whole.
fn settled(ledger: &Ledger, namespace: &str) -> bool {
    ledger.gangs_in(namespace).all(|(_, gang)| {
        let whole = gang.is_whole() && gang.bound == gang.members;
        whole || gang.bound == 0 && gang.members < gang.min
    })
}

async fn kill_amid(
    story: &Story,
    round: &str,
    scheduler: &mut Scheduler,
    random: &mut ChaCha8Rng,
    tally: &mut Tally,
) {
    namespace(&story.client, round).await;
    let gangs: Vec<Gang> = (0..GANGS)
        .map(|number| Gang::new(round, &format!("gang-{number}"), random.random_range(2..=8), 1))
        .collect();
    let pods: usize = gangs.iter().map(|gang| gang.members).sum();
    let enough = random.random_range(1..pods);
    // amid a gang where that can be seen in time, for that is what a kill must not leave for long
    let amid = |ledger: &Ledger| {
        let bound = ledger.bound_in(round);
        let partial = || ledger.gangs.values().any(GangRecord::is_partial);
        bound == pods || bound >= enough && partial()
    };
    let watch = story.auditor.expect(SOON, "binding", amid);
    tokio::select! {
        _ = async { tokio::join!(create_gangs(&story.client, &gangs), watch) } => {}
        () = scheduler.supervise() => {}
    }
    scheduler.process.kill();
    scheduler.restart();
    // let the last events of the dead scheduler's binds arrive
    tokio::time::sleep(Duration::from_millis(200)).await;
    let (bound, partial) = story.auditor.read(|ledger| {
        let partial = ledger.gangs.values().filter(|gang| gang.is_partial()).count();
        (ledger.bound_in(round), partial)
    });
    tally.pods += pods;
    if bound >= pods {
        tally.late += 1;
        return;
    }
    tally.kills += 1;
    tally.with_partial += usize::from(partial > 0);
    tally.partial += partial;
    if tally.kills.is_multiple_of(10) {
        eprintln!("crash: {} kills", tally.kills);
    }
}
