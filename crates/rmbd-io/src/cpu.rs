//! The processors that this process may use, and pinning a thread to one of them.

use std::io;

use rustix::thread::CpuSet;

/// Numbers of the processors that this process may run on (`sched_getaffinity(2)`), ascending. The result is empty if
/// the kernel does not tell.
pub fn allowed() -> Vec<usize> {
    let Ok(set) = rustix::thread::sched_getaffinity(None) else {
        return Vec::new();
    };
    (0..CpuSet::MAX_CPU)
        .filter(|&cpu| set.is_set(cpu))
        .collect()
}

/// Pins the calling thread to one processor.
///
/// # Errors
/// Fails if the kernel refuses, for instance because the processor was taken away since.
pub fn pin_to(cpu: usize) -> io::Result<()> {
    let mut set = CpuSet::new();
    set.set(cpu);
    Ok(rustix::thread::sched_setaffinity(None, &set)?)
}
