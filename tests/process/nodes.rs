//! Node processes whose addresses are known beforehand, since some of them cannot tell where they serve.

use std::net::{Ipv4Addr, SocketAddr};
use std::process::Stdio;
use std::sync::atomic::{AtomicU8, Ordering::Relaxed};
use std::thread::sleep;
use std::time::{Duration, Instant};

use rmbd::status::Status;
use rmbd_client::{Client, ClientOptions};
use rustix::process::{Pid, Signal, kill_process};

use rmbd_testkit::streams::{Kind, PATIENCE, Running, Which};

pub(crate) const PROGRAM: &str = env!("CARGO_BIN_EXE_rmbd");
const LOOK_EVERY: Duration = Duration::from_millis(10);

/// A loopback address that no other test uses, so that its ports are free.
pub(crate) fn loopback() -> Ipv4Addr {
    static NUMBERS: AtomicU8 = AtomicU8::new(1);
    let number = NUMBERS.fetch_add(1, Relaxed);
    assert!(number < u8::MAX, "more nodes than addresses");
    let [.., high, low] = std::process::id().to_be_bytes();
    // The range is apart from the one of `tests/cluster_processes`.
    Ipv4Addr::new(127, 216 + high % 32, low, number)
}

pub(crate) fn wait_until(what: &str, mut is_so: impl FnMut() -> bool) {
    let start = Instant::now();
    while !is_so() {
        assert!(start.elapsed() < PATIENCE, "waited in vain for {what}");
        sleep(LOOK_EVERY);
    }
}

/// A node of a cluster, with one stream of a given kind.
pub(crate) struct Node {
    pub(crate) running: Running,
    pub(crate) udp: SocketAddr,
}

impl Node {
    pub(crate) fn start(which: Which, kind: Kind, join: Option<&Self>) -> Self {
        let node = Self::start_unready(which, kind, join);
        wait_until("a node that serves", || node.get("/healthz").is_some());
        node
    }

    /// Starts a node, and returns before it serves.
    pub(crate) fn start_unready(which: Which, kind: Kind, join: Option<&Self>) -> Self {
        let seed = join.map(|other| SocketAddr::new(other.udp.ip(), 8_001).to_string());
        let seed = seed.iter().flat_map(|seed| ["--join", seed]);
        Self::start_with(which, kind, &seed.collect::<Vec<_>>())
    }

    /// Starts a node with more words.
    pub(crate) fn start_with(which: Which, kind: Kind, more: &[&str]) -> Self {
        Self::start_by(&[PROGRAM], which, kind, more)
    }

    /// Starts a node that speaks Redis's protocol on port 6380, too, with more words.
    pub(crate) fn start_resp(more: &[&str]) -> Self {
        let udp = SocketAddr::from((loopback(), 8_000));
        let resp = SocketAddr::new(udp.ip(), 6_380).to_string();
        let words = [&["--resp", &*resp], more].concat();
        let node = Self::start_at(udp, &[PROGRAM], Which::Out, Kind::Read, &words);
        wait_until("a node that serves", || node.get("/healthz").is_some());
        node
    }

    /// Starts a node by another program, which becomes the node.
    pub(crate) fn start_by(by: &[&str], which: Which, kind: Kind, more: &[&str]) -> Self {
        let udp = SocketAddr::from((loopback(), 8_000));
        Self::start_at(udp, by, which, kind, more)
    }

    /// Starts a node at the address of another one that has ended.
    pub(crate) fn start_at(
        udp: SocketAddr,
        by: &[&str],
        which: Which,
        kind: Kind,
        more: &[&str],
    ) -> Self {
        let address = udp.to_string();
        let (program, before) = by.split_first().unwrap();
        let mut words = before.to_vec();
        words.extend([
            &*address,
            "-x",
            "4096",
            "--threads",
            "1",
            "--gossip-interval",
            "100",
        ]);
        words.extend(more);
        Self {
            running: Running::start(program, &words, which, kind, Stdio::null()),
            udp,
        }
    }

    /// The answer, if there is one with code 200.
    pub(crate) fn get(&self, path: &str) -> Option<String> {
        let config = ureq::Agent::config_builder()
            .timeout_global(Some(PATIENCE / 8))
            .proxy(None)
            .build();
        let url = format!("http://{}{path}", self.udp);
        let mut response = config.new_agent().get(url).call().ok()?;
        response.body_mut().read_to_string().ok()
    }

    pub(crate) fn status(&self) -> Status {
        serde_json::from_str(&self.get("/status").unwrap()).unwrap()
    }

    pub(crate) fn client(&self) -> Client {
        let options = ClientOptions {
            timeout: PATIENCE,
            ..ClientOptions::default()
        };
        Client::connect(self.udp, options).unwrap()
    }

    /// Runs a command of the program that asks nobody.
    pub(crate) fn run(words: &[&str]) -> std::process::Output {
        std::process::Command::new(PROGRAM)
            .args(words)
            .output()
            .unwrap()
    }

    /// Runs a command of the program that asks this node.
    pub(crate) fn command(&self, words: &[&str]) -> std::process::Output {
        let server = self.udp.to_string();
        let mut command = std::process::Command::new(PROGRAM);
        command.args(words).args(["--server", &server]);
        command.output().unwrap()
    }

    /// Adds a weight, and checks that it was acknowledged.
    pub(crate) fn add(&self, weight: u64) {
        self.client().add("k", weight).unwrap();
    }

    pub(crate) fn count(&self) -> u64 {
        self.client().count("k").unwrap().estimate
    }

    pub(crate) fn wait_for_count(&self, expected: u64) {
        let what = format!("{expected} at {}", self.udp);
        wait_until(&what, || self.count() == expected);
    }

    pub(crate) fn wait_for_members(&self, alive: usize) {
        wait_until("members", || {
            let members = self.status().cluster.members;
            members
                .iter()
                .filter(|member| member.state == "alive")
                .count()
                == alive
        });
    }

    pub(crate) fn signal(&self, signal: i32) {
        // Some of the numbers have no name.
        let pid = self.running.child.id().to_string();
        let kill = std::process::Command::new("sh")
            .args(["-c", "kill -\"$0\" \"$1\"", &signal.to_string(), &pid])
            .status();
        assert!(kill.unwrap().success(), "{signal}");
    }

    pub(crate) fn terminate(&self) {
        kill_process(Pid::from_child(&self.running.child), Signal::TERM).unwrap();
    }
}
