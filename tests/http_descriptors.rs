//! A test of a process without free file descriptors: HTTP pauses, does not spin, and recovers.
//!
//! The test is alone in its file, because the limit is on the whole process.

#![allow(clippy::unwrap_used)]

use std::fs::File;
use std::io::{ErrorKind, Read, Write};
use std::net::{SocketAddr, TcpStream};
use std::os::fd::AsRawFd;
use std::sync::Arc;
use std::time::Duration;

use rmbd::fronts::http::{Hosts, StatusSource, serve};
use rmbd::status::{
    Detail, DetailError, DetailQuestion, Status, TopDocument, TopError, TopQuestion,
};
use rustix::process::{Resource, Rlimit, getrlimit, setrlimit};
use rustix::time::{ClockId, clock_gettime};

/// A source that is only asked for failures, by `/healthz`.
struct NeverAsked;

impl StatusSource for NeverAsked {
    fn failure(&self) -> Option<String> {
        None
    }

    fn status(&self) -> Status {
        unreachable!("only /healthz is asked for");
    }

    fn detail(&self, _: &DetailQuestion) -> Result<Detail, DetailError> {
        unreachable!("only /healthz is asked for");
    }

    fn top(&self, _: &TopQuestion, _: bool) -> Result<TopDocument, TopError> {
        unreachable!("only /healthz is asked for");
    }
}

#[test]
fn out_of_descriptors() {
    let address = start();
    assert!(ask(TcpStream::connect(address).unwrap()).ends_with("ok\n"));

    // The client's own descriptor is made before none are left.
    let socket = socket2::Socket::new(socket2::Domain::IPV4, socket2::Type::STREAM, None).unwrap();
    let before = getrlimit(Resource::Nofile);
    let lowest_free = File::open("/dev/null").unwrap().as_raw_fd();
    let none_left = Rlimit {
        current: Some(lowest_free.try_into().unwrap()),
        ..before
    };
    setrlimit(Resource::Nofile, none_left).unwrap();
    assert!(File::open("/dev/null").is_err(), "the limit does not hold");

    socket.connect(&address.into()).unwrap();
    let mut stream = TcpStream::from(socket);
    let spent_before = cpu_time();
    stream
        .set_read_timeout(Some(Duration::from_millis(300)))
        .unwrap();
    let unanswered = stream.read(&mut [0]).unwrap_err();
    assert_eq!(unanswered.kind(), ErrorKind::WouldBlock);
    let spent = cpu_time() - spent_before;
    assert!(
        spent < Duration::from_millis(100),
        "{spent:?} of CPU in 300 ms: it spins"
    );

    setrlimit(Resource::Nofile, before).unwrap();
    assert!(
        ask(stream).ends_with("ok\n"),
        "the one that waited is answered"
    );
}

/// Starts a server that runs as long as the process.
fn start() -> SocketAddr {
    let listener = std::net::TcpListener::bind("127.0.0.1:0").unwrap();
    listener.set_nonblocking(true).unwrap();
    let address = listener.local_addr().unwrap();
    std::thread::spawn(move || {
        let runtime = tokio::runtime::Builder::new_current_thread()
            .enable_all()
            .build()
            .unwrap();
        runtime.block_on(async {
            let listener = tokio::net::TcpListener::from_std(listener).unwrap();
            let hosts = Hosts::default();
            serve(
                listener,
                Arc::new(NeverAsked),
                hosts,
                std::future::pending(),
            )
            .await;
        });
    });
    address
}

fn ask(mut stream: TcpStream) -> String {
    stream
        .set_read_timeout(Some(Duration::from_secs(30)))
        .unwrap();
    stream
        .write_all(b"GET /healthz HTTP/1.1\r\nHost: x\r\nConnection: close\r\n\r\n")
        .unwrap();
    let mut answer = String::new();
    stream.read_to_string(&mut answer).unwrap();
    answer
}

fn cpu_time() -> Duration {
    let time = clock_gettime(ClockId::ProcessCPUTime);
    Duration::new(
        time.tv_sec.try_into().unwrap(),
        time.tv_nsec.try_into().unwrap(),
    )
}
