//! An agent with sockets: clients that say nothing, say it slowly, or do not read.

use std::io::{Read, Write};
use std::net::{Shutdown, SocketAddr, TcpStream};
use std::thread::JoinHandle;
use std::time::Duration;

use tokio::net::TcpListener;

use super::super::connections::{Limits, serve_within};
use super::*;

/// The longest time that anything may take on a busy machine. Nothing waits this long when all is well.
const PATIENCE: Duration = Duration::from_secs(40);
const SOON: Duration = Duration::from_millis(30);

/// An agent that serves on a thread of its own.
struct Served {
    agent: Arc<Agent>,
    address: SocketAddr,
    thread: Option<JoinHandle<()>>,
}

impl Served {
    fn start(config: &NodeConfig, limits: Limits) -> Self {
        let agent = agent_of(config);
        let listener = std::net::TcpListener::bind("127.0.0.1:0").unwrap();
        listener.set_nonblocking(true).unwrap();
        let address = listener.local_addr().unwrap();
        let served = Arc::clone(&agent);
        let serve = move || {
            let runtime = tokio::runtime::Builder::new_current_thread()
                .enable_all()
                .build();
            runtime.unwrap().block_on(async {
                let listener = TcpListener::from_std(listener).unwrap();
                serve_within(limits, listener, served, || panic!("a connection panicked")).await;
            });
        };
        Self {
            agent,
            address,
            thread: Some(std::thread::spawn(serve)),
        }
    }

    fn with(limits: Limits) -> Self {
        Self::start(&NodeConfig::at("127.0.0.1:0"), limits)
    }

    fn connect(&self) -> TcpStream {
        let stream = TcpStream::connect(self.address).unwrap();
        stream.set_read_timeout(Some(PATIENCE)).unwrap();
        stream.set_write_timeout(Some(PATIENCE)).unwrap();
        stream
    }

    fn wait_until(&self, is_so: impl Fn(&Agent) -> bool) {
        let start = std::time::Instant::now();
        while !is_so(&self.agent) {
            assert!(start.elapsed() < PATIENCE, "waited in vain");
            std::thread::sleep(Duration::from_millis(1));
        }
    }
}

impl Drop for Served {
    fn drop(&mut self) {
        self.agent.end_adding();
        let ended = self.thread.take().unwrap().join();
        assert!(ended.is_ok() || std::thread::panicking());
        assert_eq!(self.agent.status().connections, 0);
    }
}

/// All that is said until the end.
fn read_all(stream: &mut TcpStream) -> Vec<Said> {
    let mut bytes = Vec::new();
    stream.read_to_end(&mut bytes).unwrap();
    all_said(&bytes)
}

fn disconnect(status: u64, message: &str) -> Said {
    let message = message.to_owned();
    Said::Disconnect { status, message }
}

#[test]
fn who_says_nothing_in_time_is_told_so() {
    let short = Limits {
        hello: SOON,
        frame: SOON,
        idle: SOON,
        ..Limits::default()
    };
    let served = Served::with(short);
    let rest = "the rest of a frame has not come in time";
    for (said, last, before) in [
        (vec![], "the hello has not come in time", 0),
        (vec![0, 0, 0, 9, 1], "the hello has not come in time", 0),
        (
            spoe::hello(300),
            "the connection was silent for too long",
            1,
        ),
        ([spoe::hello(300), vec![0]].concat(), rest, 1),
        ([spoe::hello(300), vec![0, 0, 0, 255, 3]].concat(), rest, 1),
    ] {
        let mut stream = served.connect();
        stream.write_all(&said).unwrap();
        let told = read_all(&mut stream);
        assert_eq!(told.len(), before + 1, "{told:?}");
        assert_eq!(told.last(), Some(&disconnect(2, last)));
    }
    assert_eq!(served.agent.tally().spoe_closed_idle, 5);
}

#[test]
fn a_stream_that_ends_anywhere_ends_its_connection() {
    let served = Served::with(Limits::default());
    let args = [("key", Arg::from("k")), ("limit", 1_000.into())];
    let stream = [
        spoe::hello(300),
        spoe::notify((1, 1), &[("rmbd-hit", &args)]),
    ]
    .concat();
    for end in 0..=stream.len() {
        let mut connection = served.connect();
        connection.write_all(&stream[..end]).unwrap();
        connection.shutdown(Shutdown::Write).unwrap();
        let told = read_all(&mut connection);
        let hello_bytes = spoe::hello(300).len();
        let expected = usize::from(end >= hello_bytes) + usize::from(end == stream.len());
        assert_eq!(told.len(), expected, "{end}");
    }
    served.wait_until(|agent| agent.status().connections == 0);
    assert_eq!(served.agent.tally().spoe_protocol_errors, 0);
}

#[test]
fn who_does_not_read_is_closed() {
    let served = Served::with(Limits {
        stall: SOON,
        ..Limits::default()
    });
    let mut stream = served.connect();
    stream.write_all(&spoe::hello(16_380)).unwrap();
    let pipeline = spoe::notify((1, 1), &[("nothing", &[])]).repeat(1_000);
    // It ends by an error, since the other end is closed.
    while stream.write_all(&pipeline).is_ok() {}
    served.wait_until(|agent| agent.tally().spoe_closed_stalled == 1);
    // Others are served meanwhile and afterwards.
    let mut other = served.connect();
    other.write_all(&spoe::health_check()).unwrap();
    assert_eq!(read_all(&mut other), [hello(16_380)]);
}

#[test]
fn connections_have_places_and_come_from_who_is_allowed() {
    let served = Served::with(Limits {
        connections_max: 1,
        ..Limits::default()
    });
    let first = served.connect();
    served.wait_until(|agent| agent.status().connections == 1);
    let told = read_all(&mut served.connect());
    assert_eq!(
        told,
        [disconnect(
            13,
            "there are 1 connections, as many as there may be"
        )]
    );
    drop(first);
    served.wait_until(|agent| agent.status().connections == 0);
    let mut next = served.connect();
    next.write_all(&spoe::health_check()).unwrap();
    assert_eq!(read_all(&mut next), [hello(16_380)]);
    let tally = served.agent.tally();
    assert_eq!(
        (
            tally.spoe_connections_accepted,
            tally.spoe_connections_without_place
        ),
        (2, 1)
    );
    let closed = NodeConfig {
        allow: vec!["10.0.0.0/8".parse().unwrap()],
        ..NodeConfig::at("127.0.0.1:0")
    };
    let served = Served::start(&closed, Limits::default());
    assert!(read_all(&mut served.connect()).is_empty());
    assert_eq!(served.agent.tally().spoe_connections_not_allowed, 1);
}

#[test]
fn an_end_is_told_to_all() {
    let served = Served::with(Limits::default());
    let mut streams: Vec<_> = (0..5).map(|_| served.connect()).collect();
    streams[0].write_all(&spoe::hello(300)).unwrap();
    served.wait_until(|agent| agent.status().connections == 5);
    served.agent.end_adding();
    for stream in &mut streams {
        let told = read_all(stream);
        assert_eq!(told.last(), Some(&disconnect(0, "the node ends")));
    }
    served.wait_until(|agent| agent.status().connections == 0);
    // Nobody listens any more.
    assert!(TcpStream::connect(served.address).is_err());
}
