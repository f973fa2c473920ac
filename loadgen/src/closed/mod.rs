//! Closed loops: the next message leaves as soon as another one is settled. One thread sends and receives,
//! since here the one waits for the other anyway.
//!
//! In the first loop a message is settled by an answer; in the second, of adds that count exactly once, by an
//! acknowledgement, for which it is sent again.

mod answered;
mod once;

pub(crate) use self::answered::AnsweredLoop;
pub(crate) use self::once::OnceLoop;
