//! `loadgen versus`: the same keys, in turns, into a node of ours and into Redis or memcached.
//!
//! Each server has one CPU to itself, and the generator has another one if the machine has two. A turn is a fixed
//! number of adds from the beginning of the same stream. They are sent in the largest batches that serve that server
//! best, and the turn ends when the server has confirmed that it has read all of them. The server that begins changes
//! from round to round. The comparison is about what each server needed for this.

mod adapter;
mod command;
mod contender;
mod contest;
mod error;
mod markdown;
mod memcached;
mod options;
mod ours;
mod process;
mod recipes;
mod record;
mod redis;
mod rival;
#[cfg(test)]
mod tests;

pub(crate) use self::command::VersusCommand;
pub use self::record::{COMPARISON_SCHEMA, Checked, Comparison, Memory, Score, Spread, Turn};
