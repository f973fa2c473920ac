//! The error for an io_uring that the system refuses, with the cause and the cure.

use std::io;

use super::limits::{LimitReached, Resource};

/// Why the system refuses a ring. Nothing was changed.
#[derive(Debug, thiserror::Error)]
#[error("no io_uring: {step} failed ({source}); likely cause: {cause}; cure: {cure}")]
pub struct RingRefused {
    step: &'static str,
    source: io::Error,
    cause: String,
    cure: &'static str,
}

/// Bytes of locked memory for a data thread's ring and its table of buffers. On Linux 6.18 they are 84 KiB, with 256
/// submissions and 4 096 completions. Before 5.12, and with `CAP_IPC_LOCK`, this memory is counted otherwise or not
/// at all.
const LOCKED_BYTES_A_DATA_RING: u64 = 96 << 10;
/// Bytes of locked memory for the control thread's ring, which has fewer completions.
const LOCKED_BYTES_OF_CONTROL: u64 = 48 << 10;

impl RingRefused {
    pub(super) fn new(step: &'static str, source: io::Error) -> Self {
        let (cause, cure) = explain(source.raw_os_error());
        Self {
            step,
            source,
            cause: cause.to_owned(),
            cure,
        }
    }

    /// The error for a ring that another part of the program tried to set up.
    #[must_use]
    pub fn in_setup(source: io::Error) -> Self {
        Self::new("io_uring_setup", source)
    }

    /// The error if no ring was tried, because this limit leaves no room for one.
    #[must_use]
    pub fn by_limit(limit: &LimitReached) -> Self {
        let errno = match limit.resource {
            Resource::Files => libc::EMFILE,
            _ => libc::ENOMEM,
        };
        Self {
            step: "making room for the rings",
            source: io::Error::from_raw_os_error(errno),
            cause: limit.shortage(),
            cure: match limit.resource {
                Resource::Files => explain(Some(libc::EMFILE)).1,
                _ => {
                    "raise RLIMIT_AS and RLIMIT_DATA (ulimit -v, ulimit -d), start fewer threads, or choose --io mmsg"
                }
            },
        }
    }

    /// Adds numbers to the error, if locked memory was short for the rings of this many data `threads`.
    #[must_use]
    pub fn of_data_threads(mut self, threads: u64) -> Self {
        if self.source.raw_os_error() == Some(libc::ENOMEM)
            && let Some(now) = Resource::LockedMemory.limit()
        {
            let needed = LOCKED_BYTES_OF_CONTROL + threads * LOCKED_BYTES_A_DATA_RING;
            self.cause = LimitReached {
                resource: Resource::LockedMemory,
                now,
                // Other processes of the user have a share of the limit.
                needed: needed.max(now.saturating_add(LOCKED_BYTES_A_DATA_RING)),
            }
            .shortage();
        }
        self
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
            "raise RLIMIT_NOFILE (ulimit -n, LimitNOFILE=), start fewer threads, or choose --io mmsg",
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
