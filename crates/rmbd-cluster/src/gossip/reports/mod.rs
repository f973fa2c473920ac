//! Events for a log, and how often something was refused.

mod events;
mod refusals;

pub(crate) use self::events::Events;
pub(crate) use self::refusals::Refusals;
