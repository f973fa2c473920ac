//! Errors for a sketch that cannot be made, and for weight that it cannot take.

/// Why a sketch could not be made.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum SketchError {
    /// The allocator refused.
    #[error(
        "no memory for a sketch of {bytes} bytes, nothing was allocated: choose a smaller width or depth, or raise the process's memory limit"
    )]
    OutOfMemory {
        /// Bytes that were asked for.
        bytes: u64,
    },
}

/// So much was added since the last pass over the cells that more would wrap them unseen. Nothing was added.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[error(
    "weights of 2^31 were added faster than they could be taken over, this one was not added: try again in a moment"
)]
pub struct Exhausted;
