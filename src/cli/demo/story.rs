//! What happens, step by step, and what must come of it.

use super::cluster::{Cluster, Member};
use super::table;
use anyhow::{Context, bail};
use indicatif::ProgressBar;
use k8s_openapi::api::core::v1::Pod;
use std::time::{Duration, Instant};

/// Longest wait for something that is to happen.
const SOON: Duration = Duration::from_secs(8);
/// Watching this long shows that something does not happen.
const A_WHILE: Duration = Duration::from_millis(1500);
const POLL: Duration = Duration::from_millis(50);

/// Tells the story.
///
/// # Errors
/// The first step that does not come out as it must.
pub(super) async fn tell(cluster: &Cluster) -> anyhow::Result<()> {
    a_gang_waits_and_starts_whole(cluster).await.context("a gang waits and then starts whole")?;
    a_gang_does_not_fit(cluster).await.context("a gang that does not fit says why")?;
    a_member_is_replaced(cluster).await.context("a member that fails is replaced")?;
    table::print(cluster).await?;
    a_team_gives_back(cluster).await.context("a team gives back what it borrowed")?;
    table::print(cluster).await
}

async fn a_gang_waits_and_starts_whole(cluster: &Cluster) -> anyhow::Result<()> {
    step("1. gang llama asks for 4 x 8 GPUs; 3 of its 4 members arrive");
    for index in 0..3 {
        cluster.create(&member("llama", index, 4, 8)).await?;
    }
    stays(cluster, "no member is bound", |pods| bound(pods, "llama") == 0).await?;
    say("no member is bound: the gang waits, holding nothing");
    cluster.create(&member("llama", 3, 4, 8)).await?;
    comes(cluster, "all 4 members run", |pods| running(pods, "llama") == 4).await?;
    say("the 4th member arrives: all 4 are bound and run");
    table::print(cluster).await
}

async fn a_gang_does_not_fit(cluster: &Cluster) -> anyhow::Result<()> {
    step("2. gang gpt asks for 5 x 8 GPUs; 4 nodes are free");
    for index in 0..5 {
        cluster.create(&member("gpt", index, 5, 8)).await?;
    }
    let told = |pods: &[Pod]| of(pods, "gpt").filter(|p| message(p).is_some()).count() == 5;
    comes(cluster, "all 5 members say why they wait", told).await?;
    let pods = cluster.pods().await?;
    let text = of(&pods, "gpt").find_map(message).unwrap_or_default();
    let expected = ["0/8 nodes are available: 8 Insufficient nvidia.com/gpu.", "need 5"];
    if let Some(missing) = expected.iter().find(|part| !text.contains(**part)) {
        bail!("the message is {text:?}: expected {missing:?}");
    }
    stays(cluster, "no member is bound", |pods| bound(pods, "gpt") == 0).await?;
    say(&format!("no member is bound, and each says why:\n     {text}"));
    table::print(cluster).await
}

async fn a_member_is_replaced(cluster: &Cluster) -> anyhow::Result<()> {
    step("3. gang bert asks for 2 x 4 GPUs; one of its members fails after a second");
    let failing = Member { fails_after: Some("1"), ..member("bert", 0, 2, 4) };
    cluster.create(&failing).await?;
    cluster.create(&member("bert", 1, 2, 4)).await?;
    comes(cluster, "both members are bound", |pods| bound(pods, "bert") == 2).await?;
    let pods = cluster.pods().await?;
    let (devices, nodes) = (table::devices(&pods, "bert"), table::nodes(&pods, "bert"));
    if devices != ["0,1,2,3", "4,5,6,7"] || nodes != 1 {
        bail!("bert is on {nodes} nodes with GPUs {devices:?}: expected the two islands of one");
    }
    say("each member has an island of 4 GPUs that NVLink joins, both of one node");
    let failed = |pods: &[Pod]| of(pods, "bert").filter(|p| phase(p) == "Failed").count() == 1;
    comes(cluster, "one member fails", failed).await?;
    say("one member has failed; its controller would now create another");
    cluster.create(&member("bert", 2, 2, 4)).await?;
    comes(cluster, "the replacement runs", |pods| running(pods, "bert") == 2).await?;
    say("the replacement runs beside the member that went on: the gang is whole again");
    Ok(())
}

