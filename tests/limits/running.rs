//! Runs the program under a limit, as another user where possible, and judges the outcome.

use std::fs;
use std::io::{BufRead, BufReader, Read, Write};
use std::net::TcpStream;
use std::os::unix::fs::PermissionsExt;
use std::path::PathBuf;
use std::process::{Child, Command, Output, Stdio};
use std::time::{Duration, Instant};

use rmbd_client::{Client, ClientOptions};
use rustix::process::{Pid, Signal, kill_process};

/// The longest time that anything may take on a busy machine; a node that takes longer hangs.
const PATIENCE: Duration = Duration::from_secs(60);

/// The outcome of a run. Any other outcome fails the test.
#[derive(Debug)]
pub(crate) enum Outcome {
    /// Not even `rmbd --version` runs under the limit: the loader or the kernel fails before the program begins.
    NotRun,
    /// The node was ready, answered, and ended when it was told to.
    Lived {
        /// The node's back end.
        io: String,
        /// Number of data threads.
        threads: usize,
        /// Its warnings about these.
        warnings: Vec<String>,
    },
    /// The node ended at once with this one line.
    Refused(String),
}

/// A copy of the program that every user may run.
pub(crate) struct Program {
    folder: PathBuf,
    user: u32,
}

impl Program {
    pub(crate) fn for_user(user: u32) -> Self {
        let name = format!("rmbd-limits-{}-{user}", std::process::id());
        let folder = std::env::temp_dir().join(name);
        fs::create_dir_all(&folder).unwrap();
        fs::set_permissions(&folder, fs::Permissions::from_mode(0o755)).unwrap();
        fs::copy(env!("CARGO_BIN_EXE_rmbd"), folder.join("rmbd")).unwrap();
        Self { folder, user }
    }

    pub(crate) fn path(&self) -> PathBuf {
        self.folder.join("rmbd")
    }

    /// A command that runs `prlimit` with this limit, and then the program. The other user may not raise limits that
    /// root may raise.
    fn command(&self, limit: &str) -> Command {
        let prlimit = ["prlimit".to_owned(), limit.to_owned()];
        let mut words = Vec::new();
        if is_root() {
            let user = self.user;
            let other = [format!("--reuid={user}"), format!("--regid={user}")];
            if limit.starts_with("--memlock") {
                words.extend(prlimit.clone());
            }
            words.push("setpriv".to_owned());
            words.extend(other);
            words.push("--clear-groups".to_owned());
        }
        words.extend(prlimit);
        words.push(self.path().to_str().unwrap().to_owned());
        let mut command = Command::new(&words[0]);
        command.args(&words[1..]).stdin(Stdio::null());
        for (name, _) in std::env::vars_os() {
            if name.to_string_lossy().starts_with("RMBD_") {
                command.env_remove(name);
            }
        }
        command
    }

    /// Runs a node with this many threads under a limit.
    pub(crate) fn node(&self, limit: &str, threads: u64, more: &[&str]) -> Outcome {
        let version = self.command(limit).arg("--version").output();
        let version = version.expect("setpriv and prlimit: apt-get install util-linux");
        if !text(&version.stdout).starts_with("rmbd ") {
            return not_run(limit, &version);
        }
        let threads = threads.to_string();
        let small = ["127.0.0.1:0", "--threads", &threads];
        let size: &[&str] = if more.contains(&"-x") {
            &[]
        } else {
            &["-x", "4096"]
        };
        let mut command = self.command(limit);
        command.args(small).args(size).args(more);
        judge(limit, &mut command)
    }
}

impl Drop for Program {
    fn drop(&mut self) {
        let _ = fs::remove_dir_all(&self.folder);
    }
}

/// Reports that the program did not run. It does so itself in one line if it comes so far.
fn not_run(limit: &str, version: &Output) -> Outcome {
    let stderr = text(&version.stderr);
    assert!(!stderr.contains("panicked"), "{limit}: {stderr}");
    match stderr.strip_prefix("error: ") {
        Some(line) => Outcome::Refused(line.trim().to_owned()),
        None => Outcome::NotRun,
    }
}

