//! A bench of Envoy's rate limit service beside a bare tonic service that always says that it is well: the same load
//! from the same client.
//!
//! `cargo bench --bench envoy` prints Markdown. The client is one thread, which sends 5 000 requests a second over 4
//! connections, when each is due and not when another is answered; times count from then. `RMBD_BENCH_ROUNDS`
//! (default 7) sets the number of alternating rounds. Two CPUs are needed.

#![allow(missing_docs, clippy::unwrap_used)]
#![allow(clippy::print_stderr, clippy::print_stdout)]

use std::convert::Infallible;
use std::future::{Ready, ready};
use std::net::SocketAddr;
use std::pin::Pin;
use std::task::{Context, Poll};
use std::time::{Duration, Instant};

use rmbd::node::Node;
use rmbd_envoy::{Code, DescriptorStatus, RateLimitRequest, RateLimitResponse, SHOULD_RATE_LIMIT};
use rmbd_testkit::grpc::Client;
use rmbd_testkit::random::Random;
use tokio::task::JoinSet;
use tonic::body::Body;
use tonic::codegen::{Service, http};
use tonic::server::{Grpc, UnaryService};
use tonic::transport::Server;
use tonic::transport::server::TcpIncoming;
use tonic_prost::ProstCodec;

use support::command_line::{is_dry, rounds};
use support::edge;
use support::figures::{median_min_max, quantile_us};
use support::servers::{in_turn, on_a_thread};

mod support;

const CONNECTIONS: usize = 4;
const REQUESTS_PER_SECOND: u32 = 5_000;
const REQUESTS: u32 = 2 * REQUESTS_PER_SECOND;
/// Number of different users.
const USERS: u64 = 100_000;
fn main() {
    if is_dry() {
        return;
    }
    let rounds = rounds(7);
    let node = Node::start(edge::node()).unwrap();
    let servers = [
        ("bare tonic service", start_bare()),
        ("node", node.envoy_addr().unwrap()),
    ];
    let results = in_turn(servers, rounds, round);
    println!(
        "### ShouldRateLimit, {REQUESTS_PER_SECOND} requests/s over {CONNECTIONS} connections, one thread each for \
         server and client\n"
    );
    println!("| server | p50 us, median [min-max] of {rounds} | p99 us, median [min-max] |");
    println!("|---|---|---|");
    for (name, results) in &results {
        let [p50, p99] = [0.5, 0.99].map(|quantile| of_rounds(results, quantile));
        println!(
            "| {name} | {} | {} |",
            median_min_max(&p50, 0),
            median_min_max(&p99, 0)
        );
    }
    let [bare, ours] = &results;
    let ratios = [0.5, 0.99].map(|quantile| {
        let pairs = of_rounds(&ours.1, quantile).into_iter();
        let ratios = pairs.zip(of_rounds(&bare.1, quantile));
        median_min_max(
            &ratios.map(|(ours, bare)| ours / bare).collect::<Vec<_>>(),
            2,
        )
    });
    let [p50, p99] = ratios;
    println!("\nThe node's p50 is {p50} of the bare service's, its p99 {p99}.");
}

fn of_rounds(results: &[Vec<Duration>], quantile: f64) -> Vec<f64> {
    let results = results.iter();
    results.map(|times| quantile_us(times, quantile)).collect()
}

/// Starts a service that does nothing but read and write messages, on a thread of its own.
fn start_bare() -> SocketAddr {
    on_a_thread(async |listener| {
        let incoming = TcpIncoming::from(listener).with_nodelay(Some(true));
        let server = Server::builder().serve_with_incoming(BareServer, incoming);
        server.await.unwrap();
    })
}

/// Always says that a request is well.
#[derive(Clone)]
struct Bare;

impl UnaryService<RateLimitRequest> for Bare {
    type Response = RateLimitResponse;
    type Future = Ready<Result<tonic::Response<RateLimitResponse>, tonic::Status>>;

    fn call(&mut self, request: tonic::Request<RateLimitRequest>) -> Self::Future {
        let descriptors = request.get_ref().descriptors.iter();
        let statuses = descriptors.map(|_| DescriptorStatus::of(Code::Ok));
        let answer = RateLimitResponse::of(statuses.collect());
        ready(Ok(tonic::Response::new(answer)))
    }
}

/// The way of requests to [`Bare`].
#[derive(Clone)]
struct BareServer;

impl Service<http::Request<Body>> for BareServer {
    type Response = http::Response<Body>;
    type Error = Infallible;
    type Future = Pin<Box<dyn Future<Output = Result<Self::Response, Infallible>> + Send>>;

    fn poll_ready(&mut self, _: &mut Context<'_>) -> Poll<Result<(), Infallible>> {
        Poll::Ready(Ok(()))
    }

    fn call(&mut self, request: http::Request<Body>) -> Self::Future {
        Box::pin(async move {
            let codec = ProstCodec::<RateLimitResponse, RateLimitRequest>::default();
            Ok(Grpc::new(codec).unary(Bare, request).await)
        })
    }
}

/// The times of all requests of a round, ascending.
fn round(server: SocketAddr, seed: u64) -> Vec<Duration> {
    let runtime = tokio::runtime::Builder::new_current_thread()
        .enable_all()
        .build()
        .unwrap();
    let mut times = runtime.block_on(async {
        let mut clients = Vec::new();
        for _ in 0..CONNECTIONS {
            clients.push(Client::connect(server).await);
        }
        let (mut random, mut asked) = (Random(seed), JoinSet::new());
        let start = Instant::now();
        for number in 0..REQUESTS {
            let due = start + Duration::from_secs(1) * number / REQUESTS_PER_SECOND;
            // A timer is due to the millisecond only.
            while Instant::now() < due {
                tokio::task::yield_now().await;
            }
            let client = clients[number as usize % CONNECTIONS].clone();
            let message = edge::question(random.below(USERS));
            asked.spawn(ask(client, message, due));
        }
        asked.join_all().await
    });
    times.sort_unstable();
    times
}

async fn ask(mut client: Client, message: Vec<u8>, due: Instant) -> Duration {
    let told = client.ask(SHOULD_RATE_LIMIT, &message).await;
    assert_eq!(told.status, "0", "{told:?}");
    due.elapsed()
}
