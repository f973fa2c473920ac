//! What is to be sent: loads, their keys, scripts and schedules.

pub mod canonical;
pub mod format;
pub mod keys;
pub mod load;
pub(crate) mod schedule;
pub(crate) mod script;
#[cfg(test)]
pub(crate) mod testing;
