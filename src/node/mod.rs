//! A running node: threads, control runtime, HTTP, shutdown.

pub mod http;
pub mod metrics;
pub mod status;
