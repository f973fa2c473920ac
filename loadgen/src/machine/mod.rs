//! This machine: what it is, and what its processes and threads use.

mod environment;
mod usage;

pub(crate) use self::environment::Environment;
pub(crate) use self::environment::quoted;
pub(crate) use self::usage::{CpuTime, memory_bytes, task_cpu_time, tasks};
