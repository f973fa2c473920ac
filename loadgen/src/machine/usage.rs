//! CPU time and memory, from `/proc` (proc(5)).

use std::fs;
use std::path::{Path, PathBuf};
use std::time::Duration;

use rustix::time::{ClockId, clock_gettime};

/// CPU time that the calling thread has used so far.
fn thread_cpu_time() -> Duration {
    let time = clock_gettime(ClockId::ThreadCPUTime);
    Duration::new(
        u64::try_from(time.tv_sec).unwrap_or(0),
        u32::try_from(time.tv_nsec).unwrap_or(0),
    )
}

/// CPU time that the calling thread uses from some moment on.
pub(crate) struct CpuTime {
    before: Duration,
}

impl CpuTime {
    pub(crate) fn from_now() -> Self {
        Self {
            before: thread_cpu_time(),
        }
    }

    pub(crate) fn spent(&self) -> Duration {
        thread_cpu_time().saturating_sub(self.before)
    }
}

/// The directories of the threads of a process, whose directory is `/proc/PID`; `None` if it has ended or may not be
/// examined.
pub(crate) fn tasks(process: &Path) -> Option<Vec<PathBuf>> {
    let tasks = fs::read_dir(process.join("task")).ok()?.flatten();
    Some(tasks.map(|entry| entry.path()).collect())
}

/// CPU time that a thread of [`tasks`] has used so far, to the nanosecond (`schedstat`), or to the tick (`stat`) if
/// the kernel is built without that.
pub(crate) fn task_cpu_time(task: &Path) -> Option<Duration> {
    let schedstat = fs::read_to_string(task.join("schedstat")).ok();
    let nanoseconds = schedstat.and_then(|text| text.split_whitespace().next()?.parse().ok());
    if let Some(nanoseconds @ 1..) = nanoseconds {
        return Some(Duration::from_nanos(nanoseconds));
    }
    let stat = fs::read_to_string(task.join("stat")).ok()?;
    // The name, in brackets, may contain anything; user and system time are fields 14 and 15.
    let mut fields = stat.rsplit_once(')')?.1.split_whitespace().skip(11);
    let mut ticks = || fields.next()?.parse::<u64>().ok();
    let ticks = ticks()? + ticks()?;
    let a_second = rustix::param::clock_ticks_per_second();
    Some(Duration::from_secs_f64(ticks as f64 / a_second as f64))
}

/// A figure of a process's memory by its name in `/proc/PID/status`, such as `VmRSS`; `process` is `/proc/PID`.
pub(crate) fn memory_bytes(process: &Path, name: &str) -> Option<u64> {
    let status = fs::read_to_string(process.join("status")).ok()?;
    let mut values = status.lines().filter_map(|line| line.strip_prefix(name));
    let value = values.find_map(|rest| rest.strip_prefix(':'))?;
    let kib: u64 = value.trim().strip_suffix("kB")?.trim().parse().ok()?;
    Some(kib * 1024)
}
