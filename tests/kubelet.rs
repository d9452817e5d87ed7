//! The fake kubelets on a real API server: what they write is what a real one would.

mod support;

use k8s_openapi::api::coordination::v1::Lease;
use k8s_openapi::api::core::v1::{Pod, PodStatus};
use kube::Client;
use kube::api::{Api, DeleteParams, ListParams};
use mss_scheduler::simulator::kubelet::{
    Fleet, FleetOptions, Heartbeat, NodeShape, OUTCOME, RUN_SECONDS, create_nodes, node_name,
};
use std::time::{Duration, Instant};
use support::control_plane::{ControlPlane, User};
use support::objects::{bare_pod, bind, create_pod};

const NAMESPACE: &str = "default";

async fn place(client: &Client, name: &str, gpus: u32, annotation: Option<(&str, &str)>) {
    let mut pod = bare_pod(NAMESPACE, name, gpus);
    // the usual grace, so that a deleted pod stays until its kubelet lets it go
    pod.spec.as_mut().expect("a pod has a spec").termination_grace_period_seconds = Some(30);
    let annotations = pod.metadata.annotations.get_or_insert_default();
    annotations.extend(annotation.map(|(key, value)| (key.to_owned(), value.to_owned())));
    create_pod(client, &pod).await;
    bind(client, NAMESPACE, name, &node_name(0)).await.expect("it can be bound");
}

/// Waits until the pod, or its absence, is as wanted.
async fn expect(client: &Client, name: &str, wanted: impl Fn(Option<&PodStatus>) -> bool) {
    let pods: Api<Pod> = Api::namespaced(client.clone(), NAMESPACE);
    let deadline = Instant::now() + Duration::from_secs(20);
    loop {
        let pod = pods.get_opt(name).await.expect("pods can be read");
        if wanted(pod.as_ref().and_then(|pod| pod.status.as_ref())) {
            return;
        }
        assert!(Instant::now() < deadline, "{name} became {pod:#?}");
        tokio::time::sleep(Duration::from_millis(50)).await;
    }
}

fn is(status: Option<&PodStatus>, phase: &str) -> bool {
    status.and_then(|status| status.phase.as_deref()) == Some(phase)
}

fn condition(status: Option<&PodStatus>, kind: &str) -> Option<String> {
    let conditions = status?.conditions.as_ref()?;
    conditions.iter().find(|condition| condition.type_ == kind).map(|found| found.status.clone())
}

fn exit_code(status: Option<&PodStatus>) -> Option<i32> {
    let containers = status?.container_statuses.as_ref()?;
    containers.first()?.state.as_ref()?.terminated.as_ref().map(|ended| ended.exit_code)
}

#[tokio::test]
async fn pods_run_end_are_rejected_and_go() {
    let Some(servers) = ControlPlane::start().await else { return };
    let client = servers.client(User::Admin).await;
    create_nodes(&client, 2, &NodeShape::default()).await.expect("nodes are taken");
    // bound before the kubelets are there, as after a power cut
    place(&client, "early", 4, None).await;
    let options = FleetOptions {
        start_delay: Duration::from_millis(50),
        heartbeat: Some(Heartbeat { lease: Duration::from_millis(500), ..Heartbeat::default() }),
        ..FleetOptions::default()
    };
    let fleet = Fleet::start(client.clone(), options);
    expect(&client, "early", |status| {
        let all = ["Ready", "ContainersReady", "Initialized", "PodReadyToStartContainers"];
        let addressed = status.is_some_and(|s| s.pod_ip.is_some() && s.start_time.is_some());
        is(status, "Running")
            && addressed
            && all.iter().all(|kind| condition(status, kind).as_deref() == Some("True"))
            && condition(status, "PodScheduled").as_deref() == Some("True")
    })
    .await;

    place(&client, "short", 2, Some((RUN_SECONDS, "0.3"))).await;
    expect(&client, "short", |status| is(status, "Succeeded") && exit_code(status) == Some(0))
        .await;
    place(&client, "broken", 2, Some((OUTCOME, "failed"))).await;
    expect(&client, "broken", |status| is(status, "Failed") && exit_code(status) == Some(1)).await;

    place(&client, "large", 5, None).await;
    expect(&client, "large", |status| {
        let reason = status.and_then(|status| status.reason.as_deref());
        let message = status.and_then(|status| status.message.as_deref()).unwrap_or_default();
        is(status, "Failed")
            && reason == Some("OutOfnvidia.com/gpu")
            && message.ends_with("nvidia.com/gpu, requested: 5, used: 4, capacity: 8")
    })
    .await;

    let pods: Api<Pod> = Api::namespaced(client.clone(), NAMESPACE);
    pods.delete("early", &DeleteParams::default()).await.expect("it can be deleted");
    expect(&client, "early", |status| status.is_none()).await;
    place(&client, "late", 8, None).await;
    expect(&client, "late", |status| is(status, "Running")).await;

    let leases: Api<Lease> = Api::namespaced(client.clone(), "kube-node-lease");
    let held = leases.list(&ListParams::default()).await.expect("leases can be listed");
    assert_eq!(held.items.len(), 2);
    let counts = fleet.counts();
    assert_eq!((counts.started, counts.succeeded, counts.failed), (4, 1, 1), "{counts:?}");
    assert_eq!((counts.rejected, counts.deleted), (1, 1), "{counts:?}");
}
