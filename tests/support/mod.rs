//! What the tests that use a real API server share. Each test file uses its part of it.
#![allow(dead_code)]

pub(crate) mod audit;
pub(crate) mod auditor;
pub(crate) mod children;
pub(crate) mod claims;
pub(crate) mod control_plane;
pub(crate) mod fault_proxy;
pub(crate) mod ledger;
pub(crate) mod objects;
pub(crate) mod scheduler;
pub(crate) mod servers;
pub(crate) mod sources;
pub(crate) mod story;
