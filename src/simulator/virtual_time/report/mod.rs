//! Outcomes side by side: a table, CSV, JSON and one page of HTML.

mod files;
mod html;
mod legend;
mod map;
mod plot;
mod table;

pub use files::{WriteError, csv, json, write};
pub use table::table;
