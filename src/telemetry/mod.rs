//! The one registry of metrics, and the logs.
