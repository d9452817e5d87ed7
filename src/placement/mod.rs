//! Verbs: where the members of a group go.

mod place;
mod ranking;
mod room;
#[cfg(test)]
mod tests;

pub(crate) use place::weight;
pub use place::{Demand, Failure, place_group};
pub use ranking::Rankings;
pub use room::{Candidate, Claim, Rank, RoomAnswer, RoomPlan, make_room};
