//! A signal that ends event loops, whatever they are waiting for.

use std::io;
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};

use rustix::event::EventfdFlags;

/// The stop signal, which event loops share with the threads that may end them. Once given, it stays given.
#[derive(Debug, Clone)]
pub struct Stop(Arc<Inner>);

#[derive(Debug)]
struct Inner {
    given: AtomicBool,
    /// Readable from the moment the signal is given; nobody reads it, so it wakes every loop.
    event: OwnedFd,
}

impl Stop {
    /// A signal that is not given yet.
    ///
    /// # Errors
    /// Fails if the process has no file descriptor left.
    pub fn new() -> io::Result<Self> {
        let event = rustix::event::eventfd(0, EventfdFlags::CLOEXEC | EventfdFlags::NONBLOCK)?;
        Ok(Self(Arc::new(Inner {
            given: AtomicBool::new(false),
            event,
        })))
    }

    /// Ends all loops that share this signal. Giving it again is harmless.
    pub fn give(&self) {
        // Release/Acquire: a thread that sees the flag sees what was done before it was set.
        self.0.given.store(true, Ordering::Release);
        // The write can only fail if the counter is full. Then the descriptor is readable, which is all that is
        // wanted.
        let _ = rustix::io::write(&self.0.event, &1u64.to_ne_bytes());
    }

    /// Whether the signal was given.
    pub fn is_given(&self) -> bool {
        self.0.given.load(Ordering::Acquire)
    }
}

impl AsFd for Stop {
    fn as_fd(&self) -> BorrowedFd<'_> {
        self.0.event.as_fd()
    }
}
