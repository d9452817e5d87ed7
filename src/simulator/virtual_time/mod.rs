//! Simulated time: the shipped core under a virtual clock, with fake kubelets and job controllers.
//!
//! Nodes, queues and a workload go in ([`Inputs`]); each [`Policy`] makes its own of them; a run
//! ends in an [`Outcome`], and several outcomes make a [`report`]. The same inputs and seed give
//! the same bytes: nothing here reads a clock or iterates over a hash table.

mod curve;
mod dice;
mod engine;
mod fragments;
mod gpus;
mod inputs;
mod outcome;
mod policy;
mod progress;
pub mod report;
mod samples;
mod shared;
mod world;

pub use curve::Curve;
pub use engine::{Failures, RunOptions, run, watch};
pub use gpus::Gpus;
pub use inputs::{
    Before, ClusterSpec, GangSpec, InputError, Inputs, Shape, Sources, Template, Timing,
};
pub use outcome::{GangOutcome, Holding, NodeMap, Outcome, QueueSummary, Summary, Totals};
pub use policy::{POLICIES, Policy, policies};
pub use samples::{Sample, Samples, Share};
pub use world::{Moment, PodTruth, Stage};
