//! Standard output and standard error of all kinds that a program may meet, and a check of how it ends there.

use std::fs::OpenOptions;
use std::io::{BufRead, BufReader, PipeReader, Read, Write, pipe};
use std::process::{Child, Command, ExitStatus, Stdio};
use std::thread::sleep;
use std::time::{Duration, Instant};

use rustix::io::ioctl_fionbio;

/// The longest time that anything may take on a busy machine. Nothing waits this long when all is well.
pub const PATIENCE: Duration = Duration::from_secs(40);
const LOOK_EVERY: Duration = Duration::from_millis(5);

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Which {
    Out,
    Err,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Kind {
    /// The stream takes everything.
    Read,
    /// The stream is `/dev/full`: there is no room on the device.
    Full,
    /// The stream was closed before the start.
    Closed,
    /// The stream is a pipe whose reader is gone.
    Gone,
    /// The stream is a full pipe that nobody reads.
    Stuck,
}

pub const BROKEN: [Kind; 4] = [Kind::Full, Kind::Closed, Kind::Gone, Kind::Stuck];
pub const BOTH: [Which; 2] = [Which::Out, Which::Err];

/// A stream of one kind, with what has to live as long as the stream is of that kind.
struct Made {
    stdio: Stdio,
    /// The end of a full pipe from which it could be read.
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
    // The pipe is filled to its last byte.
    for piece in [4_096, 1] {
        while writer.write(&vec![b'.'; piece]).is_ok() {}
    }
    ioctl_fionbio(&writer, false).unwrap();
    Made {
        stdio: writer.into(),
        stuck: Some(reader),
    }
}

/// A running program with one stream of a kind. The other stream is read.
pub struct Running {
    pub child: Child,
    stuck: Option<PipeReader>,
}

impl Running {
    /// Starts `program` with `words`, without the environment variables that it would read.
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

    /// The program's exit status, if it has ended.
    pub fn ended(&mut self) -> Option<ExitStatus> {
        self.child.try_wait().unwrap()
    }

    /// Waits for the program's end.
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

    /// Reads what is in the full pipe, and what comes after it, until its other end is closed.
    pub fn read_stuck(&mut self) -> String {
        let mut text = String::new();
        let mut reader = self.stuck.take().unwrap();
        reader.read_to_string(&mut text).unwrap();
        text.trim_start_matches('.').to_owned()
    }

    /// Reads a line that waits behind what fills the pipe.
    pub fn read_line_stuck(&mut self) -> String {
        let mut line = String::new();
        let mut reader = BufReader::new(self.stuck.take().unwrap());
        reader.read_line(&mut line).unwrap();
        self.stuck = Some(reader.into_inner());
        line.trim_start_matches('.').to_owned()
    }

    /// All of the standard output, if it is read; else empty.
    pub fn output(&mut self) -> String {
        self.child.stdout.take().map_or_else(String::new, read)
    }

    /// All of the standard error, if it is read; else empty.
    pub fn error(&mut self) -> String {
        self.child.stderr.take().map_or_else(String::new, read)
    }
}

/// Ends the program by its id when a test fails.
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

/// A command for a shell that closes a stream and becomes the program.
fn closing(program: &str, which: Which) -> Command {
    let redirection = match which {
        Which::Out => ">&-",
        Which::Err => "2>&-",
    };
    let mut command = Command::new("sh");
    command.args(["-c", &format!("exec \"$0\" \"$@\" {redirection}"), program]);
    command
}
