//! Everything that plays a cluster.

pub mod api_server;
pub mod create;
pub mod fgd;
pub mod kubelet;
pub mod traces;
pub mod virtual_time;
