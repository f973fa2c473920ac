//! What all cells together may take.

use std::sync::atomic::{AtomicU64, Ordering::Relaxed};

/// Bytes that are taken, and the limit that is asked before anything is allocated.
#[derive(Debug)]
pub(super) struct MemoryAccount {
    taken_bytes: AtomicU64,
    max_bytes: u64,
}

/// It would be more than the limit; nothing was taken.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct LimitReached {
    /// What there would be in all.
    pub(super) needed_bytes: u64,
    pub(super) max_bytes: u64,
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

    /// To be called before the allocation; give back by [`release`](Self::release) what then failed.
    pub(super) fn reserve(&self, bytes: u64) -> Result<(), LimitReached> {
        // Relaxed: a number of its own. The two writers (of legacy peers and of slices) are one thread;
        // if they were not, each would still see what the other has taken.
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

    fn after(&self, taken: u64, bytes: u64) -> Result<u64, LimitReached> {
        let needed_bytes = taken.saturating_add(bytes);
        if needed_bytes > self.max_bytes {
            return Err(LimitReached {
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
            Err(LimitReached {
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
