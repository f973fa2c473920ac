//! CPU time, which leaves out other processes on the machine.

use std::path::Path;
use std::time::Duration;

use rustix::time::{ClockId, clock_gettime};

/// CPU time that the calling thread has used.
pub(crate) fn of_this_thread() -> Duration {
    let time = clock_gettime(ClockId::ThreadCPUTime);
    Duration::new(time.tv_sec as u64, time.tv_nsec as u32)
}

/// Nanoseconds that a process's threads of this name have run (`schedstat`, Documentation/scheduler/sched-stats.rst).
///
/// # Panics
///
/// Panics if there is no such thread.
pub(crate) fn of_threads(process: u32, name: &str) -> f64 {
    let tasks = std::fs::read_dir(format!("/proc/{process}/task")).expect("the process is there");
    let run_ns: Vec<f64> = tasks
        .filter_map(|task| run_ns(&task.ok()?.path(), name))
        .collect();
    assert!(
        !run_ns.is_empty(),
        "no thread {name} in process {process}, or /proc does not have its time"
    );
    run_ns.iter().sum()
}

/// Nanoseconds of a thread; `None` if its name is another one, or it is just ending.
fn run_ns(task: &Path, name: &str) -> Option<f64> {
    let read = |file| std::fs::read_to_string(task.join(file)).ok();
    if read("comm")?.trim() != name {
        return None;
    }
    read("schedstat")?.split(' ').next()?.parse().ok()
}
