//! A bench of what a datagram's adds cost while other fronts of the same node are open, or busy: the CPU time of the
//! data thread for each add, and adds a second, beside those of the same node with nothing else.
//!
//! `cargo bench --bench fronts` prints Markdown. Keys have 16 bytes and come by Zipf 1.1 out of 2^20; the sketch is
//! 4 x 2^20. The data thread has the first processor, and the sender the last; what asks over HTTP and gRPC runs
//! where there is room. `RMBD_BENCH_ROUNDS` (default 9) sets the number of alternating rounds.

#![allow(missing_docs, clippy::unwrap_used)]
#![allow(clippy::print_stderr, clippy::print_stdout)]

use std::io::{Read, Write};
use std::net::TcpStream;
use std::sync::atomic::{AtomicBool, Ordering::Relaxed};
use std::time::{Duration, Instant};

use rmbd::config::{NodeConfig, RespConfig};
use rmbd::node::Node;
use rmbd_envoy::SHOULD_RATE_LIMIT;
use rmbd_testkit::grpc::Client;

use support::adds;
use support::command_line::{is_dry, rounds};
use support::cpu_time;
use support::edge;
use support::figures::median_min_max;
use support::flood::flood;
use support::keys::{Key, traffic};

mod support;

/// Time for which each measurement receives.
const MEASURE: Duration = Duration::from_secs(1);
/// Most bytes of one send.
const TRAIN_BYTES: usize = 65_507;
/// Number of adds in the sender's store.
const ADDS: usize = 1 << 20;
/// Connections over Redis's protocol that say nothing.
const SILENT: usize = 50;
/// Requests a second over HTTP or gRPC.
const REQUESTS_PER_SECOND: u32 = 2_000;
/// What else the node does.
#[derive(Debug, Clone, Copy, PartialEq)]
enum Beside {
    Nothing,
    SilentResp,
    Http,
    Envoy,
}

/// Million adds a second, and nanoseconds of the data thread's time for each.
type Figures = (f64, f64);

fn main() {
    if is_dry() {
        return;
    }
    let rounds = rounds(9);
    let keys: Vec<Key> = traffic().take(ADDS).collect();
    let store = adds::datagrams(&keys);
    let ways = [
        ("nothing", Beside::Nothing),
        ("silent connections of Redis clients", Beside::SilentResp),
        ("hits over HTTP", Beside::Http),
        ("questions of Envoy", Beside::Envoy),
    ];
    let mut figures = ways.map(|_| Vec::new());
    for _ in 0..rounds {
        for ((_, beside), figures) in ways.iter().zip(&mut figures) {
            figures.push(measure(*beside, &store));
        }
    }
    println!(
        "### Adds by datagrams beside {SILENT} silent connections, or {REQUESTS_PER_SECOND} requests/s, one data thread\n"
    );
    println!(
        "| beside | million adds/s, median [min-max] of {rounds} | CPU ns an add | rate, of that beside nothing | CPU, \
         of that |"
    );
    println!("|---|---|---|---|---|");
    for ((name, _), ours) in ways.iter().zip(&figures) {
        let of = |pick: fn(&Figures) -> f64| -> (String, String) {
            let alone = figures[0].iter().map(pick);
            let ours: Vec<f64> = ours.iter().map(pick).collect();
            let ratios: Vec<f64> = ours
                .iter()
                .zip(alone)
                .map(|(one, other)| one / other)
                .collect();
            (median_min_max(&ours, 1), median_min_max(&ratios, 3))
        };
        let ((rates, rate), (costs, cost)) = (of(|it| it.0), of(|it| it.1));
        println!("| {name} | {rates} | {costs} | {rate} | {cost} |");
    }
}

