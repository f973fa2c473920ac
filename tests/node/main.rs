//! Tests of a whole node inside the test's process, to which they talk over loopback like clients.

#![allow(clippy::unwrap_used, missing_docs)]

mod access;
mod audit;
mod cluster;
mod compact;
mod flood;
mod late_answers;
mod likely;
mod limits;
mod lossy;
mod messages;
mod names;
mod pardons;
mod peers;
mod releases;
mod resp;
mod start;
mod support;
mod window_times;
mod windows;
