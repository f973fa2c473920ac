//! Servers that this command starts, and ends by their ids; and what any process of this machine
//! has used.

use std::ffi::OsString;
use std::fs::{self, File};
use std::io;
use std::net::{Ipv4Addr, SocketAddr, TcpListener};
use std::os::unix::process::CommandExt;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::sync::atomic::{AtomicU64, Ordering};
use std::thread;
use std::time::{Duration, Instant};

use rmbd_io::cpu;
use rustix::process::{Pid, Signal, kill_process};
use thiserror::Error;

use crate::machine::{memory_bytes, quoted, task_cpu_time, tasks};

/// A server that has not answered by then does not work.
const START_PATIENCE: Duration = Duration::from_secs(20);
/// Asked to end, it has this long before it is killed.
const END_PATIENCE: Duration = Duration::from_secs(5);
const LOOK_AGAIN: Duration = Duration::from_millis(10);

/// A server that could not be started. Nothing is left of it.
#[derive(Debug, Error)]
pub(super) enum StartError {
    /// No such program.
    #[error(
        "{program} is not installed; on Debian: apt-get install {package}. Or start one yourself \
         and leave out --start"
    )]
    NotInstalled {
        /// As it was called.
        program: String,
        /// Where it comes from.
        package: &'static str,
    },
    /// It ended at once, or never answered.
    #[error("{command} {what}; it said: {said}")]
    Failed {
        /// The command line.
        command: String,
        /// What happened.
        what: String,
        /// The end of its output.
        said: String,
    },
    /// The system refused something.
    #[error("starting {program}: {source}")]
    System {
        /// As it was called.
        program: String,
        /// What the system said.
        source: io::Error,
    },
}

/// A server that was started here, with a directory of its own; both end when it is dropped.
#[derive(Debug)]
pub(super) struct Server {
    child: Child,
    command: String,
    directory: PathBuf,
}

impl Server {
    /// Starts a program, on one CPU with all of its threads, in a directory of its own, and away from
    /// the terminal's Ctrl-C: it is this command that ends it.
    pub(super) fn start(
        program: &Path,
        package: &'static str,
        arguments: &[String],
        cpu: Option<usize>,
    ) -> Result<Self, StartError> {
        let name = program.display().to_string();
        let system = |source| StartError::System {
            program: name.clone(),
            source,
        };
        let directory = own_directory().map_err(system)?;
        let log = File::create(log_in(&directory)).map_err(system)?;
        let mut command = Command::new(program);
        command
            .args(arguments)
            .current_dir(&directory)
            // Held open until the server is dropped: a node ends when it closes.
            .stdin(Stdio::piped())
            .stdout(log.try_clone().map_err(system)?)
            .stderr(log)
            .process_group(0);
        // What a node of this shell would be told by its environment is not in the record.
        let ours = |(name, _): &(OsString, OsString)| name.as_encoded_bytes().starts_with(b"RMBD_");
        for (name, _) in std::env::vars_os().filter(ours) {
            command.env_remove(name);
        }
        match spawn_on(cpu, command) {
            Ok(child) => Ok(Self {
                child,
                command: command_line(program, arguments),
                directory,
            }),
            Err(error) => {
                let _ = fs::remove_dir_all(&directory);
                match error.kind() {
                    io::ErrorKind::NotFound => Err(StartError::NotInstalled {
                        program: name,
                        package,
                    }),
                    _ => Err(system(error)),
                }
            }
        }
    }

    /// Waits until `probe` finds it ready; it is given what the server has printed so far.
    pub(super) fn await_ready<T>(
        &mut self,
        probe: impl Fn(&str) -> Option<T>,
    ) -> Result<T, StartError> {
        let begin = Instant::now();
        loop {
            if let Some(found) = probe(&self.output()) {
                return Ok(found);
            }
            let ended = self.child.try_wait().ok().flatten();
            let what = match ended {
                Some(status) => format!("ended at once ({status})"),
                None if begin.elapsed() > START_PATIENCE => {
                    format!("did not answer within {START_PATIENCE:?}")
                }
                None => {
                    thread::sleep(LOOK_AGAIN);
                    continue;
                }
            };
            return Err(StartError::Failed {
                command: self.command.clone(),
                what,
                said: last_lines(&self.output()),
            });
        }
    }

