//! The machine: events in, API calls out.
