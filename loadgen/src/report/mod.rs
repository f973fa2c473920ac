//! Showing results: as a line while a run goes on, as a table at its end, as a page with plots, and as the percentile
//! text that other tools read.

mod figures;
mod hgrm;
mod live;
mod page;
mod plot;
mod results;
pub mod table;

pub(crate) use self::live::Live;
pub(crate) use self::results::Results;
