//! A running `rmbd`, with its ready line, its log, its status and its clients. It is ended by its id when dropped.

use std::io::{BufRead, BufReader, Read};
use std::net::{Ipv4Addr, SocketAddr};
use std::process::{Child, Command, Output, Stdio};
use std::sync::atomic::{AtomicU8, Ordering::Relaxed};
use std::sync::{Arc, Mutex};
use std::thread::JoinHandle;
use std::time::{Duration, Instant};

use rmbd::status::Status;
use rmbd_client::{Client, ClientOptions};
use rustix::process::{Pid, Signal, kill_process};

use super::namespace::Place;
use rmbd_testkit::required::Anybody;

/// The longest time that anything may take on a busy machine. Nothing waits this long when all is well.
pub(crate) const PATIENCE: Duration = Duration::from_secs(40);
/// Time between two checks.
const LOOK_EVERY: Duration = Duration::from_millis(25);

/// Waits until `look` returns no complaint.
pub(crate) fn wait_until(what: &str, mut look: impl FnMut() -> Result<(), String>) {
    let start = Instant::now();
    while let Err(complaint) = look() {
        assert!(
            start.elapsed() < PATIENCE,
            "waited in vain for {what}: {complaint}"
        );
        std::thread::sleep(LOOK_EVERY);
    }
}

/// A loopback address that no other test uses, so that its ports stay free for the nodes that had them.
pub(crate) fn loopback() -> Ipv4Addr {
    static NUMBERS: AtomicU8 = AtomicU8::new(1);
    let number = NUMBERS.fetch_add(1, Relaxed);
    assert!(number < u8::MAX, "more nodes than addresses");
    let [.., high, low] = std::process::id().to_be_bytes();
    Ipv4Addr::new(127, 16 + high % 200, low, number)
}

/// A command for the program, without variables of the environment that it would read.
pub(crate) fn program() -> Command {
    without_variables(Command::new(env!("CARGO_BIN_EXE_rmbd")))
}

/// The same command, for a copy of the program that any user may run.
pub(crate) fn program_for_anybody() -> (Anybody, Command) {
    let copy = Anybody::program(env!("CARGO_BIN_EXE_rmbd"));
    let command = without_variables(Command::new(copy.path()));
    (copy, command)
}

/// A command that becomes the program, with this file in the place of `/etc/hosts` (unshare(1), mount(8)).
pub(crate) fn program_with_names(names: &str) -> Command {
    let mut command = without_variables(Command::new("unshare"));
    let become_it = "mount --bind \"$0\" /etc/hosts && exec \"$@\"";
    command.args([
        "--mount",
        "sh",
        "-c",
        become_it,
        names,
        env!("CARGO_BIN_EXE_rmbd"),
    ]);
    command
}

fn without_variables(mut command: Command) -> Command {
    for (name, _) in std::env::vars_os() {
        if name.to_string_lossy().starts_with("RMBD_") {
            command.env_remove(name);
        }
    }
    command
}

pub(crate) fn text(bytes: &[u8]) -> &str {
    std::str::from_utf8(bytes).unwrap()
}

pub(crate) struct Running {
    child: Child,
    ready: String,
    log: Arc<Mutex<String>>,
    reader: Option<JoinHandle<()>>,
    place: Place,
}

/// A node that has ended.
#[derive(Debug)]
pub(crate) struct Ended {
    pub(crate) code: Option<i32>,
    pub(crate) log: String,
    pub(crate) took: Duration,
}

impl Running {
    pub(crate) fn start<S: AsRef<str>>(words: &[S]) -> Self {
        Self::start_at(Place::default(), words)
    }

    /// Starts a node with one data thread, and with rounds of 100 ms unless `words` say otherwise.
    pub(crate) fn start_at<S: AsRef<str>>(place: Place, words: &[S]) -> Self {
        Self::start_by(place, program(), words)
    }

    /// The same by another command, which becomes the program.
    pub(crate) fn start_by<S: AsRef<str>>(place: Place, mut command: Command, words: &[S]) -> Self {
        command.args(words.iter().map(AsRef::as_ref));
        command.args(["--threads", "1"]);
        command.env("RMBD_GOSSIP_INTERVAL", "100");
        command.stdin(Stdio::null());
        command.stdout(Stdio::piped()).stderr(Stdio::piped());
        let mut child = place.within(|| command.spawn().unwrap());
        let mut stderr = BufReader::new(child.stderr.take().unwrap());
        let log = Arc::new(Mutex::new(String::new()));
        let reader = {
            let log = Arc::clone(&log);
            std::thread::spawn(move || {
                let mut line = String::new();
                while stderr.read_line(&mut line).is_ok_and(|read| read > 0) {
                    log.lock().unwrap().push_str(&line);
                    line.clear();
                }
            })
        };
        let stdout = child.stdout.take().unwrap();
        let mut running = Self {
            child,
            ready: String::new(),
            log,
            reader: Some(reader),
            place,
        };
        let mut stdout = BufReader::new(stdout);
        stdout.read_line(&mut running.ready).unwrap();
        if running.ready.is_empty() {
            running.join();
            panic!("did not start: {}", running.log());
        }
        running
    }

