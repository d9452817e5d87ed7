//! Verbs: where the members of a group go.

mod place;
mod ranking;
#[cfg(test)]
mod tests;

pub use place::{Demand, Failure, place_group};
pub use ranking::Rankings;
