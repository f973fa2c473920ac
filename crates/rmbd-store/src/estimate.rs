//! The answer to a count, and its parts by origin.

use std::net::SocketAddr;

/// The count of a key.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct Estimate {
    /// The count. It is never below the truth for the counts that are known here.
    pub count: u64,
    /// Whether counts of other nodes were refused for want of room: then the truth for all together may be larger.
    pub incomplete: bool,
}

/// The origin of a part of a count: a program that counts on its own.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum OriginName {
    /// A node of this program, by its id.
    Node(u64),
    /// A legacy peer, by the address that its rows come from.
    Legacy(SocketAddr),
}

/// One origin's part of an answer.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct OriginEstimate {
    /// The origin that counted it.
    pub origin: OriginName,
    /// Number of slices of the origin that are held here, one for each boot; our own live slice is included.
    pub slices: usize,
    /// An upper bound of what the origin counted.
    pub count: u64,
    /// Whether the origin is this node itself.
    pub is_own: bool,
}
