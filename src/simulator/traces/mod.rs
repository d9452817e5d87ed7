//! Readers of published cluster traces, and what loads them into a cluster.
//!
//! Each reader yields plain rows one at a time ([`TraceNode`], [`TracePod`], [`TraceGang`]), so a
//! file is never held as a whole; [`objects`] turns rows into Kubernetes objects.

pub mod hosts;
pub mod jobs;
pub mod load;
pub mod objects;
pub mod openb;
pub mod philly;
pub mod pollux;
pub mod swf;
mod table;
#[cfg(test)]
mod tests;

pub use openb::{TraceNode, TracePod};
pub use philly::TraceGang;
pub use table::{TraceError, columns};
