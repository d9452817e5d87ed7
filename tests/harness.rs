//! The harness of the real-API tests, tested: the servers start, the proxy does what its rules
//! say, and the auditor sees what it must not miss.

mod support;

use k8s_openapi::api::core::v1::Pod;
use kube::api::{Api, DeleteParams};
use std::sync::atomic::Ordering;
use std::time::Duration;
use support::auditor::Auditor;
use support::control_plane::{ControlPlane, User};
use support::fault_proxy::{FaultProxy, Faults};
use support::objects::{Gang, bind, create_node, create_pod, namespace};

const SOON: Duration = Duration::from_secs(10);

#[tokio::test(flavor = "multi_thread")]
async fn the_auditor_sees_what_it_must_not_miss() {
    let Some(servers) = ControlPlane::start().await else { return };
    let client = servers.client(User::Admin).await;
    create_node(&client, "node-0", 8).await;
    namespace(&client, "audit").await;
    let auditor = Auditor::start(client.clone()).await;

    // a gang of two that is bound one by one was partial in between
    for pod in Gang::new("audit", "pair", 2, 4).pods() {
        create_pod(&client, &pod).await;
    }
    bind(&client, "audit", "pair-0", "node-0").await.expect("the first bind");
    auditor.expect(SOON, "one bind", |ledger| ledger.bound_in("audit") == 1).await;
    tokio::time::sleep(Duration::from_millis(300)).await;
    bind(&client, "audit", "pair-1", "node-0").await.expect("the second bind");
    auditor.expect(SOON, "two binds", |ledger| ledger.bound_in("audit") == 2).await;
    let longest = auditor.assert_settled("audit", Duration::from_secs(30)).await;
    assert!(longest >= Duration::from_millis(300), "the partial time was {longest:?}");
    auditor.assert_clean();

    // the node is full, so a further bind oversubscribes it
    for pod in Gang::new("audit", "more", 1, 1).pods() {
        create_pod(&client, &pod).await;
    }
    bind(&client, "audit", "more-0", "node-0").await.expect("the API server does not count");
    auditor.expect(SOON, "three binds", |ledger| ledger.bound_in("audit") == 3).await;
    let violations = auditor.read(|ledger| ledger.violations.clone());
    assert_eq!(
        violations,
        ["node node-0 is oversubscribed: 9000 of 8000 thousandths of nvidia.com/gpu"]
    );

    // a gang that was whole is not called partial because somebody deletes a member
    let pods: Api<Pod> = Api::namespaced(client.clone(), "audit");
    pods.delete("pair-0", &DeleteParams::default().grace_period(0)).await.expect("deleted");
    auditor.expect(SOON, "a deletion", |ledger| ledger.bound_in("audit") == 2).await;
    assert_eq!(auditor.longest_partial("audit").0, longest);
}

#[tokio::test(flavor = "multi_thread")]
async fn the_proxy_follows_its_rules() {
    let Some(servers) = ControlPlane::start().await else { return };
    let client = servers.client(User::Admin).await;
    create_node(&client, "node-0", 8).await;
    namespace(&client, "proxy").await;
    let faults = Faults { lose_every_bind_reply: Some(3), ..Faults::default() };
    let proxy = FaultProxy::start(servers.url(), &servers.certificate(), faults).await;
    let through = servers.client_via(User::Admin, proxy.url()).await;
    let auditor = Auditor::start(client.clone()).await;

    for pod in Gang::new("proxy", "six", 6, 1).pods() {
        create_pod(&through, &pod).await;
    }
    let mut lost = Vec::new();
    for number in 0..6 {
        if bind(&through, "proxy", &format!("six-{number}"), "node-0").await.is_err() {
            lost.push(number);
        }
    }
    assert_eq!(lost, [2, 5], "the replies of every third bind are lost");
    // lost replies are of binds that happened
    auditor.expect(SOON, "all binds", |ledger| ledger.bound_in("proxy") == 6).await;
    assert_eq!(proxy.counts().lost_bind_replies.load(Ordering::Relaxed), 2);

    proxy.set(Faults { too_many: 1.0, ..Faults::default() });
    let pods: Api<Pod> = Api::namespaced(through.clone(), "proxy");
    let kube::Error::Api(status) = pods.get("six-0").await.expect_err("refused") else {
        panic!("a refusal is an API error")
    };
    assert_eq!((status.code, status.reason.as_str()), (429, "TooManyRequests"));

    // committed before the 504
    proxy.set(Faults { timeout_after: 1.0, ..Faults::default() });
    pods.delete("six-0", &DeleteParams::default().grace_period(0)).await.expect_err("a 504");
    auditor.expect(SOON, "a deletion", |ledger| ledger.bound_in("proxy") == 5).await;

    let life = Duration::from_millis(200)..Duration::from_millis(300);
    proxy.set(Faults { watch_life: Some(life), ..Faults::default() });
    let watched = pods.watch(&kube::api::WatchParams::default(), "0").await.expect("a watch");
    let events = futures::StreamExt::collect::<Vec<_>>(watched);
    let events = tokio::time::timeout(SOON, events).await.expect("the watch is cut");
    assert!(events.len() >= 5, "what came before the cut is passed on: {events:?}");
}

#[tokio::test(flavor = "multi_thread")]
async fn the_servers_are_what_they_claim_to_be() {
    let Some(servers) = ControlPlane::start().await else { return };
    let version = servers.client(User::Admin).await.apiserver_version().await.expect("a version");
    assert_eq!(version.git_version, "v1.37.2");
    let text = servers.run_kubectl(&["version"]).expect("kubectl works");
    assert!(text.contains("Client Version: v1.37.2"), "{text}");
    // a user without rights has none
    let scheduler = servers.client(User::Scheduler).await;
    let refused = Api::<Pod>::all(scheduler).list(&Default::default()).await;
    assert!(matches!(refused, Err(kube::Error::Api(status)) if status.code == 403));
}
