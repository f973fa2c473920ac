//! `loadgen versus`: the same keys, in turns, into a node of ours and into Redis or memcached.
//!
//! Each server has one CPU to itself and the generator another one, where the machine has two. A
//! turn is a fixed number of adds from the beginning of the same stream, sent in the largest
//! batches that serve that server best, and ends when the server has confirmed to have read all of
//! them; who begins changes from round to round. What is compared is what each server needed for it.

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
