//! How old what a slice counts is, so that windows of other nodes need not take all that they learn for new.
//!
//! ```text
//!    marks              1            2            3            4          now
//!    time    -----------|------------|------------|------------|-----------|
//!    a group of a slice:    growth 2     growth 3     growth 4     growth 5
//!                         (0 0 7 0 1)  (0 2 0 0 0)    nothing     (1 0 0 0 0)
//! ```
//!
//! A *mark* is a moment of our own clock. Each growth of a slice has the number of a mark: it had been reached when
//! that mark was made. Growth of the number that comes next may be of just now. So the cells of a slice, less all
//! growth with higher numbers than a mark's, had been counted by then. Growth is kept for *folded* cells (see
//! [`Fold`]), packed, and only where there is any; what had been reached by the oldest mark is not kept.
//!
//! Whatever is uncertain is taken for younger than it is, since a window may have too much in it, but not too little:
//!
//! - A mark of our own slice is made after a pass has read its last cell ([`OwnGrowth`]).
//! - A mark goes by giving its growth to the next younger one ([`Marks`]).
//! - What a parcel says of the growth of a group is rounded up to our own marks ([`LearntGrowth`]). If folds differ,
//!   all that may concern a cell is taken for young ([`old_parts`]).
//! - Where memory is short, all of a slice counts as reached by the next mark ([`GrowthHistory::forget`]).

mod growth;
mod learnt;
mod marks;
mod moment;
mod old;
mod own;
mod plan;
mod saved;
#[cfg(test)]
mod tests;

pub(crate) use growth::GrowthHistory;
pub(crate) use learnt::LearntGrowth;
pub use marks::Mark;
pub(crate) use marks::Marks;
pub use moment::Moment;
pub use old::{GroupAges, Reached, old_parts};
pub(crate) use own::OwnGrowth;
pub use own::ages_memory_bytes;
pub(crate) use plan::AgePlan;
pub use saved::{SavedMark, SavedMarks};

pub use rmbd_proto::cluster::Fold;
