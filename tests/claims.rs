//! Devices that pods claim, on the embedded API server; on a real one the same is told in
//! `real_api/claims.rs`.

mod support;

use mss_scheduler::config::Configuration;
use mss_scheduler::runtime;
use mss_scheduler::simulator::api_server::{ApiServer, Options};
use serde_json::Value;
use support::claims::{
    a_shared_claim_is_given_once, gangs_get_all_their_devices, install, no_device_is_given_twice,
    queues_count_both_kinds, what_is_not_honoured_is_told,
};
use support::objects::namespace;

#[tokio::test(flavor = "multi_thread")]
async fn claims_are_given_devices_and_counted() {
    rustls::crypto::ring::default_provider().install_default().ok();
    let server = ApiServer::start(Options::default()).await.expect("a free loopback port");
    let client = server.client();
    let definition = include_str!("../manifests/crd.yaml");
    let definition: Value = serde_saphyr::from_str(definition).expect("YAML");
    let path = "/apis/apiextensions.k8s.io/v1/customresourcedefinitions";
    let request = http::Request::post(path)
        .header(http::header::CONTENT_TYPE, "application/json")
        .body(definition.to_string().into_bytes());
    let request = request.expect("a valid request");
    client.request::<Value>(request).await.expect("the definition is accepted");
    namespace(&client, "claims").await;
    install(&client, "claims").await;
    let configuration = Configuration { health_bind_address: None, ..Configuration::default() };
    let config = kube::Config::new(server.url().parse().expect("the server's own address"));
    let (stop, stopped) = tokio::sync::oneshot::channel::<()>();
    let stopped = async {
        stopped.await.ok();
    };
    let scheduler = tokio::spawn(runtime::run_on(configuration, config, stopped));
    no_device_is_given_twice(&client, "claims").await;
    a_shared_claim_is_given_once(&client, "claims").await;
    gangs_get_all_their_devices(&client, "claims").await;
    queues_count_both_kinds(&client, "claims").await;
    what_is_not_honoured_is_told(&client, "claims").await;
    stop.send(()).ok();
    scheduler.await.expect("it does not panic").expect("it ends in order");
    server.stop().await;
}