    pub(super) fn pid(&self) -> u32 {
        self.child.id()
    }

    /// The command line that started it.
    pub(super) fn command(&self) -> &str {
        &self.command
    }

    fn output(&self) -> String {
        let bytes = fs::read(log_in(&self.directory)).unwrap_or_default();
        String::from_utf8_lossy(&bytes).into_owned()
    }

    fn end(&mut self) {
        let pid = i32::try_from(self.child.id()).ok().and_then(Pid::from_raw);
        if let Some(pid) = pid {
            // A process that has not been waited for keeps its id, so this can hit no other one.
            let _ = kill_process(pid, Signal::TERM);
        }
        let begin = Instant::now();
        while matches!(self.child.try_wait(), Ok(None)) {
            if begin.elapsed() > END_PATIENCE {
                let _ = self.child.kill();
                let _ = self.child.wait();
                return;
            }
            thread::sleep(LOOK_AGAIN);
        }
    }
}

impl Drop for Server {
    fn drop(&mut self) {
        self.end();
        let _ = fs::remove_dir_all(&self.directory);
    }
}

/// A child inherits the CPUs of the thread that makes it.
fn spawn_on(cpu: Option<usize>, mut command: Command) -> io::Result<Child> {
    let Some(cpu) = cpu else {
        return command.spawn();
    };
    let spawning = thread::spawn(move || {
        cpu::pin_to(cpu)?;
        command.spawn()
    });
    let panicked = |_| io::Error::other("the starting thread panicked");
    spawning.join().map_err(panicked)?
}

/// A free port of 127.0.0.1. Somebody else may take it before it is used; then the server says so.
pub(super) fn free_address() -> io::Result<SocketAddr> {
    TcpListener::bind((Ipv4Addr::LOCALHOST, 0))?.local_addr()
}

fn own_directory() -> io::Result<PathBuf> {
    static NUMBER: AtomicU64 = AtomicU64::new(0);
    let number = NUMBER.fetch_add(1, Ordering::Relaxed);
    let name = format!("loadgen-versus-{}-{number}", std::process::id());
    let path = std::env::temp_dir().join(name);
    fs::create_dir(&path)?;
    Ok(path)
}

fn log_in(directory: &Path) -> PathBuf {
    directory.join("output")
}

fn last_lines(output: &str) -> String {
    let lines: Vec<_> = output.lines().filter(|l| !l.trim().is_empty()).collect();
    match lines.split_at(lines.len().saturating_sub(3)).1 {
        [] => "nothing".to_owned(),
        last => last.join(" / "),
    }
}

fn command_line(program: &Path, arguments: &[String]) -> String {
    let name = program.file_name().unwrap_or(program.as_os_str());
    let words = std::iter::once(name.to_string_lossy().into_owned());
    let words = words.chain(arguments.iter().map(|word| quoted(word)));
    words.collect::<Vec<_>>().join(" ")
}

/// CPU seconds that a process has used so far, all of its threads together; `None` where that can't be read.
/// Threads that have ended are not in it, so it is for processes whose threads stay.
pub(super) fn cpu_seconds(pid: u32) -> Option<f64> {
    let tasks = tasks(&directory(pid))?;
    let cpu: Option<Duration> = tasks.iter().map(|task| task_cpu_time(task)).sum();
    Some(cpu?.as_secs_f64())
}

/// Resident memory of a process.
pub(super) fn resident_bytes(pid: u32) -> Option<u64> {
    memory_bytes(&directory(pid), "VmRSS")
}

fn directory(pid: u32) -> PathBuf {
    format!("/proc/{pid}").into()
}
