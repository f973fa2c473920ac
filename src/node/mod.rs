//! A running node: threads, control runtime, HTTP, shutdown.

pub mod status;
