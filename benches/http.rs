//! A bench of hits over HTTP beside a bare handler of the same web framework: the same load from the same client.
//!
//! `cargo bench --bench http` prints Markdown. The client is one thread with 64 connections, each of which asks again
//! when it is answered. `RMBD_BENCH_ROUNDS` (default 7) sets the number of alternating rounds. Two CPUs are needed.

#![allow(missing_docs, clippy::unwrap_used)]
#![allow(clippy::print_stderr, clippy::print_stdout)]

use std::io;
use std::net::SocketAddr;
use std::time::{Duration, Instant};

use axum::Router;
use axum::extract::Path;
use axum::response::Json;
use axum::routing::post;
use axum::serve::ListenerExt;
use rmbd::config::NodeConfig;
use rmbd::node::Node;
use rmbd_io::cpu;
use rmbd_testkit::random::Random;
use serde::{Deserialize, Serialize};
use tokio::net::TcpStream;
use tokio::task::JoinSet;

use support::command_line::{is_dry, rounds};
use support::cpu_time;
use support::figures::{median, median_min_max, quantile_us};
use support::servers::{in_turn, on_a_thread};

mod support;

const CONNECTIONS: u64 = 64;
const MEASURE: Duration = Duration::from_secs(2);
/// Number of different keys.
const KEYS: u64 = 100_000;

/// The times of all requests of a round, ascending, the number of requests a second, and what each took of the time of
/// the thread that serves.
struct Round {
    requests_per_second: f64,
    cpu_us: f64,
    times: Vec<Duration>,
}

/// What the bare handler reads.
#[derive(Deserialize)]
struct Hit {
    key: String,
    limit: u64,
    window: String,
}

/// What it answers, as long as the node's answer.
#[derive(Serialize)]
struct Verdict {
    key: String,
    allowed: bool,
    estimate: u64,
    remaining: u64,
    retry_after_ms: u64,
    decided_by: Decisive,
    covered_ms: u64,
    incomplete: bool,
    overflowed: bool,
    unsure: bool,
    shadow: bool,
}

#[derive(Serialize)]
struct Decisive {
    policy: String,
    limit: u64,
    window_ms: u64,
}

fn main() {
    if is_dry() {
        return;
    }
    let rounds = rounds(7);
    let cpus = cpu::allowed();
    // Threads have the CPU of who starts them: servers one, and the client another.
    cpu::pin_to(cpus[0]).unwrap();
    let node = Node::start(NodeConfig {
        threads: Some(1),
        ..NodeConfig::at("127.0.0.1:0")
    })
    .unwrap();
    let servers = [
        ("bare handler", start_bare()),
        ("node", node.http_addr().unwrap()),
    ];
    cpu::pin_to(*cpus.last().unwrap()).unwrap();
    let threads = [
        (servers[0].1, support::servers::THREAD),
        (servers[1].1, "rmbd-http"),
    ];
    let results = in_turn(servers, rounds, |server, seed| {
        let thread = threads.iter().find(|(address, _)| *address == server);
        round(server, thread.unwrap().1, seed)
    });
    println!(
        "### POST /v1/default/hit, {CONNECTIONS} connections, one CPU each for server and client\n"
    );
    println!(
        "| server | requests/s, median [min-max] of {rounds} | CPU us a request | p50 us | p99 us |"
    );
    println!("|---|---|---|---|---|");
    for (name, results) in &results {
        let rates: Vec<f64> = results.iter().map(|it| it.requests_per_second).collect();
        let costs: Vec<f64> = results.iter().map(|it| it.cpu_us).collect();
        let quantile = |quantile| {
            let all = results.iter().map(|it| quantile_us(&it.times, quantile));
            median(&all.collect::<Vec<_>>())
        };
        println!(
            "| {name} | {} | {} | {:.0} | {:.0} |",
            median_min_max(&rates, 0),
            median_min_max(&costs, 2),
            quantile(0.5),
            quantile(0.99)
        );
    }
    let [bare, ours] = &results;
    let ratios = |ratio: fn(&Round, &Round) -> f64| {
        let pairs = bare.1.iter().zip(&ours.1);
        let ratios: Vec<f64> = pairs.map(|(bare, ours)| ratio(bare, ours)).collect();
        median_min_max(&ratios, 2)
    };
    println!(
        "\nThe node's rate is {} of the bare handler's; a CPU second serves {} of its requests.",
        ratios(|bare, ours| ours.requests_per_second / bare.requests_per_second),
        ratios(|bare, ours| bare.cpu_us / ours.cpu_us)
    );
}

