//! The account of memory for all cells, and allocation of zeroed memory.

use std::sync::atomic::{AtomicU64, Ordering::Relaxed};

use bytemuck::Zeroable;
use bytemuck::allocation::try_zeroed_slice_box;

use rmbd_sketch::SketchError;

/// Bytes that are taken, and the limit, which is checked before anything is allocated.
#[derive(Debug)]
pub(super) struct MemoryAccount {
    taken_bytes: AtomicU64,
    max_bytes: u64,
}

/// The given limit ([`ReplicaLimits`](super::ReplicaLimits)) allows less memory than is needed. Nothing was taken.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[error(
    "all cells together would need {needed_bytes} bytes and may take {max_bytes}: choose a smaller width or depth, or raise the limit"
)]
pub struct MemoryLimit {
    /// Bytes that all cells would take.
    pub needed_bytes: u64,
    /// The limit in bytes.
    pub max_bytes: u64,
}

/// Why there is no memory. Nothing was taken.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum NoMemory {
    /// Memory would be above the given limit.
    #[error(transparent)]
    Limit(#[from] MemoryLimit),
    /// The allocator refused.
    #[error(transparent)]
    Allocator(#[from] SketchError),
}

/// Zeroed numbers. Pages that stay zero cost nothing.
pub(super) fn try_zeroed<N: Zeroable>(len: usize) -> Result<Box<[N]>, SketchError> {
    try_zeroed_slice_box(len).map_err(|()| SketchError::OutOfMemory {
        bytes: (len as u64).saturating_mul(size_of::<N>() as u64),
    })
}

impl MemoryAccount {
    pub(super) fn new(max_bytes: u64) -> Self {
        Self {
            taken_bytes: AtomicU64::new(0),
            max_bytes,
        }
    }

    pub(super) fn taken_bytes(&self) -> u64 {
        self.taken_bytes.load(Relaxed)
    }

    pub(super) fn max_bytes(&self) -> u64 {
        self.max_bytes
    }

    /// Takes `bytes` from the limit, before they are allocated. If the allocation fails, the caller gives them back by
    /// [`release`](Self::release).
    pub(super) fn reserve(&self, bytes: u64) -> Result<(), MemoryLimit> {
        // Relaxed: the number stands for itself. The two writers (of legacy peers and of slices) are one thread; if
        // they were not, each would still see what the other has taken.
        let mut taken = self.taken_bytes();
        loop {
            let after = self.after(taken, bytes)?;
            let exchanged = self
                .taken_bytes
                .compare_exchange(taken, after, Relaxed, Relaxed);
            match exchanged {
                Ok(_) => return Ok(()),
                Err(now) => taken = now,
            }
        }
    }

    pub(super) fn release(&self, bytes: u64) {
        self.taken_bytes.fetch_sub(bytes, Relaxed);
    }

    fn after(&self, taken: u64, bytes: u64) -> Result<u64, MemoryLimit> {
        let needed_bytes = taken.saturating_add(bytes);
        if needed_bytes > self.max_bytes {
            return Err(MemoryLimit {
                needed_bytes,
                max_bytes: self.max_bytes,
            });
        }
        Ok(needed_bytes)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn takes_up_to_its_limit_and_not_a_byte_more() {
        let memory = MemoryAccount::new(100);
        assert_eq!(memory.reserve(60), Ok(()));
        let refused = |needed_bytes| {
            Err(MemoryLimit {
                needed_bytes,
                max_bytes: 100,
            })
        };
        assert_eq!(memory.reserve(41), refused(101));
        assert_eq!(memory.reserve(u64::MAX), refused(u64::MAX));
        assert_eq!(memory.taken_bytes(), 60);
        assert_eq!(memory.reserve(40), Ok(()));
        assert_eq!(memory.reserve(1), refused(101));
        memory.release(60);
        assert_eq!(memory.reserve(60), Ok(()));
        assert_eq!(memory.taken_bytes(), 100);
    }
}
