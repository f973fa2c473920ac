//! `loadgen versus`: the same keys, in turns, into a node of ours and into Redis or memcached.
//!
//! Each server has one CPU to itself and the generator another one, where the machine has two. A
//! turn is a fixed number of adds from the beginning of the same stream, sent in the largest
//! batches that serve that server best, and ends when the server has confirmed to have read all of
//! them; who begins changes from round to round. What is compared is what each server needed for it.

mod cli;
mod contest;
mod markdown;
mod memcached;
mod ours;
mod process;
mod recipes;
mod record;
mod redis;
mod target;
#[cfg(test)]
mod tests;

pub use self::cli::{Peer, PeerError, VersusCommand, VersusOptions};
pub use self::contest::{VersusError, run};
pub use self::markdown::markdown;
pub use self::record::{COMPARISON_SCHEMA, Checked, Comparison, Memory, Side, Spread, Turn};
pub use self::target::TargetError;
