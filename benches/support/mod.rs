//! Support for benches: seeded keys, CPU time, figures of several rounds, a sender, and the command line.

// Each bench is a crate of its own and uses a part of this module.
#![allow(dead_code)]

pub(crate) mod adds;
pub(crate) mod command_line;
pub(crate) mod cpu_time;
pub(crate) mod edge;
pub(crate) mod fates;
pub(crate) mod figures;
pub(crate) mod flood;
pub(crate) mod keys;
pub(crate) mod machine;
pub(crate) mod redis;
pub(crate) mod servers;
