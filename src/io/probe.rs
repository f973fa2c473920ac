//! Whether this process may use io_uring the way the data threads want to.

use std::io;

use super::uring;

/// Why the kernel does not give us a ring. Nothing was changed.
#[derive(Debug, thiserror::Error)]
#[error("no io_uring: {step} failed ({source}); likely cause: {cause}; cure: {cure}")]
pub struct RingRefused {
    step: &'static str,
    source: io::Error,
    cause: &'static str,
    cure: &'static str,
}

/// Sets up a ring as a data thread would, and gives it back.
///
/// On a thread of its own: a ring that goes leaves work for the thread that made it, and interrupts
/// (`EINTR`) whatever system call that thread is in by then.
///
/// # Errors
/// [`RingRefused`] names what was tried, the likely cause and the cure.
pub fn probe_uring() -> Result<(), RingRefused> {
    std::thread::scope(|scope| {
        scope
            .spawn(uring::probe)
            .join()
            .unwrap_or_else(|_| Err(RingRefused::new("probing", io::Error::other("a panic"))))
    })
}

impl RingRefused {
    pub(super) fn new(step: &'static str, source: io::Error) -> Self {
        let (cause, cure) = explain(source.raw_os_error());
        Self {
            step,
            source,
            cause,
            cure,
        }
    }
}

fn explain(errno: Option<i32>) -> (&'static str, &'static str) {
    match errno {
        Some(libc::EPERM | libc::EACCES) => (
            "a container's seccomp profile or the sysctl kernel.io_uring_disabled forbids it",
            "allow io_uring_setup, io_uring_enter and io_uring_register in the seccomp profile, set \
             kernel.io_uring_disabled=0, or choose --io mmsg",
        ),
        Some(libc::ENOSYS) => (
            "the kernel was built without it, or a seccomp profile hides it",
            "use a kernel with CONFIG_IO_URING, or choose --io mmsg",
        ),
        Some(libc::EINVAL) => (
            "the kernel is older than Linux 6.1",
            "use Linux 6.1 or later, or choose --io mmsg",
        ),
        Some(libc::ENOMEM) => (
            "the limit of locked memory is too small",
            "raise RLIMIT_MEMLOCK (ulimit -l, LimitMEMLOCK=), start fewer threads, or choose --io mmsg",
        ),
        Some(libc::EMFILE | libc::ENFILE) => (
            "the limit of open files is reached",
            "raise RLIMIT_NOFILE (ulimit -n, LimitNOFILE=)",
        ),
        _ => ("unknown", "choose --io mmsg"),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_refusal_names_a_cause_and_a_cure() {
        for (errno, word) in [
            (libc::EPERM, "seccomp"),
            (libc::ENOSYS, "CONFIG_IO_URING"),
            (libc::EINVAL, "6.1"),
            (libc::ENOMEM, "RLIMIT_MEMLOCK"),
            (libc::EMFILE, "RLIMIT_NOFILE"),
            (libc::EIO, "--io mmsg"),
        ] {
            let text = RingRefused::new("step", io::Error::from_raw_os_error(errno)).to_string();
            assert!(text.contains(word), "{text}");
        }
    }
}
