//! What a loop counts.

use std::sync::atomic::AtomicU64;
use std::sync::atomic::Ordering::Relaxed;

/// The counters of one loop. Its thread alone writes them, and anyone may read them. All are written with relaxed
/// ordering: each is a number of its own, and nothing else is published through it.
// Two cache lines, which is what the processor fetches at once: so no other thread's data lies beside them.
#[derive(Debug, Default)]
#[repr(align(128))]
pub struct IoCounters {
    /// Reply datagrams that the kernel took.
    pub replies_sent: AtomicU64,
    /// Reply datagrams that the kernel did not take.
    pub replies_dropped: AtomicU64,
    /// Datagrams (or trains) larger than a receive buffer, or from no IP address; they were not handed over.
    pub truncated: AtomicU64,
    /// The socket's drops, modulo 2^32, as they came with the latest data.
    pub drops_seen: AtomicU64,
    /// Nanoseconds that the thread spent looking for datagrams while nothing was there, without sleeping
    /// ([`LoopOptions::busy_poll`](super::LoopOptions::busy_poll)).
    pub spinning_ns: AtomicU64,
}

/// Adds to a counter of which the caller is the only writer: no locked instruction is needed.
pub(super) fn bump(counter: &AtomicU64, by: u64) {
    counter.store(counter.load(Relaxed).wrapping_add(by), Relaxed);
}
