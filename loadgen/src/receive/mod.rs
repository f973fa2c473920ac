//! Answers are taken from the sockets and matched with their questions.

mod answers;
mod inbox;

pub(crate) use self::answers::{Answers, run};
pub(crate) use self::inbox::Inbox;
