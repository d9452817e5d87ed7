//! Watches the cluster, makes the calls, holds the lease.

pub mod permissions;
