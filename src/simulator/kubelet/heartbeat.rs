//! Heartbeats of all nodes: the lease of each, and now and then its Ready condition.

use super::Heartbeat;
use futures::{StreamExt, stream};
use jiff::Timestamp;
use k8s_openapi::api::coordination::v1::Lease;
use k8s_openapi::api::core::v1::Node;
use kube::api::{Patch, PatchParams, PostParams};
use kube::core::Request;
use kube::{Client, Resource};
use parking_lot::Mutex;
use serde::de::IgnoredAny;
use serde_json::{Value, json};
use std::collections::BTreeSet;
use std::sync::Arc;
use std::time::{Duration, Instant};

const NAMESPACE: &str = "kube-node-lease";

/// A kubelet's lease lasts four of its default renewals; so here.
const RENEWALS_PER_LEASE: u64 = 4;

/// Heartbeat writes in flight.
const PARALLEL: usize = 16;

/// The names of the nodes to speak for, written by the fleet's task, read here. Held only to copy.
pub(super) type Names = Arc<Mutex<BTreeSet<Box<str>>>>;

/// Beats until it is dropped.
pub(super) async fn run(client: Client, every: Heartbeat, names: Names) {
    let mut ticks = tokio::time::interval(every.lease.max(Duration::from_millis(10)));
    ticks.set_missed_tick_behavior(tokio::time::MissedTickBehavior::Delay);
    let mut status_at: Option<Instant> = None;
    loop {
        ticks.tick().await;
        let nodes: Vec<Box<str>> = names.lock().iter().cloned().collect();
        let with_status =
            !nodes.is_empty() && status_at.is_none_or(|at| at.elapsed() >= every.status);
        if with_status {
            status_at = Some(Instant::now());
        }
        let beats = stream::iter(nodes).map(|node| beat(&client, node, every, with_status));
        beats.buffer_unordered(PARALLEL).for_each(async |()| ()).await;
    }
}

/// A beat that fails is not repeated: the next one comes soon.
async fn beat(client: &Client, node: Box<str>, every: Heartbeat, with_status: bool) {
    if let Err(error) = renew(client, &node, every).await {
        tracing::debug!("renewing the lease of node {node}: {error}");
    }
    if with_status && let Err(error) = report(client, &node).await {
        tracing::debug!("reporting the status of node {node}: {error}");
    }
}

async fn renew(client: &Client, node: &str, every: Heartbeat) -> kube::Result<()> {
    let seconds = (every.lease.as_secs() * RENEWALS_PER_LEASE).max(1);
    let now = Timestamp::now().strftime("%Y-%m-%dT%H:%M:%S%.6fZ").to_string();
    let lease = json!({
        "apiVersion": "coordination.k8s.io/v1", "kind": "Lease",
        "metadata": {"name": node, "namespace": NAMESPACE},
        "spec": {"holderIdentity": node, "leaseDurationSeconds": seconds, "renewTime": now},
    });
    let leases = Request::new(Lease::url_path(&(), Some(NAMESPACE)));
    let patch = leases.patch(node, &PatchParams::default(), &Patch::Merge(&lease));
    match send(client, patch).await {
        Err(kube::Error::Api(status)) if status.code == 404 => {
            let body = serde_json::to_vec(&lease).expect("a JSON value can be written");
            send(client, leases.create(&PostParams::default(), body)).await
        }
        other => other,
    }
}

async fn report(client: &Client, node: &str) -> kube::Result<()> {
    let now = Timestamp::now().strftime("%Y-%m-%dT%H:%M:%SZ").to_string();
    let status: Value = json!({"status": {"conditions": [{
        "type": "Ready", "status": "True", "reason": "KubeletReady",
        "message": "kubelet is posting ready status", "lastHeartbeatTime": now,
    }]}});
    let nodes = Request::new(Node::url_path(&(), None));
    let patch = Patch::Strategic(&status);
    send(client, nodes.patch_subresource("status", node, &PatchParams::default(), &patch)).await
}

async fn send(
    client: &Client,
    request: Result<http::Request<Vec<u8>>, kube::core::request::Error>,
) -> kube::Result<()> {
    client.request::<IgnoredAny>(request.map_err(kube::Error::BuildRequest)?).await.map(|_| ())
}
