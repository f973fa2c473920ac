//! The count-min sketch: how often did each key happen, approximately, in fixed memory.
//!
//! # The idea
//!
//! Cormode & Muthukrishnan, "An improved data stream summary: the count-min sketch and its
//! applications", Journal of Algorithms 55 (2005). `depth` rows of `width` counters ("cells"). Each
//! row has a hash function of its own. An add increments one cell in every row; a count reads the
//! same cells and takes the least of them. Other keys that share a cell make it too large, never
//! too small, and the least of several rows is the one with the fewest strangers in it.
//!
//! ```text
//!            column 0                                   width - 1
//!            +----+----+----+----+----+----+----+----+----+
//!    row 0   |    |    | +1 |    |    |    |    |    |    |    hash_0(key) = 2
//!            +----+----+----+----+----+----+----+----+----+
//!    row 1   |    |    |    |    |    |    | +1 |    |    |    hash_1(key) = 6
//!            +----+----+----+----+----+----+----+----+----+
//!    row 2   | +1 |    |    |    |    |    |    |    |    |    hash_2(key) = 0
//!            +----+----+----+----+----+----+----+----+----+
//!
//!    cell index = row * width + column
//!
//!    in memory    own alone    | 0 | 1 | 2 | ...                what was added here
//!                 or in pairs  | 0 | 0 | 1 | 1 | 2 | 2 | ...    and beside it what others counted
//! ```
//!
//! With N the sum of all weights added, the estimate of a key is never below the truth, and exceeds
//! it by more than epsilon * N with a probability of at most delta:
//! epsilon = e / width, delta = e^-depth. [`Geometry`] converts both ways.
//!
//! # What is particular here
//!
//! - **Shared by all threads.** Cells are `AtomicU32` and every access to them is relaxed: a cell is a
//!   number of its own, no other memory is published through it, and cells only grow, so a reader that
//!   sees some rows before and some after an add still sees an upper bound of what was complete before.
//!   Only the total of all weights says more: whoever sees a weight in it sees the cells that it went to.
//! - **Cells wrap, totals do not.** A cell of 32 bits wraps, and what is beyond it is noted by the one who goes over
//!   all cells from time to time; an answer is the whole total, of 64 bits. Until then no more than 2^31 may be
//!   added: [`Exhausted`] says that it would be more.
//! - **Hash once.** [`HashFamily`] makes all rows' columns from one pass over the key; the
//!   [`CellIndexes`] can be looked up in several slices of the same geometry, prefetched, and used later.
//! - **Threads of small sketches do not meet.** Where several threads add to a small sketch each has a table of its own
//!   beside the cells that all share ([`lanes_of`]); what was added to a cell is the sum of them.
//! - **What others counted stands beside it.** A sketch made by [`Sketch::try_shared`] has pairs of cells: adds go
//!   to the first of a pair, and one writer adds to the second what it learns of others. An answer is the least
//!   row of the firsts plus the least row of the seconds: an upper bound of the sum, never looser than the least
//!   row of the sums, and one cache line a row, however many others there are.
//! - **Memory is taken from the system zeroed and lazily**: a page that no key has touched costs
//!   nothing.
//!
//! # How it is used
//!
//! [`Sketch::add`] and [`Sketch::estimate`] are all that a program with some threads needs:
//!
//! ```
//! use rmbd_sketch::{Geometry, HashFamily, Sketch, Weight};
//!
//! let sketch = Sketch::try_new(Geometry::from_error(0.001, 0.99)?, HashFamily::Xxh3 { seed: 7 })?;
//! sketch.add(b"apple", Weight::new(2)?)?;
//! sketch.add(b"pear", Weight::ONE)?;
//! assert_eq!((sketch.estimate(b"apple"), sketch.total_weight()), (2, 3));
//! # Ok::<(), Box<dyn std::error::Error>>(())
//! ```
//!
//! Whoever adds many keys hashes each once ([`Sketch::cells_into`]), asks for its cells ahead of their use
//! ([`Sketch::prefetch`]), and pays for all weights together ([`Allowance`]). One thread goes over all cells before
//! more than [`PASS_WEIGHT_MAX`] was added ([`Sketch::begin_pass`]).

mod allowance;
mod beyond;
mod error;
mod geometry;
mod hash;
mod indexes;
mod lanes;
mod memory;
mod others;
mod prefetch;
mod table;
#[cfg(test)]
pub(crate) mod tests;
mod weight;

pub use allowance::Allowance;
pub use error::{Exhausted, SketchError};
pub use geometry::{Geometry, GeometryError, MAX_CELLS, MAX_DEPTH};
pub use hash::{HashFamily, KeyHash};
pub use indexes::{CellIndex, CellIndexes};
pub use lanes::{Lane, lanes_of};
pub use table::{OpenPass, Sketch, SketchOptions};
pub use weight::{MAX_WEIGHT, Weight, WeightError};

/// What [`beyond`] is written with; a model of them elsewhere.
mod atomic {
    pub(crate) use std::sync::atomic::{AtomicBool, AtomicU32, AtomicU64, Ordering, fence};
}

/// Weight that may be added between two passes over the cells, by all threads: 2^31.
pub const PASS_WEIGHT_MAX: u64 = beyond::BUDGET;
