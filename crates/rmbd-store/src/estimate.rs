//! The answer to a count, and its parts by origin.

use std::net::SocketAddr;
use std::time::Duration;

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
    /// The limit that the count was asked with is passed.
    pub passed: Option<Passed>,
}

/// What is found out where a limit is passed.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Passed {
    /// How long after the question's time as much may be added within the limit, if nobody else adds to the key. `None`
    /// if never: the weight alone is above the limit, or it is one of all time.
    pub retry_after: Option<Duration>,
    /// By how much the count may exceed the truth, with the confidence of the sketch.
    pub error: u64,
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
