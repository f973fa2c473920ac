//! Answers are taken from the sockets, and found to be those of their questions.

mod answers;
mod inbox;

pub(crate) use self::answers::{Answers, run};
pub(crate) use self::inbox::Inbox;