    /// A field of the ready line.
    pub(crate) fn field(&self, name: &str) -> &str {
        let words = self.ready.split_whitespace();
        let mut fields = words.filter_map(|word| word.split_once('='));
        fields.find(|(key, _)| *key == name).unwrap().1
    }

    pub(crate) fn udp(&self) -> SocketAddr {
        self.field("udp").parse().unwrap()
    }

    pub(crate) fn cluster(&self) -> SocketAddr {
        self.field("cluster").parse().unwrap()
    }

    /// What the node has written to standard error so far.
    pub(crate) fn log(&self) -> String {
        self.log.lock().unwrap().clone()
    }

    pub(crate) fn status(&self) -> Status {
        serde_json::from_str(&self.get("/status")).unwrap()
    }

    /// A page of the HTTP port.
    pub(crate) fn get(&self, path: &str) -> String {
        let url = format!("http://{}{path}", self.field("http"));
        self.place.within(|| {
            let config = ureq::Agent::config_builder()
                .timeout_global(Some(PATIENCE))
                .proxy(None)
                .build();
            let mut response = config.new_agent().get(&url).call().unwrap();
            response.body_mut().read_to_string().unwrap()
        })
    }

    pub(crate) fn wait(&self, what: &str, wanted: impl Fn(&Status) -> bool) -> Status {
        let mut found = None;
        wait_until(what, || {
            let status = self.status();
            if wanted(&status) {
                found = Some(status);
                return Ok(());
            }
            Err(format!("{:#?}\n{}", status.cluster, self.log()))
        });
        found.unwrap()
    }

    /// Runs `question` with a client of the node.
    pub(crate) fn ask<T: Send>(&self, question: impl FnOnce(&mut Client) -> T + Send) -> T {
        self.place.within(|| {
            let options = ClientOptions {
                timeout: PATIENCE,
                ..ClientOptions::default()
            };
            question(&mut Client::connect(self.udp(), options).unwrap())
        })
    }

    /// Adds a weight, and checks that it was acknowledged.
    pub(crate) fn add(&self, key: &str, weight: u64) {
        self.ask(|client| client.add(key, weight).unwrap());
    }

    pub(crate) fn count(&self, key: &str) -> u64 {
        self.ask(|client| client.count(key).unwrap().estimate)
    }

    pub(crate) fn counts<K: AsRef<[u8]> + Sync>(&self, keys: &[K]) -> Vec<u64> {
        let counts = self.ask(|client| client.count_many(keys).unwrap());
        counts.iter().map(|count| count.estimate).collect()
    }

    pub(crate) fn wait_for_count(&self, key: &str, expected: u64) {
        wait_until(&format!("{key} = {expected}"), || match self.count(key) {
            count if count == expected => Ok(()),
            count => Err(format!("{count}\n{}", self.log())),
        });
    }

    /// Runs a command for the node, such as `members`.
    pub(crate) fn command(&self, words: &[&str]) -> Output {
        let mut command = program();
        command.args(words).args(["--server", self.field("udp")]);
        self.place.within(|| command.output().unwrap())
    }

    pub(crate) fn kill(mut self) -> String {
        self.child.kill().unwrap();
        self.join();
        self.log()
    }

    pub(crate) fn signal(&self, signal: Signal) {
        kill_process(Pid::from_child(&self.child), signal).unwrap();
    }

    /// Sends SIGTERM, and waits for the end.
    pub(crate) fn end(mut self) -> Ended {
        let start = Instant::now();
        self.signal(Signal::TERM);
        wait_until("its end", || match self.child.try_wait().unwrap() {
            Some(_) => Ok(()),
            None => Err(self.log()),
        });
        let took = start.elapsed();
        let code = self.join();
        Ended {
            code,
            log: self.log(),
            took,
        }
    }

    fn join(&mut self) -> Option<i32> {
        let code = self.child.wait().ok().and_then(|status| status.code());
        if let Some(reader) = self.reader.take() {
            let _ = reader.join();
        }
        code
    }
}

impl Drop for Running {
    fn drop(&mut self) {
        let _ = self.child.kill();
        self.join();
        if std::thread::panicking() {
            eprintln!("--- {}{}", self.ready, self.log());
        }
    }
}

/// Runs the program to its end, which is enforced after a time.
pub(crate) fn run_to_its_end(command: &mut Command) -> Output {
    command.stdin(Stdio::null());
    command.stdout(Stdio::piped()).stderr(Stdio::piped());
    let mut child = command.spawn().unwrap();
    let start = Instant::now();
    let is_over = loop {
        if child.try_wait().unwrap().is_some() {
            break true;
        }
        if start.elapsed() > PATIENCE / 4 {
            break false;
        }
        std::thread::sleep(LOOK_EVERY);
    };
    let _ = child.kill();
    let status = child.wait().unwrap();
    let (mut stdout, mut stderr) = (Vec::new(), Vec::new());
    child.stdout.unwrap().read_to_end(&mut stdout).unwrap();
    child.stderr.unwrap().read_to_end(&mut stderr).unwrap();
    assert!(is_over, "{command:?} runs on: {}", text(&stdout));
    Output {
        status,
        stdout,
        stderr,
    }
}
