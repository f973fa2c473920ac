//! A bounded queue of lines, and the thread that writes them.
//!
//! The crate `tracing-appender` has such a queue. It is not used here for two reasons: its end prints to standard
//! output with `println!`, which may wait or panic there, and it neither reports what it dropped nor counts what
//! could not be written.

use std::io;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, AtomicUsize, Ordering};
use std::sync::mpsc::{Receiver, SyncSender, sync_channel};
use std::thread;
use std::time::{Duration, Instant};

/// Number of lines that may wait: minutes of a busy log, and a burst at the start.
const LINES_MAX: usize = 4_096;
/// Number of bytes that may wait, whatever the lines' lengths.
const BYTES_MAX: usize = 1 << 20;
/// Time between two checks while an end waits for the last line.
const LOOK_AGAIN: Duration = Duration::from_millis(1);

/// Lines that were not written.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Missing {
    /// Lines that were dropped because the queue was full.
    pub dropped: u64,
    /// Lines that the system refused to write.
    pub refused: u64,
}

impl Missing {
    fn sum(self) -> u64 {
        self.dropped.saturating_add(self.refused)
    }
}

pub(super) struct Queue {
    lines: Option<SyncSender<Vec<u8>>>,
    counts: Arc<Counts>,
}

/// Counters of lines. All are relaxed, except for the two that tell a flush what was written.
#[derive(Debug, Default)]
struct Counts {
    bytes: AtomicUsize,
    accepted: AtomicU64,
    handled: AtomicU64,
    dropped: AtomicU64,
    refused: AtomicU64,
}

impl Queue {
    /// Starts a queue and its thread. `write` writes one or several lines and may take as long as it likes.
    pub(super) fn start(write: impl FnMut(&[u8]) -> io::Result<()> + Send + 'static) -> Self {
        let counts = Arc::new(Counts::default());
        let (lines, waiting) = sync_channel(LINES_MAX);
        let writer = Writer {
            write,
            counts: Arc::clone(&counts),
            told: 0,
        };
        let thread = thread::Builder::new().name("rmbd-log".to_owned());
        let is_running = thread.spawn(move || writer.run(&waiting)).is_ok();
        Self {
            lines: is_running.then_some(lines),
            counts,
        }
    }

    /// Takes a line, or drops and counts it. It never waits.
    pub(super) fn push(&self, line: Vec<u8>) {
        let Some(lines) = &self.lines else {
            return self.write_without_thread(&line);
        };
        let bytes = line.len();
        let is_room = self.counts.bytes.fetch_add(bytes, Ordering::Relaxed) + bytes <= BYTES_MAX;
        // The line is counted first: the writer may have handled it before this thread goes on.
        self.counts.accepted.fetch_add(1, Ordering::Relaxed);
        if !is_room || lines.try_send(line).is_err() {
            self.counts.accepted.fetch_sub(1, Ordering::Relaxed);
            self.counts.bytes.fetch_sub(bytes, Ordering::Relaxed);
            self.counts.dropped.fetch_add(1, Ordering::Relaxed);
        }
    }

    /// Writes a line because the system gave no thread; the reason is probably in this line. A short line that finds
    /// room does not wait.
    fn write_without_thread(&self, line: &[u8]) {
        if !super::is_writable(io::stderr()) {
            self.counts.dropped.fetch_add(1, Ordering::Relaxed);
        } else if super::write_whole(io::stderr(), line).is_err() {
            self.counts.refused.fetch_add(1, Ordering::Relaxed);
        }
    }

    /// Waits, for `limit` at most, until all lines that this thread has pushed are written or refused. Returns whether
    /// they are.
    pub(super) fn flush(&self, limit: Duration) -> bool {
        let start = Instant::now();
        let until = self.counts.accepted.load(Ordering::Relaxed);
        while self.counts.has_before(until) {
            if start.elapsed() >= limit {
                return false;
            }
            thread::sleep(LOOK_AGAIN);
        }
        true
    }

    pub(super) fn missing(&self) -> Missing {
        self.counts.missing()
    }
}

impl Counts {
    /// Whether some of the first `until` lines are still under way. A line that was accepted may be dropped later.
    fn has_before(&self, until: u64) -> bool {
        let until = until.min(self.accepted.load(Ordering::Relaxed));
        // Acquire: a thread that sees the count also sees the effects of handling these lines.
        self.handled.load(Ordering::Acquire) < until
    }

    fn missing(&self) -> Missing {
        Missing {
            dropped: self.dropped.load(Ordering::Relaxed),
            refused: self.refused.load(Ordering::Relaxed),
        }
    }
}

struct Writer<W> {
    write: W,
    counts: Arc<Counts>,
    /// Number of missing lines that were reported.
    told: u64,
}

impl<W: FnMut(&[u8]) -> io::Result<()>> Writer<W> {
    fn run(mut self, lines: &Receiver<Vec<u8>>) {
        for line in lines {
            self.counts.bytes.fetch_sub(line.len(), Ordering::Relaxed);
            self.write(line);
            self.counts.handled.fetch_add(1, Ordering::Release);
        }
    }

    fn write(&mut self, line: Vec<u8>) {
        let missing = self.counts.missing();
        let text = match missing.sum() > self.told {
            true => [notice(missing).into_bytes(), line].concat(),
            false => line,
        };
        match (self.write)(&text) {
            Ok(()) => self.told = missing.sum(),
            Err(_) => drop(self.counts.refused.fetch_add(1, Ordering::Relaxed)),
        }
    }
}

fn notice(missing: Missing) -> String {
    let Missing { dropped, refused } = missing;
    format!(
        "WARN {} lines are missing here or before: {dropped} were dropped because standard error took lines too \
         slowly, {refused} could not be written to it\n",
        missing.sum()
    )
}
