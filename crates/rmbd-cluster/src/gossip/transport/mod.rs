//! Datagrams as they come in and go out: sealed, paced and counted. What stands in their frames is read and written
//! elsewhere.

mod inbox;
mod outbox;

pub(crate) use self::inbox::{Inbox, Incoming, NotTaken, Sender};
pub(crate) use self::outbox::{NotSealed, Outbox, PAYLOAD_END};
