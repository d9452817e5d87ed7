//! A secondary Kubernetes scheduler for GPU clusters shared by many teams.
//!
//! One idea: *a decision is a pure function of what is believed about the cluster; the world is
//! touched elsewhere*. [`scheduler::Scheduler`] takes [`scheduler::Event`]s and returns
//! [`scheduler::ApiCall`]s; it has one owner, no locks, no clock, no entropy and no log. The shell
//! around it watches a cluster, makes the calls and tells people. Modules are listed bottom up; a
//! module uses those above it in this list.

// --- the pure core: no kube, no tokio, no clock, no entropy, no log ---
pub mod model;
pub mod cluster;
pub mod fairshare;
pub mod queue;
pub mod framework;
pub mod plugins;
pub mod placement;
pub mod scheduler;

// --- the shell: the only async code ---
#[cfg(feature = "live")]
pub mod config;
#[cfg(feature = "live")]
pub mod telemetry;
#[cfg(feature = "live")]
pub mod kubernetes;
#[cfg(feature = "live")]
pub mod simulator;
#[cfg(feature = "live")]
pub mod runtime;
#[cfg(feature = "live")]
pub mod cli;
