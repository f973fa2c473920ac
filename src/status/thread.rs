//! One data thread, as it is seen from outside.

use std::sync::atomic::AtomicU64;
use std::sync::atomic::Ordering::Relaxed;
use std::sync::{Arc, OnceLock};
use std::time::Duration;

use super::ThreadStatus;
use super::counters::{PublishedTally, Tally};
use rmbd_io::{DataSocket, IoCounters};
use rmbd_proto::compact::Problem;

/// What a data thread publishes, and what the kernel tells of its socket. The thread publishes; anybody reads.
pub(crate) struct ObservedThread {
    socket: Arc<DataSocket>,
    io: Arc<IoCounters>,
    /// Known when the thread has started: the CPU that it is pinned to, if it could be.
    cpu: OnceLock<Option<usize>>,
    tally: PublishedTally,
    drops: WideCounter,
}

impl ObservedThread {
    pub(crate) fn new(socket: DataSocket) -> Self {
        Self {
            socket: Arc::new(socket),
            io: Arc::new(IoCounters::default()),
            cpu: OnceLock::new(),
            tally: PublishedTally::default(),
            drops: WideCounter::default(),
        }
    }

    pub(crate) fn socket(&self) -> &Arc<DataSocket> {
        &self.socket
    }

    pub(crate) fn io(&self) -> &Arc<IoCounters> {
        &self.io
    }

    /// Once, by the thread.
    pub(crate) fn set_cpu(&self, cpu: Option<usize>) {
        let _ = self.cpu.set(cpu);
    }

    /// By the thread, whenever it pauses.
    pub(crate) fn publish(&self, tally: &Tally) {
        self.tally.publish(tally);
    }

    /// What it has counted, as it has said so far.
    pub(crate) fn tally(&self) -> Tally {
        self.tally.read()
    }

    /// How often it refused something for this reason, as it has said so far.
    pub(crate) fn refused_for(&self, problem: Problem) -> u64 {
        self.tally.of_problem(problem)
    }

    pub(crate) fn status(&self) -> ThreadStatus {
        ThreadStatus {
            cpu: self.cpu.get().copied().flatten(),
            datagrams: self.tally.read().received + self.io.truncated.load(Relaxed),
            receive_buffer_bytes: self.socket.receive_buffer_bytes() as u64,
            dropped_by_kernel: self.drops(),
            spinning_s: Duration::from_nanos(self.io.spinning_ns.load(Relaxed)).as_secs_f64(),
        }
    }

    /// What came with the data may be late (nothing tells of drops after the last datagram), so the
    /// socket is asked, too.
    pub(crate) fn drops(&self) -> u64 {
        self.drops.observe(self.io.drops_seen.load(Relaxed) as u32);
        if let Ok(now) = self.socket.kernel_drops() {
            self.drops.observe(now);
        }
        self.drops.total()
    }
}

/// A counter of 32 bits that wraps, made one of 64 bits by looking at it often enough.
#[derive(Debug, Default)]
struct WideCounter(AtomicU64);

impl WideCounter {
    /// Takes a reading; one that is older than the latest changes nothing.
    fn observe(&self, reading: u32) {
        // Relaxed: the counter stands for itself.
        let _ = self.0.fetch_update(Relaxed, Relaxed, |total| {
            let ahead = reading.wrapping_sub(total as u32);
            (ahead.cast_signed() > 0).then(|| total + u64::from(ahead))
        });
    }

    fn total(&self) -> u64 {
        self.0.load(Relaxed)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_wide_counter_follows_a_narrow_one_round_its_end() {
        let wide = WideCounter::default();
        for (reading, total) in [
            (0, 0),
            (7, 7),
            (5, 7),
            (0x7000_0000, 0x7000_0000),
            (0xe000_0000, 0xe000_0000),
            (3, 0x1_0000_0003),
            (0xffff_ffff, 0x1_0000_0003),
            (4, 0x1_0000_0004),
        ] {
            wide.observe(reading);
            assert_eq!(wide.total(), total, "{reading:#x}");
        }
    }
}
