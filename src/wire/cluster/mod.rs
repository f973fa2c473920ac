//! What nodes of a cluster send each other.

/// What one writer wrote: a node, in one of its starts.
///
/// Sketch, epoch and part are 0 for now. They are in every format, so that several sketches, windows of
/// time and tables of a core can come without another one.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Default)]
pub struct SliceId {
    /// Number of the sketch.
    pub sketch: u32,
    /// The node: a random number that it keeps.
    pub node: u64,
    /// One start of it: a random number that is fresh each time.
    pub boot: u64,
    /// A slice of time.
    pub epoch: u64,
    /// A table of its own beside others of the same start.
    pub part: u32,
}

impl SliceId {
    /// The slice of a start of a node; all else is 0.
    #[must_use]
    pub const fn of(node: u64, boot: u64) -> Self {
        Self {
            sketch: 0,
            node,
            boot,
            epoch: 0,
            part: 0,
        }
    }
}