/// Starts a node, and judges its outcome.
pub(crate) fn judge(place: &str, command: &mut Command) -> Outcome {
    let mut child = Ended(
        command
            .stdout(Stdio::piped())
            .stderr(Stdio::piped())
            .spawn()
            .unwrap(),
    );
    let mut stdout = BufReader::new(child.0.stdout.take().unwrap());
    let mut ready = String::new();
    stdout.read_line(&mut ready).unwrap();
    if ready.is_empty() {
        return refusal(place, &mut child);
    }
    let field = |name: &str| {
        let mut fields = ready
            .split_whitespace()
            .filter_map(|word| word.split_once('='));
        fields.find(|(key, _)| *key == name).unwrap().1.to_owned()
    };
    lives(place, &field("udp"), &field("http"));
    kill_process(Pid::from_child(&child.0), Signal::TERM).unwrap();
    let (code, stderr) = child.wait();
    assert_eq!(code, Some(0), "{place}: {ready}{stderr}");
    let about = |line: &&str| line.contains("WARN") && !line.contains("receive buffer of");
    Outcome::Lived {
        io: field("io"),
        threads: field("threads").parse().unwrap(),
        warnings: stderr.lines().filter(about).map(str::to_owned).collect(),
    }
}

fn refusal(place: &str, child: &mut Ended) -> Outcome {
    let (code, stderr) = child.wait();
    assert_eq!(code, Some(1), "{place}: {stderr}");
    let is_log = |line: &&str| line.contains(" WARN ") || line.contains(" INFO ");
    let lines: Vec<&str> = stderr.lines().filter(|line| !is_log(line)).collect();
    let [line] = lines[..] else {
        panic!("{place}: not one line: {stderr}");
    };
    let line = line.strip_prefix("error: ").expect(line);
    Outcome::Refused(line.to_owned())
}

/// Checks that the node counts, and says to several clients at once that it is well.
fn lives(place: &str, udp: &str, http: &str) {
    let options = ClientOptions {
        timeout: PATIENCE,
        ..ClientOptions::default()
    };
    let mut client = Client::connect(udp, options).unwrap();
    client.add("key", 7).expect(place);
    assert_eq!(client.count("key").expect(place).estimate, 7, "{place}");
    let streams: Vec<_> = (0..4).map(|_| TcpStream::connect(http).unwrap()).collect();
    for mut stream in streams {
        stream.set_read_timeout(Some(PATIENCE)).unwrap();
        stream
            .write_all(b"GET /healthz HTTP/1.1\r\nHost: localhost\r\nConnection: close\r\n\r\n")
            .unwrap();
        let mut answer = String::new();
        stream.read_to_string(&mut answer).expect(place);
        assert!(answer.ends_with("ok\n"), "{place}: {answer}");
    }
}

/// A process that is ended when this is dropped.
struct Ended(Child);

impl Ended {
    /// Returns the exit code and the output. A process that does not end fails the test.
    fn wait(&mut self) -> (Option<i32>, String) {
        let mut stderr = self.0.stderr.take().unwrap();
        let reader = std::thread::spawn(move || {
            let mut text = String::new();
            stderr.read_to_string(&mut text).unwrap();
            text
        });
        let start = Instant::now();
        let status = loop {
            if let Some(status) = self.0.try_wait().unwrap() {
                break status;
            }
            assert!(start.elapsed() < PATIENCE, "it hangs");
            std::thread::sleep(Duration::from_millis(3));
        };
        (status.code(), reader.join().unwrap())
    }
}

impl Drop for Ended {
    fn drop(&mut self) {
        let _ = self.0.kill();
        let _ = self.0.wait();
    }
}

pub(crate) fn is_root() -> bool {
    rustix::process::geteuid().is_root()
}

/// Number of threads of all processes of this user.
pub(crate) fn tasks_of_this_user() -> u64 {
    let user = rustix::process::getuid().as_raw().to_string();
    let output = Command::new("ps")
        .args(["-L", "-U", &user, "-o", "lwp="])
        .output()
        .expect("ps: apt-get install procps");
    text(&output.stdout).lines().count() as u64
}

fn text(bytes: &[u8]) -> &str {
    std::str::from_utf8(bytes).unwrap()
}
