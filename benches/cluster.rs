//! Benches of a cluster of real processes on loopback. They measure how soon all nodes are equal, the traffic, how
//! soon a node that lost everything has it back, the cost of replication for the data thread, and the effect of a
//! flood of forged datagrams on nodes that want to be heard.
//!
//! `cargo bench --bench cluster` prints Markdown; names of parts (`converge wire restart cost flood`)
//! behind `--` choose some. Sketches are 4 x 2^20, rounds 500 ms: the defaults. Each node has one data
//! thread. Two nodes are equal when the roots of all slices are, and no weight is missing.
//! `RMBD_BENCH_ROUNDS` (default 5) sets the number of rounds of what is compared, `RMBD_BENCH_FLOOD` (default
//! 200 000) the forged datagrams in a second.

#![allow(missing_docs, clippy::unwrap_used)]
#![allow(clippy::print_stderr, clippy::print_stdout)]

use std::collections::BTreeMap;
use std::io::{BufRead, BufReader};
use std::net::SocketAddr;
use std::process::{Child, Command, Stdio};
use std::sync::atomic::{AtomicBool, Ordering::Relaxed};
use std::time::{Duration, Instant};

use rmbd::status::Status;
use rmbd_client::{Client, ClientOptions};
use rmbd_proto::compact::{Header, RequestWriter, WriteError};

use rmbd_testkit::forgery::{self, Flood, Forgery, Source};
use rmbd_testkit::proxy::{Counts, Harm, Proxy};
use rmbd_testkit::random::Random;
use support::command_line::{self, is_dry, words};
use support::cpu_time;
use support::figures::{median, median_max, median_min_max};
use support::flood::flood;
use support::keys::traffic;

mod support;

const ROUND: Duration = Duration::from_millis(500);
/// Number of distinct keys in a round.
const KEYS: u32 = 10_000;
/// Number of distinct keys that leave almost no cell of 4 x 2^20 empty.
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

/// A process that ends when this value is dropped.
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

    /// Nanoseconds that the process's threads of this name have run.
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