fn measure(beside: Beside, (bytes, datagram_bytes): &(Vec<u8>, usize)) -> Figures {
    let node = start(beside);
    let done = AtomicBool::new(false);
    let figures = std::thread::scope(|scope| {
        let segments = (TRAIN_BYTES / datagram_bytes).min(64);
        let trains = bytes.chunks_exact(segments * datagram_bytes);
        let trains = trains.map(|train| (train, *datagram_bytes as u16));
        scope.spawn(|| flood(node.udp_addr(), trains, &done));
        let silent = match beside {
            Beside::SilentResp => (0..SILENT)
                .map(|_| TcpStream::connect(node.resp_addr().unwrap()).unwrap())
                .collect(),
            _ => Vec::new(),
        };
        match beside {
            Beside::Http => drop(scope.spawn(|| ask_over_http(&node, &done))),
            Beside::Envoy => drop(scope.spawn(|| ask_as_envoy(&node, &done))),
            Beside::Nothing | Beside::SilentResp => {}
        }
        // This waits until the sketch's pages are there and the flow is steady.
        while node.status().messages.add < 4_000_000 {
            std::thread::sleep(Duration::from_millis(5));
        }
        let data_thread_ns = || cpu_time::of_threads(std::process::id(), "rmbd-data-0");
        let measured = || (node.status().messages.add, data_thread_ns());
        let (before, start) = (measured(), Instant::now());
        std::thread::sleep(MEASURE);
        let (after, seconds) = (measured(), start.elapsed().as_secs_f64());
        done.store(true, Relaxed);
        drop(silent);
        let adds = (after.0 - before.0) as f64;
        (adds / seconds / 1e6, (after.1 - before.1) / adds)
    });
    node.stop().unwrap();
    figures
}

/// All nodes have the same windows and lists; only the fronts differ.
fn start(beside: Beside) -> Node {
    let config = match beside {
        Beside::Envoy => edge::node(),
        Beside::SilentResp => NodeConfig {
            resp: RespConfig::at("127.0.0.1:0"),
            ..plain()
        },
        Beside::Nothing | Beside::Http => plain(),
    };
    Node::start(config).unwrap()
}

fn plain() -> NodeConfig {
    NodeConfig {
        threads: Some(1),
        ..NodeConfig::at("127.0.0.1:0")
    }
}

/// When each request is due; it ends when all is done.
fn due_times(done: &AtomicBool) -> impl Iterator<Item = Instant> {
    let start = Instant::now();
    let due =
        (0..).map(move |number| start + Duration::from_secs(1) * number / REQUESTS_PER_SECOND);
    due.take_while(|_| !done.load(Relaxed))
}

fn ask_over_http(node: &Node, done: &AtomicBool) {
    let mut stream = TcpStream::connect(node.http_addr().unwrap()).unwrap();
    stream.set_nodelay(true).unwrap();
    let mut answer = [0; 4096];
    for (number, due) in due_times(done).enumerate() {
        std::thread::sleep(due.saturating_duration_since(Instant::now()));
        let body = format!(r#"{{"key":"user-{number}","limit":1000000,"window":"60s"}}"#);
        let request = format!(
            "POST /v1/default/hit HTTP/1.1\r\nHost: 127.0.0.1\r\nContent-Type: application/json\r\n\
             Content-Length: {}\r\n\r\n{body}",
            body.len()
        );
        stream.write_all(request.as_bytes()).unwrap();
        // An answer is shorter than a segment, and comes in one.
        let length = stream.read(&mut answer).unwrap();
        assert!(answer[..length].starts_with(b"HTTP/1.1 200"));
    }
}

fn ask_as_envoy(node: &Node, done: &AtomicBool) {
    let runtime = tokio::runtime::Builder::new_current_thread()
        .enable_all()
        .build();
    runtime.unwrap().block_on(async {
        let mut client = Client::connect(node.envoy_addr().unwrap()).await;
        for (number, due) in due_times(done).enumerate() {
            tokio::time::sleep_until(due.into()).await;
            let told = client
                .ask(SHOULD_RATE_LIMIT, &edge::question(number as u64))
                .await;
            assert_eq!(told.status, "0", "{told:?}");
        }
    });
}
