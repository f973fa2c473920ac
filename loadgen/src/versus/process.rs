//! Servers that this command starts, and ends by their ids, and the resources that any process of this machine has
//! used.

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

/// Time within which a started server must answer.
const START_PATIENCE: Duration = Duration::from_secs(20);
/// Time that a server has to end before it is killed.
const END_PATIENCE: Duration = Duration::from_secs(5);
const LOOK_AGAIN: Duration = Duration::from_millis(10);

/// The error for a server that could not be started. Nothing of it is left.
#[derive(Debug, Error)]
pub(super) enum StartError {
    /// The program is not installed.
    #[error(
        "{program} is not installed; on Debian: apt-get install {package}. Or start one yourself \
         and leave out --start"
    )]
    NotInstalled {
        /// The name of the program.
        program: String,
        /// The package that it comes from.
        package: &'static str,
    },
    /// The server ended at once, or never answered.
    #[error("{command} {what}; it said: {said}")]
    Failed {
        /// The command line.
        command: String,
        /// The reason.
        what: String,
        /// The end of the server's output.
        said: String,
    },
    /// The system refused a request.
    #[error("starting {program}: {source}")]
    System {
        /// The name of the program.
        program: String,
        /// The system's error.
        source: io::Error,
    },
}

/// A server that was started here, with a directory of its own. Both end when this is dropped.
#[derive(Debug)]
pub(super) struct Server {
    child: Child,
    command: String,
    directory: PathBuf,
}

impl Server {
    /// Starts a program, with all of its threads on one CPU, in a directory of its own, and shielded from the
    /// terminal's Ctrl-C: this command ends it.
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
            // The pipe is open until the server is dropped: a node ends when it closes.
            .stdin(Stdio::piped())
            .stdout(log.try_clone().map_err(system)?)
            .stderr(log)
            .process_group(0);
        // Variables of this shell's environment that a node would read are not in the record, so they are removed.
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

    /// Waits until `probe` finds the server ready. It gets what the server has printed so far.
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
            // A process that was not waited for keeps its id, so this cannot hit another one.
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

/// Starts a child on a CPU: it inherits the CPUs of the thread that starts it.
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

/// A free port of 127.0.0.1. If another program takes it first, the server reports that.
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

/// CPU seconds that a process has used so far, in all threads; `None` if that cannot be read. Threads that have ended
/// are left out, so this is for processes whose threads stay.
pub(super) fn cpu_seconds(pid: u32) -> Option<f64> {
    let tasks = tasks(&directory(pid))?;
    let cpu: Option<Duration> = tasks.iter().map(|task| task_cpu_time(task)).sum();
    Some(cpu?.as_secs_f64())
}

/// Resident memory of a process in bytes.
pub(super) fn resident_bytes(pid: u32) -> Option<u64> {
    memory_bytes(&directory(pid), "VmRSS")
}

fn directory(pid: u32) -> PathBuf {
    format!("/proc/{pid}").into()
}
