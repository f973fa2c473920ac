//! Tests of the cluster in a simulator: real state machines, virtual time, and a network that a seed makes bad.
//!
//! ```text
//! cargo test -p rmbd-simulator --test cluster                  500 seeds, and the scenarios; the same with
//!                                                              `seeds::seeds -- --nocapture`, and
//!   RMBD_SIM_SEEDS=100000                                      any number, and what was made of faults
//!   RMBD_SIM_SECONDS=300 RMBD_SIM_SEEDS=1000 RMBD_SIM_FRESH=50 so long, at least so many, half of them never
//!                                                              played before
//! RMBD_SIM_SEED=17 cargo test -p rmbd-simulator --test cluster one_seed -- --nocapture
//!                                                              one of them, with what happened
//! crates/rmbd-simulator/tests/cluster/mutations/run            what it catches when fixes are taken back
//! ```
//!
//! `RMBD_SIM_FIRST` is the first seed (0), `RMBD_SIM_BASE` the first fresh one (random, and printed),
//! `RMBD_SIM_FAILURES` after how many it ends (3).

#![allow(missing_docs, clippy::unwrap_used)]
#![allow(clippy::print_stderr, clippy::print_stdout)]

mod checks;
mod limits;
mod misled;
mod pardons;
mod scenarios;
mod seeds;
mod windows;
