//! Places a pod group in one statement.
