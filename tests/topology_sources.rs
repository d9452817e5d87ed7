//! What the scheduler reads of others about topology, on the embedded API server; on a real one the
//! same is told in `real_api/sources.rs`.

mod support;

use mss_scheduler::config::Configuration;
use mss_scheduler::runtime;
use mss_scheduler::simulator::api_server::{ApiServer, Options};
use support::objects::namespace;
use support::sources::{
    gangs_go_where_levels_of_objects_say, gpus_are_chosen_by_what_is_reported, install,
    nothing_is_read_of_objects,
};

#[tokio::test(flavor = "multi_thread")]
async fn levels_and_gpus_are_those_that_objects_of_others_say() {
    rustls::crypto::ring::default_provider().install_default().ok();
    let server = ApiServer::start(Options::default()).await.expect("a free loopback port");
    let client = server.client();
    install(&client).await;
    namespace(&client, "sources").await;
    let start = |from_objects: bool| {
        let mut configuration =
            Configuration { health_bind_address: None, ..Configuration::default() };
        configuration.topology.from_objects = from_objects;
        let config = kube::Config::new(server.url().parse().expect("the server's own address"));
        let (stop, stopped) = tokio::sync::oneshot::channel::<()>();
        let stopped = async {
            stopped.await.ok();
        };
        (stop, tokio::spawn(runtime::run_on(configuration, config, stopped)))
    };
    let (stop, scheduler) = start(true);
    gangs_go_where_levels_of_objects_say(&client, "sources").await;
    gpus_are_chosen_by_what_is_reported(&client, "sources").await;
    stop.send(()).ok();
    scheduler.await.expect("it does not panic").expect("it ends in order");

    let (stop, scheduler) = start(false);
    nothing_is_read_of_objects(&client, "sources").await;
    stop.send(()).ok();
    scheduler.await.expect("it does not panic").expect("it ends in order");
    server.stop().await;
}
