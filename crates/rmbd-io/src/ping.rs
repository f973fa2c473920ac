//! A question to an event loop whether it still comes round, which it answers itself.

use std::io;
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering::Relaxed};

use rustix::event::EventfdFlags;

/// Questions to one event loop, and its answers. Clones share them. An idle loop is woken by a question; a busy one
/// answers between two batches of datagrams. A loop that hangs, in its handler or in the kernel, answers none.
#[derive(Debug, Clone)]
pub struct Ping(Arc<Inner>);

// Relaxed: each number stands for itself, and nothing else is published through it.
#[derive(Debug)]
struct Inner {
    /// Number of questions.
    asked: AtomicU64,
    /// Number of questions that were answered. The loop is its only writer.
    answered: AtomicU64,
    /// Counts the questions that were not answered yet, and is readable while there are some.
    event: OwnedFd,
}

impl Ping {
    /// No question was asked yet.
    ///
    /// # Errors
    /// Fails if the process has no file descriptor left.
    pub fn new() -> io::Result<Self> {
        let event = rustix::event::eventfd(0, EventfdFlags::CLOEXEC | EventfdFlags::NONBLOCK)?;
        Ok(Self(Arc::new(Inner {
            asked: AtomicU64::new(0),
            answered: AtomicU64::new(0),
            event,
        })))
    }

    /// Asks. The loop answers all questions that are open at once.
    pub fn ask(&self) {
        // First: so nothing is ever readable but where a question is open.
        self.0.asked.fetch_add(1, Relaxed);
        // The write could only fail after 2^64 - 2 questions without an answer.
        let _ = rustix::io::write(&self.0.event, &1_u64.to_ne_bytes());
    }

    /// Whether all questions are answered.
    #[must_use]
    pub fn is_answered(&self) -> bool {
        self.0.answered.load(Relaxed) == self.0.asked.load(Relaxed)
    }

    /// Answers, if there is something to answer. Without a question this costs two loads.
    #[inline]
    pub(super) fn answer(&self) {
        if !self.is_answered() {
            self.answer_now();
        }
    }

    #[cold]
    fn answer_now(&self) {
        let mut questions = [0; 8];
        // It fails while a question is being asked: then it is answered in the next round.
        if let Ok(8) = rustix::io::read(&self.0.event, &mut questions) {
            let answered = self.0.answered.load(Relaxed);
            let now = answered.wrapping_add(u64::from_ne_bytes(questions));
            self.0.answered.store(now, Relaxed);
        }
    }
}

impl AsFd for Ping {
    fn as_fd(&self) -> BorrowedFd<'_> {
        self.0.event.as_fd()
    }
}
