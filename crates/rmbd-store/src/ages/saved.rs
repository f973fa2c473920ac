//! Marks as they are kept from one start of a node to the next.

use super::Moment;

/// A mark of our own slice.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct SavedMark {
    /// When it was made, or later.
    pub at: Moment,
    /// The version that the slice had.
    pub version: u64,
}

/// All marks of a sketch, the oldest first.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct SavedMarks {
    /// Those of our own slice.
    pub own: Vec<SavedMark>,
    /// Those that learnt slices share.
    pub learnt: Vec<Moment>,
}
