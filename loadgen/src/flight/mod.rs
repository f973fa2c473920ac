//! What is on its way, and what became of it.

pub(crate) mod clock;
pub mod progress;
pub(crate) mod queue;
pub(crate) mod times;
