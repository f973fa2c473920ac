//! Numbers that name starts, writers, sketches and limits. Each has a type of its own, so that none is mistaken for
//! another.

use std::fmt;

use serde::{Serialize, Serializer};
use xxhash_rust::xxh3::xxh3_64;

/// One start of a process: a random number, fresh at every start, never 0.
///
/// The boot names state that must not outlive the process: which requests of exactly-once clients were applied, the
/// channels of the seal, and who is a member.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Boot(pub u64);

/// A writer of slices: a random number, never 0, that has nothing to do with the [`Boot`].
///
/// The writer is part of a slice's name, and no other writer writes that slice.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Writer(pub u64);

/// The number of a sketch, which follows from its name ([`SketchName::number`](super::SketchName::number)).
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct SketchNumber(pub u32);

/// The number of a limit, which follows from its name. Nodes tell each other of limits by it.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct LimitNumber(pub u64);

impl LimitNumber {
    /// The number of the limit of this name: the name's XXH3-64 (seed 0, in the canonical, big-endian form).
    #[must_use]
    pub fn of_name(name: &[u8]) -> Self {
        Self(xxh3_64(name))
    }
}

impl SketchNumber {
    /// The sketch that every node has.
    pub const DEFAULT: Self = Self(0);
}

impl fmt::Display for Boot {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{:016x}", self.0)
    }
}

impl fmt::Display for Writer {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{:016x}", self.0)
    }
}

/// In documents it is the text of 16 hexadecimal digits: many readers of JSON keep no number above 2^53 as it is.
impl Serialize for Boot {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.collect_str(self)
    }
}

/// In documents it is a text, like a [`Boot`].
impl Serialize for Writer {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.collect_str(self)
    }
}

impl fmt::Display for SketchNumber {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.0.fmt(f)
    }
}
