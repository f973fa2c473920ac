//! Standard output and standard error of the kinds that a program may find, and what becomes of it there.

use std::fs::OpenOptions;
use std::io::{BufRead, BufReader, PipeReader, Read, Write, pipe};
use std::process::{Child, Command, ExitStatus, Stdio};
use std::thread::sleep;
use std::time::{Duration, Instant};

use rustix::io::ioctl_fionbio;

/// How long anything may take on a busy machine; nothing waits this long when all is well.
pub const PATIENCE: Duration = Duration::from_secs(40);
const LOOK_EVERY: Duration = Duration::from_millis(5);

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Which {
    Out,
    Err,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Kind {
    /// Everything is taken.
    Read,
    /// `/dev/full`: no room on the device.
    Full,
    /// Closed before the start.
    Closed,
    /// A pipe whose reader is gone.
    Gone,
    /// A pipe that is full and that nobody reads.
    Stuck,
}

pub const BROKEN: [Kind; 4] = [Kind::Full, Kind::Closed, Kind::Gone, Kind::Stuck];
pub const BOTH: [Which; 2] = [Which::Out, Which::Err];

/// A stream of a kind, and what has to be kept as long as it is to be of that kind.
struct Made {
    stdio: Stdio,
    /// The end of a full pipe that could be read.
    stuck: Option<PipeReader>,
}

impl Kind {
    fn make(self) -> Made {
        let of = |stdio: Stdio| Made { stdio, stuck: None };
        match self {
            Self::Read => of(Stdio::piped()),
            Self::Full => of(OpenOptions::new()
                .write(true)
                .open("/dev/full")
                .unwrap()
                .into()),
            // The shell closes it.
            Self::Closed => of(Stdio::null()),
            Self::Gone => of(pipe().unwrap().1.into()),
            Self::Stuck => full_pipe(),
        }
    }
}

fn full_pipe() -> Made {
    let (reader, mut writer) = pipe().unwrap();
    ioctl_fionbio(&writer, true).unwrap();
    // Its last byte, too.
    for piece in [4_096, 1] {
        while writer.write(&vec![b'.'; piece]).is_ok() {}
    }
    ioctl_fionbio(&writer, false).unwrap();
    Made {
        stdio: writer.into(),
        stuck: Some(reader),
    }
}

/// A program that runs with one stream of a kind; the other one is read.
pub struct Running {
    pub child: Child,
    stuck: Option<PipeReader>,
}

impl Running {
    /// Starts `program` with `words`, away from what the environment would tell it.
    pub fn start(program: &str, words: &[&str], which: Which, kind: Kind, input: Stdio) -> Self {
        let mut command = match kind {
            Kind::Closed => closing(program, which),
            _ => Command::new(program),
        };
        for (name, _) in std::env::vars_os() {
            if name.to_string_lossy().starts_with("RMBD_") {
                command.env_remove(name);
            }
        }
        let made = kind.make();
        command.args(words).stdin(input);
        command.stdout(Stdio::piped()).stderr(Stdio::piped());
        match which {
            Which::Out => command.stdout(made.stdio),
            Which::Err => command.stderr(made.stdio),
        };
        Self {
            child: command.spawn().unwrap(),
            stuck: made.stuck,
        }
    }

    /// How it ended, if it has.
    pub fn ended(&mut self) -> Option<ExitStatus> {
        self.child.try_wait().unwrap()
    }

    /// Waits for its end.
    pub fn wait(&mut self, case: &str) -> ExitStatus {
        let start = Instant::now();
        loop {
            if let Some(status) = self.ended() {
                return status;
            }
            assert!(start.elapsed() < PATIENCE, "{case}: runs on");
            sleep(LOOK_EVERY);
        }
    }

    /// Reads what the full pipe has, and what comes after it, until its other end is closed.
    pub fn read_stuck(&mut self) -> String {
        let mut text = String::new();
        let mut reader = self.stuck.take().unwrap();
        reader.read_to_string(&mut text).unwrap();
        text.trim_start_matches('.').to_owned()
    }

    /// A line that waits behind what fills the pipe.
    pub fn read_line_stuck(&mut self) -> String {
        let mut line = String::new();
        let mut reader = BufReader::new(self.stuck.take().unwrap());
        reader.read_line(&mut line).unwrap();
        self.stuck = Some(reader.into_inner());
        line.trim_start_matches('.').to_owned()
    }

    /// All of the standard output that is read; empty where it is not.
    pub fn output(&mut self) -> String {
        self.child.stdout.take().map_or_else(String::new, read)
    }

    /// All of the standard error that is read; empty where it is not.
    pub fn error(&mut self) -> String {
        self.child.stderr.take().map_or_else(String::new, read)
    }
}

/// By its id, when a test fails.
impl Drop for Running {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

fn read(mut stream: impl Read) -> String {
    let mut text = String::new();
    stream.read_to_string(&mut text).unwrap();
    text
}

/// A shell that closes a stream and becomes the program.
fn closing(program: &str, which: Which) -> Command {
    let redirection = match which {
        Which::Out => ">&-",
        Which::Err => "2>&-",
    };
    let mut command = Command::new("sh");
    command.args(["-c", &format!("exec \"$0\" \"$@\" {redirection}"), program]);
    command
}
