//! The description of this machine, and the CPU time and memory of its processes.

mod environment;
mod usage;

pub(crate) use self::environment::Environment;
pub(crate) use self::environment::quoted;
pub(crate) use self::usage::{CpuTime, memory_bytes, task_cpu_time, tasks};
