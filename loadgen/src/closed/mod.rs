//! Closed loops, in which the next message leaves as soon as another one is settled. One thread sends and receives,
//! since one waits for the other anyway.
//!
//! In the first loop an answer settles a message. In the second one, which is for adds that count exactly once, an
//! acknowledgement does, and the message is repeated until it comes.

mod answered;
mod once;

pub(crate) use self::answered::AnsweredLoop;
pub(crate) use self::once::OnceLoop;
