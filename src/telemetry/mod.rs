//! The one registry of metrics, the endpoints that tell of health, and the logs.
//!
//! Names, labels, buckets and help texts are in [`catalogue::CATALOGUE`]; [`Metrics`] holds the
//! handles, resolved once, so that counting on the hot path is one atomic addition.

mod bounded;
pub mod catalogue;
pub mod http;
pub mod logs;
mod metrics;
mod rest_client;
#[cfg(test)]
mod tests;

pub use bounded::{BoundedCounters, BoundedGauges};
pub use metrics::{Metrics, Outcome, ProfileMetrics};
pub use rest_client::{RestClientLayer, RestClientService};
