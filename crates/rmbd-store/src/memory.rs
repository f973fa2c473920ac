//! Accounts of memory for all cells, and allocation of zeroed memory.

use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering::Relaxed};

use bytemuck::Zeroable;
use bytemuck::allocation::try_zeroed_slice_box;

use rmbd_sketch::SketchError;

/// How much memory cells may take, and how much they have taken. All copies stand for the same account, so that
/// several replicas share one limit.
#[derive(Debug, Clone)]
pub struct Memory(Arc<Account>);

#[derive(Debug)]
struct Account {
    taken_bytes: AtomicU64,
    max_bytes: u64,
}

/// What one replica has taken of an account. It goes back when the replica goes.
#[derive(Debug)]
pub(super) struct MemoryShare {
    memory: Memory,
    taken_bytes: AtomicU64,
}

/// The given limit ([`Memory`]) allows less memory than is needed. Nothing was taken.
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
    /// The snapshots of a window would be above the given limit.
    #[error(
        "the window of {span_ms} ms takes {bytes} bytes, with which all cells together would need {needed_bytes} and may take {max_bytes}: choose fewer steps or a smaller width for it, or raise the limit"
    )]
    Window {
        /// The window.
        span_ms: u64,
        /// Bytes of its snapshots.
        bytes: u64,
        /// Bytes that all cells would take.
        needed_bytes: u64,
        /// The limit in bytes.
        max_bytes: u64,
    },
    /// Lists would tell more keys than they may.
    #[error(
        "lists of the {top} largest keys are above the limit of {max}: choose a smaller number"
    )]
    TopTooLarge {
        /// The number of keys that was asked for.
        top: usize,
        /// The largest number.
        max: usize,
    },
    /// There are more windows than a sketch may have.
    #[error("{windows} windows are above the limit of {max} of a sketch: leave some out")]
    TooManyWindows {
        /// The number of windows that were asked for.
        windows: usize,
        /// The largest number.
        max: usize,
    },
}

/// Zeroed numbers. Pages that stay zero cost nothing.
pub(super) fn try_zeroed<N: Zeroable>(len: usize) -> Result<Box<[N]>, SketchError> {
    try_zeroed_slice_box(len).map_err(|()| SketchError::OutOfMemory {
        bytes: (len as u64).saturating_mul(size_of::<N>() as u64),
    })
}

impl Memory {
    /// An account that allows this many bytes; `u64::MAX` is no limit.
    #[must_use]
    pub fn new(max_bytes: u64) -> Self {
        Self(Arc::new(Account {
            taken_bytes: AtomicU64::new(0),
            max_bytes,
        }))
    }

    /// Bytes that all replicas together have taken.
    #[must_use]
    pub fn taken_bytes(&self) -> u64 {
        self.0.taken_bytes.load(Relaxed)
    }

    /// The limit in bytes.
    #[must_use]
    pub fn max_bytes(&self) -> u64 {
        self.0.max_bytes
    }

    fn reserve(&self, bytes: u64) -> Result<(), MemoryLimit> {
        // Relaxed: the number stands for itself. However many threads reserve, each sees what the others have taken.
        let mut taken = self.taken_bytes();
        loop {
            let after = self.after(taken, bytes)?;
            let number = &self.0.taken_bytes;
            match number.compare_exchange(taken, after, Relaxed, Relaxed) {
                Ok(_) => return Ok(()),
                Err(now) => taken = now,
            }
        }
    }

    fn release(&self, bytes: u64) {
        self.0.taken_bytes.fetch_sub(bytes, Relaxed);
    }

    fn after(&self, taken: u64, bytes: u64) -> Result<u64, MemoryLimit> {
        let (needed_bytes, max_bytes) = (taken.saturating_add(bytes), self.max_bytes());
        if needed_bytes > max_bytes {
            return Err(MemoryLimit {
                needed_bytes,
                max_bytes,
            });
        }
        Ok(needed_bytes)
    }
}

impl MemoryShare {
    pub(super) fn new(memory: Memory) -> Self {
        Self {
            memory,
            taken_bytes: AtomicU64::new(0),
        }
    }

    /// The account that this is a share of.
    pub(super) fn all(&self) -> &Memory {
        &self.memory
    }

    /// Bytes of this share.
    pub(super) fn taken_bytes(&self) -> u64 {
        self.taken_bytes.load(Relaxed)
    }

    /// Takes `bytes` from the limit. If they cannot be allocated, the caller gives them back by
    /// [`release`](Self::release).
    pub(super) fn reserve(&self, bytes: u64) -> Result<(), MemoryLimit> {
        self.memory.reserve(bytes)?;
        self.taken_bytes.fetch_add(bytes, Relaxed);
        Ok(())
    }

    pub(super) fn release(&self, bytes: u64) {
        self.taken_bytes.fetch_sub(bytes, Relaxed);
        self.memory.release(bytes);
    }
}

impl Drop for MemoryShare {
    fn drop(&mut self) {
        self.memory.release(self.taken_bytes());
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn takes_up_to_its_limit_and_not_a_byte_more() {
        let memory = MemoryShare::new(Memory::new(100));
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

    #[test]
    fn shares_have_one_limit_and_give_back_what_they_took() {
        let memory = Memory::new(100);
        let [one, other] = [(); 2].map(|()| MemoryShare::new(memory.clone()));
        assert_eq!((one.reserve(70), other.reserve(30)), (Ok(()), Ok(())));
        assert!(other.reserve(1).is_err());
        assert_eq!((one.taken_bytes(), memory.taken_bytes()), (70, 100));
        drop(one);
        assert_eq!((other.reserve(70), memory.taken_bytes()), (Ok(()), 100));
    }
}
