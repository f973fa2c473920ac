//! A bench of hits beside counts: the async client keeps 256 requests under way over loopback.
//!
//! `cargo bench --bench hit` prints Markdown. The node's data thread is pinned to the first processor,
//! the client to the last. `RMBD_BENCH_ROUNDS` (default 7) sets the number of alternating rounds.

#![allow(missing_docs, clippy::unwrap_used)]
#![allow(clippy::print_stderr, clippy::print_stdout)]

use std::time::{Duration, Instant};

use rmbd::config::{HttpChoice, IoChoice, NodeConfig};
use rmbd::node::Node;
use rmbd_client::{AsyncClient, ClientOptions};
use rmbd_io::cpu;
use tokio::task::JoinSet;

use rmbd_testkit::random::Random;
use support::command_line::{is_dry, rounds};

mod support;

const OUTSTANDING: usize = 256;
const MEASURE: Duration = Duration::from_millis(1000);
/// Number of different keys that are asked for.
const KEYS: u64 = 100_000;

#[derive(Clone, Copy, PartialEq)]
enum What {
    Count,
    Hit,
}

/// The times of all requests of a round, and the number of requests a second.
struct Round {
    requests_per_second: f64,
    times: Vec<Duration>,
}

fn main() {
    if is_dry() {
        return;
    }
    let rounds = rounds(7);
    println!(
        "### Closed loop, {OUTSTANDING} requests under way, sketch 4 x 2^20, one data thread\n"
    );
    println!("| io | request | requests/s, median [min-max] of {rounds} | p50 | p99 | p99.9 |");
    println!("|---|---|---|---|---|---|");
    for io in [IoChoice::Uring, IoChoice::Mmsg] {
        let node = Node::start(NodeConfig {
            threads: Some(1),
            io,
            http: HttpChoice::Off,
            ..NodeConfig::at("127.0.0.1:0")
        })
        .unwrap();
        let mut results = [(What::Count, Vec::new()), (What::Hit, Vec::new())];
        for _ in 0..rounds {
            for (what, results) in &mut results {
                results.push(round(&node, *what));
            }
        }
        for (what, rounds) in results {
            let name = if what == What::Hit { "hit" } else { "count" };
            println!("| {io} | {name} | {} |", figures(rounds));
        }
    }
}

fn round(node: &Node, what: What) -> Round {
    let address = node.udp_addr();
    std::thread::spawn(move || {
        let _ = cpu::pin_to(*cpu::allowed().last().unwrap());
        let runtime = tokio::runtime::Builder::new_current_thread()
            .enable_all()
            .build()
            .unwrap();
        runtime.block_on(async move {
            let client = AsyncClient::connect(address, ClientOptions::default())
                .await
                .unwrap();
            let start = Instant::now();
            let mut tasks = JoinSet::new();
            for task in 0..OUTSTANDING as u64 {
                tasks.spawn(one_after_the_other(client.clone(), what, task, start));
            }
            let mut times = tasks.join_all().await.concat();
            let requests_per_second = times.len() as f64 / start.elapsed().as_secs_f64();
            times.sort_unstable();
            Round {
                requests_per_second,
                times,
            }
        })
    })
    .join()
    .unwrap()
}

async fn one_after_the_other(
    client: AsyncClient,
    what: What,
    task: u64,
    start: Instant,
) -> Vec<Duration> {
    let mut times = Vec::with_capacity(1 << 14);
    let mut random = Random(task);
    while start.elapsed() < MEASURE {
        let key = format!("user:{:011}", random.next() % KEYS);
        let began = Instant::now();
        match what {
            What::Count => drop(client.count(&key).await.unwrap()),
            What::Hit => drop(client.hit(&key, 1, 100).await.unwrap()),
        }
        times.push(began.elapsed());
    }
    times
}

fn figures(mut rounds: Vec<Round>) -> String {
    rounds.sort_by(|one, other| {
        one.requests_per_second
            .total_cmp(&other.requests_per_second)
    });
    let rate = |round: &Round| round.requests_per_second / 1e6;
    let middle = &rounds[rounds.len() / 2];
    let (least, most) = (rate(&rounds[0]), rate(&rounds[rounds.len() - 1]));
    let at = |share: f64| {
        let place = (middle.times.len() as f64 * share) as usize;
        format!("{} us", middle.times[place].as_micros())
    };
    let rate = rate(middle);
    format!(
        "{rate:.2} M [{least:.2}-{most:.2}] | {} | {} | {}",
        at(0.5),
        at(0.99),
        at(0.999)
    )
}
