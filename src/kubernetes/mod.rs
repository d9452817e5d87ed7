//! Watches the cluster, makes the calls, holds the lease.

pub mod client;
pub mod clock;
pub mod convert;
pub mod dispatch;
pub mod lease;
pub mod objects;
pub mod permissions;
pub mod snapshot;
pub mod watch;

mod bind;
mod evict;
mod grant;
mod tell;

pub use client::{Connection, Reply};
pub use clock::Clock;
