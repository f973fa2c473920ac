//! A server with a client of HTTP/2, which sends what a proxy would and what it would not.

use std::net::SocketAddr;
use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use http::Request;
use http_body::Body;
use prost::Message;
use rmbd_testkit::grpc::{Client, Sent, framed, post};
use tokio::io::AsyncReadExt;
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::oneshot;
use tokio::time::timeout;

use super::*;
use crate::grpc::{Health, HealthRequest, HealthResponse};

/// A time far longer than anything here takes. Its end is a failure, never a way to pass.
const FAILSAFE: Duration = Duration::from_secs(30);
const UNKNOWN: &str = "2";
const INVALID_ARGUMENT: &str = "3";
const NOT_FOUND: &str = "5";
const UNIMPLEMENTED: &str = "12";
const UNAVAILABLE: &str = "14";

/// A server, and what it notes.
struct Server {
    address: SocketAddr,
    judge: Arc<Judge>,
    stop: Option<oneshot::Sender<()>>,
    serving: tokio::task::JoinHandle<()>,
}

impl Server {
    async fn start(bounds: Bounds, judge: Judge) -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let address = listener.local_addr().unwrap();
        let (stop, stopped) = oneshot::channel::<()>();
        let judge = Arc::new(judge);
        let serving = serve(listener, Arc::clone(&judge), bounds, async {
            let _ = stopped.await;
        });
        Self {
            address,
            judge,
            stop: Some(stop),
            serving: tokio::spawn(serving),
        }
    }

    async fn until(&self, event: Event, count: usize) {
        let wait = async {
            while self.judge.events(event) < count {
                tokio::time::sleep(Duration::from_millis(1)).await;
            }
        };
        timeout(FAILSAFE, wait).await.expect("it never happened");
    }

    async fn end(mut self) -> Arc<Judge> {
        self.stop.take();
        timeout(FAILSAFE, self.serving).await.unwrap().unwrap();
        self.judge
    }
}

fn run(test: impl Future<Output = ()>) {
    let runtime = tokio::runtime::Builder::new_current_thread()
        .enable_all()
        .build();
    runtime.unwrap().block_on(test);
}

#[test]
fn a_proxy_is_answered() {
    run(async {
        let server = Server::start(Bounds::default(), Judge::default()).await;
        let mut client = Client::connect(server.address).await;
        let limit = |domain: &str, descriptors| {
            let request = RateLimitRequest {
                domain: domain.to_owned(),
                ..request(descriptors)
            };
            post(SHOULD_RATE_LIMIT, framed(&request.encode_to_vec()), true)
        };
        let asked = vec![descriptor("a"), descriptor("over")];
        let told = client.tell(limit("edge", asked)).await;
        assert_eq!(told.status, "0", "{told:?}");
        let answer = RateLimitResponse::decode(&*told.message).unwrap();
        assert!(answer.is_over() && answer.statuses.len() == 2);
        for (domain, descriptors, status, words) in [
            (
                "",
                vec![descriptor("a")],
                UNKNOWN,
                "domain must not be empty",
            ),
            ("edge", Vec::new(), UNKNOWN, "list must not be empty"),
            ("fails", vec![descriptor("a")], UNAVAILABLE, "not now"),
            ("panics", vec![descriptor("a")], UNAVAILABLE, "has a fault"),
            (
                "edge",
                vec![descriptor("a"); 10_000],
                INVALID_ARGUMENT,
                "10000 descriptors",
            ),
        ] {
            let told = client.tell(limit(domain, descriptors)).await;
            assert_eq!(told.status, status, "{told:?}");
            assert!(told.words.contains(words), "{told:?}");
            assert!(told.message.is_empty());
        }
        let told = client.tell(post("/x.Y/Z", Bytes::new(), true)).await;
        assert_eq!(told.status, UNIMPLEMENTED, "{told:?}");
        // A message that is none, one that is too long, and what is no gRPC at all.
        let broken = Bytes::from_static(&[0, 0, 0, 0, 2, 0x0a, 0x7f]);
        let told = client.tell(post(SHOULD_RATE_LIMIT, broken, true)).await;
        assert_ne!(told.status, "0", "{told:?}");
        let huge = Bytes::from(vec![0xff; 1 << 20]);
        let told = client.tell(post(SHOULD_RATE_LIMIT, huge, true)).await;
        assert_ne!(told.status, "0", "{told:?}");
        let plain = Request::post("http://node/").body(Sent {
            bytes: None,
            ends: true,
        });
        let answer = client.0.send_request(plain.unwrap()).await.unwrap();
        assert_eq!(answer.status(), 415);
        let judge = server.end().await;
        assert_eq!(judge.events(Event::Panicked), 1);
        assert_eq!(judge.events(Event::Accepted), 1);
        assert_eq!(judge.events(Event::Closed), 1);
    });
}

