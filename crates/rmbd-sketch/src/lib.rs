//! A count-min sketch, which tells approximately how often each key happened, in fixed memory.
//!
//! # The idea
//!
//! The sketch is that of Cormode & Muthukrishnan, "An improved data stream summary: the count-min sketch and its
//! applications", Journal of Algorithms 55 (2005). It has `depth` rows of `width` counters ("cells"), and each row
//! has its own hash function. An add increments one cell in every row; a count reads the same cells and takes the
//! least of them. Other keys that share a cell make it too large, never too small, and the least of several rows is
//! the one with the fewest strangers in it.
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
//! Let N be the sum of all weights added. The estimate of a key is never below the truth. It exceeds the truth by
//! more than epsilon * N with a probability of at most delta, where epsilon = e / width and delta = e^-depth.
//! [`Geometry`] converts both ways.
//!
//! # What is particular here
//!
//! - **Shared by all threads.** Cells are `AtomicU32`, and every access to them is relaxed: each cell stands for
//!   itself, and no other memory is published through it. Cells only grow, so a reader that sees some rows before and
//!   some after an add still sees an upper bound of what was complete before. Only the total of all weights orders
//!   anything: a reader that sees a weight in it also sees the cells that the weight went to.
//! - **Cells wrap, totals do not.** A cell of 32 bits wraps. One thread goes over all cells from time to time and
//!   notes the part of each total that the cell does not hold; an answer is the whole total, of 64 bits. Between two
//!   such passes no more than 2^31 may be added: [`Exhausted`] reports that an add would exceed this.
//! - **Hash once.** [`HashFamily`] makes all rows' columns from one pass over the key; the
//!   [`CellIndexes`] can be looked up in several slices of the same geometry, prefetched, and used later.
//! - **Threads of small sketches do not contend.** Where several threads add to a small sketch, each has a table of
//!   its own beside the cells that all share ([`lanes_of`]). The value of a cell is the sum of these tables.
//! - **Counts of other nodes stand beside the own ones.** A sketch made by [`Sketch::try_shared`] has pairs of cells:
//!   adds go to the first of a pair, and one writer adds to the second what it learns of others. An answer is the
//!   least row of the firsts plus the least row of the seconds. That is an upper bound of the sum, and never looser
//!   than the least row of the sums. It costs one cache line a row, however many others there are.
//! - **Memory is taken from the system zeroed and lazily**: a page that no key has touched costs nothing.
//!
//! # How it is used
//!
//! [`Sketch::add`] and [`Sketch::estimate`] are enough for a program with a few threads:
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
//! A program that adds many keys hashes each once ([`Sketch::cells_into`]), prefetches its cells
//! ([`Sketch::prefetch`]), and pays for all weights together ([`Allowance`]). One thread must go over all cells
//! before more than [`PASS_WEIGHT_MAX`] was added ([`Sketch::begin_pass`]).

mod added;
mod allowance;
mod beyond;
mod error;
mod fold;
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
pub use prefetch::prefetch_for_read;
pub use table::{OpenPass, Sketch, SketchOptions};
pub use weight::{MAX_WEIGHT, Weight, WeightError};

/// The atomics that [`beyond`] is written with; `tests/loom.rs` puts a model of them in this place.
mod atomic {
    pub(crate) use std::sync::atomic::{AtomicBool, AtomicU32, AtomicU64, Ordering, fence};
}

/// Weight that all threads together may add between two passes over the cells: 2^31.
pub const PASS_WEIGHT_MAX: u64 = beyond::BUDGET;
