//! Plans of loads: their messages, keys, scripts and schedules.

mod canonical;
mod check;
mod form;
mod format;
mod keys;
mod load;
mod mode;
mod options;
mod schedule;
mod script;
#[cfg(test)]
pub(crate) mod testing;
mod window;

pub use self::check::LoadError;
pub(crate) use self::form::{Messages, start_request};
pub(crate) use self::format::DATAGRAM_BYTES;
pub use self::format::Format;
pub use self::keys::{DEFAULT_KEY_BYTES, KeySet, KeySpec, KeySpecError, KeysError};
pub(crate) use self::keys::{LineEnd, Stream};
pub use self::load::{HoldUp, Load};
pub(crate) use self::load::{SEGMENTS_MAX, TRAIN_BYTES_MAX};
pub use self::mode::{Mode, Reading, UnknownMode};
pub(crate) use self::options::{LoadArgs, duration};
pub(crate) use self::schedule::Schedule;
pub(crate) use self::script::{Kind, Script};
pub(crate) use self::window::{Window, nanoseconds};