#[test]
fn the_health_service_tells_whether_it_decides() {
    run(async {
        for (is_full, health) in [(false, Health::Serving), (true, Health::NotServing)] {
            let judge = Judge {
                is_full,
                ..Judge::default()
            };
            let server = Server::start(Bounds::default(), judge).await;
            let mut client = Client::connect(server.address).await;
            let ask = |service: &str| {
                let service = service.to_owned();
                post(
                    HEALTH_CHECK,
                    framed(&HealthRequest { service }.encode_to_vec()),
                    true,
                )
            };
            for service in [
                "",
                "ratelimit",
                "envoy.service.ratelimit.v3.RateLimitService",
            ] {
                let told = client.tell(ask(service)).await;
                let answer = HealthResponse::decode(&*told.message).unwrap();
                assert_eq!(answer.status(), health);
            }
            assert_eq!(client.tell(ask("other")).await.status, NOT_FOUND);
            server.end().await;
        }
    });
}

/// A client that takes back what it has asked, or never says all of it, costs nothing in the end.
#[test]
fn requests_that_do_not_end_cost_nothing_for_long() {
    run(async {
        let room = Arc::new(room::Room::default());
        let mut body = Box::pin(room.bounded(Sent {
            bytes: Some(Bytes::from_static(b"half of it")),
            ends: false,
        }));
        let frame = std::future::poll_fn(|it| body.as_mut().poll_frame(it)).await;
        assert!(frame.unwrap().is_ok());
        assert_eq!(room.taken_bytes(), 10);
        drop(body);
        assert_eq!(room.taken_bytes(), 0);
        let server = Server::start(Bounds::default(), Judge::default()).await;
        let mut client = Client::connect(server.address).await;
        for _ in 0..2 * bounds::STREAMS_MAX {
            let half = post(SHOULD_RATE_LIMIT, Bytes::from_static(&[0, 0]), false);
            // Dropped when it has been sent: that takes the request back.
            let _ = timeout(Duration::from_millis(1), client.0.send_request(half)).await;
        }
        let whole = post(
            SHOULD_RATE_LIMIT,
            framed(&request(vec![descriptor("a")]).encode_to_vec()),
            true,
        );
        assert_eq!(client.tell(whole).await.status, "0");
        server.end().await;
    });
}

#[test]
fn connections_are_bounded_in_number_and_time() {
    run(async {
        let bounds = Bounds {
            connections_max: 1,
            first_request: Duration::from_millis(20),
            ..Bounds::default()
        };
        let server = Server::start(bounds, Judge::default()).await;
        // It says nothing at all, and has the only place.
        let mut silent = TcpStream::connect(server.address).await.unwrap();
        server.until(Event::Accepted, 1).await;
        let mut other = TcpStream::connect(server.address).await.unwrap();
        server.until(Event::NoPlace, 1).await;
        let mut rest = Vec::new();
        let _ = timeout(FAILSAFE, other.read_to_end(&mut rest))
            .await
            .unwrap();
        let _ = timeout(FAILSAFE, silent.read_to_end(&mut rest))
            .await
            .unwrap();
        server.until(Event::Closed, 1).await;
        server.end().await;
    });
}
