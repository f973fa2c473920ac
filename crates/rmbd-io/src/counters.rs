//! Counters of an event loop.

use std::sync::atomic::AtomicU64;
use std::sync::atomic::Ordering::Relaxed;

/// The counters of one loop. Only its thread writes them, and any thread may read them. All are written with relaxed
/// ordering: each stands for itself, and nothing else is published through it.
// Aligned to two cache lines, which the processor fetches at once, so that no other thread's data lies beside them.
#[derive(Debug, Default)]
#[repr(align(128))]
pub struct IoCounters {
    /// Reply datagrams that the kernel took.
    pub replies_sent: AtomicU64,
    /// Reply datagrams that the kernel did not take.
    pub replies_dropped: AtomicU64,
    /// Datagrams (or trains) that were not handed over, because they were larger than a receive buffer or came from no
    /// IP address.
    pub truncated: AtomicU64,
    /// The socket's count of drops, modulo 2^32, as it came with the latest data.
    pub drops_seen: AtomicU64,
    /// Nanoseconds that the thread spent looking for datagrams while nothing was there, without sleeping
    /// ([`LoopOptions::busy_poll`](super::LoopOptions::busy_poll)).
    pub spinning_ns: AtomicU64,
}

/// Adds to a counter. The caller must be its only writer, so no locked instruction is needed.
pub(super) fn bump(counter: &AtomicU64, by: u64) {
    counter.store(counter.load(Relaxed).wrapping_add(by), Relaxed);
}
