//! The start and the end of a node: when it has what the cluster had, and when the cluster has what it had.

mod leaving;
mod readiness;

pub use self::leaving::LEAVE_LIMIT;
pub(crate) use self::leaving::{LeaveStep, Leaving};
pub use self::readiness::READY_LIMIT;
pub(crate) use self::readiness::Readiness;
