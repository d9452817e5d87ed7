//! Devices that pods claim (dynamic resource allocation), on a real API server.

use super::PARTIAL;
use super::queues;
use super::support::claims::{
    a_shared_claim_is_given_once, gangs_get_all_their_devices, install, no_device_is_given_twice,
    queues_count_both_kinds, remove, what_is_not_honoured_is_told,
};
use super::support::scheduler::{Scheduler, Settings};
use super::support::story::Story;

#[tokio::test(flavor = "multi_thread")]
async fn claims_are_given_devices_and_counted() {
    let Some(story) = Story::begin("claims", 0, 4).await else { return };
    queues::install(story.servers);
    install(&story.client, &story.namespace).await;
    let _scheduler = Scheduler::start(story.servers, &Settings::default()).await;
    no_device_is_given_twice(&story.client, &story.namespace).await;
    a_shared_claim_is_given_once(&story.client, &story.namespace).await;
    gangs_get_all_their_devices(&story.client, &story.namespace).await;
    queues_count_both_kinds(&story.client, &story.namespace).await;
    what_is_not_honoured_is_told(&story.client, &story.namespace).await;
    remove(&story.client).await;
    queues::remove(story.servers);
    story.end(PARTIAL).await;
}
