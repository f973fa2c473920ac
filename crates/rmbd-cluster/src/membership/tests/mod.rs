//! Several memberships, joined by a network of the tests' own.

#![allow(clippy::unwrap_used)]

mod coming_and_going;
mod hostile;
mod net;
mod size;
