//! What the scheduler reads of others about topology: levels of Topology objects of Kueue and KAI,
//! annotations of both, NodeResourceTopology objects and ResourceSlices.

use super::PARTIAL;
use super::support::scheduler::{Scheduler, Settings};
use super::support::sources::{
    gangs_go_where_levels_of_objects_say, gpus_are_chosen_by_what_is_reported, install, remove,
};
use super::support::story::Story;

#[tokio::test(flavor = "multi_thread")]
async fn levels_and_gpus_are_those_that_objects_of_others_say() {
    let Some(story) = Story::begin("sources", 0, 4).await else { return };
    install(&story.client).await;
    let _scheduler = Scheduler::start(story.servers, &Settings::default()).await;
    gangs_go_where_levels_of_objects_say(&story.client, &story.namespace).await;
    gpus_are_chosen_by_what_is_reported(&story.client, &story.namespace).await;
    remove(&story.client).await;
    story.end(PARTIAL).await;
}
