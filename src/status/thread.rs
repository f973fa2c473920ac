//! The view of one data thread from outside.

use std::sync::atomic::AtomicU64;
use std::sync::atomic::Ordering::Relaxed;
use std::sync::{Arc, OnceLock};
use std::time::Duration;

use super::ThreadStatus;
use super::counters::{PublishedTally, Tally};
use super::latency::{ThreadTimes, thread_times};
use rmbd_io::{DataSocket, IoCounters};
use rmbd_proto::compact::Problem;

/// The counters that a data thread publishes, and what the kernel knows of its socket. Any thread may read them.
pub(crate) struct ObservedThread {
    socket: Arc<DataSocket>,
    io: Arc<IoCounters>,
    /// The CPU that the thread is pinned to, if it could be. It is set when the thread has started.
    cpu: OnceLock<Option<usize>>,
    tally: PublishedTally,
    /// What its clients of Redis's protocol did.
    resp: PublishedTally,
    times: ThreadTimes,
    drops: WideCounter,
}

impl ObservedThread {
    pub(crate) fn new(socket: DataSocket) -> Self {
        Self {
            socket: Arc::new(socket),
            io: Arc::new(IoCounters::default()),
            cpu: OnceLock::new(),
            tally: PublishedTally::default(),
            resp: PublishedTally::default(),
            times: thread_times(),
            drops: WideCounter::default(),
        }
    }

    pub(crate) fn socket(&self) -> &Arc<DataSocket> {
        &self.socket
    }

    pub(crate) fn io(&self) -> &Arc<IoCounters> {
        &self.io
    }

    /// How long its operations take; only the thread writes there.
    pub(crate) fn times(&self) -> &ThreadTimes {
        &self.times
    }

    /// Sets the CPU; the thread calls this once.
    pub(crate) fn set_cpu(&self, cpu: Option<usize>) {
        let _ = self.cpu.set(cpu);
    }

    /// Publishes counters; the thread calls this whenever it pauses.
    pub(crate) fn publish(&self, tally: &Tally) {
        self.tally.publish(tally);
    }

    /// Publishes the counters of clients of Redis's protocol, which stand beside the others.
    pub(crate) fn publish_resp(&self, tally: &Tally) {
        self.resp.publish(tally);
    }

    /// The counters that the thread has published.
    pub(crate) fn tally(&self) -> Tally {
        let mut tally = self.tally.read();
        tally += &self.resp.read();
        tally
    }

    /// Number of times that the thread refused something for this reason, as far as it has published.
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

    /// Number of datagrams that the kernel dropped. The count that comes with data may be late (nothing comes after
    /// the last datagram), so the socket is asked, too.
    pub(crate) fn drops(&self) -> u64 {
        self.drops.observe(self.io.drops_seen.load(Relaxed) as u32);
        if let Ok(now) = self.socket.kernel_drops() {
            self.drops.observe(now);
        }
        self.drops.total()
    }
}

/// A 64-bit counter that follows a wrapping one of 32 bits, if it is read often enough.
#[derive(Debug, Default)]
struct WideCounter(AtomicU64);

impl WideCounter {
    /// Takes a reading. A reading older than the latest one changes nothing.
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
