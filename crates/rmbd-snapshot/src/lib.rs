//! What a node keeps from one start to the next, without a file system, a clock or a thread.
//!
//! - [`Saving`] writes all slices of a node with their ages into a file, in pieces. It does nothing itself: it says
//!   what is to be done with files next, so that whoever does it may be a thread, a ring, or a test that breaks off
//!   anywhere.
//! - [`check`] reads a whole file, and [`load`] takes over what a file holds that was checked. A file is believed as a
//!   whole or not at all.
//! - [`CleanMark`] is what a clean end leaves beside the file. [`Beginning`] says how the next start goes on, and what
//!   it does with the mark before.
//! - [`ClockReading`] is what all clocks of a machine show, so that ages go on from one start to the next.
//!
//! The bytes are those of [`rmbd_proto::snapshot_file`].

mod beginning;
mod clock;
mod error;
mod loading;
mod mark;
mod reading;
mod saving;
#[cfg(test)]
mod tests;

pub use beginning::{Beginning, MarkStep, ThisStart};
pub use clock::ClockReading;
pub use error::SnapshotFileError;
pub use loading::{LoadOptions, Loaded, Skipped, SkippedSketch, load};
pub use mark::CleanMark;
pub use reading::{SavedSketch, SavedSlice, SnapshotFileSummary, check};
pub use saving::{Extra, ExtraKind, Saved, Saving, SavingOptions, SavingStep, SlicesSource};

/// The name of the file in a node's folder.
pub const FILE_NAME: &str = "snapshot";
/// The name that it has while it is written.
pub const NEW_FILE_NAME: &str = "snapshot.new";
/// The name of the mark of a clean end.
pub const MARK_FILE_NAME: &str = "clean_end";
