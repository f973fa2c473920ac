//! Taking answers from the sockets, and matching them with their questions.

mod answers;
mod inbox;

pub(crate) use self::answers::{Answers, run};
pub(crate) use self::inbox::Inbox;
