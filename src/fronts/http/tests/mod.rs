//! Tests of a server on a thread, with simple clients.

#![allow(clippy::unwrap_used)]

mod answers;
mod clients;
mod page;
mod page_in_use;

use std::collections::HashMap;
use std::io::{self, ErrorKind, Read, Write};
use std::net::{SocketAddr, TcpStream};
use std::thread::JoinHandle;
use std::time::{Duration, Instant};

use tokio::sync::oneshot;

use super::testing::Fake;
use super::*;
use crate::status::testing::status as fake_status;

/// A time far longer than anything here takes. Its end is a failure, never a way to pass.
const FAILSAFE: Duration = Duration::from_secs(30);
const PATHS: [&str; 5] = ["/", "/status", "/metrics", "/healthz", "/readyz"];

/// A server on a thread of its own, on the kind of runtime that a node has.
pub(super) struct Server {
    address: SocketAddr,
    stop: Option<oneshot::Sender<()>>,
    thread: Option<JoinHandle<()>>,
}

impl Server {
    fn start() -> Self {
        Self::with(Limits::default(), Arc::new(Fake::new(true)))
    }

    fn with(limits: Limits, source: Arc<dyn StatusSource>) -> Self {
        Self::of(limits, source, None)
    }

    pub(super) fn of(limits: Limits, source: Arc<dyn StatusSource>, api: Option<Arc<Api>>) -> Self {
        Self::at("127.0.0.1:0", limits, source, api)
    }

    fn at(
        address: &str,
        limits: Limits,
        source: Arc<dyn StatusSource>,
        api: Option<Arc<Api>>,
    ) -> Self {
        let listener = std::net::TcpListener::bind(address).unwrap();
        listener.set_nonblocking(true).unwrap();
        let address = listener.local_addr().unwrap();
        let (stop, stopped) = oneshot::channel();
        let thread = std::thread::spawn(move || {
            let runtime = tokio::runtime::Builder::new_current_thread()
                .enable_all()
                .build();
            runtime.unwrap().block_on(async move {
                let listener = TcpListener::from_std(listener).unwrap();
                let stop = async { drop(stopped.await) };
                let panicked = Box::new(|| {});
                let hosts = Hosts::of_this_host(["node-1.example"]);
                let answers = Answers {
                    router: router(source, hosts),
                    api,
                };
                connections::serve(listener, answers, stop, limits, panicked).await;
            });
        });
        Self {
            address,
            stop: Some(stop),
            thread: Some(thread),
        }
    }

    pub(super) fn connect(&self) -> TcpStream {
        let stream = TcpStream::connect(self.address).unwrap();
        stream.set_read_timeout(Some(FAILSAFE)).unwrap();
        stream.set_write_timeout(Some(FAILSAFE)).unwrap();
        stream
    }

    fn ask(&self, method: &str, path: &str) -> Answer {
        let mut stream = self.connect();
        write!(
            stream,
            "{method} {path} HTTP/1.1\r\nHost: localhost\r\nConnection: close\r\n\r\n"
        )
        .unwrap();
        let mut bytes = Vec::new();
        stream.read_to_end(&mut bytes).unwrap();
        Answer::parse(&bytes)
    }

    fn get(&self, path: &str) -> Answer {
        self.ask("GET", path)
    }

    /// Stops the server, and returns how long that took.
    fn stop(mut self) -> Duration {
        let start = Instant::now();
        drop(self.stop.take());
        self.thread.take().unwrap().join().unwrap();
        start.elapsed()
    }
}

impl Drop for Server {
    fn drop(&mut self) {
        drop(self.stop.take());
        if let Some(thread) = self.thread.take() {
            let result = thread.join();
            assert!(
                result.is_ok() || std::thread::panicking(),
                "the server panicked"
            );
        }
    }
}

#[derive(Debug, PartialEq)]
pub(super) struct Answer {
    pub(super) code: u16,
    headers: HashMap<String, String>,
    pub(super) body: String,
}

impl Answer {
    pub(super) fn parse(bytes: &[u8]) -> Self {
        let text = std::str::from_utf8(bytes).unwrap();
        let (head, body) = text.split_once("\r\n\r\n").expect(text);
        let mut lines = head.lines();
        let code = lines
            .next()
            .unwrap()
            .split(' ')
            .nth(1)
            .unwrap()
            .parse()
            .unwrap();
        let headers = lines
            .map(|line| line.split_once(": ").unwrap())
            .map(|(name, value)| (name.to_owned(), value.to_owned()))
            .collect();
        Self {
            code,
            headers,
            body: body.to_owned(),
        }
    }

    /// Reads one answer from a connection that stays open.
    pub(super) fn read(stream: &mut TcpStream) -> io::Result<Self> {
        let mut bytes = Vec::new();
        while !bytes.ends_with(b"\r\n\r\n") {
            let mut byte = [0];
            stream.read_exact(&mut byte)?;
            bytes.push(byte[0]);
        }
        let length: usize = Self::parse(&bytes)
            .header("content-length")
            .parse()
            .unwrap();
        let head_bytes = bytes.len();
        bytes.resize(head_bytes + length, 0);
        stream.read_exact(&mut bytes[head_bytes..])?;
        Ok(Self::parse(&bytes))
    }

    pub(super) fn header(&self, name: &str) -> &str {
        self.headers.get(name).map_or("", String::as_str)
    }
}

/// Reads until the other side closes, in whichever way.
pub(super) fn read_until_closed(stream: &mut TcpStream) -> Vec<u8> {
    let mut bytes = Vec::new();
    match stream.read_to_end(&mut bytes) {
        Ok(_) => {}
        Err(error) if is_closed(&error) => {}
        Err(error) => panic!("the connection was not closed: {error}"),
    }
    bytes
}

pub(super) fn is_closed(error: &io::Error) -> bool {
    matches!(
        error.kind(),
        ErrorKind::ConnectionReset | ErrorKind::BrokenPipe
    )
}

const KEEP: &[u8] = b"GET /healthz HTTP/1.1\r\nHost: x\r\n\r\n";
