//! Simulated time: the shipped core under a virtual clock, with fake kubelets and job controllers.
//!
//! Nodes, queues and a workload go in ([`Inputs`]); each [`Policy`] makes its own of them; a run
//! ends in an [`Outcome`], and several outcomes make a [`report`]. The same inputs and seed give
//! the same bytes: nothing here reads a clock or iterates over a hash table.

mod engine;
mod inputs;
mod outcome;
mod policy;
mod progress;
pub mod report;
mod samples;
mod world;

pub use engine::{RunOptions, run, watch};
pub use inputs::{ClusterSpec, GangSpec, InputError, Inputs, Shape, Sources, Timing};
pub use outcome::{GangOutcome, Outcome, Summary, Totals};
pub use policy::{POLICIES, Policy, policies};
pub use samples::{Samples, Share};
pub use world::{Moment, PodTruth, Stage};
