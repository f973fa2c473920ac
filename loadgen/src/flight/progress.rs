//! The progress of a phase, for displays while it runs.

use std::sync::atomic::{AtomicU64, Ordering::Relaxed};

use crossbeam_utils::CachePadded;

use crate::record::Sent;

/// Counters of one sending thread and its receiver. Each is written by one thread only and stands for itself, so
/// relaxed ordering is enough.
#[derive(Debug, Default)]
pub(crate) struct Progress {
    messages: CachePadded<AtomicU64>,
    datagrams: AtomicU64,
    answered: CachePadded<AtomicU64>,
    timed_out: AtomicU64,
}

/// Sums over threads.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Totals {
    /// Number of messages sent.
    pub messages: u64,
    /// Number of datagrams sent.
    pub datagrams: u64,
    /// Number of requests answered in time.
    pub answered: u64,
    /// Number of requests given up.
    pub timed_out: u64,
}

impl Progress {
    pub(crate) fn sent(&self, so_far: &Sent) {
        self.messages.store(so_far.messages(), Relaxed);
        self.datagrams.store(so_far.datagrams, Relaxed);
    }

    pub(crate) fn ended(&self, answered: u64, timed_out: u64) {
        self.answered.store(answered, Relaxed);
        self.timed_out.store(timed_out, Relaxed);
    }

    /// Sums over threads.
    pub(crate) fn totals<'a>(threads: impl Iterator<Item = &'a Self>) -> Totals {
        let mut totals = Totals::default();
        for thread in threads {
            totals.messages += thread.messages.load(Relaxed);
            totals.datagrams += thread.datagrams.load(Relaxed);
            totals.answered += thread.answered.load(Relaxed);
            totals.timed_out += thread.timed_out.load(Relaxed);
        }
        totals
    }
}
