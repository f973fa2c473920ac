//! A load generator for rmbd: real traffic, counted and checked.

pub mod cli;
mod closed;
pub mod flight;
mod judge;
pub mod output;
pub mod plan;
mod receive;
pub mod record;
pub mod report;
pub mod run;
mod send;
pub mod server;
pub mod versus;
