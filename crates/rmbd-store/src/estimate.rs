//! The answer to a count, and what it is made of.

use std::net::SocketAddr;

/// The count of a key.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct Estimate {
    /// Never below the truth for what is known here.
    pub count: u64,
    /// Something that others counted was refused for want of room: the truth of all together may be larger.
    pub incomplete: bool,
}

/// The origin of a part of a count: one that counts by itself.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum OriginName {
    /// A node of this program, by its id.
    Node(u64),
    /// A legacy peer, by where its rows come from.
    Legacy(SocketAddr),
}

/// A part of an answer.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct OriginEstimate {
    /// Who counted it.
    pub origin: OriginName,
    /// Slices of it that are held here: one for each boot; our own live one is among them.
    pub slices: usize,
    /// An upper bound of what it counted.
    pub count: u64,
    /// This node itself.
    pub is_own: bool,
}
