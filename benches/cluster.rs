//! A cluster of real processes on loopback: how soon all are equal, what goes over the wire, how soon a
//! node that lost everything has it back, and what replicating and a flood of forged datagrams cost the
//! data thread.
//!
//! `cargo bench --bench cluster` prints Markdown; names of parts (`converge wire restart cost flood`)
//! behind `--` choose some. Sketches are 4 x 2^20, rounds 500 ms: the defaults. Each node has one data
//! thread. Two nodes are equal when the roots of all slices are, and no weight is missing.
//! `RMBD_BENCH_ROUNDS` (default 5) sets the number of rounds of what is compared.

#![allow(missing_docs, clippy::unwrap_used)]
#![allow(clippy::print_stderr, clippy::print_stdout)]

use std::collections::BTreeMap;
use std::io::{BufRead, BufReader};
use std::net::{SocketAddr, UdpSocket};
use std::process::{Child, Command, Stdio};
use std::sync::atomic::{AtomicBool, Ordering::Relaxed};
use std::time::{Duration, Instant};

use rmbd::io::send_segments;
use rmbd::node::status::Status;
use rmbd::wire::compact::{Header, RequestWriter, WriteError};
use rmbd::{Client, ClientOptions};

use proxy::{Counts, Harm, Proxy};
use support::command_line::{self, is_dry, words};
use support::cpu_time;
use support::figures::{median, median_min_max};
use support::flood::flood;
use support::keys::traffic;
// Of the proxy.
use support::random;

// A part of it is used here.
#[allow(dead_code)]
#[path = "../tests/support/proxy.rs"]
mod proxy;
mod support;

const ROUND: Duration = Duration::from_millis(500);
/// Distinct keys of a round.
const KEYS: u32 = 10_000;
/// Distinct keys that leave no cell of 4 x 2^20 empty, or next to none.
const KEYS_TO_FILL: u32 = 16_000_000;
const SLICE_BYTES: f64 = (16 << 20) as f64;
const MEASURE: Duration = Duration::from_secs(2);
const LIMIT: Duration = Duration::from_secs(120);

fn main() {
    if is_dry() {
        return;
    }
    let parts: [(&str, fn()); 5] = [
        ("converge", converge),
        ("wire", wire),
        ("restart", restart),
        ("cost", cost),
        ("flood", flood_of_forgeries),
    ];
    let chosen: Vec<String> = words().collect();
    let is_chosen = |name: &str| chosen.iter().any(|word| word == name);
    let is_any = parts.iter().any(|(name, _)| is_chosen(name));
    for (name, part) in parts {
        if !is_any || is_chosen(name) {
            part();
        }
    }
}

/// A process that ends with this value.
struct Server {
    child: Child,
    udp: SocketAddr,
    http: String,
    cluster: String,
}

impl Server {
    fn start(arguments: &[&str]) -> Self {
        let mut child = Command::new(env!("CARGO_BIN_EXE_rmbd"))
            .args(["127.0.0.1:0", "--threads", "1", "--log", "warn"])
            .args(arguments)
            .stdout(Stdio::piped())
            .spawn()
            .unwrap();
        let mut ready = String::new();
        let mut out = BufReader::new(child.stdout.take().unwrap());
        out.read_line(&mut ready).unwrap();
        let field = |name: &str| {
            let word = ready.split(' ').find_map(|word| word.strip_prefix(name));
            word.unwrap().to_owned()
        };
        Self {
            udp: field("udp=").parse().unwrap(),
            http: field("http="),
            cluster: field("cluster="),
            child,
        }
    }

    fn status(&self) -> Status {
        let mut answer = ureq::get(format!("http://{}/status", self.http))
            .call()
            .unwrap();
        serde_json::from_reader(answer.body_mut().as_reader()).unwrap()
    }

    fn add(&self, keys: std::ops::Range<u32>) {
        let mut client = Client::connect(self.udp, ClientOptions::default()).unwrap();
        client
            .add_many(keys.map(|key| (key.to_le_bytes(), 1)))
            .unwrap();
    }

    fn sent_bytes(&self) -> u64 {
        self.status().cluster.bytes_sent.values().sum()
    }

    /// Nanoseconds that its threads of this name have run.
    fn on_cpu(&self, name: &str) -> f64 {
        cpu_time::of_threads(self.child.id(), name)
    }
}