/// Starts a server that does nothing but read and write JSON, on a thread of its own.
fn start_bare() -> SocketAddr {
    on_a_thread(async |listener| {
        let listener = listener.tap_io(|stream| stream.set_nodelay(true).unwrap());
        let router = Router::new().route("/v1/{sketch}/hit", post(bare));
        axum::serve(listener, router).await.unwrap();
    })
}

async fn bare(Path(_): Path<String>, Json(hit): Json<Hit>) -> Json<Verdict> {
    Json(Verdict {
        allowed: true,
        estimate: hit.key.len() as u64,
        remaining: hit.limit,
        key: hit.key,
        retry_after_ms: 0,
        decided_by: Decisive {
            policy: hit.window,
            limit: hit.limit,
            window_ms: 60_000,
        },
        covered_ms: 60_000,
        incomplete: true,
        overflowed: false,
        unsure: false,
        shadow: false,
    })
}

fn round(server: SocketAddr, thread: &str, seed: u64) -> Round {
    let cpu_ns = || cpu_time::of_threads(std::process::id(), thread);
    let before = cpu_ns();
    let runtime = tokio::runtime::Builder::new_current_thread()
        .enable_all()
        .build()
        .unwrap();
    let (mut times, took) = runtime.block_on(async {
        let start = Instant::now();
        let mut clients = JoinSet::new();
        for number in 0..CONNECTIONS {
            clients.spawn(client(server, Random(seed * CONNECTIONS + number)));
        }
        let times: Vec<_> = clients.join_all().await.concat();
        (times, start.elapsed())
    });
    times.sort_unstable();
    Round {
        requests_per_second: times.len() as f64 / took.as_secs_f64(),
        cpu_us: (cpu_ns() - before) / 1e3 / times.len() as f64,
        times,
    }
}

/// Asks again and again, and returns how long each answer took.
async fn client(server: SocketAddr, mut random: Random) -> Vec<Duration> {
    let stream = TcpStream::connect(server).await.unwrap();
    stream.set_nodelay(true).unwrap();
    let (start, mut times, mut answer) = (Instant::now(), Vec::new(), Vec::new());
    while start.elapsed() < MEASURE {
        let key = random.below(KEYS);
        let body = format!(r#"{{"key":"user-{key}","limit":1000000,"window":"60s"}}"#);
        let request = format!(
            "POST /v1/default/hit HTTP/1.1\r\nHost: 127.0.0.1\r\nContent-Type: application/json\r\n\
             Content-Length: {}\r\n\r\n{body}",
            body.len()
        );
        let asked = Instant::now();
        write(&stream, request.as_bytes()).await.unwrap();
        read_answer(&stream, &mut answer).await.unwrap();
        times.push(asked.elapsed());
    }
    times
}

async fn write(stream: &TcpStream, mut request: &[u8]) -> io::Result<()> {
    while !request.is_empty() {
        stream.writable().await?;
        match stream.try_write(request) {
            Err(error) if error.kind() == io::ErrorKind::WouldBlock => {}
            written => request = &request[written?..],
        }
    }
    Ok(())
}

/// Reads one answer, which has to be a 200.
async fn read_answer(stream: &TcpStream, answer: &mut Vec<u8>) -> io::Result<()> {
    answer.clear();
    let mut buffer = [0; 4096];
    loop {
        stream.readable().await?;
        match stream.try_read(&mut buffer) {
            Ok(0) => return Err(io::ErrorKind::UnexpectedEof.into()),
            Err(error) if error.kind() == io::ErrorKind::WouldBlock => continue,
            read => answer.extend_from_slice(&buffer[..read?]),
        }
        let text = std::str::from_utf8(&*answer).unwrap();
        let Some((head, body)) = text.split_once("\r\n\r\n") else {
            continue;
        };
        assert!(head.starts_with("HTTP/1.1 200"), "{text}");
        let length = head
            .lines()
            .find_map(|line| line.strip_prefix("content-length: "));
        if body.len() >= length.unwrap().parse().unwrap() {
            return Ok(());
        }
    }
}
