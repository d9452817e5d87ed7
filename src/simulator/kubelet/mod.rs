//! Fake kubelets: the nodes of a cluster, played through its API.
//!
//! A [`Fleet`] speaks for all nodes, or those with a label, of any Kubernetes API server. A bound
//! pod runs after a start delay; annotations say when and how it ends ([`RUN_SECONDS`],
//! [`OUTCOME`]); one that does not fit on its node is rejected as a kubelet does, which makes the
//! fleet a judge of the scheduler; one that is deleted goes after its grace. Nothing is executed.

mod facts;
mod fleet;
mod heartbeat;
mod machine;
mod nodes;
mod status;
#[cfg(test)]
mod tests;

pub use facts::{OUTCOME, RUN_SECONDS};
pub use fleet::{Fleet, FleetCounts};
pub use nodes::{GPU, NodeShape, PODS_DEFAULT, create_nodes, node_name};

use std::time::Duration;

/// How the nodes behave.
#[derive(Clone, Debug)]
pub struct FleetOptions {
    /// Label selector of the nodes to play; `None`: all.
    pub node_selector: Option<String>,
    /// From seeing a bound pod to reporting it as running.
    pub start_delay: Duration,
    /// The most of a pod's grace that is waited out; zero deletes at once.
    pub grace_max: Duration,
    /// Pod writes in flight, at least 1.
    pub concurrency: usize,
    /// `None`: nodes never renew anything, so that an idle cluster sees no write of theirs.
    pub heartbeat: Option<Heartbeat>,
}

/// How often a node shows that it lives; upstream's defaults.
#[derive(Clone, Copy, Debug)]
pub struct Heartbeat {
    /// Between renewals of the node's Lease in `kube-node-lease`; at least 10 ms.
    pub lease: Duration,
    /// Between reports of its Ready condition.
    pub status: Duration,
}

impl Default for Heartbeat {
    fn default() -> Self {
        Self { lease: Duration::from_secs(10), status: Duration::from_secs(300) }
    }
}

impl Default for FleetOptions {
    fn default() -> Self {
        Self {
            node_selector: None,
            start_delay: Duration::from_millis(100),
            grace_max: Duration::from_secs(1),
            concurrency: 32,
            heartbeat: Some(Heartbeat::default()),
        }
    }
}
