//! The cluster in a simulator: real state machines, virtual time, a network that a seed makes bad.
//!
//! ```text
//! cargo test --test cluster                                            500 seeds, and the scenarios
//! RMBD_SIM_SEEDS=100000 cargo test --release --test cluster seeds      any number
//! RMBD_SIM_SEED=17 cargo test --test cluster one_seed -- --nocapture   one of them, with what happened
//! ```

#![allow(missing_docs, clippy::unwrap_used)]
#![allow(clippy::print_stderr, clippy::print_stdout)]

mod checks;
mod misled;
mod scenarios;
mod seeds;
mod support;
