//! What a node says of itself.

use std::num::NonZeroU16;

use super::questions::FromAnswer;
use rmbd_proto::Boot;
use rmbd_proto::compact::{self, Answer, HASH_FNV, HASH_XXH3};

/// A node's description of itself.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Info {
    /// A random number of the node's present start.
    pub boot: Boot,
    /// Equal where width, depth, hash and its seed are.
    pub fingerprint: u64,
    /// Columns a row.
    pub width: u64,
    /// Rows.
    pub depth: u8,
    /// The largest weight of one add or hit.
    pub weight_max: u32,
    /// The hash family.
    pub hash: Hash,
    /// The program's version.
    pub version: String,
    /// UDP port where it hears other nodes, on the address that answered; `None` is nowhere.
    pub cluster_port: Option<NonZeroU16>,
}

/// A hash family.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Hash {
    /// XXH3-128.
    Xxh3,
    /// The Python program's.
    Fnv,
    /// One that this version does not know.
    Unknown(u8),
}

impl FromAnswer for Info {
    fn from_answer(answer: Option<Answer<'_>>) -> Option<Self> {
        match answer? {
            Answer::Info(info) => Some(info.into()),
            _ => None,
        }
    }
}

impl From<compact::Info<'_>> for Info {
    fn from(info: compact::Info<'_>) -> Self {
        Self {
            boot: info.boot,
            fingerprint: info.fingerprint,
            width: info.width,
            depth: info.depth,
            weight_max: info.max_weight,
            hash: info.hash.into(),
            version: String::from_utf8_lossy(info.version).into_owned(),
            cluster_port: NonZeroU16::new(info.cluster_port),
        }
    }
}

impl From<u8> for Hash {
    fn from(hash: u8) -> Self {
        match hash {
            HASH_XXH3 => Self::Xxh3,
            HASH_FNV => Self::Fnv,
            other => Self::Unknown(other),
        }
    }
}