/// Whether all nodes hold the same of every slice, and what its writer has counted.
fn are_equal(servers: &[Server]) -> bool {
    let all: Vec<Status> = servers.iter().map(Server::status).collect();
    let slices = |status: &Status| -> BTreeMap<String, (Option<String>, u64)> {
        let slices = status.cluster.slices.iter();
        let filled = slices.filter(|slice| slice.weight > 0);
        filled
            .map(|slice| (slice.writer.clone(), (slice.root.clone(), slice.weight)))
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

/// A cluster in which every fifth datagram is lost at random: other nodes are told the addresses of proxies.
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

/// Three nodes. The first one is flooded behind the proxy that the others send through.
struct Flooded {
    servers: Vec<Server>,
    proxy: Proxy,
    random: Random,
}

fn flood_of_forgeries() {
    let per_s = std::env::var("RMBD_BENCH_FLOOD").map_or(200_000, |text| text.parse().unwrap());
    println!("\n### A flood of forged datagrams to the cluster port\n");
    println!(
        "Three nodes; {per_s} datagrams a second are sent to the first one's cluster port. Those of the second \
         one were seen by the forger where that is said; of the third one he knows nothing. Seconds from an add \
         that was acknowledged by the other node until it is counted by the first one, {HEARD} tries; and until a \
         new node that joins the first one is a member there and ready, {JOINS} tries: median and worst. The data \
         thread's figure is of compact adds at full speed under the flood.\n"
    );
    println!(
        "| forged datagrams | bytes | sent/s | second heard, s | third heard, s | new node joined, s | control \
         thread, % of a core | data thread, ns an add |\n|---|---|---|---|---|---|---|---|"
    );
    let mut flooded = Flooded::start();
    flooded.measure(None, per_s);
    for forgery in Forgery::ALL {
        for bytes in [1, 100, 1_200, 9_000] {
            // Noise has any length, and replayed datagrams have their own.
            let has_sizes = !matches!(forgery, Forgery::Noise | Forgery::Replay);
            if has_sizes || bytes == 100 {
                flooded.measure(Some((forgery, has_sizes.then_some(bytes))), per_s);
            }
        }
    }
    println!("\nQueues of the first node at the end:\n");
    println!(
        "| queue | received | refused | dropped by the kernel | pauses |\n|---|---|---|---|---|"
    );
    for queue in flooded.servers[0].status().cluster.queues {
        println!(
            "| {} | {} | {} | {} | {} |",
            queue.name, queue.received, queue.refused, queue.dropped_by_kernel, queue.pauses
        );
    }
}

/// Number of tries to be heard, and to join.
const HEARD: usize = 10;
const JOINS: usize = 3;

impl Flooded {
    fn start() -> Self {
        let proxy = Proxy::one_way(Harm::NONE, 1);
        let told = proxy.address().to_string();
        let first = Server::start(&["--cluster", "127.0.0.1:0", "--advertise", &told]);
        proxy.lead_to(first.cluster.parse().unwrap());
        let mut servers = vec![first];
        for _ in 0..2 {
            servers.push(Server::start(&["--join", &told]));
        }
        wait_for_members(&servers);
        Self {
            servers,
            proxy,
            random: Random(1),
        }
    }

    fn measure(&mut self, forged: Option<(Forgery, Option<usize>)>, per_s: u64) {
        let to: SocketAddr = self.servers[0].cluster.parse().unwrap();
        let flood = forged.map(|(forgery, bytes)| {
            let seen = self.seen();
            let datagrams = forgery.datagrams(&mut self.random, bytes, &seen);
            Flood::start(datagrams, Source::Stranger, to, per_s).unwrap()
        });
        let start = (Instant::now(), self.servers[0].on_cpu("rmbd-control"));
        let heard = [1, 2].map(|from| {
            let times: Vec<f64> = (0..HEARD).map(|_| self.heard(from).as_secs_f64()).collect();
            median_max(&times, 2)
        });
        let elapsed = start.0.elapsed().as_nanos() as f64;
        let on_control = (self.servers[0].on_cpu("rmbd-control") - start.1) / elapsed * 100.0;
        let joined: Vec<f64> = (0..JOINS).map(|_| self.joined().as_secs_f64()).collect();
        let (add_ns, _) = data_cost(&self.servers[0], &trains());
        let (name, bytes) = match forged {
            None => ("none".to_owned(), "-".to_owned()),
            Some((forgery, bytes)) => {
                let bytes = bytes.map_or_else(|| "its own".to_owned(), |bytes| bytes.to_string());
                let seen = if forgery.has_seen() { ", seen" } else { "" };
                (format!("{forgery:?}{seen}"), bytes)
            }
        };
        let rate = flood.as_ref().map_or(0.0, Flood::rate);
        println!(
            "| {name} | {bytes} | {rate:.0} | {} | {} | {} | {on_control:.1} | {add_ns:.1} |",
            heard[0],
            heard[1],
            median_max(&joined, 2)
        );
    }

    /// Current datagrams from the second node to the first one.
    fn seen(&self) -> Vec<Vec<u8>> {
        let boot = self.servers[1].status().cluster.boot;
        let mut seen = Vec::new();
        wait("datagrams were seen", || {
            seen = forgery::of_boot(self.proxy.recorded().iter(), &boot);
            self.proxy.record(self.proxy.recorded().len() + 1_000);
            seen.len() >= 20
        });
        seen
    }

    fn heard(&mut self, from: usize) -> Duration {
        let key = self.random.next().to_le_bytes();
        let connect =
            |server: &Server| Client::connect(server.udp, ClientOptions::default()).unwrap();
        let mut first = connect(&self.servers[0]);
        connect(&self.servers[from]).add(key, 1).unwrap();
        wait("it is heard", || first.count(key).unwrap().estimate > 0)
    }

    fn joined(&self) -> Duration {
        let start = Instant::now();
        let new = Server::start(&["--join", &self.servers[0].cluster]);
        wait("the new node is in", || {
            let is_alive = |member: &rmbd::status::MemberStatus| {
                member.state == "alive" && member.boot == new.status().cluster.boot
            };
            let is_known = self.servers[0]
                .status()
                .cluster
                .members
                .iter()
                .any(is_alive);
            is_known && new.status().is_ready()
        });
        start.elapsed()
    }
}

/// Nanoseconds of the node's data thread for an add, and its control thread's percentage of a core.
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

/// Trains of compact adds in datagrams of equal length, with that length.
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
