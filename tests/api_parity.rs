//! The embedded API server against the real one: the same random operations, the same answers.
//!
//! Identities, versions and times differ by nature and are taken out before comparing, so is all
//! that `docs/embedded-cluster.md` lists as a deliberate difference. Pods carry what a scheduler
//! writes and reads. A disagreement prints its seed, the operation and both answers.

#[path = "api_parity/operations.rs"]
mod operations;
mod support;

use http::Request;
use mss_scheduler::simulator::api_server::{ApiServer, Options};
use operations::{Operation, random};
use rand::SeedableRng;
use rand_chacha::ChaCha8Rng;
use serde_json::{Value, json};
use support::control_plane::{ControlPlane, User};

const SEQUENCES: u64 = 40;
const OPERATIONS: usize = 40;
/// More disagreements are counted, not printed.
const MAX_PRINTED: usize = 10;

/// Fields that differ by nature.
const NATURAL: [&str; 7] = [
    "uid",
    "resourceVersion",
    "creationTimestamp",
    "deletionTimestamp",
    "managedFields",
    "lastTransitionTime",
    "continue",
];

async fn ask(client: &kube::Client, operation: &Operation) -> Value {
    let body = match &operation.body {
        Value::Null => Vec::new(),
        body => body.to_string().into_bytes(),
    };
    let request = Request::builder()
        .method(operation.method.clone())
        .uri(&operation.path)
        .header("content-type", operation.content_type)
        .header("accept", "application/json")
        .body(body)
        .expect("a valid request");
    match client.request::<Value>(request).await {
        Ok(answer) => answer,
        Err(kube::Error::Api(status)) => {
            let details = &status.details;
            json!({ "error": status.code, "reason": status.reason,
                "message": first_line(&status.message),
                "name": details.as_ref().map(|d| &d.name),
                "kind": details.as_ref().map(|d| &d.kind) })
        }
        Err(error) => panic!("{} {}: {error}", operation.method, operation.path),
    }
}

/// Upstream appends a Go-syntax difference to some messages, and names versions in others.
fn first_line(message: &str) -> String {
    let line = message.lines().next().unwrap_or("");
    let line = line.split(" does not match the ").next().unwrap_or("");
    line.split("UID in object meta").next().unwrap_or("").to_owned()
}

fn natural(value: &mut Value) {
    match value {
        Value::Object(map) => {
            map.retain(|key, _| {
                !NATURAL.contains(&key.as_str()) && !key.ends_with("controller-uid")
            });
            map.values_mut().for_each(natural);
        }
        Value::Array(items) => items.iter_mut().for_each(natural),
        _ => {}
    }
}

/// The events of one namespace since `version`, as type, name and object.
async fn watched(client: &kube::Client, namespace: &str, version: &str) -> Vec<Value> {
    let path = format!(
        "/api/v1/namespaces/{namespace}/pods?watch=true&resourceVersion={version}&timeoutSeconds=1"
    );
    let request = Request::get(path).body(Vec::new()).expect("a valid request");
    let text = client.request_text(request).await.expect("a watch that ends");
    let lines = text.lines().filter(|line| !line.is_empty());
    let mut events: Vec<Value> =
        lines.map(|line| serde_json::from_str(line).expect("an event")).collect();
    events.iter_mut().for_each(natural);
    events
}

async fn version_of(client: &kube::Client, namespace: &str) -> String {
    let path = format!("/api/v1/namespaces/{namespace}/pods");
    let request = Request::get(path).body(Vec::new()).expect("a valid request");
    let list: Value = client.request(request).await.expect("lists");
    list["metadata"]["resourceVersion"].as_str().expect("a version").to_owned()
}

#[tokio::test(flavor = "multi_thread")]
async fn the_embedded_server_answers_as_the_real_one() {
    let Some(real) = ControlPlane::start().await else { return };
    let real = real_client(&real).await;
    let embedded = ApiServer::start(Options::default()).await.expect("a free port");
    let ours = embedded.client();
    let (mut compared, mut events, mut apart) = (0, 0, 0);
    for seed in 0..SEQUENCES {
        let namespace = format!("parity-{seed}");
        let create = Operation::post(
            "/api/v1/namespaces".into(),
            json!({ "metadata": { "name": namespace } }),
        );
        ask(&real, &create).await;
        ask(&ours, &create).await;
        let begin = (version_of(&real, &namespace).await, version_of(&ours, &namespace).await);
        let mut random_source = ChaCha8Rng::seed_from_u64(seed);
        for step in 0..OPERATIONS {
            let operation = random(&mut random_source, &namespace);
            let (mut theirs, mut mine) =
                (ask(&real, &operation).await, ask(&ours, &operation).await);
            natural(&mut theirs);
            natural(&mut mine);
            compared += 1;
            if theirs != mine {
                apart += 1;
                if apart <= MAX_PRINTED {
                    println!("seed {seed} step {step}: {operation:?}");
                    println!("  real:     {theirs}\n  embedded: {mine}");
                }
            }
        }
        let theirs = watched(&real, &namespace, &begin.0).await;
        let mine = watched(&ours, &namespace, &begin.1).await;
        events += theirs.len();
        if theirs != mine {
            apart += 1;
            let first = theirs.iter().zip(&mine).position(|(a, b)| a != b);
            println!(
                "seed {seed}: watch streams part at {first:?} of {}/{}",
                theirs.len(),
                mine.len()
            );
            if let Some(at) = first {
                println!("  real:     {}\n  embedded: {}", theirs[at], mine[at]);
            }
        }
    }
    println!("{SEQUENCES} sequences, {compared} operations, {events} watch events compared");
    assert_eq!(apart, 0, "disagreements");
}

async fn real_client(plane: &ControlPlane) -> kube::Client {
    plane.client(User::Admin).await
}
