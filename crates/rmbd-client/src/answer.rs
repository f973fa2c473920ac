//! The answers of a node.

use std::num::NonZeroU16;

use rmbd_proto::Boot;
use rmbd_proto::compact::{Answer, HASH_FNV, HASH_XXH3};

/// The count of a key.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct Count {
    /// Never too low for what arrived, and is known at the node.
    pub estimate: u64,
    /// The node has no room for something that others counted: all together may have more.
    pub incomplete: bool,
}

/// A key after a hit.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Hit {
    /// How often the key was added, this hit included.
    pub estimate: u64,
    /// The estimate is not above the limit.
    pub allowed: bool,
    /// The node has no room for something that others counted: all together may have more.
    pub incomplete: bool,
}

/// A key's estimate, and how good it is.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Bounds {
    /// The upper bound.
    pub estimate: u64,
    /// The truth is at least this, with the sketch's confidence.
    pub lower: u64,
    /// N, the total weight that the estimate rests on.
    pub total_weight: u64,
    /// The node has no room for something that others counted: all together may have more.
    pub incomplete: bool,
}

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

/// An answer that outlives its datagram. Which one it is, the request decides: the core lets no other
/// through.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) enum Answered {
    /// To an add.
    Added,
    Count(Count),
    Hit(Hit),
    Bounds(Bounds),
    Info(Info),
}

impl From<Option<Answer<'_>>> for Answered {
    fn from(answer: Option<Answer<'_>>) -> Self {
        match answer {
            // The core lets no cookie through.
            None | Some(Answer::Cookie(_)) => Self::Added,
            Some(Answer::Count {
                estimate,
                incomplete,
            }) => Self::Count(Count {
                estimate,
                incomplete,
            }),
            Some(Answer::Hit {
                estimate,
                incomplete,
                within,
            }) => Self::Hit(Hit {
                estimate,
                allowed: within,
                incomplete,
            }),
            Some(Answer::Bounds {
                estimate,
                incomplete,
                lower,
                total_weight,
            }) => Self::Bounds(Bounds {
                estimate,
                lower,
                total_weight,
                incomplete,
            }),
            Some(Answer::Info(info)) => Self::Info(Info {
                boot: info.boot,
                fingerprint: info.fingerprint,
                width: info.width,
                depth: info.depth,
                weight_max: info.max_weight,
                hash: match info.hash {
                    HASH_XXH3 => Hash::Xxh3,
                    HASH_FNV => Hash::Fnv,
                    other => Hash::Unknown(other),
                },
                version: String::from_utf8_lossy(info.version).into_owned(),
                cluster_port: NonZeroU16::new(info.cluster_port),
            }),
        }
    }
}

impl Answered {
    pub(super) fn count(self) -> Option<Count> {
        match self {
            Self::Count(count) => Some(count),
            _ => None,
        }
    }

    pub(super) fn hit(self) -> Option<Hit> {
        match self {
            Self::Hit(hit) => Some(hit),
            _ => None,
        }
    }

    pub(super) fn bounds(self) -> Option<Bounds> {
        match self {
            Self::Bounds(bounds) => Some(bounds),
            _ => None,
        }
    }

    pub(super) fn info(self) -> Option<Info> {
        match self {
            Self::Info(info) => Some(info),
            _ => None,
        }
    }
}
