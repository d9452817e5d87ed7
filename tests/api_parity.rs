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
const FLOORS: [(&str, usize, usize); 35] = [
    ("pod create", 200, 60),
    ("pod binding", 150, 20),
    ("pod delete", 80, 20),
    ("pod patch", 100, 20),
    ("pod status", 60, 20),
    ("pod list", 100, 60),
    ("pod eviction", 40, 10),
    ("pod put", 80, 10),
    ("pod table", 40, 40),
    ("pod watch", 300, 300),
    ("pod watch by selector", 300, 300),
    ("pod initial events", 40, 40),
    ("lease put", 30, 20),
    ("configmap create", 20, 15),
    ("node create", 250, 60),
    ("node patch", 200, 50),
    ("node status", 100, 40),
    ("node put", 60, 15),
    ("node delete", 80, 20),
    ("node get", 20, 5),
    ("node list", 60, 40),
    ("node table", 30, 30),
    ("node watch", 200, 200),
    ("custom create", 350, 60),
    ("custom put", 150, 30),
    ("custom patch", 150, 30),
    ("custom status", 120, 30),
    ("custom delete", 80, 30),
    ("custom list", 60, 30),
    ("custom table", 30, 30),
    ("custom watch", 100, 100),
    ("apply map", 300, 150),
    ("apply pod", 120, 40),
    ("apply custom", 180, 60),
    ("budget eviction", 20, 8),
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
    let selection = SELECTIONS[seed as usize % SELECTIONS.len()];
    let of_seed = format!("labelSelector=seed%3D{seed},zone");
    pair.watches(&[
        Watch::since("pod watch", &begin, &pods, ""),
        Watch::since("pod watch by selector", &begin, &pods, selection),
        Watch::initial("pod initial events", &pods),
        Watch::since("node watch", &begin, "/api/v1/nodes", &of_seed),
        Watch::since("custom watch", &begin, &widgets, "labelSelector=app"),
    ])
    .await;
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
