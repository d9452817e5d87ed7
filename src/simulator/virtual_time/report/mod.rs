//! Outcomes side by side: a table, CSV, JSON and one page of HTML.

mod files;
mod html;
mod plot;
mod table;

pub use files::{WriteError, write};
pub use table::table;
