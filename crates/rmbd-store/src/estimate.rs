//! The answer to a count, and its parts by origin.

use std::net::SocketAddr;

/// The count of a key, of all time or in a window.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct Estimate {
    /// The count. It is never below the truth for the counts that are known here (in a window: where it is read as
    /// *bound*).
    pub count: u64,
    /// The time in milliseconds that a window's count covers, rounded up; 0 for a count of all time.
    pub covered_ms: u32,
    /// Whether counts of other nodes were refused for want of room: then the truth for all together may be larger. A
    /// window's count is also incomplete where this node has not been here for the whole window, and where there are
    /// legacy peers, whose counts have no times.
    pub incomplete: bool,
    /// Whether so much was counted in the window, 2^31 or more in a cell, that its count may be too low by multiples of
    /// 2^32.
    pub overflowed: bool,
    /// Whether the weight of a *take* was not added, because it would have passed the limit.
    pub refused: bool,
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
