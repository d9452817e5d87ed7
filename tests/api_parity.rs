//! The embedded API server against the real one: the same random operations, the same answers.
//!
//! Identities, versions and times differ by nature and are taken out before comparing, so is all
//! that `docs/embedded-cluster.md` lists as a deliberate difference. Pods carry what a scheduler
//! writes and reads. A disagreement prints its seed, the operation and both answers. What was
//! compared is counted by kind, and each kind has a floor, so that nothing is left out unseen.

#[path = "api_parity/applies.rs"]
mod applies;
#[path = "api_parity/budgets.rs"]
mod budgets;
#[path = "api_parity/compare.rs"]
mod compare;
#[path = "api_parity/custom.rs"]
mod custom;
#[path = "api_parity/nodes.rs"]
mod nodes;
#[path = "api_parity/operations.rs"]
mod operations;
mod support;

use compare::{Pair, Watch};
use mss_scheduler::simulator::api_server::{ApiServer, Options};
use operations::Operation;
use rand::SeedableRng;
use rand_chacha::ChaCha8Rng;
use serde_json::json;
use support::control_plane::{ControlPlane, User};

const SEQUENCES: u64 = 40;
/// Operations a sequence, of each group.
const PODS: usize = 40;
const NODES: usize = 30;
const CUSTOM: usize = 40;
const APPLIES: usize = 30;

/// At least so many comparisons of each kind, and so many of them with a real success.
const FLOORS: [(&str, usize, usize); 38] = [
    ("pod create", 300, 75),
    ("pod binding", 190, 12),
    ("pod delete", 100, 15),
    ("pod patch", 120, 25),
    ("pod status", 85, 20),
    ("pod list", 100, 90),
    ("pod eviction", 50, 15),
    ("pod put", 100, 10),
    ("pod table", 40, 40),
    ("pod watch", 190, 190),
    ("pod watch by selector", 150, 150),
    ("pod initial events", 60, 60),
    ("lease put", 35, 25),
    ("configmap create", 30, 25),
    ("node create", 240, 120),
    ("node patch", 200, 80),
    ("node status", 150, 65),
    ("node put", 80, 15),
    ("node delete", 80, 35),
    ("node get", 35, 10),
    ("node list", 35, 25),
    ("node table", 25, 25),
    ("node watch", 145, 145),
    ("definition", 4, 2),
    ("custom create", 400, 95),
    ("custom put", 190, 45),
    ("custom patch", 170, 50),
    ("custom status", 150, 40),
    ("custom delete", 80, 35),
    ("custom list", 70, 50),
    ("custom table", 35, 35),
    ("custom watch", 110, 110),
    ("apply map", 400, 270),
    ("apply pod", 165, 85),
    ("apply custom", 225, 155),
    ("apply delete", 40, 30),
    ("budget eviction", 45, 6),
    ("budget table", 20, 20),
];

/// Watches of a part of the pods: objects come and go as they start and stop to match.
const SELECTIONS: [&str; 4] = [
    "labelSelector=app%3Dx",
    "labelSelector=%21app",
    "fieldSelector=status.phase%3DRunning",
    "labelSelector=app%3Dy&fieldSelector=spec.nodeName%21%3D",
];

async fn sequence(pair: &mut Pair, seed: u64) {
    let namespace = format!("parity-{seed}");
    let create = json!({ "metadata": { "name": namespace } });
    pair.prepare(&Operation::post("", "/api/v1/namespaces".into(), create)).await;
    let pods = format!("/api/v1/namespaces/{namespace}/pods");
    let widgets = custom::widgets(&namespace);
    let begin = pair.versions(&pods).await;
    let mut random = ChaCha8Rng::seed_from_u64(seed);
    for step in 0..PODS {
        let operation = operations::random(&mut random, &namespace);
        pair.both(&format!("seed {seed} step {step}"), &operation).await;
    }
    for step in 0..NODES {
        let operation = nodes::random(&mut random, seed);
        pair.both(&format!("seed {seed} node step {step}"), &operation).await;
    }
    for step in 0..CUSTOM {
        let operation = custom::random(&mut random, &namespace);
        pair.both(&format!("seed {seed} custom step {step}"), &operation).await;
    }
    pair.both(&format!("seed {seed}"), &Operation::table("pod table", pods.clone())).await;
    let of_seed = format!("labelSelector=seed%3D{seed},zone");
    let mut watches = vec![
        Watch::since("pod watch", &begin, &pods, ""),
        Watch::initial("pod initial events", &pods),
        Watch::since("node watch", &begin, "/api/v1/nodes", &of_seed),
        Watch::since("custom watch", &begin, &widgets, "labelSelector=app"),
    ];
    watches.extend(SELECTIONS.map(|s| Watch::since("pod watch by selector", &begin, &pods, s)));
    pair.watches(&watches).await;
    for step in 0..APPLIES {
        let operation = applies::random(&mut random, &namespace);
        pair.both(&format!("seed {seed} apply step {step}"), &operation).await;
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn the_embedded_server_answers_as_the_real_one() {
    let Some(real) = ControlPlane::start().await else { return };
    let embedded = ApiServer::start(Options::default()).await.expect("a free port");
    let mut pair = Pair::new(real.client(User::Admin).await, embedded.client());
    custom::install(&mut pair).await;
    for (number, (minimum, ready)) in
        [(1, true), (2, true), (3, true), (1, false), (0, false)].into_iter().enumerate()
    {
        budgets::story(&mut pair, &format!("budget-{number}"), minimum, ready).await;
    }
    for seed in 0..SEQUENCES {
        sequence(&mut pair, seed).await;
    }
    println!("{SEQUENCES} sequences; compared, and successful on the real server:");
    for (label, count) in &pair.counts {
        println!("  {label}: {count}, {}", pair.successes[label]);
    }
    println!("{} compared", pair.counts.values().sum::<usize>());
    assert!(pair.apart.is_empty(), "disagreements: {:?}", pair.apart);
    for (label, least, successes) in FLOORS {
        let counted = (pair.counts.get(label).copied(), pair.successes.get(label).copied());
        let (count, good) = (counted.0.unwrap_or(0), counted.1.unwrap_or(0));
        assert!(count >= least && good >= successes, "too few of {label}: {count}, {good}");
    }
}
