//! Who waits, and which event may help whom.
