//! Sending: datagrams are filled from a script, and leave.

mod errand;
mod filling;
mod legacy;
mod report;
mod requests;
mod sender;
mod train;
mod train_writer;

pub(crate) use self::errand::Errand;
pub(crate) use self::report::SenderReport;
pub(crate) use self::sender::Sender;
pub(crate) use self::train::Train;
pub(crate) use self::train_writer::{Departed, Stranded, TrainWriter};
