//! Which keys a run sends: deterministic streams from a seed, or the lines of a file.
//!
//! Every key has a number below [`KeySet::distinct`], and a stream is a sequence of such numbers.
//! So what was sent need not be noted while sending: the same stream, run again, tells. Taking a
//! key from a stream allocates nothing.

mod alias;
mod error;
mod file;
mod made;
mod set;
mod spec;
mod stream;

pub use self::error::KeysError;
pub(crate) use self::file::LineEnd;
pub use self::set::{DEFAULT_KEY_BYTES, KeySet};
pub use self::spec::{KeySpec, KeySpecError};
pub(crate) use self::stream::Stream;
