//! All that the programs print. Nothing here panics, and nothing that somebody does with the other end of
//! standard error, or with that of standard output once a node serves, holds anything up.
//!
//! - Standard error takes notes: log lines, errors, progress. They go through a bounded queue to a thread of
//!   their own. What finds the queue full is dropped and counted, what cannot be written is counted, and the
//!   next line that can be written says how many are missing.
//! - Standard output takes results. Whoever prints them is told whether that worked: [`result`],
//!   [`Results`], and for a node's one line [`announce`].
//!
//! A standard stream that was closed before the start is `/dev/null`: Rust's runtime opens it so.

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

pub use self::panics::report_panics;
pub use self::queue::Missing;
use self::queue::Queue;
pub use self::usage::{FAILURE, READER_GONE, WRONG_USAGE, unwritten, usage};

/// How long the end of a program waits for standard error to take what was said last.
pub const LAST_WORDS: Duration = Duration::from_secs(1);

/// Lines for standard error, through the queue. Takes everything, never fails, never waits. What one call to
/// `write` brings stays together.
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

/// Says a line on standard error.
pub fn note(line: &str) {
    queue().push(format!("{line}\n").into_bytes());
}

/// Waits, for `limit` at most, until standard error has taken (or refused) what this thread has said before;
/// whether it has.
pub fn flush(limit: Duration) -> bool {
    queue().flush(limit)
}

/// Notes that nobody will read, since this process began.
pub fn missing() -> Missing {
    queue().missing()
}

/// Whether somebody looks at standard error while it is written.
pub fn is_watched() -> bool {
    io::stderr().is_terminal()
}

/// Kept by `main` until its end: what was said last is waited for, for [`LAST_WORDS`] at most, whatever the
/// way out is.
#[derive(Debug)]
pub struct Console(());

/// To be called first in `main`: panics are reported as notes from now on.
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

/// Standard output, for results of any length. What it refuses shows when it is flushed at the latest, so it
/// has to be.
pub type Results = BufWriter<StdoutLock<'static>>;

/// [`Results`], of which a program has one at a time.
pub fn results() -> Results {
    BufWriter::new(io::stdout().lock())
}

/// Prints a result of one piece, and a line's end.
///
/// # Errors
/// What the system says; a part may have been printed.
pub fn result(text: &str) -> io::Result<()> {
    let mut results = results();
    writeln!(results, "{text}")?;
    results.flush()
}

/// Why a line did not reach standard output.
#[derive(Debug, thiserror::Error)]
pub enum Unsaid {
    /// It is refused.
    #[error("standard output does not take it: {0}")]
    Refused(#[from] io::Error),
    /// It may still be written when somebody reads.
    #[error("it waits for room in standard output, a pipe that nobody reads")]
    Waits,
}

/// Prints a line on standard output without waiting for whoever reads it, but for `patience`.
///
/// # Errors
/// [`Unsaid`]
pub fn announce(line: &str, patience: Duration) -> Result<(), Unsaid> {
    let line = format!("{line}\n").into_bytes();
    let (send, written) = channel();
    let write = {
        let line = line.clone();
        // The lock of standard output is not taken: it would be waited for at the end of the process.
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
            // Somebody who shares it has made it non-blocking.
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
