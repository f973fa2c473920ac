//! A simulator of clusters in virtual time: the real state machines run on a network that a seed makes bad, clients
//! add exactly once, and checks tell whether the result is right.
//!
//! ```
//! use std::time::Duration;
//!
//! use rmbd_simulator::node::Node;
//! use rmbd_simulator::world::{Terms, World};
//!
//! let mut world = World::<Node>::cluster(7, 3, Terms::default());
//! world.add(0, 0, 5); // on node 0, to key 0, a weight of 5
//! let all_know = |world: &World<Node>| (0..3).all(|place| world.estimate(place, 0) == 5);
//! let (step, limit) = (Duration::from_millis(100), Duration::from_secs(60));
//! assert!(world.run_until(step, limit, all_know).is_some());
//! assert!(world.violations.is_empty());
//! ```

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
pub mod disk;
pub mod faults;
pub mod keeping;
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
