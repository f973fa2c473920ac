//! The start and the end of a node: when it has what the cluster had, when the cluster has what it had, and whose the
//! name of its slices is.

mod leaving;
mod naming;
mod readiness;

pub use self::leaving::LEAVE_LIMIT;
pub(crate) use self::leaving::{LeaveStep, Leaving};
pub use self::naming::NAME_LIMIT;
pub(crate) use self::naming::{Naming, Taken, Told};
pub use self::readiness::READY_LIMIT;
pub(crate) use self::readiness::Readiness;