impl Drop for Server {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

fn cluster_of(count: usize) -> Vec<Server> {
    let mut servers = vec![Server::start(&[])];
    for _ in 1..count {
        let seed = servers[0].cluster.clone();
        servers.push(Server::start(&["--join", &seed]));
    }
    wait_for_members(&servers);
    servers
}

fn wait_for_members(servers: &[Server]) {
    wait("all are members", || {
        servers.iter().all(|server| {
            let members = server.status().cluster.members;
            let alive = members.iter().filter(|member| member.state == "alive");
            alive.count() == servers.len() - 1
        })
    });
}

fn wait(what: &str, mut is_so: impl FnMut() -> bool) -> Duration {
    let start = Instant::now();
    while !is_so() {
        assert!(start.elapsed() < LIMIT, "not within {LIMIT:?}: {what}");
        std::thread::sleep(Duration::from_millis(5));
    }
    start.elapsed()
}

/// All hold the same of every slice, and what its writer has counted.
fn are_equal(servers: &[Server]) -> bool {
    let all: Vec<Status> = servers.iter().map(Server::status).collect();
    let slices = |status: &Status| -> BTreeMap<String, (Option<String>, u64)> {
        let slices = status.cluster.slices.iter();
        let filled = slices.filter(|slice| slice.weight > 0);
        filled
            .map(|slice| (slice.boot.clone(), (slice.root.clone(), slice.weight)))
            .collect()
    };
    let first = slices(&all[0]);
    all.iter().all(|status| slices(status) == first)
}

fn converge() {
    println!("\n### How soon three nodes are equal\n");
    println!(
        "10 000 distinct keys added to each; from the last acknowledgement until all slices are equal.\n"
    );
    println!("| network | times, s | median, rounds of 500 ms | largest |\n|---|---|---|---|");
    converge_on("loopback", &cluster_of(3));
    let (proxies, servers) = lossy_cluster_of(3);
    converge_on("every datagram lost with 20 %", &servers);
    drop(servers);
    let counts: Counts = proxies.into_iter().map(Proxy::stop).sum();
    println!(
        "\nLost were {} of {} datagrams.",
        counts.lost,
        counts.taken()
    );
}

fn converge_on(network: &str, servers: &[Server]) {
    let mut next = 0;
    let times: Vec<f64> = (0..rounds())
        .map(|_| {
            for server in servers {
                server.add(next..next + KEYS);
                next += KEYS;
            }
            let took = wait("all are equal", || are_equal(servers));
            std::thread::sleep(ROUND / 3);
            took.as_secs_f64()
        })
        .collect();
    let in_rounds = |time: f64| time / ROUND.as_secs_f64();
    println!(
        "| {network} | {} | {:.2} | {:.2} |",
        list(&times),
        in_rounds(median(&times)),
        in_rounds(times.iter().copied().fold(0.0, f64::max)),
    );
}

/// Every fifth datagram to each of them is lost, at random: others are told their proxies' addresses.
fn lossy_cluster_of(count: u64) -> (Vec<Proxy>, Vec<Server>) {
    let harm = Harm {
        lost: 200,
        ..Harm::NONE
    };
    let (mut proxies, mut servers): (Vec<Proxy>, Vec<Server>) = (Vec::new(), Vec::new());
    for seed in 0..count {
        let proxy = Proxy::one_way(harm, seed);
        let told = proxy.address().to_string();
        let mut arguments = vec!["--cluster", "127.0.0.1:0", "--advertise", &told];
        let first = proxies.first().map(|first| first.address().to_string());
        if let Some(first) = &first {
            arguments.extend(["--join", first]);
        }
        let server = Server::start(&arguments);
        proxy.lead_to(server.cluster.parse().unwrap());
        servers.push(server);
        proxies.push(proxy);
    }
    wait_for_members(&servers);
    (proxies, servers)
}

fn wire() {
    println!("\n### What goes over the wire, UDP payloads\n");
    println!("| what | bytes |\n|---|---|");
    let servers = cluster_of(3);
    std::thread::sleep(ROUND * 4);
    let (before, seconds) = (servers[0].sent_bytes(), 10);
    std::thread::sleep(Duration::from_secs(seconds));
    let idle = servers[0].sent_bytes() - before;
    println!("| idle, to a peer in a second | {} |", idle / 2 / seconds);
    let rounds = 20;
    let before = servers[0].sent_bytes();
    let start = Instant::now();
    for round in 0..rounds {
        servers[0].add(round * KEYS..(round + 1) * KEYS);
        std::thread::sleep((ROUND * (round + 1)).saturating_sub(start.elapsed()));
    }
    wait("all are equal", || are_equal(&servers));
    let sent = servers[0].sent_bytes() - before;
    println!(
        "| 10 000 distinct keys a round, to a peer in a round | {} |",
        sent / 2 / u64::from(rounds)
    );
    drop(servers);
    let alone = Server::start(&[]);
    alone.add(0..KEYS_TO_FILL);
    let before = alone.sent_bytes();
    let joined = Server::start(&["--join", &alone.cluster]);
    let both = [alone, joined];
    wait("both are equal", || are_equal(&both));
    let sent = both[0].sent_bytes() - before;
    println!(
        "| a sketch without an empty cell, to a new peer | {sent} ({:.2} of its size) |",
        sent as f64 / SLICE_BYTES
    );
}

fn restart() {
    println!("\n### A node that lost its memory\n");
    println!(
        "Three nodes, every cell of each one's slice filled; one is killed with SIGKILL and started again. \
         Three slices of 16 MiB have to come; counts are asked all the while.\n"
    );
    println!("| | |\n|---|---|");
    let data_dir = std::env::temp_dir().join(format!("rmbd-bench-cluster-{}", std::process::id()));
    let data_dir = data_dir.to_str().unwrap();
    let mut servers = vec![Server::start(&[])];
    let seed = servers[0].cluster.clone();
    servers.push(Server::start(&["--join", &seed]));
    let with_dir = ["--join", &seed, "--data-dir", data_dir];
    servers.push(Server::start(&with_dir));
    for (number, server) in servers.iter().enumerate() {
        let first = number as u32 * KEYS_TO_FILL;
        server.add(first..first + KEYS_TO_FILL);
    }
    wait("all are equal", || are_equal(&servers));
    let mut killed = servers.pop().unwrap();
    killed.child.kill().unwrap();
    killed.child.wait().unwrap();
    let start = Instant::now();
    servers.push(Server::start(&with_dir));
    let (mut asked, mut slowest) = (0, Duration::ZERO);
    let mut client = Client::connect(servers[2].udp, ClientOptions::default()).unwrap();
    while !(servers[2].status().cluster.slices.len() == 4 && are_equal(&servers)) {
        assert!(start.elapsed() < LIMIT, "not within {LIMIT:?}");
        let asking = Instant::now();
        client.count(1u32.to_le_bytes()).unwrap();
        (asked, slowest) = (asked + 1, slowest.max(asking.elapsed()));
    }
    let took = start.elapsed().as_secs_f64();
    println!("| from start to everything equal | {took:.2} s |");
    println!(
        "| counts answered meanwhile, slowest | {asked}, {:.1} ms |",
        ms(slowest)
    );
    let received: u64 = servers[2].status().cluster.bytes_received.values().sum();
    println!("| bytes received | {received} |");
    let _ = std::fs::remove_dir_all(data_dir);
}

fn cost() {
    println!("\n### What replicating costs the data thread\n");
    println!(
        "Compact adds, Zipf 1.1 of 2^20 keys, sent at full speed to one node: alone with the cluster off, and \
         with two other members. CPU of the data thread, ns an add, and of the control thread, % of a core.\n"
    );
    let trains = trains();
    let (mut alone, mut together, mut control) = (Vec::new(), Vec::new(), Vec::new());
    for _ in 0..rounds() {
        let server = Server::start(&["--cluster", "off"]);
        alone.push(data_cost(&server, &trains).0);
        drop(server);
        let servers = cluster_of(3);
        let (data, on_control) = data_cost(&servers[0], &trains);
        together.push(data);
        control.push(on_control);
    }
    let ratio = median(&together) / median(&alone);
    println!("| alone | in a cluster of three | ratio | control thread |\n|---|---|---|---|");
    println!(
        "| {} | {} | {ratio:.2} | {} % |",
        median_min_max(&alone, 1),
        median_min_max(&together, 1),
        median_min_max(&control, 1)
    );
}

fn flood_of_forgeries() {
    println!("\n### A flood of forged datagrams to the cluster port\n");
    println!(
        "As above, with and without datagrams of 1 200 bytes that have the right version and fingerprint and \
         no key, of ever new channels, sent as fast as half a core can.\n"
    );
    let trains = trains();
    let servers = cluster_of(2);
    let mut figures: [Vec<(f64, f64)>; 2] = [Vec::new(), Vec::new()];
    for _ in 0..rounds() {
        figures[0].push(data_cost(&servers[0], &trains));
        let done = AtomicBool::new(false);
        let with = std::thread::scope(|scope| {
            scope.spawn(|| forge(&servers[0], &done));
            let with = data_cost(&servers[0], &trains);
            done.store(true, Relaxed);
            with
        });
        figures[1].push(with);
    }
    println!("| | data thread, ns an add | control thread, % of a core |\n|---|---|---|");
    for (name, figures) in ["without", "with"].iter().zip(&figures) {
        let (data, control): (Vec<f64>, Vec<f64>) = figures.iter().copied().unzip();
        let (data, control) = (median_min_max(&data, 1), median_min_max(&control, 1));
        println!("| {name} | {data} | {control} |");
    }
    let status = servers[0].status().cluster;
    println!(
        "\nRefused: {:?}; pauses {}",
        status.refused, status.flood_pauses
    );
}

fn forge(server: &Server, done: &AtomicBool) {
    let fingerprint = server.status().compact.fingerprint;
    let fingerprint = u64::from_str_radix(&fingerprint, 16).unwrap();
    let socket = UdpSocket::bind("127.0.0.1:0").unwrap();
    socket.connect(&server.cluster).unwrap();
    let mut train = vec![0u8; 1_200 * 40];
    let mut number = 0u64;
    while !done.load(Relaxed) {
        for datagram in train.chunks_exact_mut(1_200) {
            number += 1;
            datagram[..2].copy_from_slice(&[1, 0]);
            datagram[2..10].copy_from_slice(&fingerprint.to_le_bytes());
            datagram[10..18].copy_from_slice(&number.to_le_bytes());
            datagram[26] = 1;
        }
        let _ = send_segments(&socket, None, &train, 1_200);
    }
}

/// Nanoseconds of its data thread for an add, and its control thread's percent of a core.
fn data_cost(server: &Server, trains: &[(Vec<u8>, u16)]) -> (f64, f64) {
    let done = AtomicBool::new(false);
    std::thread::scope(|scope| {
        let trains = trains.iter().map(|(train, bytes)| (&train[..], *bytes));
        scope.spawn(|| flood(server.udp, trains, &done));
        let adds = || server.status().messages.add;
        let start = adds();
        wait("the flow is steady", || adds() - start > 2_000_000);
        let now = || {
            (
                adds() as f64,
                server.on_cpu("rmbd-data-0"),
                server.on_cpu("rmbd-control"),
            )
        };
        let (before, start) = (now(), Instant::now());
        std::thread::sleep(MEASURE);
        let (after, elapsed) = (now(), start.elapsed().as_nanos() as f64);
        done.store(true, Relaxed);
        let data = (after.1 - before.1) / (after.0 - before.0);
        (data, (after.2 - before.2) / elapsed * 100.0)
    })
}

/// Trains of compact adds, datagrams of equal length, with their length.
fn trains() -> Vec<(Vec<u8>, u16)> {
    let mut keys = traffic();
    let mut writer = RequestWriter::new(1_400);
    let mut datagram = || {
        writer.start(&Header::default()).unwrap();
        // The key that does not fit is left out.
        while writer.add(&keys.next().unwrap(), 1) != Err(WriteError::Full) {}
        writer.finish().to_vec()
    };
    (0..400)
        .map(|_| {
            let datagrams: Vec<Vec<u8>> = (0..40).map(|_| datagram()).collect();
            (datagrams.concat(), datagrams[0].len() as u16)
        })
        .collect()
}

fn rounds() -> usize {
    command_line::rounds(5)
}

fn ms(time: Duration) -> f64 {
    time.as_secs_f64() * 1e3
}

fn list(values: &[f64]) -> String {
    let texts: Vec<String> = values.iter().map(|value| format!("{value:.2}")).collect();
    texts.join(", ")
}
