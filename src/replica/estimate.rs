//! The answer to a count.

/// How often a key came.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct Estimate {
    /// Never below the truth for what is known here.
    pub count: u64,
    /// Something that others counted was refused for want of room: the truth of all together may be larger.
    pub incomplete: bool,
}
