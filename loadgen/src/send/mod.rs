//! Datagrams leave.

pub(crate) mod outgoing;
pub(crate) mod sender;
