//! A load generator for rmbd: real traffic, counted and checked.

pub mod environment;
pub mod figures;
pub mod hgrm;
pub mod keys;
pub mod plot;
pub mod record;
pub mod report;
pub mod units;
pub mod versus;

#[cfg(test)]
mod sample;
