//! A load generator for rmbd: real traffic, counted and checked.

pub mod canonical;
pub mod ceiling;
pub mod cli;
mod clock;
mod closed;
mod cost;
pub mod environment;
pub mod figures;
mod flight;
pub mod format;
pub mod hgrm;
pub mod keys;
mod ledger;
pub mod live;
pub mod load;
mod once;
mod outgoing;
pub mod output;
pub mod plot;
pub mod progress;
mod receiver;
pub mod record;
pub mod report;
mod run;
#[cfg(test)]
mod sample;
mod schedule;
mod script;
mod sender;
pub mod session;
pub mod table;
pub mod target;
#[cfg(test)]
mod testing;
mod times;
mod truth;
pub mod units;
pub mod versus;
