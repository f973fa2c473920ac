//! One io_uring: submissions and completions.

use std::io;

use io_uring::types::CancelBuilder;
use io_uring::{IoUring, Submitter, cqueue, opcode, squeue};

use super::super::LoopError;
use super::super::refused::RingRefused;
use super::operation::Operation;

/// Number of submissions that may wait: all replies, the receive, the stop signal, a question and two cancels fit. What
/// connections submit beyond that goes to the kernel at once.
const SUBMISSIONS: u32 = 256;
/// Number of completions that may wait. All buffers and all replies together complete fewer. Some thousand connections
/// may complete more at once: the kernel keeps those until there is room.
const COMPLETIONS: u32 = 4096;

/// A ring that knows how many operations the kernel has. When it is dropped it ends all of them, so that the kernel
/// writes to none of our memory any more.
pub(super) struct Ring {
    ring: IoUring,
    /// Number of operations that were queued and whose last completion has not been taken.
    in_flight: usize,
}

/// The kernel's answer to an operation. It is not `Copy`, since the buffer that it hands over is handed over once.
pub(super) struct Completion {
    operation: Operation,
    result: i32,
    flags: u32,
}

impl Ring {
    /// Sets up a ring. With `SINGLE_ISSUER | DEFER_TASKRUN` the kernel does its part of the work only when this thread
    /// asks for completions, never in the middle of the thread's own work.
    pub(super) fn new() -> Result<Self, RingRefused> {
        let ring = IoUring::builder()
            .setup_single_issuer()
            .setup_defer_taskrun()
            .setup_taskrun_flag()
            .setup_cqsize(COMPLETIONS)
            .build(SUBMISSIONS)
            .map_err(|error| RingRefused::new("io_uring_setup", error))?;
        Ok(Self { ring, in_flight: 0 })
    }

    /// The submitter, with which buffers are registered.
    pub(super) fn submitter(&self) -> Submitter<'_> {
        self.ring.submitter()
    }

    /// Queues an operation. [`submit`](Self::submit) tells the kernel about it.
    ///
    /// # Safety
    /// - What `entry` points to is valid for what the kernel does with it, and nobody else writes to it, until the
    ///   operation's last completion has been taken or the ring has been dropped.
    #[allow(unsafe_code)]
    pub(super) unsafe fn push(
        &mut self,
        entry: squeue::Entry,
        operation: Operation,
    ) -> Result<(), LoopError> {
        let entry = entry.user_data(operation.to_user_data());
        // SAFETY: as the caller promises.
        while unsafe { self.ring.submission().push(&entry) }.is_err() {
            self.submit(0)?;
        }
        self.in_flight += 1;
        Ok(())
    }

    /// Queues the end of all operations. Each of them completes, and so does this one.
    #[allow(unsafe_code)]
    pub(super) fn cancel_all(&mut self) -> Result<(), LoopError> {
        let cancel = opcode::AsyncCancel2::new(CancelBuilder::any()).build();
        // SAFETY: the entry points to nothing.
        unsafe { self.push(cancel, Operation::CancelAll) }
    }

    /// Queues the end of one operation, by which it completes.
    #[allow(unsafe_code)]
    pub(super) fn cancel(&mut self, of: Operation, by: Operation) -> Result<(), LoopError> {
        let cancel = opcode::AsyncCancel::new(of.to_user_data()).build();
        // SAFETY: the entry points to nothing.
        unsafe { self.push(cancel, by) }
    }

    /// Whether a completion is still to come.
    pub(super) fn is_in_use(&self) -> bool {
        self.in_flight > 0
    }

    /// Submits the queued operations, and waits for `want` completions.
    pub(super) fn submit(&mut self, want: usize) -> Result<(), LoopError> {
        transient(self.ring.submit_and_wait(want))
    }

    /// Whether a completion can be taken. This reads shared memory, and enters the kernel only if the kernel has left
    /// a note there that it has work for this thread.
    pub(super) fn has_completed(&mut self) -> Result<bool, LoopError> {
        if self.ring.submission().taskrun() {
            self.get_events()?;
        }
        Ok(!self.ring.completion().is_empty())
    }

    #[allow(unsafe_code)]
    fn get_events(&mut self) -> Result<(), LoopError> {
        const GETEVENTS: u32 = 1; // IORING_ENTER_GETEVENTS of linux/io_uring.h
        let submitter = self.ring.submitter();
        // SAFETY: nothing is submitted and no argument structure is passed.
        transient(unsafe { submitter.enter::<libc::sigset_t>(0, 0, GETEVENTS, None) })
    }

    /// Takes the oldest completion, if there is one.
    ///
    /// # Errors
    /// [`LoopError::UnknownOperation`] if the completion is of no operation of ours; it is gone then.
    pub(super) fn next_completion(&mut self) -> Result<Option<Completion>, LoopError> {
        let Some(entry) = self.ring.completion().next() else {
            return Ok(None);
        };
        let user_data = entry.user_data();
        let operation = Operation::from_user_data(user_data)
            .ok_or(LoopError::UnknownOperation { user_data })?;
        let completion = Completion {
            operation,
            result: entry.result(),
            flags: entry.flags(),
        };
        self.in_flight -= usize::from(completion.is_last());
        Ok(Some(completion))
    }

    fn end_all(&mut self) -> Result<(), LoopError> {
        if self.is_in_use() {
            self.cancel_all()?;
        }
        while self.is_in_use() {
            self.submit(1)?;
            while !matches!(self.next_completion(), Ok(None)) {}
        }
        Ok(())
    }
}

impl Drop for Ring {
    fn drop(&mut self) {
        if self.end_all().is_err() {
            // The kernel may still write to memory that is about to be freed, and nothing can prevent that. Nothing
            // may run after this.
            std::process::abort();
        }
    }
}

impl Completion {
    pub(super) fn operation(&self) -> Operation {
        self.operation
    }

    /// Whether the operation has ended, so that it has no more completions.
    pub(super) fn is_last(&self) -> bool {
        !cqueue::more(self.flags)
    }

    /// Number of bytes that were received or sent, or the error.
    pub(super) fn result(&self) -> io::Result<usize> {
        usize::try_from(self.result).map_err(|_| io::Error::from_raw_os_error(-self.result))
    }

    /// The buffer that the kernel chose and handed over, if it did.
    pub(super) fn buffer(&self) -> Option<u16> {
        cqueue::buffer_select(self.flags)
    }
}

/// Ignores errors that pass: a signal came, the kernel is short of memory for a moment, or it wants completions to be
/// taken first.
fn transient(result: io::Result<usize>) -> Result<(), LoopError> {
    match result {
        Err(error)
            if !matches!(
                error.raw_os_error(),
                Some(libc::EINTR | libc::EAGAIN | libc::EBUSY)
            ) =>
        {
            Err(LoopError::System {
                call: "io_uring_enter",
                source: error,
            })
        }
        _ => Ok(()),
    }
}
