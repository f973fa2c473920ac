//! A load generator for rmbd: real traffic, counted and checked.

pub mod environment;
pub mod keys;
pub mod record;
