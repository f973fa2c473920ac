//! A load generator for rmbd: real traffic, counted and checked.

mod clock;
mod closed;
pub mod environment;
mod flight;
pub mod keys;
pub mod load;
mod outgoing;
pub mod progress;
mod receiver;
pub mod record;
mod run;
mod schedule;
mod script;
mod sender;
#[cfg(test)]
mod testing;
mod times;
