//! Clusters of rmbd nodes in virtual time: the real state machines on a network that a seed makes bad, clients that
//! add exactly once, and the check of what must hold in the end.

// Names say what they are for; nobody outside of the project uses them.
#![allow(
    missing_docs,
    clippy::unwrap_used,
    clippy::print_stdout,
    clippy::print_stderr,
    clippy::should_implement_trait
)]

pub mod check;
pub mod desk;
pub mod faults;
pub mod machine;
pub mod naive;
pub mod network;
pub mod node;
pub mod pace;
pub mod plan;
pub mod queue;
pub mod random;
pub mod run;
pub mod world;
pub mod wrong;
