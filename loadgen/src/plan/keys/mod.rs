//! The keys that a run sends: deterministic streams from a seed, or the lines of a file.
//!
//! Every key has a number below [`KeySet::distinct`], and a stream is a sequence of such numbers. So nothing need be
//! noted while sending: a second run of the stream tells what was sent. Taking a key from a stream allocates nothing.

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
pub(crate) use self::stream::{Stream, change_stride};
