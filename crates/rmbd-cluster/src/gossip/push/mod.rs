//! Pushing our own slice: publishing what was added, and bringing each peer to what is published.
//!
//! [`Publishing`] says which versions there are of each sketch and since when. [`Progress`] is where one peer stands:
//! what it has of each sketch ([`Push`](sweep::Push)), and what is under way to it ([`Flight`](flight::Flight)),
//! which is one for all sketches, since the path is. What others must know before the next version goes ahead of it
//! ([`UrgentCells`]). Where an earlier start gave our slices their name, each peer first tells what it has of them
//! ([`Questions`](questions::Questions)).

mod flight;
mod own_slice;
mod progress;
mod publishing;
mod questions;
mod sweep;
mod urgent;

pub(crate) use self::flight::{ACK_DELAY, SentPiece};
pub(crate) use self::progress::Progress;
#[cfg(test)]
pub(crate) use self::publishing::PUBLISH_CELLS;
pub(crate) use self::publishing::{Pass, Publishing};
pub(crate) use self::urgent::{UrgentCells, UrgentKeys};