async fn a_team_gives_back(cluster: &Cluster) -> anyhow::Result<()> {
    step(
        "4. two teams of equal weight, an empty cluster; language starts a gang of 64 that needs 8",
    );
    cluster.clear().await?;
    for team in ["language", "vision"] {
        cluster.create_team(team)?;
    }
    for index in 0..64 {
        let sweep = Member { namespace: "language", ..member("sweep", index, 8, 1) };
        cluster.create(&sweep).await?;
    }
    comes(cluster, "language runs on all 64 GPUs", |pods| running(pods, "sweep") == 64).await?;
    say("nobody else asks, so language borrows the other half: all 64 members run");
    table::print(cluster).await?;
    step("5. vision asks for 4 x 8 GPUs, which is its half");
    for index in 0..4 {
        let resnet = Member { namespace: "vision", ..member("resnet", index, 4, 8) };
        cluster.create(&resnet).await?;
    }
    comes(cluster, "vision's gang runs whole", |pods| running(pods, "resnet") == 4).await?;
    let pods = cluster.pods().await?;
    let left = of(&pods, "sweep").filter(|pod| pod.metadata.deletion_timestamp.is_none()).count();
    if left != 32 {
        bail!("{left} members of sweep are left: expected 32, just what vision did not need");
    }
    say(
        "32 elastic members were given notice and evicted, and not one more; sweep goes on with 32",
    );
    Ok(())
}

fn member(gang: &str, index: u32, min_member: u32, gpus: u32) -> Member<'_> {
    let name = format!("{gang}-{index}");
    Member { namespace: "default", gang, name, min_member, gpus, fails_after: None }
}

fn step(text: &str) {
    println!("{text}");
}

fn say(text: &str) {
    println!("   {text}");
}

/// Waits until something is so.
async fn comes(
    cluster: &Cluster,
    what: &str,
    holds: impl Fn(&[Pod]) -> bool,
) -> anyhow::Result<()> {
    let line = ProgressBar::new_spinner().with_message(format!("waiting until {what}"));
    let began = Instant::now();
    while began.elapsed() < SOON {
        line.tick();
        if holds(&cluster.pods().await?) {
            line.finish_and_clear();
            return Ok(());
        }
        tokio::time::sleep(POLL).await;
    }
    line.finish_and_clear();
    bail!("waited {SOON:?} in vain until {what}")
}

/// Watches that something stays so.
async fn stays(
    cluster: &Cluster,
    what: &str,
    holds: impl Fn(&[Pod]) -> bool,
) -> anyhow::Result<()> {
    let line = ProgressBar::new_spinner().with_message(format!("watching that {what}"));
    let began = Instant::now();
    while began.elapsed() < A_WHILE {
        line.tick();
        if !holds(&cluster.pods().await?) {
            line.finish_and_clear();
            bail!("expected that {what}");
        }
        tokio::time::sleep(POLL).await;
    }
    line.finish_and_clear();
    Ok(())
}

fn of<'a>(pods: &'a [Pod], gang: &'a str) -> impl Iterator<Item = &'a Pod> {
    pods.iter().filter(move |pod| table::gang_of(pod) == gang)
}

fn phase(pod: &Pod) -> &str {
    pod.status.as_ref().and_then(|status| status.phase.as_deref()).unwrap_or("")
}

fn bound(pods: &[Pod], gang: &str) -> usize {
    of(pods, gang).filter(|pod| table::node_of(pod).is_some()).count()
}

fn running(pods: &[Pod], gang: &str) -> usize {
    of(pods, gang).filter(|pod| phase(pod) == "Running").count()
}

/// Why the pod is not scheduled.
fn message(pod: &Pod) -> Option<String> {
    let conditions = pod.status.as_ref()?.conditions.as_ref()?;
    let condition = conditions.iter().find(|c| c.type_ == "PodScheduled" && c.status == "False")?;
    condition.message.clone()
}
