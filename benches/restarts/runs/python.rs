//! Clients in Python.

use std::io::{BufRead, BufReader};
use std::net::SocketAddr;
use std::path::Path;
use std::process::{Child, ChildStdout, Command, Stdio};

/// Says when its first adds were acknowledged, adds until standard input ends, then says how much weight was
/// acknowledged. Any error ends it with what it was.
const SCRIPT: &str = r#"
import random, sys, threading
from rmbd import Client
server, seed = sys.argv[1], int(sys.argv[2])
over = threading.Event()
threading.Thread(target=lambda: (sys.stdin.read(), over.set()), daemon=True).start()
draw, weight = random.Random(seed), 0
with Client(server, timeout=60.0) as client:
    while not over.is_set():
        adds = [("py %d" % draw.randrange(500), draw.randint(1, 9)) for _ in range(100)]
        client.add_many(adds)
        if weight == 0:
            print("begun", flush=True)
        weight += sum(weight for _, weight in adds)
print(weight)
"#;

/// A process that adds exactly once.
pub(super) struct PythonClient {
    process: Child,
    said: BufReader<ChildStdout>,
}

impl PythonClient {
    pub(super) fn start(server: SocketAddr, seed: u64) -> Self {
        let package = Path::new(env!("CARGO_MANIFEST_DIR")).join("clients/python/src");
        let mut process = Command::new("python3")
            .args(["-c", SCRIPT, &server.to_string(), &seed.to_string()])
            .env("PYTHONPATH", package)
            .env("PYTHONDONTWRITEBYTECODE", "1")
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .stderr(Stdio::piped())
            .spawn()
            .unwrap();
        let said = BufReader::new(process.stdout.take().unwrap());
        Self { process, said }
    }

    /// Returns once its first adds were acknowledged, or it has ended.
    pub(super) fn wait_until_it_adds(&mut self) {
        self.line();
    }

    /// Ends it; the weight that was acknowledged, or what went wrong.
    pub(super) fn end(mut self) -> Result<u64, String> {
        drop(self.process.stdin.take());
        let weight = self.line();
        let output = self.process.wait_with_output().unwrap();
        weight
            .trim()
            .parse()
            .map_err(|_| String::from_utf8_lossy(&output.stderr).into_owned())
    }

    /// The next line that it says; empty where it has ended.
    fn line(&mut self) -> String {
        let mut line = String::new();
        self.said.read_line(&mut line).unwrap();
        line
    }
}
