//! A load generator for rmbd: real traffic, counted and checked.

pub mod keys;
