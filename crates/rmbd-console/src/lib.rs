//! Standard output and standard error for programs that must not panic or stall while they print. In a node that
//! serves, nothing that happens at the other end of these streams delays anything.
//!
//! - Standard error takes notes: log lines, errors, progress. A bounded queue hands them to a thread that writes
//!   them. Lines that find the queue full are dropped and counted, and lines that cannot be written are counted. The
//!   next line that can be written says how many are missing.
//! - Standard output takes results. Their caller learns whether they were written: [`result`], [`Results`], and
//!   [`announce`] for the one line of a node.
//!
//! A standard stream that was closed before the start is `/dev/null`: Rust's runtime opens it so.
//!
//! ```
//! let _console = rmbd_console::open(); // its end waits for the last notes
//! rmbd_console::note("counting the lines of three files");
//! rmbd_console::result("42")?;
//! assert_eq!(rmbd_console::missing().dropped, 0);
//! # Ok::<(), std::io::Error>(())
//! ```

mod panics;
mod queue;
#[cfg(test)]
mod tests;
mod usage;

use std::io::{self, BufWriter, IsTerminal, StdoutLock, Write};
use std::os::fd::AsFd;
use std::sync::OnceLock;
use std::sync::mpsc::{RecvTimeoutError, channel};
use std::time::Duration;

use rustix::event::{PollFd, PollFlags, Timespec, poll};
use rustix::io::Errno;

use self::panics::report_panics;
pub use self::queue::Missing;
use self::queue::Queue;
pub use self::usage::{FAILURE, READER_GONE, WRONG_USAGE, unwritten, usage};

/// The longest time that the end of a program waits for standard error to take the last notes.
pub const LAST_WORDS: Duration = Duration::from_secs(1);

/// A writer of notes. It takes everything, never fails and never waits. The bytes of one call to `write` stay
/// together.
#[derive(Debug, Clone, Copy, Default)]
pub struct Notes;

impl Write for Notes {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        queue().push(bytes.to_vec());
        Ok(bytes.len())
    }

    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}

/// Writes a line to standard error, through the queue.
pub fn note(line: &str) {
    queue().push(format!("{line}\n").into_bytes());
}

/// Waits, for `limit` at most, until standard error has taken (or refused) all notes that this thread wrote before.
/// Returns whether it has.
pub fn flush(limit: Duration) -> bool {
    queue().flush(limit)
}

/// Number of notes since this process began that nobody will read.
pub fn missing() -> Missing {
    queue().missing()
}

/// Whether standard output is a terminal, so that results are shown and not kept.
pub fn shows_results() -> bool {
    io::stdout().is_terminal()
}

/// Whether standard error is a terminal, so that a person may be watching.
pub fn is_watched() -> bool {
    io::stderr().is_terminal()
}

/// A guard that `main` keeps until its end. When it is dropped, it waits for the last notes, for [`LAST_WORDS`] at
/// most, whatever way `main` ends.
#[derive(Debug)]
pub struct Console(());

/// Opens the console, as the first call in `main`. From now on panics are reported as notes.
#[must_use]
pub fn open() -> Console {
    report_panics();
    Console(())
}

impl Drop for Console {
    fn drop(&mut self) {
        flush(LAST_WORDS);
    }
}

fn queue() -> &'static Queue {
    static QUEUE: OnceLock<Queue> = OnceLock::new();
    QUEUE.get_or_init(|| Queue::start(|bytes| write_whole(io::stderr(), bytes)))
}

/// Standard output, for results of any length. An error may only show when it is flushed, so it has to be flushed.
pub type Results = BufWriter<StdoutLock<'static>>;

/// Opens [`Results`]. A program has at most one at a time.
pub fn results() -> Results {
    BufWriter::new(io::stdout().lock())
}

/// Prints a text and a line end on standard output.
///
/// # Errors
/// The system's error; a part may have been printed.
pub fn result(text: &str) -> io::Result<()> {
    let mut results = results();
    writeln!(results, "{text}")?;
    results.flush()
}

/// Why a line did not reach standard output.
#[derive(Debug, thiserror::Error)]
pub enum Unsaid {
    /// Standard output refused the line.
    #[error("standard output does not take it: {0}")]
    Refused(#[from] io::Error),
    /// The line may still be written when somebody reads.
    #[error("it waits for room in standard output, a pipe that nobody reads")]
    Waits,
}

/// Prints a line on standard output. If nobody reads it, this waits for `patience` at most.
///
/// # Errors
/// [`Unsaid`] if the line was not written in time.
pub fn announce(line: &str, patience: Duration) -> Result<(), Unsaid> {
    let line = format!("{line}\n").into_bytes();
    let (send, written) = channel();
    let write = {
        let line = line.clone();
        // The lock of standard output is not taken, since the end of the process would wait for it.
        move || drop(send.send(write_whole(io::stdout(), &line)))
    };
    match (std::thread::Builder::new().name("rmbd-ready".to_owned())).spawn(write) {
        Ok(_) => match written.recv_timeout(patience) {
            Ok(written) => Ok(written?),
            Err(RecvTimeoutError::Timeout) => Err(Unsaid::Waits),
            Err(RecvTimeoutError::Disconnected) => Err(io::Error::other("a panic").into()),
        },
        Err(_) if is_writable(io::stdout()) => Ok(write_whole(io::stdout(), &line)?),
        Err(_) => Err(Unsaid::Waits),
    }
}

/// Writes all of it, however long that takes.
fn write_whole(stream: impl AsFd, mut bytes: &[u8]) -> io::Result<()> {
    while !bytes.is_empty() {
        match rustix::io::write(&stream, bytes) {
            Ok(0) => return Err(io::ErrorKind::WriteZero.into()),
            Ok(written) => bytes = &bytes[written..],
            Err(Errno::INTR) => {}
            // Another process that shares the stream has made it non-blocking.
            Err(Errno::AGAIN) => drop(poll(&mut [PollFd::new(&stream, PollFlags::OUT)], None)),
            Err(error) => return Err(error.into()),
        }
    }
    Ok(())
}

/// Whether a short line can be written without waiting.
fn is_writable(stream: impl AsFd) -> bool {
    let mut fds = [PollFd::new(&stream, PollFlags::OUT)];
    poll(&mut fds, Some(&Timespec::default())).is_ok_and(|ready| ready > 0)
}
