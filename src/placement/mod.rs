//! Verbs: where the members of a group go.

mod blocks;
mod fits;
mod gate;
mod pack;
mod place;
mod ranking;
mod room;
mod tree;
#[cfg(test)]
mod tests;

pub use blocks::{Block, Ground, Within, blocks, lay_all};
pub use gate::Gate;
pub use pack::{Place, place_pack};
pub use place::{Demand, Failure, place_group, weight};
pub use ranking::Rankings;
pub use room::{
    Candidate, Claim, NarrowedClaim, Paper, Rank, RoomAnswer, RoomPlan, Single, Singles,
    TaskSpares, make_room, needed_of,
};
pub use tree::{Part, Rules, Slices, Wanted, place_in_tree, settled_domain};
